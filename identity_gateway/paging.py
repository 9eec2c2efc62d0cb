"""Page tokens: where a list goes on, sealed, so that a client can neither read nor forge one.

A token is good for one operation and one question (the same filters) of one account. It does not expire: it names a
place in an order, not a result.
"""

import json
from collections.abc import Sequence
from typing import Any

from identity_gateway.errors import ValidationFailed
from identity_gateway.sealing import Sealer, Unsealable, from_text, to_text


class Paging:
    """Makes and reads the `nextToken` of list operations."""

    def __init__(self, sealer: Sealer, account: str) -> None:
        self._sealer = sealer
        self._account = account

    def after(self, token: str | None, *question: str) -> tuple[Any, ...] | None:
        """Return the key that the page begins after, or None for the first page. Raises ValidationFailed."""
        if token is None:
            return None
        try:
            key: list[Any] = json.loads(self._sealer.open(from_text(token), place=(self._account, *question)))
        except (ValueError, Unsealable):
            raise ValidationFailed("nextToken is not one that this operation gave.") from None
        return tuple(key)

    def page(self, rows: list[Any], limit: int, key: Sequence[str], *question: str) -> tuple[list[Any], str | None]:
        """Cut a list that was asked for one row more than `limit`, and name where the next page begins."""
        if len(rows) <= limit:
            return rows, None
        rows = rows[:limit]
        last = json.dumps([getattr(rows[-1], name) for name in key]).encode()
        sealed = self._sealer.seal(last, place=(self._account, *question))
        return rows, to_text(sealed)
