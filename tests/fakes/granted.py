"""Grants that users really gave at a fake vendor, with everything real but the network: for revoking them.

The vendor stands where the way out to the network would be; providers, vault, keys and database are the product's own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from identity_gateway import catalog
from identity_gateway.audit import Audit
from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.credential_providers import CredentialProviders, ProviderSettings
from identity_gateway.egress import Egress
from identity_gateway.envelope import Envelope
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.external_secrets import SecretsManager
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.grants import Grants, Revocation
from identity_gateway.key_encryption.local import LocalKey
from identity_gateway.key_encryption.ring import KeyRing
from identity_gateway.model import AuditRecord, CredentialProvider, Grant, NamedUser, Realm, Secret, User
from identity_gateway.outbound import IssuedTokens
from identity_gateway.paging import Paging
from identity_gateway.protocol.oauth2 import Answered, Client, authorization_url
from identity_gateway.records.sql import SqlRecords
from identity_gateway.refresh import Refreshing
from identity_gateway.sealing import Sealer
from identity_gateway.server_metadata import ServerMetadata
from identity_gateway.signals import Signals
from identity_gateway.vault import Holder, Vault
from tests.fakes.clock import Clock
from tests.fakes.vendor import Vendor
from tests.fakes.vendor.keys import KeyService
from tests.fakes.vendor.server import REDIRECT, s256
from tests.providers.vendors import ALL

KEYS = (b"g" * 32,)
REALM = Realm("000000000000", "us-east-1")
BORN = datetime(2026, 1, 1, tzinfo=UTC)
ADA, BOB = NamedUser("ada"), NamedUser("bob")
VERIFIER = "v" * 43
CATALOG = catalog.load()


@dataclass
class World:
    """A gateway's token vault in front of one vendor. `providers` are by name; each vendor's is called like it."""

    records: SqlRecords
    ephemeral: LocalEphemeral
    clock: Clock
    vendor: Vendor
    providers: CredentialProviders
    vault: Vault
    server: AuthorizationServer
    audit: Audit
    issued: IssuedTokens
    slept: list[float] = field(default_factory=list)
    while_asleep: Any = None

    @property
    def revocation(self) -> Revocation:
        return Revocation(self.vault, self.providers, self.server, clock=self.clock, sleep=self._sleep)

    @property
    def grants(self) -> Grants:
        return Grants(self.vault, self.providers, self.revocation, Paging(Sealer(KEYS, "page"), REALM.account), REALM)

    @property
    def settings(self) -> ProviderSettings:
        return ProviderSettings(self.providers, CATALOG, base_url="https://gateway.example")

    @property
    def signals(self) -> Signals:
        return Signals(
            self.providers, self.vault, self.issued, self.ephemeral, self.audit, REALM, clock=self.clock
        )  # fmt: skip

    def refreshing(self) -> Refreshing:
        return Refreshing(
            self.vault, self.ephemeral, self.server, clock=self.clock, sleep=self._sleep, jitter=lambda: 0.5, owner="one"
        )  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds
        if self.while_asleep is not None:
            await self.while_asleep()

    async def register(self, name: str = "", **secrets: str) -> CredentialProvider:
        """Register a client at the vendor."""
        name, (word, member) = name or self.vendor.id, self.vendor.agentcore
        await self.providers.create_oauth2_credential_provider({
            "name": name,
            "credentialProviderVendor": word,
            "oauth2ProviderConfigInput": {
                member: {"clientId": self.vendor.client_id, "clientSecret": self.vendor.client_secret}
            },
        })  # fmt: skip
        if secrets:
            await self.providers.set_secrets(name, secrets)
        return await self.providers.oauth2(name)

    async def client(self, name: str = "") -> Client:
        return await self.providers.client_of(await self.providers.oauth2(name or self.vendor.id))

    async def consent(
        self, user: User = ADA, workload: str = "agent", *, name: str = "", subject: str | None = None, **changes: Any
    ) -> Grant:
        """Have a user consent at the vendor, and return the first grant. `subject`: who that is at the vendor."""
        provider = await self.providers.oauth2(name or self.vendor.id)
        client, requested = await self.providers.client_of(provider), self.vendor.requested()
        challenge = s256(VERIFIER) if self.vendor.pkce == "S256" else None
        began = self.clock.now
        url = authorization_url(client, requested, redirect_uri=REDIRECT, state="state", code_challenge=challenge)
        code = dict(self.vendor.authorize(url))["code"]
        answered = await self.server.exchange_code(
            client, code=Secret(code), redirect_uri=REDIRECT, code_verifier=VERIFIER if challenge else None,
            requested=requested,
        )  # fmt: skip
        assert isinstance(answered, Answered), answered
        if self.vendor.userinfo is not None:
            who = await self.server.userinfo(client, answered.credentials[0].access)
            answered = replace(answered, account=who.account, subject=who.subject, label=who.label)  # type: ignore[union-attr]
        if subject is not None:
            answered = replace(answered, subject=subject)
        answered = replace(answered, **changes)
        holder = Holder(workload, BORN, user, provider.name, provider.id, requested)
        supersedes, recipient = client.descriptor.reconsent_supersedes, client.recipient
        stored = await self.vault.store_consent(
            holder, answered, began=began, supersedes=supersedes, recipient=recipient
        )  # fmt: skip
        return stored[0]

    async def row(self, grant: Grant) -> Grant:
        found = await self.vault.get(grant.id)
        assert found is not None
        return found

    async def state(self, grant: Grant) -> tuple[str, str, bool]:
        """Return state and reason, and whether tokens are kept."""
        found = await self.row(grant)
        return found.state, found.reason, bool(found.sealed)

    async def revoke(self, grant: Grant) -> dict[str, Any]:
        """Return what RevokeGrant says of the vendor, without what it leaves out."""
        done = await self.grants.revoke_grant({"grantId": grant.id})
        return {name: value for name, value in done.output["vendorRevocation"].items() if value is not None}

    def expire(self, number: int = 0) -> None:
        """Let the access tokens of a consent expire, here and at the vendor."""
        family = self.vendor.families[number]
        family.dead |= set(family.access)
        self.clock.now += 30000

    async def trail(self) -> list[AuditRecord]:
        async with self.records.read() as transaction:
            return await transaction.list(AuditRecord, account=REALM.account)


@asynccontextmanager
async def world(records: SqlRecords, clock: Clock, folder: Any, vendor: str, variant: str = "") -> AsyncIterator[World]:
    """A token vault in front of a vendor, for a while."""
    standing = ALL[vendor](variant, now=clock.now)
    outside = Egress()
    envelope = Envelope(KeyRing(records, LocalKey(KEYS, clock=clock), REALM.account, services={}), clock=clock)
    manager, metadata = SecretsManager(REALM.region, clock=clock), ServerMetadata(outside, clock=clock)
    ephemeral = LocalEphemeral(folder / "ephemeral.sqlite", clock=clock)
    audit = Audit(records, REALM.account, clock=clock, retention=timedelta(days=1))
    providers = CredentialProviders(
        records, envelope, CATALOG, manager, metadata, Paging(Sealer(KEYS, "page"), REALM.account), REALM,
        base_url="https://gateway.example", clock=clock,
    )  # fmt: skip
    yield World(
        records, ephemeral, clock, standing, providers,
        Vault(records, envelope, Fingerprints(KEYS), REALM.account, clock=clock),
        AuthorizationServer(standing, clock=clock, signing=KeyService()),  # type: ignore[arg-type]
        audit, IssuedTokens(ephemeral, Sealer(KEYS, "issued"), REALM.account, clock=clock),
    )  # fmt: skip
    await audit.close()
    await ephemeral.close()
    await manager.aclose()
    await metadata.aclose()
    await outside.aclose()
