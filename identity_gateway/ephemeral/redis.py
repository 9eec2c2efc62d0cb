"""Ephemeral state in Redis or Valkey, for replicas on several machines.

Every verb is one command or one script, so it is atomic on the server. Needs Redis 6.2 or Valkey, one server (or one
primary): a cluster would want hash tags. Does not know what the keys mean.
"""

from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from identity_gateway import errors
from identity_gateway.ephemeral import milliseconds

ANSWER_SECONDS = 2.0
"""How long to wait for a connection, for a free one, and for an answer."""

_CONNECTIONS = 64

_INCREMENT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
"""
_ACQUIRE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""


class RedisEphemeral:
    """`Ephemeral` on one Redis or Valkey server (`redis://`, `rediss://`, `unix://`); a bad URL is a ValueError.

    Several gateways may share a server under different prefixes. Belongs to one event loop.
    """

    def __init__(self, url: str, prefix: str = "identity-gateway:") -> None:
        self._prefix = prefix
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            # A second INCR, GETDEL or SET NX after a lost answer would give another answer than the first.
            retry=Retry(NoBackoff(), 0),
            # With them the pool would not look whether the server hung up before it hands out a connection.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Store the value, replacing what is there."""
        await self._command("SET", self._prefix + key, value, "PX", milliseconds(ttl))

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Store the value only if the key is free; return whether it was. One of many racing callers wins."""
        return bool(await self._command("SET", self._prefix + key, value, "NX", "PX", milliseconds(ttl)))

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if there is none or it has expired."""
        value: bytes | None = await self._command("GET", self._prefix + key)
        return value

    async def take(self, key: str) -> bytes | None:
        """Return the value and remove it at once: of many racing callers exactly one gets it."""
        value: bytes | None = await self._command("GETDEL", self._prefix + key)
        return value

    async def delete(self, key: str) -> None:
        """Remove the key, if it is there."""
        await self._command("DEL", self._prefix + key)

    async def increment(self, key: str, *, ttl: float) -> int:
        """Add one and return the count; the first increment starts the time to live, the later ones keep it."""
        return int(await self._script(_INCREMENT, key, milliseconds(ttl)))

    async def acquire(self, key: str, owner: str, *, ttl: float) -> bool:
        """Take or renew a lease: true if it was free or is this owner's already. An optimisation, never a safety."""
        return bool(await self._script(_ACQUIRE, key, owner, milliseconds(ttl)))

    async def release(self, key: str, owner: str) -> bool:
        """Give the lease back if it is still this owner's; return whether it was."""
        return bool(await self._script(_RELEASE, key, owner))

    async def ping(self) -> None:
        """Raise `errors.Unavailable` unless the server answers."""
        await self._command("PING")

    async def close(self) -> None:
        """Give back every connection."""
        await self._redis.aclose()

    async def _script(self, script: str, key: str, *arguments: str | int) -> Any:
        # EVAL, not EVALSHA: the server keeps compiled scripts either way, and a restarted one needs no second trip.
        return await self._command("EVAL", script, 1, self._prefix + key, *arguments)

    async def _command(self, *words: str | bytes | int) -> Any:
        try:
            return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]  # the client's own gap
        except (RedisError, OSError, TimeoutError) as error:
            # `from None`: a server's error text may repeat the value.
            raise errors.Unavailable(reason=f"ephemeral: {type(error).__name__}") from None
