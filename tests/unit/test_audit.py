"""The audit sink: a decision waits for its record, and nothing is granted without one."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from identity_gateway.audit import ALLOWED, DENIED, STRANGERS_KEPT, STRANGERS_PER, UNKNOWN, Audit, Decided, Entry
from identity_gateway.errors import Unavailable
from identity_gateway.model import AuditRecord
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock
from tests.unit.conftest import Appending

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
        other.execute("DROP TABLE audit_decision")
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
    monkeypatch.setattr("identity_gateway.audit.trail._WAITING", 3)
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


# --- A decision that is taken again ---


class Hearing:
    """Hears what becomes of so many records."""

    def __init__(self, count: int = 1) -> None:
        self.heard: list[Unavailable | None] = []
        self._left = count
        self._all = asyncio.get_running_loop().create_future()

    def told(self, fault: Unavailable | None) -> None:
        self.heard.append(fault)
        self._left -= 1
        if not self._left:
            self._all.set_result(None)

    async def all(self) -> list[Unavailable | None]:
        async with asyncio.timeout(20):
            await self._all
        return self.heard


class Flushing(Appending):
    """Counts its flushes, which fail if they shall."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.flushes, self.began = 0, asyncio.Event()
        self.fault: OSError | None = None

    async def flush(self) -> None:
        self.flushes += 1
        self.began.set()
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        await super().flush()


@pytest.fixture
async def appender(records: SqlRecords, tmp_path: Path) -> AsyncIterator[Flushing]:
    made = Flushing(str(tmp_path / "records.sqlite"))
    before, records._appender = records._appender, made
    yield made
    records._appender = before
    await made.close()


VERBS = ("repeat", "repeat_durably")


@pytest.mark.parametrize("verb", VERBS)
async def test_a_repeated_decision_that_cannot_be_kept_is_unavailable_to_everyone_who_waits(
    audit: Audit, tmp_path: Path, verb: str
):
    row, hearing = audit.written(decided()), Hearing(5)
    break_database(tmp_path)
    for number in range(5):
        getattr(audit, verb)(row, f"id-{number}", "", hearing.told)
    heard = await hearing.all()
    assert [type(fault) for fault in heard] == [Unavailable] * 5
    assert len({id(fault) for fault in heard}) == 5


async def test_a_flush_that_fails_is_told_to_everyone_who_waits_for_it_and_to_nobody_else(
    audit: Audit, appender: Flushing
):
    row, waiting, other = audit.written(decided()), Hearing(3), Hearing()
    appender.fault = OSError(5, "Input/output error")
    for number in range(3):
        audit.repeat_durably(row, f"id-{number}", "", waiting.told)
    audit.repeat(row, "id-3", "", other.told)
    assert [type(fault) for fault in await waiting.all()] == [Unavailable] * 3
    assert await other.all() == [None]
    appender.fault, again = None, Hearing()
    audit.repeat_durably(row, "id-4", "", again.told)
    assert await again.all() == [None]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_repeated_decision_waits_while_somebody_else_writes(
    audit: Audit, records: SqlRecords, tmp_path: Path, verb: str
):
    row, hearing = audit.written(decided()), Hearing()
    with busy(tmp_path):
        getattr(audit, verb)(row, "id-1", "", hearing.told)
        await asyncio.sleep(0.05)
        assert (hearing.heard, await kept(records)) == ([], [])
    assert await hearing.all() == [None]
    assert [record.request_id for record in await kept(records)] == ["id-1"]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_repeated_decision_is_a_record_of_its_own_request_and_time(
    audit: Audit, records: SqlRecords, clock: Clock, verb: str
):
    row, hearing = audit.written(decided(request_id="first", source="192.0.2.1", details={"version": 3})), Hearing()
    clock.now += 5
    getattr(audit, verb)(row, "second", "203.0.113.7", hearing.told)
    assert hearing.heard == []  # nobody hears of it within the call
    await hearing.all()
    (record,) = await kept(records)
    at = datetime.fromtimestamp(clock.now, UTC)
    expected = AuditRecord(
        ACCOUNT, record.id, at, "second", "somebody", "Do", "arn:x", ALLOWED, "r", "203.0.113.7", {"version": 3}
    )
    assert record == expected


@pytest.mark.parametrize("verb", VERBS)
async def test_repeated_decisions_of_one_moment_are_kept_each_in_order_and_together(
    audit: Audit, records: SqlRecords, verb: str
):
    row, hearing, (commits, total) = audit.written(decided()), Hearing(450), batches()
    for number in range(450):
        getattr(audit, verb)(row, f"id-{number}", "", hearing.told)
    assert await hearing.all() == [None] * 450
    assert [record.request_id for record in await kept(records)] == [f"id-{number}" for number in range(450)]
    assert batches() == (commits + 3, total + 450)


