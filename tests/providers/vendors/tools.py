# ruff: noqa: RUF012 - class attributes are a vendor's documents: nobody changes them
"""Tools of the trade: Asana, Bitbucket, Box, Dropbox, Figma, GitLab, HubSpot, Linear, Notion, ServiceNow, Stripe (Connect
and Apps), Zendesk, Zoho."""

from typing import Any

from tests.fakes.vendor import Answer, Case, Family, MachineCase, Policy, UserInfo, Vendor
from tests.fakes.vendor.answers import cases
from tests.fakes.vendor.doors import Door, Request, door
from tests.fakes.vendor.server import Behind

ZOHO_COUNTRIES = ("com", "eu", "in", "com.au", "jp", "com.cn", "sa", "uk", "ca")
INCLUDED = "includedOauth2ProviderConfig"


class Asana(Vendor):
    id = "asana"
    agentcore = ("AsanaOauth2", INCLUDED)
    domains = ("asana.com",)

    authorize_url = "https://app.asana.com/-/oauth_authorize"
    caller_params = ("prompt",)
    scopes = ("tasks:read", "tasks:write")
    token = door("https://app.asana.com/-/oauth_token", "post")
    refresh = "omitted"
    kind = "bearer"
    answered_separator = None
    policy = Policy(single_use=False)
    revokes = ((door("https://app.asana.com/-/oauth_revoke", "post"), "grant"),)
    account = subject = "4673218951"
    label = "Ann"
    api_key = {"Authorization": "Bearer {api_key}"}
    cases = cases("refresh", "dead_grant", "invalid_grant")

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"data": {"id": 4673218951, "gid": "4673218951", "name": "Ann", "email": "ann@example.com"}}


class Bitbucket(Vendor):
    id = "bitbucket"
    agentcore = ("BitbucketOauth2", INCLUDED)
    domains = ("bitbucket.org",)

    authorize_url = "https://bitbucket.org/site/oauth2/authorize"
    caller_params = ()
    pkce = "off"
    scopes = ("repository", "account")
    scope_key = "scopes"
    answered_separator = " "
    compares_scopes = False
    token = door("https://bitbucket.org/site/oauth2/access_token")
    lifetime = 7200
    kind = "bearer"
    policy = Policy(single_use=True, keepalive=2592000, lifetime=7776000)
    userinfo = UserInfo(
        door("https://api.bitbucket.org/2.0/user", "token", "none", "GET"),
        {"account_id": "557058:c0", "display_name": "Ann", "uuid": "{1}"},
        account="557058:c0",
        subject="557058:c0",
        label="Ann",
    )
    machines = (MachineCase("consumer", lifetime=3600),)
    api_key = {"Authorization": "Bearer {api_key}"}
    api_key_prefixes = ("ATCTT",)
    cases = cases("refresh", "dead_grant", "invalid_grant")

    def scopes_of(self, family: Family) -> tuple[str, ...] | None:
        return None


class Box(Vendor):
    id = "box"
    agentcore = ("BoxOauth2", INCLUDED)
    domains = ("box.com",)
    settings = {"box_subject_type": "enterprise", "box_subject_id": "12345"}

    authorize_url = "https://account.box.com/api/oauth2/authorize"
    caller_params = ("box_login",)
    pkce = "off"
    scopes = ("root_readonly", "manage_webhook")
    token = door("https://api.box.com/oauth2/token", "post")
    lifetime = 4169
    kind = "bearer"
    answered_separator = None
    policy = Policy(single_use=True, lifetime=5184000)
    revokes = ((door("https://api.box.com/oauth2/revoke", "post"), "grant"),)
    userinfo = UserInfo(
        door("https://api.box.com/2.0/users/me", "token", "none", "GET"),
        {"id": "11446498", "name": "Ann", "login": "ann@example.com"},
        account="11446498",
        subject="11446498",
        label="Ann",
    )
    machines = (MachineCase("enterprise"),)
    machine_extras = {"box_subject_type": "enterprise", "box_subject_id": "12345"}
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        *cases("machine", "admin_block", "unauthorized_client"),
    )


