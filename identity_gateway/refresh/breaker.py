"""When too many grants of one client die at once, the vendor is wrong, not the users: their grants are left alone.

Counts distinct grants in the ephemeral store, so that replicas count together. When it cannot count, it holds.
"""

import structlog

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import Unavailable
from identity_gateway.model import Grant

WINDOW = 300.0
"""Seconds in which deaths are counted."""

MIN_DEATHS = 3
MAX_SHARE = 0.3
_OPEN_SECONDS = 900.0
_MISCONFIGURED_SECONDS = 15.0

_log = structlog.get_logger()


class Breaker:
    """One breaker for each client at a vendor (`Grant.provider_id`)."""

    def __init__(self, ephemeral: Ephemeral) -> None:
        self._ephemeral = ephemeral

    async def lives(self, grant: Grant) -> None:
        """Take note that the vendor refreshed this grant: whatever was wrong with the client is over."""
        try:
            await self._count(grant, "tried")
            await self._ephemeral.delete(_key(grant, "open"))
        except Unavailable:
            return

    async def holds(self, grant: Grant) -> bool:
        """Take note that the vendor called this grant dead; return whether to disbelieve it for now."""
        try:
            tried, dead = await self._count(grant, "tried"), await self._count(grant, "dead")
            open_already = await self._ephemeral.get(_key(grant, "open")) is not None
            if not open_already and dead <= max(MIN_DEATHS, MAX_SHARE * tried):
                return False
            await self._ephemeral.put(_key(grant, "open"), b"1", ttl=_OPEN_SECONDS)
        except Unavailable:
            _log.warning("grant_death_not_counted", grant=grant.id, provider=grant.provider)
            return True
        _log.error("too_many_grants_die", provider=grant.provider, provider_id=grant.provider_id, dead=dead, of=tried)
        return True

    async def misconfigured(self, grant: Grant, code: str) -> None:
        """Take note that the vendor refuses the client itself: nobody asks again for some seconds."""
        try:
            await self._ephemeral.put(_key(grant, "config"), code.encode(), ttl=_MISCONFIGURED_SECONDS)
        except Unavailable:
            return

    async def misconfiguration(self, grant: Grant) -> str | None:
        """Return the code with which the vendor refused the client a moment ago, if it did."""
        try:
            code = await self._ephemeral.get(_key(grant, "config"))
        except Unavailable:
            return None
        return None if code is None else code.decode()

    async def _count(self, grant: Grant, what: str) -> int:
        key = _key(grant, what)
        if await self._ephemeral.add(f"{key}:{grant.id}", b"1", ttl=WINDOW):
            return await self._ephemeral.increment(key, ttl=WINDOW)
        return int(await self._ephemeral.get(key) or b"1")


def _key(grant: Grant, what: str) -> str:
    return f"breaker:{grant.account}:{grant.provider_id}:{what}"
