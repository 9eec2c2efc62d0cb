"""Run the application on uvicorn: one process, or several workers on one socket.

uvicorn parses HTTP/1.1 (httptools), which refuses ambiguous requests. What it does not bound is added here: the size of
a request head, what may stand between the pieces of a body, the time that either may take to arrive, and the time that
a caller may leave an answer untaken. This module does not know what a request asks for.
"""

import asyncio
import logging
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from httptools import HttpParserUpgrade
from prometheus_client import start_http_server
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from identity_gateway import telemetry
from identity_gateway.settings import Settings, SettingsError

if sys.platform != "win32":
    import fcntl
    import resource
    import termios

_MAX_HEAD = 131_072
"""Bytes of a request that are not body, in one piece: its head, trailers, chunk extensions."""

_LEAST_RATE = 8192
"""Bytes a second, on average over `request_head_timeout`, that a caller must send of a body that is awaited."""

_PATIENCE = 30.0
_WORKER_SILENCE = 60
_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_MALFORMED = b"400 Bad Request"

_SAID_BETTER = ("ASGI callable returned without", "Application startup failed")
"""Remarks of uvicorn that repeat what the request's own line, or the reason of the failed start, says already."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits, and one request at a time.

    A request that comes before the one before it was answered is not read, and the connection ends with that answer
    (RFC 9112 §9.3.2: a client that pipelines must be ready to ask again). So no answer can be taken for another's.
    """

    _in_head = True
    _received = True  # the last request, to its end
    _deaf = False  # what still arrives on this connection is not read
    _fed = 0  # bytes that the parser was given last
    _spared = 0  # bytes since the last piece of a body, or since the head was complete
    _taken = 0  # bytes of body since the rate was last checked
    _refusal = _MALFORMED
    _clock: asyncio.TimerHandle | None = None
    _watch: asyncio.TimerHandle | None = None  # over what the caller takes; always set while there is a connection
    _untaken = 0  # bytes that waited for the caller when the watch last looked; 0 when it need not have taken any

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clocks: a caller that never says anything, or never takes anything, is not kept."""
        super().connection_made(transport)
        self._expect(transport.close)
        self._watch = self.loop.call_later(self._patience(), self._check_taking)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._expect_nothing()
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse what goes on and on without being a body, and a body that trickles."""
        if self._deaf:
            return
        self._fed = len(data)
        self._spared += self._fed
        super().data_received(data)
        if self._spared > _MAX_HEAD:
            self._refuse(_TOO_LARGE)
        elif not self._received and self._clock is None:
            self._expect(self._check_rate)

    def on_message_begin(self) -> None:
        """Begin a new head, unless the answer to the request before it is still under way."""
        if self._answering():
            raise ValueError("a request before the answer to the one before it")
        super().on_message_begin()
        self._in_head, self._received = True, False
        self._expect(self._refuse, _TOO_SLOW)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; drop trailer fields, which must not pass for it (RFC 9110 §6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head as a whole; what follows is a body."""
        self._check_head()
        super().on_headers_complete()
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

    def resume_writing(self) -> None:
        """Note that the caller takes what it is sent."""
        self._untaken = 0
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refused. uvicorn would answer even into the answer to another request."""
        del msg
        self._refuse(self._refusal)

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore an offer to upgrade, as a server may (RFC 9110 §7.8). What stands behind it came too early, too."""
        offer = sys.exception()
        if isinstance(offer, HttpParserUpgrade) and offer.args[0] < self._fed:
            self._refuse(_MALFORMED)

    def _check_head(self) -> None:
        """Raise, which the parser turns into a refusal, unless the head is one of HTTP/1.x and of bounded size."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > _MAX_HEAD:
            self._refusal = _TOO_LARGE
            raise ValueError("the head is too large")
        names = [name for name, _ in self.headers]
        version = self.parser.get_http_version()
        if version == "1.0" and b"transfer-encoding" in names:
            raise ValueError("the framing is faulty (RFC 9112 §6.1)")
        if version != "1.0" and (version != "1.1" or names.count(b"host") != 1):
            raise ValueError("not HTTP/1.1, or not exactly one Host (RFC 9112 §3.2)")
        if self.parser.should_upgrade() and any(name in _FRAMING and value != b"0" for name, value in self.headers):
            # The parser takes the body for what follows the upgrade: it would become the next request.
            raise ValueError("an offer to upgrade together with a body")

    def _check_rate(self) -> None:
        """Refuse a body that trickles. That the application does not take it, or answers already, is not its fault."""
        self._clock = None
        excused = self.flow.read_paused or self.cycle.response_started
        if not excused and self._taken < _LEAST_RATE * self._patience():
            self._refuse(_TOO_SLOW)
            return
        self._taken = 0
        self._expect(self._check_rate)

    def _check_taking(self) -> None:
        """Cut off a caller that has taken nothing since the last look, although the gateway waits for it.

        It waits when it holds back the rest of an answer, and when the connection is to be closed, by whomever, which
        otherwise lasts until the caller took the last byte. At other times new bytes may make up for those taken.
        """
        waits = self.flow.write_paused or self.transport.is_closing()
        untaken = _untaken(self.transport) if waits else 0
        if untaken and untaken == self._untaken:
            self.transport.abort()
            return
        self._untaken = untaken
        self._watch = self.loop.call_later(self._patience(), self._check_taking)

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

    def _patience(self) -> float:
        settings = getattr(self.app, "settings", None)
        return settings.request_head_timeout if isinstance(settings, Settings) else _PATIENCE

    def _expect(self, otherwise: Callable[..., None], *arguments: bytes) -> None:
        """Call this when the patience ends, unless something else is expected before."""
        self._expect_nothing()
        self._clock = self.loop.call_later(self._patience(), otherwise, *arguments)

    def _expect_nothing(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _untaken(transport: asyncio.Transport) -> int:
    """Return how many bytes wait for the caller; 0 when all of them are the system's to deliver."""
    held = transport.get_write_buffer_size()
    if held and sys.platform != "win32":
        # A slow reader is seen here only: the system takes more from us when a third of its own, large buffer is free.
        with suppress(OSError):
            queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            held += int.from_bytes(queued, sys.byteorder)
    return held


class Workers(Multiprocess):
    """uvicorn's supervisor of several processes, with an end that callers and operators can rely on."""

    def init_processes(self) -> None:
        """Start the workers."""
        super().init_processes()
        self._notice_ends()

    def terminate_all(self) -> None:
        """Let go of the socket first: while this process held it, callers would wait for an accept that never comes."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that died, and forget what they were doing: it is counted in the metrics."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        self._notice_ends()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def _notice_ends(self) -> None:
        """Close this process's copies of what workers answer on: the end of a worker is seen as the end of the line."""
        for process in self.processes:
            process.child_conn.close()

    @property
    def failed_to_start(self) -> bool:
        """Whether a worker gave up before it served."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)


def serve(settings: Settings, *, workers: int = 1) -> None:
    """Serve until a signal. The settings must stand in the environment too: workers read them there.

    For several workers `PROMETHEUS_MULTIPROC_DIR` must stand there before this module is imported. Raises SettingsError
    for an address, a port or a certificate that cannot be used, before any state is opened. Exits with uvicorn's
    STARTUP_FAILURE when the application did not start; the log then says why.
    """
    telemetry.configure_logging(settings.log_level, settings.log_format)
    _allow_many_files()
    _check_certificate(settings)
    config = _configuration(settings, workers)
    with _listening(settings.host, settings.port):
        listener = config.bind_socket()
        listener.listen(config.backlog)  # now: nobody else can take the port while the state is opened
    if settings.metrics_port is not None:
        with _listening("127.0.0.1", settings.metrics_port):
            start_http_server(settings.metrics_port, addr="127.0.0.1", registry=telemetry.registry())
    if workers > 1:
        supervisor = Workers(config, sockets=[listener])
        supervisor.run()
        started = not supervisor.failed_to_start
    else:
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        started = server.started
    if not started:
        sys.exit(STARTUP_FAILURE)


def _allow_many_files() -> None:
    """Take the open files that the system grants this process and, as they inherit the limit, its workers."""
    if sys.platform != "win32":
        # Each caller is an open file. The usual soft limit, 1024, is for programs that use select(); none of this does,
        # and with it a thousand idle connections would keep everybody else out.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # some systems say «unlimited» and grant less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _configuration(settings: Settings, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        "identity_gateway.app:create",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        http=BoundedProtocol,
        ws="none",
        loop="auto",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.drain_timeout,
        timeout_worker_healthcheck=_WORKER_SILENCE,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )


def _check_certificate(settings: Settings) -> None:
    if settings.tls_cert_file is None:
        return
    try:
        # Without a password of our own, OpenSSL would ask for that of an encrypted key on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert_file, settings.tls_key_file, "")
    except (OSError, ssl.SSLError) as error:
        fault = error.strerror or error.__class__.__name__
        raise SettingsError(f"TLS_CERT_FILE and TLS_KEY_FILE cannot be used: {fault}") from None


@contextmanager
def _listening(host: str, port: int) -> Iterator[None]:
    """Turn the failure to listen into a sentence; uvicorn would log it and exit."""
    try:
        yield
    except (OSError, SystemExit) as refused:
        fault = getattr(refused if isinstance(refused, OSError) else refused.__context__, "strerror", None)
        raise SettingsError(f"cannot listen on {host}:{port}: {fault}") from None


def _is_news(record: logging.LogRecord) -> bool:
    return not isinstance(record.msg, OSError) and not str(record.msg).startswith(_SAID_BETTER)


# At import, because workers are processes of their own, which import this module for the protocol.
logging.getLogger("uvicorn.error").addFilter(_is_news)
