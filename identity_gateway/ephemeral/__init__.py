"""Short-lived shared state behind one contract: local (one data folder) by default, Redis or Valkey to grow.

Losing this state may cost a user a retry, never a grant. Keys are `area:account:…`, made by the story that uses them;
values are bytes. Every entry has a time to live, in seconds, exact to the millisecond; one that is not a positive
number is a ValueError. A key is a value, a counter or a lease: mixing the verbs of two of them is not defined.

A fault or a cancellation in the middle of a verb leaves open whether it happened: nothing is sent twice.
"""

import math
from typing import Protocol


def milliseconds(ttl: float) -> int:
    """Return a time to live (seconds) in whole milliseconds, at least one. Raises ValueError unless it is positive."""
    if not (ttl > 0 and math.isfinite(ttl)):
        raise ValueError("a time to live is a positive number of seconds")
    return max(1, round(ttl * 1000))


class Ephemeral(Protocol):
    """What every backend does, also when several processes share it. Faults surface as `errors.Unavailable`."""

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Store the value, replacing what is there."""
        ...

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Store the value only if the key is free; return whether it was. One of many racing callers wins."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if there is none or it has expired."""
        ...

    async def take(self, key: str) -> bytes | None:
        """Return the value and remove it at once: of many racing callers exactly one gets it."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the key, if it is there."""
        ...

    async def increment(self, key: str, *, ttl: float) -> int:
        """Add one and return the count; the first increment starts the time to live, the later ones keep it."""
        ...

    async def acquire(self, key: str, owner: str, *, ttl: float) -> bool:
        """Take or renew a lease: true if it was free or is this owner's already. An optimisation, never a safety."""
        ...

    async def release(self, key: str, owner: str) -> bool:
        """Give the lease back if it is still this owner's; return whether it was."""
        ...

    async def ping(self) -> None:
        """Raise `errors.Unavailable` unless the store answers."""
        ...

    async def close(self) -> None:
        """Give back every connection."""
        ...
