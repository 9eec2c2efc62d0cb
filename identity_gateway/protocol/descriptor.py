"""What a file in `providers/outbound/` may say: a vendor as data.

Requests are data (method, URL, authentication, encoding, parameters) and so are responses (format, paths, rules). There
are no expressions beyond `{name}` and no code. Unknown keys, unknown placeholders and URLs that lead away from `hosts`
are errors that name the key. What the words do is in `protocol.oauth2`; what they mean is explained in
`providers/README.md`. This module reads no file.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
RESERVED = frozenset(
    {
        *("client_id", "client_secret", "client_assertion", "client_assertion_type", "redirect_uri", "response_type"),
        *("state", "nonce", "code", "code_verifier", "code_challenge", "code_challenge_method", "grant_type"),
        *("request", "request_uri", "refresh_token", "access_token", "assertion"),
        *("subject_token", "subject_token_type", "actor_token", "actor_token_type"),
    }
)
"""Parameters that the gateway alone sets: neither callers nor `[authorize.params]` may name them."""

Path = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
"""Where a value stands in a JSON object: names joined by dots."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Parameter = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\[\]-]{1,128}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Host = Annotated[str, Field(pattern=r"^(\*\.)?([a-z0-9-]+\.)+[a-z]{2,}$|^\{issuer\}$")]
Seconds = Annotated[int, Field(ge=0, le=10 * 366 * 86400)]

Purpose = Literal["token", "refresh", "machine", "exchange", "revoke", "introspect", "userinfo"]
Outcome = Literal["dead_grant", "step_up", "restart", "operator_config", "admin_block", "transient", "ambiguous"]
Authentication = Literal["basic", "post", "none", "private_key_jwt", "bearer_token", "bearer_assertion"]
Encoding = Literal["form", "json", "query"]
ExpiresUnit = Literal["seconds", "milliseconds", "epoch", "epoch_milliseconds", "iso8601"]


