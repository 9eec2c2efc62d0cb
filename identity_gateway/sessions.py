"""Sessions of agents: which version and which address a session belongs to, and whose it is.

A session is known by the id that its caller chose. It stays with the version and the address that it began with, until
it was idle or lasted for as long as the runtime's lifecycle allows. The endpoints of a runtime lead to the same agents,
which know a session by its id alone: so an id is one user's at all of them, and has its version at one. It lives in the
ephemeral store: one reading for each call, one writing when it begins, and one now and then that keeps it. Does not
authenticate anybody, and does not decide which address a new session gets.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import AccessDenied
from identity_gateway.records.changes import SHARED_LONGEST, Changed, Changes
from identity_gateway.runtimes import Route
from identity_gateway.runtimes.routing import Name

_CHANGED = "session"
_KEPT_AT_MOST_EVERY = 60.0
"""Seconds: a session that is used is written again after a tenth of its idle time, but no later than this."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is kept, at most until `until`. `address` is the agent's origin; times are epoch seconds.

    `version` is what it keeps at `endpoint`.
    """

    id: str
    endpoint: str
    version: int
    address: str
    holder: str
    opened_at: float
    until: float


class Sessions:
    """The sessions of one account. `binding` refuses a session to everybody but the user who opened it."""

    def __init__(
        self,
        ephemeral: Ephemeral,
        account: str,
        *,
        clock: Callable[[], float],
        binding: bool,
        changes: Changes | None = None,
    ) -> None:
        self._changes = changes or Changes(None, longest=SHARED_LONGEST)
        self._ephemeral = ephemeral
        self._account = account
        self._clock = clock
        self.binding = binding

    async def find(self, route: Route, session_id: str, holder: str | None) -> Session | None:
        """Return the session if it lives. Raises AccessDenied when it is somebody else's, Unavailable.

        Without a holder nobody is compared: the caller may see every session of the endpoint. Its holder may go on
        with a session at another endpoint, at that one's present version.
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
            self._changes.note([(_CHANGED, key)])
            return None
        if session.endpoint != route.name.endpoint:
            return None if holder is None else replace(session, endpoint=route.name.endpoint, version=route.version)
        return session

    async def open(self, route: Route, session_id: str, holder: str, address: str, *, lasting: float = 0.0) -> Session:
        """Begin a session, or return the one that somebody else began in the same moment. Raises as `find` does.

        It lives for the idle time of the runtime, or for the `lasting` seconds of a call where that is longer.
        """
        now = self._clock()
        lives = min(_life(route, lasting), route.configuration.longest)
        session = Session(session_id, route.name.endpoint, route.version, address, _digest(holder), now, now + lives)
        if await self._ephemeral.add(self._key(route, session_id), _written(session), ttl=lives):
            return session
        return await self.find(route, session_id, holder) or session

    async def keep(self, route: Route, session: Session, *, address: str, lasting: float = 0.0) -> Session:
        """Note that the session was used, at this address: its idle time begins anew. Return it as it is then.

        A call that may last longer than that, for `lasting` seconds, keeps its session so long.
        """
        now = self._clock()
        left = session.opened_at + route.configuration.longest - now
        lives = min(max(_life(route, lasting), session.until - now), left)
        if lives <= 0 or (address == session.address and session.until - now > lives - _every(route)):
            return session
        kept = replace(session, address=address, until=now + lives)
        key = self._key(route, session.id)
        await self._ephemeral.put(key, _written(kept), ttl=lives)
        if address != session.address:
            self._changes.note([(_CHANGED, key)])
        return kept

    async def stop(self, route: Route, session: Session) -> bool:
        """End a session; return whether it was there to be ended: of two who stop it, one does."""
        key = self._key(route, session.id)
        try:
            return await self._ephemeral.take(key) is not None
        finally:
            self._changes.note([(_CHANGED, key)])

    def due(self, route: Route, session: Session, *, lasting: float) -> float:
        """Return when a call of so many seconds would have to keep the session, in seconds since the epoch."""
        return min(
            session.until - _life(route, lasting) + _every(route), session.opened_at + route.configuration.longest
        )

    def watched(self, name: Name, session_id: str) -> Changed:
        """Return what changes when a session ends before its time or moves: what processes here tell each other."""
        return _CHANGED, self._key_of(name, session_id)

    def _key(self, route: Route, session_id: str) -> str:
        return self._key_of(route.name, session_id)

    def _key_of(self, name: Name, session_id: str) -> str:
        return f"session:{self._account}:{name.runtime_id}:{_digest(session_id)}"


def _every(route: Route) -> float:
    return min(route.configuration.idle / 10, _KEPT_AT_MOST_EVERY)


def _life(route: Route, lasting: float) -> float:
    """Return the seconds that a session lives from now: no less than a call may last, although not each is noted."""
    return max(route.configuration.idle, lasting + _every(route) if lasting else 0.0)


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _written(session: Session) -> bytes:
    kept = [session.endpoint, session.version, session.address, session.holder, session.opened_at, session.until]
    return json.dumps(kept, separators=(",", ":")).encode()


def _read(session_id: str, kept: bytes) -> Session:
    endpoint, version, address, holder, opened_at, until = json.loads(kept)
    return Session(session_id, endpoint, version, address, holder, opened_at, until)
