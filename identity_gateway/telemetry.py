"""What operators see: structured log lines and Prometheus metrics. Neither ever holds a credential.

Audit records are not telemetry: they are kept by `audit.py` and a decision waits for them.
"""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

_log = structlog.get_logger()

_SHOWN_WITHIN = 0.1
"""Seconds after which the metrics show how many requests are being answered."""

REQUESTS = Counter("identity_gateway_requests_total", "Requests answered.", ["operation", "status"])
DECISIONS = Counter("identity_gateway_decisions_total", "Inbound decisions.", ["scheme", "decision"])
DURATION = Histogram(
    "identity_gateway_request_seconds",
    "Time until the answer was complete, agents included.",
    ["operation"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 900, 3600),
)
IN_FLIGHT = Gauge("identity_gateway_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum")
TOKEN_CACHE = Counter("identity_gateway_token_cache_total", "Look-ups of verified tokens.", ["result"])
AUDIT_BATCH = Histogram(
    "identity_gateway_audit_batch_size", "Audit records per commit.", buckets=(1, 2, 5, 10, 50, 200)
)


def answered(
    operation: str, status: int, seconds: float, *, request_id: str, source: str, error: str, reason: str
) -> None:
    """Count a request that was answered, and log a line about it. Empty texts are nothing.

    `operation` is a name of ours. What may quote somebody (`error`, `reason`) is redacted; a line without need not be.
    """
    count, observe = _counters(operation, status)
    count()
    observe(seconds)
    if _lines.wanted and not error and not reason:
        _lines.add(operation, status, seconds, request_id, source)
        return
    _log.info(
        "request",
        request_id=request_id,
        operation=operation,
        status=status,
        seconds=round(seconds, 6),
        source=source,
        error=error or None,
        reason=reason or None,
    )


class _Flight:
    """How many requests are being answered, shown a moment later: a gauge costs more than the count."""

    def __init__(self) -> None:
        self.count = 0
        self.waits = False

    def show(self) -> None:
        self.waits = False
        IN_FLIGHT.set(self.count)


_flight = _Flight()


def in_flight(change: int) -> None:
    """Count a request that comes or goes."""
    _flight.count += change
    if not _flight.waits:
        _flight.waits = True
        asyncio.get_running_loop().call_later(_SHOWN_WITHIN, _flight.show)


@lru_cache(maxsize=1024)
def _counters(operation: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
    return REQUESTS.labels(operation, str(status)).inc, DURATION.labels(operation).observe


class _Lines:
    """Lines about requests that were answered well, as structlog would write them, at a tenth of its cost.

    They are written together when the event loop comes round. `wanted` is whether lines are logged as JSON at all.
    """

    wanted = False

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._second = 0
        self._text = ""

    def add(self, operation: str, status: int, seconds: float, request_id: str, source: str) -> None:
        """Have a line written."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._text = datetime.fromtimestamp(self._second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(
            f'{{"request_id": "{request_id}", "operation": "{operation}", "status": {status}, '
            f'"seconds": {seconds:.6f}, "source": "{source}", "error": null, "reason": null, "event": "request", '
            f'"level": "info", "timestamp": "{self._text}.{int(now % 1 * 1e6):06d}Z"}}\n'
        )

    def _write(self) -> None:
        text = "".join(self._waiting)
        self._waiting.clear()
        sys.stderr.write(text)
        sys.stderr.flush()


_lines = _Lines()


def registry() -> CollectorRegistry:
    """Return what /metrics shows: the metrics of this process, or of all workers that share one socket."""
    if ValueClass is MutexValue:
        return REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


_SECRET_NAMES = re.compile(r"(?i)(authorization|secret|token|password|cookie|signature|api_?key|credential)")
_SECRET_SHAPES = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)*"  # JWT or JWE
    r"|(?i:bearer|basic|dpop) +[A-Za-z0-9._~+/=-]{8,}"
    r"|(?i:signature|[_-]token|client_secret|client_assertion|password)=[^&\s\"',;]+"  # headers, queries and forms
    r"|(?<=://)[^\s/@]++(?=@)"  # user information of a URL
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*"
)
_REDACTED = "<redacted>"


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank values under secret-like names and values that look like credentials: the second line of defence.

    The first is that nothing in the code logs a credential; a test sends every kind and reads the log.
    """
    for name, value in event.items():
        event[name] = _redacted("" if name == "event" else name, value)
    return event


def _redacted(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAMES.search(name):
        return _REDACTED
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", inner) for inner in value]
    return _SECRET_SHAPES.sub(_REDACTED, value if isinstance(value, str) else repr(value))


def configure_logging(level: str, form: str) -> None:
    """Log to standard error: one JSON object a line, or text for people."""
    final: Any = structlog.processors.JSONRenderer()
    if form == "text":
        final = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    _lines.wanted = form == "json" and threshold <= logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            final,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries speak through `logging`; only their warnings are ours to show, and they pass the same redaction.
    bridge = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            final,
        ],
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(bridge)
    logging.basicConfig(handlers=[output], level=logging.WARNING, force=True)
