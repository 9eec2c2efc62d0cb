"""One HTTP exchange over ASGI: the request head as a value, the body as chunks, the answer, and a caller who leaves."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol.request import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_HEAD = 65_536
MAX_HEADERS = 100
_BODY_PATIENCE = 60.0
"""Seconds that may pass between two pieces of a request body."""

_KEPT = 65_536
"""Bytes of a body that are kept until an answer begins: an error in JSON-RPC repeats the id of the call."""

_BRIEF_PATIENCE = 5.0
"""Seconds that a body may take that is read for its id alone."""

_SINGLE = (b"host", b"authorization", b"content-length", b"content-type", b"x-amz-date")
_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class CallerLeft(Exception):
    """The caller closed the connection before its request or its answer was complete."""


def check_head(request: Request, once: Iterable[bytes]) -> None:
    """Refuse a head that is too large, malformed, has no Host, or says twice what it must say `once` (RFC 9112 §3.2).

    Servers let some of it pass. What stands in a head may go on to an agent: nobody behind has to be as careful.
    """
    size = len(request.raw_path) + len(request.raw_query)
    size += sum(len(name) + len(value) + 4 for name, value in request.headers)
    if size > MAX_HEAD or len(request.headers) > MAX_HEADERS:
        raise ValidationFailed("The head of the request is too large.", kind="CannotParse")
    if not all(_FIELD_VALUE.fullmatch(value) for _, value in request.headers):
        raise ValidationFailed("A header is not well-formed.", kind="CannotParse")
    if request.count(b"host") == 0:
        raise ValidationFailed("The request has no Host header.", kind="CannotParse")
    for name in once:
        if request.count(name) > 1:
            raise ValidationFailed(f"The header {name.decode()} stands more than once.", kind="CannotParse")


class Exchange:
    """A request being answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = asyncio.Event()
        self.request = Request(
            method=scope["method"],
            raw_path=scope["raw_path"],
            raw_query=scope["query_string"],
            headers=tuple(scope["headers"]),
        )
        client = scope.get("client")
        self.source = client[0] if client else ""
        self.secure = scope.get("scheme") in {"https", "wss"}
        self._kept: list[bytes] | None = []
        self._kept_length = 0
        self.request_id = str(uuid.uuid4())
        self.operation = "-"
        self.status = 0
        self.ended = False
        self.streams_events = False
        self.error = ""
        self.reason = ""

    def check_head(self) -> None:
        """Refuse a head that this gateway would not answer: see `check_head`."""
        check_head(self.request, _SINGLE)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises CallerLeft if it is cut."""
        while not self._body_ended.is_set():
            try:
                async with asyncio.timeout(_BODY_PATIENCE):
                    message = await self._receive()
            except TimeoutError:
                raise ValidationFailed("The request body did not arrive in time.", kind="CannotParse") from None
            if message["type"] == "http.disconnect":
                raise CallerLeft
            if not message.get("more_body", False):
                self._body_ended.set()
            if chunk := message.get("body", b""):
                self._keep(chunk)
                yield chunk

    def _keep(self, chunk: bytes) -> None:
        self._kept_length += len(chunk)
        if self._kept_length > _KEPT:
            self._kept = None
        elif self._kept is not None:
            self._kept.append(chunk)

    async def small_body(self) -> bytes:
        """Return the whole body, whoever read of it so far: nothing if it is long, slow, or abandoned. For refusals."""
        length = self.request.header(b"content-length") or b"0"
        if len(length) > len(str(_KEPT)):
            return b""
        try:
            async with asyncio.timeout(_BRIEF_PATIENCE):
                while self._kept is not None and not self._body_ended.is_set():
                    await anext(self.body(), b"")
        except (TimeoutError, ValidationFailed):
            return b""
        return b"".join(self._kept or ())

    async def read(self, max_bytes: int) -> bytes:
        """Return the whole body. Raises ValidationFailed above `max_bytes`."""
        taken = bytearray()
        async for chunk in self.body():
            taken += chunk
            if len(taken) > max_bytes:
                raise ValidationFailed(f"The request body is larger than {max_bytes} bytes.", kind="CannotParse")
        return bytes(taken)

    def abandon_body(self) -> None:
        """Say that nobody will read the rest of the body: from now on `left` is listened for alone."""
        self._body_ended.set()

    async def left(self) -> None:
        """Return when the caller has gone. Waits until nobody reads the body any more, because only one may receive."""
        await self._body_ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer. Every answer carries its request id."""
        self.status = status
        self.streams_events = _is_open_stream(headers)
        self._kept = None
        if not any(name == b"x-amzn-requestid" for name, _ in headers):
            headers = [*headers, (b"x-amzn-requestid", self.request_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def chunk(self, data: bytes) -> None:
        """Send a part of the answer's body now; waits while the caller reads too slowly."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part of the answer."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole answer."""
        if status != 204:
            headers = [*headers, (b"content-length", str(len(body)).encode())]
        await self.begin(status, headers)
        await self.end(body)


def _is_open_stream(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether an answer is a stream of events to which one more may be added."""
    said = dict(headers)
    events = said.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    return events and said.keys().isdisjoint({b"content-length", b"content-encoding"})
