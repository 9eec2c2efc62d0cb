"""What is sent to a vendor, and how the client authenticates. It sends nothing."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from identity_gateway.protocol.descriptor.responses import Issued, Response
from identity_gateway.protocol.descriptor.rules import (
    Authentication,
    Condition,
    Encoding,
    HeaderName,
    Name,
    Parameter,
    Part,
    Path,
    Seconds,
)
from identity_gateway.protocol.descriptor.templates import RESERVED

_CODE = {"grant_type": "authorization_code", "code": "{code}", "redirect_uri": "{redirect_uri}"}
_REFRESH = {"grant_type": "refresh_token", "refresh_token": "{refresh_token}"}


class ClientRules(Part):
    """How this vendor names and authenticates clients.

    `basic_encoding`: `raw` puts id and secret into Basic as they are, `rfc6749` form-encodes them first (§2.3.1).
    `secrets` are secrets beside the client secret that an operator may set, with what each is for. Headers and
    parameters may name them as `{name}`. `private_key_jwt` signs with the one called `private_key`.
    """

    auth: Authentication = "basic"
    basic_encoding: Literal["raw", "rfc6749"] = "raw"
    basic_user: str = "{client_id}"
    basic_password: str = "{client_secret}"  # noqa: S105 - a template
    secrets: Mapping[Name, str] = Field(default_factory=dict)


class ScopeRules(Part):
    """How scopes are written. `response_separators` holds every character that may stand between two in a response.

    `sets` maps a request parameter (for example `user_scope`) to the part whose scopes it names. `always` are scopes
    that every authorization request carries. `compare` says whether granted scopes can be compared with those wanted.
    """

    separator: str = Field(default=" ", min_length=1, max_length=1)
    response_separators: str = Field(default=" ", min_length=1, max_length=4)
    parameter: Parameter = "scope"
    sets: Mapping[Parameter, Name] = Field(default_factory=dict)
    always: tuple[str, ...] = ()
    send_empty: bool = False
    compare: bool = True


class Authorize(Part):
    """The authorization request (RFC 6749 §4.1.1). `caller_params`, if given, are all that callers may add.

    Callers may replace `params` that they may name; they may never name RESERVED. `issuer` is what this vendor sends as
    `iss` (RFC 9207) where the provider was given no issuer of its own. `issuer_required`: the vendor always sends
    `iss`, so that a response without it is refused.
    """

    url: str
    params: Mapping[Parameter, str] = Field(default_factory=dict)
    caller_params: tuple[Parameter, ...] | None = None
    pkce: Literal["S256", "off"] = "S256"
    issuer: str | None = None
    issuer_required: bool = False

    @model_validator(mode="after")
    def _keeps_reserved_names(self) -> Self:
        for name in (*self.params, *(self.caller_params or ())):
            if name in RESERVED:
                raise ValueError(f"{name} is a parameter that only the gateway sets")
        return self


class Endpoint(Part):
    """A request to the vendor. Templates know the variables and what the purpose brings, for example `{code}`.

    `url` may also be the whole of `{token_endpoint}`, `{revocation_endpoint}`, `{introspection_endpoint}` or
    `{userinfo_endpoint}`: what the provider's own configuration or metadata says (RFC 8414); where it says nothing, the
    endpoint is not there. `auth` not given means that of `[client]`. `GET` takes parameters as `query` only. `Accept:
    application/json` is sent unless `headers` say otherwise. `success` must hold beside a 2xx status.
    """

    url: str
    method: Literal["GET", "POST", "DELETE", "PATCH"] = "POST"
    auth: Authentication | None = None
    encoding: Encoding = "form"
    headers: Mapping[HeaderName, str] = Field(default_factory=dict)
    params: Mapping[Parameter, str] = Field(default_factory=dict)
    success: tuple[Condition, ...] = ()


class TokenEndpoint(Endpoint):
    """The exchange of an authorization code (RFC 6749 §4.1.3). `code_verifier` is added when PKCE is on."""

    params: Mapping[Parameter, str] = Field(default_factory=lambda: dict(_CODE))
    response: Response = Field(default_factory=Response)


class RefreshPolicy(Part):
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


class Refresh(Part):
    """Refreshing (RFC 6749 §6). Where nothing is said, the token endpoint's words count, `headers` and `success` too.

    `how`: `refresh_token`, `access_token` (a living access token is exchanged for a longer one), or `never`.
    """

    how: Literal["refresh_token", "access_token", "never"] = "refresh_token"
    url: str | None = None
    method: Literal["GET", "POST"] = "POST"
    auth: Authentication | None = None
    encoding: Encoding | None = None
    params: Mapping[Parameter, str] = Field(default_factory=lambda: dict(_REFRESH))
    send_scope: bool = False
    issued: tuple[Issued, ...] = ()
    policy: RefreshPolicy = Field(default_factory=RefreshPolicy)


class Revoke(Endpoint):
    """One way to take a grant back at the vendor; they are tried in their order. `effect` is what it ends.

    `token`: this token; `grant`: its refresh token and all its access tokens; `user_client`: everything that this user
    gave this client, other grants included; `installation`: everything of the vendor's account. `{token}` is the token
    that `needs` names; an entry whose token the grant does not have is left out.
    """

    effect: Literal["token", "grant", "user_client", "installation"] = "grant"
    needs: Literal["access_token", "refresh_token"] = "access_token"


class Introspect(Endpoint):
    """Asking whether a token lives. `active` must hold for one that does."""

    active: tuple[Condition, ...] = Field(min_length=1)


class UserInfo(Endpoint):
    """Whose account a token opens, when the token response does not say."""

    method: Literal["GET", "POST", "DELETE", "PATCH"] = "GET"
    auth: Authentication | None = "bearer_token"
    account: Path | None = None
    subject: Path
    label: Path | None = None


class Assertion(Part):
    """A JWT that the client signs with its private key, as credential or as grant (RFC 7523).

    `claims` are texts, `headers` go beside `alg` and `typ`; `iat` and `exp` come from the clock, `backdate` and
    `lifetime`. A claim may name `{jti}`, a fresh random value. `clock_skew`: a refusal for which all of these hold says
    that the times were off; then it is signed once more by the clock of the answer's Date header.
    """

    algorithm: Literal["RS256", "PS256", "ES256"] = "RS256"
    key: Name
    headers: Mapping[Name, str] = Field(default_factory=dict)
    claims: Mapping[Name, str] = Field(default_factory=dict)
    backdate: Seconds = 0
    lifetime: Seconds = 300
    clock_skew: tuple[Condition, ...] = ()

    @model_validator(mode="after")
    def _keeps_what_the_gateway_sets(self) -> Self:
        taken = [name for name in self.headers if name in {"alg", "typ"}]
        taken += [name for name in self.claims if name in {"iat", "exp", "nbf"}]
        if taken:
            raise ValueError(f"{taken[0]} is set by the gateway")
        return self


class Machine(Endpoint):
    """A credential for the agent itself. The first entry whose `needs` were all given by the caller is taken.

    `narrow` names customParameters that go into the JSON body as `strings`, `integers` or an `object`, to ask for less;
    then callers may name nothing else. `caller_params`, if given, are all that callers may add as they are.
    `one_per_client`: a new token kills the one before, so that the whole deployment must share one.
    """

    name: Name
    needs: tuple[Name, ...] = ()
    send_scope: bool = True
    narrow: Mapping[Name, Literal["strings", "integers", "object"]] = Field(default_factory=dict)
    caller_params: tuple[Parameter, ...] | None = None
    one_per_client: bool = False
    assertion: Assertion | None = None
    response: Response | None = None

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.narrow and self.encoding != "json":
            raise ValueError('narrow needs encoding = "json"')
        if self.narrow and self.caller_params is not None:
            raise ValueError("narrow is all that callers may name: leave caller_params out")
        for name in self.caller_params or ():
            if name in RESERVED:
                raise ValueError(f"{name} is a parameter that only the gateway sets")
        return self


class Exchange(Part):
    """On behalf of a user: `token_exchange` (RFC 8693) or `jwt_bearer` (RFC 7523). `params` are added."""

    grant: Literal["token_exchange", "jwt_bearer"]
    params: Mapping[Parameter, str] = Field(default_factory=dict)


class ApiKey(Part):
    """How an API key of this vendor is sent, and what one looks like. `prefixes` are also redacted from logs."""

    headers: Mapping[HeaderName, str] = Field(min_length=1)
    prefixes: tuple[str, ...] = ()
