"""The audit trail without a second index by time: ids sort by time already, and every row is written to each index."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_audit_record_account_at", table_name="audit_record")
