"""Durable state behind one contract: SQLite by default, PostgreSQL to grow.

A record is a frozen dataclass of `identity_gateway.model`; its table is declared in `records/tables.py` with columns
of the same names. There is one set of verbs for all records, so that a new noun costs a dataclass, a table and a
migration. Every verb demands the account: a lookup that forgets its tenant does not run.

This package does not decide anything, and does not seal: secrets arrive sealed.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from identity_gateway.records.changes import Changes, Watch

R = TypeVar("R")


class AlreadyExists(Exception):
    """A record with this key, or with a unique value of this record, is there already."""


class Stale(Exception):
    """The record was changed or deleted since it was read: its `revision` no longer matches."""


class Transaction(Protocol):
    """Reads and writes that happen together or not at all. Values given and returned are records.

    For one task at a time. A verb that raises AlreadyExists or Stale has done nothing, and the transaction goes on.
    One that raises `errors.Unavailable` has ended it: nothing of it is kept, also if the block swallows the error.
    Text that no backend could keep (NUL, lone surrogates) is `errors.ValidationFailed`, in keys as in values.
    """

    async def get(self, kind: type[R], /, *, account: str, **key: Any) -> R | None:
        """Return the record with this whole primary key, or None. A partial key is a TypeError."""
        ...

    async def list(
        self,
        kind: type[R],
        *,
        account: str,
        where: Mapping[str, Any] | None = None,
        after: tuple[Any, ...] | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> list[R]:
        """Return records in the order of their primary key, those that equal `where` in every column it names.

        `after` is the rest of the primary key (all but the account) of the last record of the page before. Text sorts
        by its UTF-8 bytes. TypeErrors: an unknown column, one of documents or tuples, a key of another length.
        """
        ...

    async def create(self, *records: Any) -> None:
        """Insert the records. Raises AlreadyExists, and then inserts none of them."""
        ...

    async def update(self, record: R) -> R:
        """Replace the record if the stored `revision` is still the one given; return it with the next revision.

        Raises Stale otherwise, and AlreadyExists when another record has a unique value of this one.
        """
        ...

    async def delete(self, kind: type[Any], /, *, account: str, **where: Any) -> int:
        """Delete the records of the account that equal `where` in every column it names; return how many.

        Naming no column is a TypeError: nobody empties an account by forgetting an argument.
        """
        ...


class Records(Protocol):
    """A database. Faults of the database or of the way to it surface as `errors.Unavailable`.

    `changes` are the marks by which processes on one machine tell each other what they changed.
    """

    @property
    def changes(self) -> Changes:
        """Return the marks of this database."""
        ...

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction that sees one consistent state. Writing in it is a TypeError."""
        ...

    async def current(self, kind: type[R], /, *, account: str, **key: Any) -> R | None:
        """Return the record with this whole primary key, or unique value, as it is now, or None; often from memory.

        A change that any process on this machine was told to be made is seen at once; one that was made on another
        machine within `changes.Changes.longest`. For single records: what must fit together is read in one transaction.
        """
        ...

    def current_at_once(self, kind: type[R], /, *, account: str, **key: Any) -> tuple[Watch, R | None] | None:
        """Return what `current` would, and what holds as long as it would again, or None where that takes waiting.

        A record of None is one that is known not to exist.
        """
        ...

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction that commits when the block ends, and rolls back when it raises."""
        ...

    def write_at_once(self, kind: type[Any], rows: Sequence[tuple[Any, ...]]) -> bool:
        """Add records as `append` does, if that takes neither waiting nor the disk; else do nothing and return False.

        They survive the end of every process, but perhaps not a power cut in the next second: see `flush`.
        """
        ...

    async def flush(self) -> None:
        """Return when all that was written at once before is on the disk. Raises Unavailable; then it may not be."""
        ...

    async def append(self, kind: type[Any], rows: Sequence[tuple[Any, ...]], *, durable: bool = True) -> None:
        """Add records that are never changed, as `tables.stored` writes them; return when all of them are committed.

        What is not `durable` survives the end of every process, but perhaps not a power cut in the next moments.
        Raises Unavailable, and AlreadyExists for a key that is taken; then none of them is. Whoever is cancelled
        meanwhile does not stop the commit.
        """
        ...

    async def ping(self) -> None:
        """Raise `errors.Unavailable` unless the database answers and its schema is current."""
        ...

    async def close(self) -> None:
        """Give back every connection."""
        ...
