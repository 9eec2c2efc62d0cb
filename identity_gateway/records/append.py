"""Rows that are only ever added, many at a time and at the least cost: the audit trail.

They go past SQLAlchemy, in the form in which they are stored, each batch in a transaction of its own. This module does
not read, and does not know what the rows mean.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
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
_FOLDED_ELSEWHERE = "PRAGMA wal_autocheckpoint=0"

_MOST_PAGES, _FEW_PAGES = 16_384, 64
"""Of the log, each 4 KiB: more than which it begins anew, and how many are carried over in a moment."""

_ROUNDS = 4
_PATIENCE = 0.01
"""Seconds that the log's new beginning waits for readers of an earlier state: nobody writes meanwhile."""

_to_disk = getattr(os, "fdatasync", os.fsync)

_Asked = tuple[Callable[[], None], asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Appender(Protocol):
    """Adds rows to tables."""

    def write(self, table: sa.Table, rows: Sequence[Row]) -> bool:
        """Commit the rows at once and return True, if that takes neither waiting nor the disk; else do nothing.

        They survive the end of every process, and are on the disk within `SYNCED_WITHIN` seconds.
        """

    async def flush(self) -> None:
        """Return when all that `write` committed before is on the disk. Raises OSError; then it may not be."""

    async def append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:
        """Return when all of the rows are committed. Raises the driver's errors; then none of them is.

        What is not `durable` survives the end of every process, but not that of the machine in the next moments.
        """

    async def close(self) -> None:
        """Give back what this holds."""


class _Hand:
    """Does one job after the other in a thread of its own, which starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, job: Callable[[], None]) -> "asyncio.Future[None]":
        """Return what is done when the job is, with what it raised. Whoever is cancelled does not stop it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._asked.put((job, loop, done))
        return done

    async def close(self) -> None:
        """Return when all that was asked for is done, and the thread has ended."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._asked.put(None)
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            job, loop, done = asked
            fault: BaseException | None = None
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
                fault = error
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(_tell, done, fault)


class SqliteAppender:
    """Adds rows to an SQLite database, on connections of its own.

    Nobody who waits for rows waits for the log to be folded up: that has a thread of its own, as flushing has.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._appends, self._flushes, self._folds = _Hand("append"), _Hand("flush"), _Hand("fold")
        self._connections: list[sqlite3.Connection] = []
        self._writer: sqlite3.Cursor | None = None
        self._appending: sqlite3.Connection | None = None
        self._folding: sqlite3.Connection | None = None
        self._log: int | None = None
        self._turn = threading.Lock()  # SQLite's own waiting is sleeping for ever longer
        self._syncing: asyncio.TimerHandle | None = None
        self._durable: bool | None = None

    def write(self, table: sa.Table, rows: Sequence[Row]) -> bool:
        """Commit the rows at once, unless somebody else writes; see `Appender`.

        It costs what a line in a log file costs: nothing is flushed, and the log that it goes to is not folded up here.
        """
        try:
            if self._writer is None:
                connection = self._open(timeout=0)
                connection.execute(_WRITTEN)
                self._writer = connection.cursor()
            self._writer.execute(_insert(table, len(rows)), list(chain.from_iterable(rows)))
        except sqlite3.Error:
            return False  # `append` waits, and says what is wrong
        if self._syncing is None:
            self._sync_later()
        return True

    async def flush(self) -> None:
        """Return when all that `write` committed before is on the disk: what FULL does, for many commits at once."""
        await self._flushes.do(self._flush)

    async def append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:
        """Return when all of the rows are committed. Raises sqlite3.Error; then none of them is.

        Whoever is cancelled meanwhile does not stop the commit.
        """
        if self._syncing is None:
            self._sync_later()
        await self._appends.do(lambda: self._append(table, rows, durable=durable))

    async def close(self) -> None:
        """Close the connections when what was asked for is done, and end the threads."""
        if self._syncing is not None:
            self._syncing.cancel()
            self._sync()
        for hand in (self._appends, self._flushes, self._folds):
            await hand.close()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._writer = self._appending = self._folding = self._durable = None
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def _sync_later(self) -> None:
        self._syncing = asyncio.get_running_loop().call_later(SYNCED_WITHIN, self._sync)

    def _sync(self) -> None:
        """Have what was written flushed, and the log folded up."""
        self._syncing = None
        for done in (self._flushes.do(self._flush), self._folds.do(self._fold)):
            done.add_done_callback(asyncio.Future.exception)  # nobody waits: what is wrong, the next rows will say

    # --- In the threads ----------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._log is None:
            # SQLite locks other files, never this one: closing it again loses no lock. It stays the same file while
            # a connection of this process is open.
            self._log = os.open(f"{self._path}-wal", os.O_RDWR | os.O_CLOEXEC)
            folder = os.open(Path(self._path).parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # whoever made the file may not have had its name written
            finally:
                os.close(folder)
        _to_disk(self._log)

    def _fold(self) -> None:
        """Carry the log over to the database, and let it begin anew when it is long.

        Under steady load there are always new pages behind those that are carried over, and the log would only grow.
        So the last few of a long one are carried over while nobody writes: who wanted to write at once waits instead.
        """
        if self._folding is None:
            self._folding = self._open(timeout=_PATIENCE)
            self._folding.execute(_WRITTEN)
        for _ in range(_ROUNDS):
            _, pages, carried = self._folding.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages - carried < _FEW_PAGES:
                break
        if pages > _MOST_PAGES:
            with self._turn:
                self._folding.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def _append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:
        if self._appending is None:
            self._appending = self._open(timeout=connect.WAIT_SECONDS)
        if durable is not self._durable:
            self._appending.execute(_DURABLE if durable else _WRITTEN)
            self._durable = durable
        # One statement, and a transaction by itself: each step lets go of the interpreter and has to get it back.
        with self._turn:
            self._appending.execute(_insert(table, len(rows)), list(chain.from_iterable(rows)))

    def _open(self, *, timeout: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=timeout,
            isolation_level=None,
            cached_statements=_MOST_STATEMENTS,
            check_same_thread=False,  # each is used by one thread, and closed by another when that has ended
        )
        self._connections.append(connection)
        connection.execute(_FOLDED_ELSEWHERE)
        return connection


class PostgresqlAppender:
    """Adds rows to a PostgreSQL database, on a connection of the pool."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def write(self, table: sa.Table, rows: Sequence[Row]) -> bool:
        """Do nothing: nothing can be committed there without waiting."""
        del table, rows
        return False

    async def flush(self) -> None:
        """Do nothing: what is committed there is on the disk."""

    async def append(self, table: sa.Table, rows: Sequence[Row], *, durable: bool) -> None:  # noqa: ARG002 - always is
        """Return when all of the rows are committed. Raises errors of SQLAlchemy and asyncpg; then none of them is."""
        columns = [column.name for column in table.columns]
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.copy_records_to_table(table.name, records=rows, columns=columns)

    async def close(self) -> None:
        """Do nothing: the pool is somebody else's."""


def _tell(done: "asyncio.Future[None]", fault: BaseException | None) -> None:
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