async def test_a_durable_record_is_told_after_a_flush_that_began_when_it_was_there(
    audit: Audit, records: SqlRecords, appender: Flushing
):
    row, hearing, seen = audit.written(decided()), Hearing(2), []

    def told(fault: Unavailable | None) -> None:
        seen.append(appender.flushes)
        hearing.told(fault)

    audit.repeat_durably(row, "id-1", "", told)
    await appender.began.wait()
    audit.repeat_durably(row, "id-2", "", told)  # comes while the first is being flushed
    await hearing.all()
    assert (seen, len(await kept(records))) == ([1, 2], 2)


async def test_all_who_wait_for_the_disk_share_one_flush(audit: Audit, appender: Flushing):
    row, hearing = audit.written(decided()), Hearing(32)
    for number in range(32):
        audit.repeat_durably(row, f"id-{number}", "", hearing.told)
    await hearing.all()
    assert appender.flushes == 1


async def test_who_fails_on_hearing_does_not_keep_the_others_from_it(audit: Audit):
    row, hearing = audit.written(decided()), Hearing(2)

    def fails(fault: Unavailable | None) -> None:
        hearing.told(fault)
        raise ZeroDivisionError

    with capture_logs() as logs:
        audit.repeat(row, "id-1", "", fails)
        audit.repeat(row, "id-2", "", hearing.told)
        await hearing.all()
    assert [entry["fault"] for entry in logs] == ["ZeroDivisionError"]


async def test_closing_keeps_what_was_repeated_in_the_last_moment(records: SqlRecords, clock: Clock):
    audit = Audit(records, ACCOUNT, clock=clock, retention=timedelta(days=7))
    hearing = Hearing(2)
    audit.repeat(audit.written(decided()), "id-1", "", hearing.told)
    audit.repeat_durably(audit.written(decided()), "id-2", "", hearing.told)
    await audit.close()
    assert (hearing.heard, len(await kept(records))) == ([None, None], 2)


async def test_closing_keeps_what_waits_for_more_to_come(records: SqlRecords, clock: Clock):
    audit = Audit(records, ACCOUNT, clock=clock, retention=timedelta(days=7))
    row, hearing, (commits, total) = audit.written(decided()), Hearing(5), batches()
    for number in range(4):
        audit.repeat(row, f"id-{number}", "", hearing.told)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    audit.repeat(row, "id-4", "", hearing.told)
    await audit.close()
    assert (hearing.heard, batches()) == ([None] * 5, (commits + 2, total + 5))


async def test_those_who_come_while_several_come_are_kept_together_and_soon(audit: Audit):
    row, hearing, (commits, total) = audit.written(decided()), Hearing(7), batches()
    for name in ("one", "two"):
        audit.repeat(row, name, "", hearing.told)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert batches() == (commits + 1, total + 2)
    for number in range(5):  # they are two, so that more are waited for, but not for long
        audit.repeat(row, f"id-{number}", "", hearing.told)
        if number < 3:
            await asyncio.sleep(0)
    assert batches() == (commits + 1, total + 2)
    assert await hearing.all() == [None] * 7
    assert batches() == (commits + 2, total + 7)


# --- The numbers of records ---


async def test_records_of_one_microsecond_have_numbers_that_rise(audit: Audit, records: SqlRecords):
    for name in "abc":
        await audit.record(decided(name))
    assert [record.principal for record in await kept(records)] == ["a", "b", "c"]


async def test_a_clock_that_is_put_back_a_little_does_not_change_the_order(
    audit: Audit, records: SqlRecords, clock: Clock
):
    for name in "abc":
        await audit.record(decided(name))
        clock.now -= 1
    assert [record.principal for record in await kept(records)] == ["a", "b", "c"]


async def test_a_clock_that_was_far_ahead_does_not_leave_its_mark_on_later_records(
    audit: Audit, records: SqlRecords, clock: Clock
):
    clock.now += 100 * DAY
    await audit.record(decided("from the future"))
    clock.now -= 100 * DAY
    await audit.record(decided("of today"))
    assert [record.principal for record in await kept(records)] == ["of today", "from the future"]


@pytest.mark.parametrize("verb", ["record", *VERBS])
async def test_two_processes_that_drew_one_lot_keep_all_their_records(records: SqlRecords, clock: Clock, verb: str):
    two = [Audit(records, ACCOUNT, clock=clock, retention=timedelta(days=7)) for _ in range(2)]
    two[1]._trail._lot = two[0]._trail._lot
    entries = [audit.written(decided(f"of {of}")) for of, audit in enumerate(two)]
    for number in range(20):
        audit, entry = two[number % 2], entries[number % 2]
        if verb == "record":
            await audit.record(decided(f"of {number % 2}", request_id=str(number)))
        else:
            getattr(audit, verb)(entry, f"{number}", "", (hearing := Hearing()).told)
            assert await hearing.all() == [None]
    for audit in two:
        await audit.close()
    found = {record.request_id: record.principal for record in await kept(records)}
    assert found == {f"{number}": f"of {number % 2}" for number in range(20)}


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
    monkeypatch.setattr("identity_gateway.audit.decisions.STRANGERS_PER", 0.01)
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


# --- What was kept before is kept again as what differs ---

HOUR = 3600


