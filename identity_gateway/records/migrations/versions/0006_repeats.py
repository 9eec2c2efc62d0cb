"""Decisions that are taken again: a record of what differs, and where the rest stands. Read as one trail.

`audit_record` is a view of both from now on. What a process of an earlier version still wants to add to it is refused,
and nothing is granted without it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite keeps a table by an INTEGER alone

VIEW = """
CREATE VIEW audit_record AS
SELECT account, id, at, request_id, principal, action, resource, decision, reason, source, details FROM audit_decision
UNION ALL
SELECT again.account, again.id, again.at, again.request_id, first.principal, first.action, first.resource,
    first.decision, first.reason, again.source, first.details
FROM audit_repeat AS again
LEFT JOIN audit_decision AS first ON first.id = again.repeats AND first.account = again.account
"""


def upgrade() -> None:
    """Give the table of records another name, and its own name to the view."""
    op.rename_table("audit_record", "audit_decision")
    if op.get_bind().dialect.name == "postgresql":  # where names of constraints belong to the whole schema
        op.execute("ALTER TABLE audit_decision RENAME CONSTRAINT pk_audit_record TO pk_audit_decision")
    op.create_table(
        "audit_repeat",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("id", NUMBER, nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("repeats", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_repeat"),
    )
    op.execute(VIEW)
