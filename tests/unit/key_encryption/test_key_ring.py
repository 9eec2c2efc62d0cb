"""The key ring wraps with the key that the account's vault is under, and finds the one that wrapped a value."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from identity_gateway.key_encryption import AwsKms, KeyRefused, KeyRing, LocalKey
from identity_gateway.key_encryption.ring import CUSTOMER_MANAGED
from identity_gateway.model import TokenVault
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Unsealable
from tests.fakes.clock import Clock

ACCOUNT = "000000000000"
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
VAULT = TokenVault(ACCOUNT, "default", CUSTOMER_MANAGED, ARN, datetime(2026, 1, 1, tzinfo=UTC))
DAY = 24 * 3600


@pytest.fixture
def ring(records: SqlRecords, clock: Clock) -> KeyRing:
    services = {"kms": AwsKms("arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default")}
    return KeyRing(records, LocalKey([b"k" * 32], clock=clock), ACCOUNT, services=services)


async def keep(records: SqlRecords, vault: TokenVault) -> None:
    async with records.write() as transaction:
        await transaction.create(vault)


def test_a_key_of_a_service_that_is_not_set_up_is_refused(ring: KeyRing):
    with pytest.raises(KeyRefused, match="not available"):
        ring.find("transit:transit/vault")


@pytest.mark.parametrize("reference", ["kms:", "kms:alias/x", "local:other", "", "kms", "unknown:x"])
async def test_a_reference_that_names_no_key_opens_nothing(ring: KeyRing, reference: str):
    _, wrapped = await ring.wrap(b"d" * 32, "here")
    with pytest.raises(Unsealable):
        await ring.unwrap(reference, wrapped, "here")


async def test_a_record_that_names_no_key_wraps_nothing(ring: KeyRing, records: SqlRecords):
    await keep(records, replace(VAULT, kms_key_arn="alias/vault"))
    with pytest.raises(KeyRefused):
        await ring.wrap(b"d" * 32, "here")


async def test_the_vault_of_another_account_does_not_count(ring: KeyRing, records: SqlRecords):
    await keep(records, replace(VAULT, account="111111111111"))
    assert (await ring.current()).reference == "local:master"


async def test_a_vault_that_was_never_touched_is_under_the_master_key(ring: KeyRing):
    assert (await ring.wrap(b"d" * 32, "here"))[0] == "local:master"


async def test_what_another_process_changed_counts_at_once(ring: KeyRing, records: SqlRecords):
    await ring.wrap(b"d" * 32, "here")
    await keep(records, VAULT)
    assert (await ring.current()).reference == f"kms:{ARN}"


async def test_what_the_master_key_wrapped_is_bound_to_its_context(ring: KeyRing):
    reference, wrapped = await ring.wrap(b"d" * 32, "here")
    with pytest.raises(Unsealable):
        await ring.unwrap(reference, wrapped, "there")


async def test_what_was_wrapped_long_ago_unwraps(ring: KeyRing, clock: Clock):
    reference, wrapped = await ring.wrap(b"d" * 32, "here")
    clock.now += 400 * DAY
    assert await ring.unwrap(reference, wrapped, "here") == b"d" * 32


async def test_the_master_key_works_whenever_it_is_tried(ring: KeyRing):
    assert not await ring.is_lost("local:master")
