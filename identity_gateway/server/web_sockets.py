"""WebSockets with bounds, over uvicorn's protocol: the size and the rate of frames, and what a caller leaves untaken.

No compression, so that a small frame is a small message. The head of the handshake has been read and checked by `http`.
How long a stream may last or be silent is not decided here.
"""

import logging
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

from identity_gateway.api.web_sockets import LAST_FRAME
from identity_gateway.server.taking import Taking, patience_of

MAX_MESSAGE = 65_536
"""Bytes of a frame and of a message from a caller (AWS: WebSocket frames of an agent runtime)."""

KEEP_ALIVE = 30.0
"""Seconds between two pings to a caller, and until one must be answered."""

_FRAMES_A_SECOND = 250
_MAX_FRAGMENTS = 1024
_LINGER = 2.0
"""Seconds in which a caller may read why its stream was ended, while what it still sends is thrown away."""

_quiet = logging.getLogger("identity_gateway.web_sockets")
_quiet.setLevel(logging.CRITICAL)  # the libraries would log targets, heads and frames, which hold credentials


class _Handshakes(ServerProtocol):
    """The library's protocol, without what its refusals quote: a token may stand among the sub-protocols."""

    def accept(self, request: Request) -> Response:
        """Return the answer to a handshake."""
        response = super().accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            response.body = b"This is not the handshake of a WebSocket (RFC 6455).\n"
            del response.headers["Content-Length"]
            response.headers["Content-Length"] = str(len(response.body))
        return response


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket of a caller, from its handshake on."""

    _deaf = False  # what still arrives on this connection is not read
    _taking: Taking | None = None
    _second = 0.0  # when the present second began
    _frames = 0  # in the present second
    _last_frame = 0.0

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.logger = _quiet
        self.conn = _Handshakes(max_size=MAX_MESSAGE, logger=_quiet)

    idle_until = None  # `run_asgi` ends a stream that is silent too long

    @property
    def holds_back(self) -> bool:
        """Whether something that was said waits for its caller."""
        return not self.writable.is_set()

    def shake_hands(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Begin with a head that was read and checked: it is not read a second time, perhaps in another way."""
        fields = Headers()
        for name, value in headers:
            fields[name.decode("latin-1")] = value.decode("latin-1")
        self.conn.parser = Protocol.parse(self.conn)
        next(self.conn.parser)
        self._taking = Taking(self, patience_of(self.app))
        self.handle_connect(Request(target.decode("latin-1"), fields))

    async def run_asgi(self) -> None:
        """Let the application answer; it may ask when the caller was last heard of."""
        self.scope["extensions"][LAST_FRAME] = {"loop_time": lambda: self._last_frame}
        await super().run_asgi()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        if self._taking is not None:
            self._taking.stop()
        if self.conn.close_rcvd is None and self.conn.close_sent is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})  # gone without a word
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Note that the caller takes what it is sent."""
        if self._taking is not None:
            self._taking.progressed()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read frames; cut off a caller that sends them before it was let in (RFC 6455 §4.1)."""
        if self._deaf:
            return
        if not self.handshake_complete:
            self.transport.abort()
            return
        super().data_received(data)

    def handle_events(self) -> None:
        """Count frames of every kind, and end the stream of a caller that sends too many."""
        frames = [event for event in self.conn.events if isinstance(event, Frame)]
        now = self.loop.time()
        if any(frame.opcode is not Opcode.PONG or bytes(frame.data) != self.pending_ping_payload for frame in frames):
            self._last_frame = now
        if now - self._second >= 1.0:
            self._second, self._frames = now, 0
        self._frames += len(frames)
        if self._frames > _FRAMES_A_SECOND:
            self._end(1008, f"more than {_FRAMES_A_SECOND} frames in a second")
        elif len(self.frames) + len(frames) > _MAX_FRAGMENTS:
            self._end(1009, f"a message in more than {_MAX_FRAGMENTS} frames")
        else:
            super().handle_events()

    def handle_parser_exception(self) -> None:
        """Say why the stream ends, and give the caller a moment to read it: unread bytes would reset the connection."""
        assert self.conn.close_sent is not None
        self._deaf = True
        closed = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._linger()

    def keepalive_timeout(self) -> None:
        """Give a caller more time whose frames wait because its agent reads slowly: its answer may be among them."""
        if self.read_paused and not self.close_sent:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        super().keepalive_timeout()

    def shutdown(self) -> None:
        """End the stream because the gateway ends. Whoever answers is not waited for any longer."""
        if self.transport.is_closing():  # the caller ended it, and has not taken everything yet
            self.stop_keepalive()
        elif self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            self._end(1001, "the gateway is stopping")
            self._deaf = False  # for the answer
        else:
            super().shutdown()

    def _end(self, code: int, reason: str) -> None:
        self.conn.events.clear()
        if self.close_sent or self.transport.is_closing():
            self.transport.abort()
            return
        self.conn.send_close(code, reason)
        self.handle_parser_exception()

    def _linger(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(_LINGER, self.transport.close)
