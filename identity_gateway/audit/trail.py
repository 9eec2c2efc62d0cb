"""The audit trail as it is written: records that wait together are committed together.

A decision that was kept before is kept again as what differs: when, for which request, from where, and which record it
repeats. Nothing is decided here, and whose decision it is, is not known.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog

from identity_gateway import telemetry
from identity_gateway.errors import Unavailable
from identity_gateway.model import AuditRecord, AuditRepeat
from identity_gateway.records import AlreadyExists, Records

_log = structlog.get_logger()

_BATCH = 200
_WAITING = 10_000
_SEVERAL, _ENOUGH, _TURNS = 2, 64, 3
"""Records together that let others wait for more, up to how many, and for how many turns of the event loop."""

_PROCESSES = 2048
"""Lots of which each process draws one: numbers of records are the microseconds of their time, and the lot."""

_BACK = 60_000_000 * _PROCESSES
"""How far a clock may be put back before numbers follow it: those of what is written meanwhile go on rising."""

_ATTEMPTS = 5

REPEATED_FOR = 3600 * 1_000_000
"""Microseconds after which a decision is kept whole again: nothing older is needed to read a record."""

Row = tuple[Any, ...]
"""A record as the database keeps it (`records.tables.stored`)."""

Told = Callable[[Unavailable | None], None]
"""Hears that a record was committed, or why it was not."""

Kind = type[AuditRecord] | type[AuditRepeat]


class Entry:
    """A decision in the form in which it is kept, so that it can be kept again. `Trail` alone looks inside.

    `number` and `at` (microseconds) are those of the record in which it stands whole, if there is one.
    """

    __slots__ = ("at", "number", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.number, self.at = 0, 0


_Repeated = tuple[Entry, str, str, Told, bool]
"""What was decided, the request and its source this time, and whether it must be on the disk."""


class Trail:
    """Writes the records of one account."""

    def __init__(self, records: Records, account: str, clock: Callable[[], float]) -> None:
        self._records = records
        self._account = account
        self._clock = clock
        self._waiting: list[tuple[Kind, Row, _Repeated]] = []
        self._repeated: list[_Repeated] = []
        self._put_off = 0  # turns of the event loop that those who are to be repeated have waited
        self._last = 0  # how many were written together the last time
        self._unflushed: list[Told] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lot, self._next = secrets.randbelow(_PROCESSES), 0
        self._flusher: asyncio.Task[None] | None = None
        self._committer: asyncio.Task[None] | None = None

    def keep(self, entry: Entry) -> asyncio.Future[None]:
        """Keep a decision for the request that it was first taken for. Done when the record is on the disk."""
        committed = asyncio.get_running_loop().create_future()

        def tell(fault: Unavailable | None) -> None:
            if committed.done():  # its caller was cancelled
                return
            if fault is None:
                committed.set_result(None)
            else:
                committed.set_exception(fault)

        self.repeat_durably(entry, entry.row[3], entry.row[9], tell)
        return committed

    def repeat(self, entry: Entry, request_id: str, source: str, told: Told) -> None:
        """Keep a decision that was taken again, now, for another request. `told` hears why it could not be.

        `told` must not raise. The record is in the database when it hears of it, and on the disk a moment later.
        """
        if not self._repeated:
            self._write_soon()
        self._repeated.append((entry, request_id, source, told, False))

    def repeat_durably(self, entry: Entry, request_id: str, source: str, told: Told) -> None:
        """Do as `repeat`, but `told` hears of the record when it is on the disk.

        Those who wait at the same time share one flush.
        """
        if not self._repeated:
            self._write_soon()
        self._repeated.append((entry, request_id, source, told, True))

    async def close(self) -> None:
        """Commit what waits."""
        self._write_now()
        for busy in (self._committer, self._flusher):
            if busy is not None:
                await busy

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
            for kind, rows, waiting in self._rows(repeated[begin : begin + _BATCH]):
                if not self._waiting and self._records.write_at_once(kind, rows):
                    self._written(kind, rows, waiting)
                    for _, _, _, told, durable in waiting:
                        if durable:
                            self._flush_before(told)
                        else:
                            _tell(told, None)
                else:
                    for row, each in zip(rows, waiting, strict=True):
                        self._enqueue(kind, row, each)

    def _rows(self, repeated: Sequence[_Repeated]) -> Iterator[tuple[Kind, list[Row], Sequence[_Repeated]]]:
        """Return the records as of now: one reading of the clock is good for all of them.

        Those that are kept whole come first, and then those that say which one they repeat.
        """
        now = int(self._clock() * 1e6)
        number = self._numbers(now, len(repeated))
        whole: list[Row] = []
        again: list[Row] = []
        new: list[_Repeated] = []
        repeating: list[_Repeated] = []
        for each in repeated:
            entry, request_id, source, _, _ = each
            if entry.number and now - entry.at < REPEATED_FOR:
                again.append((self._account, number, now, request_id, source, entry.number))
                repeating.append(each)
            else:
                account, _, _, _, principal, action, resource, decision, reason, _, details = entry.row
                whole.append(
                    (account, number, now, request_id, principal, action, resource, decision, reason, source, details)
                )
                new.append(each)
            number += _PROCESSES
        if whole:
            yield AuditRecord, whole, new
        if again:
            yield AuditRepeat, again, repeating

    def _written(self, kind: Kind, rows: Sequence[Row], waiting: Sequence[_Repeated]) -> None:
        """Count records that are committed, and let those that are whole be repeated."""
        telemetry.audit_batch(len(rows))
        if kind is AuditRecord:
            for row, (entry, _, _, _, _) in zip(rows, waiting, strict=True):
                entry.number, entry.at = row[1], row[2]

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

    def _numbers(self, microseconds: int, count: int) -> int:
        """Return the first of so many numbers, `_PROCESSES` apart, that sort by time and that this process gives once.

        Another process that drew the same lot may give the same one in the same microsecond: see `_commit`.
        """
        first = microseconds * _PROCESSES + self._lot
        if 0 <= self._next - first < _BACK:
            first = self._next
        self._next = first + count * _PROCESSES
        return first

    def _enqueue(self, kind: Kind, row: Row, each: _Repeated) -> None:
        if len(self._waiting) >= _WAITING:
            _tell(each[3], Unavailable(reason="too many audit records wait for the database"))
            return
        self._waiting.append((kind, row, each))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit())

    async def _commit(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            for kind in (AuditRecord, AuditRepeat):
                if rows := [row for of, row, _ in batch if of is kind]:
                    await self._commit_all(kind, rows, [each for of, _, each in batch if of is kind])

    async def _commit_all(self, kind: Kind, rows: list[Row], waiting: list[_Repeated]) -> None:
        fault: Unavailable | None = None
        try:
            rows = await self._append(kind, rows, durable=any(durable for _, _, _, _, durable in waiting))
            self._written(kind, rows, waiting)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            _log.error("audit records could not be committed", count=len(rows), fault=error.__class__.__name__)
            fault = error if isinstance(error, Unavailable) else Unavailable(reason="audit sink failed")
        _tell_all([told for _, _, _, told, _ in waiting], fault)

    async def _append(self, kind: Kind, rows: list[Row], *, durable: bool) -> list[Row]:
        """Return the rows as they were committed."""
        for _ in range(_ATTEMPTS):
            try:
                await self._records.append(kind, rows, durable=durable)
            except AlreadyExists:
                self._lot, self._next = secrets.randbelow(_PROCESSES), 0
                number = self._numbers(int(self._clock() * 1e6), len(rows))
                rows = [(row[0], number + place * _PROCESSES, *row[2:]) for place, row in enumerate(rows)]
            else:
                return rows
        raise Unavailable(reason="no number is free")


def _tell_all(waiting: Sequence[Told], fault: Unavailable | None) -> None:
    for told in waiting:
        _tell(told, None if fault is None else Unavailable(reason=f"audit: {fault.reason}"))


def _tell(told: Told, fault: Unavailable | None) -> None:
    """Tell one of many: whatever becomes of it, the others must hear, too."""
    try:
        told(fault)
    except Exception as error:  # noqa: BLE001 - see above
        _log.error("a defect in what follows an audit record", fault=error.__class__.__name__)
