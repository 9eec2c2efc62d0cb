"""The token vault: a key is tried before it is taken, everything comes under it, and only what is lost is given up."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from identity_gateway.egress import Egress
from identity_gateway.envelope import key_reference
from identity_gateway.errors import Conflict, NotFound, Unavailable, ValidationFailed
from identity_gateway.key_encryption import Transit
from identity_gateway.model import Document, Grant, Secret, TokenVault
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Unsealable
from identity_gateway.token_vault import Rotated
from tests.fakes.clock import Clock
from tests.fakes.transit import TOKEN, FakeTransit, Key
from tests.vaults import DEFAULT, NOW, REALM, World, a_grant, customer_managed, provider_place

OLD, NEW = b"o" * 32, b"n" * 32
LOCAL = "local:master"
KEY_ID = "1234abcd-12ab-34cd-56ef-{:012d}"


def arn_of(number: int) -> str:
    return f"arn:aws:kms:us-east-1:111122223333:key/{KEY_ID.format(number)}"


class Customers:
    """Customer managed keys by ARN, as they stand in a real (fake) service: each is a transit key of its own."""

    def __init__(self, transit: Transit) -> None:
        self._transit = transit

    def key(self, name: str) -> Any:
        if not name.startswith("arn:aws:kms:") or ":key/" not in name:
            raise ValueError("not the ARN of a single-Region KMS key")
        return Named(f"kms:{name}", self._transit.key(f"transit/{name.rpartition('/')[2]}"))

    async def aclose(self) -> None:
        await self._transit.aclose()


class Named:
    def __init__(self, reference: str, key: Any) -> None:
        self.reference = reference
        self.wrap, self.unwrap = key.wrap, key.unwrap


@pytest.fixture
def service() -> Iterator[FakeTransit]:
    with FakeTransit() as server:
        for number in (1, 2):
            server.keys[KEY_ID.format(number)] = Key()
        yield server


def world_of(records: SqlRecords, service: FakeTransit, clock: Clock, *master_keys: bytes) -> World:
    egress = Egress([ip_network("127.0.0.0/8")], total=2.0)
    customers = Customers(Transit(egress, service.url, lambda: Secret(TOKEN), REALM.token_vault_arn()))
    return World(records, clock, master_keys, {"kms": customers})


async def use(world: World, number: int) -> Document:
    return await world.vaults.set_token_vault_cmk(customer_managed(arn_of(number)))


@pytest.fixture
def world(records: SqlRecords, service: FakeTransit, clock: Clock) -> World:
    return world_of(records, service, clock, OLD)


# --- Which key: refused ---


@pytest.mark.parametrize("operation", ["get_token_vault", "set_token_vault_cmk", "reset_token_vault_key_material"])
async def test_a_vault_that_is_not_the_default_one_is_not_found(world: World, operation: str):
    with pytest.raises(NotFound):
        await getattr(world.vaults, operation)({"tokenVaultId": "mine"} | customer_managed(arn_of(1)))


@pytest.mark.parametrize(
    "configuration",
    [
        {"keyType": "CustomerManagedKey"},
        {"keyType": "ServiceManagedKey", "kmsKeyArn": arn_of(1)},
        {"keyType": "Other"},
        {"keyType": "CustomerManagedKey", "kmsKeyArn": "arn:aws:kms:us-east-1:111122223333:alias/vault"},
        {"keyType": "CustomerManagedKey", "kmsKeyArn": arn_of(9)},
    ],
    ids=["no ARN", "ARN of the service's key", "no type", "alias", "refused key"],
)
async def test_a_key_that_does_not_work_is_not_taken(world: World, configuration: Document):
    with pytest.raises(ValidationFailed) as refused:
        await world.vaults.set_token_vault_cmk({"kmsConfiguration": configuration})
    assert refused.value.fields[0].name.startswith("kmsConfiguration.")
    assert (await world.keys.current()).reference == LOCAL


async def test_a_key_that_does_not_exist_is_not_taken(world: World, service: FakeTransit):
    service.fault = (400, {"errors": ["encryption key not found"]})
    with pytest.raises(ValidationFailed, match="does not exist"):
        await use(world, 1)


async def test_a_key_is_not_taken_while_nobody_can_say_whether_it_works(world: World, service: FakeTransit):
    service.seal()
    with pytest.raises(Unavailable):
        await use(world, 1)
    assert (await world.keys.current()).reference == LOCAL


async def test_of_two_changes_at_once_one_is_a_conflict(world: World, service: FakeTransit):
    await world.vaults.get_token_vault({})
    service.hold()
    changes = [asyncio.create_task(use(world, number)) for number in (1, 2)]
    while len(service.asked) < 2:  # noqa: ASYNC110 - the server counts in a thread of its own
        await asyncio.sleep(0.005)
    service.release()
    answers = await asyncio.gather(*changes, return_exceptions=True)
    assert sorted(type(answer) for answer in answers if not isinstance(answer, dict)) == [Conflict]


# --- Which key: served ---


async def test_the_default_vault_exists_and_keeps_its_date(world: World, clock: Clock):
    first = await world.vaults.get_token_vault({})
    clock.now += 60
    assert await world.vaults.get_token_vault({"tokenVaultId": "default"}) == first
    assert first == {
        "tokenVaultId": "default",
        "kmsConfiguration": {"keyType": "ServiceManagedKey"},
        "lastModifiedDate": datetime.fromtimestamp(clock.now - 60, UTC),
    }


async def test_everybody_who_looks_first_sees_the_same_vault(world: World):
    seen = await asyncio.gather(*(world.vaults.get_token_vault({}) for _ in range(10)))
    assert seen == [seen[0]] * 10


async def test_a_key_that_works_wraps_from_then_on(world: World):
    answer = await use(world, 1)
    assert answer["kmsConfiguration"] == {"keyType": "CustomerManagedKey", "kmsKeyArn": arn_of(1)}
    assert key_reference((await world.put("one")).sealed) == f"kms:{arn_of(1)}"


async def test_what_was_sealed_before_the_change_still_opens(world: World):
    await world.put("before")
    await use(world, 1)
    assert await world.opened("before") == b"before"


async def test_the_service_managed_key_comes_back_when_it_is_asked_for(world: World):
    await use(world, 1)
    await world.vaults.set_token_vault_cmk({"kmsConfiguration": {"keyType": "ServiceManagedKey"}})
    assert key_reference((await world.put("one")).sealed) == LOCAL


# --- Wrapping everything anew ---


async def test_a_rotation_does_not_begin_under_a_key_that_does_not_work(world: World, service: FakeTransit):
    await world.put("one")
    await use(world, 1)
    service.seal()
    with pytest.raises(Unavailable):
        await world.vaults.rotate()
    assert key_reference((await world.grant("one")).sealed) == LOCAL


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity_gateway.token_vault._PAGE", 10)


@pytest.mark.usefixtures("small_pages")
async def test_a_rotation_brings_every_value_under_the_present_key(world: World):
    await world.put(*(f"grant-{number}" for number in range(21)))
    provider = await world.put_provider("slack")
    await use(world, 1)
    assert await world.vaults.rotate() == Rotated(values=22, rewrapped=22)
    assert (await world.vaults.status())["keys"] == {f"kms:{arn_of(1)}": 22}
    sealed = (await world.provider("slack")).sealed_secrets
    assert await world.envelope.open(sealed, place=provider_place(provider)) == b"slack"


async def test_a_rotation_makes_an_old_master_key_dispensable(records: SqlRecords, service: FakeTransit, clock: Clock):
    await world_of(records, service, clock, OLD).put("one")
    await world_of(records, service, clock, NEW, OLD).vaults.rotate()
    assert await world_of(records, service, clock, NEW).opened("one") == b"one"
    with pytest.raises(Unsealable):
        await world_of(records, service, clock, OLD).opened("one")


async def test_a_rotation_makes_an_old_master_key_dispensable_under_a_customer_managed_key_too(
    records: SqlRecords, service: FakeTransit, clock: Clock
):
    old = world_of(records, service, clock, OLD)
    await use(old, 1)
    await old.put("one")
    await world_of(records, service, clock, NEW, OLD).vaults.rotate()
    assert await world_of(records, service, clock, NEW).opened("one") == b"one"


async def test_a_rotation_makes_the_former_customer_managed_key_dispensable(world: World, service: FakeTransit):
    await use(world, 1)
    await world.put("one")
    await use(world, 2)
    await world.vaults.rotate()
    del service.keys[KEY_ID.format(1)]
    world.envelope.forget()
    assert await world.opened("one") == b"one"


async def test_a_second_rotation_has_nothing_to_do(world: World):
    await world.put("one")
    await use(world, 1)
    await world.vaults.rotate()
    assert await world.vaults.rotate() == Rotated(values=1)


async def test_a_rotation_changes_nothing_else(world: World):
    before = await world.put("one")
    await use(world, 1)
    await world.vaults.rotate()
    after = await world.grant("one")
    assert replace(after, sealed=before.sealed, revision=before.revision) == before


async def test_a_value_that_was_moved_to_another_row_is_left_and_reported(world: World):
    one, other = await world.put("one"), await world.put("other")
    async with world.records.write() as transaction:
        await transaction.update(replace(other, sealed=one.sealed))
    await use(world, 1)
    counts = await world.vaults.rotate()
    assert (counts.rewrapped, counts.unopened, counts.complete) == (1, 1, False)


async def test_a_rotation_that_was_cut_off_goes_on_where_it_was(world: World, service: FakeTransit):
    await world.put(*(f"grant-{number:02}" for number in range(40)))
    await use(world, 1)
    service.asked.clear()
    answer = service.answer
    service.answer = lambda asked: answer(asked) if len(service.asked) < 30 else (503, {"errors": ["Vault is sealed"]})
    with pytest.raises(Unavailable):
        await world.vaults.rotate()
    service.answer = answer
    done = 40 - (await world.vaults.status())["stale"]
    assert done == 20
    assert (await world.vaults.rotate()).rewrapped == 40 - done


async def test_a_grant_whose_refresh_is_under_way_is_waited_for(world: World, clock: Clock):
    busy = await world.put("busy", intent_owner="me", intent_at=datetime.fromtimestamp(clock.now, UTC))
    await use(world, 1)

    async def store_the_refreshed_token() -> None:
        found = await world.grant("busy")
        assert found.revision == busy.revision  # what is stored now is held against the revision that was read before
        await world.renew("busy")

    world.while_asleep = store_the_refreshed_token
    assert await world.vaults.rotate() == Rotated(values=1)
    assert (await world.opened("busy"), len(world.slept)) == (b"renewed-busy", 1)


async def test_a_refresh_that_never_ends_is_reported_in_the_end(world: World, clock: Clock):
    await world.put("busy", intent_owner="me", intent_at=datetime.fromtimestamp(clock.now, UTC))
    await use(world, 1)
    counts = await world.vaults.rotate()
    assert (counts.refreshing, counts.complete) == (1, False)


async def test_a_refresh_that_was_cut_off_long_ago_is_not_waited_for(world: World, clock: Clock):
    begun = datetime.fromtimestamp(clock.now, UTC) - timedelta(minutes=2)
    await world.put("dead", intent_owner="me", intent_at=begun)
    await use(world, 1)
    assert (await world.vaults.rotate()).rewrapped == 1


@pytest.mark.usefixtures("small_pages")
async def test_what_writers_write_during_a_rotation_is_neither_lost_nor_left_behind(world: World):
    await world.put(*(f"grant-{number:02}" for number in range(30)))
    await use(world, 1)
    written: dict[str, bytes] = {}

    async def writers() -> None:
        for number in range(0, 30, 2):
            written[f"grant-{number:02}"] = await world.renew(f"grant-{number:02}")
            await world.put(f"later-{number:02}")

    counts, _ = await asyncio.gather(world.vaults.rotate(), writers())
    assert counts.complete
    assert {name: await world.opened(name) for name in written} == written
    assert (await world.vaults.status())["stale"] == 0


@pytest.mark.usefixtures("small_pages")
async def test_progress_is_told_page_by_page(records: SqlRecords, service: FakeTransit, clock: Clock):
    await world_of(records, service, clock, OLD).put(*(f"grant-{number}" for number in range(15)))
    told: list[int] = []
    await world_of(records, service, clock, NEW, OLD).vaults.rotate(lambda counts: told.append(counts.rewrapped))
    assert told[:2] == [10, 15]


async def test_the_status_tells_what_lies_under_which_key(world: World, service: FakeTransit):
    await world.put("before")
    await use(world, 1)
    await world.put("after")
    service.seal()
    status = await world.vaults.status()
    assert status == {
        "kmsConfiguration": {"keyType": "CustomerManagedKey", "kmsKeyArn": arn_of(1)},
        "works": False,
        "reason": "transit answered 503",
        "values": 2,
        "stale": 1,
        "keys": {f"kms:{arn_of(1)}": 1, LOCAL: 1},
    }


# --- Giving up what is lost ---


async def test_nothing_is_given_up_under_the_service_managed_key(world: World):
    await world.put("one")
    with pytest.raises(ValidationFailed):
        await world.vaults.reset_token_vault_key_material(DEFAULT)
    assert await world.opened("one") == b"one"


@pytest.mark.parametrize("errors", [["permission denied"], ["missing 'context' for key derivation"]])
async def test_nothing_is_given_up_while_the_key_may_come_back(world: World, service: FakeTransit, errors: list[str]):
    await use(world, 1)
    before = await world.put("one")
    service.fault = (400, {"errors": errors})
    with pytest.raises(ValidationFailed):
        await world.vaults.reset_token_vault_key_material(DEFAULT)
    assert await world.grant("one") == before


async def test_nothing_is_given_up_while_the_service_is_down(world: World, service: FakeTransit):
    await use(world, 1)
    before = await world.put("one")
    service.seal()
    with pytest.raises(Unavailable):
        await world.vaults.reset_token_vault_key_material(DEFAULT)
    assert await world.grant("one") == before


def delete_key(service: FakeTransit, number: int) -> None:
    """Delete a customer managed key; as in KMS, whoever asks for it is told so."""
    del service.keys[KEY_ID.format(number)]
    answer = service.answer
    missing = (400, {"errors": ["encryption key not found"]})
    service.answer = lambda asked: missing if asked.path.endswith(KEY_ID.format(number)) else answer(asked)


async def test_a_reset_gives_up_what_is_under_the_lost_key_and_nothing_else(world: World, service: FakeTransit):
    await world.put("kept")
    await use(world, 1)
    await world.put(*(f"lost-{number}" for number in range(30)))
    await world.put_provider("slack")
    delete_key(service, 1)
    answer = await world.vaults.reset_token_vault_key_material(DEFAULT)
    lost = await world.grant("lost-0")
    assert answer["kmsConfiguration"] == {"keyType": "ServiceManagedKey"}
    assert (lost.state, lost.reason, lost.sealed, lost.refresh_digest) == ("needs_consent", "key_lost", b"", "")
    assert (await world.provider("slack")).sealed_secrets == b""
    assert await world.opened("kept") == b"kept"
    assert (await world.vaults.status())["keys"] == {LOCAL: 1}


async def test_after_a_reset_the_vault_can_be_used_again(world: World, service: FakeTransit):
    await use(world, 1)
    delete_key(service, 1)
    await world.vaults.reset_token_vault_key_material(DEFAULT)
    await world.put("new")
    assert await world.opened("new") == b"new"


async def test_a_second_reset_is_refused(world: World, service: FakeTransit):
    await use(world, 1)
    delete_key(service, 1)
    await world.vaults.reset_token_vault_key_material(DEFAULT)
    with pytest.raises(ValidationFailed):
        await world.vaults.reset_token_vault_key_material(DEFAULT)


async def test_a_reset_after_a_change_of_keys_leaves_the_present_key(world: World, service: FakeTransit):
    await use(world, 1)
    await world.put("lost")
    await use(world, 2)
    await world.put("kept")
    delete_key(service, 1)
    answer = await world.vaults.reset_token_vault_key_material(DEFAULT)
    assert answer["kmsConfiguration"]["kmsKeyArn"] == arn_of(2)
    assert ((await world.grant("lost")).sealed, await world.opened("kept")) == (b"", b"kept")


async def test_a_reset_does_not_touch_the_vault_of_another_account(world: World, service: FakeTransit):
    theirs = replace(a_grant("theirs"), account="111111111111", sealed=b"theirs")
    async with world.records.write() as transaction:
        await transaction.create(theirs)
        await transaction.create(TokenVault("111111111111", "default", "CustomerManagedKey", arn_of(1), NOW))
    await use(world, 1)
    delete_key(service, 1)
    await world.vaults.reset_token_vault_key_material(DEFAULT)
    async with world.records.read() as transaction:
        assert await transaction.get(Grant, account="111111111111", id="theirs") == theirs