class DescriptorError(ValueError):
    """A descriptor is wrong. The text names the file and the key."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Condition(_Part):
    """One test of a response or of a webhook's body: the value at `path`, or a header. Exactly one comparison."""

    path: Path | None = None
    header: HeaderName | None = None
    equals: str | int | bool | None = None
    one_of: tuple[str | int, ...] = ()
    matches: str | None = None
    present: bool | None = None

    @model_validator(mode="after")
    def _is_one_test(self) -> Self:
        if (self.path is None) == (self.header is None):
            raise ValueError("name either a path or a header")
        given = [self.equals is not None, bool(self.one_of), self.matches is not None, self.present is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of equals, one_of, matches and present")
        if self.matches is not None:
            _compiled(self.matches)
        return self


class ErrorRule(_Part):
    """What an answer means. Rules are tried in their order; the first that fits decides.

    `on` empty means every purpose; `status` empty means every status. Answers that no rule fits are read by RFC 6749
    §5.2, and an unknown refusal is never a dead grant.
    """

    on: tuple[Purpose, ...] = ()
    status: tuple[int, ...] = ()
    when: tuple[Condition, ...] = ()
    outcome: Outcome
    advice: str = ""

    @model_validator(mode="after")
    def _fits_something(self) -> Self:
        if not self.status and not self.when:
            raise ValueError("a rule without status and when would fit everything")
        return self


class Variable(_Part):
    """A part of URLs and parameters that is not the same for everybody.

    `source`: `operator` (a setting of the provider), `issuer` (the provider's `issuer`), `tenant` (its `tenantId`),
    `caller` (customParameters of the call), `callback` (a parameter of the vendor's redirect), `response` (a path of
    the token response, kept with the grant). `from` names the parameter or path; `pattern` must match in full.
    """

    source: Literal["operator", "issuer", "tenant", "caller", "callback", "response"]
    origin: str | None = Field(default=None, alias="from")
    default: str | None = None
    pattern: str
    description: str = Field(min_length=1)

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Self:
        _compiled(self.pattern)
        if self.default is not None and not re.fullmatch(self.pattern, self.default, re.ASCII):
            raise ValueError("the default does not match the pattern")
        if self.source in {"callback", "response"} and self.origin is None:
            raise ValueError(f"a variable from the {self.source} needs `from`")
        return self


class AgentCore(_Part):
    """How AWS names the vendor: `credentialProviderVendor`, and the member of the configuration union."""

    vendor: str = Field(pattern=r"^[A-Za-z0-9]{1,40}Oauth2$")
    config: str = Field(default="includedOauth2ProviderConfig", pattern=r"^[a-z][A-Za-z0-9]*Oauth2ProviderConfig$")


class ClientRules(_Part):
    """How this vendor names and authenticates clients.

    `basic_encoding`: `raw` puts id and secret into Basic as they are, `rfc6749` form-encodes them first (§2.3.1).
    `secrets` are secrets beside the client secret that an operator may set, with what each is for.
    """

    auth: Authentication = "basic"
    basic_encoding: Literal["raw", "rfc6749"] = "raw"
    basic_user: str = "{client_id}"
    basic_password: str = "{client_secret}"  # noqa: S105 - a template
    secrets: Mapping[Name, str] = Field(default_factory=dict)


class ScopeRules(_Part):
    """How scopes are written. `response_separators` holds every character that may stand between two in a response.

    `sets` maps a request parameter (for example `user_scope`) to the part whose scopes it names. `always` are scopes
    that every request carries. `compare` says whether granted scopes can be compared with those asked for.
    """

    separator: str = Field(default=" ", min_length=1, max_length=1)
    response_separators: str = Field(default=" ", min_length=1, max_length=4)
    parameter: Parameter = "scope"
    sets: Mapping[Parameter, Name] = Field(default_factory=dict)
    always: tuple[str, ...] = ()
    send_empty: bool = False
    compare: bool = True


class Authorize(_Part):
    """The authorization request (RFC 6749 §4.1.1). `caller_params`, if given, are all that callers may add.

    `lifetime` is how long the vendor's code can be exchanged. `issuer_required`: the vendor always sends `iss` (RFC
    9207), so that a response without it is refused.
    """

    url: str
    params: Mapping[Parameter, str] = Field(default_factory=dict)
    caller_params: tuple[Parameter, ...] | None = None
    pkce: Literal["S256", "off"] = "S256"
    issuer_required: bool = False

    @model_validator(mode="after")
    def _keeps_reserved_names(self) -> Self:
        for name in (*self.params, *(self.caller_params or ())):
            if name in RESERVED:
                raise ValueError(f"{name} is a parameter that only the gateway sets")
        return self


class Endpoint(_Part):
    """A request to the vendor. Templates know the variables and what the purpose brings, for example `{code}`."""

    url: str
    method: Literal["GET", "POST", "DELETE", "PATCH"] = "POST"
    auth: Authentication | None = None
    encoding: Encoding = "form"
    headers: Mapping[HeaderName, str] = Field(default_factory=dict)
    params: Mapping[Parameter, str] = Field(default_factory=dict)
    success: tuple[Condition, ...] = ()


class Issued(_Part):
    """Where one credential of a response stands. It is there when `access` is; `kind_is` must be what `kind` says."""

    name: Name = "default"
    access: Path = "access_token"
    refresh: Path = "refresh_token"
    expires: Path = "expires_in"
    refresh_expires: Path = "refresh_token_expires_in"
    scope: Path = "scope"
    kind: Path = "token_type"
    kind_is: str | None = None
    subject: Path | None = None


class Response(_Part):
    """How a token response is read. `account`, `subject` and `label` take the first path that holds a value."""

    format: Literal["auto", "json", "form"] = "auto"
    issued: tuple[Issued, ...] = Field(default=(Issued(),), min_length=1)
    expires_unit: ExpiresUnit = "seconds"
    default_lifetime: Seconds | None = None
    account: tuple[Path, ...] = ()
    subject: tuple[Path, ...] = ()
    label: tuple[Path, ...] = ()
    secrets: Mapping[Name, Path] = Field(default_factory=dict)
    error: tuple[Path, ...] = ("error",)
    error_description: tuple[Path, ...] = ("error_description",)
    retry_after: HeaderName = "Retry-After"


class TokenEndpoint(Endpoint):
    """The exchange of an authorization code (RFC 6749 §4.1.3)."""

    response: Response = Field(default_factory=Response)


class RefreshPolicy(_Part):
    """What using a refresh token does at this vendor. The defaults are the careful ones.

    `single_use`: it is spent by its use. `leeway`: seconds in which a spent one may be used again.
    `reuse_revokes_family`: using a spent one later kills what replaced it. `kills_old_access`: the old access token
    dies at once. `margin`: seconds before expiry at which a refresh begins (half the lifetime at most). `keepalive`:
    seconds after which an idle grant is refreshed to stay alive. `lifetime`: of a refresh token, when no answer says.
    """

    single_use: bool = True
    leeway: Seconds = 0
    reuse_revokes_family: bool = False
    kills_old_access: bool = False
    margin: Seconds = 300
    keepalive: Seconds | None = None
    lifetime: Seconds | None = None


class Refresh(_Part):
    """Refreshing (RFC 6749 §6). Where nothing is said, the token endpoint's words count.

    `how`: `refresh_token`, `access_token` (a living access token is exchanged for a longer one), or `never`.
    """

    how: Literal["refresh_token", "access_token", "never"] = "refresh_token"
    url: str | None = None
    method: Literal["GET", "POST"] = "POST"
    auth: Authentication | None = None
    encoding: Encoding | None = None
    params: Mapping[Parameter, str] = Field(
        default_factory=lambda: {"grant_type": "refresh_token", "refresh_token": "{refresh_token}"}
    )
    send_scope: bool = False
    issued: tuple[Issued, ...] = ()
    policy: RefreshPolicy = Field(default_factory=RefreshPolicy)


class Revoke(Endpoint):
    """One way to take a grant back at the vendor; they are tried in their order. `effect` is what it ends.

    `token`: this token; `grant`: its refresh token and all its access tokens; `user_client`: everything that this user
    gave this client, other grants included; `installation`: everything of the vendor's account.
    """

    effect: Literal["token", "grant", "user_client", "installation"] = "grant"
    needs: Literal["access_token", "refresh_token"] = "access_token"


class Introspect(Endpoint):
    """Asking whether a token lives. `active` must hold for one that does."""

    active: tuple[Condition, ...] = Field(min_length=1)
    expires: Path | None = None
    expires_unit: ExpiresUnit = "epoch"


class UserInfo(Endpoint):
    """Whose account a token opens, when the token response does not say."""

    method: Literal["GET", "POST", "DELETE", "PATCH"] = "GET"
    auth: Authentication | None = "bearer_token"
    account: Path | None = None
    subject: Path
    label: Path | None = None


class Assertion(_Part):
    """A JWT that the client signs with its private key, as credential or as grant (RFC 7523)."""

    algorithm: Literal["RS256", "PS256", "ES256"] = "RS256"
    key: Name
    claims: Mapping[Name, str] = Field(default_factory=dict)
    backdate: Seconds = 0
    lifetime: Seconds = 300


class Machine(Endpoint):
    """A credential for the agent itself. The first entry whose `needs` were all given by the caller is taken.

    `narrow` names customParameters that go into the JSON body as `strings`, `integers` or an `object`, to ask for less.
    `one_per_client`: a new token kills the one before, so that the whole deployment must share one.
    """

    name: Name
    needs: tuple[Name, ...] = ()
    send_scope: bool = True
    narrow: Mapping[Name, Literal["strings", "integers", "object"]] = Field(default_factory=dict)
    one_per_client: bool = False
    assertion: Assertion | None = None
    response: Response | None = None


class Exchange(_Part):
    """On behalf of a user: `token_exchange` (RFC 8693) or `jwt_bearer` (RFC 7523). `params` are added."""

    grant: Literal["token_exchange", "jwt_bearer"]
    params: Mapping[Parameter, str] = Field(default_factory=dict)


class ApiKey(_Part):
    """How an API key of this vendor is sent, and what one looks like. `prefixes` are also redacted from logs."""

    headers: Mapping[HeaderName, str] = Field(min_length=1)
    prefixes: tuple[str, ...] = ()


class Signature(_Part):
    """How the vendor signs webhooks: HMAC-SHA256 in hexadecimal over `base`.

    `base` knows `{timestamp}` and `{body}`. `secret` is one of `[client.secrets]`. `max_skew` in seconds.
    """

    header: HeaderName
    prefix: str = ""
    base: str = "{body}"
    secret: Name
    timestamp_header: HeaderName | None = None
    max_skew: Seconds = 300


class Challenge(_Part):
    """The question by which a vendor checks a webhook's URL. `answer` knows `{value}` (at `path`) and `{hmac}`."""

    when: Condition
    path: Path
    answer: Mapping[str, str] = Field(min_length=1)


class Effect(_Part):
    """What an event does. A path may lead to a list.

    `revoke` ends the grants of `account` and, if named, of `subject` and `part`; `flush` forgets the machine tokens of
    this provider.
    """

    when: tuple[Condition, ...] = Field(min_length=1)
    action: Literal["revoke", "flush"]
    account: Path | None = None
    subject: Path | None = None
    part: Name | None = None

    @model_validator(mode="after")
    def _names_whom(self) -> Self:
        if self.action == "revoke" and self.account is None and self.subject is None:
            raise ValueError("revoke whose grants? name account or subject")
        return self


class Signals(_Part):
    """Webhooks of the vendor. `deduplicate` is a header or, with a leading dot, a path whose value comes once."""

    signature: Signature
    challenge: Challenge | None = None
    deduplicate: str
    effects: tuple[Effect, ...] = Field(min_length=1)


class Descriptor(_Part):
    """A vendor."""

    version: Literal[1] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    name: str = Field(min_length=1, max_length=60)
    verified: date
    sources: tuple[str, ...] = Field(min_length=1)
    hosts: tuple[Host, ...] = Field(min_length=1)
    token_prefixes: tuple[str, ...] = ()
    agentcore: AgentCore
    variables: Mapping[Name, Variable] = Field(default_factory=dict)
    client: ClientRules = Field(default_factory=ClientRules)
    scopes: ScopeRules = Field(default_factory=ScopeRules)
    authorize: Authorize | None = None
    token: TokenEndpoint
    refresh: Refresh = Field(default_factory=Refresh)
    reconsent_supersedes: bool = False
    max_grants_per_user: int | None = Field(default=None, ge=1)
    revoke: tuple[Revoke, ...] = ()
    introspect: Introspect | None = None
    userinfo: UserInfo | None = None
    machine: tuple[Machine, ...] = ()
    exchange: Exchange | None = None
    errors: tuple[ErrorRule, ...] = ()
    api_key: ApiKey | None = None
    signals: Signals | None = None

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        known_parts = {issued.name for issued in self.token.response.issued}
        for part in (*self.scopes.sets.values(), *(issued.name for issued in self.refresh.issued)):
            if part not in known_parts:
                raise ValueError(f"{part} is no credential that token.response.issued names")
        for machine in self.machine:
            if machine.assertion is not None and machine.assertion.key not in self.client.secrets:
                raise ValueError(f"machine {machine.name} signs with {machine.assertion.key}, not in client.secrets")
        if self.signals is not None and self.signals.signature.secret not in self.client.secrets:
            raise ValueError(f"signals are signed with {self.signals.signature.secret}, not in client.secrets")
        for key, url in self.urls():
            self._check_url(key, url)
        return self

    def urls(self) -> Iterator[tuple[str, str]]:
        """Yield every URL template with the key that it stands at."""
        if self.authorize is not None:
            yield "authorize.url", self.authorize.url
        yield "token.url", self.token.url
        if self.refresh.url is not None:
            yield "refresh.url", self.refresh.url
        for key in ("introspect", "userinfo"):
            endpoint = getattr(self, key)
            if endpoint is not None:
                yield f"{key}.url", endpoint.url
        for key in ("revoke", "machine"):
            for index, endpoint in enumerate(getattr(self, key)):
                yield f"{key}.{index}.url", endpoint.url

    def _check_url(self, key: str, url: str) -> None:
        if url.startswith("{issuer}"):
            if "issuer" not in self.variables:
                raise ValueError(f"{key} begins with {{issuer}}, which no variable declares")
            return
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
            raise ValueError(f"{key} is not an https URL")
        host = parts.netloc
        unknown = [name for name in PLACEHOLDER.findall(host) if name not in self.variables]
        if unknown:
            raise ValueError(f"{key}: no variable declares {unknown[0]}")
        if "{" not in host and not self.may_receive(host):
            raise ValueError(f"{key} leads to {host}, which `hosts` does not name")

    def may_receive(self, host: str) -> bool:
        """Say whether a credential of this vendor may be sent to the host (lower case, without a port)."""
        return any(host == rule or (rule.startswith("*.") and host.endswith(rule[1:])) for rule in self.hosts)


def parse(document: Mapping[str, Any], *, file: str) -> Descriptor:
    """Return the descriptor that a parsed TOML document holds. Raises DescriptorError naming file and key.

    Does not check that the vendor exists or behaves as described.
    """
    try:
        return Descriptor.model_validate(_tuples(document))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise DescriptorError("\n".join(f"{file}: {_key(fault['loc'])}: {fault['msg']}" for fault in faults)) from None


def _key(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location) or "whole file"


def _tuples(value: Any) -> Any:
    """Turn lists into tuples: strict validation takes no list for one, and a descriptor does not change."""
    if isinstance(value, Mapping):
        return {key: _tuples(each) for key, each in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(each) for each in value)
    return value


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.ASCII)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
