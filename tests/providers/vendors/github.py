# ruff: noqa: RUF012 - class attributes are a vendor's documents: nobody changes them
"""GitHub: errors that say 200, scopes that come back with commas, installation tokens that can be narrowed."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import jwt

from identity_gateway.protocol.oauth2 import Requested
from tests.fakes.vendor import Answer, Case, Event, Family, MachineCase, Policy, UserInfo, Vendor, Webhooks
from tests.fakes.vendor.answers import cases
from tests.fakes.vendor.doors import Door, Request, Turned, door
from tests.fakes.vendor.keys import client_key, client_key_pem
from tests.fakes.vendor.server import Behind

API = {"User-Agent": "identity-gateway"}
REST = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28", **API}
INSTALLATION = "https://api.github.com/app/installations/4711/access_tokens"
MINT = door(INSTALLATION, "jwt", "json none", headers=REST)
CONFIGURATION = "incorrect_client_credentials redirect_uri_mismatch application_suspended device_flow_disabled unsupported_grant_type"


def event(
    name: str, body: dict[str, Any], ends: frozenset[tuple[str, str, str]] = frozenset(), flushes: bool = False
) -> Event:
    return Event(body, {"X-GitHub-Event": name, "X-GitHub-Delivery": "72d3162e"}, ends, flushes)


class GitHub(Vendor):
    """`app` is a GitHub App with expiring user tokens (no scopes), `oauth_app` an OAuth App with and without expiry."""

    id = "github"
    agentcore = ("GithubOauth2", "githubOauth2ProviderConfig")
    domains = ("github.com", "ghe.com")
    hosts = ("github.com", "api.github.com", "*.ghe.com")
    variables = {"host": ("operator", "github.com"), "installation_id": ("caller", None)}
    max_grants_per_user = 10
    caller_params = ("login", "allow_signup", "prompt")
    token_prefixes = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_")
    variants = ("oauth_app", "app", "expiring_oauth_app", "lifetime_as_text", "form")
    forms = {
        "host": (
            ("github.com", "acme.ghe.com"),
            ("github.example", "acme.ghe.com.evil.example", "ghe.com", "-.ghe.com"),
        ),
        "installation_id": (("1", "47110000000000000000"), ("", "4711/..", "x1", "1" * 21)),
    }
    explains_all = True
    answer_format = "auto"
    later_failures = True
    clock_refusals = (-300, 1000)
    client_id = "Iv1.8a61f9b3a7aba766"

    authorize_url = "https://github.com/login/oauth/authorize"
    scopes = ("repo", "read:user")
    answered_separator = ","
    token = door("https://github.com/login/oauth/access_token", "post", asks_for="application/json")
    refresh = "new"
    refresh_lifetime = 15897600
    policy = Policy(
        single_use=True, leeway=0, reuse_revokes_family=False, kills_old_access=True, margin=120, lifetime=15811200
    )
    kind = "bearer"
    code_errors = (200, "bad_verification_code")
    dead_refresh = Answer(
        200, {"error": "bad_refresh_token", "error_description": "The refresh token passed is incorrect or expired."}
    )
    bad_client = Answer(200, {"error": "incorrect_client_credentials"})

    revokes = (
        (
            door(f"https://api.github.com/applications/{client_id}/grant", "basic", "json", "DELETE", headers=REST),
            "user_client",
        ),
        (
            door(f"https://api.github.com/applications/{client_id}/token", "basic", "json", "DELETE", headers=REST),
            "token",
        ),
    )
    introspects = door(f"https://api.github.com/applications/{client_id}/token", "basic", "json", headers=REST)
    silent_outcomes = {
        ("machine", 403): ("admin_block",),
        ("machine", 404): ("admin_block",),
        ("machine", 401): ("operator_config",),
    }
    userinfo = UserInfo(
        door("https://api.github.com/user", "token", "none", "GET", headers=REST),
        {"login": "octocat", "id": 583231, "name": "The Octocat"},
        subject="583231",
        label="octocat",
    )
    machines = (
        MachineCase(
            "whole installation", {"installation_id": "4711"}, entry="installation", needs=("installation_id",)
        ),
        MachineCase(
            "narrowed",
            {"installation_id": "4711", "repositories": '["hello","world"]', "permissions": '{"contents":"read"}'},
        ),
        MachineCase("narrowed by number", {"installation_id": "4711", "repository_ids": "[12, 34]"}),
    )
    api_key = {
        "Authorization": "Bearer {api_key}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    api_key_prefixes = ("ghp_", "github_pat_")

    cases = (
        *cases("refresh", "dead_grant", "bad_refresh_token unauthorized_client", status=200),
        *cases("token", "restart", "bad_verification_code", status=200),
        *cases("token", "step_up", "unverified_user_email", status=200),
        *cases("token refresh", "operator_config", CONFIGURATION, status=200),
        *cases("refresh", "operator_config", "bad_verification_code", status=200, stray=True),
        *cases("token", "operator_config", "bad_refresh_token unauthorized_client", status=200, stray=True),
        Case("machine", "admin_block", {"message": "Not Found"}, 404, code="Not Found", description="Not Found"),
        Case("machine", "admin_block", {"message": "This installation has been suspended"}, 403),
        Case("machine", "step_up", {"message": "The permissions requested are not granted to this installation."}, 422),
        Case("machine", "transient", {"message": "API rate limit exceeded"}, 403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000060"}),
        Case("machine", "transient", {"message": "You have exceeded a secondary rate limit"}, 403, {"Retry-After": "60"}, retry_after=60),
        Case("machine", "operator_config", {"message": "A JSON web token could not be decoded"}, 401, code="A JSON web token could not be decoded"),
        Case("machine", "transient", [("token", "ghs_form"), ("expires_at", "2027-01-15T09:00:00Z")], 201),
        Case("userinfo", "dead_grant", {"message": "Bad credentials"}, 401),
        Case("userinfo", "dead_grant", {"message": "Bad credentials"}, 401, {"X-RateLimit-Remaining": "0", "Retry-After": "60"}),
        Case("userinfo", "step_up", {"message": "Resource protected by organization SAML enforcement."}, 403, {"X-GitHub-SSO": "required; url=https://github.com/orgs/acme/sso"}),
        Case("userinfo", "operator_config", {"message": "Forbidden"}, 400, {"X-GitHub-SSO": "required"}, stray=True),
        Case("revoke", "ambiguous", {"message": "Not Found"}, 404),
        *cases("token", "restart", "access_denied expired_token", status=200),
        *cases("token", "operator_config", "incorrect_device_code", status=200),
        # What a status says of one door, it does not say of another.
        Case("introspect", "operator_config", {"message": "Bad credentials"}, 401, stray=True),
        Case("userinfo", "operator_config", {"message": "Not Found"}, 404, stray=True),
        Case("userinfo", "operator_config", {"message": "Validation Failed"}, 422, stray=True),
        Case("userinfo", "operator_config", {"message": "This user is suspended"}, 403, stray=True),
        Case("machine", "operator_config", {"message": "Suspended"}, 400, stray=True),
        Case("machine", "operator_config", {"message": "Resource not accessible by integration"}, 403, stray=True),
    )  # fmt: skip

    webhooks = Webhooks(
        header="X-Hub-Signature-256",
        prefix="sha256=",
        secret="webhook_secret",
        timestamp_header=None,
        max_skew=300,
        once=("header", "X-GitHub-Delivery"),
        events=(
            event("github_app_authorization", {"action": "revoked", "sender": {"id": 583231}}, ends=frozenset({("", "583231", "")})),
            event("installation", {"action": "deleted", "installation": {"id": 4711}, "sender": {"id": 1}}, flushes=True),
            event("installation", {"action": "suspend", "installation": {"id": 4711}, "sender": {"id": 1}}, flushes=True),
            event("installation", {"action": "unsuspend", "installation": {"id": 4711}, "sender": {"id": 1}}, flushes=True),
            event("installation", {"action": "new_permissions_accepted", "installation": {"id": 4711}, "sender": {"id": 1}}, flushes=True),
            event("github_app_authorization", {"action": "created", "sender": {"id": 583231}}),
            event("repository", {"action": "deleted", "sender": {"id": 1}}),
            event("installation", {"action": "created", "installation": {"id": 4711}, "sender": {"id": 1}}),
            event("installation_repositories", {"action": "removed", "installation": {"id": 4711}, "sender": {"id": 1}}, flushes=True),
            event("push", {"action": "revoked", "ref": "refs/heads/main", "sender": {"id": 583231}}),
        ),
    )  # fmt: skip

    def __init__(self, variant: str = "", *, now: float = 1_800_000_000.0) -> None:
        super().__init__(variant, now=now)
        self.minted: list[dict[str, Any]] = []

    secrets = {"app_private_key": "", "webhook_secret": "It's a Secret to Everybody"}

    def secret_values(self) -> dict[str, str]:
        return {**self.secrets, "app_private_key": client_key_pem()}

    # --- Users ----------------------------------------------------------------------------------------------------------

    def has_refresh(self, family: Family) -> bool:
        return self.variant != "oauth_app"

    def lifetime_of(self, family: Family) -> float | None:
        return 28800 if self.has_refresh(family) else None

    def requested(self) -> Requested:
        return Requested() if self.variant == "app" else super().requested()

    def read_scopes(self, params: dict[str, str]) -> dict[str, tuple[str, ...]]:
        if self.variant != "app":
            return super().read_scopes(params)
        # Left out, it would mean everything that the user ever granted.
        if params.pop("scope", None) != "":
            self.complain("an empty scope is sent")
        return {"default": ()}

    def token_body(self, family: Family) -> dict[str, Any]:
        body = super().token_body(family)
        del body["expires_in"]
        if self.has_refresh(family):
            body["expires_in"] = "28800" if self.variant == "lifetime_as_text" else 28800
        return body | ({"scope": ""} if self.variant == "app" else {})

    def introspection(self, alive: bool) -> Answer:
        if not alive:
            return Answer(404, {"message": "Not Found"})
        app = {"client_id": self.client_id, "name": "Agents"}
        return Answer(200, {"id": 1, "app": app, "user": {"id": 583231}, "expires_at": "2027-01-15T08:30:00Z"})

    def revoked_before(self) -> Answer:
        return Answer(404, {"message": "Not Found"})

    def consent_body(self, families: list[Family]) -> Any:
        body = super().consent_body(families)
        return list(body.items()) if self.variant == "form" else body

    def refresh_body(self, family: Family) -> Any:
        body = super().refresh_body(family)
        return list(body.items()) if self.variant == "form" else body

    def revoked(self) -> Answer:
        return Answer(204)

    def bad_token(self) -> Answer:
        return Answer(401, {"message": "Bad credentials"})

    # --- Installations --------------------------------------------------------------------------------------------------

    def routes(self) -> list[tuple[Door, Behind]]:
        return [(MINT, self._mint), *super().routes()]

    def _mint(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        try:
            claims = jwt.decode(
                request.bearer() or "",
                client_key().public_key(),
                algorithms=["RS256"],
                issuer=self.client_id,
                options={"verify_exp": False, "verify_iat": False, "require": ["iat", "exp", "iss"]},
            )
        except jwt.PyJWTError as error:
            raise self.turn(Answer(401, {"message": "A JSON web token could not be decoded"}), str(error)) from None
        date = {"Date": format_datetime(datetime.fromtimestamp(self.now, UTC), usegmt=True)}
        for claim, name, good in (
            ("iat", "Issued at", claims["iat"] <= self.now),
            ("exp", "Expiration time", self.now < claims["exp"] <= self.now + 600),
        ):
            if not good:
                raise Turned(
                    Answer(401, {"message": f"'{name}' claim ('{claim}') does not fit this clock"}, date), claim
                )
        if claims["iat"] != int(self.now) - 60 or claims["exp"] != int(self.now) + 540:
            self.complain("the JWT begins a minute before now and ends before ten minutes have passed")
        self.only(params, "repositories", "repository_ids", "permissions")
        self.minted.append(params)
        token = self.token_text("ghs")
        self.machine_tokens.append(token)
        body = {"token": token, "expires_at": "2027-01-15T09:00:00Z", "permissions": {"metadata": "read"}}
        return Answer(201, body)

    def machine_complaints(self, case: MachineCase) -> list[str]:
        """Say what is wrong with what was asked for: names, numbers and an object, each in its JSON type."""
        wanted = {key: json.loads(value) for key, value in case.parameters.items() if key != "installation_id"}
        return [] if self.minted[-1] == wanted else [f"asked for {self.minted[-1]}, wanted {wanted}"]
