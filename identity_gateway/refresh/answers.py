"""What a caller who asks for a fresh grant may hear."""

from dataclasses import dataclass

from identity_gateway.model import Grant
from identity_gateway.protocol.oauth2 import Refused
from identity_gateway.vault import Tokens


@dataclass(frozen=True, slots=True)
class Usable:
    """The tokens live, as far as anybody knows. Only the access token may leave the gateway."""

    grant: Grant
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class ConsentNeeded:
    """The user must consent.

    `reason`: revoked, expired, lost_rotation, superseded, provider_changed, or scope (with those `needed`).
    """

    reason: str
    detail: str = ""
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Nothing was decided. `after` in seconds, if it is known."""

    after: float | None
    refused: Refused


@dataclass(frozen=True, slots=True)
class AdminNeeded:
    """An administrator of the vendor's tenant must act."""

    detail: str


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The client is wrong or disabled at the vendor. The grant is untouched: an operator must act."""

    refused: Refused


Fresh = Usable | ConsentNeeded | RetryLater | AdminNeeded | Misconfigured
