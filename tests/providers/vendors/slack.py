# ruff: noqa: RUF012 - class attributes are a vendor's documents: nobody changes them
"""Slack: two credentials of one consent, errors in answers that say 200, a revocation that the token itself asks for."""

from typing import Any

from identity_gateway.protocol.oauth2 import Requested
from tests.fakes.vendor import Answer, Case, Event, Family, Policy, Vendor, Webhooks
from tests.fakes.vendor.answers import cases
from tests.fakes.vendor.doors import door

BOT = ("chat:write", "channels:read")
USER = ("search:read", "users:read")
CONFIGURATION = (
    "bad_client_secret invalid_client_id bad_redirect_uri invalid_grant_type oauth_authorization_url_mismatch "
    "token_rotation_not_enabled not_authed invalid_auth no_permission"
)
LATER = (
    "ratelimited fatal_error service_unavailable org_login_required team_added_to_org ekm_access_denied accesslimited"
)
DEAD = (
    "invalid_refresh_token token_revoked account_inactive authorization_not_found team_access_not_granted app_missing "
    "invalid_grant not_allowed_token_type"
)


def no(on: str, outcome: str, words: str, *, stray: bool = False) -> tuple[Case, ...]:
    """Return what Slack says with status 200 when it says no."""
    return cases(on, outcome, words, status=200, stray=stray, ok=False)


