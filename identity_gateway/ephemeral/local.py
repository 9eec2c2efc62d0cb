"""Ephemeral state in one SQLite file, shared by all processes on one data folder; or in memory, for one process.

Every verb is one statement, so SQLite makes it atomic between processes. It runs in a thread of its own and never
blocks the event loop. Nothing waits for the disk: a power cut may lose or break the file, and a broken file is thrown
away and begun anew. Does not know what the keys mean.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from identity_gateway import errors
from identity_gateway.ephemeral import milliseconds

WAIT_SECONDS = 5.0
"""How long a verb waits for the verbs of other processes."""

SWEEP_EVERY = 100
SWEEP_AT_MOST = 500
"""Each process removes up to SWEEP_AT_MOST expired entries at every SWEEP_EVERY-th write: faster than they can come."""

_SCHEMA = (
    (
        "CREATE TABLE IF NOT EXISTS entry"
        " (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID"
    ),
    "CREATE INDEX IF NOT EXISTS entry_expires ON entry (expires)",
)
_PUT = (
    "INSERT INTO entry VALUES (:key, :value, :now + :ttl)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires"
)
_ADD = f"{_PUT} WHERE entry.expires <= :now RETURNING 1"
_ACQUIRE = f"{_PUT} WHERE entry.expires <= :now OR entry.value = excluded.value RETURNING 1"
_GET = "SELECT value FROM entry WHERE key = :key AND expires > :now"
_TAKE = "DELETE FROM entry WHERE key = :key AND expires > :now RETURNING value"
_DELETE = "DELETE FROM entry WHERE key = :key"
_RELEASE = "DELETE FROM entry WHERE key = :key AND value = :value AND expires > :now RETURNING 1"
# A counter is its decimal digits, as in Redis.
_INCREMENT = (
    "INSERT INTO entry VALUES (:key, CAST('1' AS BLOB), :now + :ttl) ON CONFLICT (key) DO UPDATE SET"
    " value = CASE WHEN entry.expires <= :now THEN excluded.value"
    " ELSE CAST(CAST(CAST(CAST(entry.value AS TEXT) AS INTEGER) + 1 AS TEXT) AS BLOB) END,"
    " expires = CASE WHEN entry.expires <= :now THEN excluded.expires ELSE entry.expires END"
    " RETURNING CAST(CAST(value AS TEXT) AS INTEGER)"
)
_SWEEP = "DELETE FROM entry WHERE key IN (SELECT key FROM entry WHERE expires <= :now LIMIT :most)"

_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class LocalEphemeral:
    """`Ephemeral` in the file `path` (its folder must exist), or in memory when `path` is None.

    `clock` gives epoch seconds: the wall clock, because processes share it. Setting it back lengthens lives by as much.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._store = _Store(path)
        self._clock = clock
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ephemeral")

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Store the value, replacing what is there."""
        await self._run(_PUT, key=key, value=value, ttl=milliseconds(ttl))

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Store the value only if the key is free; return whether it was. One of many racing callers wins."""
        return bool(await self._run(_ADD, key=key, value=value, ttl=milliseconds(ttl)))

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if there is none or it has expired."""
        value: bytes | None = await self._run(_GET, key=key)
        return value

    async def take(self, key: str) -> bytes | None:
        """Return the value and remove it at once: of many racing callers exactly one gets it."""
        value: bytes | None = await self._run(_TAKE, key=key)
        return value

    async def delete(self, key: str) -> None:
        """Remove the key, if it is there."""
        await self._run(_DELETE, key=key)

    async def increment(self, key: str, *, ttl: float) -> int:
        """Add one and return the count; the first increment starts the time to live, the later ones keep it."""
        return int(await self._run(_INCREMENT, key=key, ttl=milliseconds(ttl)))

    async def acquire(self, key: str, owner: str, *, ttl: float) -> bool:
        """Take or renew a lease: true if it was free or is this owner's already. An optimisation, never a safety."""
        return bool(await self._run(_ACQUIRE, key=key, value=owner.encode(), ttl=milliseconds(ttl)))

    async def release(self, key: str, owner: str) -> bool:
        """Give the lease back if it is still this owner's; return whether it was."""
        return bool(await self._run(_RELEASE, key=key, value=owner.encode()))

    async def ping(self) -> None:
        """Raise `errors.Unavailable` unless the file can be written."""
        await self._run(_SWEEP, most=0)

    async def close(self) -> None:
        """Close the file and end the thread. Doing it twice does no harm."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)

    async def _run(self, statement: str, **values: Any) -> Any:
        values["now"] = int(self._clock() * 1000)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._store.run, statement, values)
        except (sqlite3.Error, OSError) as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise errors.Unavailable(reason=f"ephemeral: {name}") from None


class _Store:
    """The file, on its thread. Follows the path: when the file was replaced, by whomever, it moves to the new one.

    Otherwise two processes could each be first to use a single-use code, each in its own file.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._writes = 0

    def run(self, statement: str, values: dict[str, Any]) -> Any:
        """Run one statement and return the first column of its row, or None without a row."""
        connection = self._current()
        try:
            rows = connection.execute(statement, values).fetchall()
            if statement is not _GET:
                self._sweep_sometimes(connection, values["now"])
        except sqlite3.DatabaseError as error:
            if _is_broken(error):
                self.close()  # the next verb opens it anew, and opening throws a broken file away
            raise
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _sweep_sometimes(self, connection: sqlite3.Connection, now: int) -> None:
        self._writes += 1
        if self._writes % SWEEP_EVERY == 0:
            connection.execute(_SWEEP, {"now": now, "most": SWEEP_AT_MOST})

    def _current(self) -> sqlite3.Connection:
        if self._connection is not None and self._identity == _identity(self._path):
            return self._connection
        self.close()
        if self._path is None:
            self._connection = _connect(":memory:")
        else:
            self._connection, self._identity = _open_shared(self._path)
        return self._connection


def _identity(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _open_shared(path: Path) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
    # One process at a time: otherwise a second one could throw away the file that the first has just begun anew.
    with _locked(path.with_name(f"{path.name}.lock")):
        try:
            return _connect(str(path)), _identity(path)
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(str(path)), _identity(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)  # which unlocks


def _connect(path: str) -> sqlite3.Connection:
    if path != ":memory:":
        # Closing a second descriptor of an open database would drop SQLite's locks: only ever make the file here.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        for statement in _SCHEMA:
            connection.execute(statement)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            error = sqlite3.DatabaseError(verdict)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
    except BaseException:
        connection.close()
        raise
    return connection


def _is_broken(error: sqlite3.Error) -> bool:
    # The low byte is the kind of error, the rest says more about it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
