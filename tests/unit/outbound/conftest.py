"""Everything that serves third-party credentials, real but for the vendor's answers and the issuer of users' tokens."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from identity_gateway import catalog
from identity_gateway.admission import Vended
from identity_gateway.audit import Audit
from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.catalog import Catalog
from identity_gateway.consent import Consents, Forward
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.egress import Egress, Fetched
from identity_gateway.envelope import Envelope
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.errors import InvalidToken
from identity_gateway.external_secrets import SecretsManager
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.key_encryption import KeyRing, LocalKey
from identity_gateway.key_signing import LocalSigning
from identity_gateway.model import Document, JwtUser, NamedUser, Realm, Secret, User
from identity_gateway.outbound import IssuedTokens, Outbound
from identity_gateway.paging import Paging
from identity_gateway.protocol.descriptor import parse
from identity_gateway.records import Records
from identity_gateway.records.sql import SqlRecords
from identity_gateway.refresh import Refreshing
from identity_gateway.sealing import Sealer
from identity_gateway.server_metadata import ServerMetadata
from identity_gateway.vault import Vault
from identity_gateway.workload import Workloads, WorkloadTokens
from tests.fakes.clock import Clock
from tests.fakes.consent import query

REALM = Realm("000000000000", "us-east-1")
BASE_URL = "https://gateway.example"
RETURN_URL = "https://app.example/back"
AGENT = "expense-agent"
ADA = JwtUser("https://login.example/tenant", "ada")
INBOUND = "inbound.jwt.ada"
METADATA = {
    "issuer": "https://vendor.example",
    "authorizationEndpoint": "https://vendor.example/authorize",
    "tokenEndpoint": "https://vendor.example/token",
}
_KEYS = (b"m" * 32,)

_PLAIN: Document = {
    "schema": 1,
    "verified": date(2026, 1, 1),
    "sources": ["https://vendor.example/docs"],
    "hosts": ["vendor.example"],
    "authorize": {"url": "https://vendor.example/authorize"},
    "token": {"url": "https://vendor.example/token"},
}
_MACHINE = {"url": "https://vendor.example/token", "params": {"grant_type": "client_credentials"}}
_VENDORS: tuple[Document, ...] = (
    {
        "id": "chat",
        "name": "Sample Chat",
        "agentcore": {"vendor": "ChatOauth2"},
        "scopes": {"separator": ",", "sets": {"scope": "bot", "user_scope": "person"}},
        "token": {
            "url": "https://vendor.example/token",
            "response": {
                "issued": [
                    {"name": "bot"},
                    {"name": "person", "access": "person.access_token", "refresh": "person.refresh_token"},
                    {"name": "person", "access": "human.access_token"},
                ]
            },
        },
    },
    {
        "id": "calls",
        "name": "Sample Calls",
        "agentcore": {"vendor": "CallsOauth2"},
        "machine": [{**_MACHINE, "name": "server", "one_per_client": True, "send_scope": False, "caller_params": []}],
    },
    {
        "id": "drive",
        "name": "Sample Drive",
        "agentcore": {"vendor": "DriveOauth2"},
        "machine": [{**_MACHINE, "name": "machine"}],
        "exchange": {"grant": "jwt_bearer", "params": {"requested_token_use": "on_behalf_of"}},
    },
)


@cache
def vendors() -> Catalog:
    custom = Path(catalog.__file__).parents[1] / "providers" / "outbound" / "custom.toml"
    return Catalog([catalog.read(custom), *(parse({**_PLAIN, **each}, file="sample.toml") for each in _VENDORS)])


@dataclass
class Vendor:
    """Where the token endpoint would be: numbers its tokens, and remembers the forms and who sent them."""

    status: int = 200
    answer: Document = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    asked: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    async def fetch(self, url: str, *, content: bytes | None = None, **how: Any) -> Fetched:
        """Answer as the vendor would; the signature is that of `Egress.fetch`."""
        assert url == "https://vendor.example/token"
        self.asked.append(dict(parse_qsl((content or b"").decode(), keep_blank_values=True)))
        self.authorizations.append(dict(how["headers"]).get("Authorization"))
        number = len(self.asked)
        given = {"access_token": f"token-{number}", "refresh_token": f"refresh-{number}", "expires_in": 3600}
        answer = self.answer if self.status != 200 else given | self.answer
        return Fetched(self.status, (("content-type", "application/json"), *self.headers), json.dumps(answer).encode())


class Issuer:
    """Whose users' tokens are `user:NAME`."""

    async def user_of(self, token: Secret) -> JwtUser:
        scheme, _, name = token.reveal().partition(":")
        if scheme != "user":
            raise InvalidToken(reason="bad_signature")
        return JwtUser(ADA.issuer, name)


