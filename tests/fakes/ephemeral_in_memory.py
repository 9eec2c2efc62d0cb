"""Ephemeral state in a dictionary, for tests that decide themselves what happens at every step.

`Shelf` is what several `InMemoryEphemeral` share.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from identity_gateway.ephemeral import milliseconds

Step = Callable[[str], Awaitable[None]]


async def give_way(step: str) -> None:
    await asyncio.sleep(0)


@dataclass
class Shelf:
    """What is stored, with the millisecond at which it ends."""

    entries: dict[str, tuple[bytes, int]] = field(default_factory=dict)


class InMemoryEphemeral:
    """`Ephemeral` on a `Shelf`. `step` is awaited before and after each verb."""

    def __init__(self, shelf: Shelf, step: Step = give_way, *, clock: Callable[[], float]) -> None:
        self._shelf = shelf
        self._step = step
        self._clock = clock

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        ends = milliseconds(ttl)
        await self._step("ephemeral.put")
        self._shelf.entries[key] = value, self._now() + ends
        await self._step("ephemeral.put_done")

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        ends = milliseconds(ttl)
        await self._step("ephemeral.add")
        free = self._living(key) is None
        if free:
            self._shelf.entries[key] = value, self._now() + ends
        await self._step("ephemeral.add_done")
        return free

    async def get(self, key: str) -> bytes | None:
        await self._step("ephemeral.get")
        return self._living(key)

    async def take(self, key: str) -> bytes | None:
        await self._step("ephemeral.take")
        found = self._living(key)
        self._shelf.entries.pop(key, None)
        await self._step("ephemeral.take_done")
        return found

    async def delete(self, key: str) -> None:
        await self._step("ephemeral.delete")
        self._shelf.entries.pop(key, None)
        await self._step("ephemeral.delete_done")

    async def increment(self, key: str, *, ttl: float) -> int:
        ends = self._now() + milliseconds(ttl)
        await self._step("ephemeral.increment")
        found = self._living(key)
        count = 1 if found is None else int(found) + 1
        self._shelf.entries[key] = str(count).encode(), ends if found is None else self._shelf.entries[key][1]
        await self._step("ephemeral.increment_done")
        return count

    async def acquire(self, key: str, owner: str, *, ttl: float) -> bool:
        ends = milliseconds(ttl)
        await self._step("ephemeral.acquire")
        mine = self._living(key) in {None, owner.encode()}
        if mine:
            self._shelf.entries[key] = owner.encode(), self._now() + ends
        await self._step("ephemeral.acquire_done")
        return mine

    async def release(self, key: str, owner: str) -> bool:
        await self._step("ephemeral.release")
        mine = self._living(key) == owner.encode()
        if mine:
            del self._shelf.entries[key]
        await self._step("ephemeral.release_done")
        return mine

    async def ping(self) -> None:
        await self._step("ephemeral.ping")

    async def close(self) -> None:
        pass

    def _now(self) -> int:
        return round(self._clock() * 1000)

    def _living(self, key: str) -> bytes | None:
        value, ends = self._shelf.entries.get(key, (None, 0))
        return value if self._now() < ends else None
