"""HTTP/1.1 with bounds: uvicorn's protocol on httptools, which refuses ambiguous requests.

What it does not bound is added here: the size of a request head, what may stand between the pieces of a body, the time
that either may take to arrive, and the time that a caller may leave an answer untaken. A request for a WebSocket is
checked like every other before it is one. This module does not know what a request asks for.
"""

import asyncio
import sys
from collections.abc import Callable

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from identity_gateway.api.web_sockets import opens
from identity_gateway.server.lane import Passage
from identity_gateway.server.taking import Taking, patience_of
from identity_gateway.server.web_sockets import BoundedWebSocket

_MAX_HEAD = 131_072
"""Bytes of a request that are not body, in one piece: its head, trailers, chunk extensions."""

_LEAST_RATE = 8192
"""Bytes a second, on average over `request_head_timeout`, that a caller must send of a body that is awaited."""

_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_MALFORMED = b"400 Bad Request"


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits, and one request at a time.

    A request that comes before the one before it was answered is not read, and the connection ends with that answer
    (RFC 9112 §9.3.2: a client that pipelines must be ready to ask again). So no answer can be taken for another's.
    """

    head_size = 0  # bytes of the last head
    _in_head = True
    _received = True  # the last request, to its end
    _deaf = False  # what still arrives on this connection is not read
    _fed = 0  # bytes that the parser was given last
    _spared = 0  # bytes since the last piece of a body, or since the head was complete
    _taken = 0  # bytes of body since the rate was last checked
    _refusal = _MALFORMED
    _clock: asyncio.TimerHandle | None = None
    _taking: Taking | None = None  # always set while there is a connection
    _passage: Passage | None = None  # of the last request, if it took the short way
    _upgrades = False  # the last request asks for a WebSocket, where there is one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clocks: a caller that never says anything, or never takes anything, is not kept."""
        super().connection_made(transport)
        self._expect(transport.close)
        self._taking = Taking(transport, patience_of(self.app), lambda: self.flow.write_paused)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._expect_nothing()
        if self._taking is not None:
            self._taking.stop()
        super().connection_lost(exc)
        if self._passage is not None:  # they know each other, and garbage in circles is expensive
            self._passage = self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse what goes on and on without being a body, and a body that trickles."""
        if self._deaf:
            return
        self._fed = len(data)
        self._spared += self._fed
        super().data_received(data)
        if self._spared > _MAX_HEAD:
            self._refuse(_TOO_LARGE)
        elif not self._received and self._clock is None:  # what came whole needs no clock
            if self._in_head:
                self._expect(self._refuse, _TOO_SLOW)
            else:
                self._expect(self._check_rate)

    def on_message_begin(self) -> None:
        """Begin a new head, unless the answer to the request before it is still under way."""
        if self._answering():
            raise ValueError("a request before the answer to the one before it")
        super().on_message_begin()
        self._in_head, self._received = True, False
        self._expect_nothing()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; drop trailer fields, which must not pass for it (RFC 9110 §6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head as a whole; what follows is a body."""
        self._check_head()
        self._upgrades = self._asks_for_web_socket()
        lane = getattr(self.app, "lane", None)
        passage = None
        if lane is not None and not self._upgrades and self.parser.get_method() == b"POST":
            passage = lane.enter(self, self.headers)
        if passage is None:
            super().on_headers_complete()
        else:
            self.cycle = passage  # it has what is used of one
        self._passage = passage
        self._in_head, self._spared, self._taken = False, 0, 0
        self._expect_nothing()

    def on_body(self, body: bytes) -> None:
        """Note that the caller makes progress."""
        self._spared = 0
        self._taken += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that nothing of this request is still to come."""
        self._received, self._spared = True, 0
        self._expect_nothing()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Bound the time in which the rest of a request may come that was answered before its end."""
        super().on_response_complete()
        if not self._received:
            self._expect(self.transport.close)

    def take_the_long_way(self, body: bytes) -> None:
        """Let the application answer a request that has arrived whole, and that its passage does not answer."""
        keep_alive = self.cycle.keep_alive  # whoever has ended that since meant this request
        self.cycle = None  # type: ignore[assignment]
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and keep_alive
        super().on_body(body)
        super().on_message_complete()

    def resume_writing(self) -> None:
        """Note that the caller takes what it is sent."""
        if self._taking is not None:
            self._taking.progressed()
        super().resume_writing()
        if self._passage is not None:
            self._passage.proceed()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refused. uvicorn would answer even into the answer to another request."""
        del msg
        self._refuse(self._refusal)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, with the head as it was checked here. Nothing may stand behind it (RFC 6455 §4.1).

        What this protocol watches over ends with it: from here on the WebSocket's own limits hold.
        """
        if self._stands_behind(sys.exception()):
            self._refuse(_MALFORMED)
            return
        self._expect_nothing()
        if self._taking is not None:
            self._taking.stop()
        self.connections.discard(self)
        successor = BoundedWebSocket(self.config, self.server_state, self.app_state)
        successor.connection_made(self.transport)
        if self.flow.write_paused:
            successor.pause_writing()
        self.transport.set_protocol(successor)
        successor.shake_hands(self.url, self.headers)

    def _should_upgrade(self) -> bool:
        return self._upgrades

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore an offer to upgrade, as a server may (RFC 9110 §7.8). What stands behind it came too early, too."""
        if self._stands_behind(sys.exception()):
            self._refuse(_MALFORMED)

    def _stands_behind(self, offer: BaseException | None) -> bool:
        """Say whether more came than the head that offers an upgrade."""
        return isinstance(offer, HttpParserUpgrade) and offer.args[0] < self._fed

    def _asks_for_web_socket(self) -> bool:
        """Say whether this is the handshake of a WebSocket, at a door for one. Every other offer is ignored."""
        if not self.parser.should_upgrade() or self.parser.get_method() != b"GET":
            return False
        offers = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        return (
            offers == [b"websocket"] and self.parser.get_http_version() == "1.1" and opens(self.url.partition(b"?")[0])
        )

    def _check_head(self) -> None:
        """Raise, which the parser turns into a refusal, unless the head is one of HTTP/1.x and of bounded size."""
        self.head_size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self.head_size > _MAX_HEAD:
            self._refusal = _TOO_LARGE
            raise ValueError("the head is too large")
        names = [name for name, _ in self.headers]
        version = self.parser.get_http_version()
        if version == "1.0" and b"transfer-encoding" in names:
            raise ValueError("the framing is faulty (RFC 9112 §6.1)")
        if [value.lower() for name, value in self.headers if name == b"transfer-encoding"] not in ([], [b"chunked"]):
            raise ValueError("a coding beside chunked, which nobody would decode (RFC 9112 §6.1)")
        if version != "1.0" and (version != "1.1" or names.count(b"host") != 1):
            raise ValueError("not HTTP/1.1, or not exactly one Host (RFC 9112 §3.2)")
        if self.parser.should_upgrade() and any(name in _FRAMING and value != b"0" for name, value in self.headers):
            # The parser takes the body for what follows the upgrade: it would become the next request.
            raise ValueError("an offer to upgrade together with a body")

    def _check_rate(self) -> None:
        """Refuse a body that trickles. That the application does not take it, or answers already, is not its fault."""
        self._clock = None
        excused = self.flow.read_paused or self.cycle.response_started
        if not excused and self._taken < _LEAST_RATE * patience_of(self.app):
            self._refuse(_TOO_SLOW)
            return
        self._taken = 0
        self._expect(self._check_rate)

    def _refuse(self, status: bytes) -> None:
        """Read no more. Answer, unless this request has been answered; never into the answer to another one."""
        self._expect_nothing()
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = True
        if self._answering() and self._received:
            self.cycle.keep_alive = False  # its answer is the last one
            return
        answered = self.cycle.response_started if self._answering() else not (self._in_head or self._received)
        if not answered:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect(self, otherwise: Callable[..., None], *arguments: bytes) -> None:
        """Call this when the patience ends, unless something else is expected before."""
        self._expect_nothing()
        self._clock = self.loop.call_later(patience_of(self.app), otherwise, *arguments)

    def _expect_nothing(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
