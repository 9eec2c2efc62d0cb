"""Where a call goes: to the version and the address of its session, or to where a new session begins.

A session keeps the version that it began with, although the runtime was updated: the agent's code and its addresses are
that version's. Who may call is always decided by the present version, before this. MCP servers name their sessions
themselves (`Mcp-Session-Id`), all others are named by the caller.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from identity_gateway.errors import AccessDenied, NotFound, Unavailable
from identity_gateway.invocation.addresses import Addresses
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.proof import Call, Proven
from identity_gateway.records.changes import Changed
from identity_gateway.runtimes import Route, Routes, RuntimeConfiguration
from identity_gateway.runtimes.routing import Name
from identity_gateway.sessions import Session, Sessions
from identity_gateway.upstream import Origin

_MCP = "MCP"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a call goes. `origins` are the addresses to try, in this order; `session` is None where none is kept.

    `beside` is the session that a caller of an MCP server names besides that of the server.
    """

    session_id: str
    version: int
    configuration: RuntimeConfiguration
    origins: Sequence[Origin]
    session: Session | None
    beside: Session | None = None


class Placement:
    """Finds the place of each call, and keeps the sessions at theirs.

    An agent may take `longest_call` seconds until it answers, and a stream may last for `longest_stream`.
    """

    def __init__(
        self,
        routes: Routes,
        sessions: Sessions,
        addresses: Addresses,
        *,
        longest_call: float,
        longest_stream: float,
    ) -> None:
        self._routes = routes
        self._sessions = sessions
        self._addresses = addresses
        self._longest_call = longest_call
        self._longest_stream = longest_stream

    async def enter(self, call: Call, route: Route, proven: Proven) -> Placed:
        """Return the place of a call in its session, which begins if it is not there.

        Raises AccessDenied for a session of somebody else. While the store of sessions is down nobody can be compared:
        the call then gets a session of its own, under an id that nobody has used, and an MCP session is Unavailable.
        """
        named = call.asked.get("runtimeSessionId")
        session_id = named or str(uuid.uuid4())
        mcp = _is_mcp(route) and "mcpSessionId" in call.asked
        name = _name(call, route, session_id)
        origins = self._in_order(route.configuration, name, None)
        alone = Placed(session_id, route.version, route.configuration, origins, None)
        if not mcp and not named and (call.door is Door.CARD or _is_mcp(route)):
            return alone
        try:
            if call.door is Door.CARD:  # begins no session, but is told the name of one
                await self._sessions.find(route, name, proven.holder)
                return alone
            # Kept before it begins: while it lasts, nobody else may take its session for one that has ended.
            lasting = self._longest_stream if call.door is Door.STREAM else self._longest_call
            beside = (
                await self._session(route, _named(session_id), proven, origins[0], lasting) if mcp and named else None
            )
            fresh = not named and not mcp
            session = await self._session(route, name, proven, origins[0], lasting, fresh=fresh)
        except Unavailable:
            if not self._sessions.binding:
                return alone
            if mcp:
                raise
            return replace(alone, session_id=str(uuid.uuid4()))
        return await self._in_session(route, replace(alone, session=session, beside=beside), session, name)

    async def _session(
        self, route: Route, name: str, proven: Proven, origin: Origin, lasting: float, *, fresh: bool = False
    ) -> Session:
        """Return the session of this name, which begins if it is not there, for a call of so many seconds."""
        found = None if fresh else await self._sessions.find(route, name, proven.holder)
        if found is None:
            return await self._sessions.open(route, name, proven.holder, str(origin), lasting=lasting)
        return await self._sessions.keep(route, found, address=found.address, lasting=lasting)

    async def _in_session(self, route: Route, placed: Placed, session: Session, name: str) -> Placed:
        if session.version != route.version:
            pinned = await self._routes.at_version(route, session.version)
            if pinned is not None:
                placed = replace(placed, version=session.version, configuration=pinned)
        return replace(placed, origins=self._in_order(placed.configuration, name, session.address))

    # The agent has run when the following are called: without the store they do nothing, because an error that lets a
    # client try again would let the agent run again.

    async def used(self, route: Route, placed: Placed, origin: Origin, *, lasting: float = 0.0) -> None:
        """Note that an agent took the call at this address, and may take `lasting` seconds for it."""
        self._addresses.answered(origin)
        for session in (placed.session, placed.beside):
            if session is not None:
                with suppress(Unavailable):
                    await self._sessions.keep(route, session, address=str(origin), lasting=lasting)

    async def used_again(self, route: Route, placed: Placed, proven: Proven, *, lasting: float) -> None:
        """Do as `used`, for a session that was looked up some time ago: it may be kept for longer, or be over."""
        self._addresses.answered(placed.origins[0])
        if placed.session is None:
            return
        with suppress(Unavailable, AccessDenied):
            session = await self._sessions.find(route, placed.session.id, proven.holder)
            if session is not None:
                await self._sessions.keep(route, session, address=session.address, lasting=lasting)

    def due(self, route: Route, session: Session) -> float:
        """Return when a call would have to keep its session, in seconds since the epoch: until then it need not."""
        return self._sessions.due(route, session, lasting=self._longest_call)

    def watched(self, name: Name, session_id: str) -> Changed:
        """Return what changes when the session that a caller has named ends before its time."""
        return self._sessions.watched(name, _named(session_id))

    def failed(self, origin: Origin) -> None:
        """Note that nobody took a connection at this address."""
        self._addresses.failed(origin)

    async def named(self, route: Route, proven: Proven, mcp_session_id: str, origin: Origin) -> None:
        """Begin the session that an MCP server has given a name: it is at this address, and this caller's.

        Its server knows no idle time of ours: it is this caller's for as long as a session may last.
        """
        with suppress(Unavailable):
            await self._sessions.open(
                route, f"mcp:{mcp_session_id}", proven.holder, str(origin), lasting=route.configuration.longest
            )

    async def forget(self, route: Route, placed: Placed) -> None:
        """Forget a session that its agent does not know, or has ended."""
        if placed.session is not None:
            with suppress(Unavailable):
                await self._sessions.stop(route, placed.session)

    # Ending a session by its id.

    async def ending(self, call: Call, route: Route, proven: Proven) -> Session:
        """Return the session that the call would end. Raises AccessDenied, NotFound, Unavailable.

        Who signs and may end sessions of the runtime may end those of every user, whom no signature of theirs names;
        who came with a token of their own, or with credentials for one, ends their own.
        """
        holder = proven.holder if proven.signer is None or proven.signer.web_identity is not None else None
        session = await self._sessions.find(route, _name(call, route, call.asked["runtimeSessionId"]), holder)
        if session is None:
            raise NotFound("There is no such session.")
        return session

    async def stop(self, route: Route, session: Session) -> None:
        """End a session. Raises NotFound when somebody else has just ended it."""
        if not await self._sessions.stop(route, session):
            raise NotFound("There is no such session.")

    def _in_order(self, configuration: RuntimeConfiguration, name: str, first: str | None) -> list[Origin]:
        return self._addresses.in_order(configuration.origins, name, first=first)


def _is_mcp(route: Route) -> bool:
    return route.configuration.protocol == _MCP


def _name(call: Call, route: Route, session_id: str) -> str:
    mcp_session_id = call.asked.get("mcpSessionId") if _is_mcp(route) else None
    return f"mcp:{mcp_session_id}" if mcp_session_id else _named(session_id)


def _named(session_id: str) -> str:
    return f"runtime:{session_id}"
