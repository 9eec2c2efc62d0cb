"""The tables: one for each kind of record, derived from its dataclass, so that the two cannot disagree.

Declares keys, unique values and indexes, and how a value of a field becomes a value of a column. It does not create
anything: the migrations do, and a test compares them with these tables.
"""

import dataclasses
import types
import typing
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeDecorator, TypeEngine

from identity_gateway import errors
from identity_gateway.model import (
    AccessKey,
    AgentRuntime,
    AgentRuntimeEndpoint,
    AgentRuntimeVersion,
    AuditRecord,
    AuditRepeat,
    CredentialProvider,
    Document,
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
from identity_gateway.records.connect import to_json

DIALECT = sqlite.dialect(json_serializer=to_json)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    },
)


class PlainText(TypeDecorator[str]):
    """Text that sorts by its bytes on every backend, so that pages come in one order everywhere.

    Refuses what only one of the backends would store: NUL and lone surrogates.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Ask PostgreSQL for byte order; SQLite compares bytes anyway."""
        return sa.Text(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the base class's signature
        """Return the text itself. Raises ValidationFailed when it cannot be stored, TypeError when it is no text."""
        if value is None:
            return None
        if not isinstance(value, str):
            raise TypeError(f"a text column was given {type(value).__name__}")
        if "\0" in value or not (value.isascii() or _is_unicode(value)):
            raise errors.ValidationFailed("Text must be valid Unicode without NUL characters.")
        return value


class Instant(TypeDecorator[datetime]):
    """A point in time, kept as whole microseconds since the epoch: it compares, sorts and returns alike everywhere."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - the base class's signature
        """Return microseconds. A time without a zone is a TypeError: nobody knows when it is."""
        if value is None:
            return None
        if not isinstance(value, datetime) or value.utcoffset() is None:
            raise TypeError("a time column wants a datetime with a time zone")
        return (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the base class's signature
        """Return the time in UTC."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


class TextList(TypeDecorator[tuple[str, ...]]):
    """A tuple of texts, kept as a JSON array."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> list[str] | None:  # noqa: ARG002 - the base class's signature
        """Return the list that becomes the array."""
        return None if value is None else list(value)

    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> tuple[str, ...] | None:  # noqa: ARG002 - the base class's signature
        """Return the tuple again: records are hashable and do not change."""
        return None if value is None else tuple(value)


_COLUMN_TYPES: dict[Any, TypeEngine[Any]] = {
    str: PlainText(),
    int: sa.BigInteger(),
    bool: sa.Boolean(),
    bytes: sa.LargeBinary(),
    datetime: Instant(),
    tuple[str, ...]: TextList(),
    Document: sa.JSON(none_as_null=True),
}

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A number that is the whole key. SQLite keeps its table in this order, without an index, if it is an INTEGER."""


def table_of(kind: type[Any]) -> sa.Table:
    """Return the table of a kind of record. Anything else is a TypeError."""
    table = _TABLES.get(kind)
    if table is None:
        raise TypeError(f"{kind.__name__} is not a record")
    return table


def source_of(kind: type[Any]) -> sa.FromClause:
    """Return where records of a kind are read: their table, or a view that tells more of the same shape."""
    table = table_of(kind)
    return _VIEWS.get(kind, table)


def key_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the primary key, `account` first: the order in which lists and pages come."""
    table_of(kind)
    return _KEYS[kind]


def unique_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the columns that no two records of an account share, behind the account; none for most."""
    table_of(kind)
    return _UNIQUE[kind]


def columns_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the columns, which are those of the fields, in the order of the fields."""
    table_of(kind)
    return _COLUMNS[kind]


def values_of(record: Any) -> dict[str, Any]:
    """Return the values of a record by column."""
    return {name: getattr(record, name) for name in columns_of(type(record))}


def stored(record: Any) -> tuple[Any, ...]:
    """Return the values of a record as the database keeps them, in the order of the columns.

    For records of text, numbers, times and documents. Raises ValidationFailed for text that cannot be kept.
    """
    return tuple(
        value if process is None else process(value)
        for process, value in zip(_BINDINGS[type(record)], values_of(record).values(), strict=True)
    )


def is_comparable(column: sa.ColumnElement[Any]) -> bool:
    """Say whether equality means something in this column. JSON has none on PostgreSQL."""
    return not isinstance(column.type, sa.JSON | TextList)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _column(field: dataclasses.Field[Any]) -> sa.Column[Any]:
    wanted: Any = field.type
    nullable = isinstance(wanted, types.UnionType)
    if nullable:
        (wanted,) = (each for each in typing.get_args(wanted) if each is not types.NoneType)
    return sa.Column(field.name, _COLUMN_TYPES[wanted], nullable=nullable, autoincrement=False)


def _declare(
    kind: type[Any],
    name: str,
    *,
    key: Sequence[str],
    unique: Sequence[str] = (),
    indexes: Sequence[Sequence[str]] = (),
) -> sa.Table:
    rules: list[SchemaItem] = [sa.PrimaryKeyConstraint(*key)]
    if unique:
        rules.append(sa.UniqueConstraint(*unique))
    rules += [sa.Index(None, *columns) for columns in indexes]
    columns = [_column(field) for field in dataclasses.fields(kind)]
    if key == ("id",):
        columns[1].type = _NUMBER
    return sa.Table(name, METADATA, *columns, *rules)


_TABLES: dict[type[Any], sa.Table] = {
    AgentRuntime: _declare(AgentRuntime, "agent_runtime", key=("account", "id"), unique=("account", "name")),
    AgentRuntimeVersion: _declare(
        AgentRuntimeVersion, "agent_runtime_version", key=("account", "runtime_id", "version")
    ),
    AgentRuntimeEndpoint: _declare(
        AgentRuntimeEndpoint, "agent_runtime_endpoint", key=("account", "runtime_id", "name")
    ),
    WorkloadIdentity: _declare(
        WorkloadIdentity, "workload_identity", key=("account", "name"), indexes=[("account", "managed_by")]
    ),
    AccessKey: _declare(AccessKey, "access_key", key=("account", "id"), unique=("account", "name")),
    Tag: _declare(Tag, "tag", key=("account", "resource", "key")),
    IdempotentResult: _declare(IdempotentResult, "idempotent_result", key=("account", "operation", "token")),
    AuditRecord: _declare(AuditRecord, "audit_decision", key=("id",)),
    AuditRepeat: _declare(AuditRepeat, "audit_repeat", key=("id",)),
    KeyCheck: _declare(KeyCheck, "key_check", key=("account", "name")),
    CredentialProvider: _declare(
        CredentialProvider, "credential_provider", key=("account", "kind", "name"), unique=("account", "id")
    ),
    Grant: _declare(
        Grant,
        "grant_",  # GRANT is a word of SQL
        key=("account", "id"),
        unique=("account", "lookup"),
        indexes=[
            ("account", "user", "id"),
            ("account", "workload", "id"),
            ("account", "provider_id", "id"),
            ("account", "provider_id", "vendor_account", "vendor_subject"),
        ],
    ),
    TokenVault: _declare(TokenVault, "token_vault", key=("account", "id")),
    Role: _declare(Role, "role", key=("account", "name")),
    ResourcePolicy: _declare(ResourcePolicy, "resource_policy", key=("account", "resource")),
    SigningKey: _declare(SigningKey, "signing_key", key=("account", "id")),
}

_VIEWS: dict[type[Any], sa.FromClause] = {
    AuditRecord: sa.table(
        "audit_record", *[sa.column(column.name, column.type) for column in _TABLES[AuditRecord].columns]
    ),
}
"""What is read in place of a table, where a migration has made a view."""

_KEYS = {
    kind: ("account", *(column.name for column in table.primary_key if column.name != "account"))
    for kind, table in _TABLES.items()
}
_COLUMNS = {kind: tuple(column.name for column in table.columns) for kind, table in _TABLES.items()}

_UNIQUE = {
    kind: tuple(
        column.name
        for rule in table.constraints
        if isinstance(rule, sa.UniqueConstraint)
        for column in rule.columns
        if column.name != "account"
    )
    for kind, table in _TABLES.items()
}

_BINDINGS = {
    kind: [
        column.type.dialect_impl(DIALECT).bind_processor(DIALECT)
        for column in table.columns
        if not isinstance(column.type, sa.LargeBinary)
    ]
    for kind, table in _TABLES.items()
}

KINDS = tuple(_TABLES)
"""Every kind of record."""
