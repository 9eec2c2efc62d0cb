"""The authorization server that most vendors are, with the switches in which they differ; subclasses say the rest."""

import base64
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from identity_gateway.egress import EgressFailed, Fetched
from identity_gateway.protocol.oauth2 import Requested
from tests.fakes.vendor.answers import Answer, Case, Lost, Unreachable
from tests.fakes.vendor.doors import Door, Request, Turned, UserInfo, form_decoded
from tests.fakes.vendor.webhooks import Webhooks

REDIRECT = "https://gateway.example/identities/oauth2/callback/6f1c"
SECRET = "s3cr+t/%2B:=~x"
STANDARD = {"grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret", "refresh_token"}


@dataclass(frozen=True)
class Policy:
    """What refreshing does at the vendor, as documented; None where the documents are silent."""

    single_use: bool | None = None
    leeway: int | None = 0
    reuse_revokes_family: bool | None = None
    kills_old_access: bool | None = None
    margin: int | None = None
    keepalive: int | None = None
    lifetime: int | None = None


@dataclass(frozen=True)
class MachineCase:
    """A way to a machine token: what the caller gives, and what the gateway must make of the answer.

    `entry` names the way where there are several; it `needs` those parameters of callers, and `takes` no others.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    lifetime: float | None = 3600
    granted: tuple[str, ...] | None = None
    one_per_client: bool = False
    entry: str = ""
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] | None = None


@dataclass
class Family:
    """What one consent gave for one part: its tokens and what became of them."""

    part: str
    scopes: tuple[str, ...]
    variant: str
    access: list[str] = field(default_factory=list)
    refresh: str | None = None
    spent: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)

    def end(self) -> None:
        self.dead |= {*self.access, *self.spent, *([self.refresh] if self.refresh else [])}

    @property
    def newest(self) -> str:
        return self.access[-1]

    def lives(self, token: str) -> bool:
        return token in (*self.access, self.refresh) and token not in self.dead


@dataclass
class _Code:
    scopes: dict[str, tuple[str, ...]]
    redirect_uri: str
    challenge: str | None
    used: bool = False


Behind = Callable[[Door, Request, dict[str, Any]], Answer]
Effect = Literal["token", "grant", "user_client", "installation"]


class Vendor:
    """A vendor, with nothing consented yet. Class attributes are its documents; an instance is one run of it.

    `variants` are the ways in which one consent can go (other app types, other parts). `refresh` says what an answer to
    a refresh holds as refresh token: `new`, `same`, `omitted`, `null`, `none` (the vendor knows no refreshing).
    """

    id: ClassVar[str]
    agentcore: ClassVar[tuple[str, str]]
    domains: ClassVar[tuple[str, ...]]
    hosts: ClassVar[tuple[str, ...] | None] = None
    token_prefixes: ClassVar[tuple[str, ...] | None] = None
    settings: ClassVar[Mapping[str, str]] = {}
    variables: ClassVar[Mapping[str, tuple[str, str | None]] | None] = None
    forms: ClassVar[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    issuer: ClassVar[str | None] = None
    base: ClassVar[str | None] = None
    endpoints: ClassVar[Mapping[str, str]] = {}
    tenant: ClassVar[str | None] = None
    secrets: ClassVar[Mapping[str, str]] = {}
    variants: ClassVar[tuple[str, ...]] = ("default",)

    client_id: ClassVar[str] = "client-7.app"
    client_secret: ClassVar[str] = SECRET
    basic: ClassVar[str] = "raw"

    authorize_url: ClassVar[str]
    authorize_params: ClassVar[Mapping[str, str]] = {}
    caller_params: ClassVar[tuple[str, ...] | None] = None
    refused_params: ClassVar[tuple[tuple[str, str], ...]] = ()
    pkce: ClassVar[str] = "S256"
    sends_iss: ClassVar[bool] = False
    redirect_at_token: ClassVar[bool] = True
    code_lifetime: ClassVar[int | None] = None

    scopes: ClassVar[tuple[str, ...]] = ("files.read", "files.write")
    always: ClassVar[tuple[str, ...]] = ()
    scope_parameter: ClassVar[str | None] = "scope"
    separator: ClassVar[str] = " "
    answered_separator: ClassVar[str | None] = " "
    scope_key: ClassVar[str] = "scope"
    scope_sets: ClassVar[Mapping[str, str] | None] = None
    compares_scopes: ClassVar[bool] = True

    token: ClassVar[Door]
    token_extras: ClassVar[Mapping[str, str]] = {}
    machine_extras: ClassVar[Mapping[str, str]] = {}
    refresh_door: ClassVar[Door | None] = None
    grant_clients: ClassVar[Mapping[str, str]] = {}
    lifetime: ClassVar[float | None] = 3600
    answer_format: ClassVar[str | None] = None
    understood_lifetime: ClassVar[float | None] = None
    refresh: ClassVar[str] = "new"
    refresh_lifetime: ClassVar[int | None] = None
    refresh_scope: ClassVar[str] = "never"
    kind: ClassVar[str] = "Bearer"
    policy: ClassVar[Policy] = Policy()
    reconsent_supersedes: ClassVar[bool] = False
    max_grants_per_user: ClassVar[int | None] = None
    code_errors: ClassVar[tuple[int, str]] = (400, "invalid_grant")
    dead_refresh: ClassVar[Answer] = Answer(400, {"error": "invalid_grant"})
    bad_client: ClassVar[Answer] = Answer(401, {"error": "invalid_client"})

    revokes: ClassVar[tuple[tuple[Door, Effect], ...]] = ()
    ends_access: ClassVar[bool] = True
    keeps_access: ClassVar[bool] = False
    dead_refresh_outcome: ClassVar[str] = "dead_grant"
    later_failures: ClassVar[bool] = False
    introspects: ClassVar[Door | None] = None
    userinfo: ClassVar[UserInfo | None] = None
    machines: ClassVar[tuple[MachineCase, ...]] = ()
    exchange: ClassVar[str | None] = None
    exchange_described: ClassVar[bool] = True
    account: ClassVar[str | None] = None
    subject: ClassVar[str | None] = None
    label: ClassVar[str | None] = None
    kept: ClassVar[Mapping[str, str]] = {}
    cases: ClassVar[tuple[Case, ...]] = ()
    explains_all: ClassVar[bool] = False
    clock_refusals: ClassVar[tuple[float, ...]] = ()
    silent_outcomes: ClassVar[Mapping[tuple[str, int], tuple[str, ...]]] = {}
    api_key: ClassVar[Mapping[str, str] | None] = None
    api_key_prefixes: ClassVar[tuple[str, ...]] = ()
    webhooks: ClassVar[Webhooks | None] = None

    def __init__(self, variant: str = "", *, now: float = 1_800_000_000.0) -> None:
        self.variant = variant or self.variants[0]
        self.now = now
        self.families: list[Family] = []
        self.codes: dict[str, _Code] = {}
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self.machine_tokens: list[str] = []
        self.script: list[Answer | Lost | Unreachable] = []
        self._numbers = itertools.count(1)

    # --- The edge: what stands here instead of the network -------------------------------------------------------

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        content: bytes | None = None,
        public_only: bool = False,
    ) -> Fetched:
        """Answer as the vendor would; the signature is that of `Egress.fetch`."""
        given = list(headers)
        names = [name.lower() for name, _ in given]
        request = Request(method, url, {name.lower(): value for name, value in given}, content or b"")
        self.requests.append(request)
        if len(set(names)) != len(names):
            self.complain("a header stands there twice")
        self._watch(request)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Unreachable):
            raise EgressFailed("no connection", maybe_sent=False)
        answer = step if isinstance(step, Answer) else self._answer(request)
        if isinstance(step, Lost):
            raise EgressFailed("the connection broke", maybe_sent=True)
        return answer.fetched()

    def complain(self, why: str) -> None:
        self.complaints.append(why)

    def turn(self, answer: Answer, why: str) -> Turned:
        """Note why, and return what to raise: the gateway did what this vendor does not take."""
        self.complain(why)
        return Turned(answer, why)

    def _watch(self, request: Request) -> None:
        """Complain about what no vendor may see: a secret in a URL, or anything at all at a stranger's host."""
        if not any(request.host == domain or request.host.endswith(f".{domain}") for domain in self.domains):
            self.complain(f"{request.host} is not this vendor's")
        for secret in self.secrets_out():
            if any(form in request.url for form in (secret, quote(secret), quote(secret, ""), quote_plus(secret))):
                self.complain("a secret stands in the URL")

    def secrets_out(self) -> set[str]:
        """Return everything that must never be read by anybody else: client secret, codes, tokens."""
        tokens = {each for family in self.families for each in (*family.access, *family.spent, family.refresh) if each}
        return {self.client_secret, *self.codes, *tokens, *self.machine_tokens}

    def _answer(self, request: Request) -> Answer:
        try:
            return self.serve(request)
        except Turned as turned:
            return turned.answer

    def serve(self, request: Request) -> Answer:
        """Find the door and go through it."""
        for candidate, serve in self.routes():
            if (request.address, request.method) == (candidate.url, candidate.method):
                params = self.enter(candidate, request)
                return serve(candidate, request, params)
        raise self.turn(
            Answer(404, b"<html>Not Found</html>", {"Content-Type": "text/html"}),
            f"no door: {request.method} {request.address}",
        )

    def routes(self) -> list[tuple[Door, Behind]]:
        """Return the doors and what is behind each. Subclasses add theirs in front."""
        found: list[tuple[Door, Behind]] = [(self.token, self._token)]
        if self.refresh_door is not None:
            found.append((self.refresh_door, self._token))
        found += [(each, self._revoke) for each, _ in self.revokes]
        if self.introspects is not None:
            found.append((self.introspects, self._introspect))
        if self.userinfo is not None:
            found.append((self.userinfo.door, self._userinfo))
        return found

    # --- What the gateway must understand ----------------------------------------------------------------------------

    def requested(self) -> Requested:
        """Return what an agent asks for."""
        return Requested(scopes=self.scopes if self.scope_parameter else ())

    def kept_secrets(self) -> dict[str, str]:
        """Return the other secrets of the answer to a consent."""
        return {}

    def secret_values(self) -> Mapping[str, str]:
        """Return the secrets beside the client's that an operator has set."""
        return self.secrets

    def secret_free(self, text: str) -> bool:
        return not any(secret in text for secret in self.secrets_out())

    def machine_complaints(self, case: MachineCase) -> list[str]:
        """Say what was wrong with the newest request for a machine token, beside what was turned away at once."""
        return []

    def subject_of(self, family: Family) -> str:
        return ""

    def kind_of(self, family: Family) -> str:
        return self.kind

    def scopes_of(self, family: Family) -> tuple[str, ...] | None:
        return family.scopes if self.answered_separator is not None else None

    def refresh_says_token(self) -> bool:
        """Say whether the answer to a refresh holds a refresh token, new or old."""
        return self.refresh in {"new", "same"}

    def lifetime_of(self, family: Family) -> float | None:
        return self.lifetime if self.understood_lifetime is None else self.understood_lifetime

    # --- Who asks, and how ---------------------------------------------------------------------------------------

    def enter(self, through: Door, request: Request) -> dict[str, Any]:
        """Check encoding, headers and client authentication; return the parameters."""
        if request.encoding not in through.body:
            raise self.turn(
                Answer(415, {"error": "invalid_request"}),
                f"a {request.encoding} body where {set(through.body)} is taken",
            )
        if request.query:
            raise self.turn(Answer(400, {"error": "invalid_request"}), "parameters in the query")
        for name, value in through.headers.items():
            sent = request.headers.get(name.lower())
            if sent is None or (value != "*" and sent != value):
                raise self.turn(
                    Answer(400, {"message": f"header {name}"}), f"header {name} is {sent!r}, wanted {value!r}"
                )
        if through.asks_for is not None and through.asks_for not in request.headers.get("accept", ""):
            raise self.turn(
                Answer(406, b"<html></html>", {"Content-Type": "text/html"}), f"does not ask for {through.asks_for}"
            )
        try:
            params = request.params()
        except ValueError as error:
            raise self.turn(Answer(400, {"error": "invalid_request"}), f"unreadable body: {error}") from None
        taken = self.grant_clients.get(params.get("grant_type", ""))
        self._authenticate(through if taken is None else replace(through, client=frozenset({taken})), request, params)
        return params

    def _authenticate(self, through: Door, request: Request, params: Mapping[str, Any]) -> None:
        pair = request.basic()
        ways = ["basic"] * (pair is not None) + ["token"] * (request.bearer(through.scheme) is not None)
        ways += ["post"] * ("client_secret" in params) + ["assertion"] * ("client_assertion" in params)
        way = ways[0] if len(ways) == 1 else "none" if not ways else " and ".join(ways)
        if way == "token" and "jwt" in through.client:
            way = "jwt"
        if way not in through.client:
            raise self.turn(self.bad_client, f"client says who it is by {way}, taken is {set(through.client)}")
        if way == "basic" and self._basic(pair) != self.basic_credentials():
            raise self.turn(self.bad_client, "other Basic credentials than the client's")
        if way == "post" and (params.get("client_id"), params["client_secret"]) != (self.client_id, self.client_secret):
            raise self.turn(self.bad_client, "other credentials than the client's")

    def _basic(self, pair: tuple[str, str] | None) -> tuple[str, str] | None:
        return form_decoded(pair) if pair and self.basic == "rfc6749" else pair

    def basic_credentials(self) -> tuple[str, str]:
        return self.client_id, self.client_secret

    # --- Consent ----------------------------------------------------------------------------------------------------

    def authorize(self, url: str) -> list[tuple[str, str]]:
        """Let the user approve in a browser: return the parameters with which the vendor redirects back."""
        parts = urlsplit(url)
        if (address := url.partition("?")[0]) != self.authorize_url:
            self.complain(f"consent is at {self.authorize_url}, not {address}")
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
        params = dict(pairs)
        if len(params) != len(pairs) or parts.fragment:
            self.complain("a parameter stands there twice, or a fragment")
        challenge = self._check_pkce(params)
        scopes = self.read_scopes(params)
        self._check_authorization(params)
        code = self.token_text("code")
        self.codes[code] = _Code(scopes, REDIRECT, challenge)
        back = [("code", code), ("state", params.get("state", ""))]
        return back + ([("iss", self.issuer)] if self.sends_iss and self.issuer else []) + self.callback_extras()

    def callback_extras(self) -> list[tuple[str, str]]:
        return []

    def _check_authorization(self, params: dict[str, str]) -> None:
        wanted = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT,
            **self.authorize_params,
        }
        for name, value in wanted.items():
            if params.pop(name, None) != value:
                self.complain(f"{name} must be {value}")
        if not params.pop("state", ""):
            self.complain("no state")
        if params:
            self.complain(f"unknown parameters {sorted(params)}")

    def _check_pkce(self, params: dict[str, str]) -> str | None:
        challenge, method = params.pop("code_challenge", None), params.pop("code_challenge_method", "plain")
        if self.pkce == "S256" and (challenge is None or method != "S256" or len(challenge) != 43):
            self.complain("no S256 challenge")
        if self.pkce == "off" and challenge is not None:
            self.complain("PKCE, where it must be off")
        return challenge

    def read_scopes(self, params: dict[str, str]) -> dict[str, tuple[str, ...]]:
        """Take the scope parameters out and return the scopes of each part that the user agrees to."""
        if self.scope_parameter is None:
            if "scope" in params:
                self.complain("this vendor has no scopes")
            return {"default": ()}
        return {"default": self.split(params.pop(self.scope_parameter, ""), (*self.scopes, *self.always))}

    def split(self, text: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Return the scopes of a request, with a complaint if they are not the wanted ones."""
        found = text.split(self.separator)
        if sorted(found) != sorted(wanted):
            self.complain(f"scopes {text!r} are not {wanted} joined by {self.separator!r}")
        return tuple(found)

    # --- The token endpoint -----------------------------------------------------------------------------------------

    def _token(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        grant = params.get("grant_type")
        if grant == "authorization_code" and through is self.token:
            return self.redeem(params)
        if grant == "refresh_token" and self.refresh != "none" and through is (self.refresh_door or self.token):
            return self.renew(params)
        return self.other_grant(grant, request, params)

    def other_grant(self, grant: Any, request: Request, params: dict[str, Any]) -> Answer:
        """Serve the grants that only some vendors know."""
        if grant == "client_credentials" and self.machines:
            return self.machine_token(params)
        if grant == {"jwt_bearer": JWT_BEARER, "token_exchange": TOKEN_EXCHANGE}.get(self.exchange or ""):
            return self.exchanged(params)
        raise self.turn(Answer(400, {"error": "unsupported_grant_type"}), f"grant_type {grant!r}")

    def redeem(self, params: dict[str, Any]) -> Answer:
        code = self.codes.get(params.get("code", ""))
        verifier = params.get("code_verifier")
        self._wanted(params, self.token_extras)
        self.only(
            params,
            "grant_type",
            "code",
            "redirect_uri",
            "code_verifier",
            "client_id",
            "client_secret",
            *self.token_extras,
        )
        if code is None or code.used:
            raise Turned(self.bad_code(), "unknown or used code")
        if params.get("redirect_uri") != (code.redirect_uri if self.redirect_at_token else None):
            raise self.turn(self.bad_code(), "redirect_uri is not that of the authorization")
        if (s256(verifier) if verifier else None) != code.challenge:
            raise self.turn(self.bad_code(), "the verifier does not fit the challenge")
        code.used = True
        if self.reconsent_supersedes:
            for family in self.families:
                family.end()
        made = [self.issue(Family(part, scopes, self.variant)) for part, scopes in code.scopes.items()]
        self.families += made
        return Answer(200, self.consent_body(made))

    def renew(self, params: dict[str, Any]) -> Answer:
        """Refresh. A spent or dead refresh token is told as this vendor tells it."""
        scope = {"never": (), "may": ("scope",), "must": ("scope",)}[self.refresh_scope]
        self._wanted(params, self.token_extras)
        self.only(params, "grant_type", "refresh_token", "client_id", "client_secret", *scope, *self.token_extras)
        if self.refresh_scope == "must" and "scope" not in params:
            raise self.turn(Answer(400, {"error": "invalid_request"}), "no scope on refresh")
        text = params.get("refresh_token", "")
        family = next((each for each in self.families if each.refresh == text and each.lives(text)), None)
        if family is None:
            raise Turned(self.dead_refresh, "unknown, spent or dead refresh token")
        if self.policy.kills_old_access:
            family.dead |= set(family.access)
        self.issue(family)
        return Answer(200, self.refresh_body(family))

    def _wanted(self, params: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
        for name, value in wanted.items():
            if params.get(name) != value:
                self.complain(f"{name} must be {value}")

    def only(self, params: Mapping[str, Any], *known: str) -> None:
        if unknown := sorted(set(params) - set(known)):
            self.complain(f"unknown parameters {unknown}")

    def issue(self, family: Family) -> Family:
        """Give new tokens to a family, as the vendor rotates."""
        family.access.append(self.token_text("access"))
        if self.refresh == "new" and self.has_refresh(family):
            family.spent += [family.refresh] if family.refresh else []
            family.refresh = self.token_text("refresh")
        elif self.refresh in {"same", "omitted", "null"} and family.refresh is None:
            family.refresh = self.token_text("refresh")
        return family

    def has_refresh(self, family: Family) -> bool:
        return True

    def token_text(self, what: str) -> str:
        """Return a new code or token; unlike any before and long enough to be found in logs."""
        return f"{what}-{self.id}-{next(self._numbers)}-{'x' * 24}"

    def bad_code(self) -> Answer:
        status, word = self.code_errors
        return Answer(status, {"error": word})

    # --- What it says -------------------------------------------------------------------------------------------

    def consent_body(self, families: list[Family]) -> Any:
        return self.token_body(families[0]) | self.says_more(families[0])

    def refresh_body(self, family: Family) -> Any:
        body = self.token_body(family)
        if self.refresh == "omitted":
            body.pop("refresh_token", None)
        if self.refresh == "null":
            body["refresh_token"] = None
        return body

    def token_body(self, family: Family) -> dict[str, Any]:
        body: dict[str, Any] = {"access_token": family.newest, "token_type": self.kind}
        if self.lifetime is not None:
            body["expires_in"] = self.lifetime
        if family.refresh is not None:
            body["refresh_token"] = family.refresh
            if self.refresh_lifetime is not None:
                body["refresh_token_expires_in"] = self.refresh_lifetime
        if self.answered_separator is not None:
            body[self.scope_key] = self.scope_text(family.scopes)
        return body

    def scope_text(self, scopes: tuple[str, ...]) -> Any:
        return (self.answered_separator or " ").join(scopes)

    def says_more(self, family: Family) -> dict[str, Any]:
        """Return what the answer to a consent holds beside the tokens."""
        return {}

    # --- Afterwards -----------------------------------------------------------------------------------------------

    def family_of(self, token: str) -> Family:
        found = next((each for each in self.families if token in (*each.access, *each.spent, each.refresh)), None)
        if found is None:
            raise self.turn(Answer(400, {"error": "invalid_token"}), "unknown token")
        return found

    def presented(self, through: Door, request: Request, params: Mapping[str, Any]) -> str:
        """Return the token that a request is about."""
        return request.bearer(through.scheme) or params.get("token") or params.get("access_token") or ""

    def _revoke(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        token = self.presented(through, request, params)
        family = self.family_of(token)
        effect = self.effect_of(through, family, token)
        if token in family.dead:
            return self.revoked_before()
        if params.get("token_type_hint") not in {None, "access_token" if token in family.access else "refresh_token"}:
            self.complain("token_type_hint names another kind of token")
        if effect == "token":
            family.dead.add(token)
        elif effect == "grant":
            family.end()
        else:
            for each in self.families:
                each.end()
        return self.revoked()

    def effect_of(self, through: Door, family: Family, token: str) -> str:
        """Return what revoking this token at this door ends."""
        return next(effect for each, effect in self.revokes if each is through)

    def revoked_before(self) -> Answer:
        """Return the answer for a token that is dead already; RFC 7009 §2.2 has none but success."""
        return self.revoked()

    def revoked(self) -> Answer:
        return Answer(200)

    def _introspect(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        token = self.presented(through, request, params)
        return self.introspection(any(family.lives(token) for family in self.families))

    def introspection(self, alive: bool) -> Answer:
        return Answer(200, {"active": alive, **({"exp": int(self.now) + 1800} if alive else {})})

    def _userinfo(self, through: Door, request: Request, params: dict[str, Any]) -> Answer:
        assert self.userinfo is not None
        token = request.bearer(through.scheme) or ""
        if not any(family.lives(token) for family in self.families):
            raise Turned(self.bad_token(), "dead token")
        if self.userinfo.body is not None and params != self.userinfo.body:
            raise self.turn(Answer(400, {"error": "invalid_request"}), f"user info takes {self.userinfo.body}")
        return Answer(200, self.userinfo.says)

    def bad_token(self) -> Answer:
        return Answer(401, {"error": "invalid_token"}, {"WWW-Authenticate": 'Bearer error="invalid_token"'})

    # --- Machines and exchange --------------------------------------------------------------------------------------

    def machine_token(self, params: dict[str, Any]) -> Answer:
        self._wanted(params, self.machine_extras)
        self.only(params, "grant_type", "scope", "client_id", "client_secret", *self.machine_extras)
        asked = tuple(params["scope"].split(self.separator)) if "scope" in params else ()
        if not any(sorted(asked) == sorted(case.scopes) for case in self.machines):
            self.complain(f"scopes {asked} that nobody asked for")
        return Answer(200, self.machine_body(asked))

    def machine_body(self, scopes: tuple[str, ...] = (), lifetime: float = 3600) -> dict[str, Any]:
        self.machine_tokens.append(self.token_text("machine"))
        body: dict[str, Any] = {
            "access_token": self.machine_tokens[-1],
            "token_type": self.kind,
            "expires_in": lifetime,
        }
        return body | ({self.scope_key: self.scope_text(scopes)} if scopes else {})

    exchange_params: ClassVar[Mapping[str, str]] = {}

    def exchanged(self, params: dict[str, Any]) -> Answer:
        """Serve RFC 8693 or RFC 7523 §2.1: check the subject's token and what else this vendor wants."""
        self._wanted(params, self.exchange_params)
        subject = params.get("assertion" if self.exchange == "jwt_bearer" else "subject_token")
        if subject != SUBJECT_TOKEN:
            raise self.turn(Answer(400, {"error": "invalid_grant"}), "not the user's token")
        if self.exchange == "token_exchange" and params.get("subject_token_type") != SUBJECT_TOKEN_TYPE:
            self.complain("no subject_token_type")
        self.split(params.get("scope", ""), self.scopes)
        return Answer(
            200, self.machine_body(self.scopes) | {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        )


JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SUBJECT_TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyIn0."
SUBJECT_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:jwt"


def s256(verifier: str) -> str:
    """RFC 7636 §4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()
