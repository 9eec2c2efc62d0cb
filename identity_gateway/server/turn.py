"""One request of a caller and its answer, where uvicorn keeps its own: what uvicorn calls and looks at has its names.

Writes answers that come of something else than an application, and counts and logs them. What is asked, and what the
answer is, others know.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from identity_gateway import telemetry

_REQUEST_ID = b"\r\nx-amzn-requestid: "
_CHUNKED = b"\r\ntransfer-encoding: chunked"
_CLOSE = b"\r\nconnection: close"

Fields = list[tuple[bytes, bytes]]


class Ids:
    """Ids of requests and traces that nobody else makes: a beginning that nobody has, and a count."""

    __slots__ = ("_count", "_request", "_root", "_second", "_trace")

    def __init__(self) -> None:
        digits = f"{random.getrandbits(80):020x}"
        self._request = (
            f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-"  # in the form of RFC 9562 §5.4
        )
        self._trace = random.getrandbits(48)
        self._count = random.getrandbits(40)
        self._second, self._root = 0, b""

    def request(self) -> str:
        """Return the id of a request."""
        self._count = count = self._count + 1
        return f"{self._request}{count & 0xFFFFFFFFFFFF:012x}"

    def trace(self) -> bytes:
        """Return the id of a trace that begins here, with the last request (AWS X-Ray: version, time, 96 bits)."""
        second = int(time.time())
        if second != self._second:
            self._second, self._root = second, b"Root=1-%08x-%012x" % (second, self._trace)
        return b"%b%012x" % (self._root, self._count & 0xFFFFFFFFFFFF)


class DefaultFields:
    """The lines of the fields that each answer has. The server makes them anew every second."""

    __slots__ = ("_fields", "_lines")

    def __init__(self) -> None:
        self._fields: Any = None
        self._lines = b""

    def lines(self, fields: Any) -> bytes:
        """Return these fields as lines."""
        if fields is not self._fields:
            self._fields = fields
            self._lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        return self._lines


class CallerConnection(Protocol):
    """A connection of a caller, on which a request has arrived, or its head (`server.http.BoundedProtocol`)."""

    url: bytes
    headers: Fields
    head_size: int
    head_in_segment: bool
    segment: bytes
    unlike: int
    form: Any
    client: tuple[str, int] | None
    parser: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: Any
    tasks: set[asyncio.Task[None]]
    server_state: Any

    def on_response_complete(self) -> None:
        """Be ready for the next request."""

    def forget_request(self) -> None:
        """Keep nothing of the request: its answer may last."""

    def take_the_long_way(self, body: bytes, unread: bytes) -> None:
        """Let the application answer the request, which has arrived whole."""


class Turn(ABC):
    """A request being answered. `operation` is a name of ours. Its `set` hears what uvicorn has to say."""

    operation: str

    __slots__ = (
        "_defaults", "_framed", "_protocol", "_request_id", "_source", "_started", "_status", "_unread", "body",
        "disconnected", "keep_alive", "more_body", "response_complete", "response_started",
    )  # fmt: skip

    def __init__(self, protocol: CallerConnection, request_id: str, defaults: DefaultFields) -> None:
        self._protocol = protocol
        self._defaults = defaults
        self._request_id = request_id
        self._started = time.perf_counter()
        self._status = 0
        self._framed = False
        self._source = protocol.client[0] if protocol.client else ""
        self._unread = b""  # the whole request, if it was not parsed
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.keep_alive = True
        telemetry.in_flight(1)

    @property
    def message_event(self) -> "Turn":
        """What uvicorn calls `set` of."""
        return self

    @abstractmethod
    def set(self) -> None:
        """Hear that something came: a part of the body, its end, or that the caller has left."""

    @abstractmethod
    def proceed(self) -> None:
        """Go on with an answer: the caller has taken what was written of it."""

    def go_the_long_way(self) -> None:
        """Begin anew where nothing is remembered."""
        self.response_complete = True
        telemetry.in_flight(-1)
        self._protocol.take_the_long_way(self.body, self._unread)

    def write_head(self, status: int, lines: bytes, rest: bytes) -> None:
        """Write the head of the answer, of whose `lines` the last one is not ended, and what there is of the body."""
        protocol = self._protocol
        end = _CHUNKED if self._framed else b""
        if not self.keep_alive:
            end += _CLOSE
        self._status, self.response_started = status, True
        defaults, request_id = self._defaults.lines(protocol.server_state.default_headers), self._request_id.encode()
        protocol.transport.write(
            b"".join((STATUS_LINE[status], defaults, lines, _REQUEST_ID, request_id, end, b"\r\n\r\n", rest))
        )

    def answer(self, status: int, fields: Fields, body: bytes) -> None:
        """Write a whole answer of the gateway's own."""
        self._framed = False
        lines = b"".join([b"%b: %b\r\n" % field for field in fields if field[0] != b"x-amzn-requestid"])
        self.write_head(status, lines + b"content-length: %d" % len(body), body)

    def piece(self, data: bytes, *, over: bool) -> bytes:
        """Return a piece of the body as it is framed."""
        if not self._framed:
            return data
        piece = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return piece + b"0\r\n\r\n" if over else piece

    def complete(self, error: str = "", reason: str = "", *, cut: bool = False) -> None:
        """Have the request counted and logged, and let the next one come."""
        protocol, self.response_complete = self._protocol, True
        telemetry.in_flight(-1)
        lasted = time.perf_counter() - self._started
        if error:
            telemetry.answered(
                self.operation,
                self._status,
                lasted,
                request_id=self._request_id,
                source=self._source,
                error=error,
                reason=reason,
            )
        else:
            telemetry.answered_well(self.operation, self._status, lasted, self._request_id, self._source)
        if not protocol.transport.is_closing():
            if cut or not self.keep_alive:
                protocol.transport.close()
            protocol.on_response_complete()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something be done that the server waits for when it ends."""
        task = self._protocol.loop.create_task(work)
        self._protocol.tasks.add(task)
        task.add_done_callback(self._protocol.tasks.discard)
