"""The values that OAuth 2.0 requests are made from, and those that answers become."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import Authentication, Descriptor, Outcome

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Client:
    """A client at a vendor, ready to be used: descriptor, credentials, and the values of its variables.

    `auth` and `endpoints` (keys: `authorize`, `token`) replace what the descriptor says, where the provider was given
    its own. `variables` hold operator, issuer and tenant; those of caller, callback and response are added per call.
    `secrets` are those of `[client.secrets]`. `issuer` is the authorization server's identifier, for RFC 9207.
    """

    descriptor: Descriptor
    id: str
    secret: Secret | None
    auth: Authentication | None = None
    endpoints: Mapping[str, str] = _NOTHING
    variables: Mapping[str, str] = _NOTHING
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    issuer: str | None = None

    def with_variables(self, more: Mapping[str, str]) -> "Client":
        """Return the client with more variables. Those that it has already stay as they are."""
        return Client(
            self.descriptor, self.id, self.secret, self.auth, self.endpoints, {**more, **self.variables}, self.secrets,
            self.issuer,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Requested:
    """What a caller of GetResourceOauth2Token asks for, beside the provider."""

    scopes: tuple[str, ...] = ()
    parameters: Mapping[str, str] = _NOTHING
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
    variables: Mapping[str, str] = _NOTHING
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
