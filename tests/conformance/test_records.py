"""The backends of `Records` do what the suite says, and their tables are those that the code declares."""

import asyncio
import os
import sqlite3
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from identity_gateway import errors
from identity_gateway.model import AuditRecord, Tag
from identity_gateway.records import connect, schema
from identity_gateway.records.sql import SqlRecords, open_records
from identity_gateway.records.tables import METADATA
from tests.conformance.records_suite import RecordsSuite
from tests.parts import Postgres


@pytest.fixture(scope="module")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('records')}/records.sqlite"


@pytest.fixture(scope="module")
def postgresql_url(postgres_server: Postgres) -> str:
    return postgres_server.create_database()


class SchemaSuite:
    async def test_the_migrations_make_exactly_the_declared_tables(self, url: str):
        await schema.migrate(url)
        assert await self.ask(url, self.differences) == []

    async def test_migrating_twice_changes_nothing(self, url: str):
        await schema.migrate(url)
        await schema.migrate(url)
        assert await self.ask(url, schema.revisions) == (schema.HEAD,)

    async def test_a_database_of_a_newer_version_is_refused_by_name(self, url: str):
        await schema.migrate(url)
        await self.mark(url, "9999")
        try:
            with pytest.raises(schema.SchemaTooNew, match="9999"):
                await open_records(url)
        finally:
            await self.mark(url, schema.HEAD)

    async def test_a_store_whose_schema_moved_on_does_not_answer_pings(self, url: str):
        records = await open_records(url)
        await self.mark(url, "9999")
        try:
            with pytest.raises(errors.Unavailable) as caught:
                await records.ping()
        finally:
            await self.mark(url, schema.HEAD)
            await records.close()
        assert ("9999" in caught.value.reason, "9999" in str(caught.value)) == (True, False)

    async def test_audit_records_of_an_earlier_version_are_kept_in_their_order(self, url: str):
        """Revision 0005 gives numbers in place of texts."""
        await self.migrate_to(url, "0004")
        before = [(f"{n:016x}-00000000{n:08x}", account) for n in range(3) for account in ("1" * 12, "0" * 12)]
        texts = {name: name for name in ("request_id", "principal", "action", "resource", "decision", "reason")}
        row = texts | {"source": "", "details": '{"n": 1}'}
        names = ", ".join(("account", "id", "at", *row))
        places = ", ".join(f":{name}" for name in ("account", "id", "at", *row))
        engine = connect.open_migration_engine(url)
        async with engine.begin() as connection:
            for at, (identifier, account) in enumerate(reversed(before)):
                values = row | {"account": account, "id": identifier, "at": 1000 - at}
                await connection.execute(sa.text(f"INSERT INTO audit_record ({names}) VALUES ({places})"), values)
        await engine.dispose()
        records = await open_records(url.replace("+aiosqlite", "").replace("+asyncpg", ""))
        async with records.read() as transaction:
            found = await transaction.list(AuditRecord, account="0" * 12)
        await records.close()
        assert [(record.id > 0, record.at.microsecond) for record in found] == [(True, 996), (True, 998), (True, 1000)]
        assert {(record.principal, record.reason, record.details["n"]) for record in found} == {
            ("principal", "reason", 1)
        }

    @staticmethod
    async def migrate_to(url: str, revision: str) -> None:
        def upgrade(connection: Connection) -> None:
            configuration = schema.configuration()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, revision)

        def alone() -> None:
            asyncio.run(migrate())

        async def migrate() -> None:
            engine = connect.open_migration_engine(url)
            async with engine.begin() as connection:
                await connection.run_sync(upgrade)
            await engine.dispose()

        await asyncio.to_thread(alone)

    @staticmethod
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, METADATA))

    @staticmethod
    async def ask(url, question):
        engine, other = connect.open_engines(url)
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(question)
        finally:
            await engine.dispose()
            await other.dispose()

    @staticmethod
    async def mark(url: str, revision: str) -> None:
        engine = connect.open_migration_engine(url)
        async with engine.begin() as connection:
            await connection.execute(sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        await engine.dispose()


class TestSqlite(RecordsSuite):
    @pytest.fixture
    def url(self, sqlite_url: str) -> str:
        return sqlite_url


class TestPostgresql(RecordsSuite):
    @pytest.fixture
    def url(self, postgresql_url: str) -> str:
        return postgresql_url


class TestSqliteSchema(SchemaSuite):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite+aiosqlite:///{tmp_path}/records.sqlite"


class TestPostgresqlSchema(SchemaSuite):
    @pytest.fixture
    def url(self, postgres_server: Postgres) -> str:
        return postgres_server.create_database().replace("postgresql://", "postgresql+asyncpg://")

    async def test_every_text_column_sorts_by_its_bytes(self, url: str, postgres_server: Postgres):
        await schema.migrate(url)
        database = urlsplit(url).path.removeprefix("/")
        others = postgres_server.run(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'",
            database,
        )
        assert others == ""


@pytest.mark.parametrize(
    "url",
    ["", "records.sqlite", "sqlite://", "sqlite:///:memory:", "sqlite:///a?mode=ro", "sqlite://host/a", "mysql://h/d"],
)
async def test_a_url_of_another_kind_is_refused(url: str):
    with pytest.raises(ValueError):
        await open_records(url)


async def test_a_refused_url_keeps_its_password():
    with pytest.raises(ValueError) as caught:
        await open_records("mysql://user:hunter2@host/database")
    assert "hunter2" not in str(caught.value)


async def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path):
    with pytest.raises(errors.Unavailable):
        await open_records(f"sqlite:///{tmp_path}/nowhere/records.sqlite")


async def test_a_file_that_is_no_database_is_a_fault_and_stays_as_it_is(tmp_path: Path):
    (tmp_path / "records.sqlite").write_bytes(b"a letter to grandmother" * 99)
    with pytest.raises(errors.Unavailable) as caught:
        await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    assert ("NOTADB" in caught.value.reason, "SQLITE" in str(caught.value)) == (True, False)


async def test_an_sqlite_database_is_readable_by_its_owner_alone(tmp_path: Path):
    mask = os.umask(0)
    try:
        records = await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    finally:
        os.umask(mask)
    async with records.write() as tx:
        await tx.create(Tag("a", "r", "k", "v"))
    modes = {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)}
    await records.close()
    assert modes == {0o600}


async def test_a_locked_sqlite_database_is_a_fault_and_not_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connect, "WAIT_SECONDS", 0.2)
    records: SqlRecords = await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    other = sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.Unavailable):
        async with records.write() as tx:
            await tx.create(Tag("a", "r", "k", "v"))
    other.close()
    async with records.write() as tx:
        await tx.create(Tag("a", "r", "k", "v"))
    await records.close()
