"""The key-encryption key that needs no service: derived from the gateway's master keys.

It also holds what key services wrap a second time (see `ring`). It does not read key files.
"""

from collections.abc import Callable, Sequence

from identity_gateway.sealing import Sealer

REFERENCE = "local:master"

# One nonce is drawn for each value, and large vaults rotate tokens every hour: a key a day keeps far from 2**32.
_PERIOD = 24 * 3600


class LocalKey:
    """The first master key wraps, all of them unwrap. `clock` tells seconds since the epoch."""

    reference = REFERENCE

    def __init__(self, master_keys: Sequence[bytes], *, clock: Callable[[], float]) -> None:
        self._sealer = Sealer(master_keys, "token-vault", period_seconds=_PERIOD)
        self._clock = clock

    async def wrap(self, data_key: bytes, context: str) -> bytes:
        """Return the wrapped key. Never fails."""
        return self._sealer.seal(data_key, place=(context,), now=self._clock())

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Return what was wrapped. Raises Unsealable."""
        return self._sealer.open(wrapped, place=(context,))

    def is_current(self, wrapped: bytes) -> bool:
        """Whether the first master key wrapped this."""
        return self._sealer.is_current(wrapped)
