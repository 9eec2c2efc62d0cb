"""Keep one record of each decision: who asked, for what, on which resource, what was decided and why.

A decision that grants something waits until its record is committed; records that wait at the same time are committed
together. If they cannot be committed, nothing is granted. Records never hold a credential; this module does not decide.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from identity_gateway import telemetry
from identity_gateway.errors import Unavailable
from identity_gateway.model import AuditRecord, Document
from identity_gateway.records import Records

_log = structlog.get_logger()

ALLOWED = "allowed"
DENIED = "denied"

_BATCH = 200
_WAITING = 10_000


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


class Audit:
    """The sink of all decisions of one account."""

    def __init__(self, records: Records, account: str, *, clock: Callable[[], float], retention: timedelta) -> None:
        self._records = records
        self._account = account
        self._clock = clock
        self._retention = retention
        self._waiting: list[tuple[AuditRecord, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._pruner: asyncio.Task[None] | None = None

    async def record(self, decided: Decided) -> None:
        """Return when the record is committed. Raises Unavailable if it cannot be: then nothing may be granted."""
        if len(self._waiting) >= _WAITING:
            raise Unavailable(reason="too many audit records wait for the database")
        committed = asyncio.get_running_loop().create_future()
        self._waiting.append((self._made(decided), committed))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit())
        await committed

    def start(self) -> None:
        """Begin to delete what is older than the retention time, now and every hour."""
        self._pruner = asyncio.create_task(self._prune())

    async def close(self) -> None:
        """Commit what waits, and stop."""
        if self._pruner is not None:
            self._pruner.cancel()
            with suppress(asyncio.CancelledError):
                await self._pruner
        if self._committer is not None:
            await self._committer

    def _made(self, decided: Decided) -> AuditRecord:
        now = self._clock()
        return AuditRecord(
            account=self._account,
            id=f"{int(now * 1e6):016x}-{secrets.token_hex(4)}",
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

    async def _commit(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            fault: Unavailable | None = None
            try:
                async with self._records.write() as transaction:
                    await transaction.create(*(record for record, _ in batch))
                telemetry.AUDIT_BATCH.observe(len(batch))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                _log.error("audit records could not be committed", count=len(batch), fault=error.__class__.__name__)
                fault = error if isinstance(error, Unavailable) else Unavailable(reason="audit sink failed")
            for _, committed in batch:
                if committed.done():  # its caller was cancelled
                    continue
                if fault is None:
                    committed.set_result(None)
                else:
                    committed.set_exception(Unavailable(reason=f"audit: {fault.reason}"))

    async def _prune(self) -> None:
        while True:
            horizon = f"{int((self._clock() - self._retention.total_seconds()) * 1e6):016x}"
            try:
                await self._prune_before(horizon)
            except Unavailable as error:
                _log.warning("old audit records could not be deleted", reason=error.reason)
            await asyncio.sleep(3600)

    async def _prune_before(self, horizon: str) -> None:
        """Delete in small pieces, so that no decision waits long for its own record."""
        while True:
            async with self._records.write() as transaction:
                oldest = await transaction.list(AuditRecord, account=self._account, limit=500)
                aged = [record for record in oldest if record.id < horizon]
                for record in aged:
                    await transaction.delete(AuditRecord, account=self._account, id=record.id)
            if len(aged) < 500:
                return


def _bounded(text: str) -> str:
    """Cut a text that strangers may have written: printable, at most 1,000 characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:1000])
