"""One flight for each grant: lease, re-read, decide, act or wait.

A caller whose old access token still lives is served with it while a flight is under way. A caller who goes away
leaves the flight alone.
"""

import asyncio
import contextlib
import hmac
import math
import sys
from collections.abc import Awaitable, Callable

import structlog

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import Unavailable
from identity_gateway.model import Grant, GrantState, Secret
from identity_gateway.protocol.descriptor import Outcome
from identity_gateway.protocol.oauth2 import Client, Refused
from identity_gateway.records import Stale
from identity_gateway.refresh import decision
from identity_gateway.refresh.answers import AdminNeeded, ConsentNeeded, Fresh, Misconfigured, RetryLater, Usable
from identity_gateway.refresh.attempt import Attempts, Case, Refreshes
from identity_gateway.refresh.breaker import Breaker
from identity_gateway.refresh.decision import FORCED_EVERY, LEASE_SECONDS, Decision, Step
from identity_gateway.refresh.landing import Landing
from identity_gateway.vault import PROVIDER_CHANGED, Tokens, Vault, is_over, may_be_sent

PATIENCE = 20.0
"""Seconds that a caller waits for somebody else's refresh."""

_WITHOUT_LEASE_AFTER = 5.0
_FIRST_POLL = 0.05
_LAST_POLL = 1.0
_TRIES = 3

_log = structlog.get_logger()


