"""Records in a dictionary, for tests that decide themselves what happens at every step of a transaction.

One writer at a time, as SQLite has it. `Memory` is what several `InMemoryRecords` share.
"""

import asyncio
import json
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from identity_gateway.model import AuditRecord, AuditRepeat
from identity_gateway.records import AlreadyExists, Stale
from identity_gateway.records.changes import SHARED_LONGEST, Changes
from identity_gateway.records.tables import DIALECT, is_comparable, key_of, table_of, unique_of, values_of

Step = Callable[[str], Awaitable[None]]
Rows = dict[type[Any], dict[tuple[Any, ...], Any]]


async def give_way(step: str) -> None:
    await asyncio.sleep(0)


@dataclass
class Memory:
    """What is committed, and who may write. `watch` sees each record that a commit replaces, and what replaces it."""

    rows: Rows = field(default_factory=dict)
    writer: asyncio.Lock = field(default_factory=asyncio.Lock)
    watch: Callable[[Any, Any], None] = lambda before, after: None


class InMemoryRecords:
    """`Records` on a `Memory`. `step` is awaited before each verb, and before and after each commit."""

    def __init__(self, memory: Memory, step: Step = give_way) -> None:
        self._memory = memory
        self._step = step
        self.changes = Changes(None, longest=SHARED_LONGEST)

    @asynccontextmanager
    async def read(self) -> AsyncIterator["InMemoryTransaction"]:
        await self._step("records.begin")
        yield InMemoryTransaction(_copied(self._memory.rows), self._step, writable=False)

    @asynccontextmanager
    async def write(self) -> AsyncIterator["InMemoryTransaction"]:
        await self._step("records.begin_writing")
        async with self._memory.writer:
            transaction = InMemoryTransaction(_copied(self._memory.rows), self._step, writable=True)
            yield transaction
            await self._step("records.commit")
            for kind, rows in transaction.rows.items():
                before = self._memory.rows.get(kind, {})
                for key, after in rows.items():
                    if before.get(key) is not after:
                        self._memory.watch(before.get(key), after)
            self._memory.rows = transaction.rows
        await self._step("records.committed")

    async def current(self, kind: type[Any], /, *, account: str, **key: Any) -> Any:
        """Ask every time: there is no memory but the one."""
        async with self.read() as transaction:
            if key.keys() == set(unique_of(kind)):
                return next(iter(await transaction.list(kind, account=account, where=key, limit=1)), None)
            return await transaction.get(kind, account=account, **key)

    def current_at_once(self, kind: type[Any], /, *, account: str, **key: Any) -> None:
        """Know nothing without being asked."""
        del kind, account, key

    def write_at_once(self, kind: type[Any], rows: Sequence[tuple[Any, ...]]) -> bool:
        del kind, rows
        return False

    async def flush(self) -> None:
        pass

    async def append(self, kind: type[Any], rows: Sequence[tuple[Any, ...]], *, durable: bool = True) -> None:
        del durable
        async with self.write() as transaction:
            await transaction.create(*(_record(kind, row) for row in rows))

    async def ping(self) -> None:
        await self._step("records.ping")

    async def close(self) -> None:
        pass


def _record(kind: type[Any], row: tuple[Any, ...]) -> Any:
    """Return the record that was stored as this row."""
    columns = table_of(kind).columns
    read = [column.type.dialect_impl(DIALECT).result_processor(DIALECT, None) for column in columns]
    return kind(*(value if process is None else process(value) for process, value in zip(read, row, strict=True)))


