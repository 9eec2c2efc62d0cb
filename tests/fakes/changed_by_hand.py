"""Tells gateways that somebody has changed their SQLite database by hand. Without it they would notice after ten seconds."""

import os
from pathlib import Path


def changed_by_hand(database: Path) -> None:
    """Mark every record of the database as changed. The file is written in place: gateways have it mapped."""
    with Path(f"{database}-changes").open("r+b") as marks:
        marks.write(os.urandom(os.fstat(marks.fileno()).st_size))
