"""Rows that are only added: at once, flushed together, and in a log that does not grow without an end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from identity_gateway.model import AuditRecord
from identity_gateway.records import append
from identity_gateway.records.append import SqliteAppender
from identity_gateway.records.sql import SqlRecords, open_records
from identity_gateway.records.tables import stored, table_of

ACCOUNT = "000000000000"
TABLE = table_of(AuditRecord)
NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, UTC)
_numbers = count(1)


def rows(size: int = 1) -> list[append.Row]:
    return [stored(AuditRecord(ACCOUNT, next(_numbers), NOW, "q" * 300, *"parasx", {})) for _ in range(size)]


def counted(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("select count(*) from audit_record").fetchone()[0])


def size_of(path: Path) -> int:
    return path.stat().st_size


def salt_of(log: Path) -> bytes:
    """Return what a log has in its head until it begins anew (SQLite file format §4.1: salt-1 and salt-2)."""
    with log.open("rb") as file:
        return file.read(24)[16:]


@pytest.fixture
def path(records: SqlRecords, tmp_path: Path) -> Path:
    del records
    return tmp_path / "records.sqlite"


@pytest.fixture
async def appender(path: Path) -> AsyncIterator[SqliteAppender]:
    made = SqliteAppender(str(path))
    yield made
    await made.close()


@pytest.fixture
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection of somebody else, who writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


async def test_nothing_is_written_at_once_while_somebody_else_writes(
    appender: SqliteAppender, path: Path, held: sqlite3.Connection
):
    assert not appender.write(TABLE, rows())
    held.execute("ROLLBACK")
    assert appender.write(TABLE, rows(3))
    assert counted(path) == 3


async def test_rows_of_which_one_is_there_are_not_written(appender: SqliteAppender, path: Path):
    first, second = rows(2)
    assert appender.write(TABLE, [first])
    assert not appender.write(TABLE, [second, first])
    assert counted(path) == 1


async def test_a_flush_of_a_log_that_is_gone_fails(appender: SqliteAppender, path: Path):
    with pytest.raises(FileNotFoundError):
        await appender.flush()


async def test_rows_that_were_written_are_flushed_and_carried_over_soon(
    appender: SqliteAppender, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(append, "SYNCED_WITHIN", 0.001)
    assert appender.write(TABLE, rows(100))
    before = size_of(path)
    for _ in range(2000):
        if size_of(path) > before:
            break
        await asyncio.sleep(0.002)
    assert size_of(path) > before
    assert appender._log is not None


async def test_the_log_begins_anew_while_rows_are_written_all_the_time(
    appender: SqliteAppender, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(append, "_MOST_PAGES", 100)
    monkeypatch.setattr(append, "SYNCED_WITHIN", 0.01)
    written, beginnings = 0, set()
    while len(beginnings) < 4 and written < 200_000:  # the second is that of the first rows, which have made the log
        batch = rows(8)
        if not appender.write(TABLE, batch):
            await appender.append(TABLE, batch, durable=False)
        written += len(batch)
        beginnings.add(salt_of(Path(f"{path}-wal")))
        await asyncio.sleep(0)
    assert counted(path) == written
    assert len(beginnings) == 4


async def test_what_was_begun_when_it_closes_is_done(path: Path):
    appender = SqliteAppender(str(path))
    assert appender.write(TABLE, rows(5))
    appending = asyncio.create_task(appender.append(TABLE, rows(5), durable=True))
    await asyncio.sleep(0)
    await appender.close()
    await appending
    assert counted(path) == 10


async def test_a_database_that_is_reached_by_two_names_is_one(path: Path, tmp_path: Path):
    (other := tmp_path / "other.sqlite").symlink_to(path)
    first, second = await open_records(f"sqlite:///{path}"), await open_records(f"sqlite:///{other}")
    assert second.write_at_once(AuditRecord, rows())
    await second.flush()
    watch = first.changes.watch(("key", "id", "one"))
    second.changes.note([("key", "id", "one")])
    assert not watch.holds()
    await first.close()
    await second.close()