def whole(tmp_path: Path) -> list[str]:
    """Return the request ids of the decisions that are kept whole."""
    with closing(sqlite3.connect(tmp_path / "records.sqlite")) as database:
        return [row[0] for row in database.execute("select request_id from audit_decision order by id")]


async def again(audit: Audit, entry: Entry, request_id: str, verb: str = "repeat") -> None:
    getattr(audit, verb)(entry, request_id, "192.0.2.1", (hearing := Hearing()).told)
    assert await hearing.all() == [None]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_decision_is_kept_whole_once_and_then_as_what_differs(
    audit: Audit, records: SqlRecords, tmp_path: Path, clock: Clock, verb: str
):
    one, other = audit.written(decided("one", details={"n": 1})), audit.written(decided("other", details={"n": 2}))
    for number in range(4):
        clock.now += 1
        await again(audit, one, f"one {number}", verb)
        await again(audit, other, f"other {number}", verb)
    assert whole(tmp_path) == ["one 0", "other 0"]
    told = [(f"{record.principal} {record.details['n']}", record.request_id) for record in await kept(records)]
    assert told == [each for n in range(4) for each in [("one 1", f"one {n}"), ("other 2", f"other {n}")]]


async def test_what_is_on_record_already_is_not_kept_whole_again(audit: Audit, records: SqlRecords, tmp_path: Path):
    entry = audit.written(decided(request_id="first"))
    await audit.keep(entry)
    await again(audit, entry, "second")
    assert whole(tmp_path) == ["first"]
    assert [record.request_id for record in await kept(records)] == ["first", "second"]


async def test_a_decision_is_kept_whole_anew_each_hour(audit: Audit, records: SqlRecords, tmp_path: Path, clock: Clock):
    entry = audit.written(decided())
    for number in range(5):
        await again(audit, entry, f"{number}")
        clock.now += HOUR / 2
    assert whole(tmp_path) == ["0", "2", "4"]
    assert [record.principal for record in await kept(records)] == ["somebody"] * 5


@pytest.mark.parametrize("verb", VERBS)
async def test_a_decision_that_could_not_be_kept_is_not_repeated(
    audit: Audit, records: SqlRecords, tmp_path: Path, verb: str
):
    entry, hearing = audit.written(decided()), Hearing()
    with closing(sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None)) as other:
        other.execute("ALTER TABLE audit_decision RENAME TO elsewhere")
        getattr(audit, verb)(entry, "lost", "", hearing.told)
        assert [type(fault) for fault in await hearing.all()] == [Unavailable]
        other.execute("ALTER TABLE elsewhere RENAME TO audit_decision")
    await again(audit, entry, "kept", verb)
    assert whole(tmp_path) == ["kept"]


async def test_decisions_that_waited_are_repeated_afterwards(audit: Audit, records: SqlRecords, tmp_path: Path):
    entry, hearing = audit.written(decided()), Hearing(2)
    with busy(tmp_path):
        audit.repeat(entry, "first", "", hearing.told)
        await asyncio.sleep(0.05)
        audit.repeat_durably(entry, "second", "", hearing.told)  # nobody knows yet whether the first will be there
        await asyncio.sleep(0.05)
    assert await hearing.all() == [None, None]
    await again(audit, entry, "third")
    assert whole(tmp_path) == ["first", "second"]
    assert [record.principal for record in await kept(records)] == ["somebody"] * 3


async def test_what_is_repeated_is_deleted_after_all_that_repeats_it(audit: Audit, records: SqlRecords, clock: Clock):
    entry, began = audit.written(decided()), clock.now
    for number in range(4):
        await again(audit, entry, f"{number}")
        clock.now += HOUR / 4 - 1
    seen = []
    for late in range(0, 3 * HOUR, HOUR // 8):
        clock.now = began + 7 * DAY + late
        await audit._prune_before(datetime.fromtimestamp(clock.now, UTC) - timedelta(days=7))
        found = await kept(records)
        assert {(record.principal, record.decision) for record in found} <= {("somebody", ALLOWED)}
        seen.append(len(found))
    assert (seen[0], seen[-1]) == (4, 0)
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {4, 3, 2, 1, 0}


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
    clock.now += 7 * DAY + 2 * HOUR - 0.5
    audit.start()
    assert [record.principal for record in await pruned_to(records, 1)] == ["not so old"]


async def test_more_old_records_than_one_piece_are_all_deleted(audit: Audit, records: SqlRecords, clock: Clock):
    await asyncio.gather(*(audit.record(decided("old")) for _ in range(502)))
    clock.now += 8 * DAY
    await audit.record(decided("new"))
    audit.start()
    assert [record.principal for record in await pruned_to(records, 1)] == ["new"]


async def test_a_decision_is_kept_whole_first_also_where_a_clock_was_never_set(
    audit: Audit, records: SqlRecords, clock: Clock
):
    clock.now = 60.0
    await audit.record(decided("somebody"))
    async with records.read() as transaction:
        assert [each.principal for each in await transaction.list(AuditRecord, account=ACCOUNT)] == ["somebody"]


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
