"""One grant taken back: from the agents at once, then at the vendor, then its tokens are destroyed.

An access token that has expired names nothing at most vendors any more, while its refresh token may live for months:
then it is refreshed first, for the one purpose of being revoked. A refresh that was under way when the grant was
revoked does not bring it back, but what it gave is kept long enough to be revoked as well (`Vault.keep_revoked`).
Whether the caller may do this was decided before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from identity_gateway.authorization_server import AuthorizationServer, Revoked
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import Conflict, NotFound, Unavailable, ValidationFailed
from identity_gateway.model import Grant, GrantState, user_from_text
from identity_gateway.protocol.descriptor import Revoke
from identity_gateway.protocol.oauth2 import Answered, Client, Refused, described_elsewhere
from identity_gateway.records import Stale
from identity_gateway.vault import PROVIDER_CHANGED, SUPERSEDED, Tokens, Vault, consented_at, may_be_sent

PENDING = "vendor_revocation_pending"
"""The reason of a grant that no agent gets any more and that the vendor has not taken back yet."""

Status = Literal["VERIFIED", "REVOKED", "NOT_SUPPORTED", "FAILED"]

_REASONS: dict[Status, str] = {
    "VERIFIED": "revoked_verified",
    "REVOKED": "revoked",
    "NOT_SUPPORTED": "revoked_here_only",
}
_STATUSES: dict[str, Status] = {reason: status for status, reason in _REASONS.items()}
_WIDE = frozenset({"user_client", "installation"})
_IN_USE = frozenset({GrantState.ACTIVE, GrantState.NEEDS_ADMIN})
_OWNER = "revocation"
_ATTEMPTS = 10
_ROUNDS = 3
_CALL_SECONDS = 20.0
_POLL = 0.25
_MOST_OF_ONE_USER = 1000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AtVendor:
    """What became of a grant at its vendor. `code` and `description` are the vendor's own words when it refused.

    `also` are the ids of other grants that ended with it.
    """

    status: Status
    effect: str | None = None
    code: str = ""
    description: str = ""
    detail: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Renewed:
    """The newest row and tokens. `refused`: why it was not refreshed though that was tried; `dead`: it is no more."""

    grant: Grant
    tokens: Tokens
    refused: Refused | None = None
    dead: bool = False


class Revocation:
    """Takes grants of one account back. `clock` gives seconds since the epoch, `sleep` waits in the same seconds."""

    def __init__(
        self,
        vault: Vault,
        providers: CredentialProviders,
        server: AuthorizationServer,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._vault = vault
        self._providers = providers
        self._server = server
        self._clock = clock
        self._sleep = sleep

    async def revoke(self, grant: Grant) -> tuple[Grant, AtVendor]:
        """Return the grant as it is afterwards, and what became of it at the vendor.

        A user who consents anew meanwhile wins: that grant stays. Raises NotFound when the grant is deleted meanwhile,
        Conflict when others keep changing it, Unavailable when its tokens do not open; it is withdrawn even then.
        """
        if not grant.sealed:
            return await self._was_empty(grant)
        before, grant = await self._withdrawn(grant)
        if not grant.sealed:
            return await self._was_empty(grant)
        unsure = before.intent_digest is not None
        for _ in range(_ROUNDS):
            if unsure:
                grant = await self._landed(before, grant)
            grant, found = await self._at_vendor(grant, before, unsure=unsure)
            if found.status == "FAILED":
                return await self._reread(grant), found
            left = await self._shredded(grant, _REASONS[found.status])
            if not left.sealed or consented_at(left) != consented_at(grant):
                return left, found
            grant = left  # a refresh has landed meanwhile: what it gave must die, too
        raise Conflict("The grant is being changed by other requests. Try again.")

    async def _was_empty(self, grant: Grant) -> tuple[Grant, AtVendor]:
        """Answer for a grant without tokens: it was revoked before, or its key was lost, and with it what names it."""
        if grant.state == GrantState.REVOKED:
            return grant, AtVendor(_STATUSES.get(grant.reason, "REVOKED"))
        shredded = await self._vault.shred(grant, _REASONS["NOT_SUPPORTED"], unless=lambda found: bool(found.sealed))
        return shredded, AtVendor("NOT_SUPPORTED", detail="its tokens were lost: take it back at the vendor")

    async def _withdrawn(self, grant: Grant) -> tuple[Grant, Grant]:
        """Take the grant from all agents; return it as it was and as it is."""
        for _ in range(_ATTEMPTS):
            if not grant.sealed or grant.state == GrantState.REVOKED:
                return grant, grant
            try:
                return grant, await self._vault.change_state(grant, GrantState.REVOKED, PENDING, keep_intent=True)
            except Stale:
                grant = await self._reread(grant)
        raise Conflict("The grant is being changed by other requests. Try again.")

    async def _landed(self, before: Grant, grant: Grant) -> Grant:
        """Wait for the answer to a refresh that was under way, as long as its call can take. It lands revoked."""
        ends = before.updated_at.timestamp() + _CALL_SECONDS
        while before.intent_owner not in {None, _OWNER} and grant.generation == before.generation:
            if self._clock() >= ends:
                break
            await self._sleep(_POLL)
            grant = await self._reread(grant)
        return grant

    async def _shredded(self, grant: Grant, reason: str) -> Grant:
        """Destroy these tokens and no newer ones."""
        return await self._vault.shred(grant, reason, unless=lambda found: found.generation != grant.generation)

    async def _reread(self, grant: Grant) -> Grant:
        found = await self._vault.get(grant.id)
        if found is None:
            raise NotFound(f"There is no grant {grant.id}.")
        return found

    # --- The vendor ---

    async def _at_vendor(self, grant: Grant, before: Grant, *, unsure: bool) -> tuple[Grant, AtVendor]:
        provider = await self._providers.by_id(grant.provider_id)
        if provider is None:
            return grant, AtVendor("NOT_SUPPORTED", detail="its provider was deleted: take it back at the vendor")
        tokens = await self._vault.open(grant)
        try:
            client = (await self._providers.client_of(provider)).with_variables(tokens.variables)
        except (Unavailable, ValidationFailed) as error:
            return grant, AtVendor("FAILED", code=error.code, description=error.message, detail=error.message)
        if before.reason == PROVIDER_CHANGED or not may_be_sent(grant, client.recipient):
            return grant, AtVendor("NOT_SUPPORTED", detail="the provider was changed: take it back where it was given")
        if before.reason == SUPERSEDED and client.descriptor.reconsent_supersedes:
            return grant, AtVendor("REVOKED", detail="a later consent of the same user had ended it at the vendor")
        ways = [entry for entry in client.descriptor.revoke if _is_there(client, entry.url)]
        if not any(_token(entry, tokens) for entry in ways):
            return grant, AtVendor("NOT_SUPPORTED", detail="the vendor has no way to take it back before it expires")
        known = _Renewed(grant, tokens)
        by_access = all(entry.needs == "access_token" for entry in ways)
        if by_access and self._has_expired(grant):
            known = await self._refreshed(known, client, unsure=unsure)
        asked = await self._ask(known, client)
        if asked.status == "FAILED" and by_access and known.grant is grant and known.refused is None and _is_odd(asked):
            # The vendor does not know the access token. Whether the grant lives its refresh token will tell.
            known = await self._refreshed(known, client, unsure=unsure)
            if known.dead or known.grant is not grant:
                asked = await self._ask(known, client)
        return known.grant, asked.outcome

    async def _refreshed(self, known: _Renewed, client: Client, *, unsure: bool) -> _Renewed:
        """Get an access token that can be revoked. The grant stays revoked, and the new tokens are kept at once."""
        grant, tokens = known.grant, known.tokens
        if tokens.refresh is None or client.descriptor.refresh.how != "refresh_token":
            return known
        if grant.intent_owner == _OWNER and self._clock() < grant.updated_at.timestamp() + _CALL_SECONDS:
            raise Conflict("The grant is being revoked by another request. Try again.")
        try:
            begun = await self._vault.begin_rotation(grant, owner=_OWNER, refresh_token=tokens.refresh)
            began = self._clock()
            answered = await self._server.refresh(
                client, part=grant.part, refresh_token=tokens.refresh, access_token=tokens.access, scopes=grant.scopes
            )
            if isinstance(answered, Answered):
                made = next((each for each in answered.credentials if each.part == grant.part), None)
                if made is None:
                    return _Renewed(begun, tokens, Refused("ambiguous", "unusable_answer"))
                renewed = tokens.renewed(made, answered.variables, answered.secrets)
                return _Renewed(await self._vault.keep_revoked(begun, made, renewed, began=began), renewed)
            spent = answered.outcome == "ambiguous" or answered.status >= 500
            begun = await self._vault.change_state(begun, GrantState.REVOKED, PENDING, keep_intent=spent)
        except Stale:
            raise Conflict("The grant is being changed by other requests. Try again.") from None
        return _Renewed(begun, tokens, answered, dead=answered.outcome == "dead_grant" and not unsure)

    async def _ask(self, known: _Renewed, client: Client) -> "_Asked":
        """Have the vendor revoke, sparing what else the same person gave to the same client where it can."""
        grant, tokens = known.grant, known.tokens
        if known.dead:
            return _Asked(AtVendor("VERIFIED", detail="the vendor had ended it already"))
        siblings = await self._siblings(grant)
        ways = {entry.effect for entry in client.descriptor.revoke}
        narrow = ways - _WIDE if any(each.state in _IN_USE for each in siblings) else ways
        began = self._clock()
        revoked = await self._server.revoke(client, access=tokens.access, refresh=tokens.refresh, effects=narrow)
        if revoked.effect is None and not revoked.failures and narrow != ways:
            revoked = await self._server.revoke(client, access=tokens.access, refresh=tokens.refresh, effects=ways)
        failures = tuple(each for each in (known.refused, *revoked.failures) if each is not None)
        if revoked.effect is None:
            return await self._unconfirmed(known, client, failures)
        also = await self._ended_with(grant, client, siblings, revoked, began)
        status: Status = "VERIFIED" if revoked.verified else "REVOKED"
        settled = (
            revoked.verified or revoked.effect in _WIDE
        )  # after the whole grant, nothing is left to end a token of
        return _Asked(AtVendor(status, revoked.effect, detail="" if settled else _words(failures), also=tuple(also)))

    async def _unconfirmed(self, known: _Renewed, client: Client, failures: tuple[Refused, ...]) -> "_Asked":
        """Say what became of a grant that the vendor did not say to have taken back: it may have ended all the same."""
        if known.tokens.refresh is None:
            if await self._server.introspect(client, known.tokens.access) is False:
                return _Asked(AtVendor("VERIFIED", detail="the vendor had ended it already"))
            if self._has_expired(known.grant):
                return _Asked(AtVendor("REVOKED", detail="its access token had expired, and it has no other"))
        first = failures[0] if failures else Refused("ambiguous", "no_way")
        _log.warning("revocation_failed", grant=known.grant.id, provider=known.grant.provider, code=first.code)
        said = AtVendor("FAILED", code=first.code, description=first.description, detail=_words(failures))
        return _Asked(said, failures)

    def _has_expired(self, grant: Grant) -> bool:
        return grant.expires_at is not None and grant.expires_at.timestamp() <= self._clock()

    # --- What ends with it ---

    async def _siblings(self, grant: Grant) -> list[Grant]:
        """Return the other grants that the same person at the vendor gave to the same client.

        Where the vendor never said who that is, those of the same user here of whom it did not say it either.
        """
        if grant.vendor_subject:
            account = grant.vendor_account or None
            found = await self._vault.of_vendor_account(grant.provider_id, account, grant.vendor_subject)
        else:
            rows = await self._vault.list(
                user=user_from_text(grant.user), provider_id=grant.provider_id, limit=_MOST_OF_ONE_USER
            )
            found = [each for each in rows if not each.vendor_subject]
        return [each for each in found if each.id != grant.id and each.sealed]

    async def _of_provider(self, grant: Grant) -> Sequence[Grant]:
        if grant.vendor_account:
            return await self._vault.of_vendor_account(grant.provider_id, grant.vendor_account)
        found: list[Grant] = []
        while page := await self._vault.list(
            provider_id=grant.provider_id, after=found[-1].id if found else None, limit=_MOST_OF_ONE_USER
        ):
            found += page
        return found

    async def _ended_with(
        self, grant: Grant, client: Client, siblings: Sequence[Grant], revoked: Revoked, began: float
    ) -> list[str]:
        """Mark what the vendor ended with the grant; what it says lives is left alone, and so is a newer consent."""
        if revoked.effect not in _WIDE:
            return []
        if revoked.effect == "installation":
            siblings = [each for each in await self._of_provider(grant) if each.id != grant.id and each.sealed]
        ended = []
        for each in siblings:
            if not may_be_sent(each, client.recipient):
                continue
            try:
                tokens = await self._vault.open(each)
                lives = await self._server.introspect(client.with_variables(tokens.variables), tokens.access)
                if lives is True or consented_at(each) > began:
                    continue
                left = await self._vault.shred(
                    each, "revoked_with_another", unless=lambda found: consented_at(found) > began
                )
            except (Unavailable, NotFound, Conflict) as error:
                _log.warning("sibling_not_ended", grant=each.id, reason=error.reason)
                continue
            if not left.sealed:
                ended.append(each.id)
        return ended


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the vendor made of one round."""

    outcome: AtVendor
    failures: tuple[Refused, ...] = ()

    @property
    def status(self) -> Status:
        return self.outcome.status


def _is_odd(asked: _Asked) -> bool:
    """Whether the vendor answered, and neither took the token back nor said why not in a way that time heals."""
    return any(each.outcome == "ambiguous" and 0 < each.status < 500 for each in asked.failures)


def _is_there(client: Client, url: str) -> bool:
    key = described_elsewhere(url)
    return key is None or key in client.endpoints


def _token(entry: Revoke, tokens: Tokens) -> object:
    return tokens.access if entry.needs == "access_token" else tokens.refresh


def _words(failures: Sequence[Refused]) -> str:
    return "; ".join(" ".join(filter(None, (each.code, each.description, each.advice))) for each in failures)
