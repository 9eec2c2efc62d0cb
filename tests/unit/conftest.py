"""What the tests of single modules stand on: a clock that waits to be moved, and a real database of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from identity_gateway.records.sql import SqlRecords, open_records
from tests.fakes.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[SqlRecords]:
    opened = await open_records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    yield opened
    await opened.close()
