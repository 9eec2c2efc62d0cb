"""The schema of the database and its changes: brought up to date at start, by one process at a time.

The changes themselves stand in `migrations/versions`. This module does not know the tables. Alembic is imported when
there is something to change: that takes a tenth of a start.
"""

import asyncio
import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from identity_gateway import errors
from identity_gateway.records import connect

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0006"
"""The revision that this program's tables are at: the newest of `migrations/versions`, as a test makes sure."""

_VERSION = sa.table("alembic_version", sa.column("version_num", sa.String()))

# Alembic's `op` and `context` are one per process, whatever the thread or the task.
_ONE_AT_A_TIME = threading.Lock()

# Any number that no other user of the same database takes: the bytes of "igwrec".
_ADVISORY_LOCK = int.from_bytes(b"igwrec")


class SchemaTooNew(errors.Unavailable):
    """The database was written by a newer version of this program. Its message is safe to show: it names revisions."""


def configuration() -> "Config":
    """Return Alembic's configuration. Set `attributes["connection"]` before running a command with it."""
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", "identity_gateway.records:migrations")
    config.set_main_option("path_separator", "os")
    return config


def revisions(connection: Connection) -> tuple[str, ...]:
    """Return the revision the database is at: one, or none in an empty database."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return ()
    return tuple(connection.scalars(sa.select(_VERSION.c.version_num)))


async def migrate(url: str) -> None:
    """Bring the database up to date: all changes in one transaction, under one lock.

    Safe when several processes do it at once, and when one of them is killed. Raises SchemaTooNew, and errors of the
    database as they are.
    """
    # In a thread, because reading scripts blocks, and because `op` must not be shared with another task's migration.
    await asyncio.to_thread(_migrate, url)


def _migrate(url: str) -> None:
    with _ONE_AT_A_TIME:
        asyncio.run(_migrate_alone(url))


async def _migrate_alone(url: str) -> None:
    engine = connect.open_migration_engine(url)
    try:
        # On SQLite beginning takes the write lock. PostgreSQL's ends with the transaction, also when we are killed.
        async with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    found = revisions(connection)
    if found == (HEAD,):
        return
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    unknown = ", ".join(sorted(set(found) - known))
    if unknown:
        raise SchemaTooNew(
            f"The database is at schema {unknown}, which this version does not know (its newest is {HEAD}). "
            "Start the version that wrote it, or a newer one.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