class Refreshing:
    """Hands out grants alive. One for each process; `owner` is a name that no other process has, nor had before.

    `sleep` waits in the same seconds that `clock` counts. `jitter` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        vault: Vault,
        ephemeral: Ephemeral,
        server: Refreshes,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float],
        owner: str,
    ) -> None:
        self._vault = vault
        self._ephemeral = ephemeral
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._owner = owner
        self._landing = Landing(vault, ephemeral, clock=clock, sleep=sleep)
        self._attempts = Attempts(
            vault, server, Breaker(ephemeral), self._landing, clock=clock, sleep=sleep, jitter=jitter
        )
        self._flights: dict[str, asyncio.Task[tuple[int, Fresh]]] = {}

    async def fresh(self, grant: Grant, client: Client, *, rejected: str | None = None) -> Fresh:
        """Return the tokens of the grant, refreshed if it is time, or why there are none.

        `rejected` is the access token, or its fingerprint, that the caller saw refused by the vendor: if the grant has
        another one by now, that is handed over; if not, it is refreshed, but not more often than every FORCED_EVERY
        seconds. Raises Unavailable when nothing could be decided. Does not check whose grant it is.
        """
        for _ in range(_TRIES):
            held = self._landing.held(grant)
            if held is not None and self._is_good(held, rejected) and not _is_lost(grant, client):
                return held
            verdict = _closed(grant, client, self._clock())
            if verdict is not None and not _may_have_landed(grant, client):
                return verdict
            ready = None if verdict is not None else await self._at_once(grant, client, rejected)
            generation, found = (grant.generation, ready) if ready else await self._join(grant, client, rejected)
            if generation < grant.generation:
                continue  # the flight looked before the user consented anew
            if not isinstance(found, Usable) or self._is_good(found, rejected):
                return found
            grant = found.grant  # the flight began before this caller saw its token rejected, or took too long
        return RetryLater(FORCED_EVERY, Refused("transient", "no_living_token"))

    def untouched_until(self, grant: Grant, client: Client) -> float:
        """Return until when `fresh` gives the access token of this row and does nothing; minus infinity if it does not.

        In seconds since the epoch. `is_busy` says whether it has begun to do something meanwhile.
        """
        if self.is_busy(grant.id) or not may_be_sent(grant, client.recipient):
            return -math.inf
        until = decision.untouched_until(grant, client.descriptor.refresh.policy)
        return until if self._clock() < until else -math.inf

    def is_busy(self, grant_id: str) -> bool:
        """Whether a refresh of this grant is under way in this process, or what one gave is not stored yet."""
        return grant_id in self._flights or self._landing.is_holding(grant_id)

    async def aclose(self, timeout: float = 10.0) -> None:
        """Let flights land for that many seconds, then cut them off. Ask for nothing any more before."""
        ends = self._clock() + timeout
        if self._flights:
            await asyncio.wait(self._flights.values(), timeout=timeout)
        left = list(self._flights.values())
        for flight in left:
            flight.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._landing.aclose(max(0.0, ends - self._clock()))

    async def _at_once(self, grant: Grant, client: Client, rejected: str | None) -> Usable | None:
        """Return the tokens if they can be used without a refresh, or while one is under way in this process."""
        case = await self._case(grant, client, rejected)
        found = self._decide(case)
        if grant.id in self._flights:
            good = found.trusted and not case.policy.kills_old_access
        else:  # a refresh that was never settled may have been spilled: then the flight looks
            good = found.step is Step.USE and not case.was_sent
        return Usable(grant, case.tokens) if good else None

    async def _join(self, grant: Grant, client: Client, rejected: str | None) -> tuple[int, Fresh]:
        """Return what the flight found, and the generation that it was looking at."""
        flight = self._flights.get(grant.id)
        if flight is None:
            flight = asyncio.create_task(self._fly(grant.id, client, rejected))
            self._flights[grant.id] = flight
            flight.add_done_callback(lambda done: self._landed(grant.id, done))
        done, _ = await asyncio.wait({flight}, timeout=PATIENCE)
        try:
            if done and not flight.cancelled():
                return flight.result()
            fault = None
        except Unavailable as error:
            fault = error
        if _closed(grant, client, self._clock()) is None:
            case = await self._case(grant, client, rejected)
            if self._decide(case).trusted:
                return grant.generation, Usable(grant, case.tokens)
        if fault is not None:
            raise fault
        return grant.generation, _busy()

    def _landed(self, grant_id: str, flight: asyncio.Task[tuple[int, Fresh]]) -> None:
        if self._flights.get(grant_id) is flight:
            del self._flights[grant_id]
        if not flight.cancelled():
            flight.exception()  # whoever waited has got it; if nobody did, it is not news

    # --- The flight ---

    async def _fly(self, grant_id: str, client: Client, rejected: str | None) -> tuple[int, Fresh]:
        began = self._clock()
        poll = _FIRST_POLL
        leased = False
        try:
            while True:
                leased = await self._lease(grant_id)
                waited = self._clock() - began
                grant = await self._vault.get(grant_id)
                if grant is None:
                    return sys.maxsize, ConsentNeeded("revoked", "the grant was deleted")
                found = await self._look(grant, client, rejected, sure=leased or waited > _WITHOUT_LEASE_AFTER)
                if found is None:
                    if waited > PATIENCE:
                        return grant.generation, _busy()
                    found, poll = poll * (0.5 + self._jitter() / 2), min(_LAST_POLL, poll * 2)
                if not isinstance(found, float):
                    return grant.generation, found
                await self._sleep(found)
        finally:
            if leased:
                with contextlib.suppress(Unavailable):
                    await self._ephemeral.release(self._lease_key(grant_id), self._owner)

    async def _look(self, grant: Grant, client: Client, rejected: str | None, *, sure: bool) -> Fresh | float | None:
        """Do what is to be done. Seconds: read the grant again after them. None: wait for somebody else."""
        verdict = _closed(grant, client, self._clock())
        if verdict is not None and not _may_have_landed(grant, client):
            return verdict
        case = await self._case(grant, client, rejected)
        if case.was_sent or verdict is not None:
            spilled = await self._landing.spilled(grant)
            if spilled is not None:
                landed = await self._landing.land(grant, case.tokens, spilled, spilled=True)
                return 0.0 if landed is None else landed
        if verdict is not None:
            return verdict
        found = self._decide(case)
        match found.step:
            case Step.USE:
                return Usable(grant, case.tokens)
            case Step.WAIT:
                return None
            case Step.LATER:
                return _later(grant, found.until - self._clock())
            case Step.OVER:
                return await self._over(case)
            case Step.CALL:
                return await self._attempts.make(case) if sure or found.abandoned else None

    async def _over(self, case: Case) -> Fresh | float:
        if case.forced:  # one caller's word against the vendor's: the state stays
            return ConsentNeeded("revoked", "the vendor rejected the access token, and it cannot be refreshed")
        with contextlib.suppress(Unavailable):
            try:
                await self._vault.change_state(case.grant, GrantState.NEEDS_CONSENT, "expired")
            except Stale:
                return 0.0
        return ConsentNeeded("expired")

    async def _lease(self, grant_id: str) -> bool:
        """Take or renew the lease. Without the ephemeral store everybody has it: the intent guards the token."""
        try:
            return await self._ephemeral.acquire(self._lease_key(grant_id), self._owner, ttl=LEASE_SECONDS)
        except Unavailable:
            _log.warning("refresh_without_lease", grant=grant_id)
            return True

    def _lease_key(self, grant_id: str) -> str:
        return f"refresh:{self._vault.account}:{grant_id}"

    # --- Cases ---

    async def _case(self, grant: Grant, client: Client, rejected: str | None) -> Case:
        tokens = await self._vault.open(grant)
        how, policy = client.descriptor.refresh.how, client.descriptor.refresh.policy
        alive = decision.is_alive(grant, self._clock())
        forced = self._is_rejected(rejected, tokens)
        credential: Secret | None = None
        if how == "refresh_token":
            credential = tokens.refresh
        elif how == "access_token":
            credential = tokens.access if alive and not forced else None
            policy = policy.model_copy(update={"single_use": False})
        return Case(grant, tokens, client, policy, credential, forced, self._owner)

    def _decide(self, case: Case) -> Decision:
        return decision.decide(
            case.grant,
            case.policy,
            refreshable=case.credential is not None,
            forced=case.forced,
            owner=self._owner,
            now=self._clock(),
            jitter=self._jitter(),
        )

    def _is_good(self, found: Usable, rejected: str | None) -> bool:
        return decision.is_alive(found.grant, self._clock()) and not self._is_rejected(rejected, found.tokens)

    def _is_rejected(self, rejected: str | None, tokens: Tokens) -> bool:
        if rejected is None:
            return False
        same = hmac.compare_digest(_bytes(rejected), _bytes(tokens.access.reveal()))
        return same or self._vault.fingerprints.matches(rejected, tokens.access)


def _is_lost(grant: Grant, client: Client) -> bool:
    """Whether nothing that is still in the air brings the grant back, because it was ended or is another server's."""
    return is_over(grant) or not may_be_sent(grant, client.recipient)


