"""The short way of a call that repeats one which was let in (`invocation.recall`): from socket to socket, no tasks.

It serves what is whole and small when it arrives, and has a connection to its agent at once. Everything else, and every
doubt before the agent was sent anything, goes the long way, which knows all answers. This module decides nothing.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from identity_gateway import telemetry
from identity_gateway.api import render
from identity_gateway.api.exchange import MAX_HEAD, MAX_HEADERS
from identity_gateway.audit import ALLOWED, Audit
from identity_gateway.errors import AgentFailed, GatewayError, Unavailable
from identity_gateway.inbound import Scheme
from identity_gateway.invocation.forwarding import Timeouts, failure_of, refuse_failure
from identity_gateway.invocation.placement import Placement
from identity_gateway.invocation.recall import Recall, Remembered
from identity_gateway.protocol import headers
from identity_gateway.upstream import Upstream, UpstreamError, UpstreamResponse
from identity_gateway.upstream.connection import Connection

_SMALL = 65_536
_CONTROLS = bytes([*range(9), *range(10, 32), 127])
_OPERATION = "InvokeAgentRuntime"
_CUT = "cut by the end of the gateway"
_ALLOWED = telemetry.DECISIONS.labels(Scheme.BEARER.value, ALLOWED)
_AT_ONCE = 0.01
"""Seconds within which a body arrives together with its head."""


def _new_request_id() -> str:
    """Return a UUID of version 4 (RFC 9562 §5.4), of bits that nobody needs to guess."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


Fields = list[tuple[bytes, bytes]]


class CallerConnection(Protocol):
    """A connection of a caller, on which the head of a request has arrived (`server.http.BoundedProtocol`)."""

    url: bytes
    head_size: int
    client: tuple[str, int] | None
    parser: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: Any
    tasks: set[asyncio.Task[None]]
    server_state: Any

    def on_response_complete(self) -> None:
        """Be ready for the next request."""

    def take_the_long_way(self, body: bytes) -> None:
        """Let the application answer the request, which has arrived whole."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What all passages share. `new_trace_id` is that of the long way."""

    recall: Recall
    upstream: Upstream
    placement: Placement
    audit: Audit
    timeouts: Timeouts
    new_trace_id: Callable[[], str]

    def enter(self, protocol: CallerConnection, fields: Fields) -> "Passage | None":
        """Return the passage of a request whose head has arrived, or None if it must go the long way."""
        by_name = dict(fields)
        if protocol.head_size > MAX_HEAD or protocol.parser.get_http_version() != "1.1":
            return None
        values = b"".join(by_name.values())
        if len(values.translate(None, _CONTROLS)) != len(values):
            return None
        length = by_name.get(b"content-length", b"")
        if len(by_name) != len(fields) or len(fields) > MAX_HEADERS or not length.isdigit() or len(length) > 5:
            return None
        if int(length) > _SMALL:
            return None
        raw_path, _, raw_query = protocol.url.partition(b"?")
        known = self.recall.find(raw_path, raw_query, by_name)
        if known is None:
            return None
        passed = [(name, value.strip()) for name, value in fields if name in known.passed]
        if any(len(by_name[name]) > headers.MAX_VALUE for name, _ in passed):
            return None
        return Passage(self, protocol, known, passed, by_name.get(headers.TRACE_ID, b"").strip())


