"""Where a call goes: to the version and the address of its session, or to where a new session begins.

A session keeps the version that it began with, although the runtime was updated: the agent's code and its addresses are
that version's. Who may call is always decided by the present version, before this. MCP servers name their sessions
themselves (`Mcp-Session-Id`), all others are named by the caller.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from identity_gateway.invocation.addresses import Addresses
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.proof import Call, Proven
from identity_gateway.runtimes import Route, Routes, RuntimeConfiguration
from identity_gateway.sessions import Session, Sessions
from identity_gateway.upstream import Origin

_MCP = "MCP"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a call goes. `origins` are the addresses to try, in this order; `session` is None for an agent card."""

    session_id: str
    configuration: RuntimeConfiguration
    origins: Sequence[Origin]
    session: Session | None


class Placement:
    """Finds the place of each call, and keeps the sessions at theirs."""

    def __init__(self, routes: Routes, sessions: Sessions, addresses: Addresses) -> None:
        self._routes = routes
        self._sessions = sessions
        self._addresses = addresses

    async def enter(self, call: Call, route: Route, proven: Proven) -> Placed:
        """Return the place of a call in its session, which begins if it is not there.

        Raises AccessDenied for a session of somebody else, and Unavailable: who cannot be compared is not let in.
        """
        session_id = call.asked.get("runtimeSessionId") or str(uuid.uuid4())
        name = _name(call, route, session_id)
        if call.door is Door.CARD:
            return Placed(session_id, route.configuration, self._in_order(route.configuration, name, None), None)
        session = await self._sessions.find(route, name, proven.holder)
        if session is None:
            origins = self._in_order(route.configuration, name, None)
            session = await self._sessions.open(route, name, proven.holder, str(origins[0]))
        configuration = route.configuration
        if session.version != route.version:
            configuration = await self._routes.at_version(route, session.version) or configuration
        return Placed(session_id, configuration, self._in_order(configuration, name, session.address), session)

    async def used(self, route: Route, placed: Placed, origin: Origin) -> None:
        """Note that an agent took the call at this address."""
        self._addresses.answered(origin)
        if placed.session is not None:
            await self._sessions.keep(route, placed.session, address=str(origin))

    def failed(self, origin: Origin) -> None:
        """Note that nobody took a connection at this address."""
        self._addresses.failed(origin)

    async def named(self, route: Route, proven: Proven, mcp_session_id: str, origin: Origin) -> None:
        """Begin the session that an MCP server has given a name: it is at this address, and this caller's."""
        await self._sessions.open(route, f"mcp:{mcp_session_id}", proven.holder, str(origin))

    async def forget(self, route: Route, placed: Placed) -> None:
        """Forget a session that its agent does not know, or has ended."""
        if placed.session is not None:
            await self._sessions.stop(route, placed.session)

    async def stop(self, call: Call, route: Route, proven: Proven) -> bool:
        """End the session that the call names; return whether there was one. Raises AccessDenied."""
        session = await self._sessions.find(route, _name(call, route, call.asked["runtimeSessionId"]), proven.holder)
        return session is not None and await self._sessions.stop(route, session)

    def _in_order(self, configuration: RuntimeConfiguration, name: str, first: str | None) -> list[Origin]:
        return self._addresses.in_order(configuration.origins, name, first=first)


def _name(call: Call, route: Route, session_id: str) -> str:
    mcp_session_id = call.asked.get("mcpSessionId") if route.configuration.protocol == _MCP else None
    return f"mcp:{mcp_session_id}" if mcp_session_id else f"runtime:{session_id}"
