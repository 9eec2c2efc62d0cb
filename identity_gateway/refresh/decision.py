"""What to do with a grant as it stands: a function of the row, the vendor's policy and the time.

Reads no clock and writes nothing.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from identity_gateway.model import Grant, GrantState
from identity_gateway.protocol.descriptor import RefreshPolicy

CALL_SECONDS = 15.0
"""How long one call to a vendor may take. The way out to the network must not wait longer."""

LEASE_SECONDS = 45.0
"""Longer than a call and the writes around it. A refresh that is older has lost its process."""

FORCED_EVERY = 30.0
"""Seconds in which a token that a caller saw rejected is not refreshed again: vendors need time to spread a token."""

_ALIVE = 5.0
_SHORTEST = 30.0
_LATE = 120.0
_FAMILY_REST = 120.0
_SURE_OF_LEEWAY = 0.9
_FIRST_BACK_OFF = 5.0
_LAST_BACK_OFF = 15 * 60.0


class Step(Enum):
    """What comes next. LATER means: nothing before `Decision.until`. OVER: no refresh can help."""

    USE = "use"
    WAIT = "wait"
    CALL = "call"
    LATER = "later"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step.

    `trusted`: the old access token may be handed out meanwhile. `abandoned`: a refresh under way lost its process, so
    that its lease counts for nothing.
    """

    step: Step
    trusted: bool
    abandoned: bool = False
    until: float = 0.0


def decide(
    grant: Grant,
    policy: RefreshPolicy,
    *,
    refreshable: bool,
    forced: bool,
    owner: str,
    now: float,
    jitter: float,
) -> Decision:
    """Return the next step for an active grant, or for one that waits for an administrator.

    `refreshable`: there is something to refresh with. `forced`: the vendor rejected this very access token. `owner` is
    who asks; its own unfinished refresh is one that failed. `jitter` from 0 to 1 spreads the beginnings of refreshes.
    """
    sent = grant.intent_digest is not None
    under_way = sent and grant.intent_owner not in {None, owner} and now < _abandoned_at(grant, policy)
    abandoned = sent and grant.intent_owner is not None and not under_way
    in_leeway = sent and now < _seconds(grant.intent_at) + policy.leeway * _SURE_OF_LEEWAY
    alive = grant.state == GrantState.ACTIVE and is_alive(grant, now) and not forced
    trusted = alive and not (policy.kills_old_access and sent)

    def then(step: Step, until: float = 0.0) -> Decision:
        return Decision(step, trusted, abandoned, until)

    if under_way:
        return then(Step.USE if trusted else Step.WAIT)
    if alive and not is_due(grant, policy, now, jitter) and not in_leeway and trusted:
        return then(Step.USE)
    if not refreshable:
        return then(Step.USE if alive else Step.OVER)
    rest = _rest(grant, policy, forced=forced, sent=sent, in_leeway=in_leeway)
    if now < rest:
        return then(Step.USE if trusted else Step.LATER, rest)
    if trusted and sent and policy.single_use and not in_leeway:
        return then(Step.USE)  # the refresh token may be spent, this one is good: what is left of it is used
    return then(Step.CALL)


def is_alive(grant: Grant, now: float) -> bool:
    """Whether the access token has not ended yet, with a little time left to use it."""
    expires = _expires(grant)
    return expires is None or now + _ALIVE < expires


def is_due(grant: Grant, policy: RefreshPolicy, now: float, jitter: float) -> bool:
    """Whether a refresh should begin: near the end of the access token, or to keep an idle grant alive."""
    obtained = grant.obtained_at.timestamp()
    if policy.keepalive is not None and now >= obtained + policy.keepalive:
        return True
    expires = _expires(grant)
    if expires is None:
        return False
    return now >= expires - margin(expires - obtained, policy) * (0.8 + 0.2 * jitter)


def untouched_until(grant: Grant, policy: RefreshPolicy) -> float:
    """Return until when (seconds since the epoch) `decide` only uses the access token, whatever chance says.

    Minus infinity where more is to be done, or was begun.
    """
    if grant.state != GrantState.ACTIVE or grant.intent_digest is not None:
        return -math.inf
    obtained, expires = grant.obtained_at.timestamp(), _expires(grant)
    due = math.inf if policy.keepalive is None else obtained + policy.keepalive
    return due if expires is None else min(due, expires - max(margin(expires - obtained, policy), _ALIVE))


def margin(lifetime: float, policy: RefreshPolicy) -> float:
    """Return how many seconds before its end a token is renewed: the policy's, but at most a tenth of its life.

    Where the old access token dies at once, a refresh comes late: it breaks what is under way with the old one.
    """
    wanted = min(float(policy.margin), _LATE) if policy.kills_old_access else float(policy.margin)
    return max(0.0, min(wanted, lifetime / 10))


def back_off(failures: int, jitter: float) -> float:
    """Return seconds until the next try after so many failures: from 5 s to 15 min, anywhere below the doubling."""
    ceiling = min(_LAST_BACK_OFF, _FIRST_BACK_OFF * 2.0 ** min(failures, 20))
    return _FIRST_BACK_OFF + jitter * (ceiling - _FIRST_BACK_OFF)


def leeway_left(grant: Grant, policy: RefreshPolicy, now: float) -> float:
    """Return the seconds in which a refresh token that may be spent can surely be sent again."""
    return _seconds(grant.intent_at) + policy.leeway * _SURE_OF_LEEWAY - now


def _abandoned_at(grant: Grant, policy: RefreshPolicy) -> float:
    # The row was last written when the call began. Where sending the token twice does no harm, nobody waits longer
    # than a call can take.
    harmless = not policy.single_use or policy.leeway > 0
    return grant.updated_at.timestamp() + (CALL_SECONDS + 5 if harmless else LEASE_SECONDS)


def _rest(grant: Grant, policy: RefreshPolicy, *, forced: bool, sent: bool, in_leeway: bool) -> float:
    """Return the time before which nothing is sent."""
    rests = [_seconds(grant.retry_at)]
    if forced:
        rests.append(grant.obtained_at.timestamp() + FORCED_EVERY)
    if sent and policy.single_use and policy.reuse_revokes_family and not in_leeway:
        # Sending it again would revoke what another process may be about to store.
        rests.append(_seconds(grant.intent_at) + _FAMILY_REST)
    return max(rests)


def _expires(grant: Grant) -> float | None:
    # A token that was dead when it came is a clock that goes wrong. It is used for a moment: the next one is no better.
    return (
        None if grant.expires_at is None else max(_seconds(grant.expires_at), _seconds(grant.obtained_at) + _SHORTEST)
    )


def _seconds(time: datetime | None) -> float:
    return 0.0 if time is None else time.timestamp()
