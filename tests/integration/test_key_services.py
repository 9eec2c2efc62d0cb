"""The token vault under real key services: moto's AWS KMS, and two processes' worth of vaults on PostgreSQL."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from botocore.config import Config

from identity_gateway.envelope import key_reference
from identity_gateway.errors import ValidationFailed
from identity_gateway.key_encryption import AwsKms, KeyLost, KeyRefused, KeyUnavailable
from identity_gateway.model import TokenVault
from identity_gateway.records import Records
from identity_gateway.records.sql import open_records
from identity_gateway.sealing import Unsealable
from tests.issuers import MOTO, installed, running
from tests.parts import Postgres
from tests.vaults import DEFAULT, REALM, World, customer_managed

MASTER, NEW_MASTER = b"m" * 32, b"n" * 32
CREDENTIALS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "not-a-secret"}
DATA_KEY = b"d" * 32


@dataclass
class Kms:
    """moto's KMS. It enforces contexts and knows which keys exist; it does not enforce that a key is enabled."""

    url: str
    _api: Any

    def create_key(self) -> str:
        arn: str = self._api.create_key()["KeyMetadata"]["Arn"]
        return arn

    def delete_keys(self) -> None:
        """Delete every key at once, as after the waiting period of ScheduleKeyDeletion."""
        httpx2.post(f"{self.url}/moto-api/reset", trust_env=False).raise_for_status()

    def service(self, **changes: Any) -> AwsKms:
        return AwsKms(REALM.token_vault_arn(), endpoint_url=self.url, **changes)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the default chain of AWS one key, and nothing of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    installed("moto")
    with running(sys.executable, "-c", MOTO) as part:
        yield f"http://127.0.0.1:{part.read()['port']}"


@pytest.fixture
def kms(moto_url: str) -> Iterator[Kms]:
    import boto3

    config = Config(proxies={}, retries={"total_max_attempts": 1})
    api = boto3.session.Session().client(
        "kms", region_name="us-east-1", endpoint_url=moto_url, config=config, **CREDENTIALS
    )
    yield Kms(moto_url, api)
    api.close()


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Records]:
    opened = await open_records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    yield opened
    await opened.close()


@pytest.fixture
async def world(records: Records, kms: Kms) -> AsyncIterator[World]:
    made = world_of(records, kms)
    yield made
    await made.keys.aclose()


def world_of(records: Records, kms: Kms, *master_keys: bytes) -> World:
    return World(records, time.time, master_keys or (MASTER,), {"kms": kms.service()})


# --- AWS KMS: refused ---


async def test_a_wrapped_key_does_not_unwrap_in_another_place(kms: Kms):
    service = kms.service()
    key = service.key(kms.create_key())
    wrapped = await key.wrap(DATA_KEY, "here")
    with pytest.raises(Unsealable):
        await key.unwrap(wrapped, "there")
    await service.aclose()


async def test_a_wrapped_key_does_not_unwrap_for_another_token_vault(kms: Kms):
    service, others = kms.service(), AwsKms("arn:aws:another-vault", endpoint_url=kms.url)
    arn = kms.create_key()
    wrapped = await service.key(arn).wrap(DATA_KEY, "here")
    with pytest.raises(Unsealable):
        await others.key(arn).unwrap(wrapped, "here")
    await service.aclose()
    await others.aclose()


async def test_bytes_that_the_service_did_not_wrap_do_not_unwrap(kms: Kms):
    service = kms.service()
    key = service.key(kms.create_key())
    wrapped = await key.wrap(DATA_KEY, "here")
    with pytest.raises(Unsealable):
        await key.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), "here")
    await service.aclose()


async def test_another_key_does_not_unwrap(kms: Kms):
    service = kms.service()
    wrapped = await service.key(kms.create_key()).wrap(DATA_KEY, "here")
    with pytest.raises(KeyRefused):
        await service.key(kms.create_key()).unwrap(wrapped, "here")
    await service.aclose()


async def test_a_key_that_was_deleted_is_lost(kms: Kms):
    service = kms.service()
    key = service.key(kms.create_key())
    wrapped = await key.wrap(DATA_KEY, "here")
    kms.delete_keys()
    with pytest.raises(KeyLost):
        await key.unwrap(wrapped, "here")
    await service.aclose()


async def test_a_service_that_went_away_is_unavailable_and_what_was_used_still_opens(records: Records):
    import boto3

    with running(sys.executable, "-c", MOTO) as part:
        url = f"http://127.0.0.1:{part.read()['port']}"
        api = boto3.session.Session().client("kms", region_name="us-east-1", endpoint_url=url, **CREDENTIALS)
        world = world_of(records, Kms(url, api))
        await world.vaults.set_token_vault_cmk(customer_managed(api.create_key()["KeyMetadata"]["Arn"]))
        await world.put("used")
        api.close()
    assert await world.opened("used") == b"used"
    world.envelope.forget()
    with pytest.raises(KeyUnavailable):
        await world.opened("used")
    await world.keys.aclose()


