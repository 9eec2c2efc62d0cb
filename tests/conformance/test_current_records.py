"""A record that is kept in memory is what the database holds: no change that was acknowledged is missed by anybody."""

import asyncio
import itertools
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from identity_gateway.model import AccessKey, AgentRuntime, Tag, WorkloadIdentity
from identity_gateway.records import changes, current
from identity_gateway.records.changes import Changes
from identity_gateway.records.sql import SqlRecords, open_records
from tests.parts import Postgres

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, UTC)


def identity(account: str, name: str = "agent", *return_urls: str) -> WorkloadIdentity:
    return WorkloadIdentity(account, name, return_urls, None, NOW, NOW)


def runtime(account: str) -> AgentRuntime:
    return AgentRuntime(account, "first-0123456789", "first", 1, NOW, NOW)


async def put(records: SqlRecords, *made: Any) -> None:
    async with records.write() as tx:
        await tx.create(*made)


async def change(records: SqlRecords, found: WorkloadIdentity, *return_urls: str) -> WorkloadIdentity:
    async with records.write() as tx:
        return await tx.update(replace(found, return_urls=return_urls))


@pytest.fixture
def account() -> str:
    return uuid4().hex


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('records')}/records.sqlite"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.create_database()


@pytest.fixture
async def two(url: str, tmp_path: Path) -> AsyncIterator[tuple[SqlRecords, SqlRecords]]:
    """Two that share a database and a folder, as two processes on one machine do."""
    opened = await open_records(url, folder=tmp_path), await open_records(url, folder=tmp_path)
    yield opened
    for records in opened:
        await records.close()


Two = tuple[SqlRecords, SqlRecords]


@pytest.mark.parametrize("key", [{}, {"resource": "r"}, {"resource": "r", "key": "k", "value": "v"}])
async def test_a_key_that_is_not_the_whole_key_is_refused_also_when_the_record_is_known(
    two: Two, account: str, key: dict[str, str]
):
    await put(two[0], Tag(account, "r", "k", "v"))
    assert await two[0].current(Tag, account=account, resource="r", key="k") is not None
    with pytest.raises(TypeError):
        await two[0].current(Tag, account=account, **key)


async def test_a_record_of_another_account_is_not_found(two: Two, account: str):
    await put(two[0], identity(account))
    assert await two[0].current(WorkloadIdentity, account=account, name="agent") == identity(account)
    assert await two[0].current(WorkloadIdentity, account=uuid4().hex, name="agent") is None


async def test_the_order_in_which_a_key_is_named_does_not_matter(two: Two, account: str):
    await put(two[0], Tag(account, "r", "k", "right"), Tag(account, "k", "r", "wrong"))
    first = await two[0].current(Tag, account=account, resource="r", key="k")
    assert (first, first) == (
        Tag(account, "r", "k", "right"), await two[0].current(Tag, account=account, key="k", resource="r"),
    )  # fmt: skip


