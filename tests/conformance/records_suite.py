"""What every backend of `Records` does. A backend's test class inherits the suite and gives the fixture `url`.

Tests share a database and keep apart by their account.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_gateway import errors
from identity_gateway.model import (
    AccessKey,
    AgentRuntime,
    AgentRuntimeEndpoint,
    AgentRuntimeVersion,
    AuditRecord,
    AuditRepeat,
    CredentialProvider,
    Grant,
    IdempotentResult,
    KeyCheck,
    ResourcePolicy,
    Role,
    SigningKey,
    Tag,
    TokenVault,
    WorkloadIdentity,
)
from identity_gateway.records import AlreadyExists, Stale
from identity_gateway.records.sql import SqlRecords, open_records
from identity_gateway.records.tables import KINDS, stored

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, UTC)


def runtime(account: str, identifier: str = "hello-AbCdEf1234", **changes: Any) -> AgentRuntime:
    return replace(AgentRuntime(account, identifier, f"name of {identifier}", 1, NOW, NOW), **changes)


def a_number() -> int:
    """Return a number that no other record has: accounts share them."""
    return next(_numbers)


_numbers = count(uuid4().int >> 72)


def one_of_each(account: str) -> list[Any]:
    return [
        runtime(account),
        AgentRuntimeVersion(account, "r", 2**40, {"b": [1, None, {"ü": "\0\ud800"}], "a": 1.5}, NOW),
        AgentRuntimeEndpoint(account, "r", "DEFAULT", "e", 3, None, NOW, NOW),
        WorkloadIdentity(account, "agent", ("https://a.test/", "https://b.test/"), None, NOW, NOW),
        AccessKey(account, "AKIA", "ci", b"\x00\xff", admin=True, policy=None, created_at=NOW),
        Tag(account, "arn:aws:x", "Größe", "𝄞"),
        IdempotentResult(account, "CreateAgentRuntime", "t" * 256, b"", {}, NOW),
        AuditRecord(account, a_number(), NOW, "q", "p", "a", "r", "allow", "", "127.0.0.1", {"n": 1}),
        AuditRepeat(account, a_number(), NOW, "q", "127.0.0.1", a_number()),
        KeyCheck(account, "default", b"sealed"),
        CredentialProvider(account, "oauth2", "p", "id", "V", {"a": 1}, {}, "MANAGED", None, b"sealed", NOW, NOW),
        given_grant(account),
        TokenVault(account, "default", "ServiceManagedKey", None, NOW),
        Role(account, "reader", {"Version": "x"}, {"principals": []}, 3600, NOW, NOW),
        ResourcePolicy(account, "arn:aws:x", {"Version": "x"}, NOW, NOW),
        SigningKey(account, "kid", "ES384", b"sealed", {"kty": "EC"}, NOW),
    ]


def given_grant(account: str) -> Grant:
    texts = [field.name for field in fields(Grant) if field.type is str]
    return Grant(
        **dict.fromkeys(texts, "x") | {"account": account, "id": "g"},
        **dict.fromkeys(("scopes", "granted_scopes"), ("a", "b")),
        **dict.fromkeys(("intent_owner", "intent_at", "intent_digest", "retry_at", "refresh_expires_at")),
        **dict.fromkeys(("expires_at", "obtained_at", "created_at", "updated_at"), NOW),
        request={"scopes": ["a"]},
        sealed=b"\x00",
        generation=1,
        failures=0,
    )


def key_of(record: Any) -> dict[str, Any]:
    return {
        AgentRuntime: lambda r: {"id": r.id},
        AgentRuntimeVersion: lambda r: {"runtime_id": r.runtime_id, "version": r.version},
        AgentRuntimeEndpoint: lambda r: {"runtime_id": r.runtime_id, "name": r.name},
        WorkloadIdentity: lambda r: {"name": r.name},
        AccessKey: lambda r: {"id": r.id},
        Tag: lambda r: {"resource": r.resource, "key": r.key},
        IdempotentResult: lambda r: {"operation": r.operation, "token": r.token},
        AuditRecord: lambda r: {"id": r.id},
        AuditRepeat: lambda r: {"id": r.id},
        KeyCheck: lambda r: {"name": r.name},
        CredentialProvider: lambda r: {"kind": r.kind, "name": r.name},
        Grant: lambda r: {"id": r.id},
        TokenVault: lambda r: {"id": r.id},
        Role: lambda r: {"name": r.name},
        ResourcePolicy: lambda r: {"resource": r.resource},
        SigningKey: lambda r: {"id": r.id},
    }[type(record)](record)


class RecordsSuite:
    @pytest.fixture
    async def records(self, url: str) -> AsyncIterator[SqlRecords]:
        opened = await open_records(url)
        yield opened
        await opened.close()

    @pytest.fixture
    def account(self) -> str:
        return uuid4().hex

    # --- rows that are only ever added

    async def test_appended_records_are_those_that_are_read(self, records: SqlRecords, account: str):
        kept = [
            AuditRecord(account, a_number(), NOW, "q", "Größe", "a", "r", "allow", "", "𝄞", {"n": n, "ü": [None, "\0"]})
            for n in range(3)
        ]
        await records.append(AuditRecord, [stored(record) for record in kept])
        async with records.read() as tx:
            assert await tx.list(AuditRecord, account=account) == kept

    async def test_rows_of_which_one_is_there_already_are_not_appended(self, records: SqlRecords, account: str):
        first, second = (AuditRecord(account, a_number(), NOW, *"qparasx", {}) for _ in range(2))
        await records.append(AuditRecord, [stored(first)])
        with pytest.raises((AlreadyExists, errors.Unavailable)):
            await records.append(AuditRecord, [stored(second), stored(first)])
        async with records.read() as tx:
            assert await tx.list(AuditRecord, account=account) == [first]
        await records.append(AuditRecord, [stored(second)])

    async def test_what_repeats_a_record_is_read_as_one(self, records: SqlRecords, account: str):
        first = AuditRecord(account, a_number(), NOW, *"qparasx", {"n": 1})
        again = AuditRepeat(account, a_number(), NOW + timedelta(seconds=1), "id", "203.0.113.7", first.id)
        await records.append(AuditRecord, [stored(first)])
        await records.append(AuditRepeat, [stored(again)])
        seen = replace(first, id=again.id, at=again.at, request_id="id", source="203.0.113.7")
        async with records.read() as tx:
            assert await tx.list(AuditRecord, account=account) == [first, seen]
            assert await tx.list(AuditRecord, account=account, after=(first.id,), limit=1) == [seen]
            assert await tx.list(AuditRecord, account=account, descending=True, limit=1) == [seen]
            assert await tx.get(AuditRecord, account=account, id=again.id) == seen

    async def test_nothing_is_read_of_what_another_account_decided(self, records: SqlRecords, account: str):
        theirs = AuditRecord(f"{account}-other", a_number(), NOW, *"qparasx", {"n": 1})
        await records.append(AuditRecord, [stored(theirs)])
        await records.append(AuditRepeat, [stored(AuditRepeat(account, a_number(), NOW, "id", "", theirs.id))])
        async with records.read() as tx:
            (seen,) = await tx.list(AuditRecord, account=account)
        assert (seen.request_id, seen.principal, seen.resource, seen.details) == ("id", None, None, None)

    @pytest.mark.parametrize("text", ["\0", "\ud800"])
    async def test_text_that_no_backend_keeps_is_not_written_as_a_row(self, account: str, text: str):
        with pytest.raises(errors.ValidationFailed):
            stored(AuditRecord(account, a_number(), NOW, text, *"parasx", {}))

    async def test_appending_waits_for_its_turn(self, records: SqlRecords, account: str):
        row = stored(AuditRecord(account, a_number(), NOW, *"qparasx", {}))
        async with records.write() as tx:
            await tx.create(Tag(account, "r", "k", "v"))
            appending = asyncio.create_task(records.append(AuditRecord, [row]))
            await asyncio.wait([appending], timeout=0.05)
        await appending

    # --- misuse and bad values

    @pytest.mark.parametrize("nobody", ["", None])
    async def test_a_lookup_without_an_account_does_not_run(self, records: SqlRecords, nobody: Any):
        async with records.read() as tx:
            with pytest.raises(TypeError):
                await tx.list(Tag, account=nobody)

    async def test_a_record_without_an_account_is_not_created(self, records: SqlRecords):
        async with records.write() as tx:
            with pytest.raises(TypeError):
                await tx.create(Tag("", "r", "k", "v"))

    @pytest.mark.parametrize(
        "key", [{}, {"resource": "r"}, {"resource": "r", "key": "k", "value": "v"}, {"resource": "r", "nothing": "k"}]
    )
    async def test_get_refuses_a_key_that_is_not_the_whole_key(self, records: SqlRecords, account: str, key: Any):
        async with records.read() as tx:
            with pytest.raises(TypeError):
                await tx.get(Tag, account=account, **key)

    @pytest.mark.parametrize("where", [{"nothing": 1}, {"configuration": {}}, {"account": "another"}])
    async def test_list_refuses_to_search_by_what_is_no_plain_column(
        self, records: SqlRecords, account: str, where: Any
    ):
        async with records.read() as tx:
            with pytest.raises(TypeError):
                await tx.list(AgentRuntimeVersion, account=account, where=where)

    @pytest.mark.parametrize("after", [(), ("r",), ("r", "k", "more")])
    async def test_list_refuses_a_place_of_another_length(self, records: SqlRecords, account: str, after: Any):
        async with records.read() as tx:
            with pytest.raises(TypeError):
                await tx.list(Tag, account=account, after=after)

    async def test_an_empty_page_cannot_be_asked_for(self, records: SqlRecords, account: str):
        async with records.read() as tx:
            with pytest.raises(ValueError):
                await tx.list(Tag, account=account, limit=0)

    async def test_delete_demands_to_know_which_records(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            with pytest.raises(TypeError):
                await tx.delete(Tag, account=account)

    async def test_a_class_without_a_table_is_no_record(self, records: SqlRecords, account: str):
        async with records.read() as tx:
            with pytest.raises(TypeError):
                await tx.list(datetime, account=account)

    async def test_a_record_without_a_revision_does_not_change(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            with pytest.raises(TypeError):
                await tx.update(Tag(account, "r", "k", "v"))

    @pytest.mark.parametrize("verb", ["create", "update", "delete"])
    async def test_a_reading_transaction_does_not_write(self, records: SqlRecords, account: str, verb: str):
        async with records.read() as tx:
            calls = {
                "create": lambda: tx.create(runtime(account)),
                "update": lambda: tx.update(runtime(account)),
                "delete": lambda: tx.delete(AgentRuntime, account=account, id="x"),
            }
            with pytest.raises(TypeError):
                await calls[verb]()

    async def test_a_time_without_a_zone_is_refused(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            with pytest.raises(TypeError):
                await tx.create(runtime(account, created_at=NOW.replace(tzinfo=None)))

    @pytest.mark.parametrize("text", ["a\0b", "\ud800"])
    async def test_text_that_cannot_be_kept_is_the_callers_mistake(self, records: SqlRecords, account: str, text: str):
        async with records.read() as tx:
            with pytest.raises(errors.ValidationFailed):
                await tx.get(WorkloadIdentity, account=account, name=text)

    async def test_a_document_without_json_form_is_refused(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            with pytest.raises(ValueError):
                await tx.create(AgentRuntimeVersion(account, "r", 1, {"x": float("nan")}, NOW))

    async def test_a_refused_value_leaves_the_transaction_in_use(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            with pytest.raises(TypeError):
                await tx.create(runtime(account, created_at=NOW.replace(tzinfo=None)), Tag(account, "r", "k", "v"))
            await tx.create(runtime(account))
        async with records.read() as tx:
            assert len(await tx.list(AgentRuntime, account=account)) == 1

    # --- what is written is read

    async def test_every_kind_of_record_comes_back_equal(self, records: SqlRecords, account: str):
        stored = one_of_each(account)
        async with records.write() as tx:
            await tx.create(*stored)
        async with records.read() as tx:
            assert [await tx.get(type(record), account=account, **key_of(record)) for record in stored] == stored

    async def test_every_kind_of_record_can_be_created_alone(self, records: SqlRecords, account: str):
        for number in range(len(KINDS)):
            record = one_of_each(f"{account}-{number}")[number]
            async with records.write() as tx:
                await tx.create(record)
            async with records.read() as tx:
                assert await tx.list(type(record), account=record.account) == [record]

    async def test_a_time_comes_back_as_the_same_moment_in_utc(self, records: SqlRecords, account: str):
        moment = NOW.astimezone(timezone(timedelta(hours=-7)))
        async with records.write() as tx:
            await tx.create(runtime(account, created_at=moment))
        async with records.read() as tx:
            (found,) = await tx.list(AgentRuntime, account=account)
        assert (found.created_at, found.created_at.tzinfo) == (moment, UTC)

    async def test_a_record_that_is_not_there_is_none(self, records: SqlRecords, account: str):
        async with records.read() as tx:
            assert await tx.get(AgentRuntime, account=account, id="x") is None

    async def test_an_exception_in_the_block_undoes_all_of_it(self, records: SqlRecords, account: str):
        with pytest.raises(LookupError):
            await self.write_and_fail(records, account)
        async with records.read() as tx:
            assert await tx.list(AgentRuntime, account=account) == []

    async def write_and_fail(self, records: SqlRecords, account: str) -> None:
        async with records.write() as tx:
            await tx.create(runtime(account), Tag(account, "r", "k", "v"))
            raise LookupError

    async def test_a_transaction_sees_its_own_writes(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account))
            assert await tx.get(AgentRuntime, account=account, id=runtime(account).id) == runtime(account)

    async def test_others_do_not_see_what_is_not_committed(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account))
            async with records.read() as other:
                assert await other.list(AgentRuntime, account=account) == []

    async def test_a_reading_transaction_keeps_seeing_one_state(self, records: SqlRecords, account: str):
        async with records.read() as tx:
            before = await tx.list(AgentRuntime, account=account)
            async with records.write() as other:
                await other.create(runtime(account))
            assert await tx.list(AgentRuntime, account=account) == before

    # --- create

    async def test_creating_a_taken_key_says_so(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account))
            with pytest.raises(AlreadyExists):
                await tx.create(runtime(account, name="another"))

    async def test_creating_a_taken_unique_value_says_so(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account))
            with pytest.raises(AlreadyExists):
                await tx.create(runtime(account, "another", name=runtime(account).name))

    async def test_of_records_that_cannot_all_be_created_none_is(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(Tag(account, "r", "taken", "v"))
            with pytest.raises(AlreadyExists):
                await tx.create(Tag(account, "r", "free", "v"), runtime(account), Tag(account, "r", "taken", "w"))
        async with records.read() as tx:
            found = await tx.list(Tag, account=account), await tx.list(AgentRuntime, account=account)
        assert found == ([Tag(account, "r", "taken", "v")], [])

    async def test_a_conflict_leaves_the_rest_of_the_transaction_alone(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(Tag(account, "r", "first", "v"))
            with pytest.raises(AlreadyExists):
                await tx.create(Tag(account, "r", "first", "w"))
            await tx.create(Tag(account, "r", "second", "v"))
        async with records.read() as tx:
            assert [tag.key for tag in await tx.list(Tag, account=account)] == ["first", "second"]

    async def test_of_racing_creators_one_wins(self, records: SqlRecords, account: str):
        async def create(value: str) -> bool:
            try:
                async with records.write() as tx:
                    await tx.create(Tag(account, "r", "k", value))
            except AlreadyExists:
                return False
            return True

        won = await asyncio.gather(*(create(str(number)) for number in range(12)))
        assert won.count(True) == 1

    # --- update

    async def test_an_update_returns_and_stores_the_next_revision(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account))
            updated = await tx.update(runtime(account, version=2))
        assert updated == runtime(account, version=2, revision=2)
        async with records.read() as tx:
            assert await tx.get(AgentRuntime, account=account, id=updated.id) == updated

    async def test_an_update_of_an_old_revision_is_stale_and_changes_nothing(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account))
            current = await tx.update(runtime(account, version=2))
            with pytest.raises(Stale):
                await tx.update(runtime(account, version=3))
        async with records.read() as tx:
            assert await tx.get(AgentRuntime, account=account, id=current.id) == current

    async def test_an_update_of_a_deleted_record_is_stale(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            with pytest.raises(Stale):
                await tx.update(runtime(account))

    async def test_an_update_does_not_take_the_name_of_another(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account, "one"), runtime(account, "two"))
            with pytest.raises(AlreadyExists):
                await tx.update(runtime(account, "two", name=runtime(account, "one").name))
            assert await tx.update(runtime(account, "two", version=9)) == runtime(account, "two", version=9, revision=2)

    async def test_of_racing_updates_none_is_lost(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(runtime(account))

        async def add_one() -> None:
            while True:
                async with records.read() as tx:
                    (found,) = await tx.list(AgentRuntime, account=account)
                try:
                    async with records.write() as tx:
                        await tx.update(replace(found, version=found.version + 1))
                except Stale:
                    continue
                return

        await asyncio.gather(*(add_one() for _ in range(8)))
        async with records.read() as tx:
            (found,) = await tx.list(AgentRuntime, account=account)
        assert (found.version, found.revision) == (9, 9)

    # --- list and delete

    async def test_pages_come_in_the_order_of_bytes_and_join_without_a_gap(self, records: SqlRecords, account: str):
        names = ["", "A", "B", "Z", "_", "a", "a-b", "a.b", "ab", "b", "z", "é", "ß", "\uffff", "𝄞"]
        async with records.write() as tx:
            await tx.create(*(Tag(account, resource, key, "v") for resource in ("r2", "r1") for key in reversed(names)))
        pages: list[list[Tag]] = []
        async with records.read() as tx:
            after = None
            while page := await tx.list(Tag, account=account, after=after, limit=4):
                pages.append(page)
                after = (page[-1].resource, page[-1].key)
        found = [(tag.resource, tag.key) for page in pages for tag in page]
        assert found == [(r, n) for r in ("r1", "r2") for n in sorted(names, key=str.encode)]

    async def test_descending_pages_go_the_other_way(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(*(AgentRuntimeVersion(account, "r", version, {}, NOW) for version in range(1, 13)))
        async with records.read() as tx:
            page = await tx.list(
                AgentRuntimeVersion,
                account=account,
                where={"runtime_id": "r"},
                after=("r", 11),
                limit=3,
                descending=True,
            )
        assert [version.version for version in page] == [10, 9, 8]

    async def test_list_finds_what_equals_every_named_column(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            for name, owner in (("a", "r1"), ("b", None), ("c", "r1")):
                await tx.create(WorkloadIdentity(account, name, (), owner, NOW, NOW))
        async with records.read() as tx:
            managed = await tx.list(WorkloadIdentity, account=account, where={"managed_by": "r1"})
            alone = await tx.list(WorkloadIdentity, account=account, where={"managed_by": None, "created_at": NOW})
        assert ([each.name for each in managed], [each.name for each in alone]) == (["a", "c"], ["b"])

    async def test_delete_says_how_many_records_it_found(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(*(Tag(account, resource, key, "v") for resource in ("r1", "r2") for key in ("a", "b")))
            deleted = (
                await tx.delete(Tag, account=account, resource="r1"),
                await tx.delete(Tag, account=account, key="x"),
            )
        async with records.read() as tx:
            left = [tag.resource for tag in await tx.list(Tag, account=account)]
        assert (deleted, left) == ((2, 0), ["r2", "r2"])

    # --- the store as a whole

    def test_every_kind_of_record_is_tried(self, account: str):
        assert {type(record) for record in one_of_each(account)} == set(KINDS)

    async def test_a_cancelled_writer_leaves_nothing_behind(self, records: SqlRecords, account: str):
        inside = asyncio.Event()

        async def write() -> None:
            async with records.write() as tx:
                await tx.create(runtime(account))
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(write())
        await inside.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with records.write() as tx:
            assert await tx.list(AgentRuntime, account=account) == []

    async def test_a_writer_that_is_cancelled_in_a_statement_leaves_no_lock_behind(
        self, records: SqlRecords, account: str
    ):
        async def read_in_a_writing_transaction() -> None:
            async with records.write() as tx:
                while True:
                    await tx.list(Tag, account=account)

        async with records.write() as tx:
            await tx.create(*(Tag(account, "r", f"{n:03}", "v" * 100) for n in range(300)))
        kept = []  # their tracebacks, and with them the cursors of the statements
        for turns in range(40):
            task = asyncio.create_task(read_in_a_writing_transaction())
            await asyncio.sleep(0.0003 * turns)
            task.cancel()
            kept += await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(10), records.write() as tx:
                await tx.delete(Tag, account=account, resource="another")
        assert len(kept) == 40

    async def test_a_cancelled_waiter_leaves_nothing_behind(self, records: SqlRecords, account: str):
        async with records.write() as tx:
            await tx.create(Tag(account, "r", "k", "v"))
            others = [asyncio.create_task(self.overwrite(records, account)) for _ in range(4)]
            await asyncio.wait(others, timeout=0.05)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        async with records.write() as tx:
            assert await tx.list(Tag, account=account) == [Tag(account, "r", "k", "v")]

    async def overwrite(self, records: SqlRecords, account: str) -> None:
        async with records.write() as tx:
            await tx.delete(Tag, account=account, resource="r", key="k")

    async def test_the_store_answers_a_ping(self, records: SqlRecords):
        assert await records.ping() is None

    async def test_two_accounts_never_see_each_others_rows(self, records: SqlRecords):
        # One loop, one store, many stories: hypothesis replays a story by its values alone, accounts are always new.
        stories = count()

        async def tell(steps: list[tuple[int, str, str, str]]) -> None:
            pair = [f"{uuid4().hex}-{next(stories)}" for _ in range(2)]
            known: list[dict[str, Tag]] = [{}, {}]
            for who, verb, key, value in steps:
                await self.step(records, pair[who], known[who], verb, key, value)
            async with records.read() as tx:
                for account, expected in zip(pair, known, strict=True):
                    assert await tx.list(Tag, account=account) == [expected[key] for key in sorted(expected)]

        await asyncio.to_thread(self.property_of(tell, asyncio.get_running_loop()))

    async def step(
        self, records: SqlRecords, account: str, known: dict[str, Tag], verb: str, key: str, value: str
    ) -> None:
        async with records.write() as tx:
            if verb == "create":
                try:
                    await tx.create(Tag(account, "r", key, value))
                except AlreadyExists:
                    assert key in known
                else:
                    assert key not in known
                    known[key] = Tag(account, "r", key, value)
            elif verb == "delete":
                assert await tx.delete(Tag, account=account, key=key) == (known.pop(key, None) is not None)
            else:
                assert await tx.get(Tag, account=account, resource="r", key=key) == known.get(key)

    @staticmethod
    def property_of(tell: Any, loop: asyncio.AbstractEventLoop) -> Any:
        verbs = st.sampled_from(["create", "create", "delete", "get"])
        steps = st.tuples(st.integers(0, 1), verbs, st.sampled_from("abc"), st.sampled_from("xy"))

        @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(steps, min_size=3, max_size=12))
        def holds(told: list[tuple[int, str, str, str]]) -> None:
            asyncio.run_coroutine_threadsafe(tell(told), loop).result(60)

        return holds
