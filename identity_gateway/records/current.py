"""Records as they are now, kept in memory until somebody changes them.

Asks the database when it must, and watches what it was told. This module does not write.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from identity_gateway.model import Grant
from identity_gateway.records import Transaction
from identity_gateway.records.changes import OWN_LONGEST, Changed, Changes, Watch
from identity_gateway.records.tables import key_of, table_of, unique_of

R = TypeVar("R")

_REMEMBERED = 50_000
"""Records that are kept in memory, at most."""

_EXACT: frozenset[type[Any]] = frozenset({Grant})
"""Kinds that are asked for again wherever another machine may have changed them: a token that was rotated is dead."""


class CurrentRecords:
    """What a process knows of the records of one database, of which `read` begins a reading transaction."""

    def __init__(self, read: Callable[[], AbstractAsyncContextManager[Transaction]], changes: Changes) -> None:
        self._read = read
        self._changes = changes
        self._known: OrderedDict[tuple[Any, ...], tuple[Watch, Any]] = OrderedDict()

    async def get(self, kind: type[R], account: str, key: dict[str, Any]) -> R | None:
        """Return the record with this whole primary key, or unique value, as it is now, or None."""
        if kind in _EXACT and self._changes.longest < OWN_LONGEST:
            return (await self._looked_up(kind, account, key))[1]
        name = (kind, account, *key.items())
        known = self._known.get(name)
        if known is not None and known[0].is_fresh(time.monotonic()):
            remembered: R | None = known[1]
            return remembered
        watch, record = await self._looked_up(kind, account, key)
        self._known[name] = watch, record
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return record

    def peek(self, kind: type[R], account: str, key: dict[str, Any]) -> tuple[Watch, R | None] | None:
        """Return what `get` would without asking the database, and what it rests on; None where it would ask."""
        if kind in _EXACT and self._changes.longest < OWN_LONGEST:
            return None
        known = self._known.get((kind, account, *key.items()))
        return known if known is not None and known[0].holds() else None

    async def _looked_up(self, kind: type[R], account: str, key: dict[str, Any]) -> tuple[Watch, R | None]:
        table, unique = table_of(kind).name, unique_of(kind)
        if not unique or key.keys() != set(unique):
            watch = self._changes.watch((table,), *names_of(kind, key))
            async with self._read() as transaction:
                return watch, await transaction.get(kind, account=account, **key)
        while True:
            # What the key leads to is known only when it was read: it is read again, watched.
            watch = self._changes.watch((table,), *names_of(kind, key))
            async with self._read() as transaction:
                found = await transaction.list(kind, account=account, where=key, limit=1)
            if not found:
                return watch, None
            identity = {name: getattr(found[0], name) for name in key_of(kind)[1:]}
            watch = self._changes.watch((table,), *names_of(kind, key), *names_of(kind, identity))
            async with self._read() as transaction:
                record = await transaction.get(kind, account=account, **identity)
            if record is not None and all(getattr(record, name) == value for name, value in key.items()):
                return watch, record


def names_of(kind: type[Any], values: Mapping[str, Any]) -> list[Changed]:
    """Return the names under which records with these values are watched: by the first columns of their keys."""
    columns = (key_of(kind)[1], *unique_of(kind)[:1])
    return [(table_of(kind).name, column, str(values[column])) for column in columns if column in values]