@dataclass
class World:
    """One account with one agent."""

    outbound: Outbound
    providers: CredentialProviders
    workloads: Workloads
    tokens: WorkloadTokens
    consents: Consents
    vault: Vault
    records: Records
    vendor: Vendor
    clock: Clock
    issued: IssuedTokens
    envelope: Envelope

    async def register(self, name: str, vendor: str, *, secret: str = "s3cret", **members: Any) -> str:
        """Register a provider and return its name."""
        custom = vendor == "CustomOauth2"
        member = "customOauth2ProviderConfig" if custom else "includedOauth2ProviderConfig"
        found = {"oauthDiscovery": {"authorizationServerMetadata": METADATA}} if custom else {}
        given = {"clientId": "client-1", "clientSecret": secret, **found, **members}
        await self.providers.create_oauth2_credential_provider(
            {"name": name, "credentialProviderVendor": vendor, "oauth2ProviderConfigInput": {member: given}}
        )
        return name

    def token(self, user: User | None = ADA, *, agent: str = AGENT, inbound: str | None = None) -> str:
        return self.tokens.mint(agent, user, Secret(inbound) if inbound else None).reveal()

    async def ask(self, provider: str, flow: str = "USER_FEDERATION", **asked: Any) -> Document | Vended:
        """Do what GetResourceOauth2Token does, for Ada unless a token says otherwise."""
        parameters = {
            "workloadIdentityToken": self.token(),
            "resourceCredentialProviderName": provider,
            "oauth2Flow": flow,
            "scopes": [],
            "resourceOauth2ReturnUrl": RETURN_URL,
        }
        return await self.outbound.get_resource_oauth2_token(parameters | asked)

    async def given(self, provider: str, flow: str = "USER_FEDERATION", **asked: Any) -> str:
        """Return the access token that is handed out."""
        answered = await self.ask(provider, flow, **asked)
        assert isinstance(answered, Vended), answered
        return str(answered.output["accessToken"])

    async def on_behalf(self, provider: str, **asked: Any) -> str:
        token = self.token(inbound=INBOUND)
        return await self.given(provider, "ON_BEHALF_OF_TOKEN_EXCHANGE", **{"workloadIdentityToken": token, **asked})

    async def consent(self, provider: str, **asked: Any) -> Document:
        """Have Ada consent to what is asked; return the answer that held the link."""
        waiting = await self.ask(provider, **asked)
        assert isinstance(waiting, dict), waiting
        await self.agree(waiting)
        await self.outbound.complete_resource_token_auth(
            {"sessionUri": waiting["sessionUri"], "userIdentifier": {"userToken": "user:ada"}}
        )
        return waiting

    async def agree(self, waiting: Document) -> None:
        """Go through the pages as a browser does, up to the return URL."""
        channel, cookies = self.consents.front_channel, {}
        request_uri = query(waiting["authorizationUrl"])["request_uri"]
        pressed = await channel.proceed(request_uri, cookies)
        assert isinstance(pressed, Forward), pressed
        cookies[pressed.cookie.name] = pressed.cookie.value
        asked = query(pressed.url)
        back = [("state", asked["state"]), ("code", "code-1")]
        returned = await channel.returned(asked["redirect_uri"].rpartition("/")[2], back, cookies)
        assert isinstance(returned, Forward), returned


@pytest.fixture
async def here(records: SqlRecords, clock: Clock) -> AsyncIterator[World]:
    async with opened(records, LocalEphemeral(None, clock=clock), clock) as world:
        await world.workloads.create_workload_identity({"name": AGENT, "allowedResourceOauth2ReturnUrls": [RETURN_URL]})
        yield world


@asynccontextmanager
async def opened(records: SqlRecords, ephemeral: LocalEphemeral, clock: Clock) -> AsyncIterator[World]:
    """Put one process's parts together on these stores, of which the ephemeral one is closed at the end."""
    keys = KeyRing(records, LocalKey(_KEYS, clock=clock), REALM.account, services={})
    envelope, vendor, issuer = Envelope(keys, clock=clock), Vendor(), Issuer()
    egress = Egress([])
    manager, metadata = SecretsManager(REALM.region, clock=clock), ServerMetadata(egress, clock=clock)
    paging = Paging(Sealer(_KEYS, "paging"), REALM.account)
    providers = CredentialProviders(
        records, envelope, vendors(), manager, metadata, paging, REALM, base_url=BASE_URL, clock=clock
    )
    fingerprints = Fingerprints(_KEYS)
    vault = Vault(records, envelope, fingerprints, REALM.account, clock=clock)
    server = AuthorizationServer(vendor, clock=clock, signing=LocalSigning())
    audit = Audit(records, REALM.account, clock=clock, retention=timedelta(days=1))
    consents = Consents(
        ephemeral, Sealer(_KEYS, "consent"), vault, providers, server, REALM,
        base_url=BASE_URL, clock=clock, audit=audit,
    )  # fmt: skip
    tokens = WorkloadTokens(Sealer(_KEYS, "workload-access-token"), REALM.account, clock=clock)
    workloads = Workloads(records, tokens, issuer, paging, REALM, clock=clock)
    sealer = Sealer(_KEYS, "issued-tokens")
    issued = IssuedTokens(ephemeral, sealer, REALM.account, clock=clock, changes=records.changes)
    refreshing = Refreshing(vault, ephemeral, server, clock=clock, jitter=lambda: 0.5, owner=f"process-{id(records)}")
    outbound = Outbound(
        records, tokens, issuer, providers, vault, refreshing, consents, issued, server, fingerprints, REALM
    )
    yield World(outbound, providers, workloads, tokens, consents, vault, records, vendor, clock, issued, envelope)
    await refreshing.aclose(1)
    await audit.close()
    await manager.aclose()
    await metadata.aclose()
    await egress.aclose()
    await ephemeral.close()
    await keys.aclose()


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


NAMED = NamedUser("ada")
