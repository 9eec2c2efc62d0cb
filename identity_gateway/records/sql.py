"""Records in SQL: the verbs of the contract as statements, and the one place where faults of a database get a name.

Does not know a backend beyond the word that inserts when the place is free: engines come from `records.connect`,
tables from `records.tables`, the schema from `records.schema`.
"""

import asyncio
import dataclasses
import functools
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from identity_gateway import errors
from identity_gateway.records import AlreadyExists, Stale, connect, schema
from identity_gateway.records.append import Appender, PostgresqlAppender, SqliteAppender
from identity_gateway.records.changes import OWN_LONGEST, SHARED_LONGEST, Changed, Changes, Watch
from identity_gateway.records.current import CurrentRecords, names_of
from identity_gateway.records.tables import is_comparable, key_of, source_of, table_of, values_of

R = TypeVar("R")

PING_SECONDS = 5.0

# What a database, its driver or the way to it may raise. Misuse of SQLAlchemy is not among them: that is our defect.
_FAULTS = (
    exc.DBAPIError,
    exc.TimeoutError,
    exc.DisconnectionError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    sqlite3.Error,
    OSError,
    TimeoutError,
)

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


async def open_records(url: str, *, folder: Path | None = None) -> "SqlRecords":
    """Bring the database at `url` up to date and return it. Close it when done.

    `url` as in `records.connect.open_engines`. Processes on this machine that share a PostgreSQL database name the same
    `folder`, where they tell each other of changes; those of an SQLite database stand beside it. Raises
    `errors.Unavailable`, `schema.SchemaTooNew` (one of those), ValueError for a URL of another kind, and OSError.
    """
    readers, writers = connect.open_engines(url)
    with _named_faults():
        await schema.migrate(url)
    path = connect.sqlite_file(url)
    if path is not None:
        appender = SqliteAppender(path)
        return SqlRecords(readers, writers, Changes(Path(f"{path}-changes"), longest=OWN_LONGEST), appender)
    shared = folder / "records-changes" if folder is not None else None
    return SqlRecords(readers, writers, Changes(shared, longest=SHARED_LONGEST))


class SqlRecords:
    """`Records` on SQLite or PostgreSQL. Belongs to one event loop; several processes may share the database.

    Write transactions are serial on SQLite and READ COMMITTED on PostgreSQL: what must not race is guarded by a unique
    key (`create`) or a revision (`update`), not by having read it before.
    """

    def __init__(
        self,
        readers: AsyncEngine,
        writers: AsyncEngine,
        changes: Changes | None = None,
        appender: Appender | None = None,
    ) -> None:
        self._readers = readers
        self._writers = writers
        self._changes = changes or Changes(None, longest=SHARED_LONGEST)
        self._current = CurrentRecords(self.read, self._changes)
        self._appender = appender or PostgresqlAppender(writers)
        self._returns: set[asyncio.Task[None]] = set()

    @property
    def changes(self) -> Changes:
        """The marks by which processes on one machine tell each other what they changed."""
        return self._changes

    def read(self) -> AbstractAsyncContextManager["SqlTransaction"]:
        """Begin a transaction that sees one consistent state. Writing in it is a TypeError."""
        return self._transaction(self._readers, writable=False)

    def write(self) -> AbstractAsyncContextManager["SqlTransaction"]:
        """Begin a transaction that commits when the block ends, and rolls back when it raises."""
        return self._transaction(self._writers, writable=True)

    async def current(self, kind: type[R], /, *, account: str, **key: Any) -> R | None:
        """Return the record with this whole primary key, or unique value, as it is now, or None; see `Records`."""
        return await self._current.get(kind, account, key)

    def current_at_once(self, kind: type[R], /, *, account: str, **key: Any) -> tuple[Watch, R | None] | None:
        """Return what `current` would, and what it rests on, or None where it would have to wait; see `Records`."""
        return self._current.peek(kind, account, key)

    def write_at_once(self, kind: type[Any], rows: Sequence[tuple[Any, ...]]) -> bool:
        """Add records as `append` does, if that takes neither waiting nor the disk; else return False."""
        return self._appender.write(table_of(kind), rows)

    async def flush(self) -> None:
        """Return when all that was written at once before is on the disk; see `Records`."""
        with _named_faults():
            await self._appender.flush()

    async def append(self, kind: type[Any], rows: Sequence[tuple[Any, ...]], *, durable: bool = True) -> None:
        """Add records that are never changed, as `tables.stored` writes them; see `Records`. They are not watched."""
        with _named_faults():
            await self._appender.append(table_of(kind), rows, durable=durable)

    async def ping(self) -> None:
        """Raise `errors.Unavailable` unless the database answers within PING_SECONDS and its schema is ours."""
        with _named_faults():
            async with asyncio.timeout(PING_SECONDS), self._readers.connect() as connection:
                found = await connection.run_sync(schema.revisions)
        if found != (schema.HEAD,):
            raise errors.Unavailable(reason=f"records: the schema is at {found}, this version needs {schema.HEAD}")

    async def close(self) -> None:
        """Give back every connection, those of callers that were cancelled, too."""
        while self._returns:  # one that outlived its event loop would keep SQLite's write lock until the process ends
            await asyncio.wait(self._returns)
        await self._appender.close()
        await self._readers.dispose()
        await self._writers.dispose()
        self._changes.close()

    @asynccontextmanager
    async def _transaction(self, engine: AsyncEngine, *, writable: bool) -> AsyncIterator["SqlTransaction"]:
        with _named_faults():
            connection = await engine.connect()
        transaction = SqlTransaction(connection, writable=writable)
        try:
            with _named_faults():
                await connection.begin()
            yield transaction
            transaction.check()
            with _named_faults():
                await connection.commit()
            self._note(transaction)
        finally:
            # A caller that is cancelled must not leave the connection, and SQLite's write lock with it, behind.
            giving_back = asyncio.create_task(_give_back(connection))
            self._returns.add(giving_back)
            giving_back.add_done_callback(functools.partial(self._given_back, transaction))
            await asyncio.shield(giving_back)

    def _given_back(self, transaction: "SqlTransaction", task: asyncio.Task[None]) -> None:
        self._note(transaction)  # of a commit that nobody waited for any more it is known only now that it is over
        self._returns.discard(task)

    def _note(self, transaction: "SqlTransaction") -> None:
        self._changes.note(transaction.changed)
        transaction.changed.clear()


