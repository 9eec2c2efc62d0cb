"""The front door's own: keys that end, roles, policies of resources, and the keys that sign JWTs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()  # microseconds since the epoch


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, TIME, nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False)


def upgrade() -> None:
    """Add the columns and create the tables."""
    op.add_column("access_key", _time("disabled_at", nullable=True))
    op.add_column("access_key", _time("expires_at", nullable=True))
    op.create_table(
        "role",
        *(_text("account"), _text("name"), _json("policy"), _json("trust"), _count("max_session_seconds")),
        *(_time("created_at"), _time("updated_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "name", name="pk_role"),
    )
    op.create_table(
        "resource_policy",
        *(_text("account"), _text("resource"), _json("document")),
        *(_time("created_at"), _time("updated_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "resource", name="pk_resource_policy"),
    )
    op.create_table(
        "signing_key",
        *(_text("account"), _text("id"), _text("algorithm")),
        *(sa.Column("sealed_private", sa.LargeBinary(), nullable=False), _json("public")),
        *(_time("created_at"), _time("retired_at", nullable=True)),
        sa.PrimaryKeyConstraint("account", "id", name="pk_signing_key"),
    )
