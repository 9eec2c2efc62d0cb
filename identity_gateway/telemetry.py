"""What operators see: structured log lines and Prometheus metrics. Neither ever holds a credential.

Audit records are not telemetry: they are kept by `audit.py` and a decision waits for them.
"""

import asyncio
import atexit
import logging
import re
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from operator import sub
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import MutexValue, ValueClass

_log = structlog.get_logger()

_MOST_SOURCES = 1000

_SHOWN_WITHIN = 0.1
"""Seconds after which the metrics of this process show what it has counted, also to the other workers."""


class _Shown(Collector):
    """What is counted in numbers of our own, and poured into the metrics a moment later: those cost a lock each.

    Whoever collects the metrics of this process has everything poured before. Numbers are only ever added to, by the
    thread of the event loop; what is poured is the difference, so that another thread may collect at any moment.
    """

    def __init__(self) -> None:
        self.waits = False
        self._pours: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add(self, pour: Callable[[], None]) -> None:
        """Have this called from now on. It is never called twice at once."""
        self._pours.append(pour)

    def later(self) -> None:
        """Pour in a moment. Without an event loop, which nobody waits for, when somebody collects."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self.waits = True
        loop.call_later(_SHOWN_WITHIN, self._in_time)

    def _in_time(self) -> None:
        self.waits = False
        self.pour()

    def pour(self) -> None:
        with self._lock:
            for pour in list(self._pours):
                pour()

    def describe(self) -> list[Metric]:
        """Have no metrics."""
        return []

    def collect(self) -> list[Metric]:
        """Pour before the others, which were registered later, are asked."""
        self.pour()
        return []


_shown = _Shown()
REGISTRY.register(_shown)


class Tally:
    """A counter that is cheap to raise."""

    __slots__ = ("_count", "_counter", "_poured")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._count = self._poured = 0
        _shown.add(self._pour)

    def add(self) -> None:
        """Count one."""
        self._count += 1
        if not _shown.waits:
            _shown.later()

    def _pour(self) -> None:
        new = self._count - self._poured
        if new:
            self._counter.inc(new)
            self._poured += new


class _Distribution(Histogram):
    """A histogram that takes many observations at once: so many in each bucket, and their sum."""

    def pour(self, buckets: Iterable[int], total: float) -> None:
        for bucket, count in zip(self._buckets, buckets, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class _Observed:
    """Observations that are cheap to make, for a histogram with these bounds."""

    __slots__ = ("_bounds", "_count", "_histogram", "_poured", "_sum")

    def __init__(self, histogram: _Distribution, bounds: tuple[float, ...]) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._count = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._poured = self._count.copy(), 0.0
        _shown.add(self._pour)

    def observe(self, value: float) -> None:
        self._count[bisect_left(self._bounds, value)] += 1
        self._sum += value
        if not _shown.waits:
            _shown.later()

    def count(self) -> int:
        """Return how many there were."""
        return sum(self._count)

    def _pour(self) -> None:
        count, total = self._count.copy(), self._sum
        before, total_before = self._poured
        if count != before or total != total_before:
            self._histogram.pour(map(sub, count, before), total - total_before)
            self._poured = count, total


_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 900, 3600)
_SIZES = (1, 2, 5, 10, 50, 200)

REQUESTS = Counter("identity_gateway_requests_total", "Requests answered.", ["operation", "status"])
DECISIONS = Counter("identity_gateway_decisions_total", "Inbound decisions.", ["scheme", "decision"])
DURATION = _Distribution(
    "identity_gateway_request_seconds",
    "Time until the answer was complete, agents included.",
    ["operation"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge("identity_gateway_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum")
TOKEN_CACHE = Counter("identity_gateway_token_cache_total", "Look-ups of verified tokens.", ["result"])
AUDIT_BATCH = _Distribution("identity_gateway_audit_batch_size", "Audit records per commit.", buckets=_SIZES)

audit_batch = _Observed(AUDIT_BATCH, _SIZES).observe
"""Count a commit of so many audit records."""


def answered(
    operation: str, status: int, seconds: float, *, request_id: str, source: str, error: str, reason: str
) -> None:
    """Count a request that was answered, and log a line about it. Empty texts are nothing.

    `operation` is a name of ours. What may quote somebody (`error`, `reason`) is redacted; a line without need not be.
    """
    if not error and not reason:
        answered_well(operation, status, seconds, request_id, source)
        return
    _answers_of(operation, status).count(seconds)
    _log_line(operation, status, seconds, request_id, source, error, reason)


def answered_well(operation: str, status: int, seconds: float, request_id: str, source: str) -> None:
    """Do as `answered`, for a request of which neither error nor reason is to be told."""
    answers = _answers.get((operation, status)) or _answers_of(operation, status)
    answers.count(seconds)
    if _lines.wanted:
        _lines.add(answers.line_from(source), request_id, seconds)
    else:
        _log_line(operation, status, seconds, request_id, source, "", "")


def _log_line(
    operation: str, status: int, seconds: float, request_id: str, source: str, error: str, reason: str
) -> None:
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


class _Answers:
    """Answers of one operation with one status: how many, how long they took, and the lines about them by source."""

    __slots__ = ("_line", "_lines", "_observed", "_poured", "_requests", "count")

    def __init__(self, operation: str, status: int) -> None:
        duration = DURATION.labels(operation)
        self._requests = REQUESTS.labels(operation, str(status))
        self._observed = _Observed(duration, _SECONDS)
        self._line = (
            f'{{"request_id": "%s", "operation": "{operation}", "status": {status}, "seconds": %.6f, "source": "',
            '", "error": null, "reason": null, "event": "request", "level": "info", "timestamp": "',
        )
        self._lines: dict[str, str] = {}
        self._poured = 0
        self.count = self._observed.observe
        _shown.add(self._pour)

    def line_from(self, source: str) -> str:
        """Return a line about such an answer, up to its time, which wants the id of the request and the seconds."""
        line = self._lines.get(source)
        if line is None:
            if len(self._lines) >= _MOST_SOURCES:
                self._lines.clear()
            line = self._lines[source] = source.replace("%", "%%").join(self._line)
        return line

    def _pour(self) -> None:
        answered = self._observed.count()
        if answered != self._poured:
            self._requests.inc(answered - self._poured)
            self._poured = answered


_answers: dict[tuple[str, int], _Answers] = {}


def _answers_of(operation: str, status: int) -> _Answers:
    found = _answers.get((operation, status))
    if found is None:
        found = _answers[operation, status] = _Answers(operation, status)
    return found


class _Flight:
    """How many requests are being answered."""

    def __init__(self) -> None:
        self.count = self.shown = 0
        _shown.add(self._pour)

    def _pour(self) -> None:
        if self.count != self.shown:
            count = self.count
            IN_FLIGHT.inc(count - self.shown)  # others count there, too
            self.shown = count


_flight = _Flight()


def in_flight(change: int) -> None:
    """Count a request that comes or goes."""
    _flight.count += change
    if not _shown.waits:
        _shown.later()


def pour() -> None:
    """Show all that was counted, now: what a process leaves behind when it ends is complete then."""
    _shown.pour()


atexit.register(pour)


class _Lines:
    """Lines about requests that were answered well, as structlog would write them, at a tenth of its cost.

    They are written together when the event loop comes round, with the time of that. `wanted` is whether lines are
    logged as JSON at all.
    """

    wanted = False

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._second = 0
        self._text = ""

    def add(self, line: str, request_id: str, seconds: float) -> None:
        """Have a line written."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(line % (request_id, seconds))

    def _write(self) -> None:
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._text = datetime.fromtimestamp(self._second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self._waiting.append("")
        text = f'{self._text}.{int(now % 1 * 1e6):06d}Z"}}\n'.join(self._waiting)
        self._waiting.clear()
        sys.stderr.write(text)
        sys.stderr.flush()


_lines = _Lines()


def registry() -> CollectorRegistry:
    """Return what /metrics shows: the metrics of this process, or of all workers that share one socket."""
    if ValueClass is MutexValue:
        return REGISTRY
    shared = CollectorRegistry()
    shared.register(_shown)
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
