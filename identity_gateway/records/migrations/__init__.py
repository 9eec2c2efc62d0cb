"""Changes of the schema, in order. `env.py` is how Alembic runs them, `versions/` holds one module for each."""
