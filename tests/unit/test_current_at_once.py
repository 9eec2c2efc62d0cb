"""Records that are known without asking the database: those that were asked for, until somebody changes them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity_gateway.model import AccessKey
from identity_gateway.records.connect import open_engines
from identity_gateway.records.sql import SqlRecords

ACCOUNT = "000000000000"
KEY = AccessKey(ACCOUNT, "IGAK1", "ci", b"sealed", True, None, datetime(2026, 11, 22, tzinfo=UTC))


def known(records: SqlRecords, account: str = ACCOUNT) -> object:
    """Return what is known of the key: the record, None if there is none, or a text if that is not known."""
    found = records.current_at_once(AccessKey, account=account, id=KEY.id)
    return "not known" if found is None else found[1]


async def kept(records: SqlRecords) -> None:
    async with records.write() as transaction:
        await transaction.create(KEY)


@pytest.fixture
async def replica(records: SqlRecords, tmp_path: Path) -> AsyncIterator[SqlRecords]:
    """Another process at the same database."""
    opened = SqlRecords(*open_engines(f"sqlite:///{tmp_path}/records.sqlite"), records.changes)
    yield opened
    for engine in (opened._readers, opened._writers):
        await engine.dispose()


async def test_a_record_that_nobody_asked_for_is_not_known(records: SqlRecords):
    await kept(records)
    assert known(records) == "not known"


async def test_a_record_that_was_asked_for_is_known(records: SqlRecords):
    await kept(records)
    await records.current(AccessKey, account=ACCOUNT, id=KEY.id)
    assert known(records) == KEY


async def test_a_record_is_known_in_its_own_account_alone(records: SqlRecords):
    await kept(records)
    await records.current(AccessKey, account=ACCOUNT, id=KEY.id)
    assert known(records, "111111111111") == "not known"


async def test_that_there_is_no_record_is_known_until_there_is_one(records: SqlRecords):
    await records.current(AccessKey, account=ACCOUNT, id=KEY.id)
    assert known(records) is None
    await kept(records)
    assert known(records) == "not known"


async def test_a_record_that_another_process_deletes_is_not_known_any_more(records: SqlRecords, replica: SqlRecords):
    await kept(records)
    await records.current(AccessKey, account=ACCOUNT, id=KEY.id)
    async with replica.write() as transaction:
        await transaction.delete(AccessKey, account=ACCOUNT, id=KEY.id)
    assert known(records) == "not known"


async def test_what_a_record_rests_on_ends_with_it(records: SqlRecords):
    await kept(records)
    await records.current(AccessKey, account=ACCOUNT, id=KEY.id)
    found = records.current_at_once(AccessKey, account=ACCOUNT, id=KEY.id)
    assert found is not None
    assert found[0].holds()
    async with records.write() as transaction:
        await transaction.delete(AccessKey, account=ACCOUNT, id=KEY.id)
    assert not found[0].holds()
