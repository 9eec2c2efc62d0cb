"""Rows that are only ever added, many at a time and at the least cost: the audit trail.

They go past SQLAlchemy, in the form in which they are stored, each batch in a transaction of its own. This module does
not read, and does not know what the rows mean.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from queue import SimpleQueue
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from identity_gateway.records import connect

Row = tuple[Any, ...]
"""The values of a row in the order of the columns, as the database keeps them (`tables.stored`)."""


SYNCED_WITHIN = 1.0
"""Seconds after which rows that were written at once are on the disk."""

_MOST_STATEMENTS = 256
"""Statements that are kept compiled: one for each number of rows that there may be."""

_DURABLE, _WRITTEN = "PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"

_Asked = tuple[sa.Table | None, Sequence[Row], bool, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Appender(Protocol):
    """Adds rows to tables."""

    def write(self, table: sa.Table, rows: Sequence[Row]) -> bool:
        """Commit the rows at once and return True, if that takes neither waiting nor the disk; else do nothing.

        They survive the end of every process, and are on the disk within `SYNCED_WITHIN` seconds.
        """

    async def append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:
        """Return when all of the rows are committed. Raises the driver's errors; then none of them is.

        What is not `durable` survives the end of every process, but not that of the machine in the next moments.
        """

    async def close(self) -> None:
        """Give back what this holds."""


class SqliteAppender:
    """Adds rows to an SQLite database, on a connection with a thread of its own, which starts with the first rows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._syncing: asyncio.TimerHandle | None = None
        self._durable: bool | None = None

    def write(self, table: sa.Table, rows: Sequence[Row]) -> bool:
        """Commit the rows at once, unless somebody else writes; see `Appender`.

        It costs what a line in a log file costs: nothing is flushed, and the log that it goes to is not folded up here.
        """
        try:
            if self._writer is None:
                self._writer = self._open(timeout=0)
                self._writer.execute(_WRITTEN)
                self._writer.execute("PRAGMA wal_autocheckpoint=0")
            self._writer.execute(_insert(table, len(rows)), list(chain.from_iterable(rows)))
        except sqlite3.Error:
            return False  # `append` waits, and says what is wrong
        if self._syncing is None:
            self._syncing = asyncio.get_running_loop().call_later(SYNCED_WITHIN, self._sync)
        return True

    def _sync(self) -> None:
        """Have what was written flushed, and the log folded up."""
        self._syncing = None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(asyncio.Future.exception)  # nobody waits: what is wrong, the next rows will say
        self._ask(None, (), done, durable=True)

    async def append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:
        """Return when all of the rows are committed. Raises sqlite3.Error; then none of them is.

        Whoever is cancelled meanwhile does not stop the commit.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ask(table, rows, done, durable=durable)
        await done

    def _ask(self, table: sa.Table | None, rows: Sequence[Row], done: "asyncio.Future[None]", *, durable: bool) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="append", daemon=True)
            self._thread.start()
        self._asked.put((table, rows, durable, asyncio.get_running_loop(), done))

    async def close(self) -> None:
        """Close the connections when what was asked for is done, and end the thread."""
        if self._syncing is not None:
            self._syncing.cancel()
            self._sync()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        thread, self._thread = self._thread, None
        if thread is not None:
            self._asked.put(None)
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            table, rows, durable, loop, done = asked
            fault: BaseException | None = None
            try:
                self._append(table, rows, durable=durable)
            except BaseException as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
                fault = error
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(_tell, done, fault)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _append(self, table: sa.Table | None, rows: Sequence[Row], *, durable: bool) -> None:
        if self._connection is None:
            self._connection = self._open(timeout=connect.WAIT_SECONDS)
        connection = self._connection
        if durable is not self._durable:
            connection.execute(_DURABLE if durable else _WRITTEN)
            self._durable = durable
        if table is None:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return
        # One statement, and a transaction by itself: each step lets go of the interpreter and has to get it back.
        connection.execute(_insert(table, len(rows)), list(chain.from_iterable(rows)))

    def _open(self, *, timeout: float) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path,
            timeout=timeout,
            isolation_level=None,
            cached_statements=_MOST_STATEMENTS,
            check_same_thread=False,  # each is used by one thread; the last of them is closed by another
        )


class PostgresqlAppender:
    """Adds rows to a PostgreSQL database, on a connection of the pool."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def write(self, table: sa.Table, rows: Sequence[Row]) -> bool:
        """Do nothing: nothing can be committed there without waiting."""
        del table, rows
        return False

    async def append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:  # noqa: ARG002 - always is
        """Return when all of the rows are committed. Raises errors of SQLAlchemy and asyncpg; then none of them is."""
        columns = [column.name for column in table.columns]
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.copy_records_to_table(table.name, records=rows, columns=columns)

    async def close(self) -> None:
        """Do nothing: the pool is somebody else's."""


def _tell(done: asyncio.Future[None], fault: BaseException | None) -> None:
    if done.done():  # who asked was cancelled
        return
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)


@cache
def _insert(table: sa.Table, rows: int) -> str:
    columns, places = ",".join(column.name for column in table.columns), ",".join("?" * len(table.columns))
    values = ",".join([f"({places})"] * rows)
    return f"INSERT INTO {table.name} ({columns}) VALUES {values}"  # noqa: S608 - the name of a table that `tables` declares
