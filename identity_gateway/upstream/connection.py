"""One connection to an agent: sends one request at a time, and feeds the response to its reader.

It does not connect, and does not know where it goes when it is free: the pool does (`Home`).
"""

import asyncio
import functools
from collections.abc import AsyncIterable
from contextlib import aclosing
from typing import Final, Protocol, cast

from identity_gateway.upstream.failure import FailureKind, UpstreamError
from identity_gateway.upstream.framing import framed
from identity_gateway.upstream.heads import Asker, Head, KnownHeads
from identity_gateway.upstream.response import ResponseReader, UpstreamResponse

_HIGH_WATER: Final = 1 << 18
"""Bytes of a response that wait for their reader before the agent is made to wait."""

_MISSES: Final = 32
_MISSES_UNTIL_AGAIN: Final = 1024
"""Heads in a row that were not known before, until this is taken for the agent's way, and until that is tried again."""


class Home(Protocol):
    """Where a connection is kept."""

    @property
    def heads(self) -> KnownHeads:
        """What agents have answered before."""

    @property
    def max_head(self) -> int:
        """Bytes of a response head at the most."""

    def free(self, connection: "Connection", keep_alive: bytes | None) -> None:
        """Take the connection back for the next request; the agent's `keep-alive` field comes along."""

    def lost(self, connection: "Connection") -> None:
        """Forget the connection. Called once."""


