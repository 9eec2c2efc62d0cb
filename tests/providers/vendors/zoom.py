# ruff: noqa: RUF012 - class attributes are a vendor's documents: nobody changes them
"""Zoom: the last consent of a user wins, refresh tokens rotate without grace, and one machine token for everybody."""

from typing import Any

from tests.fakes.vendor import Answer, Case, Event, MachineCase, Policy, UserInfo, Vendor, Webhooks
from tests.fakes.vendor.doors import door

SCOPES = ("meeting:read:meeting", "user:read:user")
SECRET_TOKEN = "zm-secret-token-1"


def told(on: str, outcome: str, codes: str, text: str = "told", *, stray: bool = False) -> tuple[Case, ...]:
    """Return the two ways in which Zoom writes a refusal with a number, for each purpose and number."""
    return tuple(
        Case(purpose, outcome, {code_name: int(code), text_name: text}, 400, code=code, description=text, stray=stray)
        for purpose in on.split()
        for code in codes.split()
        for code_name, text_name in (("errorCode", "errorMessage"), ("code", "message"))
    )


def said(
    on: str, outcome: str, reason: str, error: str = "invalid_request", *, stray: bool = False
) -> tuple[Case, ...]:
    """Return the older way: a reason in words."""
    return tuple(
        Case(purpose, outcome, {"reason": reason, "error": error}, 400, code=error, description=reason, stray=stray)
        for purpose in on.split()
    )


