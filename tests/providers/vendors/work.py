# ruff: noqa: RUF012 - class attributes are a vendor's documents: nobody changes them
"""Where work is done: Atlassian, Google, Microsoft, Salesforce."""

from typing import Any

import jwt

from tests.fakes.vendor import Answer, Case, Family, MachineCase, Policy, UserInfo, Vendor
from tests.fakes.vendor.answers import cases
from tests.fakes.vendor.doors import Door, Request, door
from tests.fakes.vendor.keys import client_key, client_key_pem
from tests.fakes.vendor.server import JWT_BEARER

QUARTER_YEAR = 90 * 86400


class Atlassian(Vendor):
    """Dead refresh tokens are answered with 403, and not always by the same word."""

    id = "atlassian"
    agentcore = ("AtlassianOauth2", "atlassianOauth2ProviderConfig")
    domains = ("atlassian.com",)

    authorize_url = "https://auth.atlassian.com/authorize"
    authorize_params = {"audience": "api.atlassian.com", "prompt": "consent"}
    caller_params = ("prompt",)
    scopes = ("read:jira-work", "write:jira-work")
    always = ("offline_access",)
    token = door("https://auth.atlassian.com/oauth/token", "post", "json")
    policy = Policy(single_use=True, leeway=600, lifetime=QUARTER_YEAR)
    dead_refresh = Answer(403, {"error": "unauthorized_client", "error_description": "refresh_token is invalid"})
    bad_client = Answer(401, {"error": "access_denied", "error_description": "Unauthorized"})
    machines = (MachineCase("service account"),)
    cases = (
        Case("refresh", "dead_grant", {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}, 403),
        Case("refresh", "dead_grant", {"error": "unauthorized_client", "error_description": "refresh_token is invalid"}, 403),
        Case("refresh", "operator_config", {"error": "unauthorized_client", "error_description": "The app is disabled"}, 403),
    )  # fmt: skip


class Google(Vendor):
    """A refresh token comes with the first consent only, unless the consent is forced; and it stays the same."""

    id = "google"
    agentcore = ("GoogleOauth2", "googleOauth2ProviderConfig")
    domains = ("accounts.google.com", "googleapis.com")
    token_prefixes = ("ya29.", "1//")
    settings = {"service_account": "robot@project-1.iam.gserviceaccount.com"}
    secrets = {"service_account_key": ""}

    authorize_url = "https://accounts.google.com/o/oauth2/v2/auth"
    authorize_params = {"access_type": "offline", "prompt": "consent"}
    caller_params = ("access_type", "prompt", "login_hint", "hd", "hl")
    scopes = ("openid", "https://www.googleapis.com/auth/calendar")
    token = door("https://oauth2.googleapis.com/token", "post basic")
    grant_clients = {JWT_BEARER: "none"}
    lifetime = 3599
    refresh = "omitted"
    policy = Policy(single_use=False, reuse_revokes_family=False, kills_old_access=False)
    max_grants_per_user = 100
    revokes = ((door("https://oauth2.googleapis.com/revoke", "none"), "user_client"),)
    introspects = door("https://oauth2.googleapis.com/tokeninfo", "none")
    userinfo = UserInfo(
        door("https://openidconnect.googleapis.com/v1/userinfo", "token", "none", "GET"),
        {"sub": "1187", "email": "ann@example.com", "email_verified": True},
        account="1187",
        subject="1187",
        label="ann@example.com",
    )
    machines = (MachineCase("service account", scopes=("https://www.googleapis.com/auth/drive",)),)
    cases = (
        Case("refresh", "step_up", {"error": "invalid_grant", "error_subtype": "invalid_rapt", "error_description": "reauth"}),
        Case("refresh", "dead_grant", {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}),
        *cases("token", "admin_block", "admin_policy_enforced org_internal"),
        Case("machine", "operator_config", {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}),
        Case("revoke", "dead_grant", {"error": "invalid_token"}, 400, code="invalid_token"),
    )  # fmt: skip

    def secret_values(self) -> dict[str, str]:
        return {"service_account_key": client_key_pem()}

    def introspection(self, alive: bool) -> Answer:
        if alive:
            return Answer(200, {"aud": self.client_id, "exp": str(int(self.now) + 1800), "expires_in": "1800"})
        return Answer(400, {"error": "invalid_token", "error_description": "Invalid Value"})

    def revoked_before(self) -> Answer:
        return Answer(400, {"error": "invalid_token", "error_description": "Token expired or revoked"})

    def other_grant(self, grant: Any, request: Request, params: dict[str, Any]) -> Answer:
        if grant != JWT_BEARER:
            return super().other_grant(grant, request, params)
        self.only(params, "grant_type", "assertion")
        try:
            claims = jwt.decode(
                params.get("assertion", ""),
                client_key().public_key(),
                algorithms=["RS256"],
                audience="https://oauth2.googleapis.com/token",
                issuer=self.settings["service_account"],
                options={"verify_exp": False, "verify_iat": False, "require": ["iat", "exp", "iss", "aud", "scope"]},
            )
        except jwt.PyJWTError as error:
            raise self.turn(Answer(400, {"error": "invalid_grant"}), str(error)) from None
        if claims["scope"] != "https://www.googleapis.com/auth/drive" or "sub" in claims:
            self.complain("the scopes asked for, and no user to act as")
        if not claims["iat"] <= self.now < claims["exp"] <= claims["iat"] + 3600:
            self.complain("the assertion lives for an hour at most")
        return Answer(200, self.machine_body())


