"""Keep one record of each decision: who asked, for what, on which resource, what was decided and why.

`decisions` says what is kept and for how long, `trail` writes it. Nothing is decided here, and no record holds a
credential.
"""

from identity_gateway.audit.decisions import (
    ALLOWED,
    DENIED,
    STRANGERS_KEPT,
    STRANGERS_PER,
    UNKNOWN,
    Audit,
    Decided,
)
from identity_gateway.audit.trail import Entry, Told

__all__ = [
    "ALLOWED",
    "DENIED",
    "STRANGERS_KEPT",
    "STRANGERS_PER",
    "UNKNOWN",
    "Audit",
    "Decided",
    "Entry",
    "Told",
]
