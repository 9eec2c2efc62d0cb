"""A write that lost a race is done again, on what the winner left behind.

Backends let writers run at once (see `sql.SqlRecords`): what must not race raises AlreadyExists or Stale. It does not
decide what is worth a race, and does not wait: the database lets a second writer of one row wait for the first.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from identity_gateway.errors import Conflict
from identity_gateway.records import AlreadyExists, Records, Stale, Transaction

T = TypeVar("T")

_ATTEMPTS = 10


async def settled(records: Records, effect: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run the effect in a write transaction and return what it gives, once that is committed.

    When it raises AlreadyExists or Stale, it is run again in a new transaction. Raises Conflict when that never helps.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with records.write() as transaction:
                return await effect(transaction)
        except (AlreadyExists, Stale):
            continue
    raise Conflict("The resource is being changed by other requests. Try again.")
