"""Credentials that are handed out again and again: what was found out about one call serves the next one that is alike.

Alike is the same operation asked with the same bytes under the same key. It rests on records that are watched, on the
end of what was shown and of what is given, and on nothing else: calls that policies look at more closely are not
remembered. No credential is kept here: each is opened anew, from what is sealed. Who calls is proven elsewhere, each
time, and nothing is decided or recorded here.
"""

from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from time import monotonic

import structlog

from identity_gateway.admission import Kept
from identity_gateway.audit import Entry
from identity_gateway.model import IamPrincipal

_REMEMBERED = 10_000
"""Calls that are remembered, at most."""

_log = structlog.get_logger()


class Known:
    """A call that is remembered: whose it was, what goes on record when it comes again, and how it is answered."""

    __slots__ = (
        "_clock",
        "_reveal",
        "_start",
        "_until",
        "_watches",
        "aged_at",
        "operation",
        "principal",
        "renewed",
        "trail",
    )

    def __init__(
        self, principal: IamPrincipal, operation: str, trail: Entry, kept: Kept, clock: Callable[[], float]
    ) -> None:
        self.principal = principal
        self.operation = operation
        self.trail = trail
        self.aged_at = min(watch.aged_at for watch in kept.watches)
        self.renewed = False
        self._reveal = kept.reveal
        self._until = kept.until
        self._watches = kept.watches
        self._clock = clock
        self._start = b"{%b:" % quoted(kept.member).encode()

    def __repr__(self) -> str:
        return f"Known({self.operation!r}, {self.principal.arn!r})"

    def holds(self, now: float | None = None) -> bool:
        """Say whether nothing has changed on which this rests. `now` is as `Watch.holds` takes it."""
        if self._clock() >= self._until:
            return False
        moment = monotonic() if now is None else now
        for watch in self._watches:  # noqa: SIM110 - a generator costs more than what it goes through
            if not watch.holds(moment):
                return False
        return True

    def answer(self) -> bytes | None:
        """Return the body of the answer, or None: then the call takes the long way. Have it recorded before it leaves.

        Does not look whether this still holds.
        """
        try:
            secret = self._reveal()
        except Exception as error:  # noqa: BLE001 - the long way says what is wrong
            _log.error("what was kept does not open", fault=error.__class__.__name__)
            return None
        return None if secret is None else b"%b%b}" % (self._start, quoted(secret.reveal()).encode())


class RepeatedVends:
    """What this process remembers of calls that were given a credential."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[bytes, str, str], Known] = {}

    def find(self, target: bytes, key_id: str, body_sha256: str, now: float | None = None) -> Known | None:
        """Return what is known of a POST to this target (path and query, as they stand) if all of it holds.

        `body_sha256` is hexadecimal. Not checked: that the caller has the key, and is the `principal` that it was.
        From time to time one call is told that nothing is known, so that it finds out anew what is about to age.
        """
        known = self._known.get((target, key_id, body_sha256))
        if known is None:
            return None
        moment = monotonic() if now is None else now
        if moment >= known.aged_at and not known.renewed:
            known.renewed = True  # this call asks: were it all of them, they would crowd the long way
            return None
        if known.holds(moment):
            return known
        self._known.pop((target, key_id, body_sha256), None)
        return None

    def remember(
        self,
        target: bytes,
        body_sha256: str,
        principal: IamPrincipal,
        operation: str,
        trail: Entry,
        kept: Kept,
    ) -> None:
        """Remember a call that was given a credential and is on record (`trail`), if it can be.

        Only where no policy that was asked looks at more than caller, action and resource.
        """
        if not kept.watches:
            return
        where = (target, principal.access_key_id, body_sha256)
        self._known.pop(where, None)
        self._known[where] = Known(principal, operation, trail, kept, self._clock)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