class SqlTransaction:
    """`Transaction` on one connection, for one task at a time."""

    def __init__(self, connection: AsyncConnection, *, writable: bool) -> None:
        self._connection = connection
        self._writable = writable
        self._fault: errors.Unavailable | None = None
        self.changed: set[Changed] = set()

    async def get(self, kind: type[R], /, *, account: str, **key: Any) -> R | None:
        """Return the record with this whole primary key, or None. A partial key is a TypeError."""
        wanted = key_of(kind)
        if key.keys() != set(wanted[1:]):
            raise TypeError(f"the key of {kind.__name__} is {wanted}")
        table = source_of(kind)
        result = await self._execute(sa.select(table).where(*_equal(table, account, key)))
        row = result.one_or_none()
        return None if row is None else _record(kind, row)

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

        `after` is the rest of the primary key (all but the account) of the last record of the page before. Raises
        TypeError for an unknown column, for a JSON column, and for an `after` of another length.
        """
        table = source_of(kind)
        order = [table.c[name] for name in key_of(kind)[1:]]
        statement = sa.select(table).where(*_equal(table, account, where or {}))
        if after is not None:
            if len(after) != len(order):
                raise TypeError(f"a page of {kind.__name__} begins after {[column.name for column in order]}")
            place = sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(after, order, strict=True)))
            statement = statement.where(sa.tuple_(*order) < place if descending else sa.tuple_(*order) > place)
        if limit is not None:
            if limit < 1:
                raise ValueError("a page holds at least one record")
            statement = statement.limit(limit)
        statement = statement.order_by(*(column.desc() if descending else column for column in order))
        return [_record(kind, row) for row in await self._execute(statement)]

    async def create(self, *records: Any) -> None:
        """Insert the records. Raises AlreadyExists, and then inserts none of them."""
        self._demand_writable()
        for record in records:
            _demand_account(record.account)
            self.changed.update(names_of(type(record), values_of(record)))
        if len(records) == 1:
            await self._create_one(records[0])
        elif records:
            await self._create_all(records)

    async def update(self, record: R) -> R:
        """Replace the record if the stored `revision` is still the one given; return it with the next revision.

        Raises Stale otherwise, AlreadyExists when another record has a unique value of this one, and TypeError for a
        kind of record that has no revision.
        """
        self._demand_writable()
        kind = type(record)
        table = table_of(kind)
        values = values_of(record)
        if "revision" not in values:
            raise TypeError(f"{kind.__name__} has no revision: it does not change")
        identity = {name: values[name] for name in (*key_of(kind)[1:], "revision")}
        after = dataclasses.replace(record, revision=values["revision"] + 1)  # type: ignore[type-var]  # a record is a dataclass
        changed = {name: value for name, value in values_of(after).items() if name not in key_of(kind)}
        self.changed.update(names_of(kind, values))
        async with self._savepoint():
            result = await self._execute(
                sa.update(table).where(*_equal(table, values["account"], identity)).values(changed)
            )
        if result.rowcount != 1:
            raise Stale
        return after

    async def delete(self, kind: type[Any], /, *, account: str, **where: Any) -> int:
        """Delete the records of the account that equal `where` in every column it names; return how many.

        Naming no column is a TypeError: nobody empties an account by forgetting an argument.
        """
        self._demand_writable()
        if not where:
            raise TypeError("delete wants to know which records")
        table = table_of(kind)
        one_key = key_of(kind)[1] in where
        self.changed.update(names_of(kind, where) if one_key else [(table.name,)])
        result = await self._execute(sa.delete(table).where(*_equal(table, account, where)))
        return int(result.rowcount)

    def check(self) -> None:
        """Raise the fault that the database had in this transaction, if it had one: then there is nothing to commit."""
        if self._fault is not None:
            raise self._fault

    async def _create_one(self, record: Any) -> None:
        # One round trip, and a conflict does not end PostgreSQL's transaction.
        insert = _INSERT[self._connection.dialect.name](table_of(type(record))).on_conflict_do_nothing()
        result = await self._execute(insert.execution_options(preserve_rowcount=True), values_of(record))
        if result.rowcount != 1:
            raise AlreadyExists

    async def _create_all(self, records: tuple[Any, ...]) -> None:
        rows: dict[type[Any], list[dict[str, Any]]] = {}
        for record in records:
            rows.setdefault(type(record), []).append(values_of(record))
        async with self._savepoint():
            for kind, values in rows.items():
                await self._execute(sa.insert(table_of(kind)), values)

    async def _execute(self, statement: Any, parameters: Any = None) -> sa.CursorResult[Any]:
        self.check()
        with self._noted_faults():
            result: sa.CursorResult[Any] = await self._connection.execute(statement, parameters)
        return result

    @asynccontextmanager
    async def _savepoint(self) -> AsyncIterator[None]:
        self.check()
        with self._noted_faults():
            savepoint = await self._connection.begin_nested()
        try:
            yield
        except errors.Unavailable:
            raise  # the whole transaction is lost
        except Exception:
            with self._noted_faults():
                await savepoint.rollback()
            raise
        with self._noted_faults():
            await savepoint.commit()

    @contextmanager
    def _noted_faults(self) -> Iterator[None]:
        try:
            with _named_faults():
                yield
        except errors.Unavailable as fault:
            self._fault = fault
            raise

    def _demand_writable(self) -> None:
        if not self._writable:
            raise TypeError("this transaction only reads")


async def _give_back(connection: AsyncConnection) -> None:
    try:
        await connection.close()
    except _FAULTS:
        await connection.invalidate()
        await connection.close()


@contextmanager
def _named_faults() -> Iterator[None]:
    # `from None`: a driver's text may repeat values, and some of those are nobody's business.
    try:
        yield
    except (exc.IntegrityError, sqlite3.IntegrityError, asyncpg.UniqueViolationError):
        raise AlreadyExists from None
    except _FAULTS as error:
        raise errors.Unavailable(reason=f"records: {_describe(error)}") from None
    except exc.StatementError as error:
        # A value that a column refused before anything was sent: its own error says it better.
        if error.orig is None:
            raise
        raise error.orig from None


def _describe(error: BaseException) -> str:
    # The driver's own error says most: SQLAlchemy wraps it, for asyncpg twice.
    cause: Any = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    cause = cause.__cause__ or cause
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return f"{type(cause).__name__} ({code})" if code else type(cause).__name__


def _record(kind: type[R], row: Iterable[Any]) -> R:
    make: Any = kind
    record: R = make(*row)
    return record


def _demand_account(account: str) -> None:
    if not isinstance(account, str) or not account:
        raise TypeError("every record belongs to an account: name it")


def _equal(table: sa.FromClause, account: str, wanted: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    _demand_account(account)
    conditions = [table.c.account == account]
    for name, value in wanted.items():
        column = table.c.get(name)
        if name == "account" or column is None or not is_comparable(column):
            raise TypeError(f"{table} cannot be searched by {name!r}")
        conditions.append(column.is_(None) if value is None else column == value)
    return conditions
