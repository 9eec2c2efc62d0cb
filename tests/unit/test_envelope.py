"""A sealed value opens at its own place, under the keys that it was sealed with; and nowhere else."""

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.egress import Egress
from identity_gateway.envelope import Envelope, _context, _Sealed, key_reference
from identity_gateway.errors import Unavailable
from identity_gateway.key_encryption import KeyLost, KeyRing, LocalKey, Transit
from identity_gateway.model import Secret
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Unsealable
from tests.fakes.clock import Clock
from tests.fakes.transit import TOKEN, FakeTransit

ACCOUNT = "000000000000"
KEY, NEW_KEY = b"k" * 32, b"n" * 32
PLACE = (ACCOUNT, "grant_", "grant-1", "sealed", "7", "provider-1")
VAULT_ARN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:token-vault/default"
PLAINTEXT = b"xoxb-the-token"


@pytest.fixture
def service() -> Iterator[FakeTransit]:
    with FakeTransit() as server:
        yield server


def ring(records: SqlRecords, clock: Clock, *master_keys: bytes, service: FakeTransit | None = None) -> KeyRing:
    local = LocalKey(master_keys or (KEY,), clock=clock)
    if service is None:
        return KeyRing(records, local, ACCOUNT, services={})
    egress = Egress([ip_network("127.0.0.0/8")], total=0.5)
    transit = Transit(egress, service.url, lambda: Secret(TOKEN), VAULT_ARN)
    return KeyRing(records, local, ACCOUNT, services={"transit": transit}, default="transit:transit/vault")


@pytest.fixture
def envelope(records: SqlRecords, clock: Clock) -> Envelope:
    return Envelope(ring(records, clock), clock=clock)


@pytest.fixture
def remote(records: SqlRecords, clock: Clock, service: FakeTransit) -> Envelope:
    return Envelope(ring(records, clock, service=service), clock=clock)


# --- What opens at once ---


@pytest.mark.parametrize("change", ["place", "value"])
async def test_what_does_not_open_does_not_open_at_once(envelope: Envelope, change: str):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    await envelope.open(sealed, place=PLACE)
    place = (*PLACE[:-1], "provider-2") if change == "place" else PLACE
    wrong = sealed if change == "place" else sealed[:-1] + bytes([sealed[-1] ^ 1])
    assert envelope.opener(wrong, place=place)() is None


async def test_a_value_opens_at_once_while_its_data_key_is_remembered(remote: Envelope, clock: Clock):
    opened = remote.opener(await remote.seal(PLAINTEXT, place=PLACE), place=PLACE)
    within = opened()
    clock.now += 300
    assert (within, opened()) == (PLAINTEXT, None)


async def test_a_data_key_that_was_forgotten_opens_nothing_at_once(envelope: Envelope):
    opened = envelope.opener(await envelope.seal(PLAINTEXT, place=PLACE), place=PLACE)
    envelope.forget()
    assert opened() is None


# --- What does not open ---