@pytest.mark.parametrize(("writer", "reader"), [(0, 0), (0, 1), (1, 0)], ids=["own", "first", "second"])
class TestChanges:
    async def test_a_record_that_is_made_is_found_by_who_looked_for_it_before(
        self, two: Two, account: str, writer: int, reader: int
    ):
        assert await two[reader].current(WorkloadIdentity, account=account, name="agent") is None
        await put(two[writer], identity(account))
        assert await two[reader].current(WorkloadIdentity, account=account, name="agent") == identity(account)

    async def test_an_update_is_seen(self, two: Two, account: str, writer: int, reader: int):
        await put(two[writer], identity(account))
        found = await two[reader].current(WorkloadIdentity, account=account, name="agent")
        assert found is not None
        changed = await change(two[writer], found, "https://new.test/")
        assert await two[reader].current(WorkloadIdentity, account=account, name="agent") == changed

    async def test_a_deletion_is_seen(self, two: Two, account: str, writer: int, reader: int):
        await put(two[writer], identity(account))
        assert await two[reader].current(WorkloadIdentity, account=account, name="agent") is not None
        async with two[writer].write() as tx:
            await tx.delete(WorkloadIdentity, account=account, name="agent")
        assert await two[reader].current(WorkloadIdentity, account=account, name="agent") is None

    async def test_a_deletion_that_names_no_part_of_the_key_is_seen(
        self, two: Two, account: str, writer: int, reader: int
    ):
        await put(two[writer], AccessKey(account, "IGAK", "ci", b"", admin=True, policy=None, created_at=NOW))
        assert await two[reader].current(AccessKey, account=account, id="IGAK") is not None
        async with two[writer].write() as tx:
            await tx.delete(AccessKey, account=account, name="ci")
        assert await two[reader].current(AccessKey, account=account, id="IGAK") is None

    async def test_a_record_that_is_known_by_its_name_is_not_found_by_it_after_it_was_renamed(
        self, two: Two, account: str, writer: int, reader: int
    ):
        await put(two[writer], runtime(account))
        found = await two[reader].current(AgentRuntime, account=account, name="first")
        assert found == runtime(account)
        async with two[writer].write() as tx:
            renamed = await tx.update(replace(runtime(account), name="second"))
        assert await two[reader].current(AgentRuntime, account=account, name="first") is None
        assert await two[reader].current(AgentRuntime, account=account, name="second") == renamed

    async def test_a_record_that_is_known_by_its_name_is_not_found_by_it_after_its_deletion(
        self, two: Two, account: str, writer: int, reader: int
    ):
        await put(two[writer], runtime(account))
        assert await two[reader].current(AgentRuntime, account=account, name="first") is not None
        async with two[writer].write() as tx:
            await tx.delete(AgentRuntime, account=account, id="first-0123456789")
        assert await two[reader].current(AgentRuntime, account=account, name="first") is None

    async def test_a_name_that_nobody_had_is_found_when_somebody_gets_it(
        self, two: Two, account: str, writer: int, reader: int
    ):
        assert await two[reader].current(AgentRuntime, account=account, name="first") is None
        await put(two[writer], runtime(account))
        assert await two[reader].current(AgentRuntime, account=account, name="first") == runtime(account)

    async def test_a_change_that_is_taken_back_is_not_seen(self, two: Two, account: str, writer: int, reader: int):
        await put(two[writer], identity(account))
        with suppress(ZeroDivisionError):
            async with two[writer].write() as tx:
                await tx.delete(WorkloadIdentity, account=account, name="agent")
                raise ZeroDivisionError
        assert await two[reader].current(WorkloadIdentity, account=account, name="agent") == identity(account)


async def test_what_is_known_is_not_asked_of_the_database(two: Two, account: str):
    await put(two[0], identity(account))
    known = await two[0].current(WorkloadIdentity, account=account, name="agent")
    assert await two[0].current(WorkloadIdentity, account=account, name="agent") is known


async def test_a_change_of_another_record_does_not_make_a_known_one_be_asked_again(two: Two, account: str):
    await put(two[0], identity(account), identity(account, "another"))
    known = await two[0].current(WorkloadIdentity, account=account, name="agent")
    await change(two[1], identity(account, "another"), "https://new.test/")
    assert await two[0].current(WorkloadIdentity, account=account, name="agent") is known


async def test_a_change_on_another_machine_is_seen_when_the_time_is_over(
    postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory, account: str
):
    url = postgres_server.create_database()
    here, there = [await open_records(url, folder=tmp_path_factory.mktemp("machine")) for _ in range(2)]
    try:
        await put(here, identity(account))
        assert await there.current(WorkloadIdentity, account=account, name="agent") == identity(account)
        changed = await change(here, identity(account), "https://new.test/")
        await asyncio.sleep(changes.SHARED_LONGEST)
        assert await there.current(WorkloadIdentity, account=account, name="agent") == changed
    finally:
        await here.close()
        await there.close()