class Connection(asyncio.Protocol):
    """An open connection: idle, or working for one response."""

    __slots__ = (
        "_asker", "_drained", "_due", "_head_timeout", "_home", "_known", "_loop", "_lost", "_misses", "_peer",
        "_reader", "_reading_paused", "_response", "_sent", "_timer", "_timer_ends", "_transport", "idle_since",
    )  # fmt: skip

    def __init__(self, peer: str, loop: asyncio.AbstractEventLoop) -> None:
        self._peer = peer
        self._loop = loop
        self._home: Home | None = None
        self._transport: asyncio.Transport | None = None
        self._lost = False
        self._asker: Asker | None = None
        self._known: dict[bytes, Head] = {}
        self._misses = 0
        self._reader: ResponseReader | None = None
        self._response: UpstreamResponse | None = None
        self._reading_paused = False
        self._drained: asyncio.Future[None] | None = None  # while the agent reads slower than we write
        self._sent = False
        self._head_timeout = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ends = 0.0
        self._due: float | None = None
        self.idle_since = 0.0

    def settle(self, home: Home) -> None:
        """Say who keeps this connection from now on."""
        self._home = home
        self._known = home.heads.known
        self.idle_since = self._loop.time()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent: open, and nothing is under way."""
        transport = self._transport
        return (
            transport is not None
            and not self._lost
            and self._response is None
            and self._asker is None
            and not transport.is_closing()
        )

    def abort(self) -> None:
        """Close at once; a response that is under way fails."""
        if self._asker is not None or self._response is not None:
            self._fail(self._failure(FailureKind.CLOSED, "the connection was closed"))
        elif self._transport is not None:
            self._transport.abort()

    # --- One exchange, at once ---

    def ask(self, request: bytes, asker: Asker, head_timeout: float) -> None:
        """Send a whole request (no HEAD) in one write, and tell the asker what comes back: most of it comes at once.

        Whoever does not wait any more calls `leave`.
        """
        transport = self._transport
        assert transport is not None
        self._asker = asker
        self._sent = True
        self._head_timeout = head_timeout
        transport.write(request)
        if self._drained is None:
            self._due = due = self._loop.time() + head_timeout
            if due < self._timer_ends or self._timer is None:
                self._set_timer(due)

    def leave(self, asker: Asker) -> None:
        """Tell the asker nothing any more. Closes the connection if it still works for this asker alone."""
        if asker is self._asker:
            self._asker = None
            self.abort()

    def _hear(self, asker: Asker, data: bytes) -> None:
        """Read the first of an answer, which is all of it most of the time."""
        if self._misses < _MISSES:
            end = data.find(b"\r\n\r\n") + 4
            head = self._known.get(data[:end])
            if head is not None and len(data) - end == head.length:
                self._misses = 0
                self._asker = self._due = None
                self._part(head.keep_alive)
                asker.answered(head, data[end:])
                return
        self._hear_news(asker, data)

    def _hear_news(self, asker: Asker, data: bytes) -> None:
        """Read the first of an answer whose head is not known."""
        home = self._home
        assert home is not None
        reader = ResponseReader(to_head=False, max_head=home.max_head)
        failure = None
        try:
            reader.feed(data)
        except UpstreamError as error:
            failure = self._failure(error.kind, str(error))
        if failure is not None or not reader.ended or not 200 <= reader.status < 300:
            self._begin_late(reader)
            self._tell(failure)
            return
        reader.release()
        head = Head(reader)
        self._misses = (self._misses + 1) % _MISSES_UNTIL_AGAIN
        if self._misses <= _MISSES and reader.clean:
            home.heads.learn(data, reader, head)
        self._asker = self._due = None
        if reader.keep_alive and reader.clean:
            self._part(head.keep_alive)
        else:
            self.abort()
        asker.answered(head, reader.take())

    def _part(self, keep_alive: bytes | None) -> None:
        """Be free again after a response that has ended well."""
        transport = self._transport
        assert transport is not None
        assert self._home is not None
        # What the agent did not care to read must not run into the next request.
        if self._lost or transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
        else:
            self._home.free(self, keep_alive)

    def _begin_late(self, reader: ResponseReader | None = None) -> None:
        """Give the asker a response, because this one takes more than one look."""
        asker, self._asker = self._asker, None
        assert asker is not None
        assert self._home is not None
        self._reader = reader or ResponseReader(to_head=False, max_head=self._home.max_head)
        self._response = response = UpstreamResponse(self._reader, self)
        asker.began(response)

    # --- One exchange ---

    def exchange(self, request: bytes, reader: ResponseReader, head_timeout: float) -> UpstreamResponse:
        """Send a whole request in one write and return its response, whose head is yet to come."""
        response = self._begin(reader, head_timeout)
        assert self._transport is not None
        self._transport.write(request)
        self._request_sent()
        return response

    async def exchange_stream(
        self,
        head: bytes,
        body: AsyncIterable[bytes],
        length: int | None,
        reader: ResponseReader,
        head_timeout: float,
    ) -> UpstreamResponse:
        """Send a request while its body arrives, and return its response when the head is there.

        An answer that comes before the request is complete ends the sending.

        Raises UpstreamError, and whatever the body raises; the agent then sees a request that was cut.
        """
        response = self._begin(reader, head_timeout)
        sender = self._loop.create_task(self._send(head, body, length))
        sender.add_done_callback(functools.partial(self._sender_done, response))
        try:
            await response.head()
        finally:
            sender.cancel()
            await asyncio.wait([sender])
        fault = None if sender.cancelled() else sender.exception()
        if fault is not None and not isinstance(fault, UpstreamError):
            self.abandon(response)
            raise fault
        return response

    def _begin(self, reader: ResponseReader, head_timeout: float) -> UpstreamResponse:
        self._sent = False
        self._head_timeout = head_timeout
        self._reader = reader
        self._response = response = UpstreamResponse(reader, self)
        return response

    def _request_sent(self) -> None:
        self._sent = True
        awaited = self._asker is not None or (self._reader is not None and not self._reader.status)
        if self._drained is None and awaited:
            self._due = due = self._loop.time() + self._head_timeout
            if self._timer is None or due < self._timer_ends:
                self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ends = due
        self._timer = self._loop.call_later(due - self._loop.time(), self._overdue)

    def _overdue(self) -> None:
        """End what takes too long. The clock is left to run from one request to the next: setting it costs more."""
        self._timer = None
        if self._due is None:
            return
        if self._due > self._loop.time():
            self._set_timer(self._due)
            return
        self._due = None
        self._fail(self._failure(FailureKind.TIMEOUT, f"no response head within {self._head_timeout:g} s"))

    def _fail(self, failure: UpstreamError) -> None:
        """End what is under way, whoever waits for it."""
        if self._asker is not None:
            self._begin_late()
        if self._response is not None:
            self._end(failure)

    def _end(self, failure: BaseException | None) -> None:
        """Part with the response: the connection is free again if both sides are done and agree on where it ended."""
        response, reader, transport = self._response, self._reader, self._transport
        assert response is not None
        assert reader is not None
        assert transport is not None
        self._response = self._reader = None
        reader.release()
        self._due = None
        reusable = failure is None and self._sent and reader.keep_alive and reader.clean and not self._lost
        # What the agent did not care to read must not run into the next request.
        if reusable and not transport.is_closing() and not transport.get_write_buffer_size():
            self._resume_reading()
            response.finish(None)
            if self._home is not None:
                self._home.free(self, reader.keep_alive_header)
        else:
            transport.abort()
            response.finish(failure)

    def _failure(self, kind: FailureKind, message: str) -> UpstreamError:
        return UpstreamError(kind, f"{self._peer}: {message}")

    # --- Sending a body that is not there yet ---

    async def _send(self, head: bytes, body: AsyncIterable[bytes], length: int | None) -> None:
        async with aclosing(framed(head, body, length)) as pieces:
            async for piece, last in pieces:
                await self._write(piece, last=last)

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._response is None:
            raise self._failure(FailureKind.CLOSED, "the connection ended while the request was sent")
        transport.write(data)
        if last:
            self._request_sent()
        elif self._drained is not None:
            await self._drained

    def _sender_done(self, response: UpstreamResponse, sender: asyncio.Task[None]) -> None:
        fault = None if sender.cancelled() else sender.exception()
        # It may end late, when its body takes time to close: the connection then works for the next response already.
        if response is not self._response or self._reader is None or self._sent:
            return
        if fault is not None:
            self._end(fault)
        elif not self._reader.status:  # else we stopped it ourselves, because an answer came early
            self._end(self._failure(FailureKind.CLOSED, "the body of the request was cancelled"))

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived. Nothing may arrive when nothing was asked."""
        if (asker := self._asker) is not None:
            self._hear(asker, data)
            return
        reader = self._reader
        if reader is None:
            self.abort()
            return
        failure = None
        try:
            reader.feed(data)
        except UpstreamError as error:
            failure = self._failure(error.kind, str(error))
        self._tell(failure)

    def _tell(self, failure: UpstreamError | None) -> None:
        """Tell the response what its reader has found."""
        reader, response = self._reader, self._response
        if reader is None or response is None:
            return
        if failure is not None or reader.ended:
            self._end(failure)
        elif reader.status:
            self._due = None
            if self._timer is not None and not reader.sized:  # it may last, and many may: what one holds counts
                self._timer.cancel()
                self._timer = None
            if reader.size > _HIGH_WATER and not self._reading_paused and self._transport is not None:
                self._reading_paused = True
                self._transport.pause_reading()
            response.wake()

    def eof_received(self) -> None:
        """End a body that has no other end, and the connection with it.

        Under TLS, uvloop calls this only for an end that the agent has signed (RFC 9112 §9.8). asyncio's own loop
        cannot tell it from a connection that was cut.
        """
        if self._reader is not None and self._reader.until_close:
            self._end(None)
        self._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Fail the response, wake a sender that waits, and tell the pool."""
        self._lost = True
        self._hang_up()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        if self._home is not None:
            self._home.lost(self)

    def pause_writing(self) -> None:
        """Make the sender wait."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let the sender go on; the agent's time to answer begins when it has taken the whole request."""
        drained, self._drained = self._drained, None
        if drained is not None:
            if not drained.done():
                drained.set_result(None)
            if self._sent:
                self._request_sent()

    def _hang_up(self) -> None:
        if self._reader is not None or self._asker is not None:
            self._fail(self._failure(FailureKind.CLOSED, "the agent closed the connection before the response ended"))
        else:
            self.abort()

    # --- Source: called by the response ---

    def consumed(self) -> None:
        """Let the agent send on."""
        self._resume_reading()

    def abandon(self, response: UpstreamResponse) -> None:
        """Close the connection if it still works for this response."""
        if response is self._response:
            self._end(self._failure(FailureKind.CLOSED, "the response was closed before its end"))

    def _resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()