class Slack(Vendor):
    id = "slack"
    agentcore = ("SlackOauth2", "slackOauth2ProviderConfig")
    domains = ("slack.com", "slack-gov.com")
    hosts = ("slack.com", "*.slack.com", "slack-gov.com", "*.slack-gov.com")
    variables = {"domain": ("operator", "slack.com")}
    token_prefixes = ("xoxb-", "xoxp-", "xoxe-", "xoxe.", "xapp-", "xwfp-", "xoxc-", "xoxd-", "xoxa-", "xoxr-")
    forms = {"domain": (("slack.com", "slack-gov.com"), ("slack.example", "evilslack.com", "slack-govxcom"))}
    explains_all = True
    answer_format = "json"
    scope_sets = {"scope": "bot", "user_scope": "user"}
    refused_params = (("user_scope", "search:read users:read"), ("team", "T1\n"))
    secrets = {"signing_secret": "8f742231b10e8888abcd99yyyzzz85a5"}
    variants = ("bot", "user", "both", "organisation", "user_nested_refresh", "without_rotation")

    authorize_url = "https://slack.com/oauth/v2/authorize"
    caller_params = ("user_scope", "team")
    pkce = "off"
    separator = answered_separator = ","

    token = door("https://slack.com/api/oauth.v2.access")
    lifetime = 43200
    refresh = "new"
    policy = Policy(single_use=True, leeway=0, reuse_revokes_family=False, kills_old_access=False, margin=1800)
    code_errors = (200, "invalid_code")
    dead_refresh = Answer(200, {"ok": False, "error": "invalid_refresh_token"})
    bad_client = Answer(200, {"ok": False, "error": "bad_client_secret"})

    revokes = ((door("https://slack.com/api/auth.revoke", "token", "none form"), "token"),)
    introspects = door("https://slack.com/api/auth.test", "token", "none form")
    api_key = {"Authorization": "Bearer {api_key}"}
    api_key_prefixes = ("xoxb-", "xoxp-", "xapp-")

    cases = (
        *no("token", "restart", "invalid_code code_already_used invalid_grant"),
        *no("token refresh", "operator_config", CONFIGURATION),
        *no("token refresh", "transient", LATER),
        *no("token refresh", "ambiguous", "internal_error request_timeout"),
        *no("revoke", "transient", "internal_error request_timeout"),
        *no("refresh introspect revoke", "dead_grant", DEAD),
        *no("introspect", "dead_grant", "token_expired"),
        *no("revoke", "ambiguous", "token_expired"),
        *no("refresh", "operator_config", "token_expired", stray=True),
        *no("token refresh", "admin_block", "access_denied"),
        *cases("refresh", "dead_grant", "invalid_grant"),
        # Words where the documents do not know them are no reason to end a grant, nor to ask a user again.
        *no("refresh", "operator_config", "invalid_code code_already_used", stray=True),
        *no("token", "operator_config", "token_revoked account_inactive", stray=True),
        Case(
            "refresh", "step_up", {"ok": False, "error": "missing_scope", "needed": "users:read", "provided": "identify"},
            200, code="missing_scope", needed=("users:read",),
        ),
        Case("revoke", "transient", {"ok": True, "revoked": False}, 200),
        Case("revoke", "transient", {"ok": False, "revoked": True}, 200),
        Case("token", "ambiguous", {"ok": False, "access_token": "xoxb-1", "token_type": "bot"}, 200),
        Case("token", "ambiguous", {"ok": True, "access_token": "xoxp-1", "token_type": "user"}, 200),
        Case("token", "ambiguous", [("ok", "true"), ("access_token", "xoxb-form")], 200),
        # The bot's token for the user's refresh token (and the other way round) is never stored.
        Case("refresh", "ambiguous", {"ok": True, "access_token": "xoxe.xoxp-1", "token_type": "user", "refresh_token": "xoxe-1-a", "expires_in": 43200}, 200, variant="bot"),
        Case("refresh", "ambiguous", {"ok": True, "access_token": "xoxe.xoxb-1", "token_type": "bot", "refresh_token": "xoxe-1-b", "expires_in": 43200}, 200, variant="user"),
        Case("refresh", "ambiguous", {"ok": True, "authed_user": {"access_token": "xoxe.xoxb-1", "token_type": "bot"}}, 200, variant="user"),
    )  # fmt: skip

    webhooks = Webhooks(
        header="X-Slack-Signature",
        prefix="v0=",
        secret="signing_secret",
        timestamp_header="X-Slack-Request-Timestamp",
        max_skew=300,
        once=("path", "event_id"),
        challenge=({"type": "url_verification", "challenge": "3eZbrw1aB"}, lambda key: {"challenge": "3eZbrw1aB"}),
        events=(
            Event(
                {"type": "event_callback", "event_id": "Ev1", "team_id": "T1", "event": {"type": "tokens_revoked", "tokens": {"oauth": ["U1", "U2"], "bot": ["B1"]}}},
                ends=frozenset({("T1", "U1", "user"), ("T1", "U2", "user"), ("T1", "B1", "bot")}),
            ),
            Event(
                {"type": "event_callback", "event_id": "Ev2", "team_id": "T1", "event": {"type": "app_uninstalled"}},
                ends=frozenset({("T1", "", "")}),
            ),
            Event(
                {"type": "event_callback", "event_id": "Ev4", "team_id": "T1", "enterprise_id": "E1", "event": {"type": "tokens_revoked", "tokens": {"oauth": ["U1"], "bot": ["B1"]}}},
                ends=frozenset((account, subject, part) for account in ("T1", "E1") for subject, part in (("U1", "user"), ("B1", "bot"))),
            ),
            Event(
                {"type": "event_callback", "event_id": "Ev5", "team_id": "T1", "enterprise_id": "E1", "event": {"type": "app_uninstalled"}},
                ends=frozenset({("T1", "", ""), ("E1", "", "")}),
            ),
            Event({"type": "event_callback", "event_id": "Ev6", "team_id": "T1", "enterprise_id": "E1", "event": {"type": "message"}}),
            Event({"type": "event_callback", "event_id": "Ev7", "team_id": "T1", "enterprise_id": "E1", "event": {"type": "pin_added", "tokens": {"oauth": ["U1"], "bot": ["B1"]}}}),
            Event({"type": "event_callback", "event_id": "Ev3", "team_id": "T1", "event": {"type": "message"}}),
        ),
    )  # fmt: skip

    @property
    def asks_bot(self) -> bool:
        return not self.variant.startswith("user")

    @property
    def asks_user(self) -> bool:
        return self.variant.startswith("user") or self.variant == "both"

    def requested(self) -> Requested:
        return Requested(
            scopes=BOT if self.asks_bot else (), parameters={"user_scope": ",".join(USER)} if self.asks_user else {}
        )

    @property
    def account(self) -> str:  # type: ignore[override]
        return "E1" if self.variant == "organisation" else "T1"

    @property
    def label(self) -> str:  # type: ignore[override]
        return "Acme Group" if self.variant == "organisation" else "Acme"

    def kept_secrets(self) -> dict[str, str]:
        return {"incoming_webhook_url": "https://hooks.slack.com/services/T1/B1/xyz"} if self.asks_bot else {}

    def read_scopes(self, params: dict[str, str]) -> dict[str, tuple[str, ...]]:
        found = {}
        for name, part, wanted, asked in (
            ("scope", "bot", BOT, self.asks_bot),
            ("user_scope", "user", USER, self.asks_user),
        ):
            text = params.pop(name, None)
            if asked:
                found[part] = self.split(text or "", wanted)
            elif text is not None:
                self.complain(f"{name} for a part that nobody asked for")
        return found

    def has_refresh(self, family: Family) -> bool:
        return self.variant != "without_rotation"

    def token_text(self, what: str) -> str:
        return super().token_text(what) if what == "code" else f"xoxe.{super().token_text(what)}"

    def subject_of(self, family: Family) -> str:
        return {"bot": "B1", "user": "U1"}[family.part]

    def kind_of(self, family: Family) -> str:
        return family.part

    def lifetime_of(self, family: Family) -> float | None:
        return None if self.variant == "without_rotation" else self.lifetime

    def token_body(self, family: Family) -> dict[str, Any]:
        body = super().token_body(family) | {"token_type": family.part}
        if self.variant == "without_rotation":
            del body["expires_in"]
        return body

    def consent_body(self, families: list[Family]) -> dict[str, Any]:
        org = self.variant == "organisation"
        body: dict[str, Any] = {
            "ok": True,
            "app_id": "A1",
            "team": None if org else {"id": "T1", "name": "Acme"},
            "enterprise": {"id": "E1", "name": "Acme Group"} if org else None,
            "is_enterprise_install": org,
            "authed_user": {"id": "U1"},
        }
        for family in families:
            if family.part == "bot":
                webhook = {"url": self.kept_secrets()["incoming_webhook_url"], "channel": "#general"}
                body |= self.token_body(family) | {"bot_user_id": "B1", "incoming_webhook": webhook}
            else:
                body["authed_user"] |= self.token_body(family)
        return body

    def refresh_body(self, family: Family) -> dict[str, Any]:
        if self.variant == "user_nested_refresh":
            return {"ok": True, "authed_user": {"id": "U1", **self.token_body(family)}}
        return {"ok": True, **self.token_body(family), "team": {"id": "T1", "name": "Acme"}}

    def revoked(self) -> Answer:
        return Answer(200, {"ok": True, "revoked": True})

    def introspection(self, alive: bool) -> Answer:
        if alive:
            return Answer(200, {"ok": True, "url": "https://acme.slack.com/", "team_id": "T1", "user_id": "U1"})
        return Answer(200, {"ok": False, "error": "token_revoked"})
