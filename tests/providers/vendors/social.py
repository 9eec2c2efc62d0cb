# ruff: noqa: RUF012 - class attributes are a vendor's documents: nobody changes them
"""Where people meet and listen: Discord, Facebook, LinkedIn, Reddit, Spotify, Twitch, X, Yandex."""

from typing import Any

from tests.fakes.vendor import Answer, Case, Family, MachineCase, Policy, UserInfo, Vendor
from tests.fakes.vendor.answers import cases
from tests.fakes.vendor.doors import Door, Request, door
from tests.fakes.vendor.server import Behind

YEAR = 365 * 86400


class Discord(Vendor):
    """Forms only; revoking one token revokes them all."""

    id = "discord"
    agentcore = ("DiscordOauth2", "includedOauth2ProviderConfig")
    domains = ("discord.com",)

    authorize_url = "https://discord.com/oauth2/authorize"
    caller_params = ("disable_guild_select", "guild_id", "integration_type", "permissions", "prompt")
    scopes = ("identify", "webhook.incoming")
    token = door("https://discord.com/api/v10/oauth2/token", "basic post")
    lifetime = 604800
    policy = Policy(single_use=True)
    revokes = ((door("https://discord.com/api/v10/oauth2/token/revoke", "basic post"), "user_client"),)
    introspects = door("https://discord.com/api/v10/oauth2/@me", "token", "none", "GET")
    userinfo = UserInfo(
        introspects,
        {"application": {"id": "9"}, "scopes": ["identify"], "expires": "2027-01-15T10:00:00+00:00", "user": {"id": "80", "username": "ann"}},
        account="80",
        subject="80",
        label="ann",
    )  # fmt: skip
    machines = (MachineCase("owner of the bot", scopes=("identify", "connections")),)
    api_key = {"Authorization": "Bot {api_key}"}
    cases = (Case("userinfo", "dead_grant", {"message": "401: Unauthorized", "code": 0}, 401),)

    def kept_secrets(self) -> dict[str, str]:
        return {"webhook_url": "https://discord.com/api/webhooks/1/abc", "webhook_token": "abc"}

    def says_more(self, family: Family) -> dict[str, Any]:
        return {"webhook": {"url": "https://discord.com/api/webhooks/1/abc", "token": "abc", "id": "1"}}

    def _introspect(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        return self._userinfo(through, request, params)


class Facebook(Vendor):
    """No refresh token: a living token is exchanged for a longer one. `error` is an object."""

    id = "facebook"
    agentcore = ("FacebookOauth2", "includedOauth2ProviderConfig")
    domains = ("facebook.com",)
    token_prefixes = ("EAA",)

    authorize_url = "https://www.facebook.com/v24.0/dialog/oauth"
    caller_params = ("auth_type", "config_id", "display")
    pkce = "off"
    separator = ","
    scopes = ("email", "pages_show_list")
    answered_separator = None
    token = door("https://graph.facebook.com/v24.0/oauth/access_token", "post")
    lifetime = 5184000
    refresh = "access_token"
    kind = "bearer"
    policy = Policy(single_use=False, keepalive=2592000)
    bad_client = Answer(
        400, {"error": {"message": "Error validating client secret.", "type": "OAuthException", "code": 1}}
    )
    revokes = ((door("https://graph.facebook.com/v24.0/me/permissions", "token", "none", "DELETE"), "user_client"),)
    introspects = door("https://graph.facebook.com/v24.0/me", "token", "none", "GET")
    userinfo = UserInfo(introspects, {"id": "1002", "name": "Ann"}, account="1002", subject="1002", label="Ann")
    machines = (MachineCase("app", lifetime=None),)
    cases = tuple(
        Case(on, outcome, {"error": {"message": text, "type": "OAuthException", "code": code}}, status)
        for on, outcome, code, text, status in (
            ("refresh", "dead_grant", 190, "Error validating access token: Session has expired", 400),
            ("userinfo", "dead_grant", 190, "The session was invalidated because the user changed their password.", 400),
            ("token", "operator_config", 1, "Error validating client secret.", 400),
            ("token", "operator_config", 101, "Error validating application.", 400),
            ("token", "restart", 100, "This authorization code has been used.", 400),
            ("refresh", "transient", 2, "An unexpected error has occurred. Please retry your request later.", 500),
            ("refresh", "transient", 4, "Application request limit reached", 400),
            ("userinfo", "transient", 17, "User request limit reached", 400),
            ("userinfo", "step_up", 10, "Application does not have permission for this action", 403),
        )
    )  # fmt: skip

    def bad_code(self) -> Answer:
        return Answer(
            400, {"error": {"message": "This authorization code has been used.", "type": "OAuthException", "code": 100}}
        )

    def bad_token(self) -> Answer:
        return Answer(
            400, {"error": {"message": "Error validating access token", "type": "OAuthException", "code": 190}}
        )

    def other_grant(self, grant: Any, request: Request, params: dict[str, Any]) -> Answer:
        if grant != "fb_exchange_token":
            return super().other_grant(grant, request, params)
        self.only(params, "grant_type", "client_id", "client_secret", "fb_exchange_token")
        family = next((each for each in self.families if each.lives(params.get("fb_exchange_token", ""))), None)
        if family is None:
            return self.bad_token()
        return Answer(200, self.token_body(self.issue(family)))

    def machine_body(self, scopes: tuple[str, ...] = (), lifetime: float = 0) -> dict[str, Any]:
        return {name: value for name, value in super().machine_body().items() if name != "expires_in"}

    def revoked(self) -> Answer:
        return Answer(200, {"success": True})

    def _introspect(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        return self._userinfo(through, request, params)


class LinkedIn(Vendor):
    """A refresh token does not live longer for being used; scopes come back with commas or with blanks."""

    id = "linkedin"
    agentcore = ("LinkedinOauth2", "linkedinOauth2ProviderConfig")
    domains = ("linkedin.com",)
    variants = ("commas", "blanks")

    authorize_url = "https://www.linkedin.com/oauth/v2/authorization"
    caller_params = ("prompt", "login_hint")
    pkce = "off"
    scopes = ("openid", "w_member_social")
    token = door("https://www.linkedin.com/oauth/v2/accessToken", "post")
    lifetime = 5184000
    refresh = "same"
    refresh_lifetime = YEAR - 86400
    policy = Policy(lifetime=YEAR)
    dead_refresh = Answer(
        400, {"error": "invalid_request", "error_description": "The provided token is invalid or expired"}
    )
    revokes = ((door("https://www.linkedin.com/oauth/v2/revoke", "post"), "token"),)
    introspects = door("https://www.linkedin.com/oauth/v2/introspectToken", "post")
    userinfo = UserInfo(
        door("https://api.linkedin.com/v2/userinfo", "token", "none", "GET"),
        {"sub": "782bbtaQ", "name": "Ann", "email": "ann@example.com"},
        account="782bbtaQ",
        subject="782bbtaQ",
        label="ann@example.com",
    )
    machines = (MachineCase("programme"),)
    cases = (
        *cases("refresh", "dead_grant", "invalid_grant"),
        Case("refresh", "dead_grant", {"error": "invalid_request", "error_description": "The token used in the request has been revoked"}),
        Case("refresh", "operator_config", {"error": "invalid_request", "error_description": "A required parameter is missing"}),
    )  # fmt: skip

    def scope_text(self, scopes: tuple[str, ...]) -> str:
        return ("," if self.variant == "commas" else " ").join(scopes)


class Reddit(Vendor):
    """Who has no name of its own (User-Agent) is turned away; an error may be a number."""

    id = "reddit"
    agentcore = ("RedditOauth2", "includedOauth2ProviderConfig")
    domains = ("reddit.com",)

    authorize_url = "https://www.reddit.com/api/v1/authorize"
    authorize_params = {"duration": "permanent"}
    caller_params = ()
    pkce = "off"
    scopes = ("identity", "read")
    token = door("https://www.reddit.com/api/v1/access_token", "basic", headers={"User-Agent": "*"})
    lifetime = 86400
    refresh = "omitted"
    kind = "bearer"
    policy = Policy(single_use=False, kills_old_access=False)
    dead_refresh = Answer(400, {"message": "Bad Request", "error": 400})
    bad_client = Answer(401, {"message": "Unauthorized", "error": 401})
    revokes = ((door("https://www.reddit.com/api/v1/revoke_token", "basic", headers={"User-Agent": "*"}), "grant"),)
    userinfo = UserInfo(
        door("https://oauth.reddit.com/api/v1/me", "token", "none", "GET", headers={"User-Agent": "*"}),
        {"id": "t2x", "name": "ann", "total_karma": 1},
        account="t2x",
        subject="t2x",
        label="ann",
    )
    machines = (
        MachineCase("application"),
        MachineCase("installed client", {"device_id": "abcdefghijklmnopqrstuvwx"}),
    )
    cases = (
        Case("refresh", "dead_grant", {"error": 400}, 200),
        Case("token", "restart", {"error": 400}, 200),
        Case("refresh", "transient", {"message": "Too Many Requests", "error": 429}, 429),
        Case("refresh", "transient", {"error": 503}, 200),
        Case("refresh", "operator_config", {"message": "Forbidden", "error": 403}, 403),
        Case("token", "restart", {"error": "invalid_grant"}, 200),
    )

    def other_grant(self, grant: Any, request: Request, params: dict[str, Any]) -> Answer:
        if grant != "https://oauth.reddit.com/grants/installed_client":
            return super().other_grant(grant, request, params)
        self.only(params, "grant_type", "device_id")
        if not 20 <= len(params.get("device_id", "")) <= 30:
            self.complain("device_id has 20 to 30 characters")
        return Answer(200, self.machine_body())


class Spotify(Vendor):
    """Mostly leaves the refresh token out of the answer to a refresh, and never revokes."""

    id = "spotify"
    agentcore = ("SpotifyOauth2", "includedOauth2ProviderConfig")
    domains = ("spotify.com",)

    authorize_url = "https://accounts.spotify.com/authorize"
    caller_params = ("show_dialog",)
    scopes = ("user-read-email", "playlist-read-private")
    token = door("https://accounts.spotify.com/api/token")
    refresh = "omitted"
    userinfo = UserInfo(
        door("https://api.spotify.com/v1/me", "token", "none", "GET"),
        {"id": "wizzler", "display_name": "Wizzler", "email": "w@example.com"},
        account="wizzler",
        subject="wizzler",
        label="Wizzler",
    )
    machines = (MachineCase("application"),)


class Twitch(Vendor):
    """`scope` is a list, refusals are `status` and `message`, and validation wants `OAuth` before the token."""

    id = "twitch"
    agentcore = ("TwitchOauth2", "includedOauth2ProviderConfig")
    domains = ("twitch.tv",)

    authorize_url = "https://id.twitch.tv/oauth2/authorize"
    caller_params = ("force_verify",)
    pkce = "off"
    scopes = ("chat:read", "chat:edit")
    token = door("https://id.twitch.tv/oauth2/token", "post")
    lifetime = 14124
    kind = "bearer"
    policy = Policy(single_use=True, margin=0)
    dead_refresh = Answer(400, {"error": "Bad Request", "status": 400, "message": "Invalid refresh token"})
    bad_client = Answer(403, {"status": 403, "message": "invalid client secret"})
    revokes = ((door("https://id.twitch.tv/oauth2/revoke", "none"), "token"),)
    introspects = door("https://id.twitch.tv/oauth2/validate", "token", "none", "GET", scheme="OAuth")
    userinfo = UserInfo(
        introspects,
        {"client_id": "client-7.app", "login": "ann", "user_id": "141", "scopes": ["chat:read"], "expires_in": 5520},
        account="141",
        subject="141",
        label="ann",
    )
    machines = (MachineCase("app"),)
    cases = (
        Case("refresh", "dead_grant", {"error": "Bad Request", "status": 400, "message": "Invalid refresh token"}, 400),
        Case("token", "restart", {"status": 400, "message": "Invalid authorization code"}, 400),
        Case("userinfo", "dead_grant", {"status": 401, "message": "invalid access token"}, 401),
        Case("token", "operator_config", {"status": 400, "message": "client does not exist"}, 400),
        Case("machine", "operator_config", {"status": 400, "message": "missing client id"}, 400),
    )

    def scope_text(self, scopes: tuple[str, ...]) -> list[str]:
        return list(scopes)

    def bad_code(self) -> Answer:
        return Answer(400, {"status": 400, "message": "Invalid authorization code"})

    def bad_token(self) -> Answer:
        return Answer(401, {"status": 401, "message": "invalid access token"})

    def _introspect(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        return self._userinfo(through, request, params)


class X(Vendor):
    """Basic for refreshes too, PKCE always, and a dead refresh token is an `invalid_request`."""

    id = "x"
    agentcore = ("XOauth2", "includedOauth2ProviderConfig")
    domains = ("x.com", "twitter.com")

    authorize_url = "https://x.com/i/oauth2/authorize"
    caller_params = ()
    scopes = ("tweet.read", "users.read")
    always = ("offline.access",)
    token = door("https://api.x.com/2/oauth2/token")
    lifetime = 7200
    kind = "bearer"
    policy = Policy(single_use=True, leeway=0, reuse_revokes_family=True, lifetime=15552000)
    dead_refresh = Answer(
        400, {"error": "invalid_request", "error_description": "Value passed for the token was invalid."}
    )
    revokes = ((door("https://api.x.com/2/oauth2/revoke"), "token"),)
    userinfo = UserInfo(
        door("https://api.x.com/2/users/me", "token", "none", "GET"),
        {"data": {"id": "2244994945", "name": "Ann", "username": "ann"}},
        account="2244994945",
        subject="2244994945",
        label="ann",
    )
    machines = (MachineCase("app only", lifetime=None),)
    cases = (
        Case("refresh", "operator_config", {"error": "unauthorized_client", "error_description": "Missing valid authorization header"}, 401),
        Case("refresh", "operator_config", {"error": "invalid_request", "error_description": "Missing required parameter [client_id]."}, 400),
        Case("token", "restart", {"error": "invalid_request", "error_description": "Value passed for the authorization code was invalid."}, 400),
    )  # fmt: skip

    def routes(self) -> list[tuple[Door, Behind]]:
        return [(door("https://api.twitter.com/oauth2/token"), self._app_only), *super().routes()]

    def _app_only(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        if params != {"grant_type": "client_credentials"}:
            raise self.turn(Answer(403, {"errors": [{"code": 170}]}), f"parameters {params}")
        return Answer(200, {name: value for name, value in self.machine_body().items() if name != "expires_in"})

    def other_grant(self, grant: Any, request: Request, params: dict[str, Any]) -> Answer:
        raise self.turn(Answer(400, {"error": "unsupported_grant_type"}), f"grant_type {grant!r} here")


class Yandex(Vendor):
    """A refresh may bring the access token that was there; only tokens of devices are revoked by clients."""

    id = "yandex"
    agentcore = ("YandexOauth2", "includedOauth2ProviderConfig")
    domains = ("yandex.com", "yandex.ru")

    authorize_url = "https://oauth.yandex.com/authorize"
    caller_params = ("device_id", "device_name", "force_confirm", "login_hint", "optional_scope")
    scopes = ("login:info", "calendar:all")
    token = door("https://oauth.yandex.com/token", "basic post")
    lifetime = 31536000
    kind = "bearer"
    keeps_access = True
    policy = Policy(single_use=True, keepalive=7776000, lifetime=31536000)
    revokes = ((door("https://oauth.yandex.com/revoke_token", "basic post"), "token"),)
    userinfo = UserInfo(
        door("https://login.yandex.ru/info", "token", "none", "GET", scheme="OAuth"),
        {"id": "1000034426", "login": "ann", "client_id": "client-7.app"},
        account="1000034426",
        subject="1000034426",
        label="ann",
    )
    cases = (
        Case(
            "revoke",
            "operator_config",
            {"error": "unsupported_token_type", "error_description": "token is not of a device"},
        ),
        *cases("token", "restart", "bad_verification_code"),
    )

    def issue(self, family: Family) -> Family:
        """A refresh within the first months leaves the access token as it is."""
        known = list(family.access)
        super().issue(family)
        family.access = known or family.access
        return family

    def revoked(self) -> Answer:
        return Answer(200, {"status": "ok"})
