"""Run the application on uvicorn: one process, or several workers on one socket.

uvicorn parses HTTP/1.1 (httptools), which refuses ambiguous requests. What it does not bound is added here: the size of
a request head, and the time that one may take to arrive.
"""

import asyncio
import os
import tempfile
from typing import Any

import uvicorn
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from identity_gateway.settings import Settings

_MAX_HEAD = 131_072
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the size of a request head and on the time it takes."""

    _head_bytes = 0
    _head_complete = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a caller that never says anything is not kept."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that goes on and on."""
        if not self._head_complete:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._head_complete and self._head_bytes > _MAX_HEAD:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin to count a new head."""
        super().on_message_begin()
        self._head_bytes, self._head_complete = 0, False
        self._start_timer()

    def on_headers_complete(self) -> None:
        """Stop counting: what follows is a body."""
        self._head_complete = True
        self._stop_timer()
        super().on_headers_complete()

    def _start_timer(self) -> None:
        if self._head_timer is None:
            patience = getattr(self.app, "settings", None)
            seconds = patience.request_head_timeout if isinstance(patience, Settings) else 30.0
            self._head_timer = self.loop.call_later(seconds, self._refuse, _TOO_SLOW)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def serve(settings: Settings, *, workers: int = 1) -> None:
    """Serve until a signal. The settings must stand in the environment too: workers read them there."""
    if settings.metrics_port is not None:
        _serve_metrics(settings.metrics_port, several=workers > 1)
    options: dict[str, Any] = {
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "workers": workers,
        "http": BoundedProtocol,
        "ws": "none",
        "loop": "auto",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "backlog": 2048,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": settings.drain_timeout,
    }
    if settings.tls_cert_file is not None:
        options |= {"ssl_certfile": settings.tls_cert_file, "ssl_keyfile": settings.tls_key_file}
    uvicorn.run("identity_gateway.app:create", **options)


def prepare_metrics(workers: int) -> None:
    """Let several workers share their metrics. Must run before the metrics are made, that is imported."""
    if workers > 1:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="identity-gateway-metrics-")


def _serve_metrics(port: int, *, several: bool) -> None:
    registry = REGISTRY
    if several:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    start_http_server(port, addr="127.0.0.1", registry=registry)