class Zoom(Vendor):
    id = "zoom"
    agentcore = ("ZoomOauth2", "includedOauth2ProviderConfig")
    domains = ("zoom.us", "zoomgov.com")
    hosts = ("zoom.us", "*.zoom.us", "zoomgov.com", "*.zoomgov.com")
    token_prefixes = ()
    variables = {
        "domain": ("operator", "zoom.us"),
        "account_id": ("caller", None),
        "api_url": ("response", "https://api.zoom.us"),
    }
    forms = {
        "domain": (("zoom.us", "zoomgov.com"), ("zoomxus", "evilzoom.us", "zoomgovxcom", "zoom.us.evil.example")),
        "account_id": (("za-1", "A_b-9"), ("", "a b", "a/b", "x" * 65)),
        "api_url": (("https://api.zoom.us", "https://eu01api-www4.zoom.us", "https://api.zoomgov.com"), ("http://api.zoom.us", "https://evilzoom.us", "https://zoom.us.evil.example")),
    }  # fmt: skip
    variants = ("blanks", "commas")
    explains_all = True
    answer_format = "json"
    caller_params = ("optional_scope", "include_granted_scopes")
    secrets = {"secret_token": SECRET_TOKEN}

    authorize_url = "https://zoom.us/oauth/authorize"
    scopes = SCOPES
    token = door("https://zoom.us/oauth/token")
    refresh = "new"
    policy = Policy(
        single_use=True,
        leeway=0,
        reuse_revokes_family=False,
        kills_old_access=True,
        margin=120,
        keepalive=43200,
        lifetime=7776000,
    )
    reconsent_supersedes = True
    max_grants_per_user = 1
    kind = "bearer"
    dead_refresh = Answer(400, {"reason": "Invalid Token!", "error": "invalid_grant"})
    bad_client = Answer(400, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"})

    revokes = ((door("https://zoom.us/oauth/revoke"), "user_client"),)
    userinfo = UserInfo(
        door("https://api.zoom.us/v2/users/me", "token", "none", "GET"),
        {"id": "zu-1", "account_id": "za-1", "email": "ann@example.com", "first_name": "Ann"},
        account="za-1",
        subject="zu-1",
        label="ann@example.com",
    )
    kept = {"api_url": "https://eu01api-www4.zoom.us"}
    machines = (
        MachineCase(
            "account",
            {"account_id": "za-1"},
            SCOPES,
            one_per_client=True,
            entry="account_credentials",
            needs=("account_id",),
            takes=(),
        ),
        MachineCase("chat bot", scopes=("imchat:bot",), entry="client_credentials", takes=()),
    )

    webhooks = Webhooks(
        header="x-zm-signature",
        prefix="v0=",
        secret="secret_token",
        timestamp_header="x-zm-request-timestamp",
        max_skew=300,
        once=("header", "x-zm-signature"),
        challenge=(
            {"event": "endpoint.url_validation", "event_ts": 1, "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}},
            lambda key: {
                "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
                "encryptedToken": Webhooks.digest(key, b"qgg8vlvZRS6UYooatFL8Aw"),
            },
        ),
        events=(
            Event(
                {"event": "app_deauthorized", "event_ts": 1740439732278, "payload": {"account_id": "za-1", "user_id": "zu-1", "client_id": "client-7.app"}},
                ends=frozenset({("za-1", "zu-1", "")}),
            ),
            Event({"event": "meeting.started", "event_ts": 1740439732279, "payload": {"account_id": "za-1"}}),
        ),
    )  # fmt: skip

    cases = (
        *told("token", "restart", "4733 4734"),
        *told("refresh", "operator_config", "4733 4734", stray=True),
        *told("refresh revoke", "dead_grant", "4711 4735 4737 4740 4741"),
        *told("userinfo", "dead_grant", "4735 4737 4740 4741"),
        *told("token", "operator_config", "4711 4735 4737 4740 4741", stray=True),
        Case("userinfo", "step_up", {"code": 4711, "message": "does not contain scopes"}, 400, code="4711"),
        Case("userinfo", "dead_grant", {"errorCode": 4711, "errorMessage": "invalid"}, 400, code="4711"),
        Case("userinfo", "dead_grant", {"code": 124, "message": "Invalid access token."}, 401, code="124"),
        Case("revoke", "ambiguous", {"code": 124, "message": "Invalid access token."}, 401, code="124"),
        Case("token", "operator_config", {"code": 124, "message": "Invalid access token."}, 401, code="124", stray=True),
        *told("token refresh machine userinfo", "admin_block", "4717 4738"),
        *told("token refresh machine", "operator_config", "4702 4704 4705 4706 4709 4724"),
        *told("token refresh machine userinfo", "transient", "4700 4732 429"),
        *said("token refresh machine", "operator_config", "Invalid client_id or client_secret", "invalid_client"),
        *said("token", "operator_config", "The client id does not match"),
        *said("token", "operator_config", "Redirect URI mismatch"),
        *said("token machine", "operator_config", "Unsupported grant type"),
        *said("refresh machine", "admin_block", "The app is disabled"),
        *said("refresh", "dead_grant", "Invalid Token!"),
        *said("refresh", "dead_grant", "Invalid refresh token"),
        *said("token", "operator_config", "Invalid Token!", stray=True),
        *said("refresh", "dead_grant", "Revoked by the user", "invalid_grant"),
        *said("token", "restart", "Code used", "invalid_grant"),
        *said("machine", "operator_config", "Account unknown", "invalid_grant", stray=True),
        Case("refresh", "operator_config", {"error": "invalid_client", "error_description": "unknown"}, 401, description="unknown"),
        Case("revoke", "transient", {"status": "failure"}, 200),
        Case("token", "ambiguous", [("access_token", "eyJ-form"), ("expires_in", "3600")], 200),
    )  # fmt: skip

    def scope_text(self, scopes: tuple[str, ...]) -> str:
        return ("," if self.variant == "commas" else " ").join(scopes)

    def says_more(self, family: Any) -> dict[str, Any]:
        return {"api_url": "https://eu01api-www4.zoom.us"}

    def revoked(self) -> Answer:
        return Answer(200, {"status": "success"})

    def other_grant(self, grant: Any, request: Any, params: dict[str, Any]) -> Answer:
        if grant == "account_credentials":
            self.only(params, "grant_type", "account_id")
            if params.get("account_id") != "za-1":
                raise self.turn(Answer(400, {"reason": "Bad request", "error": "invalid_request"}), "no such account")
            return Answer(200, self.machine_body() | {"api_url": "https://eu01api-www4.zoom.us"})
        return super().other_grant(grant, request, params)
