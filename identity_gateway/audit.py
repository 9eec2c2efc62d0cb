"""Keep one record of each decision: who asked, for what, on which resource, what was decided and why.

A decision that grants something waits until its record is committed; records that wait at the same time are committed
together. If they cannot be committed, nothing is granted. Records never hold a credential; this module does not decide.
Of what is refused to strangers only so much is kept one by one: the table of records is not theirs to fill.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from identity_gateway import telemetry
from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.model import AuditRecord, Document
from identity_gateway.records import Records
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


Row = tuple[Any, ...]
"""A record as it is kept (`records.tables.stored`)."""

Told = Callable[[Unavailable | None], None]
"""Hears that a record was committed, or why it was not."""


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
        self._repeated: list[tuple[Row, Told]] = []
        self._mark, self._written = secrets.token_hex(4), 0
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
        now = int(self._clock() * 1e6)
        account, _, _, _, principal, action, resource, decision, reason, _, details = row
        again = (
            account,
            self._id(now),
            now,
            request_id,
            principal,
            action,
            resource,
            decision,
            reason,
            source,
            details,
        )
        if not self._repeated:
            asyncio.get_running_loop().call_soon(self._write)
        self._repeated.append((again, told))

    def _write(self) -> None:
        """Write the records of the calls that came together, at once if nobody else writes."""
        batch, self._repeated = self._repeated, []
        for begin in range(0, len(batch), _BATCH):
            part = batch[begin : begin + _BATCH]
            written = not self._waiting and self._records.write_at_once(AuditRecord, [row for row, _ in part])
            if written:
                telemetry.AUDIT_BATCH.observe(len(part))
            for row, told in part:
                if written:
                    _tell(told, None)
                else:
                    self._enqueue(row, told, durable=False)

    def _enqueued(self, row: Row) -> asyncio.Future[None]:
        committed = asyncio.get_running_loop().create_future()

        def tell(fault: Unavailable | None) -> None:
            if committed.done():  # its caller was cancelled
                return
            if fault is None:
                committed.set_result(None)
            else:
                committed.set_exception(fault)

        self._enqueue(row, tell, durable=True)
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
        if self._committer is not None:
            await self._committer

    def _made(self, decided: Decided) -> AuditRecord:
        now = self._clock()
        return AuditRecord(
            account=self._account,
            id=self._id(int(now * 1e6)),
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

    def _id(self, microseconds: int) -> str:
        """Return an id that sorts by time, and that no other process makes."""
        self._written += 1
        return f"{microseconds:016x}-{self._mark}{self._written:08x}"

    async def _commit(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            fault: Unavailable | None = None
            try:
                durable = any(durable for _, _, durable in batch)
                await self._records.append(AuditRecord, [row for row, _, _ in batch], durable=durable)
                telemetry.AUDIT_BATCH.observe(len(batch))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                _log.error("audit records could not be committed", count=len(batch), fault=error.__class__.__name__)
                fault = error if isinstance(error, Unavailable) else Unavailable(reason="audit sink failed")
            for _, told, _ in batch:
                _tell(told, None if fault is None else Unavailable(reason=f"audit: {fault.reason}"))

    async def _prune(self) -> None:
        while not self._closing.is_set():
            horizon = f"{int((self._clock() - self._retention.total_seconds()) * 1e6):016x}"
            try:
                await self._prune_before(horizon)
            except Unavailable as error:
                _log.warning("old audit records could not be deleted", reason=error.reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 3600)

    async def _prune_before(self, horizon: str) -> None:
        """Delete in small pieces, so that no decision waits long for its own record."""
        while not self._closing.is_set():
            async with self._records.write() as transaction:
                oldest = await transaction.list(AuditRecord, account=self._account, limit=500)
                aged = [record for record in oldest if record.id < horizon]
                for record in aged:
                    await transaction.delete(AuditRecord, account=self._account, id=record.id)
            if len(aged) < 500:
                return


def _tell(told: Told, fault: Unavailable | None) -> None:
    """Tell one of many: whatever becomes of it, the others must hear, too."""
    try:
        told(fault)
    except Exception as error:  # noqa: BLE001 - see above
        _log.error("a defect in what follows an audit record", fault=error.__class__.__name__)


def _bounded(text: str) -> str:
    """Cut a text that strangers may have written: printable, at most 1,000 characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:1000])
