"""The tables of the token vault: credential providers, grants, and the key of each vault."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()  # microseconds since the epoch
COUNT = sa.BigInteger()


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, TIME, nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, COUNT, nullable=False, autoincrement=False)


def _json(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=nullable)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Create the tables of the token vault."""
    op.create_table(
        "credential_provider",
        *(_text("account"), _text("kind"), _text("name"), _text("id"), _text("vendor")),
        *(_json("configuration"), _json("settings"), _text("secret_source"), _json("external", nullable=True)),
        *(_bytes("sealed_secrets"), _time("created_at"), _time("updated_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "kind", "name", name="pk_credential_provider"),
        sa.UniqueConstraint("account", "id", name="uq_credential_provider_account_id"),
    )
    _create_grants()
    op.create_table(
        "token_vault",
        *(_text("account"), _text("id"), _text("key_type"), _text("kms_key_arn", nullable=True)),
        *(_time("modified_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "id", name="pk_token_vault"),
    )


def _create_grants() -> None:
    op.create_table(
        "grant_",
        *(_text("account"), _text("id"), _text("lookup"), _text("workload"), _text("user"), _text("provider")),
        *(_text("provider_id"), _text("part"), _json("scopes"), _json("granted_scopes"), _json("request")),
        *(_text("state"), _text("reason"), _text("vendor_account"), _text("vendor_subject"), _text("label")),
        *(_count("generation"), _time("expires_at", nullable=True), _time("refresh_expires_at", nullable=True)),
        *(_bytes("sealed"), _text("refresh_digest"), _text("intent_owner", nullable=True)),
        *(_time("intent_at", nullable=True), _text("intent_digest", nullable=True)),
        *(_count("failures"), _time("retry_at", nullable=True)),
        *(_time("obtained_at"), _time("created_at"), _time("updated_at"), _count("revision")),
        sa.PrimaryKeyConstraint("account", "id", name="pk_grant_"),
        sa.UniqueConstraint("account", "lookup", name="uq_grant__account_lookup"),
    )
    op.create_index("ix_grant__account_user_id", "grant_", ["account", "user", "id"])
    op.create_index("ix_grant__account_workload_id", "grant_", ["account", "workload", "id"])
    op.create_index("ix_grant__account_provider_id_id", "grant_", ["account", "provider_id", "id"])
    op.create_index(
        "ix_grant__account_provider_id_vendor_account_vendor_subject",
        "grant_",
        ["account", "provider_id", "vendor_account", "vendor_subject"],
    )


def downgrade() -> None:
    """Refuse: going back would delete what people granted. Restore a backup instead."""
    raise RuntimeError("this change is not taken back: restore a backup")
