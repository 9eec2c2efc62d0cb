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

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import Document, IdempotentResult
from identity_gateway.records import Records, Transaction
from identity_gateway.records.races import settled

Effect = Callable[[Transaction], Awaitable[Document]]

_KEPT_FOR = timedelta(hours=24)


class Idempotency:
    """Runs effects at most once per (account, operation, token)."""

    def __init__(self, records: Records, account: str, *, clock: Callable[[], float]) -> None:
        self._records = records
        self._account = account
        self._clock = clock

    async def run(self, operation: str, asked: Document, effect: Effect) -> Document:
        """Run the effect in a write transaction and return its answer, or return the answer of the first time.

        An effect that raises AlreadyExists or Stale is run again (`records.races`).
        """
        token = asked.get("clientToken")
        if token is None:
            return await settled(self._records, effect)
        return await settled(self._records, lambda transaction: self._once(transaction, operation, asked, effect))

    async def _once(self, transaction: Transaction, operation: str, asked: Document, effect: Effect) -> Document:
        digest = _digest({name: value for name, value in asked.items() if name != "clientToken"})
        now = datetime.fromtimestamp(self._clock(), UTC)
        key = {"account": self._account, "operation": operation, "token": asked["clientToken"]}
        kept = await transaction.get(IdempotentResult, **key)
        if kept is not None and now - kept.created_at < _KEPT_FOR:
            if not hmac.compare_digest(kept.digest, digest):
                raise ValidationFailed(
                    "The clientToken was used before with other parameters.",
                    kind="IdempotentParameterMismatchException",
                )
            return _restored(kept.result)
        if kept is not None:  # this very one: another request may have put its answer there since
            await transaction.delete(IdempotentResult, **key, created_at=kept.created_at)
        # The token is claimed before the effect: a second request waits here for the first, and gets its answer.
        await transaction.create(IdempotentResult(**key, digest=digest, result={}, created_at=now))
        result = await effect(transaction)
        await transaction.delete(IdempotentResult, **key)
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
