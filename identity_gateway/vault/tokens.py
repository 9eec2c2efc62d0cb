"""What a grant holds sealed, when it ends, and how it stands.

Seals nothing and keeps nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from identity_gateway.model import Grant, GrantState, Secret
from identity_gateway.protocol.oauth2 import Credential

Seal = Callable[[bytes], bytes]


class Envelope(Protocol):
    """What the vault needs of `envelope.Envelope`. `open` raises Unsealable; all raise Unavailable."""

    async def seal(self, plaintext: bytes, *, place: tuple[str, ...]) -> bytes:
        """Seal for one place."""
        ...

    async def open(self, sealed: bytes, *, place: tuple[str, ...]) -> bytes:
        """Open what was sealed for this place."""
        ...

    def opener(self, sealed: bytes, *, place: tuple[str, ...]) -> Callable[[], bytes | None]:
        """Return what opens this at once, as often as it is called, or returns None where that takes waiting."""
        ...

    async def prepare(self, *, place: tuple[str, ...]) -> Seal:
        """Return what seals for this place later, without any service."""
        ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a grant holds sealed. `kind` is the vendor's word for the token; `variables` belong into its URLs."""

    access: Secret
    refresh: Secret | None
    kind: str
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    def renewed(self, credential: Credential, variables: Mapping[str, str], more: Mapping[str, Secret]) -> "Tokens":
        """Return what a refresh makes of them: an answer without a refresh token keeps the old one."""
        return Tokens(
            credential.access,
            credential.refresh or self.refresh,
            credential.kind or self.kind,
            {**self.variables, **variables},
            {**self.secrets, **more},
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """What keeps the answer to a refresh without any key service: it is made before the old refresh token is spent.

    `before` are the tokens as they are, `rotated` seals the next generation, `spilled` what is
    kept elsewhere until that is stored.
    """

    before: Tokens
    rotated: Seal = field(repr=False)
    spilled: Seal = field(repr=False)


def plaintext(tokens: Tokens) -> bytes:
    """Return the JSON that is sealed."""
    document = {
        "access": tokens.access.reveal(),
        "refresh": None if tokens.refresh is None else tokens.refresh.reveal(),
        "kind": tokens.kind,
        "variables": dict(tokens.variables),
        "secrets": {name: secret.reveal() for name, secret in tokens.secrets.items()},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def tokens_of(content: bytes) -> Tokens:
    """Return the tokens that `plaintext` wrote."""
    document: dict[str, Any] = json.loads(content)
    refresh = document["refresh"]
    return Tokens(
        Secret(document["access"]),
        None if refresh is None else Secret(refresh),
        document["kind"],
        document["variables"],
        {name: Secret(value) for name, value in document["secrets"].items()},
    )


def access_of(content: bytes) -> Secret:
    """Return the access token alone."""
    return Secret(json.loads(content)["access"])


def refresh_expiry(
    credential: Credential, began: float, otherwise: float | None, before: datetime | None
) -> datetime | None:
    """Return when the refresh token ends. `otherwise` (seconds) counts when the answer does not say."""
    if credential.refresh_lifetime is not None:
        return later(began, credential.refresh_lifetime)
    # An old refresh token that stays keeps its end; a new one lives as long as the vendor's descriptor says.
    return before if credential.refresh is None else later(began, otherwise)


def settled(grant: Grant, state: GrantState, reason: str, now: datetime) -> Grant:
    """Return the grant in another state, with no refresh under way. Its tokens stay."""
    return replace(
        grant, state=state, reason=reason, intent_owner=None, intent_at=None, intent_digest=None, updated_at=now
    )


def time_of(seconds: float) -> datetime:
    """Return the time that lies this many seconds after the epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def later(began: float, seconds: float | None) -> datetime | None:
    """Return the time this many seconds after another one, if any."""
    return None if seconds is None else time_of(began) + timedelta(seconds=seconds)
