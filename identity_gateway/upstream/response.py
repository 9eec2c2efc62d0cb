"""Reads one HTTP/1.1 response: bytes in, status, fields and body out (RFC 9112 §4 to §7).

`ResponseReader` holds the rules and touches no socket. `UpstreamResponse` is what the caller gets to see.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, Self

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from identity_gateway.upstream.failure import FailureKind, UpstreamError

_MAX_FIELDS: Final = 256

Headers = tuple[tuple[bytes, bytes], ...]


class ResponseReader:
    """The state of one response. A fresh one for every request: nothing of a response can reach the next one."""

    __slots__ = (
        "_bare", "_fields", "_first", "_informed", "_max_head", "_parser", "_refusal", "_size_of_head", "_to_head",
        "body", "clean", "ended", "headers", "keep_alive", "keep_alive_header", "size", "sized", "status",
        "until_close",
    )  # fmt: skip

    def __init__(self, *, to_head: bool, max_head: int) -> None:
        self.status = 0  # until the head is complete
        self.headers: Headers = ()
        self.body: list[bytes] = []
        self.size = 0
        self.ended = False
        self.clean = True  # nothing came behind the end
        self.keep_alive = False
        self.keep_alive_header: bytes | None = None
        self.until_close = False
        self.sized = False  # the head says how long the body is
        self._to_head = to_head
        self._max_head = max_head
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._size_of_head = 0
        self._bare = 0
        self._first = True
        self._informed = False
        self._refusal: UpstreamError | None = None

    def feed(self, data: bytes) -> None:
        """Read what arrived. Raises UpstreamError (`protocol`, `too_large`) unless the response has ended before."""
        parser = self._parser
        assert parser is not None  # `release` comes last
        if self._first:
            self._first = False
            if not data.startswith(b"H"):  # the parser would read RTSP and ICE as well
                raise UpstreamError(FailureKind.PROTOCOL, "malformed response: not HTTP")
        self._bare += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.clean = False
            if not self.ended:
                raise self._refusal or UpstreamError(
                    FailureKind.PROTOCOL, f"malformed response: {error}"
                ) from None  # the parser's error may quote our own callback
        if self._bare > self._max_head and not self.ended:
            raise UpstreamError(
                FailureKind.TOO_LARGE, f"more than {self._max_head} bytes of response that are not body"
            )

    def release(self) -> None:
        """Let go of the parser, which points back here: garbage in circles would cost more than the response."""
        self._parser = None

    def take(self) -> bytes:
        """Return the body received so far, and forget it."""
        body = self.body
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        self.size = 0
        return data

    # --- Called by the parser. An exception stops it. ---

    def on_message_begin(self) -> None:
        """Notice a second response that nobody asked for."""
        if self.status:
            self.clean = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field; trailer fields count towards the bound of the head, and are dropped."""
        self._size_of_head += len(name) + len(value) + 4
        if self._size_of_head > self._max_head:
            self._refuse(FailureKind.TOO_LARGE, "the response head is too large")
        if not self.status:
            self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Decide what follows the head, and whether the connection can serve again."""
        if self.status:
            return
        parser = self._parser
        assert parser is not None
        status, version = parser.get_status_code(), parser.get_http_version()
        if version != "1.1" and (version != "1.0" or self._informed):
            self._refuse(FailureKind.PROTOCOL, f"malformed response: HTTP version {version}")
        if not 200 <= status <= 599:
            self._inform(status)
            return
        if len(self._fields) > _MAX_FIELDS:
            self._refuse(FailureKind.TOO_LARGE, "the response head has too many fields")
        fields = dict(self._fields)
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if coding is not None:
            self._check_coding(coding, length, version)
        self.headers = tuple(self._fields)
        self._fields = []
        self.status = status
        self.sized = length is not None
        self.keep_alive = parser.should_keep_alive()
        self.keep_alive_header = fields.get(b"keep-alive")
        self._bare = 0
        if self._to_head or status in {204, 304}:
            self.ended = True
        elif coding is None and length is None:
            self.until_close = True

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.ended:
            self.clean = False
            return
        self._bare = 0
        self.body.append(data)
        self.size += len(data)

    def on_message_complete(self) -> None:
        """Notice the end of the response, unless it was an informational one."""
        if self.status:
            self.ended = True

    def _inform(self, status: int) -> None:
        """Skip a 1xx response. 101 changes the protocol, which nobody asked for (RFC 9110 §15.2)."""
        if not 100 <= status < 200 or status == 101:
            self._refuse(FailureKind.PROTOCOL, f"malformed response: status {status:03d}")
        if any(name in {b"content-length", b"transfer-encoding"} for name, _ in self._fields):
            self._refuse(FailureKind.PROTOCOL, "malformed response: informational, but with a body")
        self._informed = True
        self._fields.clear()

    def _check_coding(self, coding: bytes, length: bytes | None, version: str) -> None:
        """Refuse every transfer coding but one `chunked`: another reader might find another end (RFC 9112 §6.3)."""
        count = sum(name == b"transfer-encoding" for name, _ in self._fields)
        if coding.lower() != b"chunked" or count > 1 or length is not None or version != "1.1":
            self._refuse(FailureKind.PROTOCOL, "malformed response: its length is ambiguous")

    def _refuse(self, kind: FailureKind, message: str) -> None:
        self._refusal = UpstreamError(kind, message)
        raise self._refusal


class Source(Protocol):
    """The connection, as far as a response needs it."""

    def consumed(self) -> None:
        """Take note that everything buffered was taken."""

    def abandon(self, response: "UpstreamResponse") -> None:
        """Close the connection, if it still works for this response."""


class UpstreamResponse:
    """What an agent answers. Iterate over the body as it arrives; always `aclose`, or use `async with`.

    `headers` are (lower-case name, value) pairs in wire order as received, those of the connection included: relay only
    what RFC 9110 §7.6.1 allows. Values hold no control character but tab. Iterating raises UpstreamError when the body
    was cut short. There is no limit on the body's size or on the time between its pieces: the reader cancels.
    """

    __slots__ = ("_failure", "_listener", "_reader", "_source", "_waiter")

    def __init__(self, reader: ResponseReader, source: Source) -> None:
        self._reader = reader
        self._source: Source | None = source
        self._waiter: asyncio.Future[None] | None = None
        self._listener: Callable[[], None] | None = None
        self._failure: BaseException | None = None

    @property
    def status(self) -> int:
        """The status code, from 200 to 599."""
        return self._reader.status

    @property
    def headers(self) -> Headers:
        """The fields of the head."""
        return self._reader.headers

    def ready(self) -> tuple[bytes, bool]:
        """Return, without waiting, the body that has arrived and whether that was the rest of it.

        Raises UpstreamError if nothing is left but the news that the body was cut short.
        """
        data = self._take() if self._reader.body else b""
        over = self._source is None
        if over and not data and self._failure is not None:
            raise self._failure
        return data, over and self._failure is None

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Call this at every news, until the end: for who does not wait. `ready` and `status` say what the news is.

        None: call nobody any more.
        """
        self._listener = listener

    def abandon(self) -> None:
        """Stop reading, as `aclose` does, and hear no more."""
        self._listener = None
        if self._source is not None:
            self._source.abandon(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        reader = self._reader
        while not reader.body:
            if self._source is None:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            await self._news()
        return self._take()

    async def aclose(self) -> None:
        """Stop reading. A connection whose response has not ended is closed, because its rest would come next."""
        if self._source is not None:
            self._source.abandon(self)
        elif self._reader.body:
            self._reader.body.clear()
            self._failure = UpstreamError(FailureKind.CLOSED, "the response was closed before it was read")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- Called by the connection. ---

    async def head(self) -> None:
        """Wait for the head. Raises what `finish` was given if there will be none."""
        while not self._reader.status:
            if self._failure is not None:
                raise self._failure
            await self._news()

    def wake(self) -> None:
        """Let the reader look again."""
        if self._listener is not None:
            self._listener()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def finish(self, failure: BaseException | None) -> None:
        """Say that nothing more will come, and why if that is not the end of the body."""
        self._source = None
        self._failure = failure
        self.wake()

    def _take(self) -> bytes:
        data = self._reader.take()
        if self._source is not None:
            self._source.consumed()
        return data

    async def _news(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("two tasks read the same response")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            if self._source is not None:
                self._source.abandon(self)
            raise
        finally:
            self._waiter = None
