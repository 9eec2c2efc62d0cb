"""Sessions of agents: which version and which address a session belongs to, and whose it is.

A session is known by the id that its caller chose. It stays with the version and the address that it began with, until
it was idle or lasted for as long as the runtime's lifecycle allows. It lives in the ephemeral store: one reading for
each call, one writing when it begins, and one now and then that keeps it. Does not authenticate anybody, and does not
decide which address a new session gets.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import AccessDenied
from identity_gateway.runtimes import Route

_KEPT_AT_MOST_EVERY = 60.0
"""Seconds: a session that is used is written again after a tenth of its idle time, but no later than this."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is kept. `address` is the origin of the agent; times are seconds since the epoch."""

    id: str
    version: int
    address: str
    holder: str
    opened_at: float
    kept_at: float


class Sessions:
    """The sessions of one account. `binding` refuses a session to everybody but the user who opened it."""

    def __init__(self, ephemeral: Ephemeral, account: str, *, clock: Callable[[], float], binding: bool) -> None:
        self._ephemeral = ephemeral
        self._account = account
        self._clock = clock
        self._binding = binding

    async def find(self, route: Route, session_id: str, holder: str) -> Session | None:
        """Return the session if it lives. Raises AccessDenied when it is somebody else's, Unavailable."""
        key = self._key(route, session_id)
        kept = await self._ephemeral.get(key)
        if kept is None:
            return None
        session = _read(session_id, kept)
        if self._binding and session.holder != _digest(holder):
            raise AccessDenied(
                "This session was opened by another user. Begin a session with an id of your own.",
                reason="the session belongs to another user",
            )
        if session.opened_at + route.configuration.longest <= self._clock():
            await self._ephemeral.delete(key)
            return None
        return session

    async def open(self, route: Route, session_id: str, holder: str, address: str) -> Session:
        """Begin a session, or return the one that somebody else began in the same moment. Raises as `find` does."""
        now = self._clock()
        session = Session(session_id, route.version, address, _digest(holder), now, now)
        if await self._ephemeral.add(self._key(route, session_id), _written(session), ttl=route.configuration.idle):
            return session
        return await self.find(route, session_id, holder) or session

    async def keep(self, route: Route, session: Session, *, address: str) -> None:
        """Note that the session was used, at this address: its idle time begins anew."""
        now = self._clock()
        every = min(route.configuration.idle / 10, _KEPT_AT_MOST_EVERY)
        if address == session.address and now - session.kept_at < every:
            return
        left = session.opened_at + route.configuration.longest - now
        kept = Session(session.id, session.version, address, session.holder, session.opened_at, now)
        if left > 0:
            await self._ephemeral.put(
                self._key(route, session.id), _written(kept), ttl=min(left, route.configuration.idle)
            )

    async def stop(self, route: Route, session: Session) -> bool:
        """End a session; return whether it was there to be ended: of two who stop it, one does."""
        return await self._ephemeral.take(self._key(route, session.id)) is not None

    def _key(self, route: Route, session_id: str) -> str:
        return f"session:{self._account}:{route.name.runtime_id}:{route.name.endpoint}:{_digest(session_id)}"


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _written(session: Session) -> bytes:
    kept = [session.version, session.address, session.holder, session.opened_at, session.kept_at]
    return json.dumps(kept, separators=(",", ":")).encode()


def _read(session_id: str, kept: bytes) -> Session:
    version, address, holder, opened_at, kept_at = json.loads(kept)
    return Session(session_id, version, address, holder, opened_at, kept_at)
