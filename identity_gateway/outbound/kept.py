"""Credentials that can be handed out as they are kept: a living token of a grant, a token still in store, an API key.

It finds them without asking a vendor or a key service anything, and without changing anything: what needs more is left
to `resources`, and so is every refusal. Where issued tokens lie, and what the records of credentials say, stands here,
too, for both.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from identity_gateway.admission import Kept
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import AccessDenied, GatewayError
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.model import (
    CredentialKind,
    CredentialProvider,
    Document,
    Grant,
    GrantState,
    Realm,
    Secret,
    WorkloadAccess,
    WorkloadIdentity,
    user_text,
    user_words,
)
from identity_gateway.outbound.asking import Asking, canonical, moment
from identity_gateway.outbound.issued import Issued, IssuedTokens
from identity_gateway.protocol.oauth2 import Requested, machine_entry
from identity_gateway.records import Records
from identity_gateway.records.changes import Watch
from identity_gateway.records.watched import watched
from identity_gateway.refresh import Refreshing
from identity_gateway.vault import Vault
from identity_gateway.workload import WorkloadTokens

# Replicas' clocks differ: a token that was minted right after its identity was made may seem older than it.
_SKEW = timedelta(seconds=5)

_Found = tuple[Document, Callable[[], Secret | None], float, Watch | None]
"""Details for the record, what reveals the credential, until when (epoch seconds), and what holds until it changes."""


class KeptCredentials:
    """What one account's agents can be given at once."""

    def __init__(
        self,
        records: Records,
        tokens: WorkloadTokens,
        providers: CredentialProviders,
        vault: Vault,
        refreshing: Refreshing,
        issued: IssuedTokens,
        realm: Realm,
    ) -> None:
        self._records = records
        self._tokens = tokens
        self._providers = providers
        self._vault = vault
        self._refreshing = refreshing
        self._issued = issued
        self._realm = realm

    async def oauth2(self, asked: Document) -> Kept | None:
        """Return the token that GetResourceOauth2Token would hand out, or None if that takes more, or is refused."""
        if asked.get("sessionUri") is not None or asked.get("forceAuthentication"):
            return None
        try:
            access = self._tokens.open(asked["workloadIdentityToken"])
            workload, first = await workload_of(self._records, self._realm, access)
            name = asked["resourceCredentialProviderName"]
            provider, second = await self._providers.watched(CredentialKind.OAUTH2, name)
            client = self._providers.outline_of(provider)
            asking = None if client is None else Asking(asked, access, workload, provider, client)
            found = None if asking is None or asking.rejected is not None else await self._found(asking)
        except GatewayError:  # the long way says it
            return None
        if found is None:
            return None
        details, reveal, until, third = found
        return _kept("accessToken", details, reveal, min(until, access.expires_at), first, second, third)

    async def api_key(self, asked: Document) -> Kept | None:
        """Return the key that GetResourceApiKey would hand out, or None if that takes more, or is refused."""
        try:
            access = self._tokens.open(asked["workloadIdentityToken"])
            workload, first = await workload_of(self._records, self._realm, access)
            name = asked["resourceCredentialProviderName"]
            provider, second = await self._providers.watched(CredentialKind.API_KEY, name)
        except GatewayError:  # the long way says it
            return None
        reveal = self._providers.api_key_opener(provider)
        key = reveal()
        if key is None:
            return None
        details = api_key_details(access, workload, provider, self._vault.fingerprints.of(key))
        return _kept("apiKey", details, reveal, access.expires_at, first, second)

    async def _found(self, asking: Asking) -> _Found | None:
        match asking.asked["oauth2Flow"]:
            case "USER_FEDERATION":
                return await self._of_user(asking)
            case "M2M":
                return await self._of_machine(asking)
        return await self._exchanged(asking)

    async def _of_user(self, asking: Asking) -> _Found | None:
        if asking.access.user is None:
            return None
        grant, watch = await self._vault.watched(asking.holder(asking.access.user), asking.part())
        if grant is None or grant.state != GrantState.ACTIVE or not grant.sealed:
            return None
        until, opener = self._refreshing.untouched_until(grant, asking.client), self._vault.opener(grant)
        refreshing, grant_id = self._refreshing, grant.id

        def reveal() -> Secret | None:
            return None if refreshing.is_busy(grant_id) else opener()

        token = None if until == -math.inf else reveal()
        if token is None:
            return None
        return grant_details(asking, grant, self._vault.fingerprints.of(token)), reveal, until, watch

    async def _of_machine(self, asking: Asking) -> _Found | None:
        entry = machine_entry(asking.client, asking.requested)
        if entry is None or entry.one_per_client or asking.client.descriptor.machine[0] is not entry:
            return None
        requested = asking.requested
        if not entry.send_scope and not entry.narrow:
            requested = Requested((), requested.parameters, requested.resources, requested.audiences)
        return await self._of_store(asking, machine_key(asking, requested))

    async def _exchanged(self, asking: Asking) -> _Found | None:
        subject = asking.access.inbound_token
        if subject is None or not (self._providers.on_behalf_of(asking.provider) or asking.client.descriptor.exchange):
            return None
        return await self._of_store(asking, exchange_key(asking, subject))

    async def _of_store(self, asking: Asking, key: tuple[str, ...]) -> _Found | None:
        found = await self._issued.find(asking.provider.id, key)
        if found is None:
            return None
        openable, opened = self._providers.openable(asking.provider), found.reveal

        def reveal() -> Secret | None:
            return opened() if openable() else None

        if not openable():  # a token goes no further than the secret that it was got with
            return None
        details = issued_details(asking, found.issued, self._vault.fingerprints)
        return details, reveal, found.until, found.watch