class InMemoryTransaction:
    """`Transaction` on a copy of everything."""

    def __init__(self, rows: Rows, step: Step, *, writable: bool) -> None:
        self.rows = rows
        self._step = step
        self._writable = writable

    async def get(self, kind: type[Any], /, *, account: str, **key: Any) -> Any:
        names = key_of(kind)
        if key.keys() != set(names[1:]):
            raise TypeError(f"the key of {kind.__name__} is {names}")
        _check_search(kind, account, key)
        await self._step("records.get")
        return self._read(kind).get((account, *(key[name] for name in names[1:])))

    async def list(
        self,
        kind: type[Any],
        *,
        account: str,
        where: Mapping[str, Any] | None = None,
        after: tuple[Any, ...] | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> list[Any]:
        where = where or {}
        _check_search(kind, account, where)
        names = key_of(kind)[1:]
        if after is not None and len(after) != len(names):
            raise TypeError(f"a page of {kind.__name__} begins after {names}")
        if limit is not None and limit < 1:
            raise ValueError("a page holds at least one record")
        await self._step("records.list")

        def place(values: Any) -> tuple[Any, ...]:
            return tuple(value.encode() if isinstance(value, str) else value for value in values)

        found = [(place(key[1:]), row) for key, row in self._read(kind).items() if key[0] == account]
        found = [(key, row) for key, row in found if all(getattr(row, name) == value for name, value in where.items())]
        if after is not None:
            found = [(key, row) for key, row in found if (key < place(after) if descending else key > place(after))]
        found.sort(key=lambda each: each[0], reverse=descending)
        return [row for _, row in found][:limit]

    async def create(self, *records: Any) -> None:
        self._demand_writable()
        kept = [_kept(record) for record in records]
        await self._step("records.create")
        saved = _copied(self.rows)
        for record in kept:
            if any(_clash(record, other) for other in self.rows.get(type(record), {}).values()):
                self.rows.clear()
                self.rows.update(saved)
                raise AlreadyExists
            self.rows.setdefault(type(record), {})[_key(record)] = record

    async def update(self, record: Any) -> Any:
        self._demand_writable()
        if not hasattr(record, "revision"):
            raise TypeError(f"{type(record).__name__} has no revision: it does not change")
        kept = _kept(replace(record, revision=record.revision + 1))
        await self._step("records.update")
        rows = self.rows.get(type(record), {})
        found = rows.get(_key(kept))
        if found is None or found.revision != record.revision:
            raise Stale
        if any(_key(other) != _key(kept) and _clash(kept, other) for other in rows.values()):
            raise AlreadyExists
        rows[_key(kept)] = kept
        return replace(record, revision=record.revision + 1)

    async def delete(self, kind: type[Any], /, *, account: str, **where: Any) -> int:
        self._demand_writable()
        if not where:
            raise TypeError("delete wants to know which records")
        _check_search(kind, account, where)
        await self._step("records.delete")
        rows = self.rows.get(kind, {})
        gone = [
            key
            for key, row in rows.items()
            if key[0] == account and all(getattr(row, name) == value for name, value in where.items())
        ]
        for key in gone:
            del rows[key]
        return len(gone)

    def _read(self, kind: type[Any]) -> dict[tuple[Any, ...], Any]:
        """Return what the source of a kind shows (`records.tables.source_of`): of decisions also the repeated ones."""
        rows = self.rows.get(kind, {})
        if kind is not AuditRecord:
            return rows
        again = self.rows.get(AuditRepeat, {})
        return rows | {key: _seen(repeat, rows.get((repeat.account, repeat.repeats))) for key, repeat in again.items()}

    def _demand_writable(self) -> None:
        if not self._writable:
            raise TypeError("this transaction only reads")


def _seen(repeat: AuditRepeat, first: AuditRecord | None) -> AuditRecord:
    shown = first or AuditRecord(repeat.account, 0, repeat.at, "", *typing.cast("Any", (None,) * 5), "", None)
    return replace(shown, id=repeat.id, at=repeat.at, request_id=repeat.request_id, source=repeat.source)


def _copied(rows: Rows) -> Rows:
    return {kind: dict(each) for kind, each in rows.items()}


def _kept(record: Any) -> Any:
    """Return the record as a database gives it back. Raises what a column raises for a value that it refuses."""
    _demand_account(record.account)
    table = table_of(type(record))
    return type(record)(*(_column_value(table.c[name], value) for name, value in values_of(record).items()))


def _column_value(column: sa.Column[Any], value: Any) -> Any:
    kind: Any = column.type
    if isinstance(kind, sa.types.TypeDecorator):
        return (
            kind.process_result_value(kind.process_bind_param(value, None), None)
            if _converts(kind)
            else _bound(kind, value)
        )
    if isinstance(kind, sa.JSON) and value is not None:
        return json.loads(json.dumps(value, allow_nan=False))
    return value


def _converts(kind: Any) -> bool:
    return "process_result_value" in type(kind).__dict__


def _bound(kind: Any, value: Any) -> Any:
    return kind.process_bind_param(value, None)


def _check_search(kind: type[Any], account: str, where: Mapping[str, Any]) -> None:
    _demand_account(account)
    table = table_of(kind)
    for name, value in where.items():
        column = table.c.get(name)
        if name == "account" or column is None or not is_comparable(column):
            raise TypeError(f"{table.name} cannot be searched by {name!r}")
        _column_value(column, value)


def _demand_account(account: Any) -> None:
    if not isinstance(account, str) or not account:
        raise TypeError("every record belongs to an account: name it")


def _key(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in key_of(type(record)))


def _clash(one: Any, other: Any) -> bool:
    table = table_of(type(one))
    unique = [rule for rule in table.constraints if isinstance(rule, sa.UniqueConstraint | sa.PrimaryKeyConstraint)]
    return any(all(getattr(one, c.name) == getattr(other, c.name) for c in rule.columns) for rule in unique)
