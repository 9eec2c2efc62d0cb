# ruff: noqa: RUF012 - class attributes are a vendor's documents: nobody changes them
"""Identity providers, each under a host of its own: Auth0, Cognito, CyberArk, FusionAuth, Okta, OneLogin, PingOne; and
a server that nobody described."""

from typing import Any

from tests.fakes.vendor import Answer, Case, Family, MachineCase, Policy, UserInfo, Vendor
from tests.fakes.vendor.answers import cases
from tests.fakes.vendor.doors import Door, Request, door
from tests.fakes.vendor.server import Behind

OIDC = ("openid", "orders.read")
PERSON = {"sub": "00u1", "email": "ann@example.com", "name": "Ann"}


def person(url: str) -> UserInfo:
    return UserInfo(door(url, "token", "none", "GET"), PERSON, account="00u1", subject="00u1", label="ann@example.com")


class Standard(Vendor):
    """What OpenID Connect servers have in common; the careful reading of rotation, which an administrator may set."""

    scopes = OIDC
    policy = Policy(single_use=True, leeway=0, reuse_revokes_family=True)

    def effect_of(self, through: Door, family: Family, token: str) -> str:
        return "grant" if token == family.refresh else "token"


class Auth0(Standard):
    """Revokes refresh tokens only; dead ones are a 403."""

    id = "auth0"
    agentcore = ("Auth0Oauth2", "includedOauth2ProviderConfig")
    domains = ("acme.eu.auth0.com",)
    issuer = "https://acme.eu.auth0.com"

    authorize_url = f"{issuer}/authorize"
    caller_params = ("audience", "organization", "connection", "prompt", "login_hint", "screen_hint", "max_age", "acr_values", "ui_locales")  # fmt: skip
    always = ("offline_access",)
    token = door(f"{issuer}/oauth/token", "post basic", "form json")
    lifetime = 86400
    max_grants_per_user = 200
    dead_refresh = Answer(403, {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."})
    code_errors = (403, "invalid_grant")
    revokes = ((door(f"{issuer}/oauth/revoke", "post basic", "form json"), "grant"),)
    ends_access = False
    userinfo = person(f"{issuer}/userinfo")
    machines = (MachineCase("one API", {"audience": "https://orders.example/"}),)
    machine_extras = {"audience": "https://orders.example/"}
    cases = (
        Case("refresh", "dead_grant", {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}, 403),
        *cases("token refresh", "step_up", "mfa_required login_required consent_required interaction_required", status=403),
        *cases("token machine", "transient", "too_many_requests"),
    )  # fmt: skip


class Cognito(Standard):
    """A refresh leaves the refresh token out; errors are one word; the issuer is not where the endpoints are."""

    id = "cognito"
    agentcore = ("CognitoOauth2", "includedOauth2ProviderConfig")
    domains = ("amazoncognito.com",)
    issuer = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Abc"
    base = "https://acme.auth.us-east-1.amazoncognito.com"

    authorize_url = f"{base}/oauth2/authorize"
    caller_params = ("identity_provider", "idp_identifier", "lang", "resource", "prompt", "login_hint")
    token = door(f"{base}/oauth2/token", "basic post")
    refresh = "omitted"
    policy = Policy(single_use=False, reuse_revokes_family=False)
    answered_separator = None
    revokes = ((door(f"{base}/oauth2/revoke", "basic post"), "grant"),)
    userinfo = person(f"{base}/oauth2/userInfo")
    machines = (MachineCase("resource server", scopes=("orders/read", "orders/write")),)
    cases = cases("refresh", "dead_grant", "invalid_grant")


class CyberArk(Standard):
    """The app is a part of the path. Where tokens are revoked is not known."""

    id = "cyberark"
    agentcore = ("CyberArkOauth2", "includedOauth2ProviderConfig")
    domains = ("id.cyberark.cloud",)
    issuer = "https://acme.id.cyberark.cloud"
    settings = {"app_id": "orders_app"}

    authorize_url = f"{issuer}/OAuth2/Authorize/orders_app"
    caller_params = ("prompt", "login_hint", "max_age", "acr_values")
    token = door(f"{issuer}/OAuth2/Token/orders_app")
    lifetime = 18000
    machines = (MachineCase("service user", scopes=("all",)),)
    cases = cases("refresh", "dead_grant", "invalid_grant")


class FusionAuth(Standard):
    """`userId` stands in the answer; introspection wants the client id as well."""

    id = "fusionauth"
    agentcore = ("FusionAuthOauth2", "includedOauth2ProviderConfig")
    domains = ("auth.acme.example",)
    issuer = "https://auth.acme.example"

    authorize_url = f"{issuer}/oauth2/authorize"
    caller_params = ("tenantId", "idp_hint", "login_hint", "locale", "prompt", "max_age")
    always = ("offline_access",)
    token = door(f"{issuer}/oauth2/token", "basic post")
    introspects = door(f"{issuer}/oauth2/introspect", "basic")
    userinfo = person(f"{issuer}/oauth2/userinfo")
    subject = account = "3b6d2f70"
    machines = (MachineCase("entity", scopes=("target-entity:e1:read", "target-entity:e2")),)
    cases = cases("refresh", "dead_grant", "invalid_grant")

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"userId": "3b6d2f70"}

    def _introspect(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        if params.get("client_id") != self.client_id:
            self.complain("client_id is needed here")
        return super()._introspect(through, request, params)


class Okta(Standard):
    """One way of client authentication, or none is taken; reuse ends everything since the sign-in."""

    id = "okta"
    agentcore = ("OktaOauth2", "includedOauth2ProviderConfig")
    domains = ("acme.okta.com",)
    issuer = "https://acme.okta.com/oauth2/default"

    authorize_url = f"{issuer}/v1/authorize"
    caller_params = ("prompt", "login_hint", "max_age", "acr_values", "idp", "display", "ui_locales")
    always = ("offline_access",)
    token = door(f"{issuer}/v1/token", "basic post")
    dead_refresh = Answer(
        400, {"error": "invalid_grant", "error_description": "The refresh token is invalid or expired."}
    )
    revokes = ((door(f"{issuer}/v1/revoke", "basic post"), "grant"),)
    introspects = door(f"{issuer}/v1/introspect", "basic post")
    userinfo = person(f"{issuer}/v1/userinfo")
    machines = (MachineCase("service", scopes=("orders.read",)),)
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        *cases("token refresh machine", "operator_config", "multiple_client_credentials"),
        *cases("token", "step_up", "login_required consent_required interaction_required insufficient_authentication_context"),
    )  # fmt: skip


class OneLogin(Standard):
    """Introspection always says 200; the administration API has an Authorization header of its own kind."""

    id = "onelogin"
    agentcore = ("OneLoginOauth2", "includedOauth2ProviderConfig")
    domains = ("onelogin.com",)
    issuer = "https://acme.onelogin.com/oidc/2"
    settings = {"subdomain": "acme"}

    authorize_url = f"{issuer}/auth"
    caller_params = ("prompt", "login_hint", "max_age", "acr_values")
    token = door(f"{issuer}/token")
    revokes = ((door(f"{issuer}/token/revocation"), "grant"),)
    introspects = door(f"{issuer}/token/introspection")
    userinfo = person(f"{issuer}/me")
    machines = (MachineCase("administration", lifetime=36000),)
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        Case(
            "machine",
            "operator_config",
            {"status": {"code": 401, "error": True, "message": "Authentication Failure"}},
            401,
        ),
        *cases("revoke", "dead_grant", "unsupported_token_type"),
    )

    def routes(self) -> list[tuple[Door, Behind]]:
        administration = door("https://acme.onelogin.com/auth/oauth2/v2/token", "none", "json")
        return [(administration, self._administration), *super().routes()]

    def _administration(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        if request.headers.get("authorization") != f"client_id:{self.client_id}, client_secret:{self.client_secret}":
            raise self.turn(Answer(401, {"status": {"code": 401, "error": True}}), "another Authorization")
        if params != {"grant_type": "client_credentials"}:
            raise self.turn(Answer(400, {"status": {"code": 400}}), f"parameters {params}")
        return Answer(200, self.machine_body(lifetime=36000) | {"account_id": 555})


class PingOne(Standard):
    """Every region and environment is an issuer of its own; users' tokens can be exchanged."""

    id = "pingone"
    agentcore = ("PingOneOauth2", "includedOauth2ProviderConfig")
    domains = ("auth.pingone.eu",)
    issuer = "https://auth.pingone.eu/5caa81af/as"

    authorize_url = f"{issuer}/authorize"
    caller_params = ("prompt", "login_hint", "max_age", "acr_values", "ui_locales")
    always = ("offline_access",)
    token = door(f"{issuer}/token", "basic post")
    revokes = ((door(f"{issuer}/revoke", "basic post"), "grant"),)
    introspects = door(f"{issuer}/introspect", "basic post")
    userinfo = person(f"{issuer}/userinfo")
    machines = (MachineCase("service", scopes=("orders.read",)),)
    exchange = "token_exchange"
    cases = cases("refresh", "dead_grant", "invalid_grant")


class Custom(Standard):
    """A server that does what the RFCs say, to the letter, and where its metadata says."""

    id = "custom"
    agentcore = ("CustomOauth2", "customOauth2ProviderConfig")
    domains = ("sso.acme.example",)
    issuer = "https://sso.acme.example"
    endpoints = {
        "authorize": f"{issuer}/authorize",
        "token": f"{issuer}/token",
        "revoke": f"{issuer}/revoke",
        "introspect": f"{issuer}/introspect",
    }
    basic = "rfc6749"

    authorize_url = f"{issuer}/authorize"
    token = door(f"{issuer}/token")
    revokes = ((door(f"{issuer}/revoke"), "grant"),)
    introspects = door(f"{issuer}/introspect")
    machines = (MachineCase("service", scopes=("orders.read", "orders.write")),)
    exchange = "token_exchange"
    exchange_described = False
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        *cases("token", "restart", "invalid_grant"),
        *cases("token refresh machine", "operator_config", "invalid_client", status=401),
        *cases("token", "transient", "temporarily_unavailable"),
    )

    def callback_extras(self) -> list[tuple[str, str]]:
        return [("iss", self.issuer)]