def _kept(
    member: str, details: Document, reveal: Callable[[], Secret | None], until: float, *watches: Watch | None
) -> Kept:
    known = tuple(watch for watch in watches if watch is not None)
    return Kept(member, details, reveal, until, known if len(known) == len(watches) else ())


async def workload_of(records: Records, realm: Realm, access: WorkloadAccess) -> tuple[WorkloadIdentity, Watch | None]:
    """Return the identity that the token was made for: one that is there still, and not a later namesake."""
    found, watch = await watched(records, WorkloadIdentity, account=realm.account, name=access.workload)
    if found is None:
        raise AccessDenied("The workload identity of this token no longer exists.", reason="identity deleted")
    if datetime.fromtimestamp(access.issued_at, UTC) < found.created_at - _SKEW:
        raise AccessDenied(
            "The workload identity of this token no longer exists.", reason="token older than its identity"
        )
    return found, watch


# --- Where issued tokens lie ------------------------------------------------------------------------------------------


def machine_key(asking: Asking, requested: Requested) -> tuple[str, ...]:
    """Return where a machine token of this agent lies: not one that its client has only once."""
    revision, since = str(asking.provider.revision), asking.workload.created_at.isoformat()
    whose = ("agent", asking.provider.id, revision, asking.workload.name, since)
    return ("machine", *whose, *canonical(requested))


def exchange_key(asking: Asking, subject: Secret) -> tuple[str, ...]:
    """Return where a token lies that was exchanged for this token of the user."""
    revision = str(asking.provider.revision)
    whose = (asking.workload.name, asking.workload.created_at.isoformat(), user_text(asking.access.user))
    inbound = sha256(subject.reveal().encode()).hexdigest()
    return ("exchange", asking.provider.id, revision, *whose, inbound, *canonical(asking.requested))


# --- What records say -------------------------------------------------------------------------------------------------


def grant_details(asking: Asking, grant: Grant, fingerprint: str) -> Document:
    """Return what the record of a grant's token says."""
    return asking.details(
        grant=grant.id,
        credential=grant.part,
        granted=list(grant.granted_scopes),
        fingerprint=fingerprint,
        expiresAt=None if grant.expires_at is None else moment(grant.expires_at),
    )


def issued_details(asking: Asking, issued: Issued, fingerprints: Fingerprints) -> Document:
    """Return what the record of a machine's or an exchanged token says."""
    return asking.details(
        granted=None if issued.scopes is None else list(issued.scopes),
        fingerprint=fingerprints.of(issued.token),
        expiresAt=moment(datetime.fromtimestamp(issued.expires_at, UTC)),
    )


def api_key_details(
    access: WorkloadAccess, workload: WorkloadIdentity, provider: CredentialProvider, fingerprint: str
) -> Document:
    """Return what the record of an API key says."""
    return {
        "workload": workload.name,
        "user": user_words(access.user),
        "provider": provider.name,
        "providerId": provider.id,
        "flow": "API_KEY",
        "fingerprint": fingerprint,
    }
