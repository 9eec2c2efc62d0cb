"""The audit sink: a decision waits for its record, and nothing is granted without one."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from identity_gateway.audit import ALLOWED, DENIED, STRANGERS_KEPT, STRANGERS_PER, UNKNOWN, Audit, Decided
from identity_gateway.errors import Unavailable
from identity_gateway.model import AuditRecord
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock

ACCOUNT = "000000000000"
REPLACED = "\N{REPLACEMENT CHARACTER}"
DAY = 86_400


@pytest.fixture
async def audit(records: SqlRecords, clock: Clock) -> AsyncIterator[Audit]:
    made = Audit(records, ACCOUNT, clock=clock, retention=timedelta(days=7))
    yield made
    await made.close()


def decided(name: str = "somebody", **changes) -> Decided:
    return Decided(
        **{"principal": name, "action": "Do", "resource": "arn:x", "decision": ALLOWED, "reason": "r"} | changes
    )


async def kept(records: SqlRecords) -> list[AuditRecord]:
    async with records.read() as transaction:
        return await transaction.list(AuditRecord, account=ACCOUNT)


@contextmanager
def busy(tmp_path: Path) -> Iterator[None]:
    """Hold the database, as another process that writes does."""
    other = sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def break_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None) as other:
        other.execute("DROP TABLE audit_record")
    other.close()


def batches() -> tuple[float, float]:
    """Return how many commits there were so far, and how many records were in them."""
    count, total = (REGISTRY.get_sample_value(f"identity_gateway_audit_batch_size_{name}") for name in ("count", "sum"))
    return count or 0, total or 0


async def waits(task: asyncio.Task[None]) -> bool:
    done, _ = await asyncio.wait({task}, timeout=0.05)
    return not done


# --- The database fails ---


async def test_a_database_that_fails_is_unavailable_to_everyone_who_waits(audit: Audit, tmp_path: Path):
    break_database(tmp_path)
    results = await asyncio.gather(*(audit.record(decided()) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 5
    assert len({id(result) for result in results}) == 5  # one exception raised in many tasks would mix their traces


async def test_the_reason_of_a_failure_is_told_to_the_operator_and_not_to_the_caller(audit: Audit, tmp_path: Path):
    break_database(tmp_path)
    with pytest.raises(Unavailable) as caught:
        await audit.record(decided())
    assert "OperationalError" in caught.value.reason
    assert str(caught.value) == "The service is not available right now. Try again."


async def test_a_failure_is_logged_without_the_records(audit: Audit, tmp_path: Path):
    break_database(tmp_path)
    with capture_logs() as logs, pytest.raises(Unavailable):
        await audit.record(decided("very private"))
    assert [(entry["log_level"], entry["count"]) for entry in logs] == [("error", 1)]
    assert "very private" not in str(logs)


async def test_a_record_that_cannot_be_kept_is_unavailable_too(audit: Audit):
    with pytest.raises(Unavailable):
        await audit.record(decided(request_id="\0"))


async def test_a_sink_that_failed_works_again_when_the_database_does(audit: Audit, records: SqlRecords):
    with pytest.raises(Unavailable):
        await audit.record(decided("first", request_id="\0"))
    await audit.record(decided("second"))
    assert [record.principal for record in await kept(records)] == ["second"]


async def test_too_many_who_wait_are_turned_away(audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("identity_gateway.audit._WAITING", 3)
    with busy(tmp_path):
        waiting = [asyncio.create_task(audit.record(decided())) for _ in range(3)]
        assert await waits(waiting[0])
        waiting += [asyncio.create_task(audit.record(decided())) for _ in range(3)]
        assert await waits(waiting[-1])
        with pytest.raises(Unavailable):
            await audit.record(decided())
    await asyncio.gather(*waiting)


# --- A record is kept ---


async def test_a_decision_waits_until_its_record_is_committed(audit: Audit, records: SqlRecords, tmp_path: Path):
    with busy(tmp_path):
        recording = asyncio.create_task(audit.record(decided()))
        assert await waits(recording)
        assert await kept(records) == []
    await recording
    assert len(await kept(records)) == 1


async def test_records_that_wait_at_the_same_time_are_committed_together(audit: Audit, tmp_path: Path):
    commits, total = batches()
    with busy(tmp_path):
        first = asyncio.create_task(audit.record(decided()))
        assert await waits(first)
        others = [asyncio.create_task(audit.record(decided())) for _ in range(40)]
        assert await waits(others[-1])
    await asyncio.gather(first, *others)
    assert batches() == (commits + 2, total + 41)


async def test_no_commit_is_larger_than_the_batch(audit: Audit, records: SqlRecords):
    commits, total = batches()
    await asyncio.gather(*(audit.record(decided()) for _ in range(450)))
    assert batches() == (commits + 3, total + 450)
    assert len(await kept(records)) == 450


async def test_a_caller_who_is_cancelled_does_not_disturb_the_others(audit: Audit, records: SqlRecords, tmp_path: Path):
    with busy(tmp_path):
        leaving, staying = (asyncio.create_task(audit.record(decided(name))) for name in ("leaving", "staying"))
        assert await waits(staying)
        leaving.cancel()
        assert await waits(staying)
    await staying
    assert leaving.cancelled()
    assert {record.principal for record in await kept(records)} == {"leaving", "staying"}


async def test_closing_waits_for_what_is_being_committed(records: SqlRecords, clock: Clock, tmp_path: Path):
    audit = Audit(records, ACCOUNT, clock=clock, retention=timedelta(days=7))
    with busy(tmp_path):
        recording = asyncio.create_task(audit.record(decided()))
        assert await waits(recording)
        closing = asyncio.create_task(audit.close())
        assert await waits(closing)
    await closing
    assert recording.done()


async def test_a_record_says_everything_that_was_decided(audit: Audit, records: SqlRecords, clock: Clock):
    await audit.record(Decided("p", "Do", "arn:x", DENIED, "no policy", "id-1", "203.0.113.7", {"version": 3}))
    (record,) = await kept(records)
    assert record == AuditRecord(
        account=ACCOUNT,
        id=record.id,
        at=datetime.fromtimestamp(clock.now, UTC),
        request_id="id-1",
        principal="p",
        action="Do",
        resource="arn:x",
        decision=DENIED,
        reason="no policy",
        source="203.0.113.7",
        details={"version": 3},
    )


@pytest.mark.parametrize("member", ["principal", "action", "resource", "reason", "source"])
async def test_a_text_of_a_stranger_is_cut_and_printable(audit: Audit, records: SqlRecords, member: str):
    await audit.record(decided(**{member: "a\r\n\0\x1b[2J\u2028\ud800é" + "x" * 2000}))
    (record,) = await kept(records)
    begin = f"a{REPLACED * 4}[2J{REPLACED * 2}é"
    assert getattr(record, member) == begin + "x" * (1000 - len(begin))


async def test_records_are_in_the_order_of_their_time(audit: Audit, records: SqlRecords, clock: Clock):
    for name in ("a", "b", "c"):
        await audit.record(decided(name))
        clock.now += 0.000_01
    assert [record.principal for record in await kept(records)] == ["a", "b", "c"]


# --- Strangers, who may be many ---


async def refuse_strangers(audit: Audit, count: int, **changes) -> None:
    """Refuse as many as are said, each from an address of its own."""
    for number in range(count):
        await audit.record(decided(UNKNOWN, decision=DENIED, **({"source": f"192.0.2.{number}"} | changes)))


def summaries(found: list[AuditRecord]) -> list[tuple[object, object]]:
    counted = [record.details for record in found if "refusals" in record.details]
    return [(details["refusals"], details["sources"]) for details in counted]


async def test_refusals_of_strangers_are_kept_one_by_one_up_to_a_number(audit: Audit, records: SqlRecords):
    await refuse_strangers(audit, STRANGERS_KEPT + 40)
    assert len(await kept(records)) == STRANGERS_KEPT


async def test_what_was_only_counted_is_one_record_when_the_minute_is_over(
    audit: Audit, records: SqlRecords, clock: Clock
):
    await refuse_strangers(audit, STRANGERS_KEPT + 40)
    clock.now += STRANGERS_PER
    await refuse_strangers(audit, 1)
    found = await kept(records)
    assert (len(found), summaries(found)) == (STRANGERS_KEPT + 2, [(40, 40)])


async def test_sources_are_counted_once(audit: Audit, records: SqlRecords, clock: Clock):
    await refuse_strangers(audit, STRANGERS_KEPT + 40, source="192.0.2.1")
    clock.now += STRANGERS_PER
    await refuse_strangers(audit, 1)
    assert summaries(await kept(records)) == [(40, 1)]


async def test_the_summary_says_since_when_and_names_nobody(audit: Audit, records: SqlRecords):
    await refuse_strangers(audit, STRANGERS_KEPT + 1)
    await audit.close()
    (summary,) = (record for record in await kept(records) if "refusals" in record.details)
    assert (summary.principal, summary.action, summary.resource, summary.decision) == (UNKNOWN, "-", "-", DENIED)
    assert summary.details == {"refusals": 1, "sources": 1, "since": "2026-11-22T17:15:22+00:00"}


async def test_a_summary_does_not_wait_for_another_stranger(
    audit: Audit, records: SqlRecords, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("identity_gateway.audit.STRANGERS_PER", 0.01)
    await refuse_strangers(audit, STRANGERS_KEPT + 3)
    for _ in range(2000):
        if found := summaries(await kept(records)):
            break
        await asyncio.sleep(0.002)
    assert found == [(3, 3)]


async def test_each_minute_keeps_strangers_anew(audit: Audit, records: SqlRecords, clock: Clock):
    for _ in range(3):
        await refuse_strangers(audit, STRANGERS_KEPT)
        clock.now += STRANGERS_PER
    assert len(await kept(records)) == 3 * STRANGERS_KEPT


async def test_a_clock_that_is_put_back_does_not_silence_the_record(audit: Audit, records: SqlRecords, clock: Clock):
    await refuse_strangers(audit, STRANGERS_KEPT)
    clock.now -= DAY
    await refuse_strangers(audit, 1)
    assert len(await kept(records)) == STRANGERS_KEPT + 1


@pytest.mark.parametrize(("principal", "decision"), [("somebody", DENIED), ("somebody", ALLOWED), (UNKNOWN, ALLOWED)])
async def test_no_other_record_is_dropped_among_strangers(
    audit: Audit, records: SqlRecords, principal: str, decision: str
):
    await refuse_strangers(audit, STRANGERS_KEPT + 1)
    for _ in range(5):
        await audit.record(decided(principal, decision=decision))
    assert len(await kept(records)) == STRANGERS_KEPT + 5


# --- And deleted in time ---


async def pruned_to(records: SqlRecords, count: int) -> list[AuditRecord]:
    for _ in range(2000):
        if len(found := await kept(records)) <= count:
            return found
        await asyncio.sleep(0.002)
    pytest.fail("nothing was deleted")


async def test_records_that_are_older_than_the_retention_are_deleted(audit: Audit, records: SqlRecords, clock: Clock):
    await audit.record(decided("old"))
    clock.now += 1
    await audit.record(decided("not so old"))
    clock.now += 7 * DAY - 0.5
    audit.start()
    assert [record.principal for record in await pruned_to(records, 1)] == ["not so old"]


async def test_more_old_records_than_one_piece_are_all_deleted(audit: Audit, records: SqlRecords, clock: Clock):
    await asyncio.gather(*(audit.record(decided("old")) for _ in range(502)))
    clock.now += 8 * DAY
    await audit.record(decided("new"))
    audit.start()
    assert [record.principal for record in await pruned_to(records, 1)] == ["new"]


async def test_deleting_does_not_touch_another_account(audit: Audit, records: SqlRecords, clock: Clock):
    other = Audit(records, "111111111111", clock=clock, retention=timedelta(days=7))
    await other.record(decided())
    await audit.record(decided())
    clock.now += 8 * DAY
    audit.start()
    await pruned_to(records, 0)
    async with records.read() as transaction:
        assert len(await transaction.list(AuditRecord, account="111111111111")) == 1


async def test_a_deletion_that_fails_is_logged_and_tried_again_later(audit: Audit, tmp_path: Path):
    break_database(tmp_path)
    with capture_logs() as logs:
        audit.start()
        assert audit._pruner is not None
        for _ in range(500):
            if logs:
                break
            await asyncio.sleep(0.002)
    assert [entry["event"] for entry in logs] == ["old audit records could not be deleted"]
    assert not audit._pruner.done()
