"""The verbs of the vault."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from identity_gateway.errors import Conflict, NotFound, Unavailable
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.model import Grant, GrantState, Secret, User, user_text
from identity_gateway.protocol.oauth2 import Answered, Credential
from identity_gateway.records import AlreadyExists, Records, Stale, Transaction
from identity_gateway.records.changes import Watch
from identity_gateway.records.watched import watched
from identity_gateway.sealing import Unsealable
from identity_gateway.vault.consent import Consent
from identity_gateway.vault.holder import SUPERSEDED, Holder, belongs_to, is_newer, is_over, lookup_of
from identity_gateway.vault.tokens import (
    Envelope,
    Prepared,
    Tokens,
    access_of,
    later,
    plaintext,
    refresh_expiry,
    settled,
    time_of,
    tokens_of,
)

_ATTEMPTS = 10
_SPILLED = "rotation"

_log = structlog.get_logger()


class Vault:
    """All grants of one account. Times given are seconds since the epoch, those of a vendor's call when it began."""

    def __init__(
        self,
        records: Records,
        envelope: Envelope,
        fingerprints: Fingerprints,
        account: str,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._envelope = envelope
        self.fingerprints = fingerprints
        self.account = account
        self._clock = clock

    # --- Finding ---

    async def find(self, holder: Holder, part: str) -> Grant | None:
        """Return the grant of this holder in whatever state, or None. Raises Unavailable rather than another's grant.

        Does not open it, and does not look whether it can still be used.
        """
        return (await self.watched(holder, part))[0]

    async def watched(self, holder: Holder, part: str) -> tuple[Grant | None, Watch | None]:
        """Return what `find` does, and what holds until the grant changes; None if nothing in memory says so."""
        lookup = lookup_of(self.account, holder, part)
        found, watch = await watched(self._records, Grant, account=self.account, lookup=lookup)
        if found is not None and not belongs_to(found, holder, part):
            _log.error("grant_columns_differ", grant=found.id, lookup=lookup)
            raise Unavailable(reason=f"grant {found.id} was found by a key that its columns do not have")
        return found, watch

    async def get(self, grant_id: str) -> Grant | None:
        """Return a grant by its id. Does not ask whose it is."""
        async with self._records.read() as transaction:
            return await transaction.get(Grant, account=self.account, id=grant_id)

    async def list(
        self,
        *,
        user: User | None = None,
        workload: str | None = None,
        provider_id: str | None = None,
        state: GrantState | None = None,
        after: str | None = None,
        limit: int,
    ) -> list[Grant]:
        """Return grants in the order of their ids, from behind `after` on. What is None is not asked for."""
        asked = {
            "user": None if user is None else user_text(user),
            "workload": workload,
            "provider_id": provider_id,
            "state": None if state is None else state.value,
        }
        where = {name: value for name, value in asked.items() if value is not None}
        place = None if after is None else (after,)
        async with self._records.read() as transaction:
            return await transaction.list(Grant, account=self.account, where=where, after=place, limit=limit)

    async def of_vendor_account(
        self, provider_id: str, account: str | None, subject: str | None = None, part: str | None = None
    ) -> Sequence[Grant]:
        """Return the grants that open an account at the vendor. None is not asked for; an empty name is nobody's.

        `account` or `subject` must be given (ValueError): a signal that names nobody would mean everybody.
        """
        if account is None and subject is None:
            raise ValueError("whose grants? name the account or the subject")
        asked = {"vendor_account": account, "vendor_subject": subject, "part": part}
        if "" in asked.values():
            return []
        where = {name: value for name, value in asked.items() if value is not None}
        async with self._records.read() as transaction:
            return await transaction.list(Grant, account=self.account, where={"provider_id": provider_id, **where})

    async def open(self, grant: Grant) -> Tokens:
        """Return the tokens. Raises Unavailable when they do not open: revoked, moved, changed, or no key for them."""
        if not grant.sealed:
            raise Unavailable(reason=f"grant {grant.id} holds nothing any more: it is {grant.state}")
        try:
            content = await self._envelope.open(grant.sealed, place=self.place_of(grant))
        except Unsealable:
            raise Unavailable(reason=f"grant {grant.id} does not open: another key or place") from None
        return tokens_of(content)

    def opener(self, grant: Grant) -> Callable[[], Secret | None]:
        """Return what opens the access token of this generation anew, at once, or returns None: then ask `open`."""
        opened = self._envelope.opener(grant.sealed, place=self.place_of(grant))

        def access() -> Secret | None:
            content = opened()
            return None if content is None else access_of(content)

        return access

    async def open_spilled(self, grant: Grant, sealed: bytes) -> bytes | None:
        """Return what was spilled beside this generation, or None when it is not of this one. Raises Unavailable."""
        try:
            return await self._envelope.open(sealed, place=self.place_of(grant, _SPILLED))
        except Unsealable:
            return None

    # --- Consents ---

    async def check_keys(self) -> None:
        """Raise Unavailable when nothing can be sealed: then no vendor should be asked for what it gives once."""
        await self._envelope.prepare(place=(self.account, "grant", "none"))

    async def store_consent(
        self,
        holder: Holder,
        answered: Answered,
        *,
        began: float,
        refresh_lifetime: float | None = None,
        supersedes: bool = False,
        recipient: str = "",
        demand: Callable[[Transaction], Awaitable[None]] | None = None,
    ) -> tuple[Grant, ...]:
        """Keep what a user has just granted, one grant for each credential, together or not at all.

        It wins over whatever was there and over every refresh under way. Parts of the same request that this answer
        lacks are superseded; with `supersedes` so are all other grants of the same vendor user at this provider.
        `refresh_lifetime` (seconds) counts when the answer does not say. `recipient` is who gave it
        (`Client.recipient`). `demand` is asked in the transaction that stores, and raises what speaks against it.
        Raises Conflict when it never gets through.

        A consent that began within two minutes after this one, and was stored before, stays: it is returned.
        """
        if not answered.credentials:
            raise ValueError("an answer without a credential grants nothing")
        for _ in range(_ATTEMPTS):
            present = await self._of_same_request(holder)
            newer = [grant for grant in present.values() if is_newer(grant, began)]
            if newer:
                return tuple(newer)
            consent = Consent(self.account, holder, answered, began, refresh_lifetime, recipient)
            drafts = [await self._drafted(consent, each, present.get(each.part)) for each in answered.credentials]
            missing = [grant for part, grant in present.items() if part not in {draft.part for draft in drafts}]
            try:
                async with self._records.write() as transaction:
                    if demand is not None:
                        await demand(transaction)
                    return await self._write_consent(transaction, drafts, missing, supersedes=supersedes)
            except (AlreadyExists, Stale):
                continue
        raise Conflict("The grant is being changed by other requests. Try again.")

    async def _of_same_request(self, holder: Holder) -> dict[str, Grant]:
        where = {"workload": holder.workload, "user": user_text(holder.user), "provider_id": holder.provider_id}
        async with self._records.read() as transaction:
            rows = await transaction.list(Grant, account=self.account, where=where)
        return {row.part: row for row in rows if row.lookup == lookup_of(self.account, holder, row.part)}

    async def _drafted(self, consent: Consent, credential: Credential, present: Grant | None) -> Grant:
        tokens = consent.tokens(credential)
        digest = self._digest(tokens.refresh)
        draft = consent.draft(credential, present, refresh_digest=digest, new_id=secrets.token_hex(16), now=self._now())
        return await self._sealed(draft, tokens)

    async def _write_consent(
        self, transaction: Transaction, drafts: Sequence[Grant], missing: Sequence[Grant], *, supersedes: bool
    ) -> tuple[Grant, ...]:
        ids = {draft.id for draft in drafts}
        ended = {grant.id: grant for grant in missing}
        if supersedes:
            for account, subject in {(draft.vendor_account, draft.vendor_subject) for draft in drafts}:
                where = {"vendor_account": account, "vendor_subject": subject, "provider_id": drafts[0].provider_id}
                rows = await transaction.list(Grant, account=self.account, where=where) if subject else []
                ended |= {row.id: row for row in rows}
        changes = [(draft, draft.generation > 1) for draft in drafts]
        changes += [
            (settled(grant, GrantState.NEEDS_CONSENT, SUPERSEDED, self._now()), True)
            for grant in ended.values()
            if grant.id not in ids and grant.state in {GrantState.ACTIVE, GrantState.NEEDS_ADMIN}
        ]
        stored = {}
        for grant, exists in sorted(changes, key=lambda change: change[0].id):  # one order for all: no deadlock
            if exists:
                stored[grant.id] = await transaction.update(grant)
            else:
                await transaction.create(grant)
                stored[grant.id] = grant
        return tuple(stored[draft.id] for draft in drafts)

    # --- Rotations ---

    async def prepare_rotation(self, grant: Grant) -> Prepared:
        """Return what keeps the answer to a refresh of this generation. Raises Unavailable: then do not begin it."""
        places = self.place_of(replace(grant, generation=grant.generation + 1)), self.place_of(grant, _SPILLED)
        seals = await asyncio.gather(*(self._envelope.prepare(place=place) for place in places))
        return Prepared(await self.open(grant), *seals)

    async def begin_rotation(self, grant: Grant, *, owner: str, refresh_token: Secret) -> Grant:
        """Write down that this token is about to be sent. Raises Stale unless the grant is as it was read.

        `intent_at` stays when the same token was sent before without an answer: it is the time of the first use.
        """
        again = grant.intent_digest is not None and self.fingerprints.matches(grant.intent_digest, refresh_token)
        now = self._now()
        at, digest = (grant.intent_at, grant.intent_digest) if again else (now, self._digest(refresh_token))
        return await self._update(
            replace(grant, intent_owner=owner, intent_at=at, intent_digest=digest, updated_at=now)
        )

    async def store_rotation(
        self,
        grant: Grant,
        credential: Credential,
        *,
        began: float,
        variables: Mapping[str, str] | None = None,
        more: Mapping[str, Secret] | None = None,
        refresh_lifetime: float | None = None,
        prepared: Prepared | None = None,
    ) -> Grant:
        """Keep what a refresh gave, on the generation that it began with; what was `prepared` spares the key service.

        Raises Stale when that generation is gone: somebody consented anew, another rotation landed, or the grant was
        revoked or superseded. A state that another refresh left in despair (`needs_consent`) is overcome.
        """
        current = grant
        prepared = prepared or await self.prepare_rotation(grant)
        tokens = prepared.before.renewed(credential, variables or {}, more or {})
        for _ in range(_ATTEMPTS):
            draft = self.rotated(current, credential, tokens, began, refresh_lifetime)
            try:
                return await self._update(replace(draft, sealed=prepared.rotated(plaintext(tokens))))
            except Stale:
                found = await self.get(grant.id)
                if found is None or found.generation != grant.generation:
                    raise
                if found.state == GrantState.REVOKED:
                    await self.keep_revoked(found, credential, tokens, began=began)
                if is_over(found):
                    raise
                current = found
        raise Stale

    async def keep_revoked(self, grant: Grant, credential: Credential, tokens: Tokens, *, began: float) -> Grant:
        """Keep what a refresh gave to a grant that was revoked meanwhile, so that it can be revoked at the vendor, too.

        The grant stays revoked. `tokens` are the renewed ones. Raises Stale unless the grant is as it was read.
        """
        kept = replace(self.rotated(grant, credential, tokens, began, None), state=grant.state, reason=grant.reason)
        return await self._update(await self._sealed(kept, tokens))

    def rotated(
        self, grant: Grant, credential: Credential, tokens: Tokens, began: float, refresh_lifetime: float | None
    ) -> Grant:
        """Return the grant as a refresh leaves it, before it is sealed and stored."""
        return replace(
            grant,
            granted_scopes=grant.granted_scopes if credential.scopes is None else credential.scopes,
            state=GrantState.ACTIVE,
            reason="",
            generation=grant.generation + 1,
            expires_at=later(began, credential.lifetime),
            refresh_expires_at=refresh_expiry(credential, began, refresh_lifetime, grant.refresh_expires_at),
            refresh_digest=self._digest(tokens.refresh),
            intent_owner=None,
            intent_at=None,
            intent_digest=None,
            failures=0,
            retry_at=None,
            obtained_at=time_of(began),
            updated_at=self._now(),
        )

    # --- States ---

    async def change_state(
        self,
        grant: Grant,
        state: GrantState,
        reason: str,
        *,
        retry_at: float | None = None,
        failures: int | None = None,
        keep_intent: bool = False,
    ) -> Grant:
        """Change the state; the tokens stay. Raises Stale unless the grant is as it was read.

        `failures` None leaves the count. With `keep_intent` the journal still says that the refresh token was sent,
        and that nobody waits for the answer any more.
        """
        changed = settled(grant, state, reason, self._now())
        if keep_intent:
            changed = replace(changed, intent_at=grant.intent_at, intent_digest=grant.intent_digest)
        return await self._update(
            replace(
                changed,
                retry_at=None if retry_at is None else time_of(retry_at),
                failures=grant.failures if failures is None else failures,
            )
        )

    async def shred(
        self, grant: Grant, reason: str, *, unless: Callable[[Grant], bool] = lambda _present: False
    ) -> Grant:
        """Revoke a grant: its tokens are gone, its row stays. It wins over every refresh under way.

        A row of which `unless` is true stays as it is, and is returned: a newer consent, for instance. Does not tell
        the vendor. Raises NotFound when the grant was deleted, Conflict when it never gets through.
        """
        for _ in range(_ATTEMPTS):
            found = await self.get(grant.id)
            if found is None:
                raise NotFound("The grant does not exist.")
            if unless(found):
                return found
            gone = settled(found, GrantState.REVOKED, reason, self._now())
            draft = replace(gone, sealed=b"", refresh_digest="", retry_at=None, generation=found.generation + 1)
            try:
                return await self._update(draft)
            except Stale:
                continue
        raise Conflict("The grant is being changed by other requests. Try again.")

    async def _update(self, grant: Grant) -> Grant:
        async with self._records.write() as transaction:
            return await transaction.update(grant)

    async def _sealed(self, grant: Grant, tokens: Tokens) -> Grant:
        return replace(grant, sealed=await self._envelope.seal(plaintext(tokens), place=self.place_of(grant)))

    def place_of(self, grant: Grant, name: str = "sealed") -> tuple[str, ...]:
        """Return the place that the tokens of this generation are sealed for: of another grant they do not open."""
        return (self.account, "grant", grant.id, grant.lookup, grant.provider_id, str(grant.generation), name)

    def _digest(self, refresh: Secret | None) -> str:
        return "" if refresh is None else self.fingerprints.of(refresh)

    def _now(self) -> datetime:
        return time_of(self._clock())