@pytest.mark.parametrize("part", range(len(PLACE)), ids=["account", "table", "row", "column", "generation", "provider"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
async def test_a_value_does_not_open_in_another_place(envelope: Envelope, part: int, warm: bool):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    if not warm:
        envelope.forget()
    with pytest.raises(Unsealable):
        await envelope.open(sealed, place=(*PLACE[:part], PLACE[part] + "1", *PLACE[part + 1 :]))


async def test_not_even_the_data_key_opens_a_value_in_another_place(envelope: Envelope):
    sealed, elsewhere = await envelope.seal(PLAINTEXT, place=PLACE), (*PLACE[:-1], "provider-2")
    parts = _Sealed.decode(sealed)
    data_key = await envelope._data_key(parts, _context(PLACE))
    envelope._remembered.put(parts.identity(_context(elsewhere)), data_key)
    with pytest.raises(Unsealable):
        await envelope.open(sealed, place=elsewhere)


@given(st.lists(st.text(max_size=4), min_size=1, max_size=4), st.lists(st.text(max_size=4), min_size=1, max_size=4))
def test_no_two_places_are_the_same(one: list[str], other: list[str]):
    assert (_context(tuple(one)) == _context(tuple(other))) == (one == other)


async def test_a_value_is_not_sealed_to_no_place(envelope: Envelope):
    with pytest.raises(ValueError, match="place"):
        await envelope.seal(PLAINTEXT, place=())


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
async def test_a_flipped_byte_anywhere_does_not_open(envelope: Envelope, warm: bool):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    opened = []
    for position in range(len(sealed)):
        changed = sealed[:position] + bytes([sealed[position] ^ 1 << position % 8]) + sealed[position + 1 :]
        if not warm:
            envelope.forget()
        try:
            opened.append((position, await envelope.open(changed, place=PLACE)))
        except (Unsealable, Unavailable):
            continue
    assert opened == []


async def test_a_value_that_was_cut_off_or_extended_does_not_open(envelope: Envelope):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    for changed in (*(sealed[:length] for length in range(len(sealed))), sealed + b"\0"):
        with pytest.raises(Unsealable):
            await envelope.open(changed, place=PLACE)


async def test_the_master_key_of_another_deployment_opens_nothing(
    records: SqlRecords, clock: Clock, envelope: Envelope
):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    with pytest.raises(Unsealable):
        await Envelope(ring(records, clock, NEW_KEY), clock=clock).open(sealed, place=PLACE)


async def test_whoever_may_use_the_key_service_opens_nothing_without_the_master_key(
    records: SqlRecords, clock: Clock, service: FakeTransit, remote: Envelope
):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    service.asked.clear()
    with pytest.raises(Unsealable):
        await Envelope(ring(records, clock, NEW_KEY, service=service), clock=clock).open(sealed, place=PLACE)
    assert service.asked == []


async def test_a_reference_that_was_written_into_the_database_asks_no_service(service: FakeTransit, remote: Envelope):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    service.asked.clear()
    with pytest.raises(Unsealable):
        await remote.open(sealed.replace(b"transit/vault", b"transit/other"), place=PLACE)
    assert service.asked == []


async def test_parts_of_two_values_of_one_place_make_no_third(envelope: Envelope):
    one, other = [await envelope.seal(text, place=PLACE) for text in (b"old-token-1", b"new-token-2")]
    tail = 12 + len(b"old-token-1") + 16
    with pytest.raises(Unsealable):
        await envelope.open(one[:-tail] + other[-tail:], place=PLACE)


# --- What opens ---


async def test_a_value_opens_at_its_place(envelope: Envelope):
    assert await envelope.open(await envelope.seal(PLAINTEXT, place=PLACE), place=PLACE) == PLAINTEXT


async def test_a_value_opens_in_another_process(records: SqlRecords, clock: Clock, envelope: Envelope):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    assert await Envelope(ring(records, clock), clock=clock).open(sealed, place=PLACE) == PLAINTEXT


async def test_two_seals_of_one_plaintext_have_nothing_in_common_but_their_head(envelope: Envelope):
    one, other = [await envelope.seal(PLAINTEXT, place=PLACE) for _ in range(2)]
    head = 2 + len(key_reference(one)) + 2 + 9
    assert one[:head] == other[:head]
    assert sum(a == b for a, b in zip(one[head:], other[head:], strict=True)) < 12


async def test_the_plaintext_is_not_in_what_is_stored_or_shown(envelope: Envelope):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    assert PLAINTEXT not in sealed
    assert PLAINTEXT.decode() not in repr(vars(envelope))


# --- Wrapping anew ---


async def test_a_value_that_was_wrapped_anew_keeps_its_plaintext_and_its_place(
    records: SqlRecords, clock: Clock, envelope: Envelope
):
    both = Envelope(ring(records, clock, NEW_KEY, KEY), clock=clock)
    rewrapped = await both.rewrap(await envelope.seal(PLAINTEXT, place=PLACE), place=PLACE)
    alone = Envelope(ring(records, clock, NEW_KEY), clock=clock)
    assert await alone.open(rewrapped, place=PLACE) == PLAINTEXT
    with pytest.raises(Unsealable):
        await alone.open(rewrapped, place=(*PLACE, "elsewhere"))


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
async def test_a_value_is_not_wrapped_anew_for_another_place(envelope: Envelope, warm: bool):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    if not warm:
        envelope.forget()
    with pytest.raises(Unsealable):
        await envelope.rewrap(sealed, place=(*PLACE[:-1], "provider-2"))


async def test_a_value_is_current_under_the_first_master_key_only(
    records: SqlRecords, clock: Clock, envelope: Envelope
):
    sealed = await envelope.seal(PLAINTEXT, place=PLACE)
    both = Envelope(ring(records, clock, NEW_KEY, KEY), clock=clock)
    anew = await both.rewrap(sealed, place=PLACE)
    assert [await both.is_current(value) for value in (sealed, anew, b"", b"junk")] == [False, True, False, False]


async def test_a_value_is_not_current_under_another_key_of_the_vault(
    remote: Envelope, records: SqlRecords, clock: Clock, service: FakeTransit
):
    sealed = await Envelope(ring(records, clock), clock=clock).seal(PLAINTEXT, place=PLACE)
    assert not await remote.is_current(sealed)
    assert await remote.is_current(await remote.rewrap(sealed, place=PLACE))


# --- The key service ---


async def test_a_value_does_not_open_while_the_key_service_is_down_and_says_nothing_of_it(
    service: FakeTransit, remote: Envelope
):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    service.seal()
    with pytest.raises(Unavailable) as refused:
        await remote.open(sealed, place=PLACE)
    assert refused.value.message == "The service is not available right now. Try again."


async def test_a_value_that_was_used_opens_while_the_key_service_is_down(service: FakeTransit, remote: Envelope):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    await remote.open(sealed, place=PLACE)
    service.seal()
    assert await remote.open(sealed, place=PLACE) == PLAINTEXT


async def test_a_data_key_is_forgotten_after_five_minutes(service: FakeTransit, remote: Envelope, clock: Clock):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    service.seal()
    clock.now += 299
    assert await remote.open(sealed, place=PLACE) == PLAINTEXT
    clock.now += 1
    with pytest.raises(Unavailable):
        await remote.open(sealed, place=PLACE)


async def test_the_oldest_data_keys_are_forgotten_when_there_are_too_many(
    service: FakeTransit, remote: Envelope, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("identity_gateway.envelope._REMEMBERED", 2)
    values = [await remote.seal(PLAINTEXT, place=(*PLACE, str(number))) for number in range(3)]
    service.seal()
    assert await remote.open(values[1], place=(*PLACE, "1")) == PLAINTEXT
    with pytest.raises(Unavailable):
        await remote.open(values[0], place=(*PLACE, "0"))


async def test_those_who_open_one_value_at_once_make_one_call(service: FakeTransit, remote: Envelope):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    service.asked.clear()
    assert await asyncio.gather(*(remote.open(sealed, place=PLACE) for _ in range(50))) == [PLAINTEXT] * 50
    assert len(service.asked) == 1


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(service: FakeTransit, remote: Envelope):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    service.hold()
    first, second = [asyncio.create_task(remote.open(sealed, place=PLACE)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    service.release()
    assert await second == PLAINTEXT


async def test_a_failure_is_not_remembered(service: FakeTransit, remote: Envelope):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    service.seal()
    with pytest.raises(Unavailable):
        await remote.open(sealed, place=PLACE)
    service.fault = None
    assert await remote.open(sealed, place=PLACE) == PLAINTEXT


async def test_an_answer_that_was_under_way_is_forgotten_with_the_others(service: FakeTransit, remote: Envelope):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    service.hold()
    opening = asyncio.create_task(remote.open(sealed, place=PLACE))
    await asyncio.sleep(0)  # it has begun: whether it was asked already makes no difference
    remote.forget()
    service.release()
    await opening
    service.seal()
    with pytest.raises(Unavailable):
        await remote.open(sealed, place=PLACE)


async def test_what_was_prepared_is_sealed_while_the_key_service_is_down(service: FakeTransit, remote: Envelope):
    seal = await remote.prepare(place=PLACE)
    service.seal()
    assert await remote.open(seal(PLAINTEXT), place=PLACE) == PLAINTEXT


async def test_a_value_whose_key_was_deleted_says_so_to_operators_only(service: FakeTransit, remote: Envelope):
    sealed = await remote.seal(PLAINTEXT, place=PLACE)
    remote.forget()
    service.keys.clear()
    with pytest.raises(KeyLost) as lost:
        await remote.open(sealed, place=PLACE)
    assert "key" not in lost.value.message
