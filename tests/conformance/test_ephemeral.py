"""The backends of `Ephemeral` do what the suite says, and the local one what only a file can get wrong."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from identity_gateway import errors
from identity_gateway.ephemeral import local
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.ephemeral.redis import RedisEphemeral
from tests.conformance.ephemeral_suite import LONG, SHORT, EphemeralSuite, PassTime
from tests.parts import Valkey


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ephemeral.sqlite"


@pytest.fixture
async def shared(path: Path, clock: Clock) -> AsyncIterator[LocalEphemeral]:
    opened = LocalEphemeral(path, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def neighbour(path: Path, clock: Clock) -> AsyncIterator[LocalEphemeral]:
    opened = LocalEphemeral(path, clock=clock)
    yield opened
    await opened.close()


class TestLocalFile(EphemeralSuite):
    @pytest.fixture
    def store(self, shared: LocalEphemeral) -> LocalEphemeral:
        return shared

    @pytest.fixture
    def pass_time(self, clock: Clock) -> PassTime:
        return clock.pass_time


class TestLocalMemory(EphemeralSuite):
    @pytest.fixture
    async def store(self, clock: Clock) -> AsyncIterator[LocalEphemeral]:
        opened = LocalEphemeral(None, clock=clock)
        yield opened
        await opened.close()

    @pytest.fixture
    def pass_time(self, clock: Clock) -> PassTime:
        return clock.pass_time


class TestValkey(EphemeralSuite):
    @pytest.fixture
    async def store(self, valkey_server: Valkey) -> AsyncIterator[RedisEphemeral]:
        opened = RedisEphemeral(valkey_server.url)
        yield opened
        await opened.close()

    @pytest.fixture
    def pass_time(self) -> PassTime:
        # The server's clock cannot be moved. A margin, because its expiry is exact to the millisecond only.
        return lambda seconds: asyncio.sleep(seconds + 0.05)

    async def test_stores_with_different_prefixes_do_not_meet(
        self, store: RedisEphemeral, valkey_server: Valkey, key: str
    ):
        other = RedisEphemeral(valkey_server.url, prefix="other:")
        await store.put(key, b"v", ttl=LONG)
        found = await other.get(key)
        await other.close()
        assert found is None

    async def test_a_server_that_refuses_a_command_is_a_fault(self, store: RedisEphemeral, key: str):
        await store.put(key, b"not a number", ttl=LONG)
        with pytest.raises(errors.Unavailable) as caught:
            await store.increment(key, ttl=LONG)
        assert "ResponseError" in caught.value.reason


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost:6379"])
def test_a_url_of_another_kind_is_refused(url: str):
    with pytest.raises(ValueError):
        RedisEphemeral(url)


async def test_a_value_stored_by_one_is_taken_by_the_other(shared: LocalEphemeral, neighbour: LocalEphemeral):
    await shared.put("k", b"v", ttl=LONG)
    assert (await neighbour.take("k"), await shared.take("k")) == (b"v", None)


async def test_two_stores_on_one_file_count_together(shared: LocalEphemeral, neighbour: LocalEphemeral):
    calls = [store.increment("k", ttl=LONG) for store in (shared, neighbour) for _ in range(200)]
    assert sorted(await asyncio.gather(*calls)) == list(range(1, 401))


async def test_an_expired_value_does_not_stay_in_the_file(shared: LocalEphemeral, clock: Clock, path: Path):
    for number in range(local.SWEEP_EVERY):
        await shared.put(f"old {number}", b"v", ttl=SHORT)
    await clock.pass_time(SHORT)
    for _ in range(local.SWEEP_EVERY):
        await shared.put("new", b"v", ttl=LONG)
    with sqlite3.connect(path) as connection:
        left = connection.execute("SELECT key FROM entry").fetchall()
    connection.close()
    assert left == [("new",)]


def write_a_letter(path: Path) -> None:
    path.write_bytes(b"a letter to grandmother" * 999)


def damage(path: Path) -> None:
    """Keep the first page, which says that this is a database, and overwrite the others."""
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


async def test_a_file_that_is_no_database_is_begun_anew(shared: LocalEphemeral, path: Path):
    write_a_letter(path)
    await shared.put("k", b"v", ttl=LONG)
    assert await shared.get("k") == b"v"


async def test_a_damaged_file_is_begun_anew(neighbour: LocalEphemeral, shared: LocalEphemeral, path: Path):
    for number in range(200):
        await neighbour.put(f"{number}", b"v" * 100, ttl=LONG)
    await neighbour.close()
    damage(path)
    await shared.put("k", b"v", ttl=LONG)
    assert (await shared.get("k"), await shared.get("7")) == (b"v", None)


async def test_a_store_follows_the_path_when_the_file_is_replaced(
    shared: LocalEphemeral, neighbour: LocalEphemeral, path: Path
):
    await shared.add("once", b"before", ttl=LONG)
    os.unlink(path)  # noqa: PTH108 - asynchronous tests hold no path operations
    won = await neighbour.add("once", b"after", ttl=LONG), await shared.add("once", b"again", ttl=LONG)
    assert won == (True, False)


async def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path):
    store = LocalEphemeral(tmp_path / "nowhere" / "ephemeral.sqlite")
    with pytest.raises(errors.Unavailable):
        await store.ping()
    await store.close()


async def test_a_locked_file_is_a_fault_and_not_a_hang(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "WAIT_SECONDS", 0.2)
    store = LocalEphemeral(path)
    await store.ping()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.Unavailable) as caught:
        await store.put("k", b"v", ttl=LONG)
    other.close()
    await store.close()
    assert "BUSY" in caught.value.reason


async def test_a_busy_file_does_not_hold_up_the_event_loop(shared: LocalEphemeral, path: Path):
    await shared.ping()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(shared.put("k", b"v", ttl=LONG))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    other.execute("ROLLBACK")
    other.close()
    await waiting


async def test_the_file_is_readable_by_its_owner_alone(shared: LocalEphemeral, tmp_path: Path):
    mask = os.umask(0)
    try:
        await shared.put("k", b"v", ttl=LONG)
    finally:
        os.umask(mask)
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)} == {0o600}