async def test_no_more_than_a_bounded_number_of_records_is_kept(
    two: Two, account: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(current, "_REMEMBERED", 3)
    await put(two[0], *(identity(account, f"agent-{number}") for number in range(5)))
    known = [await two[0].current(WorkloadIdentity, account=account, name=f"agent-{number}") for number in range(5)]
    again = [await two[0].current(WorkloadIdentity, account=account, name=f"agent-{number}") for number in (4, 3, 2)]
    assert [one is other for one, other in zip(again, reversed(known), strict=False)] == [True, True, True]
    assert await two[0].current(WorkloadIdentity, account=account, name="agent-0") is not known[0]


async def test_nobody_sees_a_state_older_than_the_last_one_that_was_acknowledged(two: Two, account: str):
    await put(two[0], identity(account))
    acknowledged, done = 0, asyncio.Event()

    async def write() -> None:
        nonlocal acknowledged
        found = identity(account)
        for turn in range(60):
            found = await change(two[turn % 2], found, f"https://{turn}.test/")
            acknowledged = found.revision
        done.set()

    async def read(records: SqlRecords) -> int:
        for turn in itertools.count():
            if done.is_set():
                return turn
            before = acknowledged
            found = await records.current(WorkloadIdentity, account=account, name="agent")
            assert found is not None
            assert found.revision >= before
            await asyncio.sleep(0)
        raise AssertionError

    _, *turns = await asyncio.gather(write(), *(read(records) for records in two * 3))
    assert min(turns) > 0


async def test_a_file_of_changes_is_readable_by_its_owner_alone_and_holds_nothing_of_the_records(
    tmp_path: Path, account: str
):
    records = await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    try:
        await put(records, identity(account, "a-name-to-look-for"))
    finally:
        await records.close()
    path = tmp_path / "records.sqlite-changes"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"a-name" not in path.read_bytes()


def test_a_file_of_changes_that_was_cut_is_made_whole(tmp_path: Path):
    (tmp_path / "changes").write_bytes(b"short")
    found = Changes(tmp_path / "changes", longest=60)
    watch = found.watch(("tag",), ("tag", "resource", "r"))
    assert watch.holds()
    found.note([("tag", "resource", "r")])
    assert not watch.holds()
    del watch
    found.close()


# --- Watches ---


def test_a_watch_holds_for_half_of_the_longest_time_and_is_fresh_for_half_of_that_at_least():
    made = Changes(None, longest=120)
    before = time.monotonic()
    watches = [made.watch(("tag",)) for _ in range(100)]
    after = time.monotonic()
    assert all(watch.is_fresh(before + 29.9) and watch.holds(before + 59.9) for watch in watches)
    assert not any(watch.is_fresh(after + 60) or watch.holds(after + 60) for watch in watches)


def test_watches_of_one_moment_do_not_age_in_one_moment():
    made = Changes(None, longest=120)
    now = time.monotonic()
    watches = [made.watch(("tag",)) for _ in range(100)]
    left = [sum(watch.is_fresh(now + 30 + second) for watch in watches) for second in range(31)]
    assert max(before - after for before, after in itertools.pairwise(left)) <= 6


def test_a_watch_that_is_fresh_does_not_outlive_a_change():
    made = Changes(None, longest=60)
    watch = made.watch(("tag", "resource", "r"))
    made.note([("tag", "resource", "r")])
    assert not watch.is_fresh(time.monotonic())


def test_a_watch_that_saw_another_change_sees_its_own():
    made = Changes(None, longest=60)
    watch = made.watch(("tag", "resource", "r"))
    made.note([("tag", "resource", "another")])
    assert watch.holds()
    made.note([("tag", "resource", "r")])
    assert not watch.holds()
    assert not watch.holds()


def test_a_watch_holds_whatever_else_is_changed(tmp_path: Path):
    made = Changes(tmp_path / "changes", longest=60)
    watch = made.watch(("tag", "resource", "r"))
    held = []
    for number in range(50):
        made.note([("tag", "resource", f"another {number}")])
        held.append(watch.holds())
    assert held == [True] * 50
    del watch
    made.close()


def test_nothing_that_was_changed_is_nothing():
    made = Changes(None, longest=60)
    before = bytes(made._marks)
    made.note([])
    assert bytes(made._marks) == before


def test_a_file_of_changes_of_an_earlier_version_is_made_longer(tmp_path: Path):
    (tmp_path / "changes").write_bytes(bytes(65_536))
    made = Changes(tmp_path / "changes", longest=60)
    watch = made.watch(("tag",))
    made.note([("tag",)])
    assert not watch.holds()
    del watch
    made.close()


CHANGES = """
import sys
from pathlib import Path
from identity_gateway.records.changes import Changes

changes = Changes(Path(sys.argv[1]), longest=60)
for line in sys.stdin:
    changes.note([("tag", "resource", name) for name in line.split()])
    print(line, end="", flush=True)
"""


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "noting changes of its own"])
def test_no_change_that_another_process_acknowledged_is_missed(tmp_path: Path, busy: bool):
    made = Changes(tmp_path / "changes", longest=600)
    command = [sys.executable, "-c", CHANGES, str(tmp_path / "changes")]
    held, missed = [], []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for number in range(1000):
            watch = made.watch(("tag", "resource", str(number)))
            other.stdin.write(f"{number}\n")
            other.stdin.flush()
            while busy and not select.select([other.stdout], [], [], 0)[0]:
                made.note([("workload_identity", "name", "own")])
                held.append(watch.holds())  # it may see the common mark of the other process at any moment
            assert other.stdout.readline() == f"{number}\n"
            missed += [number] * watch.holds()
        other.stdin.close()
    del watch
    made.close()
    assert (missed, any(held)) == ([], busy)
