"""Keep one record of each decision: who asked, for what, on which resource, what was decided and why.

A decision that grants something waits until its record is committed; records that wait at the same time are committed
together. If they cannot be committed, nothing is granted. Records never hold a credential; this module does not decide.
Of what is refused to strangers only so much is kept one by one: the table of records is not theirs to fill.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from identity_gateway import telemetry
from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.model import AuditRecord, Document
from identity_gateway.records import AlreadyExists, Records
from identity_gateway.records.tables import stored

_log = structlog.get_logger()

ALLOWED = "allowed"
DENIED = "denied"

UNKNOWN = "unknown"
"""The principal of a decision about somebody who did not prove to be anybody."""

STRANGERS_KEPT = 60
"""Refusals of strangers that one process keeps one by one, in each `STRANGERS_PER`."""

STRANGERS_PER = 60.0
"""Seconds."""

_MOST_SOURCES = 1000
_BATCH = 200
_WAITING = 10_000
_SEVERAL, _ENOUGH, _TURNS = 2, 64, 3
"""Records together that let others wait for more, up to how many, and for how many turns of the event loop."""

_PROCESSES = 2048
"""Lots of which each process draws one: numbers of records are the microseconds of their time, and the lot."""

_BACK = 60_000_000 * _PROCESSES
"""How far a clock may be put back before numbers follow it: those of what is written meanwhile go on rising."""

_ATTEMPTS = 5


Row = tuple[Any, ...]
"""A record as it is kept (`records.tables.stored`)."""

Told = Callable[[Unavailable | None], None]
"""Hears that a record was committed, or why it was not."""

_Repeated = tuple[Row, str, str, Told, bool]
"""What was recorded before, the request and its source this time, and whether it must be on the disk."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as the story that took it tells it. Texts are bounded by `Audit`."""

    principal: str
    action: str
    resource: str
    decision: str
    reason: str
    request_id: str = ""
    source: str = ""
    details: Document = field(default_factory=dict)


