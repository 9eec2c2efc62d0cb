"""What every backend of `Ephemeral` does. A backend's test class inherits the suite and gives two fixtures:

`store`, and `pass_time`, which lets that many seconds go by for it. Tests share a store and keep apart by their keys.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from identity_gateway.ephemeral import Ephemeral

PassTime = Callable[[float], Awaitable[None]]

LONG = 60.0
SHORT = 0.15


class EphemeralSuite:
    @pytest.fixture
    def key(self) -> str:
        return f"test:000000000000:{uuid4().hex}"

    @pytest.mark.parametrize("ttl", [0, -1, -0.001, math.nan, math.inf])
    @pytest.mark.parametrize("verb", ["put", "add", "increment", "acquire"])
    async def test_a_time_to_live_that_is_no_positive_number_is_refused(
        self, store: Ephemeral, key: str, verb: str, ttl: float
    ):
        calls = {
            "put": lambda: store.put(key, b"v", ttl=ttl),
            "add": lambda: store.add(key, b"v", ttl=ttl),
            "increment": lambda: store.increment(key, ttl=ttl),
            "acquire": lambda: store.acquire(key, "me", ttl=ttl),
        }
        with pytest.raises(ValueError):
            await calls[verb]()

    async def test_what_was_never_stored_is_none(self, store: Ephemeral, key: str):
        assert (await store.get(key), await store.take(key)) == (None, None)

    @pytest.mark.parametrize("value", [b"", b"0", b"\x00\xff" * 50_000, "ü".encode()])
    async def test_a_value_comes_back_byte_for_byte(self, store: Ephemeral, key: str, value: bytes):
        await store.put(key, value, ttl=LONG)
        assert await store.get(key) == value

    async def test_put_replaces_the_value(self, store: Ephemeral, key: str):
        await store.put(key, b"old", ttl=LONG)
        await store.put(key, b"new", ttl=LONG)
        assert await store.get(key) == b"new"

    async def test_put_replaces_the_time_to_live(self, store: Ephemeral, pass_time: PassTime, key: str):
        await store.put(key, b"old", ttl=SHORT)
        await store.put(key, b"new", ttl=LONG)
        await pass_time(SHORT)
        assert await store.get(key) == b"new"

    async def test_a_value_is_gone_when_its_time_is_over(self, store: Ephemeral, pass_time: PassTime, key: str):
        await store.put(key, b"v", ttl=SHORT)
        await pass_time(SHORT)
        assert (await store.get(key), await store.take(key)) == (None, None)

    async def test_a_time_to_live_below_a_millisecond_is_still_one(
        self, store: Ephemeral, pass_time: PassTime, key: str
    ):
        await store.put(key, b"v", ttl=0.0001)
        await pass_time(0.01)
        assert await store.get(key) is None

    async def test_add_keeps_what_is_there(self, store: Ephemeral, key: str):
        won = await store.add(key, b"first", ttl=LONG), await store.add(key, b"second", ttl=LONG)
        assert (won, await store.get(key)) == ((True, False), b"first")

    async def test_add_takes_the_place_of_an_expired_value(self, store: Ephemeral, pass_time: PassTime, key: str):
        await store.add(key, b"first", ttl=SHORT)
        await pass_time(SHORT)
        assert (await store.add(key, b"second", ttl=LONG), await store.get(key)) == (True, b"second")

    async def test_of_racing_adders_one_wins(self, store: Ephemeral, key: str):
        won = await asyncio.gather(*(store.add(key, str(number).encode(), ttl=LONG) for number in range(50)))
        assert (won.count(True), await store.get(key)) == (1, str(won.index(True)).encode())

    async def test_take_gives_the_value_once(self, store: Ephemeral, key: str):
        await store.put(key, b"code", ttl=LONG)
        assert [await store.take(key), await store.take(key), await store.get(key)] == [b"code", None, None]

    async def test_of_racing_takers_one_gets_the_value(self, store: Ephemeral, key: str):
        await store.put(key, b"code", ttl=LONG)
        got = await asyncio.gather(*(store.take(key) for _ in range(50)))
        assert (got.count(b"code"), got.count(None)) == (1, 49)

    async def test_delete_removes_the_value(self, store: Ephemeral, key: str):
        await store.put(key, b"v", ttl=LONG)
        await store.delete(key)
        await store.delete(key)
        assert await store.get(key) is None

    async def test_increment_counts_every_call(self, store: Ephemeral, key: str):
        counts = await asyncio.gather(*(store.increment(key, ttl=LONG) for _ in range(50)))
        assert (sorted(counts), await store.get(key)) == (list(range(1, 51)), b"50")

    async def test_the_first_increment_alone_starts_the_time(self, store: Ephemeral, pass_time: PassTime, key: str):
        await store.increment(key, ttl=SHORT)
        await store.increment(key, ttl=LONG)
        await pass_time(SHORT)
        assert await store.increment(key, ttl=LONG) == 1

    async def test_a_later_increment_keeps_the_time(self, store: Ephemeral, pass_time: PassTime, key: str):
        await store.increment(key, ttl=LONG)
        await store.increment(key, ttl=SHORT)
        await pass_time(SHORT)
        assert await store.increment(key, ttl=LONG) == 3

    async def test_a_lease_has_one_owner(self, store: Ephemeral, key: str):
        assert (await store.acquire(key, "me", ttl=LONG), await store.acquire(key, "you", ttl=LONG)) == (True, False)

    async def test_of_racing_owners_one_gets_the_lease(self, store: Ephemeral, key: str):
        won = await asyncio.gather(*(store.acquire(key, str(number), ttl=LONG) for number in range(50)))
        assert won.count(True) == 1

    async def test_an_owner_renews_its_lease(self, store: Ephemeral, pass_time: PassTime, key: str):
        await store.acquire(key, "me", ttl=SHORT)
        renewed = await store.acquire(key, "me", ttl=LONG)
        await pass_time(SHORT)
        assert (renewed, await store.acquire(key, "you", ttl=LONG)) == (True, False)

    async def test_a_lease_that_ran_out_is_free(self, store: Ephemeral, pass_time: PassTime, key: str):
        await store.acquire(key, "me", ttl=SHORT)
        await pass_time(SHORT)
        assert (await store.release(key, "me"), await store.acquire(key, "you", ttl=LONG)) == (False, True)

    async def test_a_released_lease_is_free(self, store: Ephemeral, key: str):
        await store.acquire(key, "me", ttl=LONG)
        assert (await store.release(key, "me"), await store.acquire(key, "you", ttl=LONG)) == (True, True)

    async def test_nobody_releases_the_lease_of_another(self, store: Ephemeral, key: str):
        await store.acquire(key, "me", ttl=LONG)
        assert (await store.release(key, "you"), await store.acquire(key, "you", ttl=LONG)) == (False, False)

    async def test_a_lease_that_nobody_holds_cannot_be_released(self, store: Ephemeral, key: str):
        assert await store.release(key, "me") is False

    async def test_keys_are_told_apart_whatever_they_hold(self, store: Ephemeral, key: str):
        keys = [key, key + ":", key + "%", key + "*", key.upper(), key + "é", key + " ", key + "\n"]
        for number, each in enumerate(keys):
            await store.put(each, str(number).encode(), ttl=LONG)
        assert [await store.get(each) for each in keys] == [str(number).encode() for number in range(len(keys))]

    async def test_the_store_answers_a_ping(self, store: Ephemeral):
        assert await store.ping() is None
