"""Replicas on one PostgreSQL make, rotate and seal the keys of the gateway's own issuer at the same moment."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest

from identity_gateway.records import Transaction
from identity_gateway.records.sql import SqlRecords, open_records
from identity_gateway.sealing import Sealer
from identity_gateway.web_identity import ALGORITHMS, PURPOSE, WebIdentity
from tests.fakes.clock import Clock
from tests.parts import Postgres

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
async def records(postgres_server: Postgres) -> AsyncIterator[SqlRecords]:
    opened = await open_records(postgres_server.create_database())
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Overtaken:
    """Records whose first writer is overtaken: `meanwhile` runs after it has read and before it writes."""

    def __init__(self, records: SqlRecords, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._records = records
        self._meanwhile: Callable[[], Awaitable[Any]] | None = meanwhile
        self.read = records.read

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        async with self._records.write() as transaction:
            listing = transaction.list

            async def slowly(*asked: Any, **more: Any) -> Any:
                found = await listing(*asked, **more)
                if (meanwhile := self._meanwhile) is not None:
                    self._meanwhile = None
                    await meanwhile()
                return found

            transaction.list = slowly  # type: ignore[method-assign]
            yield transaction


def issuer(records: Any, clock: Clock, *masters: bytes) -> WebIdentity:
    sealer = Sealer(masters or (OLD,), PURPOSE)
    return WebIdentity(records, sealer, "000000000000", issuer="https://gateway.test", clock=clock)


async def ids(issuing: WebIdentity) -> set[str]:
    return {key["kid"] for key in (await issuing.key_set())["keys"]}


async def signed_by(issuing: WebIdentity, algorithm: str) -> str:
    token = await issuing.sign({"sub": "x"}, algorithm)
    return str(jwt.get_unverified_header(token.reveal())["kid"])


async def test_sealing_a_key_anew_does_not_undo_its_retirement(records: SqlRecords, clock: Clock):
    rotating = issuer(records, clock)
    old = await ids(rotating)
    clock.now += 60
    await issuer(Overtaken(records, rotating.rotate), clock, NEW, OLD).reseal()
    clock.now += 2 * 3600 + 1
    assert old.isdisjoint(await ids(issuer(records, clock, NEW, OLD)))


async def test_a_replica_knows_the_first_keys_that_another_made_while_it_made_its_own(
    records: SqlRecords, clock: Clock
):
    other = issuer(records, clock)
    one = issuer(Overtaken(records, lambda: ids(other)), clock)
    assert await ids(one) == await ids(other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_replicas_that_each_made_first_keys_sign_with_the_same_one(
    records: SqlRecords, clock: Clock, algorithm: str
):
    other = issuer(records, clock)
    one = issuer(Overtaken(records, lambda: ids(other)), clock)
    await ids(one)
    assert await signed_by(one, algorithm) == await signed_by(other, algorithm)