class _Strangers:
    """Counts what is refused to strangers, who may be many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = 0.0
        self._seen = 0
        self._sources: set[str] = set()

    def is_over(self) -> bool:
        """Whether the minute of the refusals that were counted is over; also when the clock was put back."""
        return not 0 <= self._clock() - self._began < STRANGERS_PER

    def count(self, source: str) -> bool:
        """Count one refusal, and return whether it is one of those that are kept one by one."""
        if self.is_over():
            self._began, self._seen = self._clock(), 0
        self._seen += 1
        if self._seen <= STRANGERS_KEPT:
            return True
        if len(self._sources) < _MOST_SOURCES:
            self._sources.add(source)
        return False

    def summary(self) -> Decided | None:
        """Return one decision for all those that were only counted, and count anew; None when there is none."""
        counted, sources = self._seen - STRANGERS_KEPT, len(self._sources)
        if counted <= 0:
            return None
        self._seen, self._sources = STRANGERS_KEPT, set()
        since = datetime.fromtimestamp(self._began, UTC).isoformat(timespec="seconds")
        details = {"refusals": counted, "sources": sources, "since": since}
        return Decided(UNKNOWN, "-", "-", DENIED, "more refusals than are kept one by one", details=details)


class Audit:
    """The sink of all decisions of one account."""

    def __init__(self, records: Records, account: str, *, clock: Callable[[], float], retention: timedelta) -> None:
        self._records = records
        self._account = account
        self._clock = clock
        self._retention = retention
        self._strangers = _Strangers(clock)
        self._summing: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Row, Told, bool]] = []
        self._repeated: list[_Repeated] = []
        self._put_off = 0  # turns of the event loop that those who are to be repeated have waited
        self._last = 0  # how many were written together the last time
        self._unflushed: list[Told] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lot, self._next = secrets.randbelow(_PROCESSES), 0
        self._flusher: asyncio.Task[None] | None = None
        self._committer: asyncio.Task[None] | None = None
        self._pruner: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def record(self, decided: Decided) -> None:
        """Return when the record is committed. Raises Unavailable if it cannot be: then nothing may be granted.

        Refusals of strangers above `STRANGERS_KEPT` are counted instead, and told in one record when their minute is
        over. What is refused to somebody known is always kept.
        """
        if decided.principal == UNKNOWN and decided.decision == DENIED:
            if self._strangers.is_over():
                self._sum_up()
            if not self._strangers.count(decided.source):
                self._sum_up_later()
                return
        await self._enqueued(self.written(decided))

    async def keep(self, row: Row) -> None:
        """Do as `record` with what `written` has returned: not with refusals of strangers."""
        await self._enqueued(row)

    def written(self, decided: Decided) -> Row:
        """Return a decision of now as its record is kept. Raises Unavailable for text that cannot be."""
        try:
            return stored(self._made(decided))
        except ValidationFailed:
            raise Unavailable(reason="audit: text that the database does not keep") from None

    def repeat(self, row: Row, request_id: str, source: str, told: Told) -> None:
        """Keep a decision that was taken again, now, for another request. `told` hears what `record` would raise.

        `told` must not raise. The record is in the database when it hears of it, and on the disk a moment later.
        """
        if not self._repeated:
            self._write_soon()
        self._repeated.append((row, request_id, source, told, False))

    def repeat_durably(self, row: Row, request_id: str, source: str, told: Told) -> None:
        """Do as `repeat`, but `told` hears of the record when it is on the disk, as `record` returns.

        Those who wait at the same time share one flush.
        """
        if not self._repeated:
            self._write_soon()
        self._repeated.append((row, request_id, source, told, True))

    def _write_soon(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Write the records of the calls that came together.

        When several came the last time, they wait for more: a commit costs much more than a row of it.
        """
        if self._put_off < _TURNS and len(self._repeated) < _ENOUGH and self._last >= _SEVERAL:
            self._put_off += 1
            self._write_soon()
        else:
            self._write_now()

    def _write_now(self) -> None:
        """Write them at once if nobody else writes, and else when it is their turn."""
        repeated, self._repeated = self._repeated, []
        self._put_off, self._last = 0, len(repeated)
        for begin in range(0, len(repeated), _BATCH):
            part = repeated[begin : begin + _BATCH]
            rows = self._rows(part)
            if not self._waiting and self._records.write_at_once(AuditRecord, rows):
                telemetry.audit_batch(len(part))
                for _, _, _, told, durable in part:
                    if durable:
                        self._flush_before(told)
                    else:
                        _tell(told, None)
            else:
                for row, (_, _, _, told, durable) in zip(rows, part, strict=True):
                    self._enqueue(row, told, durable=durable)

    def _rows(self, repeated: Sequence[_Repeated]) -> list[Row]:
        """Return the records as of now: one reading of the clock is good for all of them."""
        now = int(self._clock() * 1e6)
        number = self._numbers(now, len(repeated))
        rows = []
        for row, request_id, source, _, _ in repeated:
            account, _, _, _, principal, action, resource, decision, reason, _, details = row
            rows.append(
                (account, number, now, request_id, principal, action, resource, decision, reason, source, details)
            )
            number += _PROCESSES
        return rows

    def _flush_before(self, told: Told) -> None:
        self._unflushed.append(told)
        if self._flusher is None or self._flusher.done():
            assert self._loop is not None
            self._flusher = self._loop.create_task(self._flush())

    async def _flush(self) -> None:
        """Have the records flushed: those that are written meanwhile take the next turn, together."""
        while self._unflushed:
            waiting, self._unflushed = self._unflushed, []
            fault: Unavailable | None = None
            try:
                await self._records.flush()
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                _log.error("audit records could not be flushed", count=len(waiting), fault=error.__class__.__name__)
                fault = error if isinstance(error, Unavailable) else Unavailable(reason="audit sink failed")
            _tell_all(waiting, fault)

    def _enqueued(self, row: Row) -> asyncio.Future[None]:
        committed = asyncio.get_running_loop().create_future()

        def tell(fault: Unavailable | None) -> None:
            if committed.done():  # its caller was cancelled
                return
            if fault is None:
                committed.set_result(None)
            else:
                committed.set_exception(fault)

        self.repeat_durably(row, row[3], row[9], tell)
        return committed

    def _enqueue(self, row: Row, told: Told, *, durable: bool) -> None:
        if len(self._waiting) >= _WAITING:
            told(Unavailable(reason="too many audit records wait for the database"))
            return
        self._waiting.append((row, told, durable))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit())

    def _sum_up_later(self) -> None:
        if self._summing is None:
            self._summing = asyncio.get_running_loop().call_later(STRANGERS_PER, self._sum_up)

    def _sum_up(self) -> None:
        """Keep one record of the refusals that were counted. Nobody waits for it, and a failure is logged."""
        if self._summing is not None:
            self._summing.cancel()
            self._summing = None
        summary = self._strangers.summary()
        if summary is not None:
            _log.warning("strangers were refused", **summary.details)
            self._enqueued(self.written(summary)).add_done_callback(asyncio.Future.exception)

    def start(self) -> None:
        """Begin to delete what is older than the retention time, now and every hour."""
        self._pruner = asyncio.create_task(self._prune())

    async def close(self) -> None:
        """Commit what waits, and stop."""
        if self._pruner is not None:
            self._closing.set()
            await self._pruner
        self._sum_up()
        self._write_now()
        for busy in (self._committer, self._flusher):
            if busy is not None:
                await busy

    def _made(self, decided: Decided) -> AuditRecord:
        now = self._clock()
        return AuditRecord(
            account=self._account,
            id=self._numbers(int(now * 1e6), 1),
            at=datetime.fromtimestamp(now, UTC),
            request_id=decided.request_id,
            principal=_bounded(decided.principal),
            action=_bounded(decided.action),
            resource=_bounded(decided.resource),
            decision=decided.decision,
            reason=_bounded(decided.reason),
            source=_bounded(decided.source),
            details=decided.details,
        )

    def _numbers(self, microseconds: int, count: int) -> int:
        """Return the first of so many numbers, `_PROCESSES` apart, that sort by time and that this process gives once.

        Another process that drew the same lot may give the same one in the same microsecond: see `_commit`.
        """
        first = microseconds * _PROCESSES + self._lot
        if 0 <= self._next - first < _BACK:
            first = self._next
        self._next = first + count * _PROCESSES
        return first

    async def _commit(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            fault: Unavailable | None = None
            try:
                durable = any(durable for _, _, durable in batch)
                await self._append([row for row, _, _ in batch], durable=durable)
                telemetry.audit_batch(len(batch))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                _log.error("audit records could not be committed", count=len(batch), fault=error.__class__.__name__)
                fault = error if isinstance(error, Unavailable) else Unavailable(reason="audit sink failed")
            _tell_all([told for _, told, _ in batch], fault)

    async def _append(self, rows: list[Row], *, durable: bool) -> None:
        for _ in range(_ATTEMPTS):
            try:
                return await self._records.append(AuditRecord, rows, durable=durable)
            except AlreadyExists:
                self._lot, self._next = secrets.randbelow(_PROCESSES), 0
                number = self._numbers(int(self._clock() * 1e6), len(rows))
                rows = [(row[0], number + place * _PROCESSES, *row[2:]) for place, row in enumerate(rows)]
        raise Unavailable(reason="no number is free")

    async def _prune(self) -> None:
        while not self._closing.is_set():
            try:
                await self._prune_before(datetime.fromtimestamp(self._clock(), UTC) - self._retention)
            except Unavailable as error:
                _log.warning("old audit records could not be deleted", reason=error.reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 3600)

    async def _prune_before(self, horizon: datetime) -> None:
        """Delete in small pieces, so that no decision waits long for its own record."""
        while not self._closing.is_set():
            async with self._records.write() as transaction:
                oldest = await transaction.list(AuditRecord, account=self._account, limit=500)
                aged = [record for record in oldest if record.at < horizon]
                for record in aged:
                    await transaction.delete(AuditRecord, account=self._account, id=record.id)
            if len(aged) < 500:
                return


def _tell_all(waiting: Sequence[Told], fault: Unavailable | None) -> None:
    for told in waiting:
        _tell(told, None if fault is None else Unavailable(reason=f"audit: {fault.reason}"))


def _tell(told: Told, fault: Unavailable | None) -> None:
    """Tell one of many: whatever becomes of it, the others must hear, too."""
    try:
        told(fault)
    except Exception as error:  # noqa: BLE001 - see above
        _log.error("a defect in what follows an audit record", fault=error.__class__.__name__)


def _bounded(text: str) -> str:
    """Cut a text that strangers may have written: printable, at most 1,000 characters."""
    if len(text) <= 1000 and text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:1000])
