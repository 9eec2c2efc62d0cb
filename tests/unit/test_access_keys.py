"""Access keys: a secret is shown once, opens in its own row only, and the root key can always be found."""

import asyncio
import json
import re
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from identity_gateway.access_keys import ROOT, AccessKeys
from identity_gateway.errors import Conflict, NotFound, Unavailable, ValidationFailed
from identity_gateway.model import AccessKey, Secret
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Sealer
from tests.fakes.clock import Clock

ACCOUNT = "000000000000"
SEALER = Sealer([b"k" * 32], "access-keys")
POLICY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}


@pytest.fixture
def keys(records: SqlRecords, clock: Clock) -> AccessKeys:
    return AccessKeys(records, SEALER, ACCOUNT, clock=clock)


async def kept(records: SqlRecords, key_id: str) -> AccessKey:
    async with records.read() as transaction:
        found = await transaction.get(AccessKey, account=ACCOUNT, id=key_id)
    assert found is not None
    return found


def root_file(path: Path) -> tuple[str, str]:
    content = json.loads(path.read_text())
    return content["accessKeyId"], content["secretAccessKey"]


# --- Refused ---


@pytest.mark.parametrize("name", ["", " ", "a b", "a" * 65, "a/b", "é", "a\n", "../root"])
async def test_a_key_with_a_name_that_is_none_is_refused(keys: AccessKeys, name: str):
    with pytest.raises(ValidationFailed):
        await keys.create(name)


async def test_the_name_of_the_root_key_is_reserved(keys: AccessKeys):
    with pytest.raises(ValidationFailed, match="root"):
        await keys.create(ROOT, policy=POLICY)