class Dropbox(Vendor):
    """No refresh token unless asked for `offline`; revoked with the token alone and an empty body."""

    id = "dropbox"
    agentcore = ("DropboxOauth2", INCLUDED)
    domains = ("dropbox.com", "dropboxapi.com")

    authorize_url = "https://www.dropbox.com/oauth2/authorize"
    authorize_params = {"token_access_type": "offline"}
    caller_params = ("disable_signup", "force_reapprove", "force_reauthentication", "include_granted_scopes", "locale")
    scopes = ("files.metadata.read", "account_info.read")
    token = door("https://api.dropboxapi.com/oauth2/token", "basic post")
    lifetime = 14400
    refresh = "omitted"
    kind = "bearer"
    policy = Policy(single_use=False)
    revokes = ((door("https://api.dropboxapi.com/2/auth/token/revoke", "token", "none"), "grant"),)
    account = subject = "dbid:AAH4"
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        Case("refresh", "transient", {"error_summary": "too_many_requests/..", "error": {"reason": {".tag": "too_many_requests"}}}, 429),
        Case("revoke", "dead_grant", {"error_summary": "invalid_access_token/", "error": {".tag": "invalid_access_token"}}, 401),
    )  # fmt: skip

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"account_id": "dbid:AAH4", "uid": "12345"}

    def revoked(self) -> Answer:
        return Answer(200, b"null", {"Content-Type": "application/json"})


class Figma(Vendor):
    """Refreshes elsewhere, with nothing but the refresh token."""

    id = "figma"
    agentcore = ("FigmaOauth2", INCLUDED)
    domains = ("figma.com",)

    authorize_url = "https://www.figma.com/oauth"
    caller_params = ()
    separator = ","
    scopes = ("file_content:read", "file_comments:write")
    answered_separator = None
    token = door("https://api.figma.com/v1/oauth/token")
    refresh_door = door("https://api.figma.com/v1/oauth/refresh")
    lifetime = 7776000
    refresh = "omitted"
    kind = "bearer"
    policy = Policy(single_use=False)
    dead_refresh = Answer(400, {"error": True, "status": 400, "message": "Invalid refresh token"})
    dead_refresh_outcome = "operator_config"
    account = subject = "1109"
    api_key = {"X-Figma-Token": "{api_key}"}
    api_key_prefixes = ("figd_",)

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"user_id": 1109, "user_id_string": "1109"}

    def _token(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        if through is self.refresh_door:
            if "grant_type" in params:
                self.complain("grant_type, where none is taken")
            return self.renew(params)
        return super()._token(through, request, params)


class GitLab(Vendor):
    id = "gitlab"
    agentcore = ("GitlabOauth2", INCLUDED)
    domains = ("gitlab.acme.example", "gitlab.com")
    issuer = "https://gitlab.acme.example"

    authorize_url = f"{issuer}/oauth/authorize"
    caller_params = ()
    scopes = ("read_api", "read_user")
    token = door(f"{issuer}/oauth/token", "post basic")
    lifetime = 7200
    policy = Policy(single_use=True, leeway=0)
    revokes = ((door(f"{issuer}/oauth/revoke", "post basic"), "grant"),)
    introspects = door(f"{issuer}/oauth/introspect", "post basic")
    userinfo = UserInfo(
        door(f"{issuer}/oauth/token/info", "token", "none", "GET"),
        {"resource_owner_id": 42, "scope": ["read_api"], "expires_in": 7200},
        account="42",
        subject="42",
    )
    api_key = {"PRIVATE-TOKEN": "{api_key}"}
    api_key_prefixes = ("glpat-",)
    cases = cases("refresh", "dead_grant", "invalid_grant")

    def effect_of(self, through: Door, family: Family, token: str) -> str:
        return "grant" if token == family.refresh else "token"


class HubSpot(Vendor):
    """Half an hour of life, and errors that are a `status`."""

    id = "hubspot"
    agentcore = ("HubspotOauth2", INCLUDED)
    domains = ("hubspot.com", "hubapi.com")

    authorize_url = "https://app.hubspot.com/oauth/authorize"
    caller_params = ("optional_scope",)
    scopes = ("crm.objects.contacts.read", "oauth")
    token = door("https://api.hubapi.com/oauth/2026-03/token", "post")
    lifetime = 1800
    refresh = "same"
    kind = "bearer"
    scope_key = "scopes"
    account = "62515"
    subject = "123"
    dead_refresh = Answer(400, {"status": "BAD_REFRESH_TOKEN", "message": "missing or unknown refresh token"})
    bad_client = Answer(400, {"status": "BAD_CLIENT_SECRET", "message": "missing or invalid client secret"})
    revokes = ((door("https://api.hubapi.com/oauth/2026-03/token/revoke", "post"), "user_client"),)
    introspects = door("https://api.hubapi.com/oauth/2026-03/token/introspect", "post")
    machines = (MachineCase("platform", scopes=("developer.webhooks_journal.read",)),)
    api_key = {"Authorization": "Bearer {api_key}"}
    api_key_prefixes = ("pat-",)
    cases = (
        *cases("refresh", "dead_grant", "BAD_REFRESH_TOKEN BAD_HUB", key="status", message="no"),
        *cases("token", "restart", "BAD_AUTH_CODE EXPIRED_AUTH_CODE", key="status", message="no"),
        *cases(
            "token refresh machine", "operator_config", "BAD_CLIENT_ID BAD_CLIENT_SECRET", key="status", message="no"
        ),
        *cases("token", "operator_config", "BAD_REDIRECT_URI BAD_GRANT_TYPE", key="status", message="no"),
    )

    def scope_text(self, scopes: tuple[str, ...]) -> list[str]:
        return list(scopes)

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"hub_id": 62515, "user_id": 123}

    def bad_code(self) -> Answer:
        return Answer(400, {"status": "BAD_AUTH_CODE", "message": "missing or unknown auth code"})


