"""A stream between a caller and an agent: messages both ways, until a side ends it or a limit does.

Who may open one is decided before (`story`); how frames look on the wire is the server's and `upstream`'s to know.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from identity_gateway.errors import AgentFailed, Throttled
from identity_gateway.invocation.addresses import Addresses
from identity_gateway.upstream import AgentSocket, AgentSockets, Ended, FailureKind, Origin, Refused, UpstreamError

NORMAL, GOING_AWAY, POLICY, INTERNAL = 1000, 1001, 1008, 1011
_NOT_SAID, _ABNORMAL = 1005, 1006
_EXCERPT = 1024
_MAX_REASON = 123
"""Bytes of a reason (RFC 6455 §5.5: a control frame holds 125, two are the code)."""

_OWN_CODES = range(3000, 5000)
_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class Caller(Protocol):
    """The side that asked for the stream."""

    def last_frame(self) -> float:
        """Return the loop time of its last frame that was no answer to a ping."""

    async def next(self) -> str | bytes | Ended:
        """Return its next message, text as `str`, or how it ended the stream."""

    async def pass_on(self, message: str | bytes) -> Ended | None:
        """Send it a message; wait while it reads too slowly. Returns how it ended the stream if it has."""

    async def close(self, ended: Ended) -> None:
        """End the stream towards it; nothing happens if it has ended."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Seconds: without a frame from either side, in all, and after the end of the token that opened the stream."""

    idle: float
    lifetime: float
    leeway: float


class Streams:
    """Opens streams to agents and keeps them within their limits. `clock` gives seconds since the epoch."""

    def __init__(
        self, sockets: AgentSockets, addresses: Addresses, limits: StreamLimits, *, clock: Callable[[], float]
    ) -> None:
        self._sockets = sockets
        self._addresses = addresses
        self._limits = limits
        self._clock = clock

    async def open(
        self, origins: Sequence[Origin], target: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> AgentSocket:
        """Open a stream to an agent, at the first of its addresses that takes a connection. `relay` closes it.

        Raises AgentFailed, and Throttled when too many are open.
        """
        try:
            return await self._opened(origins, target, headers)
        except Refused as refused:
            text = refused.said[:_EXCERPT].decode("utf-8", "replace")
            said = "".join(character if character.isprintable() else " " for character in text).strip()
            message = f"Received error ({refused.status}) from runtime." + (f" The agent said: {said}" if said else "")
            raise AgentFailed(message, reason=f"agent answered {refused.status} to the handshake") from None
        except UpstreamError as error:
            if error.kind is FailureKind.BUSY:
                raise Throttled("Too many streams are open. Try again.", reason=str(error)) from None
            raise AgentFailed("The agent did not open a WebSocket.", reason=f"{error.kind}: {error}") from None

    async def _opened(
        self, origins: Sequence[Origin], target: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> AgentSocket:
        for origin in origins:
            try:
                socket = await self._sockets.open(origin, target, headers)
            except UpstreamError as error:
                if not error.unsent:
                    raise
                self._addresses.failed(origin)
                if origin == origins[-1]:
                    raise
            else:
                self._addresses.answered(origin)
                return socket
        raise UpstreamError(FailureKind.UNREACHABLE, "the agent has no address")

    async def relay(self, caller: Caller, agent: AgentSocket, *, expires_at: float | None) -> Ended:
        """Pass messages both ways until the stream ends; end it for both sides, and return how.

        `expires_at` is when the token that opened the stream ends, in seconds since the epoch: the stream ends then,
        too, after the leeway that the token had at the door. None for callers without a token.
        """
        loop = asyncio.get_running_loop()
        limit: asyncio.Future[Ended] = loop.create_future()
        clock = _Clock(limit, self._limits, self._left(expires_at), lambda: max(caller.last_frame(), agent.last_frame))
        up = loop.create_task(_pump(caller, agent))
        down = loop.create_task(_pump(agent, caller))
        ended = Ended(GOING_AWAY, "the gateway is stopping")
        try:
            ended = await _end_of(up, down, limit)
        finally:
            clock.stop()
            for pump in (up, down):
                pump.cancel()
            await asyncio.gather(
                up, down, self._sockets.release(agent, ended), caller.close(ended), return_exceptions=True
            )
        return ended

    async def abandon(self, agent: AgentSocket) -> None:
        """Close a stream whose caller is gone before it began."""
        await self._sockets.release(agent, Ended(GOING_AWAY))

    def _left(self, expires_at: float | None) -> float | None:
        return None if expires_at is None else expires_at + self._limits.leeway - self._clock()


class _Clock:
    """Ends a stream that says nothing, lasts too long, or outlives its token."""

    def __init__(
        self, limit: asyncio.Future[Ended], limits: StreamLimits, left: float | None, last_frame: Callable[[], float]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._idle = limits.idle
        self._last_frame = last_frame
        began = self._loop.time()
        self._ends = (began + limits.lifetime, Ended(GOING_AWAY, "the stream has lasted as long as one may"))
        if left is not None and left < limits.lifetime:
            self._ends = (began + left, Ended(POLICY, "the token that opened the stream has expired"))
        self._began = began
        self._timer = self._loop.call_at(min(self._ends[0], began + self._idle), self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        idle_at = max(self._began, self._last_frame()) + self._idle
        if self._limit.done():
            return
        if now >= self._ends[0]:
            self._limit.set_result(self._ends[1])
        elif now >= idle_at:
            self._limit.set_result(Ended(GOING_AWAY, "nothing was said for too long"))
        else:
            self._timer = self._loop.call_at(min(self._ends[0], idle_at), self._look)


class _From(Protocol):
    async def next(self) -> str | bytes | Ended: ...


class _To(Protocol):
    async def pass_on(self, message: str | bytes) -> Ended | None: ...


async def _pump(source: _From, sink: _To) -> Ended | None:
    """Pass messages on until the source ends the stream, and return how; None when the sink has ended it before.

    Then the other direction learns how, after it has passed on what the side that ended had said before.
    """
    while True:
        message = await source.next()
        if isinstance(message, Ended):
            return message
        if await sink.pass_on(message) is not None:
            return None


async def _end_of(
    up: "asyncio.Task[Ended | None]", down: "asyncio.Task[Ended | None]", limit: "asyncio.Future[Ended]"
) -> Ended:
    """Return the end as it may stand on the wire, the same for both sides."""
    pending: set[asyncio.Future[Any]] = {up, down, limit}
    while limit in pending and len(pending) > 1:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if limit in done:
            return limit.result()
        for pump, silent in ((down, Ended(INTERNAL, "the agent ended the connection")), (up, Ended(GOING_AWAY))):
            if pump in done and pump.exception() is None and (ended := pump.result()) is not None:
                return _on_the_wire(ended, silent)
            if pump in done and pump.exception() is not None:
                return Ended(INTERNAL)
    return Ended(INTERNAL)


def _on_the_wire(ended: Ended, silent: Ended) -> Ended:
    """Return an end that may be sent: some codes only say that nothing was said (RFC 6455 §7.4.1)."""
    if ended.code == _NOT_SAID:
        return Ended(NORMAL)
    if ended.code == _ABNORMAL:
        return silent
    if ended.code not in _CODES and ended.code not in _OWN_CODES:
        return Ended(INTERNAL)
    return Ended(ended.code, ended.reason.encode()[:_MAX_REASON].decode("utf-8", "ignore"))
