"""Connections to the database: from a URL to engines that begin transactions the way each backend needs.

Decides durability, waiting times and isolation. It does not run statements and does not know the tables.
"""

import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

WAIT_SECONDS = 15.0
"""How long a caller waits for a free connection, for another writer, or for one statement."""

CONNECT_SECONDS = 5.0
MIGRATION_SECONDS = 300.0

_SQLITE_READERS = 4
_POSTGRESQL_CONNECTIONS = 10
_POSTGRESQL_SCHEMES = ("postgresql+asyncpg://", "postgresql://", "postgres://")

to_json = functools.partial(json.dumps, allow_nan=False, separators=(",", ":"))


def open_engines(url: str) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engine that reads one consistent state and the engine that writes. Nothing connects yet.

    `url` is `sqlite:///relative`, `sqlite:////absolute` or a libpq URL (`postgresql://…`, `?host=DIR` for a unix
    socket). Raises ValueError for any other.
    """
    dsn = _postgresql_dsn(url)
    if dsn is not None:
        engine = _postgresql(dsn, statement_seconds=WAIT_SECONDS, pool_size=_POSTGRESQL_CONNECTIONS)
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True), engine
    path = _sqlite_path(url)
    # One writing connection: SQLite has one writer at a time, and a queue is fair where its polling is not.
    return (
        _sqlite(path, begin="BEGIN", pragmas=("query_only=ON",), pool_size=_SQLITE_READERS),
        _sqlite(path, begin="BEGIN IMMEDIATE", pool_size=1),
    )


def open_migration_engine(url: str) -> AsyncEngine:
    """Return an engine for one patient connection. Creates the file of a new SQLite database."""
    dsn = _postgresql_dsn(url)
    if dsn is not None:
        return _postgresql(dsn, statement_seconds=MIGRATION_SECONDS, poolclass=NullPool)
    path = _sqlite_path(url)
    _create_private_file(path)
    return _sqlite(path, begin="BEGIN IMMEDIATE", on_connect=_use_write_ahead_log, poolclass=NullPool)


def _postgresql_dsn(url: str) -> str | None:
    for scheme in _POSTGRESQL_SCHEMES:
        if url.startswith(scheme):
            return "postgresql://" + url.removeprefix(scheme)
    return None


def sqlite_path(url: str) -> str | None:
    """Return the file of an SQLite database, None for PostgreSQL. Raises ValueError for any other URL."""
    return _sqlite_path(url) if _postgresql_dsn(url) is None else None


def sqlite_file(url: str) -> str | None:
    """Return as `sqlite_path` does, but the file itself where that is a link: SQLite puts its log beside the file."""
    path = sqlite_path(url)
    return None if path is None else os.path.realpath(path)


def _sqlite_path(url: str) -> str:
    # The URL may hold a password: no message repeats it.
    refusal = "the database URL must be sqlite:///PATH or postgresql://…"
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ValueError(refusal) from None
    if parsed.drivername not in {"sqlite", "sqlite+aiosqlite"} or parsed.host or parsed.query:
        raise ValueError(refusal)
    if parsed.database in {None, "", ":memory:"}:
        raise ValueError("an SQLite database must be a file: every connection would see its own memory")
    return str(parsed.database)


def _create_private_file(path: str) -> None:
    # SQLite gives its write-ahead log the mode of the database. O_EXCL matters: closing a second descriptor of a file
    # that this process has open already would drop the locks that SQLite holds on it.
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)


def _sqlite(
    path: str,
    *,
    begin: str,
    pragmas: tuple[str, ...] = (),
    on_connect: Callable[[Any], None] | None = None,
    **pool: Any,
) -> AsyncEngine:
    if "pool_size" in pool:
        pool |= {"max_overflow": 0, "pool_timeout": WAIT_SECONDS}
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=path),
        # The driver must not begin transactions by itself: the listener below says which kind.
        connect_args={"timeout": WAIT_SECONDS, "isolation_level": None},
        json_serializer=to_json,
        hide_parameters=True,
        **pool,
    )

    # FULL: a commit is on the disk before anybody hears of it. NORMAL would survive a killed process too, but a power
    # cut could take back a rotated single-use refresh token, and its vendor does not hand out another.
    settings = ("synchronous=FULL", "foreign_keys=ON", *pragmas)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        if on_connect is not None:
            on_connect(cursor)
        for setting in settings:
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    @event.listens_for(engine.sync_engine, "invalidate")
    def roll_back(connection: Any, _record: Any, _error: Any) -> None:
        # Whoever is cancelled in the middle of a statement loses the connection. SQLite keeps a closed connection, and
        # the write lock with it, for as long as somebody holds one of its cursors: the traceback of that caller does.
        connection.rollback()

    return engine


def _use_write_ahead_log(cursor: Any) -> None:
    # Readers and the writer do not wait for each other then. The mode stays with the file. Changing it takes the file
    # for oneself, and SQLite does not wait for that: processes that start together have to ask again. Sleeping is
    # allowed here, migrations have a thread of their own.
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _postgresql(dsn: str, *, statement_seconds: float, **pool: Any) -> AsyncEngine:
    async def connect() -> Any:
        return await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=statement_seconds,
            server_settings={"application_name": "identity-gateway"},
        )

    if "pool_size" in pool:
        pool |= {"max_overflow": 0, "pool_timeout": WAIT_SECONDS}
    engine = create_async_engine(
        "postgresql+asyncpg://",  # the address and the password stay in the closure above, out of every repr
        async_creator=connect,
        json_serializer=to_json,
        hide_parameters=True,
        **pool,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def refuse_closed(_connection: Any, record: Any, _proxy: Any) -> None:
        # The driver knows that the server hung up: this costs no round trip, as a ping before every use would.
        if record.driver_connection.is_closed():
            raise exc.DisconnectionError

    return engine