class Linear(Vendor):
    """Commas out, blanks back; who it is answers GraphQL."""

    id = "linear"
    agentcore = ("LinearOauth2", INCLUDED)
    domains = ("linear.app",)

    authorize_url = "https://linear.app/oauth/authorize"
    caller_params = ("actor", "prompt")
    separator = ","
    scopes = ("read", "issues:create")
    token = door("https://api.linear.app/oauth/token", "post basic")
    lifetime = 86399
    policy = Policy(single_use=True)
    revokes = ((door("https://api.linear.app/oauth/revoke", "token", "none form"), "token"),)
    userinfo = UserInfo(
        door("https://api.linear.app/graphql", "token", "json"),
        {"data": {"viewer": {"id": "u-1", "name": "Ann"}, "organization": {"id": "o-1"}}},
        account="o-1",
        subject="u-1",
        label="Ann",
        body={"query": "query { viewer { id name } organization { id } }"},
    )
    machines = (MachineCase("app", scopes=("read", "write"), lifetime=2591999),)
    api_key = {"Authorization": "{api_key}"}
    api_key_prefixes = ("lin_api_",)
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        Case("userinfo", "dead_grant", {"errors": [{"message": "Authentication required"}]}, 401),
    )

    def machine_body(self, scopes: tuple[str, ...] = (), lifetime: float = 0) -> dict[str, Any]:
        return super().machine_body(scopes, 2591999)


class Notion(Vendor):
    """JSON and a version header, no scopes, and a refresh that may say `null` for the refresh token."""

    id = "notion"
    agentcore = ("NotionOauth2", INCLUDED)
    domains = ("notion.com",)
    variants = ("rotating", "null")

    authorize_url = "https://api.notion.com/v1/oauth/authorize"
    authorize_params = {"owner": "user"}
    caller_params = ()
    pkce = "off"
    scopes = ()
    scope_parameter = None
    answered_separator = None
    compares_scopes = False
    token = door("https://api.notion.com/v1/oauth/token", "basic", "json", headers={"Notion-Version": "*"})
    lifetime = None
    understood_lifetime = 3600
    kind = "bearer"
    policy = Policy(single_use=True, reuse_revokes_family=True)
    account = "ws-1"
    subject = "nu-1"
    label = "Acme"
    revokes = (
        (door("https://api.notion.com/v1/oauth/revoke", "basic", "json", headers={"Notion-Version": "*"}), "grant"),
    )
    introspects = door("https://api.notion.com/v1/oauth/introspect", "basic", "json", headers={"Notion-Version": "*"})
    api_key = {"Authorization": "Bearer {api_key}", "Notion-Version": "2025-09-03"}
    api_key_prefixes = ("ntn_", "secret_")
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        *cases(
            "token refresh",
            "transient",
            "rate_limited internal_server_error service_unavailable",
            key="code",
            object="error",
        ),
        *cases(
            "token refresh", "operator_config", "unauthorized missing_version invalid_json", key="code", object="error"
        ),
    )

    def refresh_says_token(self) -> bool:
        return self.variant != "null"

    def refresh_body(self, family: Family) -> Any:
        body = super().refresh_body(family)
        return body | {"refresh_token": None} if self.variant == "null" else body

    def says_more(self, family: Family) -> dict[str, Any]:
        return {
            "bot_id": "b-1",
            "workspace_id": "ws-1",
            "workspace_name": "Acme",
            "owner": {"type": "user", "user": {"id": "nu-1"}},
        }


