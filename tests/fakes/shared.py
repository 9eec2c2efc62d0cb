"""State that several replicas share, in one dictionary, and the same when it is down."""

from collections.abc import Callable

from identity_gateway.errors import Unavailable


class SharedDictionary:
    """The part of the contract of `ephemeral` that key sets use. Several `KeySets` may hold one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, float]] = {}
        self.is_down = False

    def _living(self, key: str) -> bytes | None:
        if self.is_down:
            raise Unavailable
        value, until = self._values.get(key, (b"", 0.0))
        return value if self._clock() < until else None

    async def get(self, key: str) -> bytes | None:
        return self._living(key)

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        self._living(key)
        self._values[key] = value, self._clock() + ttl

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        free = self._living(key) is None
        if free:
            await self.put(key, value, ttl=ttl)
        return free
