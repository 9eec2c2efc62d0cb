"""A store that is down, silent or restarted is a fault in bounded time, and is used again as soon as it is back."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from identity_gateway import errors
from identity_gateway.ephemeral import redis
from identity_gateway.ephemeral.redis import RedisEphemeral
from identity_gateway.model import Tag
from identity_gateway.records import connect
from identity_gateway.records.sql import SqlRecords, open_records
from tests.parts import Postgres, Valkey, running_postgres, running_valkey

BOUND = 20.0
TAG = Tag("account", "resource", "key", "value")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server of this module's own: its tests stop it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A server of this module's own: its tests stop it."""
    with running_valkey() as server:
        yield server


@pytest.fixture
async def records(postgres: Postgres) -> AsyncIterator[SqlRecords]:
    opened = await open_records(postgres.create_database())
    async with opened.write() as tx:
        await tx.create(TAG)
    yield opened
    postgres.restore()
    await opened.close()


@pytest.fixture
async def ephemeral(valkey: Valkey) -> AsyncIterator[RedisEphemeral]:
    opened = RedisEphemeral(valkey.url)
    await opened.put("k", b"v", ttl=60)
    yield opened
    valkey.restore()
    await opened.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


async def read(records: SqlRecords) -> Tag | None:
    async with records.read() as tx:
        return await tx.get(Tag, account=TAG.account, resource=TAG.resource, key=TAG.key)


async def write(records: SqlRecords) -> None:
    async with records.write() as tx:
        await tx.delete(Tag, account=TAG.account, key="another")


async def stop_in_the_middle(records: SqlRecords, server: Postgres) -> None:
    async with records.write() as tx:
        await tx.delete(Tag, account=TAG.account, key=TAG.key)
        server.stop()


async def swallow_the_fault(records: SqlRecords, server: Postgres) -> None:
    async with records.write() as tx:
        await tx.delete(Tag, account=TAG.account, key=TAG.key)
        server.stop()
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await tx.list(Tag, account=TAG.account)


@pytest.mark.parametrize("verb", [read, write, SqlRecords.ping])
async def test_a_stopped_database_is_a_fault_in_bounded_time(records: SqlRecords, postgres: Postgres, verb):
    postgres.stop()
    async with asyncio.timeout(BOUND):
        with pytest.raises(errors.Unavailable):
            await verb(records)


async def test_a_fault_tells_the_caller_nothing_about_the_database(records: SqlRecords, postgres: Postgres):
    postgres.stop()
    with pytest.raises(errors.Unavailable) as caught:
        await read(records)
    assert (caught.value.message, caught.value.__cause__) == (errors.Unavailable().message, None)


@pytest.mark.parametrize("interrupted", [stop_in_the_middle, swallow_the_fault])
async def test_a_transaction_that_lost_its_database_does_not_seem_to_commit(
    records: SqlRecords, postgres: Postgres, interrupted
):
    with pytest.raises(errors.Unavailable):
        await interrupted(records, postgres)
    postgres.start()
    assert await read(records) == TAG


async def test_a_database_that_was_restarted_is_used_at_once(records: SqlRecords, postgres: Postgres):
    await asyncio.gather(*(read(records) for _ in range(8)))
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)
    assert await asyncio.gather(*(read(records) for _ in range(8))) == [TAG] * 8


async def test_a_database_that_comes_back_is_used_again(records: SqlRecords, postgres: Postgres):
    postgres.stop()
    for _ in range(25):  # more than the pool holds: a fault must give its connection back
        with pytest.raises(errors.Unavailable):
            await write(records)
    postgres.start()
    assert await read(records) == TAG


async def test_a_database_that_is_down_cannot_be_opened(records: SqlRecords, postgres: Postgres):
    postgres.stop()
    async with asyncio.timeout(BOUND):
        with pytest.raises(errors.Unavailable):
            await open_records(postgres.url())


async def test_a_database_that_stays_silent_is_a_fault(silent_port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.2)
    with pytest.raises(errors.Unavailable) as caught:
        await open_records(f"postgresql://user:hunter2@127.0.0.1:{silent_port}/database")
    assert "Timeout" in caught.value.reason


async def test_a_password_that_is_refused_is_not_repeated(postgres: Postgres):
    with pytest.raises(errors.Unavailable) as caught:
        await open_records(postgres.url().replace("postgres:@", "nobody:hunter2@"))
    assert "InvalidAuthorizationSpecification" in caught.value.reason
    assert "hunter2" not in repr(vars(caught.value))


@pytest.mark.parametrize(
    "verb",
    [
        lambda store: store.put("k", b"v", ttl=1),
        lambda store: store.add("k", b"v", ttl=1),
        lambda store: store.get("k"),
        lambda store: store.take("k"),
        lambda store: store.delete("k"),
        lambda store: store.increment("n", ttl=1),
        lambda store: store.acquire("l", "me", ttl=1),
        lambda store: store.release("l", "me"),
        lambda store: store.ping(),
    ],
)
async def test_a_stopped_ephemeral_store_is_a_fault_in_bounded_time(ephemeral: RedisEphemeral, valkey: Valkey, verb):
    valkey.stop()
    async with asyncio.timeout(BOUND):
        with pytest.raises(errors.Unavailable):
            await verb(ephemeral)


async def test_an_ephemeral_store_that_was_restarted_is_used_at_once(ephemeral: RedisEphemeral, valkey: Valkey):
    await asyncio.gather(*(ephemeral.increment(f"n{number}", ttl=60) for number in range(8)))
    await asyncio.to_thread(valkey.stop)
    await asyncio.to_thread(valkey.start)
    counts = await asyncio.gather(*(ephemeral.increment("again", ttl=60) for _ in range(8)))
    assert sorted(counts) == list(range(1, 9))


async def test_an_ephemeral_store_that_comes_back_is_used_again(ephemeral: RedisEphemeral, valkey: Valkey):
    valkey.stop()
    with pytest.raises(errors.Unavailable):
        await ephemeral.ping()
    valkey.start()
    assert await ephemeral.acquire("lease", "me", ttl=60) is True


async def test_an_ephemeral_store_that_stays_silent_is_a_fault(silent_port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redis, "ANSWER_SECONDS", 0.2)
    store = RedisEphemeral(f"redis://:hunter2@127.0.0.1:{silent_port}/0")
    with pytest.raises(errors.Unavailable) as caught:
        await store.get("k")
    await store.close()
    assert ("Timeout" in caught.value.reason, "hunter2" in caught.value.reason) == (True, False)
