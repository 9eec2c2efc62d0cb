"""Keep one record of each decision: who asked, for what, on which resource, what was decided and why.

A decision that grants something waits until its record is committed; records that wait at the same time are committed
together. If they cannot be committed, nothing is granted. Records never hold a credential; this module does not decide.
Of what is refused to strangers only so much is kept one by one: the table of records is not theirs to fill.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from identity_gateway.audit.trail import REPEATED_FOR, Entry, Kind, Trail
from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.model import AuditRecord, AuditRepeat, Document
from identity_gateway.records import Records
from identity_gateway.records.tables import EPOCH, stored

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
    """The sink of all decisions of one account. `repeat` and `repeat_durably` are those of its `Trail`."""

    def __init__(self, records: Records, account: str, *, clock: Callable[[], float], retention: timedelta) -> None:
        self._records = records
        self._account = account
        self._clock = clock
        self._retention = retention
        self._strangers = _Strangers(clock)
        self._summing: asyncio.TimerHandle | None = None
        self._trail = Trail(records, account, clock)
        self.repeat, self.repeat_durably = self._trail.repeat, self._trail.repeat_durably
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
        await self._trail.keep(self.written(decided))

    async def keep(self, entry: Entry) -> None:
        """Do as `record` with what `written` has returned: not with refusals of strangers."""
        await self._trail.keep(entry)

    def written(self, decided: Decided) -> Entry:
        """Return a decision as its record is kept. Raises Unavailable for text that cannot be."""
        try:
            return Entry(stored(self._made(decided)))
        except ValidationFailed:
            raise Unavailable(reason="audit: text that the database does not keep") from None

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
            self._trail.keep(self.written(summary)).add_done_callback(asyncio.Future.exception)

    def start(self) -> None:
        """Begin to delete what is older than the retention time, now and every hour."""
        self._pruner = asyncio.create_task(self._prune())

    async def close(self) -> None:
        """Commit what waits, and stop."""
        if self._pruner is not None:
            self._closing.set()
            await self._pruner
        self._sum_up()
        await self._trail.close()

    def _made(self, decided: Decided) -> AuditRecord:
        return AuditRecord(
            account=self._account,
            id=0,
            at=EPOCH,
            request_id=decided.request_id,
            principal=_bounded(decided.principal),
            action=_bounded(decided.action),
            resource=_bounded(decided.resource),
            decision=decided.decision,
            reason=_bounded(decided.reason),
            source=_bounded(decided.source),
            details=decided.details,
        )

    async def _prune(self) -> None:
        while not self._closing.is_set():
            try:
                await self._prune_before(datetime.fromtimestamp(self._clock(), UTC) - self._retention)
            except Unavailable as error:
                _log.warning("old audit records could not be deleted", reason=error.reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 3600)

    async def _prune_before(self, horizon: datetime) -> None:
        """Delete what repeats others first: those stay until nothing can repeat them any more."""
        await self._prune_kind(AuditRepeat, horizon)
        await self._prune_kind(AuditRecord, horizon - 2 * timedelta(microseconds=REPEATED_FOR))

    async def _prune_kind(self, kind: Kind, horizon: datetime) -> None:
        """Delete in small pieces, so that no decision waits long for its own record."""
        while not self._closing.is_set():
            async with self._records.write() as transaction:
                oldest = await transaction.list(kind, account=self._account, limit=500)
                aged = [record for record in oldest if record.at < horizon]
                for record in aged:
                    await transaction.delete(kind, account=self._account, id=record.id)
            if len(aged) < 500:
                return


def _bounded(text: str) -> str:
    """Cut a text that strangers may have written: printable, at most 1,000 characters."""
    if len(text) <= 1000 and text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:1000])
