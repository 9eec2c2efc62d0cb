"""A record as it is now, together with what holds until it changes, for who remembers what followed from it."""

from typing import Any, TypeVar

from identity_gateway.records import Records
from identity_gateway.records.changes import Watch

R = TypeVar("R")


async def watched(records: Records, kind: type[R], /, *, account: str, **key: Any) -> tuple[R | None, Watch | None]:
    """Return what `Records.current` does, and its watch.

    Without a watch the record was asked for, and will be the next time: nothing may be remembered of it.
    """
    record = await records.current(kind, account=account, **key)
    known = records.current_at_once(kind, account=account, **key)
    return (record, None) if known is None else (known[1], known[0])
