"""WebSockets towards agents: the same address rules and the same TLS as every other call, one connection per stream.

No proxy of the environment, no redirect, no compression: a stream goes where the runtime was registered, or nowhere.
Nothing here authenticates, decides which fields an agent may see, or connects again.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.uri import WebSocketURI

from identity_gateway.upstream.address import AddressBook, Origin, Resolver
from identity_gateway.upstream.dialer import Dialer
from identity_gateway.upstream.failure import FailureKind, UpstreamError

MAX_MESSAGE = 1 << 20
"""Bytes of one message of an agent."""

_QUEUE = 4
"""Messages of an agent that wait for its caller before the agent is made to wait."""

_MAX_UNREAD = 1 << 20
"""Bytes that may wait for an agent to read them. Messages wait before they are so many, answers to pings do not."""

_KEEP_ALIVE = 30.0
_CLOSE_PATIENCE = 3.0
_VISIBLE = re.compile(rb"[\x20-\x7e\x80-\xff\t]*")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")

_ABNORMAL = 1006
_quiet = logging.getLogger("identity_gateway.web_sockets")
_quiet.setLevel(logging.CRITICAL)  # the library would log heads and frames, which hold credentials


@dataclass(frozen=True, slots=True)
class Ended:
    """How a side ended its stream (RFC 6455 §7.1.5): 1006 when it did so without a word."""

    code: int
    reason: str = ""


class AgentSocket(ClientConnection):
    """An open stream to an agent. `last_frame` is the loop time of the last frame that was no answer to a ping."""

    last_frame = 0.0

    def process_event(self, event: Event) -> None:
        """Note that the agent is alive, then go on, unless it asks for answers that it does not read."""
        if self.transport.get_write_buffer_size() > _MAX_UNREAD:
            self.transport.abort()
            return
        answers = isinstance(event, Frame) and event.opcode is Opcode.PONG and bytes(event.data) in self.pending_pings
        if not answers:
            self.last_frame = self.loop.time()
        super().process_event(event)

    async def next(self) -> str | bytes | Ended:
        """Return the next message, text as `str`, or how the stream ended."""
        try:
            return await self.recv()
        except ConnectionClosed:
            return self._ended()

    async def pass_on(self, message: str | bytes) -> Ended | None:
        """Send a message; wait while the agent reads too slowly. Returns how the stream ended if it has."""
        try:
            await self.send(message)
        except ConnectionClosed:
            return self._ended()
        return None

    def _ended(self) -> Ended:
        received, sent = self.protocol.close_rcvd, self.protocol.close_sent
        closed = received if self.protocol.close_rcvd_then_sent or sent is None else sent
        return Ended(closed.code, closed.reason) if closed is not None else Ended(_ABNORMAL)


class AgentSockets:
    """Opens streams to agents, at most `max_streams` at a time. For one event loop; close it with `aclose`.

    `connect_timeout` bounds name, connection, TLS and handshake together, in seconds.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_streams: int,
        connect_timeout: float,
        resolver: Resolver | None = None,
    ) -> None:
        self._addresses = AddressBook(resolver)
        self._dialer = Dialer(self._addresses, ssl_context, connect_timeout)
        self._max_streams = max_streams
        self._connect_timeout = connect_timeout
        self._opening = 0
        self._open: set[AgentSocket] = set()

    async def open(self, origin: Origin, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> AgentSocket:
        """Open a stream. `headers` go out as they are, beside those of the handshake.

        Raises UpstreamError, Refused (the agent answered with something else than 101), and ValueError for what cannot
        stand in a request head. Close what is returned with `release`.
        """
        fields = _checked(target, headers)
        if len(self._open) + self._opening >= self._max_streams:
            raise UpstreamError(FailureKind.BUSY, f"{origin}: {self._max_streams} streams are open")
        self._opening += 1
        try:
            return await self._opened(origin, target, fields)
        finally:
            self._opening -= 1

    async def _opened(self, origin: Origin, target: bytes, fields: list[tuple[str, str]]) -> AgentSocket:
        uri = WebSocketURI(origin.scheme == "https", origin.host, origin.port, target.decode("ascii"), "")
        socket = await self._dialer.open(origin, lambda: _socket(uri))
        try:
            async with asyncio.timeout(self._connect_timeout):
                await socket.handshake(fields, None)
        except BaseException as error:
            socket.transport.abort()
            match error:
                case InvalidStatus():
                    raise Refused(error.response.status_code, bytes(error.response.body or b"")) from None
                case InvalidMessage():
                    raise UpstreamError(FailureKind.CLOSED, f"{origin}: closed during the handshake") from None
                case InvalidHandshake():
                    raise UpstreamError(FailureKind.PROTOCOL, f"{origin}: not the handshake of a WebSocket") from None
                case TimeoutError():
                    raise UpstreamError(FailureKind.TIMEOUT, f"{origin}: no handshake in time") from None
                case ConnectionClosed() | OSError():
                    raise UpstreamError(FailureKind.CLOSED, f"{origin}: closed during the handshake") from None
            raise
        self._open.add(socket)
        socket.start_keepalive()
        return socket

    async def release(self, socket: AgentSocket, ended: Ended) -> None:
        """End a stream with a code that may stand on the wire. Takes some seconds at most."""
        try:
            await socket.close(ended.code, ended.reason)
        finally:
            socket.transport.abort()
            self._open.discard(socket)

    async def aclose(self) -> None:
        """Cut every stream."""
        self._addresses.close()
        for socket in list(self._open):
            socket.transport.abort()


class Refused(Exception):
    """The agent answered the handshake with a status of its own. `said` is what it said with it."""

    def __init__(self, status: int, said: bytes) -> None:
        super().__init__(f"the agent answered {status}")
        self.status = status
        self.said = said


def _socket(uri: WebSocketURI) -> AgentSocket:
    protocol = ClientProtocol(uri, extensions=None, max_size=MAX_MESSAGE, logger=_quiet)
    return AgentSocket(
        protocol,
        ping_interval=_KEEP_ALIVE,
        ping_timeout=_KEEP_ALIVE,
        close_timeout=_CLOSE_PATIENCE,
        max_queue=_QUEUE,
    )


def _checked(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the fields as text. Raises ValueError for whatever could end a line or a field early."""
    if not _TARGET.fullmatch(target):
        raise ValueError("the target is not a path in visible ASCII characters")
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise ValueError("a field name is not a token")
        if not _VISIBLE.fullmatch(value):
            raise ValueError("a field value holds a control character")
    return [(name.decode("ascii"), value.decode("latin-1")) for name, value in headers]
