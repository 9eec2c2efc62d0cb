"""Keeps connections to agents alive between requests, bounds how many there are, and lets callers queue for them.

A request is sent once and never again: the agent may have acted on it, however it failed.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from itertools import count

from identity_gateway.upstream.address import AddressBook, Origin, Resolver
from identity_gateway.upstream.connection import Connection
from identity_gateway.upstream.dialer import Dialer
from identity_gateway.upstream.failure import FailureKind, UpstreamError
from identity_gateway.upstream.head import host_line, request_head, request_lines, request_start
from identity_gateway.upstream.heads import KnownHeads
from identity_gateway.upstream.response import ResponseReader, UpstreamResponse

_ANNOUNCED = re.compile(rb"(?:^|[ ,])timeout=([0-9]{1,5})(?:$|[ ,])")
_BODYLESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})

Waiter = asyncio.Future[Connection | None]
"""Gets a connection that became free, or None: leave to open one."""


class Lane:
    """The connections to one origin: how many are open, which are idle, and who waits."""

    __slots__ = (
        "_loop", "_pool", "_sweeper", "heads", "host", "idle", "keep_alive", "max_head", "open", "origin", "waiting",
    )  # fmt: skip

    def __init__(self, origin: Origin, pool: "Upstream", keep_alive: float, max_head: int, heads: KnownHeads) -> None:
        self._loop = asyncio.get_running_loop()
        self.heads = heads
        self.max_head = max_head
        self.origin = origin
        self.host = host_line(origin.authority)
        self.keep_alive = keep_alive
        self.open = 0  # being opened included
        self.idle: deque[Connection] = deque()  # the one that was used last is the last
        self.waiting: deque[tuple[int, Waiter]] = deque()
        self._pool = pool
        self._sweeper: asyncio.TimerHandle | None = None

    def take_idle(self) -> Connection | None:
        """Return the idle connection that was used last, if it is still good."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                if connection.idle_since + self.keep_alive > self._loop.time():
                    return connection
                connection.abort()
        return None

    def park(self, connection: Connection) -> None:
        """Keep a connection that nobody waits for."""
        connection.idle_since = self._loop.time()
        self.idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self.keep_alive, self._sweep)

    def close(self) -> None:
        """Stop the clock and turn away those who wait. The connections are closed by the pool."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for _, waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(UpstreamError(FailureKind.CLOSED, f"{self.origin}: the pool is closed"))

    def free(self, connection: Connection, keep_alive: bytes | None) -> None:
        """Take back a connection. An agent that announces to close idle ones sooner than we would is believed."""
        if keep_alive is not None and (announced := _ANNOUNCED.search(keep_alive)):
            self.keep_alive = min(self.keep_alive, int(announced[1]) - 1)
        if self._pool.queues:
            self._pool.freed(self, connection)
        else:
            self.park(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        with suppress(ValueError):
            self.idle.remove(connection)
        self._pool.lost(self, connection)

    def _sweep(self) -> None:
        loop, idle = self._loop, self.idle
        self._sweeper = None
        while idle and idle[0].idle_since + self.keep_alive <= loop.time():
            idle.popleft().abort()
        if idle:
            self._sweeper = loop.call_at(idle[0].idle_since + self.keep_alive, self._sweep)


class Upstream:
    """HTTP/1.1 towards agents. For one event loop; close it with `aclose`.

    `max_connections` and `max_waiting` hold per origin, `max_total` over all of them. `connect_timeout` bounds the wait
    for a connection and the opening of one, each; `keep_alive` is how long an idle one is kept. Times are in seconds.
    A TLS context that is given must verify; it is made to offer http/1.1 alone.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 100,
        max_total: int = 1000,
        max_waiting: int = 1000,
        connect_timeout: float = 10.0,
        keep_alive: float = 4.0,
        max_response_head: int = 64 * 1024,
        resolver: Resolver | None = None,
    ) -> None:
        self._addresses = AddressBook(resolver)
        self._dialer = Dialer(self._addresses, ssl_context, connect_timeout)
        self._max_connections = max_connections
        self._max_total = max_total
        self._max_waiting = max_waiting
        self._max_wait = connect_timeout
        self._keep_alive = keep_alive
        self._max_head = max_response_head
        self._heads = KnownHeads()
        self._lanes: dict[Origin, Lane] = {}
        self.queues: set[Lane] = set()  # the lanes in which somebody waits
        self._tickets = count()
        self._open = 0
        self._connections: set[Connection] = set()
        self._closing: asyncio.Future[None] | None = None

    async def request(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes] | None = None,
        content_length: int | None = None,
        *,
        head_timeout: float,
    ) -> UpstreamResponse:
        """Send one request once, and return the response when its head is there. The body follows as it arrives.

        `target` is sent as it is. `headers` go out without those of the connection; `host` and the length are written
        here. A body that is not `bytes` is sent piece by piece, chunked unless `content_length` says its size.
        `head_timeout` runs from the moment the request is sent completely.

        Raises UpstreamError; ValueError for what cannot be sent safely or does not have the length it claims; and what
        the body raises. Cancelling closes the connection. Limits on the whole and on the response body are NOT here.
        """
        lane = self._lane(origin)
        if body is None or isinstance(body, bytes):
            data = body or b""
            if content_length is not None and content_length != len(data):
                raise ValueError("content_length is not the length of the body")
            length = -1 if body is None and method in _BODYLESS else len(data)
            request = request_head(method, target, lane.host, headers, length=length) + data
            connection = await self.connection(origin)
            response = connection.exchange(request, self._reader(method), head_timeout)
            await response.head()
            return response
        if content_length is not None and content_length < 0:
            raise ValueError("content_length is negative")
        head = request_head(method, target, lane.host, headers, length=content_length)
        connection = await self.connection(origin)
        return await connection.exchange_stream(head, body, content_length, self._reader(method), head_timeout)

    def idle(self, origin: Origin) -> Connection | None:
        """Return a connection that can be used at once, if there is one: let it `ask`, or `spare` it."""
        lane = self._lanes.get(origin)
        return None if lane is None or lane.waiting else lane.take_idle()

    async def connection(self, origin: Origin) -> Connection:
        """Return a connection to `ask` on or to `spare`, after those who wait already, and opened if need be.

        Raises UpstreamError: then no agent has heard anything.
        """
        lane = self._lane(origin)
        return lane.take_idle() or await self._acquire(lane)

    def spare(self, origin: Origin, connection: Connection) -> None:
        """Take back a connection that was not used."""
        if connection.usable:
            since = connection.idle_since
            self.freed(self._lane(origin), connection)
            connection.idle_since = since  # the agent, too, counts from the last request

    @property
    def closing(self) -> bool:
        """Whether this was closed: what fails now does not fail because of an agent."""
        return self._closing is not None

    lines = staticmethod(request_lines)

    @staticmethod
    def start(origin: Origin, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the beginning of the head of POSTs to this origin; more `lines` may follow it.

        Raises ValueError for what cannot be sent.
        """
        return request_start(b"POST", target, host_line(origin.authority), headers)

    def _reader(self, method: bytes) -> ResponseReader:
        return ResponseReader(to_head=method == b"HEAD", max_head=self._max_head)

    async def aclose(self) -> None:
        """Close every connection at once; responses under way and callers in a queue fail with `closed`."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            self._addresses.close()
            for lane in self._lanes.values():
                lane.close()
            for connection in list(self._connections):
                connection.abort()
            self._settle_closing()
        await asyncio.shield(self._closing)

    def _settle_closing(self) -> None:
        if self._closing is not None and not self._connections and not self._closing.done():
            self._closing.set_result(None)

    # --- Connections ---

    def _lane(self, origin: Origin) -> Lane:
        lane = self._lanes.get(origin)
        if lane is None:
            lane = self._lanes[origin] = Lane(origin, self, self._keep_alive, self._max_head, self._heads)
        return lane

    async def _acquire(self, lane: Lane) -> Connection:
        """Return a connection that is free, opened if need be, after those who asked before."""
        while True:
            if self._closing is not None:
                raise UpstreamError(FailureKind.CLOSED, f"{lane.origin}: the pool is closed")
            if lane.open < self._max_connections and self._open < self._max_total:
                lane.open += 1
                self._open += 1
                return await self._connect(lane)
            granted = await self._wait(lane)
            if granted is None:
                return await self._connect(lane)
            if granted.usable:
                return granted
            lane = self._lane(lane.origin)  # the agent closed the connection on its way here; the lane may be gone too

    async def _connect(self, lane: Lane) -> Connection:
        """Open a connection for which there is room already; make the room again if that fails."""
        try:
            connection = await self._dialer.dial(lane.origin)
        except BaseException:
            self._vacate(lane)
            raise
        if not connection.usable or self._closing is not None:
            connection.abort()
            self._vacate(lane)
            raise UpstreamError(FailureKind.CLOSED, f"{lane.origin}: closed as soon as it was open")
        connection.settle(lane)
        self._connections.add(connection)
        return connection

    async def _wait(self, lane: Lane) -> Connection | None:
        if len(lane.waiting) >= self._max_waiting:
            raise UpstreamError(FailureKind.BUSY, f"{lane.origin}: too many requests wait for a connection")
        if lane.open < self._max_connections:
            self._evict()
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        place = (next(self._tickets), waiter)
        lane.waiting.append(place)
        self.queues.add(lane)
        timer = loop.call_later(self._max_wait, self._turn_away, lane, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._decline(lane, waiter)
            raise
        finally:
            timer.cancel()
            with suppress(ValueError):
                lane.waiting.remove(place)

    def _turn_away(self, lane: Lane, waiter: Waiter) -> None:
        if not waiter.done():
            message = f"{lane.origin}: no connection was free within {self._max_wait:g} s"
            waiter.set_exception(UpstreamError(FailureKind.BUSY, message))

    def _decline(self, lane: Lane, waiter: Waiter) -> None:
        """Give back what a caller was granted that went away in the same moment."""
        if waiter.cancelled() or not waiter.done() or waiter.exception() is not None:
            return
        granted = waiter.result()
        if granted is None:
            self._vacate(lane)
        elif granted.usable:
            self.freed(lane, granted)

    def _evict(self) -> None:
        """Close the connection of another origin that has been idle the longest; its end wakes the one who waits."""
        resting = [lane for lane in self._lanes.values() if lane.idle]
        if resting:
            min(resting, key=lambda lane: lane.idle[0].idle_since).idle.popleft().abort()

    def _next(self, lane: Lane) -> Lane | None:
        """Return the lane of the caller who waits longest, among those whom a place in `lane` would help."""
        best = None
        for candidate in list(self.queues):
            waiting = candidate.waiting
            while waiting and waiting[0][1].done():
                waiting.popleft()
            if not waiting:
                self.queues.discard(candidate)
            elif candidate is lane or candidate.open < self._max_connections:
                best = candidate if best is None or waiting[0][0] < best.waiting[0][0] else best
        return best

    def freed(self, lane: Lane, connection: Connection) -> None:
        """Hand a connection that is free to whom it is due, or keep it. Called by its lane."""
        chosen = self._next(lane) if self.queues else None
        if chosen is None:
            lane.park(connection)
        elif chosen is lane:
            lane.waiting.popleft()[1].set_result(connection)
        else:
            connection.abort()  # for another origin: the place is granted when it is vacated

    def lost(self, lane: Lane, connection: Connection) -> None:
        """Forget a connection. Called by its lane."""
        self._connections.discard(connection)
        self._vacate(lane)
        self._settle_closing()

    def _vacate(self, lane: Lane) -> None:
        lane.open -= 1
        self._open -= 1
        chosen = self._next(lane) if self.queues else None
        if chosen is not None:
            chosen.open += 1
            self._open += 1
            chosen.waiting.popleft()[1].set_result(None)
        elif not lane.open and self._lanes.get(lane.origin) is lane:
            lane.close()
            del self._lanes[lane.origin]
