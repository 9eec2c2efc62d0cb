"""Tokens that belong to no consent, kept until shortly before they expire: one mint for all who ask for the same.

They live sealed in the ephemeral store, shared by every replica: losing them costs a mint, never a grant. Callers of
one process wait for one mint; across processes a lease does the same, as an optimisation. This module does not decide
who may have a token: what the key leaves out, everybody shares.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import Answered, Refused
from identity_gateway.sealing import Sealer, Unsealable

_DEFAULT_LIFETIME = 300.0
_LONGEST = 12 * 3600.0
_LEASE = 40.0
_POLL = 0.1
_PATIENCE = 30.0
_FLUSHED = 30 * 86400.0

Mint = Callable[[], Awaitable[Answered | Refused]]


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that is still good, and the scopes it was given, if the vendor said."""

    token: Secret
    scopes: tuple[str, ...] | None
    expires_at: float


class IssuedTokens:
    """The tokens of one account. Times are epoch seconds."""

    def __init__(
        self,
        ephemeral: Ephemeral,
        sealer: Sealer,
        account: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ephemeral = ephemeral
        self._sealer = sealer
        self._account = account
        self._clock = clock
        self._sleep = sleep
        self._owner = secrets.token_hex(16)
        self._minting: dict[str, asyncio.Task[Issued | Refused]] = {}

    async def get(
        self, provider_id: str, key: tuple[str, ...], mint: Mint, *, rejected: str | None = None
    ) -> Issued | Refused:
        """Return the token kept under this key, or mint one. `rejected` is one that the caller saw fail (SHA-256).

        Raises Unavailable when the store does not answer: without it, a token that kills its predecessor could not be
        minted safely.
        """
        name = await self._name(provider_id, key)
        found = await self._kept(name)
        if found is not None and not _is(found.token, rejected):
            return found
        task = self._minting.get(name)
        if task is None:
            task = asyncio.create_task(self._minted_once(name, mint, rejected))
            self._minting[name] = task
            task.add_done_callback(lambda _: self._minting.pop(name, None))
        return await asyncio.shield(task)

    async def flush(self, provider_id: str) -> None:
        """Forget every token of a provider: the vendor said that they are dead."""
        await self._ephemeral.put(self._flushed(provider_id), secrets.token_bytes(8), ttl=_FLUSHED)

    async def _minted_once(self, name: str, mint: Mint, rejected: str | None) -> Issued | Refused:
        lease, deadline = f"{name}:lease", self._clock() + _PATIENCE
        while not await self._ephemeral.acquire(lease, self._owner, ttl=_LEASE):
            await self._sleep(_POLL)
            found = await self._kept(name)
            if found is not None and not _is(found.token, rejected):
                return found
            if self._clock() > deadline:
                return Refused("transient", "busy", "another replica is asking for this token and has not ended")
        try:
            found = await self._kept(name)  # whoever held the lease before may have left one
            if found is not None and not _is(found.token, rejected):
                return found
            return await self._mint(name, mint)
        finally:
            await self._ephemeral.release(lease, self._owner)

    async def _mint(self, name: str, mint: Mint) -> Issued | Refused:
        began = self._clock()
        answered = await mint()
        if isinstance(answered, Refused):
            return answered
        made = answered.credentials[0]
        lifetime = _DEFAULT_LIFETIME if made.lifetime is None else min(made.lifetime, _LONGEST)
        issued = Issued(made.access, made.scopes, began + lifetime)
        content = {"t": made.access.reveal(), "s": made.scopes, "e": issued.expires_at}
        keep_for = lifetime - max(min(60.0, lifetime / 2), 0.05 * lifetime) - (self._clock() - began)
        if keep_for > 0:
            sealed = self._sealer.seal(json.dumps(content).encode(), place=(self._account, name))
            await self._ephemeral.put(name, sealed, ttl=keep_for)
        return issued

    async def _kept(self, name: str) -> Issued | None:
        sealed = await self._ephemeral.get(name)
        if sealed is None:
            return None
        try:
            content = json.loads(self._sealer.open(sealed, place=(self._account, name)))
        except Unsealable:  # another master key: it is minted anew
            return None
        scopes = None if content["s"] is None else tuple(content["s"])
        return Issued(Secret(content["t"]), scopes, content["e"])

    async def _name(self, provider_id: str, key: tuple[str, ...]) -> str:
        """Return the key in the store: a digest, so that neither users nor parameters stand in it."""
        flushed = await self._ephemeral.get(self._flushed(provider_id)) or b""
        digest = sha256()
        for part in (self._account.encode(), flushed, *(each.encode() for each in key)):
            digest.update(len(part).to_bytes(4, "big") + part)
        return f"issued:{self._account}:{digest.hexdigest()}"

    def _flushed(self, provider_id: str) -> str:
        return f"issued-flushed:{self._account}:{provider_id}"


def _is(token: Secret, rejected: str | None) -> bool:
    """Whether the token is the one with this SHA-256 (hexadecimal)."""
    return rejected is not None and secrets.compare_digest(sha256(token.reveal().encode()).hexdigest(), rejected)
