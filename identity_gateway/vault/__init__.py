"""The vault: what users granted, found by everything that a request must share with a consent, and kept sealed.

Whoever writes must have seen what is there: a rotation lands on the generation that it began with or not at all, and
the newest consent of a user wins over everything. No failure deletes a grant. This package asks no vendor anything,
does not decide when to refresh (`refresh` does), and does not audit.
"""

from identity_gateway.vault.endings import end_all
from identity_gateway.vault.holder import (
    PROVIDER_CHANGED,
    SUPERSEDED,
    Holder,
    consented_at,
    is_over,
    lookup_of,
    may_be_sent,
)
from identity_gateway.vault.story import Vault
from identity_gateway.vault.tokens import Envelope, Prepared, Tokens

__all__ = [
    "PROVIDER_CHANGED",
    "SUPERSEDED",
    "Envelope",
    "Holder",
    "Prepared",
    "Tokens",
    "Vault",
    "consented_at",
    "end_all",
    "is_over",
    "lookup_of",
    "may_be_sent",
]