async def test_a_key_is_not_both_admin_and_restrained_by_a_policy(keys: AccessKeys):
    deny = POLICY | {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
    with pytest.raises(ValidationFailed, match="admin"):
        await keys.create("ci", admin=True, policy=deny)


async def test_two_keys_cannot_have_one_name(keys: AccessKeys):
    await keys.create("ci")
    with pytest.raises(Conflict):
        await keys.create("ci", admin=True)
    assert [key.admin for key in await keys.list()] == [False]


@pytest.mark.parametrize("policy", [{}, POLICY | {"Version": "2008-10-17"}, POLICY | {"Principal": "*"}])
async def test_a_key_with_a_policy_that_is_not_served_is_refused(keys: AccessKeys, policy: dict):
    with pytest.raises(ValidationFailed) as caught:
        await keys.create("ci", policy=policy)
    assert caught.value.fields
    assert await keys.list() == []


@pytest.mark.parametrize("key_id", ["", "IGAK", "IGAKAAAAAAAAAAAAAAAA", "igak"])
async def test_a_key_that_is_not_there_is_not_found(keys: AccessKeys, key_id: str):
    await keys.create("ci")
    assert await keys.find(key_id) is None


async def test_a_key_of_another_account_is_not_found(keys: AccessKeys, records: SqlRecords, clock: Clock):
    made = await keys.create("ci")
    assert await AccessKeys(records, SEALER, "111111111111", clock=clock).find(made.id) is None


async def test_a_key_that_was_deleted_is_not_found(keys: AccessKeys):
    made = await keys.create("ci")
    await keys.delete(made.id)
    assert await keys.find(made.id) is None


async def test_a_key_that_is_not_there_cannot_be_deleted(keys: AccessKeys):
    with pytest.raises(NotFound):
        await keys.delete("IGAKAAAAAAAAAAAAAAAA")


async def test_a_secret_that_was_moved_to_another_key_does_not_open(keys: AccessKeys, records: SqlRecords):
    weak, strong = await keys.create("weak"), await keys.create("strong", admin=True)
    known, wanted = await kept(records, weak.id), await kept(records, strong.id)
    async with records.write() as transaction:
        await transaction.delete(AccessKey, account=ACCOUNT, id=strong.id)
        await transaction.create(replace(wanted, sealed_secret=known.sealed_secret))
    with pytest.raises(Unavailable) as caught:
        await keys.find(strong.id)
    assert strong.id in caught.value.reason
    assert strong.id not in caught.value.message


async def test_a_key_does_not_open_under_another_master_key(keys: AccessKeys, records: SqlRecords, clock: Clock):
    made = await keys.create("ci")
    with pytest.raises(Unavailable):
        await AccessKeys(records, Sealer([b"o" * 32], "access-keys"), ACCOUNT, clock=clock).find(made.id)


async def test_a_key_of_no_lifetime_is_refused(keys: AccessKeys):
    for lifetime in (timedelta(), timedelta(seconds=-1)):
        with pytest.raises(ValidationFailed):
            await keys.create("ci", lifetime=lifetime)
    assert await keys.list() == []


async def test_a_key_that_is_not_there_can_be_neither_disabled_nor_enabled(keys: AccessKeys):
    for act in (keys.disable("IGAKAAAAAAAAAAAAAAAA"), keys.enable("IGAKAAAAAAAAAAAAAAAA")):
        with pytest.raises(NotFound):
            await act


async def test_a_master_key_that_is_changed_meanwhile_does_not_enable_a_disabled_key(
    keys: AccessKeys, records: SqlRecords, clock: Clock
):
    made = await keys.create("ci")
    await keys.disable(made.id)
    rotated = AccessKeys(records, Sealer([b"n" * 32, b"k" * 32], "access-keys"), ACCOUNT, clock=clock)
    await asyncio.gather(rotated.reseal(), rotated.reseal())
    record = await kept(records, made.id)
    assert record.disabled_at == clock_time(clock)
    found = await rotated.find(made.id)
    assert found is not None
    assert found[1].reveal() == made.secret.reveal()


def clock_time(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)


# --- Made and found ---


async def test_a_key_with_a_lifetime_says_when_it_ends(keys: AccessKeys, records: SqlRecords, clock: Clock):
    made = await keys.create("ci", lifetime=timedelta(days=30))
    assert (await kept(records, made.id)).expires_at == clock_time(clock) + timedelta(days=30)


async def test_a_key_that_is_disabled_twice_keeps_the_first_time_and_its_secret(keys: AccessKeys, clock: Clock):
    made = await keys.create("ci")
    first = await keys.disable(made.id)
    clock.now += 60
    assert (await keys.disable(made.id)).disabled_at == first.disabled_at
    assert (await keys.enable(made.id)).disabled_at is None
    found = await keys.find(made.id)
    assert found is not None
    assert found[1].reveal() == made.secret.reveal()


async def test_a_new_key_can_be_found_with_its_secret(keys: AccessKeys):
    made = await keys.create("ci", policy=POLICY)
    found = await keys.find(made.id)
    assert found is not None
    record, secret = found
    assert (record.name, record.admin, record.policy) == ("ci", False, POLICY)
    assert secret.reveal() == made.secret.reveal()


async def test_a_new_key_is_long_and_never_the_same(keys: AccessKeys):
    made = [await keys.create(f"ci-{number}") for number in range(3)]
    assert all(re.fullmatch(r"IGAK[A-Z2-7]{16}", key.id) for key in made)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{40}", key.secret.reveal()) for key in made)
    assert len({key.id for key in made} | {key.secret.reveal() for key in made}) == 6


async def test_a_secret_is_sealed_at_rest_and_shown_by_nothing(keys: AccessKeys, records: SqlRecords):
    made = await keys.create("ci")
    record = await kept(records, made.id)
    assert made.secret.reveal().encode() not in record.sealed_secret
    assert made.secret.reveal() not in repr((made, record, await keys.find(made.id)))
    assert "sealed" not in repr(record)


async def test_keys_are_listed_in_the_order_of_their_ids(keys: AccessKeys):
    made = [await keys.create(f"ci-{number}") for number in range(5)]
    assert [key.id for key in await keys.list()] == sorted(key.id for key in made)


# --- The root key ---


async def test_the_first_start_makes_a_root_key_and_writes_it_for_its_owner_alone(keys: AccessKeys, tmp_path: Path):
    await keys.ensure_root(tmp_path / "root.json")
    key_id, secret = root_file(tmp_path / "root.json")
    found = await keys.find(key_id)
    assert found is not None
    assert (found[0].name, found[0].admin, found[1].reveal()) == (ROOT, True, secret)
    assert stat.S_IMODE((tmp_path / "root.json").stat().st_mode) == 0o600


async def test_a_later_start_keeps_the_root_key(keys: AccessKeys, tmp_path: Path):
    await keys.ensure_root(tmp_path / "root.json")
    before = root_file(tmp_path / "root.json")
    await keys.ensure_root(tmp_path / "root.json")
    assert root_file(tmp_path / "root.json") == before
    assert len(await keys.list()) == 1


async def test_replicas_that_share_a_database_share_the_root_key(
    keys: AccessKeys, records: SqlRecords, clock: Clock, tmp_path: Path
):
    replicas = [AccessKeys(records, SEALER, ACCOUNT, clock=clock) for _ in range(4)]
    await asyncio.gather(*(keys.ensure_root(tmp_path / f"{i}.json") for i, keys in enumerate(replicas)))
    assert len({root_file(tmp_path / f"{number}.json") for number in range(4)}) == 1


async def test_a_root_key_that_was_deleted_is_replaced_and_written_anew(keys: AccessKeys, tmp_path: Path):
    path = tmp_path / "root.json"
    await keys.ensure_root(path)
    await keys.delete(root_file(path)[0])
    await keys.ensure_root(path)
    key_id, secret = root_file(path)
    found = await keys.find(key_id)
    assert found is not None
    assert found[1].reveal() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_root_key_from_the_settings_lives_in_memory_alone(keys: AccessKeys, tmp_path: Path):
    keys.use_root("operator", Secret("the operator's secret"))
    await keys.ensure_root(tmp_path / "root.json")
    found = await keys.find("operator")
    assert found is not None
    assert (found[0].admin, found[1].reveal()) == (True, "the operator's secret")
    assert await keys.list() == []
    assert not (tmp_path / "root.json").exists()


async def test_a_root_key_from_the_settings_replaces_the_one_that_was_made(keys: AccessKeys, tmp_path: Path):
    await keys.ensure_root(tmp_path / "root.json")
    made = root_file(tmp_path / "root.json")[0]
    keys.use_root("operator", Secret("the operator's secret"))
    assert await keys.find(made) is None


async def test_a_root_key_from_the_settings_leaves_the_other_keys_alone(keys: AccessKeys):
    made = await keys.create("ci")
    keys.use_root("operator", Secret("the operator's secret"))
    assert await keys.find(made.id) is not None
