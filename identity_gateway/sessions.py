"""Sessions of agents: which version and which address a session belongs to, and whose it is.

A session is known by the id that its caller chose. It stays with the version and the address that it began with, until
it was idle or lasted for as long as the runtime's lifecycle allows. It lives in the ephemeral store: one reading for
each call, one writing when it begins, and one now and then that keeps it. Does not authenticate anybody, and does not
decide which address a new session gets.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import AccessDenied
from identity_gateway.runtimes import Route

_KEPT_AT_MOST_EVERY = 60.0
"""Seconds: a session that is used is written again after a tenth of its idle time, but no later than this."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is kept, at most until `until`. `address` is the agent's origin; times are epoch seconds."""

    id: str
    version: int
    address: str
    holder: str
    opened_at: float
    until: float


class Sessions:
    """The sessions of one account. `binding` refuses a session to everybody but the user who opened it."""

    def __init__(self, ephemeral: Ephemeral, account: str, *, clock: Callable[[], float], binding: bool) -> None:
        self._ephemeral = ephemeral
        self._account = account
        self._clock = clock
        self.binding = binding

    async def find(self, route: Route, session_id: str, holder: str | None) -> Session | None:
        """Return the session if it lives. Raises AccessDenied when it is somebody else's, Unavailable.

        Without a holder nobody is compared: the caller may see every session of the runtime.
        """
        key = self._key(route, session_id)
        kept = await self._ephemeral.get(key)
        if kept is None:
            return None
        session = _read(session_id, kept)
        if self.binding and holder is not None and session.holder != _digest(holder):
            raise AccessDenied(
                "This session was opened by another user. Begin a session with an id of your own.",
                reason="the session belongs to another user",
            )
        if session.opened_at + route.configuration.longest <= self._clock():
            await self._ephemeral.delete(key)
            return None
        return session

    async def open(self, route: Route, session_id: str, holder: str, address: str, *, lasting: float = 0.0) -> Session:
        """Begin a session, or return the one that somebody else began in the same moment. Raises as `find` does.

        It lives for the idle time of the runtime, or for `lasting` seconds where that is longer.
        """
        now = self._clock()
        lives = min(max(route.configuration.idle, lasting), route.configuration.longest)
        session = Session(session_id, route.version, address, _digest(holder), now, now + lives)
        if await self._ephemeral.add(self._key(route, session_id), _written(session), ttl=lives):
            return session
        return await self.find(route, session_id, holder) or session

    async def keep(self, route: Route, session: Session, *, address: str, lasting: float = 0.0) -> None:
        """Note that the session was used, at this address: its idle time begins anew.

        A call that may last longer than that, for `lasting` seconds, keeps its session so long.
        """
        now, idle = self._clock(), route.configuration.idle
        left = session.opened_at + route.configuration.longest - now
        lives = min(max(idle, lasting, session.until - now), left)
        every = min(idle / 10, _KEPT_AT_MOST_EVERY)
        if lives <= 0 or (address == session.address and session.until - now > lives - every):
            return
        kept = replace(session, address=address, until=now + lives)
        await self._ephemeral.put(self._key(route, session.id), _written(kept), ttl=lives)

    async def stop(self, route: Route, session: Session) -> bool:
        """End a session; return whether it was there to be ended: of two who stop it, one does."""
        return await self._ephemeral.take(self._key(route, session.id)) is not None

    def _key(self, route: Route, session_id: str) -> str:
        return f"session:{self._account}:{route.name.runtime_id}:{route.name.endpoint}:{_digest(session_id)}"


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _written(session: Session) -> bytes:
    kept = [session.version, session.address, session.holder, session.opened_at, session.until]
    return json.dumps(kept, separators=(",", ":")).encode()


def _read(session_id: str, kept: bytes) -> Session:
    version, address, holder, opened_at, until = json.loads(kept)
    return Session(session_id, version, address, holder, opened_at, until)