def _closed(grant: Grant, client: Client, now: float) -> Fresh | None:
    """Return the verdict on a grant that is not refreshed as it stands."""
    if not may_be_sent(grant, client.recipient):
        return ConsentNeeded(PROVIDER_CHANGED)
    match grant.state:
        case GrantState.ACTIVE:
            return None
        case GrantState.NEEDS_CONSENT:
            return ConsentNeeded(grant.reason)
        case GrantState.NEEDS_ADMIN:
            waits = grant.retry_at is not None and now < grant.retry_at.timestamp()
            return AdminNeeded(grant.reason) if waits else None
    return ConsentNeeded("revoked")


def _may_have_landed(grant: Grant, client: Client) -> bool:
    """Whether a process may have spilled what would bring this grant back."""
    lost = grant.state == GrantState.NEEDS_CONSENT and grant.reason == "lost_rotation"
    return lost and not _is_lost(grant, client)


def _later(grant: Grant, after: float) -> Fresh:
    """Return why nothing is tried yet, in the words that the last attempt left in the row."""
    outcome, _, code = grant.reason.partition(":")
    match outcome:
        case "step_up":
            return ConsentNeeded("scope", code)
        case "operator_config":
            return Misconfigured(Refused("operator_config", code))
    known: Outcome = "ambiguous" if outcome == "ambiguous" else "transient"
    return RetryLater(max(0.0, after), Refused(known, code or "resting"))


def _busy() -> RetryLater:
    return RetryLater(_WITHOUT_LEASE_AFTER, Refused("transient", "refresh_under_way"))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
