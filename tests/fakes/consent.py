"""Consents with everything real but the vendor and the register of providers, and a browser without a window."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from identity_gateway.audit import Audit
from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.consent import Consents, Forward, Problem, Question, Started
from identity_gateway.egress import Fetched
from identity_gateway.envelope import Envelope
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.key_encryption.local import LocalKey
from identity_gateway.key_encryption.ring import KeyRing
from identity_gateway.key_signing import LocalSigning
from identity_gateway.model import AuditRecord, CredentialProvider, JwtUser, Realm, Secret, WorkloadIdentity
from identity_gateway.protocol.descriptor import parse
from identity_gateway.protocol.oauth2 import Client, Requested
from identity_gateway.records import AlreadyExists, Records
from identity_gateway.sealing import Sealer
from identity_gateway.vault import Holder, Vault

REALM = Realm("000000000000", "us-east-1")
MASTER_KEYS = (b"m" * 32,)
BASE_URL = "https://gateway.example"
RETURN_URL = "https://app.example/back?tab=2"
ADA = JwtUser("https://login.example/tenant", "ada")
BOB = JwtUser("https://login.example/tenant", "bob")
BORN = datetime(2026, 1, 1, tzinfo=UTC)
RECIPIENT = "client-1 at the vendor"
PROVIDER_ID, OTHER_ID = "0b6c1f5e-provider", "77d0aa12-provider"

DESCRIPTOR = {
    "schema": 1,
    "id": "sample",
    "name": "Sample Drive",
    "verified": datetime(2026, 1, 1, tzinfo=UTC).date(),
    "sources": ["https://vendor.example/docs"],
    "hosts": ["vendor.example"],
    "agentcore": {"vendor": "SampleOauth2"},
    "scopes": {"sets": {"user_scope": "default"}},
    "authorize": {"url": "https://vendor.example/oauth/authorize"},
    "variables": {
        "region": {
            "source": "callback",
            "from": "location",
            "default": "eu",
            "pattern": "[a-z]{2}",
            "description": ".",
        },
        "shard": {"source": "response", "from": "shard", "pattern": "[0-9]", "description": "."},
    },
    "token": {
        "url": "https://vendor.example/oauth/token",
        "params": {
            "grant_type": "authorization_code",
            "code": "{code}",
            "redirect_uri": "{redirect_uri}",
            "region": "{region}",
        },
        "response": {"account": ["team"], "subject": ["user"]},
    },
    "userinfo": {"url": "https://vendor.example/me", "subject": "id", "label": "name"},
    "errors": [
        {
            "on": ["token"],
            "when": [{"path": "error", "equals": "invalid_grant"}],
            "outcome": "restart",
            "advice": "Start again.",
        }
    ],
}
GRANTED = {
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "expires_in": 3600,
    "token_type": "Bearer",
    "team": "team-1",
    "user": "vendor-ada",
    "shard": "7",
}


def client(*, endpoint: str | None = None, issuer: str | None = None, **described: Any) -> Client:
    """Return a client of a vendor that is described as above, and differently where it is said.

    `endpoint` is an authorization endpoint that the provider was given for itself.
    """
    endpoints = {"authorize": endpoint} if endpoint else {}
    descriptor = parse({**DESCRIPTOR, **described}, file="sample.toml")
    return Client(
        descriptor, "client-1", Secret("client-secret"),
        endpoints=endpoints, issuer=issuer, recipient=RECIPIENT,
    )  # fmt: skip


def holder(user: Any = ADA, *, provider_id: str = PROVIDER_ID, workload: str = "expense-agent", **asked: Any) -> Holder:
    """Return Ada's agent at the sample vendor, asking for two scopes."""
    requested = Requested(**{"scopes": ("files.read", "files.write"), **asked})
    return Holder(workload, BORN, user, "drive", provider_id, requested)


def provider(provider_id: str = PROVIDER_ID) -> CredentialProvider:
    """Return the first provider, or the second by its id."""
    name = "drive" if provider_id == PROVIDER_ID else "other"
    given, settings = {"includedOauth2ProviderConfig": {"clientId": "client-1"}}, {"variables": {}, "secrets": []}
    return CredentialProvider(
        REALM.account, "oauth2", name, provider_id, "SampleOauth2", given, settings, "MANAGED", None, b"", BORN, BORN
    )


@dataclass
class Register:
    """Which providers there are."""

    clients: dict[str, Client]
    base_url: str

    async def by_id(self, provider_id: str) -> CredentialProvider | None:
        return provider(provider_id) if provider_id in self.clients else None

    async def client_of(self, found: CredentialProvider) -> Client:
        return self.clients[found.id]

    def recipient_of(self, found: CredentialProvider) -> str:
        return self.clients[found.id].recipient

    def callback_url(self, found: CredentialProvider) -> str:
        return f"{self.base_url}/identities/oauth2/callback/{found.id}"


