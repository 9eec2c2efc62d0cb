"""`clientToken`: the same request sent twice has its effect once, and both get the first answer.

The answer is kept in the same transaction as the effect: after a crash either both are there or neither is. Requests
are kept as digests only. AWS: the same token with other parameters is a ValidationException.
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.model import Document, IdempotentResult
from identity_gateway.records import AlreadyExists, Records, Transaction

Effect = Callable[[Transaction], Awaitable[Document]]

_KEPT_FOR = timedelta(hours=24)


class Idempotency:
    """Runs effects at most once per (account, operation, token)."""

    def __init__(self, records: Records, account: str, *, clock: Callable[[], float]) -> None:
        self._records = records
        self._account = account
        self._clock = clock

    async def run(self, operation: str, asked: Document, effect: Effect) -> Document:
        """Run the effect in a write transaction and return its answer, or return the answer of the first time."""
        token = asked.get("clientToken")
        if token is None:
            async with self._records.write() as transaction:
                return await effect(transaction)
        digest = _digest({name: value for name, value in asked.items() if name != "clientToken"})
        for _ in range(3):
            try:
                return await self._once(operation, token, digest, effect)
            except AlreadyExists:
                continue  # the same token won a race with us: its answer is there now
        raise Unavailable(reason=f"{operation}: the idempotency record kept changing")

    async def _once(self, operation: str, token: str, digest: bytes, effect: Effect) -> Document:
        now = datetime.fromtimestamp(self._clock(), UTC)
        key = {"account": self._account, "operation": operation, "token": token}
        async with self._records.write() as transaction:
            kept = await transaction.get(IdempotentResult, **key)
            if kept is not None and now - kept.created_at < _KEPT_FOR:
                if not hmac.compare_digest(kept.digest, digest):
                    raise ValidationFailed(
                        "The clientToken was used before with other parameters.",
                        kind="IdempotentParameterMismatchException",
                    )
                return _restored(kept.result)
            if kept is not None:
                await transaction.delete(IdempotentResult, **key)
            result = await effect(transaction)
            await transaction.create(IdempotentResult(**key, digest=digest, result=_kept(result), created_at=now))
            return result


def _digest(asked: Document) -> bytes:
    return sha256(json.dumps(asked, sort_keys=True, default=repr).encode()).digest()


def _kept(result: Document) -> Document:
    """Return the answer as plain JSON; times are the only members that are not."""
    return {
        name: {"time": value.isoformat()} if isinstance(value, datetime) else value for name, value in result.items()
    }


def _restored(result: Document) -> Document:
    def value_of(value: Any) -> Any:
        if isinstance(value, dict) and value.keys() == {"time"}:
            return datetime.fromisoformat(value["time"])
        return value

    return {name: value_of(value) for name, value in result.items()}
