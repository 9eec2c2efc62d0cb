"""The audit trail in the order of its numbers, without an index beside it: a record is written to one place only.

Records get numbers in place of their texts, in the same order. What a process of an earlier version still wants to add
does not fit any more, and nothing is granted without it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite keeps a table by an INTEGER alone

_COPIED = "account, at, request_id, principal, action, resource, decision, reason, source, details"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def upgrade() -> None:
    """Copy the records into a table of the new shape."""
    op.rename_table("audit_record", "audit_record_before")
    if op.get_bind().dialect.name == "postgresql":  # where the names of constraints belong to the whole schema
        op.drop_constraint("pk_audit_record", "audit_record_before")
    op.create_table(
        "audit_record",
        _text("account"),
        sa.Column("id", NUMBER, nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *map(_text, ("request_id", "principal", "action", "resource", "decision", "reason", "source")),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_record"),
    )
    op.execute(
        f"INSERT INTO audit_record (id, {_COPIED})"  # noqa: S608 - constants
        f" SELECT row_number() OVER (ORDER BY id, account), {_COPIED} FROM audit_record_before"
    )
    op.drop_table("audit_record_before")