class Microsoft(Vendor):
    """One refresh token for many resources, of which one at a time; the old one is not revoked."""

    id = "microsoft"
    agentcore = ("MicrosoftOauth2", "microsoftOauth2ProviderConfig")
    domains = ("microsoftonline.com", "microsoftonline.us", "microsoftonline.cn")
    tenant = "contoso.onmicrosoft.com"

    authorize_url = f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize"
    authorize_params = {"response_mode": "query"}
    caller_params = ("prompt", "login_hint", "domain_hint", "claims")
    scopes = ("Mail.Read", "Calendars.Read")
    always = ("offline_access",)
    compares_scopes = False
    token = door(f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", "post")
    lifetime = 3599
    refresh_scope = "must"
    policy = Policy(single_use=False, reuse_revokes_family=False, kills_old_access=False, lifetime=QUARTER_YEAR)
    machines = (MachineCase("application", scopes=("https://graph.microsoft.com/.default",)),)
    exchange = "jwt_bearer"
    exchange_params = {"requested_token_use": "on_behalf_of"}
    cases = (
        Case("refresh", "step_up", {"error": "interaction_required", "error_description": "AADSTS50076: use multi-factor"}),
        Case("refresh", "step_up", {"error": "invalid_grant", "suberror": "consent_required", "error_description": "AADSTS65001: no consent"}),
        Case("refresh", "step_up", {"error": "invalid_grant", "error_description": "AADSTS50079: enrol"}),
        Case("refresh", "dead_grant", {"error": "invalid_grant", "error_description": "AADSTS700082: The refresh token has expired"}),
        Case("token", "admin_block", {"error": "access_denied", "error_description": "AADSTS65004: User declined to consent"}),
        Case("token", "admin_block", {"error": "invalid_grant", "error_description": "AADSTS90094: Admin consent is required"}),
        Case("refresh", "operator_config", {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret"}, 401),
        Case("machine", "operator_config", {"error": "invalid_client", "error_description": "AADSTS7000222: The secret has expired"}, 401),
        *cases("refresh", "transient", "temporarily_unavailable"),
    )  # fmt: skip

    def scopes_of(self, family: Family) -> tuple[str, ...] | None:
        return tuple(scope for scope in family.scopes if scope != "offline_access")

    def scope_text(self, scopes: tuple[str, ...]) -> str:
        return " ".join(scope for scope in scopes if scope != "offline_access")

    def token_body(self, family: Family) -> dict[str, Any]:
        return super().token_body(family) | {"ext_expires_in": 3599}


class Salesforce(Vendor):
    """No lifetime in any answer, hosts of its own for every org, and a refresh that must not name scopes."""

    id = "salesforce"
    agentcore = ("SalesforceOauth2", "salesforceOauth2ProviderConfig")
    domains = ("salesforce.com", "force.com")
    settings = {"domain": "acme.my.salesforce.com"}

    authorize_url = "https://acme.my.salesforce.com/services/oauth2/authorize"
    authorize_params = {"prompt": "consent"}
    caller_params = ("prompt", "login_hint", "display")
    scopes = ("api", "refresh_token")
    token = door("https://acme.my.salesforce.com/services/oauth2/token", "post basic")
    lifetime = None
    understood_lifetime = 900
    policy = Policy(single_use=True, leeway=0, reuse_revokes_family=True)
    max_grants_per_user = 5
    dead_refresh = Answer(400, {"error": "invalid_grant", "error_description": "expired access/refresh token"})
    revokes = ((door("https://acme.my.salesforce.com/services/oauth2/revoke", "none"), "grant"),)
    introspects = door("https://acme.my.salesforce.com/services/oauth2/introspect", "post basic")
    userinfo = UserInfo(
        door("https://acme.my.salesforce.com/services/oauth2/userinfo", "token", "none", "GET"),
        {"sub": "https://login.salesforce.com/id/00D1/0051", "user_id": "0051", "organization_id": "00D1", "preferred_username": "ann@acme"},
        account="00D1",
        subject="0051",
        label="ann@acme",
    )  # fmt: skip
    kept = {"instance_url": "https://acme.my.salesforce.com"}
    machines = (MachineCase("integration user", lifetime=900),)
    cases = (
        Case("refresh", "dead_grant", {"error": "invalid_grant", "error_description": "expired access/refresh token"}),
        *cases("refresh", "admin_block", "inactive_user inactive_org"),
        *cases("token refresh machine", "operator_config", "invalid_client_id invalid_client_credentials"),
        *cases("machine", "operator_config", "no_client_credentials_user_enabled"),
    )

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"instance_url": "https://acme.my.salesforce.com", "id": "https://login.salesforce.com/id/00D1/0051"}

    def machine_body(self, scopes: tuple[str, ...] = (), lifetime: float = 0) -> dict[str, Any]:
        body = super().machine_body(scopes) | {"instance_url": "https://acme.my.salesforce.com"}
        return {name: value for name, value in body.items() if name != "expires_in"}

    def effect_of(self, through: Door, family: Family, token: str) -> str:
        return "grant" if token == family.refresh else "token"