class ServiceNow(Vendor):
    """Every instance has a host; a sleeping one answers with a page."""

    id = "servicenow"
    agentcore = ("ServiceNowOauth2", INCLUDED)
    domains = ("service-now.com", "servicenowservices.com")
    issuer = "https://acme.service-now.com"

    authorize_url = f"{issuer}/oauth_auth.do"
    caller_params = ()
    scopes = ("useraccount", "table.read")
    token = door(f"{issuer}/oauth_token.do", "post")
    lifetime = 1800
    policy = Policy(single_use=True, lifetime=8640000)
    revokes = ((door(f"{issuer}/oauth_revoke_token.do", "none"), "token"),)
    machines = (MachineCase("application", scopes=("useraccount",)),)
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        Case("token", "operator_config", {"error_description": "access_denied", "error": "server_error"}, 401),
        Case("refresh", "ambiguous", b"<html>hibernating</html>", 200, {"Content-Type": "text/html"}),
    )


class Stripe(Vendor):
    """The client secret is an API key; tokens do not end, accounts are taken off."""

    id = "stripe"
    agentcore = ("StripeOauth2", INCLUDED)
    domains = ("stripe.com",)
    client_secret = "sk_live_51HhQ2xJx"

    authorize_url = "https://connect.stripe.com/oauth/authorize"
    pkce = "off"
    scopes = ("read_write",)
    caller_params = ("always_prompt", "stripe_landing")
    token = door("https://connect.stripe.com/oauth/token", "post")
    lifetime = None
    refresh = "none"
    kind = "bearer"
    account = subject = "acct_1"
    kept = {"stripe_user_id": "acct_1"}
    revokes = ((door("https://connect.stripe.com/oauth/deauthorize", "basic"), "installation"),)
    api_key = {"Authorization": "Bearer {api_key}"}
    api_key_prefixes = ("sk_live_", "sk_test_", "rk_live_", "rk_test_")
    cases = (
        Case("token", "transient", {"error": {"type": "rate_limit_error", "message": "slow"}}, 429),
        Case("revoke", "dead_grant", {"error": "invalid_client", "error_description": "This application is not connected to stripe account acct_1"}, 401),
        *cases("token", "restart", "invalid_grant"),
    )  # fmt: skip

    def basic_credentials(self) -> tuple[str, str]:
        return self.client_secret, ""

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"stripe_user_id": "acct_1", "livemode": False, "stripe_publishable_key": "pk_test_1"}

    def presented(self, through: Door, request: Request, params: Any) -> str:
        if params != {"client_id": self.client_id, "stripe_user_id": "acct_1"}:
            self.complain(f"parameters {params}")
        return self.families[-1].newest

    def revoked(self) -> Answer:
        return Answer(200, {"stripe_user_id": "acct_1"})


class StripeApps(Vendor):
    """Basic with the API key as user; no scopes, no lifetime, no redirect_uri at the token endpoint."""

    id = "stripe-apps"
    agentcore = ("StripeAppsOauth2", INCLUDED)
    domains = ("stripe.com",)
    client_secret = "sk_live_51HhQ2xJx"

    authorize_url = "https://marketplace.stripe.com/oauth/v2/authorize"
    caller_params = ()
    pkce = "off"
    scopes = ()
    scope_parameter = None
    answered_separator = " "
    compares_scopes = False
    redirect_at_token = False
    token = door("https://api.stripe.com/v1/oauth/token")
    lifetime = None
    understood_lifetime = 3600
    kind = "bearer"
    policy = Policy(single_use=True, lifetime=31536000)
    account = subject = "acct_1"
    api_key = {"Authorization": "Bearer {api_key}"}
    api_key_prefixes = ("rk_live_", "rk_test_")
    bad_client = Answer(401, {"error": {"type": "authentication_error", "message": "Invalid API Key"}})
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        Case(
            "refresh", "operator_config", {"error": {"type": "authentication_error", "message": "Invalid API Key"}}, 401
        ),
        Case("refresh", "transient", {"error": {"type": "api_error", "message": "oops"}}, 400),
    )

    def basic_credentials(self) -> tuple[str, str]:
        return self.client_secret, ""

    def scope_text(self, scopes: tuple[str, ...]) -> str:
        return "stripe_apps"

    def scopes_of(self, family: Family) -> tuple[str, ...] | None:
        return ("stripe_apps",)

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"stripe_user_id": "acct_1", "livemode": False}


