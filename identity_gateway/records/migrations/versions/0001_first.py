"""The first tables.

Types are written out here on purpose: what a change does must not move when the tables of today do.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()  # microseconds since the epoch
COUNT = sa.BigInteger()


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=nullable)


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, TIME, nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, COUNT, nullable=False, autoincrement=False)


def _json(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=nullable)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Create the tables of runtimes, identities, access keys, tags, idempotency, audit and key checks."""
    _create_runtimes()
    _create_identities()
    _create_bookkeeping()


def _create_runtimes() -> None:
    op.create_table(
        "agent_runtime",
        *(_text("account"), _text("id"), _text("name"), _count("version")),
        *(_time("created_at"), _time("updated_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "id", name="pk_agent_runtime"),
        sa.UniqueConstraint("account", "name", name="uq_agent_runtime_account_name"),
    )
    op.create_table(
        "agent_runtime_version",
        *(_text("account"), _text("runtime_id"), _count("version"), _json("configuration"), _time("created_at")),
        sa.PrimaryKeyConstraint("account", "runtime_id", "version", name="pk_agent_runtime_version"),
    )
    op.create_table(
        "agent_runtime_endpoint",
        *(_text("account"), _text("runtime_id"), _text("name"), _text("id"), _count("version")),
        *(_text("description", nullable=True), _time("created_at"), _time("updated_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "runtime_id", "name", name="pk_agent_runtime_endpoint"),
    )


def _create_identities() -> None:
    op.create_table(
        "workload_identity",
        *(_text("account"), _text("name"), _json("return_urls"), _text("managed_by", nullable=True)),
        *(_time("created_at"), _time("updated_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "name", name="pk_workload_identity"),
    )
    op.create_index("ix_workload_identity_account_managed_by", "workload_identity", ["account", "managed_by"])
    op.create_table(
        "access_key",
        *(_text("account"), _text("id"), _text("name"), _bytes("sealed_secret")),
        *(sa.Column("admin", sa.Boolean(), nullable=False), _json("policy", nullable=True), _time("created_at")),
        sa.PrimaryKeyConstraint("account", "id", name="pk_access_key"),
        sa.UniqueConstraint("account", "name", name="uq_access_key_account_name"),
    )


def _create_bookkeeping() -> None:
    op.create_table(
        "tag",
        *(_text("account"), _text("resource"), _text("key"), _text("value")),
        sa.PrimaryKeyConstraint("account", "resource", "key", name="pk_tag"),
    )
    op.create_table(
        "idempotent_result",
        *(_text("account"), _text("operation"), _text("token"), _bytes("digest"), _json("result"), _time("created_at")),
        sa.PrimaryKeyConstraint("account", "operation", "token", name="pk_idempotent_result"),
    )
    op.create_table(
        "audit_record",
        *(_text("account"), _text("id"), _time("at"), _text("request_id"), _text("principal"), _text("action")),
        *(_text("resource"), _text("decision"), _text("reason"), _text("source"), _json("details")),
        sa.PrimaryKeyConstraint("account", "id", name="pk_audit_record"),
    )
    op.create_index("ix_audit_record_account_at", "audit_record", ["account", "at"])
    op.create_table(
        "key_check",
        *(_text("account"), _text("name"), _bytes("sealed")),
        sa.PrimaryKeyConstraint("account", "name", name="pk_key_check"),
    )


def downgrade() -> None:
    """Refuse: going back would delete what people registered. Restore a backup instead."""
    raise RuntimeError("this change is not taken back: restore a backup")
