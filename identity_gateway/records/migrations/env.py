"""How Alembic runs the changes: on the connection, and inside the transaction, that `records.schema` gives it.

It opens nothing itself, so that no change runs without the lock.
"""

from alembic import context

from identity_gateway.records.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite changes a table by copying it.
    render_as_batch=True,
)
context.run_migrations()
