"""Tokens that belong to no consent, kept until shortly before they expire: one mint for all who ask for the same.

They live sealed in the ephemeral store, shared by every replica: losing them costs a mint, never a grant. Callers of
one process wait for one mint; across processes a lease does the same, as an optimisation. This module does not decide
who may have a token: what the key leaves out, everybody shares.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import Unavailable
from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import Answered, Refused
from identity_gateway.records.changes import OWN_LONGEST, Changes, Watch
from identity_gateway.sealing import Sealer, Unsealable

_DEFAULT_LIFETIME = 300.0
_LONGEST = 12 * 3600.0
_LEASE = 40.0
_POLL = 0.1
_PATIENCE = 30.0

FORCED_EVERY = 30.0
"""Seconds in which a token that a caller saw rejected is not replaced again: where a new token kills the old one, a
caller who repeats itself would take everybody's away."""

Mint = Callable[[], Awaitable[Answered | Refused]]

_CHANGED = "issued-token"
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that is still good, and the scopes it was given, if the vendor said. Times are epoch seconds."""

    token: Secret
    scopes: tuple[str, ...] | None
    minted_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A token as it lies in the store until `until` (epoch seconds).

    `reveal` opens it anew, or returns None when its key is gone. While the `watch` holds, the store would give it
    again; without one, nobody knows.
    """

    issued: Issued
    reveal: Callable[[], Secret | None]
    until: float
    watch: Watch | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a caller asks the store for: under which name, made after when, and not the one with this SHA-256."""

    name: str
    flushed_at: float
    rejected: str | None


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
        changes: Changes | None = None,
    ) -> None:
        self._changes = changes
        self._seen: dict[str, tuple[Watch, bytes]] = {}
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

        A rejected token that is younger than FORCED_EVERY is `transient` (`just_issued`). What the mint refuses is not
        kept. Raises what the mint raises, and Unavailable when the store does not answer: without it, a token that
        kills its predecessor could not be minted safely.
        """
        name = self._name(key)
        wanted = _Wanted(name, await self._flushed_at(provider_id), rejected)
        answer = self._answer(await self._kept(wanted), rejected)
        if answer is not None:
            return answer
        task = self._minting.get(name)
        if task is not None:
            joined = await asyncio.shield(task)
            answer = joined if isinstance(joined, Refused) else self._answer(joined, rejected)
            if answer is not None:
                return answer
            task = self._minting.get(name)  # it began for callers who had not seen this token rejected
        if task is None:
            task = asyncio.create_task(self._minted_once(wanted, mint))
            self._minting[name] = task
            task.add_done_callback(lambda done: self._minted(name, done))
        return await asyncio.shield(task)

    async def find(self, provider_id: str, key: tuple[str, ...]) -> KeptToken | None:
        """Return the token kept under this key, or None. Mints nothing. Raises Unavailable.

        What the store said is used again until somebody changes it, where all who may do so are on this machine.
        """
        name = self._name(key)
        watch, sealed = self._seen.get(name, (None, None))
        if watch is None or sealed is None or not watch.is_fresh(time.monotonic()):
            watch = self._watch(name, provider_id)
            flushed_at = await self._flushed_at(provider_id)
            sealed = await self._ephemeral.get(name)
            issued = self._opened(name, sealed)
            if sealed is None or issued is None or issued.minted_at <= flushed_at:
                self._seen.pop(name, None)
                return None
            if watch is not None:
                self._seen[name] = watch, sealed
                if len(self._seen) > _REMEMBERED:
                    del self._seen[next(iter(self._seen))]
        else:
            issued = self._opened(name, sealed)
        return None if issued is None else self._kept_token(name, sealed, issued, watch)

    def _kept_token(self, name: str, sealed: bytes, issued: Issued, watch: Watch | None) -> KeptToken | None:
        def reveal() -> Secret | None:
            opened = self._opened(name, sealed)
            return None if opened is None else opened.token

        until = issued.expires_at - _margin(issued.expires_at - issued.minted_at)
        return KeptToken(issued, reveal, until, watch) if self._clock() < until else None

    def _watch(self, name: str, provider_id: str) -> Watch | None:
        """Return what holds until one of the two entries changes; None where another machine may change them."""
        if self._changes is None or self._changes.longest < OWN_LONGEST:
            return None
        return self._changes.watch((_CHANGED, name), (_CHANGED, self._flushed(provider_id)))

    def _note(self, name: str) -> None:
        if self._changes is not None:
            self._changes.note([(_CHANGED, name)])

    async def flush(self, provider_id: str) -> None:
        """Forget every token of a provider: the vendor said that they are dead."""
        name = self._flushed(provider_id)
        try:
            await self._ephemeral.put(name, repr(self._clock()).encode(), ttl=_LONGEST)
        finally:
            self._note(name)

    def _minted(self, name: str, done: "asyncio.Task[Issued | Refused]") -> None:
        del self._minting[name]
        if not done.cancelled():
            done.exception()  # if every caller has gone, nobody else looks at it

    async def _minted_once(self, wanted: _Wanted, mint: Mint) -> Issued | Refused:
        name, rejected = wanted.name, wanted.rejected
        lease, deadline = f"{name}:lease", self._clock() + _PATIENCE
        while not await self._ephemeral.acquire(lease, self._owner, ttl=_LEASE):
            await self._sleep(_POLL)
            answer = self._answer(await self._kept(wanted), rejected)
            if answer is not None:
                return answer
            if self._clock() > deadline:
                return Refused("transient", "busy", "another replica is asking for this token and has not ended")
        try:
            answer = self._answer(await self._kept(wanted), rejected)  # whoever held the lease may have left one
            return answer or await self._mint(name, mint)
        finally:
            with contextlib.suppress(Unavailable):  # the token is there, and the lease ends by itself
                await self._ephemeral.release(lease, self._owner)

    def _answer(self, found: Issued | None, rejected: str | None) -> Issued | Refused | None:
        """Return the token if it may be handed out; a refusal if it may not, but is too young to replace; or None."""
        if found is None or not _is(found.token, rejected):
            return found
        rest = found.minted_at + FORCED_EVERY - self._clock()
        if rest <= 0:
            return None
        said = "the rejected token was issued only seconds ago, and some vendors need time to spread a token"
        return Refused("transient", "just_issued", said, retry_after=rest)

    async def _mint(self, name: str, mint: Mint) -> Issued | Refused:
        began = self._clock()
        answered = await mint()
        if isinstance(answered, Refused):
            return answered
        made = answered.credentials[0]
        lifetime = _DEFAULT_LIFETIME if made.lifetime is None else min(made.lifetime, _LONGEST)
        issued = Issued(made.access, made.scopes, began, began + lifetime)
        content = {"t": made.access.reveal(), "s": made.scopes, "b": began, "e": issued.expires_at}
        keep_for = lifetime - _margin(lifetime) - (self._clock() - began)
        if keep_for > 0:
            sealed = self._sealer.seal(json.dumps(content).encode(), place=(self._account, name))
            try:
                await self._ephemeral.put(name, sealed, ttl=keep_for)
            finally:
                self._note(name)
        return issued

    async def _kept(self, wanted: _Wanted) -> Issued | None:
        issued = self._opened(wanted.name, await self._ephemeral.get(wanted.name))
        return None if issued is None or issued.minted_at <= wanted.flushed_at else issued

    def _opened(self, name: str, sealed: bytes | None) -> Issued | None:
        if sealed is None:
            return None
        try:
            content = json.loads(self._sealer.open(sealed, place=(self._account, name)))
        except Unsealable:  # another master key: it is minted anew
            return None
        scopes = None if content["s"] is None else tuple(content["s"])
        return Issued(Secret(content["t"]), scopes, content["b"], content["e"])

    def _name(self, key: tuple[str, ...]) -> str:
        """Return the key in the store: a digest, so that neither users nor parameters stand in it."""
        digest = sha256()
        for part in (self._account.encode(), *(each.encode(errors="surrogatepass") for each in key)):
            digest.update(len(part).to_bytes(4, "big") + part)
        return f"issued:{self._account}:{digest.hexdigest()}"

    async def _flushed_at(self, provider_id: str) -> float:
        """Return when the vendor of this provider last said that its tokens are dead, in epoch seconds."""
        return float(await self._ephemeral.get(self._flushed(provider_id)) or b"-inf")

    def _flushed(self, provider_id: str) -> str:
        return f"issued-flushed:{self._account}:{provider_id}"


def _margin(lifetime: float) -> float:
    """Return how many seconds before its end a token is not handed out any more."""
    return max(min(60.0, lifetime / 2), 0.05 * lifetime)


def _is(token: Secret, rejected: str | None) -> bool:
    """Whether the token is the one with this SHA-256 (64 hexadecimal digits in lower case)."""
    return rejected is not None and secrets.compare_digest(sha256(token.reveal().encode()).hexdigest(), rejected)
