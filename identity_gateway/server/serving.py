"""Run the application on uvicorn: one process, or several workers on one socket.

This module does not know how a request is read.
"""

import logging
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from prometheus_client import start_http_server
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from identity_gateway import telemetry
from identity_gateway.server.http import BoundedProtocol
from identity_gateway.server.tls import BoundedTlsProtocol
from identity_gateway.server.web_sockets import KEEP_ALIVE, MAX_MESSAGE, BoundedWebSocket
from identity_gateway.settings import Settings, SettingsError

if sys.platform != "win32":
    import resource

_WORKER_SILENCE = 60

_SAID_BETTER = ("ASGI callable returned without", "Application startup failed")
"""Remarks of uvicorn that repeat what the request's own line, or the reason of the failed start, says already."""


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
        http=BoundedProtocol if settings.tls_cert_file is None else BoundedTlsProtocol,  # type: ignore[arg-type]
        ws=BoundedWebSocket,
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=KEEP_ALIVE,
        ws_ping_timeout=KEEP_ALIVE,
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