class Passage:
    """One exchange. It stands where uvicorn keeps its own: what that calls and looks at has uvicorn's names."""

    __slots__ = (
        "_connection", "_deadline", "_framed", "_known", "_lane", "_passed", "_protocol", "_request_id", "_response",
        "_source", "_started", "_status", "_trace_id", "_whole", "body", "disconnected", "keep_alive", "message_event",
        "more_body", "response_complete", "response_started",
    )  # fmt: skip

    def __init__(
        self,
        lane: Lane,
        protocol: CallerConnection,
        known: Remembered,
        passed: Fields,
        trace_id: bytes,
    ) -> None:
        self._lane = lane
        self._protocol = protocol
        self._known = known
        self._passed = passed
        self._trace_id = trace_id
        self._connection: Connection | None = None
        self._response: UpstreamResponse | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._request_id = _new_request_id()
        self._started = time.perf_counter()
        self._status = 0
        self._framed = False
        self._source = protocol.client[0] if protocol.client else ""
        self._whole = False
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.keep_alive = protocol.parser.should_keep_alive()
        self.message_event = self
        telemetry.in_flight(1)

    def set(self) -> None:
        """Hear from uvicorn that something came: a part of the body, its end, or that the caller has left."""
        if self.disconnected:
            self._left()
        elif not self.more_body and not self._whole:
            self._whole = True
            self._enter()

    # --- Before the agent is sent anything ---------------------------------------------------------------------------

    def _enter(self) -> None:
        lane, known = self._lane, self._known
        late = time.perf_counter() - self._started > _AT_ONCE  # what held when the head came need not hold any more
        if not late or lane.recall.holds(known):
            self._connection = lane.upstream.idle(known.placed.origins[0])
        if self._connection is None:
            self._go_the_long_way()
            return
        lane.audit.repeat(self._known.trail, self._request_id, self._source, self._recorded)

    def _recorded(self, fault: Unavailable | None) -> None:
        """Call the agent, now that this is on record."""
        connection, self._connection = self._connection, None
        assert connection is not None
        origin = self._known.placed.origins[0]
        if self.response_complete:  # the caller has left
            self._lane.upstream.spare(origin, connection)
            return
        if fault is not None or not connection.usable:
            self._lane.upstream.spare(origin, connection)
            self._go_the_long_way()
            return
        if not self._trace_id:
            self._trace_id = self._lane.new_trace_id().encode()
        self._passed += ((headers.REQUEST_ID, self._request_id.encode()), (headers.TRACE_ID, self._trace_id))
        patience = self._lane.timeouts.sync
        try:
            start = self._lane.recall.start(self._known)
            self._response = self._lane.upstream.send(connection, start, self._passed, self.body, head_timeout=patience)
        except ValueError:
            self._lane.upstream.spare(origin, connection)
            self._go_the_long_way()
            return
        _ALLOWED.inc()
        self._response.listen(self.proceed)

    def _go_the_long_way(self) -> None:
        """Begin anew where nothing is remembered."""
        self.response_complete = True
        telemetry.in_flight(-1)
        self._protocol.take_the_long_way(self.body)

    # --- The answer --------------------------------------------------------------------------------------------------

    def proceed(self) -> None:
        """Pass on what the agent has sent, unless the caller takes too little of it: then it is called again."""
        response, protocol = self._response, self._protocol
        if response is None or self.response_complete or (self.response_started and protocol.flow.write_paused):
            return
        if protocol.transport.is_closing():  # `set` will say so
            return
        if not self.response_started and response.status and not 200 <= response.status < 300:
            self._response = None
            response.listen(None)
            self._in_background(self._refuse_failure(response))
            return
        try:
            data, over = response.ready()
        except UpstreamError as error:
            self._fail(error)
            return
        if self.response_started:
            if data or over:
                protocol.transport.write(self._piece(data, over=over))
        elif not response.status:
            return
        else:
            self._begin(response, data, over=over)
        if over:
            self._complete()
        elif data:  # what comes after it may be here already, if it is the news of a failure
            self.proceed()

    def _begin(self, response: UpstreamResponse, data: bytes, *, over: bool) -> None:
        status = response.status
        own = [(headers.SESSION_ID, self._known.session_id), (headers.TRACE_ID, self._trace_id)]
        answered = [*headers.answered(response.headers), *own]
        said = dict(answered)
        self._framed = b"content-length" not in said and status != 204
        self._write_head(status, answered, self._piece(data, over=over))
        streams = said.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        if streams or not over:
            patience = self._lane.timeouts.stream if streams else self._lane.timeouts.sync
            self._deadline = self._protocol.loop.call_later(patience, self._overdue)
            known = self._known
            kept = self._lane.placement.used_again(known.route, known.placed, known.proven, lasting=patience)
            self._in_background(kept)

    def _write_head(self, status: int, answered: Sequence[tuple[bytes, bytes]], rest: bytes) -> None:
        protocol = self._protocol
        parts = [STATUS_LINE[status]]
        for name, value in protocol.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in answered:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"x-amzn-requestid: ", self._request_id.encode(), b"\r\n")
        if self._framed:
            parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", rest)
        self._status, self.response_started = status, True
        protocol.transport.write(b"".join(parts))

    def _piece(self, data: bytes, *, over: bool) -> bytes:
        if not self._framed:
            return data
        piece = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return piece + b"0\r\n\r\n" if over else piece

    def _complete(self, error: str = "", reason: str = "", *, cut: bool = False) -> None:
        protocol, self._response, self.response_complete = self._protocol, None, True
        if self._deadline is not None:
            self._deadline.cancel()
        telemetry.in_flight(-1)
        telemetry.answered(
            _OPERATION,
            self._status,
            time.perf_counter() - self._started,
            request_id=self._request_id,
            source=self._source,
            error=error,
            reason=reason,
        )
        if not protocol.transport.is_closing():
            if cut or not self.keep_alive:
                protocol.transport.close()
            protocol.on_response_complete()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something be done that the server waits for when it ends."""
        task = self._protocol.loop.create_task(work)
        self._protocol.tasks.add(task)
        task.add_done_callback(self._protocol.tasks.discard)

    # --- What goes wrong ---------------------------------------------------------------------------------------------

    def _fail(self, error: UpstreamError) -> None:
        if self._lane.upstream.closing:
            self._cut()
        elif self.response_started:  # a cut connection says it best
            self._complete("AgentFailed", str(error), cut=True)
        else:
            self._refuse(failure_of(error))

    async def _refuse_failure(self, response: UpstreamResponse) -> None:
        """Answer for an agent that failed, when it has said why."""
        try:
            await refuse_failure(response, "HTTP")
        except AgentFailed as error:
            if not self.response_complete:
                self._refuse(error)
        finally:
            await response.aclose()
            if not self.response_complete:
                self._cut()

    def _cut(self) -> None:
        """Say that the server's patience with its last requests has ended."""
        if self.response_started:
            self._complete(_CUT, cut=True)
        else:
            self._answer(*render.aws(Unavailable(), self._request_id))
            self._complete(_CUT)

    def _refuse(self, error: GatewayError) -> None:
        self._answer(*render.native("HTTP", error, self._request_id, challenge=None))
        self._complete(error.__class__.__name__, error.reason)

    def _answer(self, status: int, fields: Fields, body: bytes) -> None:
        self._framed = False
        own = [field for field in fields if field[0] != b"x-amzn-requestid"]
        self._write_head(status, [*own, (b"content-length", str(len(body)).encode())], body)

    def _overdue(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.abandon()
            self._complete("AgentFailed", "The agent did not complete its answer.", cut=True)

    def _left(self) -> None:
        response, self._response = self._response, None
        if self.response_complete:
            return
        if response is not None:
            response.abandon()
        self._complete("the caller left")
