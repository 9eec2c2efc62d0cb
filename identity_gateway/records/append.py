"""Rows that are only ever added, many at a time and at the least cost: the audit trail.

They go past SQLAlchemy, in the form in which they are stored, each batch in a transaction of its own. This module does
not read, and does not know what the rows mean.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from identity_gateway.records import connect

Row = tuple[Any, ...]
"""The values of a row in the order of the columns, as the database keeps them (`tables.stored`)."""


class Appender(Protocol):
    """Adds rows to tables."""

    async def append(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Return when all of the rows are committed. Raises the driver's errors; then none of them is."""

    async def close(self) -> None:
        """Give back what this holds."""


class SqliteAppender:
    """Adds rows to an SQLite database, on a connection with a thread of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._connection: sqlite3.Connection | None = None

    async def append(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Return when all of the rows are committed. Raises sqlite3.Error; then none of them is.

        Whoever is cancelled meanwhile does not stop the commit.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, table, rows)

    async def close(self) -> None:
        """Close the connection, and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _append(self, table: sa.Table, rows: Sequence[Row]) -> None:
        connection = self._connection or self._connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_insert(table), rows)
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise

    def _connect(self) -> sqlite3.Connection:
        self._connection = sqlite3.connect(self._path, timeout=connect.WAIT_SECONDS, isolation_level=None)
        self._connection.execute("PRAGMA synchronous=FULL")
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresqlAppender:
    """Adds rows to a PostgreSQL database, on a connection of the pool."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def append(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Return when all of the rows are committed. Raises errors of SQLAlchemy and asyncpg; then none of them is."""
        columns = [column.name for column in table.columns]
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.copy_records_to_table(table.name, records=rows, columns=columns)

    async def close(self) -> None:
        """Do nothing: the pool is somebody else's."""


def _insert(table: sa.Table) -> str:
    columns, places = ",".join(column.name for column in table.columns), ",".join("?" * len(table.columns))
    return f"INSERT INTO {table.name} ({columns}) VALUES ({places})"  # noqa: S608 - the name of a table that `tables` declares
