"""Write transactions that lose a race."""

from datetime import UTC, datetime

import pytest

from identity_gateway.errors import Conflict, NotFound
from identity_gateway.model import Tag, WorkloadIdentity
from identity_gateway.records import AlreadyExists, Records, Stale, Transaction
from identity_gateway.records.races import settled

ACCOUNT = "000000000000"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def tags_of(records: Records) -> list[str]:
    async with records.read() as transaction:
        return [tag.key for tag in await transaction.list(Tag, account=ACCOUNT)]


@pytest.mark.parametrize("lost", [Stale, AlreadyExists])
async def test_a_race_that_is_always_lost_is_a_conflict(records: Records, lost: type[Exception]):
    async def effect(_: Transaction) -> None:
        raise lost

    with pytest.raises(Conflict, match="Try again"):
        await settled(records, effect)


async def test_another_refusal_is_passed_on_at_once(records: Records):
    calls = []

    async def effect(_: Transaction) -> None:
        calls.append(1)
        raise NotFound("nothing here")

    with pytest.raises(NotFound):
        await settled(records, effect)
    assert len(calls) == 1


async def test_nothing_of_a_lost_attempt_is_kept(records: Records):
    calls: list[int] = []

    async def effect(transaction: Transaction) -> str:
        calls.append(len(calls))
        await transaction.create(Tag(ACCOUNT, "arn", f"attempt-{calls[-1]}", ""))
        if calls[-1] < 2:
            raise Stale
        return "done"

    assert (await settled(records, effect), await tags_of(records)) == ("done", ["attempt-2"])


async def test_a_later_attempt_sees_what_the_winner_left(records: Records):
    kept = WorkloadIdentity(ACCOUNT, "agent", (), None, NOW, NOW)
    async with records.write() as transaction:
        await transaction.create(kept)
    known = [kept]

    async def effect(transaction: Transaction) -> int:
        mine = known.pop() if known else await transaction.get(WorkloadIdentity, account=ACCOUNT, name="agent")
        assert mine is not None
        return (await transaction.update(mine)).revision

    assert await settled(records, effect) == 2
    known.append(kept)  # stale by now
    assert await settled(records, effect) == 3
