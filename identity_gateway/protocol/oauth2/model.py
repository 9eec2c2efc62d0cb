"""The values that OAuth 2.0 requests are made from, and those that answers become."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import Authentication, Descriptor, Outcome

SigningAlgorithm = Literal["RS256", "PS256", "ES256"]


@dataclass(frozen=True, slots=True)
class PrivateKeyJwt:
    """How a client signs its assertions where the provider's own configuration says so (`privateKeyJwtConfig`).

    The key is the secret called `secret` (PEM), or with `kms_key` (an ARN) a key that never leaves its service.
    `headers` may not name `alg` and `typ`; of the claims that the gateway sets, `claims` may replace `aud` only.
    """

    algorithm: SigningAlgorithm = "RS256"
    secret: str = "private_key"  # noqa: S105 - a name
    kms_key: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Client:
    """A client at a vendor, ready to be used: descriptor, credentials, and the values of its variables.

    `auth` and `endpoints` (keys: `authorize`, `token`) replace what the descriptor says, where the provider was given
    its own; further keys (`revoke`, `introspect`, `userinfo`) are what `{revocation_endpoint}` and the like stand for.
    `variables` hold operator, issuer and tenant; those of caller, callback and response are added per call.
    `secrets` are those of `[client.secrets]`. `issuer` is the authorization server's identifier, for RFC 9207.
    `private_key_jwt` is the provider's own way to sign; without it the secret `private_key` signs with RS256.
    `public_only`: its requests must not reach networks that are not public, though the operator allows them.
    `recipient` stands for the client and its server: what one gave is not for another. Empty: it is not known.
    """

    descriptor: Descriptor
    id: str
    secret: Secret | None
    auth: Authentication | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    issuer: str | None = None
    private_key_jwt: PrivateKeyJwt | None = None
    public_only: bool = False
    recipient: str = ""

    def with_variables(self, more: Mapping[str, str]) -> "Client":
        """Return the client with more variables. Those that it has already stay as they are."""
        return replace(self, variables={**more, **self.variables})


@dataclass(frozen=True, slots=True)
class Requested:
    """What a caller of GetResourceOauth2Token asks for, beside the provider."""

    scopes: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    resources: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to a vendor. Everything but method and URL may hold secrets; the URL never does."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A JWT before its signature: what to sign, and with which of the client's keys (see PrivateKeyJwt)."""

    algorithm: SigningAlgorithm
    secret: str
    kms_key: str | None
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Assertion:
    """Signed JWTs of one request: `client` proves who asks (RFC 7523 §2.2), `grant` is what is asked with."""

    client: Secret | None = None
    grant: Secret | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """What the vendor's redirect said: a code or an error, never both. `variables` passed their patterns."""

    code: Secret | None
    error: str = ""
    error_description: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential of a response. Lifetimes in seconds from the moment the request began; None: never said.

    `refresh` is None when the response held none (missing, null or empty): then the old one stays. `scopes` is None
    when the response did not say, which means: as asked (RFC 6749 §5.1).
    """

    part: str
    access: Secret
    refresh: Secret | None
    lifetime: float | None
    refresh_lifetime: float | None
    scopes: tuple[str, ...] | None
    kind: str
    subject: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A success. `account` and `label` say whose account it is; `variables` are what the descriptor keeps of it.

    `secrets` are other secrets of the answer that are kept sealed (a webhook URL for instance).
    """

    credentials: tuple[Credential, ...]
    account: str = ""
    subject: str = ""
    label: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """Anything but a success, and what it means. `code` and `description` are the vendor's own words, cut and cleaned.

    `retry_after` in seconds, if the vendor said when. `needed` are scopes that the vendor misses (step-up).
    """

    outcome: Outcome
    code: str
    description: str = ""
    advice: str = ""
    retry_after: float | None = None
    status: int = 0
    needed: tuple[str, ...] = ()
