"""What the tests of single modules stand on: a clock that waits to be moved, and a real database of their own."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from identity_gateway.records.connect import open_engines
from identity_gateway.records.sql import SqlRecords, open_records
from tests.fakes.clock import Clock


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


@pytest.fixture
async def records(empty_database: Path, tmp_path: Path) -> AsyncIterator[SqlRecords]:
    """A database in the file `records.sqlite`."""
    path = shutil.copy(empty_database, tmp_path / "records.sqlite")
    opened = SqlRecords(*open_engines(f"sqlite:///{path}"))
    yield opened
    await opened.close()
