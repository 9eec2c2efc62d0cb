"""All grants of a provider end at once: whatever their number and state, and whoever else is writing them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from identity_gateway.model import Grant, GrantState
from identity_gateway.records import Stale, Transaction
from identity_gateway.records.sql import SqlRecords
from identity_gateway.vault import PROVIDER_CHANGED, end_all, is_over
from tests.vaults import REALM, a_grant

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PROVIDER = "id-slack"
REFRESHING = {"intent_owner": "other", "intent_at": NOW, "intent_digest": "d"}


async def keep(records: SqlRecords, *grants: Grant) -> None:
    async with records.write() as transaction:
        await transaction.create(*grants)


async def end(records: SqlRecords) -> int:
    async with records.write() as transaction:
        return await end_all(transaction, REALM.account, PROVIDER, NOW)


async def rows(records: SqlRecords) -> Sequence[Grant]:
    async with records.read() as transaction:
        return await transaction.list(Grant, account=REALM.account)


class Raced:
    """A transaction beside another one, which changes a grant a number of times right before this one does."""

    def __init__(self, transaction: Transaction, times: int) -> None:
        self._transaction = transaction
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    async def update(self, grant: Grant) -> Grant:
        if self._left:
            self._left -= 1
            current = await self._transaction.get(Grant, account=grant.account, id=grant.id)
            assert current is not None
            await self._transaction.update(replace(current, failures=current.failures + 1))
        return await self._transaction.update(grant)


async def test_a_grant_that_never_stands_still_is_not_ended_half(records: SqlRecords):
    await keep(records, a_grant("g"))
    with pytest.raises(Stale):
        async with records.write() as transaction:
            await end_all(Raced(transaction, 100), REALM.account, PROVIDER, NOW)
    assert (await rows(records))[0].state == GrantState.ACTIVE


async def test_a_grant_that_others_write_meanwhile_is_ended_nevertheless(records: SqlRecords):
    await keep(records, a_grant("g"))
    async with records.write() as transaction:
        await end_all(Raced(transaction, 3), REALM.account, PROVIDER, NOW)
    ((grant,),) = (await rows(records),)
    assert (grant.reason, grant.failures) == (PROVIDER_CHANGED, 3)


@pytest.mark.parametrize("changes", [{"provider_id": "another"}, {"state": GrantState.REVOKED, "reason": "user"}])
async def test_what_is_another_providers_or_revoked_stays_as_it_is(records: SqlRecords, changes: dict[str, Any]):
    await keep(records, grant := a_grant("g", **changes))
    assert (await end(records), list(await rows(records))) == (0, [grant])


async def test_more_than_a_page_of_grants_is_ended(records: SqlRecords, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("identity_gateway.vault.endings._PAGE", 10)
    await keep(records, *(a_grant(f"g-{number:04}") for number in range(21)))
    assert await end(records) == 21
    assert {grant.reason for grant in await rows(records)} == {PROVIDER_CHANGED}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (GrantState.ACTIVE, ""),
        (GrantState.NEEDS_ADMIN, "admin_policy"),
        (GrantState.NEEDS_CONSENT, "lost_rotation"),
        (GrantState.NEEDS_CONSENT, "superseded"),
    ],
)
async def test_whatever_might_come_back_is_ended(records: SqlRecords, state: GrantState, reason: str):
    await keep(records, a_grant("g", state=state, reason=reason, sealed=b"tokens", **REFRESHING))
    await end(records)
    ((grant,),) = (await rows(records),)
    assert (grant.state, grant.reason, is_over(grant)) == (GrantState.NEEDS_CONSENT, PROVIDER_CHANGED, True)
    assert (grant.sealed, grant.intent_digest, grant.updated_at) == (b"tokens", None, NOW)
