"""HTTP/1.1 with bounds: uvicorn's protocol on httptools, which refuses ambiguous requests.

What it does not bound is added here: the size of a request head, what may stand between the pieces of a body, the time
that either may take to arrive, and the time that a caller may leave an answer untaken. A request for a WebSocket is
checked like every other before it is one. This module does not know what a request asks for.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from identity_gateway.api.exchange import MAX_HEAD
from identity_gateway.api.web_sockets import opens
from identity_gateway.server.flow import Flow
from identity_gateway.server.lane import Lane
from identity_gateway.server.taking import Taking, patience_of
from identity_gateway.server.turn import Turn
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

    __slots__ = (
        "_clock",
        "_deaf",
        "_fed",
        "_in_head",
        "_lane",
        "_patience",
        "_received",
        "_refusal",
        "_spared",
        "_taken",
        "_taking",
        "_turn",
        "_upgrades",
        "form",
        "head_in_segment",
        "head_size",
        "idle_since",
        "segment",
        "unlike",
    )  # fmt: skip

    parser: Any  # None while a long answer goes on

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.pipeline = ()  # type: ignore[assignment]  # nothing ever waits in it
        self.head_size = 0  # bytes of the last head, at most
        self.head_in_segment = False  # the last head began and ended in what the parser was given then
        self.segment = b""  # what the parser is being given
        self.form: Any = None  # of the last request, for who expects others like it
        self.unlike = 0  # requests in a row that were not like it
        self.idle_since = 0.0  # on the clock of the loop; when the last answer was complete
        self._in_head = True
        self._received = True  # the last request, to its end
        self._deaf = False  # what still arrives on this connection is not read
        self._fed = 0  # bytes that the parser was given last
        self._spared = 0  # bytes since the last piece of a body, or since the head was complete
        self._taken = 0  # bytes of body since the rate was last checked
        self._refusal = _MALFORMED
        self._clock: asyncio.TimerHandle | None = None
        self._taking: Taking | None = None  # always set while there is a connection
        self._turn: Turn | None = None  # of the last request, if it took the short way
        self._upgrades = False  # the last request asks for a WebSocket, where there is one
        self._patience = patience_of(self.app)
        self._lane: Lane | None = getattr(self.app, "lane", None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clocks: a caller that never says anything, or never takes anything, is not kept."""
        super().connection_made(transport)
        self.flow = Flow(transport)  # type: ignore[assignment]
        self._expect(transport.close)
        self._taking = Taking(self, self._patience)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._expect_nothing()
        if self._taking is not None:
            self._taking.stop()
            self._taking = None
        super().connection_lost(exc)
        if self._turn is not None:  # they know each other, and garbage in circles is expensive
            self._turn = self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse what goes on and on without being a body, and a body that trickles."""
        if self._deaf:
            return
        lane = self._lane
        free = (
            self._received and not self._answering() and not self.flow.write_paused and not self.transport.is_closing()
        )
        if lane is not None and free:
            passage = lane.again(self, data)
            if passage is not None:
                self.cycle = self._turn = passage  # type: ignore[assignment]
                self._in_head = False
                if self._clock is not None:
                    self._expect_nothing()
                passage.enter()
                return
        self._spared += len(data)
        self._parse(data)
        if self._spared > _MAX_HEAD:
            self._refuse(_TOO_LARGE)
        elif not self._received and self._clock is None:  # what came whole needs no clock
            if self._in_head:
                self._expect(self._refuse, _TOO_SLOW)
            else:
                self._expect(self._check_rate)

    def _parse(self, data: bytes) -> None:
        if self.parser is None:  # a long answer has been going on
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.segment, self._fed = data, len(data)
        super().data_received(data)
        self.segment = b""

    def on_message_begin(self) -> None:
        """Begin a new head, unless the answer to the request before it is still under way."""
        if self._answering():
            raise ValueError("a request before the answer to the one before it")
        self.url, self.headers = b"", []
        self._in_head, self._received = True, False
        if self._clock is not None:
            self._expect_nothing()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; drop trailer fields, which must not pass for it (RFC 9110 §6.5.1)."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head as a whole; what follows is a body."""
        parser, fields = self.parser, self.headers
        by_name, offers = dict(fields), parser.should_upgrade()
        plain = len(by_name) == len(fields) and b"host" in by_name and b"transfer-encoding" not in by_name
        plain = plain and not offers and parser.get_http_version() == "1.1"
        self.head_in_segment = self._spared == self._fed
        if (
            plain and self.head_in_segment and self._fed <= MAX_HEAD
        ):  # all of it came in one piece, and nothing is left to check
            self.head_size = self._fed
        else:
            self._check_head()
        self._upgrades = offers and self._asks_for_web_socket()
        passage: Turn | None = None
        if plain and self._lane is not None and not self.flow.write_paused and parser.get_method() == b"POST":
            passage = self._lane.enter(self, by_name)
        if passage is None:
            self._begin_long_way()
        else:
            self.cycle = passage  # type: ignore[assignment] # it has what is used of one
        self._turn = passage
        self._in_head, self._spared, self._taken = False, 0, 0
        if self._clock is not None:
            self._expect_nothing()

    def _begin_long_way(self) -> None:
        """Let the application answer, in uvicorn's terms."""
        url, fields = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers += fields
        self.expect_100_continue = (b"expect", b"100-continue") in [(name, value.lower()) for name, value in fields]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the caller makes progress."""
        self._spared = 0
        self._taken += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that nothing of this request is still to come."""
        self._received, self._spared = True, 0
        if self._clock is not None:
            self._expect_nothing()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Be ready for the next request; bound the time in which the rest of one may come that was answered early."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.idle_since = self.loop.time()
        self.flow.resume_reading()
        if not self._received:
            self._expect(self.transport.close)

    @property
    def holds_back(self) -> bool:
        """Whether an answer waits for its caller."""
        return bool(self.flow.write_paused)

    @property
    def idle_until(self) -> float | None:
        """Until when, on the clock of the loop, the next request may begin; None while one is under way."""
        if self.cycle is None or self._answering() or not self._received:
            return None
        return self.idle_since + self.timeout_keep_alive

    def forget_request(self) -> None:
        """Forget the request that is being answered: the answer may last."""
        self.headers, self.url, self.scope = [], b"", None  # type: ignore[assignment]
        if self._received:
            self.parser = None

    def take_the_long_way(self, body: bytes, unread: bytes) -> None:
        """Let the application answer a request that has arrived whole, and that its passage does not answer.

        `unread` is the request itself if it was not parsed, because it was known from its bytes.
        """
        keep_alive = self.cycle.keep_alive  # whoever has ended that since meant this request
        self.cycle = None  # type: ignore[assignment]
        if unread:
            lane, self._lane = self._lane, None
            self._spared = len(unread)
            self.parser = None  # it may have refused what came behind this request, and reads nothing any more
            self._parse(unread)
            self._lane = lane
            if self.cycle is not None:
                self.cycle.keep_alive = self.cycle.keep_alive and keep_alive
            return
        self._begin_long_way()
        self.cycle.keep_alive = self.cycle.keep_alive and keep_alive
        super().on_body(body)
        super().on_message_complete()

    def resume_writing(self) -> None:
        """Note that the caller takes what it is sent."""
        if self._taking is not None:
            self._taking.progressed()
        super().resume_writing()
        if self._turn is not None:
            self._turn.proceed()

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
        if not excused and self._taken < _LEAST_RATE * self._patience:
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
        self._clock = self.loop.call_later(self._patience, otherwise, *arguments)

    def _expect_nothing(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
