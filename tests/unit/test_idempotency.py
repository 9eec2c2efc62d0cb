"""A request that is sent twice with one clientToken has its effect once."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from identity_gateway.errors import Conflict, ValidationFailed
from identity_gateway.idempotency import Idempotency
from identity_gateway.model import IdempotentResult, Tag
from identity_gateway.records import AlreadyExists, Stale, Transaction
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock

ACCOUNT, OTHER_ACCOUNT = "000000000000", "111111111111"
TOKEN = "a-token-of-more-than-thirty-three-letters"
HOUR = 3600.0


class Counted:
    """An effect that leaves a record each time, and answers with the number of times and the moment."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.times = 0
        self.fault = fault

    async def __call__(self, transaction: Transaction) -> dict[str, Any]:
        self.times += 1
        await transaction.create(Tag(ACCOUNT, "arn:x", f"key-{self.times}-{id(self)}", "v"))
        if self.fault is not None:
            raise self.fault
        return {"number": self.times, "createdAt": datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC), "nested": {"a": [1]}}


@pytest.fixture
def idempotency(records: SqlRecords, clock: Clock) -> Idempotency:
    return Idempotency(records, ACCOUNT, clock=clock)


def asked(token: str | None = TOKEN, **members: Any) -> dict[str, Any]:
    return {"name": "hello", **members} | ({"clientToken": token} if token else {})


async def effects(records: SqlRecords) -> int:
    async with records.read() as transaction:
        return len(await transaction.list(Tag, account=ACCOUNT))


# --- Refused ---


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"more": None},
        {"tags": {"a": "b"}},
        {"blob": b"x"},
        {"name": ["hello"]},
        {"moment": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
async def test_a_token_that_comes_back_with_other_parameters_is_refused(
    idempotency: Idempotency, records: SqlRecords, other: dict[str, Any]
):
    effect = Counted()
    await idempotency.run("Create", asked(), effect)
    with pytest.raises(ValidationFailed) as caught:
        await idempotency.run("Create", asked(**other), effect)
    assert caught.value.kind == "IdempotentParameterMismatchException"
    assert await effects(records) == 1


async def test_an_effect_that_fails_is_forgotten_with_its_token(idempotency: Idempotency, records: SqlRecords):
    with pytest.raises(Conflict):
        await idempotency.run("Create", asked(), Counted(Conflict("is there")))
    assert await effects(records) == 0
    assert (await idempotency.run("Create", asked(), Counted()))["number"] == 1


@pytest.mark.parametrize("token", [TOKEN, None])
async def test_an_effect_that_fails_leaves_nothing(idempotency: Idempotency, records: SqlRecords, token: str | None):
    with pytest.raises(RuntimeError):
        await idempotency.run("Create", asked(token), Counted(RuntimeError()))
    assert await effects(records) == 0


@pytest.mark.parametrize("fault", [AlreadyExists(), Stale()])
async def test_an_effect_that_always_loses_its_race_is_a_conflict(
    idempotency: Idempotency, records: SqlRecords, fault: Exception
):
    effect = Counted(fault)
    with pytest.raises(Conflict):
        await idempotency.run("Create", asked(), effect)
    assert effect.times > 1
    assert await effects(records) == 0


# --- Done once ---


async def test_the_same_request_has_its_effect_once_and_the_same_answer(idempotency: Idempotency, records: SqlRecords):
    effect = Counted()
    first = await idempotency.run("Create", asked(tags={"a": "b", "c": "d"}), effect)
    again = await idempotency.run("Create", asked(tags={"c": "d", "a": "b"}), effect)
    assert again == first
    assert (effect.times, await effects(records)) == (1, 1)


async def test_the_same_request_sent_many_times_at_once_has_its_effect_once(
    idempotency: Idempotency, records: SqlRecords
):
    effect = Counted()
    answers = await asyncio.gather(*(idempotency.run("Create", asked(), effect) for _ in range(8)))
    assert [answer["number"] for answer in answers] == [1] * 8
    assert await effects(records) == 1


async def test_another_replica_gives_the_first_answer(idempotency: Idempotency, records: SqlRecords, clock: Clock):
    first = await idempotency.run("Create", asked(), Counted())
    assert await Idempotency(records, ACCOUNT, clock=clock).run("Create", asked(), Counted()) == first


async def test_without_a_token_every_request_has_its_effect(idempotency: Idempotency, records: SqlRecords):
    effect = Counted()
    for _ in range(2):
        await idempotency.run("Create", asked(None), effect)
    assert await effects(records) == 2


async def test_another_token_operation_or_account_is_another_request(
    idempotency: Idempotency, records: SqlRecords, clock: Clock
):
    effect = Counted()
    await idempotency.run("Create", asked(), effect)
    await idempotency.run("Create", asked(TOKEN + "-2"), effect)
    await idempotency.run("Update", asked(), effect)
    await Idempotency(records, OTHER_ACCOUNT, clock=clock).run("Create", asked(), effect)
    assert effect.times == 4


async def test_an_answer_is_kept_for_a_day_and_not_longer(idempotency: Idempotency, clock: Clock):
    effect = Counted()
    await idempotency.run("Create", asked(), effect)
    clock.now += 24 * HOUR - 1
    assert (await idempotency.run("Create", asked(), effect))["number"] == 1
    clock.now += 1
    assert (await idempotency.run("Create", asked(name="other"), effect))["number"] == 2
    assert (await idempotency.run("Create", asked(name="other"), effect))["number"] == 2


async def test_what_was_asked_is_kept_as_a_digest_only(idempotency: Idempotency, records: SqlRecords):
    await idempotency.run("Create", asked(password="s3cret"), Counted())
    async with records.read() as transaction:
        (kept,) = await transaction.list(IdempotentResult, account=ACCOUNT)
    assert len(kept.digest) == 32
    assert "s3cret" not in repr(kept)
