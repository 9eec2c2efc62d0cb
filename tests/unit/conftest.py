"""What the tests of single modules stand on: a clock that waits to be moved, and a real database of their own."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from identity_gateway.records.append import Row, SqliteAppender
from identity_gateway.records.changes import OWN_LONGEST, Changes
from identity_gateway.records.connect import open_engines
from identity_gateway.records.sql import SqlRecords, open_records
from tests.fakes.clock import Clock


class Database:
    """The engines of every test, one after the other: each opens its own file, what was compiled once serves them all.

    Closing the records closes all connections, and an engine opens new ones when it is used again.
    """

    def __init__(self) -> None:
        self.path = Path()
        self.engines = open_engines("sqlite:///elsewhere")
        for engine in self.engines:
            event.listen(engine.sync_engine, "do_connect", self._direct)
            event.listen(engine.sync_engine, "connect", _hurry)

    def _direct(self, _dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
        arguments[0] = str(self.path)


def _hurry(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")  # nobody cuts the power of a test


class Appending(SqliteAppender):
    """Adds rows without waiting for the disk."""

    async def append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:
        del durable
        await super().append(table, rows, durable=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a database once: its migration takes longer than most of the tests that need one."""
    path = tmp_path_factory.mktemp("records") / "empty.sqlite"

    async def make() -> None:
        await (await open_records(f"sqlite:///{path}")).close()

    asyncio.run(make())
    return path


@pytest.fixture(scope="session")
def database() -> Database:
    return Database()


@pytest.fixture
async def records(empty_database: Path, database: Database, tmp_path: Path) -> AsyncIterator[SqlRecords]:
    """A database in the file `records.sqlite`."""
    database.path = shutil.copy(empty_database, tmp_path / "records.sqlite")
    opened = SqlRecords(*database.engines, Changes(None, longest=OWN_LONGEST), Appending(str(database.path)))
    yield opened
    await opened.close()