@dataclass
class Network:
    """Where the vendor's endpoints would be: answers as it was told, and remembers the forms it was sent."""

    status: int = 200
    answer: dict[str, Any] = field(default_factory=lambda: dict(GRANTED))
    fault: Exception | None = None
    me: dict[str, str] | None = None
    asked: list[dict[str, str]] = field(default_factory=list)

    async def fetch(self, url: str, *, content: bytes | None = None, **_how: Any) -> Fetched:
        """Answer as the vendor would; the signature is that of `Egress.fetch`."""
        if url == "https://vendor.example/me":
            return _json(200 if self.me else 500, self.me or {})
        assert url == "https://vendor.example/oauth/token"
        self.asked.append(dict(parse_qsl((content or b"").decode())))
        if self.fault is not None:
            raise self.fault
        return _json(self.status, self.answer)


def _json(status: int, answer: dict[str, Any]) -> Fetched:
    return Fetched(status, (("content-type", "application/json"),), json.dumps(answer).encode())


class Browser:
    """Looks, presses, and comes back, with cookies of its own."""

    def __init__(self, world: "World") -> None:
        self._channel = world.consents.front_channel
        self.cookies: dict[str, str] = {}

    async def look(self, started: Started) -> Question | Problem:
        return self._kept(await self._channel.show(request_uri(started), self.cookies))

    async def press(self, started: Started) -> Forward | Problem:
        return self._kept(await self._channel.proceed(request_uri(started), self.cookies))

    async def state(self, started: Started) -> str:
        """Press the button and return the `state` that the vendor was given."""
        pressed = await self.press(started)
        assert isinstance(pressed, Forward), pressed
        return query(pressed.url)["state"]

    async def come_back(self, *, provider_id: str = PROVIDER_ID, **parameters: str) -> Forward | Problem:
        return await self._channel.returned(provider_id, list(parameters.items()), self.cookies)

    async def consent(self, started: Started, code: str = "code-1") -> Forward | Problem:
        """Do everything that a user does who agrees."""
        return await self.come_back(state=await self.state(started), code=code)

    def _kept(self, reached: Any) -> Any:
        cookie = getattr(reached, "cookie", None)
        if cookie is not None:
            self.cookies[cookie.name] = cookie.value
        return reached


@dataclass
class World:
    """A gateway's consents, their vault and audit, and a vendor."""

    consents: Consents
    vault: Vault
    records: Records
    ephemeral: LocalEphemeral
    audit: Audit
    register: Register
    vendor: Network

    def browser(self) -> Browser:
        return Browser(self)

    async def begin(
        self, mine: Holder | None = None, *, return_url: str = RETURN_URL, state: str | None = None
    ) -> Started:
        mine = mine or holder()
        used = self.register.clients[mine.provider_id]
        return await self.consents.begin(
            mine, used, provider(mine.provider_id), return_url=return_url, custom_state=state
        )

    async def returned(self, **options: Any) -> Started:
        """Return a session in which the user has agreed, and nobody has completed it."""
        started = await self.begin(**options)
        assert isinstance(await self.browser().consent(started), Forward)
        return started

    async def trail(self) -> list[AuditRecord]:
        async with self.records.read() as transaction:
            return await transaction.list(AuditRecord, account=REALM.account)


@asynccontextmanager
async def world(
    records: Records,
    clock: Callable[[], float],
    *,
    base_url: str = BASE_URL,
    ephemeral: LocalEphemeral | None = None,
    **clients: Client,
) -> AsyncIterator[World]:
    """Open consents. `clients` are by the names `first` (the one of PROVIDER_ID) and `second` (OTHER_ID)."""
    agent = WorkloadIdentity(REALM.account, "expense-agent", (RETURN_URL,), None, BORN, BORN)
    async with records.write() as transaction:
        for record in (agent, provider(), provider(OTHER_ID)):
            with suppress(AlreadyExists):  # several worlds may share the records
                await transaction.create(record)
    register = Register(
        {PROVIDER_ID: clients.get("first") or client(), OTHER_ID: clients.get("second") or client()}, base_url
    )
    keys = KeyRing(records, LocalKey(MASTER_KEYS, clock=clock), REALM.account, services={})
    vault = Vault(records, Envelope(keys, clock=clock), Fingerprints(MASTER_KEYS), REALM.account, clock=clock)
    audit = Audit(records, REALM.account, clock=clock, retention=timedelta(days=1))
    ephemeral, vendor = ephemeral or LocalEphemeral(None, clock=clock), Network()
    sealer = Sealer(MASTER_KEYS, "consent")
    server = AuthorizationServer(vendor, clock=clock, signing=LocalSigning())
    consents = Consents(
        ephemeral, sealer, vault, register, server, REALM, base_url=base_url, clock=clock, audit=audit
    )  # fmt: skip
    try:
        yield World(consents, vault, records, ephemeral, audit, register, vendor)
    finally:
        await audit.close()
        await ephemeral.close()


def request_uri(started: Started) -> str:
    return query(started.authorization_url)["request_uri"]


def query(url: str) -> dict[str, str]:
    """Return the parameters of a URL, each of which stands there once."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), "a parameter stands twice"
    return dict(pairs)
