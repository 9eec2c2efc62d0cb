"""An envelope without a key service: one master key seals, bound to the place. It can be told that it is down."""

from collections.abc import Callable

from identity_gateway.errors import Unavailable
from identity_gateway.sealing import Sealer


class LocalEnvelope:
    """What the vault needs of an envelope."""

    def __init__(self) -> None:
        self._sealer = Sealer([b"e" * 32], "grant")
        self.is_down = False

    async def seal(self, plaintext: bytes, *, place: tuple[str, ...]) -> bytes:
        self._demand_up()
        return self._sealer.seal(plaintext, place=place)

    async def open(self, sealed: bytes, *, place: tuple[str, ...]) -> bytes:
        self._demand_up()
        return self._sealer.open(sealed, place=place)

    def opener(self, sealed: bytes, *, place: tuple[str, ...]) -> Callable[[], bytes | None]:
        return lambda: None if self.is_down else self._sealer.open(sealed, place=place)

    async def prepare(self, *, place: tuple[str, ...]) -> Callable[[bytes], bytes]:
        self._demand_up()
        return lambda plaintext: self._sealer.seal(plaintext, place=place)

    def _demand_up(self) -> None:
        if self.is_down:
            raise Unavailable(reason="the key service is down")