class Zendesk(Vendor):
    """Lifetimes are asked for; a refresh deletes both tokens that were there."""

    id = "zendesk"
    agentcore = ("ZendeskOauth2", INCLUDED)
    domains = ("zendesk.com",)
    issuer = "https://acme.zendesk.com"

    authorize_url = f"{issuer}/oauth/authorizations/new"
    caller_params = ()
    scopes = ("read", "tickets:write")
    token = door(f"{issuer}/oauth/tokens", "post", "form json")
    token_extras = {"expires_in": "1800", "refresh_token_expires_in": "2592000"}
    lifetime = 1800
    refresh_lifetime = 2592000
    kind = "bearer"
    policy = Policy(single_use=True, kills_old_access=True, keepalive=604800, lifetime=2592000)
    revokes = ((door(f"{issuer}/api/v2/oauth/tokens/current", "token", "none", "DELETE"), "token"),)
    introspects = door(f"{issuer}/api/v2/oauth/tokens/current", "token", "none", "GET")
    userinfo = UserInfo(introspects, {"token": {"id": 1, "user_id": 29451}}, account="29451", subject="29451")
    machines = (MachineCase("service", scopes=("read",)),)
    machine_extras = {"expires_in": "1800"}
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        Case("userinfo", "dead_grant", {"error": "Couldn't authenticate you"}, 401),
    )

    def _introspect(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        return self._userinfo(through, request, params)

    def revoked(self) -> Answer:
        return Answer(204)


class Zoho(Vendor):
    """The data centre is told by the redirect; errors say 200."""

    id = "zoho"
    agentcore = ("ZohoOauth2", INCLUDED)
    domains = tuple(f"{name}.{country}" for name in ("zoho", "zohoapis", "zohocloud") for country in ZOHO_COUNTRIES)

    authorize_url = "https://accounts.zoho.com/oauth/v2/auth"
    authorize_params = {"access_type": "offline", "prompt": "consent"}
    caller_params = ("login_hint",)
    pkce = "off"
    separator = ","
    scopes = ("ZohoCRM.modules.READ", "ZohoCRM.users.READ")
    token = door("https://accounts.zoho.eu/oauth/v2/token", "post")
    refresh = "omitted"
    policy = Policy(single_use=False)
    max_grants_per_user = 20
    kept = {"api_domain": "https://www.zohoapis.eu", "accounts_server": "https://accounts.zoho.eu"}
    code_errors = (200, "invalid_code")
    dead_refresh = Answer(200, {"error": "invalid_code"})
    bad_client = Answer(200, {"error": "invalid_client"})
    revokes = ((door("https://accounts.zoho.eu/oauth/v2/token/revoke", "none"), "grant"),)
    machines = (MachineCase("organisation", scopes=("ZohoCRM.modules.READ", "ZohoCRM.users.READ")),)
    cases = (
        *cases("refresh", "dead_grant", "invalid_code", status=200),
        *cases("token", "restart", "invalid_code", status=200),
        *cases("token refresh machine", "operator_config", "invalid_client invalid_client_secret", status=200),
        Case("refresh", "transient", {"error": "Access Denied", "error_description": "You have made too many requests continuously."}, 400),
        Case("revoke", "dead_grant", {"error": "invalid_token"}, 400),
    )  # fmt: skip

    def callback_extras(self) -> list[tuple[str, str]]:
        return [("location", "eu"), ("accounts-server", "https://accounts.zoho.eu")]

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"api_domain": "https://www.zohoapis.eu"}

    def revoked(self) -> Answer:
        return Answer(200, {"status": "success"})

    def routes(self) -> list[tuple[Door, Behind]]:
        return [*super().routes(), (door("https://accounts.zoho.com/oauth/v2/token", "post"), self._token)]
