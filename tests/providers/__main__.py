"""Prints which vendor can do what, as Markdown: `python -m tests.providers`."""

from tests.providers.table import table

if __name__ == "__main__":
    print(table())
