"""One attempt to refresh: the intent, the call, and what each kind of answer does to the grant.

The caller has decided that it is time (`decision`) and looks again at the grant when the answer is a number of seconds
instead of a verdict. The refresh token is sent once; again only within the leeway that the vendor gives.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from identity_gateway.errors import Unavailable
from identity_gateway.model import Grant, GrantState, Secret
from identity_gateway.protocol.descriptor import RefreshPolicy
from identity_gateway.protocol.oauth2 import Answered, Client, Refused
from identity_gateway.records import Stale
from identity_gateway.refresh import decision
from identity_gateway.refresh.answers import AdminNeeded, ConsentNeeded, Fresh, Misconfigured, RetryLater, Usable
from identity_gateway.refresh.breaker import Breaker
from identity_gateway.refresh.landing import Landing, Rotation
from identity_gateway.vault import Tokens, Vault

ADMIN_SECONDS = 900.0
MISCONFIGURED_SECONDS = 30.0
_YOUNG = 60.0
_FRESH = 10.0
_BEGINNINGS = 3
_LAST_CHANCE = 5.0
_LEEWAY_PAUSE = 30.0
_MAX_RETRY_AFTER = 86400.0

_log = structlog.get_logger()


class Refreshes(Protocol):
    """What this package needs of `authorization_server.AuthorizationServer`: exactly one HTTP attempt for each call."""

    async def refresh(
        self,
        client: Client,
        *,
        part: str,
        refresh_token: Secret | None,
        access_token: Secret | None,
        scopes: tuple[str, ...],
    ) -> Answered | Refused:
        """Ask the vendor once."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """A grant, opened, as it was read. `forced`: its access token was rejected. `credential` is what will be sent."""

    grant: Grant
    tokens: Tokens
    client: Client
    policy: RefreshPolicy
    credential: Secret | None
    forced: bool
    owner: str

    @property
    def was_sent(self) -> bool:
        """Whether this refresh token was sent before, and the answer never came."""
        return self.grant.intent_digest is not None


class Attempts:
    """Attempts of one process."""

    def __init__(
        self,
        vault: Vault,
        server: Refreshes,
        breaker: Breaker,
        landing: Landing,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
    ) -> None:
        self._vault = vault
        self._server = server
        self._breaker = breaker
        self._landing = landing
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    async def make(self, case: Case) -> Fresh | float:
        """Refresh. Returns a verdict, or the seconds after which to look at the grant again."""
        code = await self._breaker.misconfiguration(case.grant)
        if code is not None:
            return self._meanwhile(case, case.grant, Misconfigured(Refused("operator_config", code)))
        # Now, because a key service that goes away during the call must not cost the tokens that the vendor gives.
        prepared = await self._vault.prepare_rotation(case.grant)
        begun = await self._begin(case)
        if begun is None:
            return 0.0
        began = self._clock()
        try:
            answer = await self._call(case)
        except Exception:
            # A defect, or a key that does not sign: nobody knows whether anything was sent.
            await self._postpone(case, begun, "ambiguous", decision.back_off(begun.failures, self._jitter()))
            raise
        if isinstance(answer, Refused):
            return await self._refused(case, begun, answer)
        rotation = self._rotation(begun, answer, began, case.policy)
        if rotation is None:
            return await self._refused(case, begun, Refused("ambiguous", "unusable_answer"))
        landed = await self._landing.land(begun, case.tokens, replace(rotation, prepared=prepared))
        await self._breaker.lives(begun)
        return 0.0 if landed is None else landed

    async def _begin(self, case: Case) -> Grant | None:
        """Write the intent, or return None: somebody else wrote. Raises Unavailable when the database is too slow.

        Others count from the time in the intent how long they wait for this process: one that took long to write would
        let them in during the call.
        """
        assert case.credential is not None
        begun = case.grant
        for _ in range(_BEGINNINGS):
            try:
                begun = await self._vault.begin_rotation(begun, owner=case.owner, refresh_token=case.credential)
            except Stale:
                return None
            if self._clock() - begun.updated_at.timestamp() <= _FRESH:
                return begun
        await self._postpone(case, begun, "transient:slow_database", decision.back_off(0, 0.0))
        raise Unavailable(reason=f"the intent to refresh grant {begun.id} took too long to write")

    async def _call(self, case: Case) -> Answered | Refused:
        refreshing = case.client.descriptor.refresh.how == "refresh_token"
        return await self._server.refresh(
            case.client.with_variables(case.tokens.variables),
            part=case.grant.part,
            refresh_token=case.credential if refreshing else None,
            access_token=case.tokens.access,
            scopes=case.grant.scopes,
        )

    def _rotation(self, grant: Grant, answer: Answered, began: float, policy: RefreshPolicy) -> Rotation | None:
        """Return what the answer holds for this grant. None: not its part, nothing in it, or another's account."""
        found = next((each for each in answer.credentials if each.part == grant.part), None)
        if found is None or not found.access.reveal():
            _log.error("refresh_without_token", grant=grant.id, provider=grant.provider, part=grant.part)
            return None
        named = ((answer.account, grant.vendor_account), (found.subject, grant.vendor_subject))
        if any(one and other and one != other for one, other in named):
            _log.error("refresh_of_another_account", grant=grant.id, provider=grant.provider)
            return None
        lifetime = None if policy.lifetime is None else float(policy.lifetime)
        return Rotation(found, began, dict(answer.variables), dict(answer.secrets), lifetime)

    async def _refused(self, case: Case, begun: Grant, refused: Refused) -> Fresh | float:
        if _is_unsure(refused):
            return await self._unsure(case, begun, refused)
        match refused.outcome:
            case "dead_grant":
                return await self._dead(case, begun, refused)
            case "operator_config":
                await self._breaker.misconfigured(begun, refused.code)
                _log.error("client_refused", provider=begun.provider, code=refused.code, advice=refused.advice)
                return await self._later(case, begun, refused, MISCONFIGURED_SECONDS, Misconfigured(refused))
            case "step_up":
                pause = decision.back_off(begun.failures, self._jitter())
                needed = ConsentNeeded("scope", refused.description, refused.needed)
                return await self._later(case, begun, refused, pause, needed)
            case "admin_block":
                changes = {"retry_at": self._clock() + ADMIN_SECONDS, "failures": begun.failures + 1}
                changed = await self._change(begun, GrantState.NEEDS_ADMIN, refused.code, changes)
                return 0.0 if changed is None else AdminNeeded(refused.description or refused.code)
            case _:  # whatever a refusal means, what nobody knows is never the death of a grant
                return await self._transient(case, begun, refused)

    async def _transient(self, case: Case, begun: Grant, refused: Refused) -> Fresh | float:
        pause, again = self._pause(case.was_sent, case, begun)
        if refused.retry_after is not None:
            pause = max(pause, min(refused.retry_after, _MAX_RETRY_AFTER))
        verdict = await self._later(case, begun, refused, pause, RetryLater(pause, refused))
        return pause if again else verdict

    async def _unsure(self, case: Case, begun: Grant, refused: Refused) -> Fresh | float:
        """Nobody knows whether the token is spent. Where the vendor gives leeway it is sent again while that lasts."""
        _log.warning("refresh_unanswered", grant=begun.id, provider=begun.provider, code=refused.code)
        pause, again = self._pause(True, case, begun)
        kept = case.policy.single_use or case.policy.kills_old_access
        changed = await self._postpone(case, begun, f"ambiguous:{refused.code}", pause, keep=kept)
        if again:
            return pause
        return 0.0 if changed is None else self._meanwhile(case, changed, RetryLater(pause, refused))

    async def _dead(self, case: Case, begun: Grant, refused: Refused) -> Fresh | float:
        """Declare death, unless somebody else has won or may still win, or too many die at once."""
        if case.was_sent and self._clock() - case.grant.updated_at.timestamp() < _YOUNG:
            await self._sleep(_LAST_CHANCE)
        found = await self._landing.spilled(begun)
        if found is not None:
            landed = await self._landing.land(begun, case.tokens, found, spilled=True)
            return 0.0 if landed is None else landed
        current = await self._vault.get(begun.id)
        if current is None or current.revision != begun.revision:
            return 0.0
        if await self._breaker.holds(begun):
            pause = decision.back_off(begun.failures, self._jitter())
            disbelieved = RetryLater(pause, replace(refused, outcome="transient"))
            return await self._later(case, begun, refused, pause, disbelieved)
        reason = self._cause(case, begun)
        changed = await self._change(begun, GrantState.NEEDS_CONSENT, reason, {"failures": 0})
        if changed is None:
            return 0.0
        _log.warning("grant_lost", grant=begun.id, provider=begun.provider, reason=reason, code=refused.code)
        return ConsentNeeded(reason, refused.description)

    def _cause(self, case: Case, begun: Grant) -> str:
        if case.was_sent and case.policy.single_use:
            return "lost_rotation"
        ends = begun.refresh_expires_at
        return "expired" if ends is not None and ends.timestamp() <= self._clock() else "revoked"

    async def _later(self, case: Case, begun: Grant, refused: Refused, pause: float, verdict: Fresh) -> Fresh | float:
        """Leave the grant alive, remember why this failed, and serve the old token while it lives."""
        changed = await self._postpone(case, begun, f"{refused.outcome}:{refused.code}", pause)
        return 0.0 if changed is None else self._meanwhile(case, changed, verdict)

    def _meanwhile(self, case: Case, grant: Grant, verdict: Fresh) -> Fresh:
        found = decision.decide(
            grant,
            case.policy,
            refreshable=True,
            forced=case.forced,
            owner=case.owner,
            now=self._clock(),
            jitter=0.0,
        )
        return Usable(grant, case.tokens) if found.trusted else verdict

    def _pause(self, maybe_spent: bool, case: Case, begun: Grant) -> tuple[float, bool]:
        """Return for how long to rest, and whether the flight itself must go on then: the leeway does not wait."""
        soon = min(_LEEWAY_PAUSE, 2.0**begun.failures) * (0.5 + self._jitter() / 2)
        if maybe_spent and soon < decision.leeway_left(begun, case.policy, self._clock()):
            return soon, True
        return decision.back_off(begun.failures, self._jitter()), False

    async def _postpone(
        self, case: Case, begun: Grant, reason: str, pause: float, *, keep: bool | None = None
    ) -> Grant | None:
        changes = {"retry_at": self._clock() + pause, "failures": begun.failures + 1}
        # An earlier use of this token, whose answer never came, is not settled by a refusal that decides nothing.
        keep = case.was_sent if keep is None else keep or case.was_sent
        return await self._change(begun, GrantState.ACTIVE, reason, changes, keep=keep)

    async def _change(
        self,
        begun: Grant,
        state: GrantState,
        reason: str,
        changes: Mapping[str, float],
        *,
        keep: bool = False,
    ) -> Grant | None:
        """Change the state, or return None: look again. When the database fails the intent stays, which is careful."""
        failures = changes.get("failures")
        try:
            return await self._vault.change_state(
                begun,
                state,
                reason,
                retry_at=changes.get("retry_at"),
                failures=None if failures is None else int(failures),
                keep_intent=keep,
            )
        except Stale:
            return None
        except Unavailable as error:
            _log.error("grant_state_not_stored", grant=begun.id, state=state, reason=error.reason)
            return begun


def _is_unsure(answer: Answered | Refused) -> bool:
    """Whether the vendor may have spent the token though it did not say so: no answer, or a fault after the request.

    503 says that it did not begin.
    """
    if isinstance(answer, Answered):
        return False
    return answer.outcome == "ambiguous" or (
        answer.outcome == "transient" and answer.status >= 500 and answer.status != 503
    )
