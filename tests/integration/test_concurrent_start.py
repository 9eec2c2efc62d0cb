"""Several processes start at once on one empty database, and one of them may be killed in the middle."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from identity_gateway.model import Tag
from identity_gateway.records import schema
from identity_gateway.records.sql import open_records
from tests.parts import Postgres

PROCESSES = 4

# Starts when its standard input closes, so that all of them start together; then writes and reads.
STARTER = """
import asyncio, sys
from identity_gateway.model import Tag
from identity_gateway.records.sql import open_records

async def main(url, name):
    records = await open_records(url)
    await records.ping()
    for number in range(10):
        async with records.write() as tx:
            await tx.create(Tag("account", name, str(number), "v"))
    await records.close()

sys.stdin.read()
asyncio.run(main(*sys.argv[1:]))
"""

# Stops in the middle of its migration, says so, and waits to be killed.
VICTIM = """
import asyncio, sys
import sqlalchemy as sa
from identity_gateway.records.sql import open_records

@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def stop(connection, cursor, statement, *others):
    if "CREATE TABLE access_key" in statement:
        print("halfway", flush=True)
        sys.stdin.read()

asyncio.run(open_records(sys.argv[1]))
"""


@dataclass
class Database:
    url: str
    tables: Callable[[], list[str]]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database, and a way to look into it without our code."""
    if request.param == "sqlite":
        path = tmp_path / "records.sqlite"
        return Database(f"sqlite:///{path}", lambda: sqlite_tables(path))
    server: Postgres = request.getfixturevalue("postgres_server")
    url = server.create_database()
    name = urlsplit(url).path.removeprefix("/")
    return Database(
        url, lambda: server.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name).split()
    )


def sqlite_tables(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    finally:
        connection.close()


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_processes_that_start_together_all_come_up_and_lose_nothing(database: Database):
    processes = [start(STARTER, database.url, f"process {number}") for number in range(PROCESSES)]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in release(processes)]
    assert ended == [("", 0)] * PROCESSES
    records = await open_records(database.url)
    async with records.read() as tx:
        written = await tx.list(Tag, account="account")
    await records.close()
    assert len(written) == 10 * PROCESSES


def release(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None  # `communicate` would flush it
    return processes


@pytest.fixture
def killed_halfway(database: Database) -> Database:
    with start(VICTIM, database.url) as victim:
        assert victim.stdout is not None
        said = victim.stdout.readline()
        os.kill(victim.pid, signal.SIGKILL)
    assert said == "halfway\n"
    return database


def test_a_migration_that_was_killed_leaves_nothing_half_made(killed_halfway: Database):
    assert killed_halfway.tables() == []


async def test_the_start_after_a_killed_migration_completes_it(killed_halfway: Database):
    records = await open_records(killed_halfway.url)
    await records.ping()
    await records.close()
    assert {"access_key", "key_check"} <= set(killed_halfway.tables())


async def test_a_process_that_is_killed_after_a_commit_loses_nothing(database: Database):
    program = STARTER.replace("    await records.close()", "    import os; os.kill(os.getpid(), 9)")
    (process,) = release([start(program, database.url, "victim")])
    process.communicate(timeout=60)
    records = await open_records(database.url)
    async with records.read() as tx:
        written = await tx.list(Tag, account="account")
    await records.close()
    assert (process.returncode, len(written)) == (-signal.SIGKILL, 10)


async def test_migrations_of_one_process_do_not_meet(database: Database):
    await asyncio.gather(*(schema.migrate(database.url) for _ in range(4)))
    assert database.tables().count("access_key") == 1