@pytest.mark.parametrize("arn", ["arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"])
async def test_a_key_that_does_not_exist_is_not_taken(world: World, arn: str):
    with pytest.raises(ValidationFailed, match="does not exist"):
        await world.vaults.set_token_vault_cmk(customer_managed(arn))
    assert (await world.vaults.get_token_vault({}))["kmsConfiguration"] == {"keyType": "ServiceManagedKey"}


# --- AWS KMS: served ---


async def test_a_vault_under_a_customer_managed_key_opens_in_another_process(world: World, kms: Kms, records: Records):
    await world.vaults.set_token_vault_cmk(customer_managed(kms.create_key()))
    await world.put("one")
    another = world_of(records, kms)
    assert await another.opened("one") == b"one"
    await another.keys.aclose()


async def test_the_database_and_the_right_to_use_the_key_open_nothing_without_the_master_key(
    world: World, kms: Kms, records: Records
):
    await world.vaults.set_token_vault_cmk(customer_managed(kms.create_key()))
    await world.put("one")
    thief = world_of(records, kms, b"t" * 32)
    with pytest.raises(Unsealable):
        await thief.opened("one")
    await thief.keys.aclose()


async def test_the_vault_moves_from_key_to_key_and_back(world: World, kms: Kms):
    await world.put("one", "two")
    for _ in range(2):
        await world.vaults.set_token_vault_cmk(customer_managed(kms.create_key()))
        await world.vaults.rotate()
    await world.vaults.set_token_vault_cmk({"kmsConfiguration": {"keyType": "ServiceManagedKey"}})
    assert (await world.vaults.rotate()).rewrapped == 2
    kms.delete_keys()
    world.envelope.forget()
    assert await world.opened("one") == b"one"


async def test_a_vault_whose_key_was_deleted_is_reset_and_used_again(world: World, kms: Kms):
    await world.put("kept")
    await world.vaults.set_token_vault_cmk(customer_managed(kms.create_key()))
    await world.put("lost")
    kms.delete_keys()
    answer = await world.vaults.reset_token_vault_key_material(DEFAULT)
    await world.put("new")
    lost = await world.grant("lost")
    assert answer["kmsConfiguration"] == {"keyType": "ServiceManagedKey"}
    assert (lost.sealed, lost.state) == (b"", "needs_consent")
    assert [await world.opened(name) for name in ("kept", "new")] == [b"kept", b"new"]


async def test_a_vault_whose_key_exists_is_not_reset(world: World, kms: Kms):
    await world.vaults.set_token_vault_cmk(customer_managed(kms.create_key()))
    before = await world.put("one")
    with pytest.raises(ValidationFailed):
        await world.vaults.reset_token_vault_key_material(DEFAULT)
    assert await world.grant("one") == before


# --- Several processes on PostgreSQL ---


@pytest.fixture
async def shared(postgres_server: Postgres) -> AsyncIterator[tuple[Records, Records]]:
    url = postgres_server.create_database()
    opened = await open_records(url), await open_records(url)
    yield opened
    for each in opened:
        await each.close()


async def test_a_change_of_keys_in_one_process_counts_in_the_other_at_once(shared: tuple[Records, Records], kms: Kms):
    one, other = (world_of(records, kms) for records in shared)
    arn = kms.create_key()
    await other.put("before")
    await one.vaults.set_token_vault_cmk(customer_managed(arn))
    assert key_reference((await other.put("after")).sealed) == f"kms:{arn}"
    await one.keys.aclose()
    await other.keys.aclose()


async def test_two_rotations_and_writers_at_once_leave_everything_under_the_new_key(shared: tuple[Records, Records]):
    old, other = (World(records, time.time, (MASTER,), {}) for records in shared)
    new, another = (World(records, time.time, (NEW_MASTER, MASTER), {}) for records in shared)
    names = [f"grant-{number:03}" for number in range(300)]
    await old.put(*names)
    renewed: dict[str, bytes] = {}

    async def write(world: World, mine: list[str]) -> None:
        for name in mine:
            renewed[name] = await world.renew(name)

    await asyncio.gather(
        new.vaults.rotate(), another.vaults.rotate(), write(new, names[::10]), write(another, names[5::10])
    )
    await new.vaults.rotate()
    alone = World(shared[1], time.time, (NEW_MASTER,), {})
    expected = {name: name.encode() for name in names} | renewed
    assert {name: await alone.opened(name) for name in names} == expected
    assert other.envelope.is_under((await other.grant(names[0])).sealed, "local:master") is False


async def test_the_date_of_the_vault_is_the_same_for_everybody(shared: tuple[Records, Records]):
    worlds = [World(records, time.time, (MASTER,), {}) for records in shared]
    seen = await asyncio.gather(*(world.vaults.get_token_vault({}) for world in worlds * 5))
    async with shared[0].read() as transaction:
        (kept,) = await transaction.list(TokenVault, account=REALM.account)
    assert {answer["lastModifiedDate"] for answer in seen} == {kept.modified_at}
    assert kept.modified_at <= datetime.now(UTC)
