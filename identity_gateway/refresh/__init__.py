"""Refresh: a grant that is asked for is handed out alive, and its refresh token is never burned twice.

One row and one writer for each grant. Callers of one process share one flight; replicas share a lease, which saves
calls but guards nothing; what guards is the row: a refresh token is sent only after the intent was written with
compare-and-set, and what came of it lands on the generation that it began with or not at all. An answer is written to
the ephemeral store before the database, so that either may fail. An answer that never came is remembered, and what
happens then is the vendor's policy (`RefreshPolicy`). A refusal kills a grant only when nobody else can have won.

    fresh      engine.py    one flight for each grant: lease, re-read, decide, wait
    decide     decision.py  what to do with a grant as it stands now: a function of values
    attempt    attempt.py   intent, the call, and what each kind of answer does to the grant
    land       landing.py   where an answer is kept: spilled, stored, or in memory until one of the two works again
    breaker    breaker.py   when too many grants of one client die at once, the vendor is wrong, not the users

This package speaks to no vendor itself (`authorization_server` does), keeps no grant (`vault` does) and audits nothing.
"""

from identity_gateway.refresh.answers import AdminNeeded, ConsentNeeded, Fresh, Misconfigured, RetryLater, Usable
from identity_gateway.refresh.engine import Refreshing

__all__ = ["AdminNeeded", "ConsentNeeded", "Fresh", "Misconfigured", "Refreshing", "RetryLater", "Usable"]
