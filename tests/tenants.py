"""Two accounts in one process, on one database, one ephemeral store and one master key: what isolation has to keep apart.

Agents, applications and administrators call the stories themselves; browsers meet the real front door. `clock` may be
moved: records and tokens age, the ephemeral store does not.
"""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from identity_gateway.admission import Vended
from identity_gateway.app import Gateway, open_gateway
from identity_gateway.model import JwtUser, NamedUser, User
from identity_gateway.sealing import Sealer
from identity_gateway.settings import Settings
from identity_gateway.workload import SEALING_PERIOD, WorkloadTokens
from tests.callers import token_of
from tests.fakes.issuer import FakeIssuer

BASE_URL = "https://gateway.example"
RETURN_URL = "https://app.example/back"
MASTER_KEY = bytes(range(32))
OURS, THEIRS = "111111111111", "222222222222"


class Clock:
    """Real time, and what was skipped of it."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return time.time() + self.skipped


class Browser:
    """One person's browser: it has cookies of its own, and follows nothing by itself."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    async def press(self, tenant: "Tenant", link: str) -> str | None:
        """Look at the link and press Continue; return the vendor's URL, or None where there is none."""
        await self.send(tenant, "GET", link)
        answer = await self.send(tenant, "POST", link, origin=BASE_URL)
        return answer.headers.get("location")

    async def come_back(self, tenant: "Tenant", url: str) -> str | None:
        """Follow the vendor's redirect; return where the gateway sends the browser to, if anywhere."""
        location: str | None = (await self.send(tenant, "GET", url)).headers.get("location")
        return location

    async def send(self, tenant: "Tenant", method: str, url: str, **headers: str) -> httpx2.Response:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await tenant.http.request(method, url, headers={**headers, **({"cookie": cookies} if cookies else {})})
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer


@dataclass
class Tenant:
    """One account, open."""

    account: str
    gateway: Gateway
    http: httpx2.AsyncClient
    tokens: WorkloadTokens
    issuer: FakeIssuer
    clock: Clock

    async def create_agent(self, name: str) -> None:
        await self.gateway.stories.workloads.create_workload_identity(
            {"name": name, "allowedResourceOauth2ReturnUrls": [RETURN_URL]}
        )

    async def create_provider(self, name: str, configuration: dict[str, Any]) -> None:
        await self.gateway.stories.providers.create_oauth2_credential_provider({"name": name, **configuration})

    async def clear(self) -> None:
        """Delete every agent and every provider, and so every grant."""
        stories = self.gateway.stories
        for agent in (await stories.workloads.list_workload_identities({}))["workloadIdentities"]:
            await stories.workloads.delete_workload_identity({"name": agent["name"]})
        for provider in (await stories.providers.list_oauth2_credential_providers({}))["credentialProviders"]:
            await stories.providers.delete_oauth2_credential_provider({"name": provider["name"]})

    def workload_token(self, agent: str, user: User | None) -> str:
        """Return what the gateway mints for an agent and a user."""
        return self.tokens.mint(agent, user).reveal()

    async def ask(self, agent: str, user: User, provider: str, **more: Any) -> "Answer":
        """GetResourceOauth2Token with a fresh workload access token, unless another one is given."""
        asked = {
            "workloadIdentityToken": self.workload_token(agent, user),
            "resourceCredentialProviderName": provider,
            "scopes": ["read"],
            "oauth2Flow": "USER_FEDERATION",
            "resourceOauth2ReturnUrl": RETURN_URL,
            **more,
        }
        answered = await self.gateway.stories.outbound.get_resource_oauth2_token(asked)
        if isinstance(answered, Vended):
            return Answer(token=answered.output["accessToken"], details=answered.details)
        return Answer(link=answered["authorizationUrl"] or "", session=answered["sessionUri"])

    async def complete(self, session: str, user: User) -> None:
        """CompleteResourceTokenAuth, as the application of this user does."""
        match user:
            case NamedUser(id=named):
                identifier = {"userId": named}
            case JwtUser(subject=subject):
                now = int(self.clock())
                identifier = {"userToken": token_of(self.issuer, sub=subject, iat=now, exp=now + 600)}
        asked = {"sessionUri": session, "userIdentifier": identifier}
        await self.gateway.stories.outbound.complete_resource_token_auth(asked)


@dataclass(frozen=True)
class Answer:
    """A token with its audit details, or the link and the id of a session."""

    token: str = ""
    link: str = ""
    session: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def session_of(location: str) -> str:
    """Return what the application reads from its return URL."""
    return dict(parse_qsl(urlsplit(location).query))["session_id"]


@asynccontextmanager
async def open_tenants(folder: Path, clock: Clock, issuer: FakeIssuer) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """Open both accounts. They share everything that two gateways can share."""
    async with AsyncExitStack() as stack:
        opened = [await _open(stack, account, folder, clock, issuer) for account in (OURS, THEIRS)]
        yield opened[0], opened[1]


async def _open(stack: AsyncExitStack, account: str, folder: Path, clock: Clock, issuer: FakeIssuer) -> Tenant:
    settings = Settings(
        account_id=account,
        data_dir=folder,
        master_key=base64.b64encode(MASTER_KEY).decode(),
        public_url=BASE_URL,
        egress_allow="127.0.0.0/8",
        root_access_key_id="IGROOT",
        root_secret_access_key="root-secret-of-a-test",
    )
    gateway = await stack.enter_async_context(open_gateway(settings, clock=clock))
    transport = httpx2.ASGITransport(app=gateway.front)
    http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport))
    sealer = Sealer((MASTER_KEY,), "workload-access-token", period_seconds=SEALING_PERIOD)
    return Tenant(account, gateway, http, WorkloadTokens(sealer, account, clock=clock), issuer, clock)
