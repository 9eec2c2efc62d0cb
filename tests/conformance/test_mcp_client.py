"""The official MCP client through the gateway, without help: it finds the issuer, registers, logs in, and calls a tool.

The issuer is npm's oidc-provider, the server the official package's: stateless, and with sessions. The one thing that a
person does is to sign in, and `walk` does that.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp.shared.exceptions import MCPError

from tests.callers import guarded_by, token_of, walk
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ROLE, RunningGateway, free_port, register
from tests.issuers import OidcProvider
from tests.mcp_agents import McpAgent, running_mcp_agent

CALLBACK = "http://127.0.0.1:3/callback"
MCP = {"protocolConfiguration": {"serverProtocol": "MCP"}}


@pytest.fixture(scope="module")
def stateless() -> Iterator[McpAgent]:
    with running_mcp_agent(stateless=True) as agent:
        yield agent


@pytest.fixture(scope="module")
def stateful() -> Iterator[McpAgent]:
    with running_mcp_agent(stateless=False) as agent:
        yield agent


class Memory(TokenStorage):
    """What a client remembers."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@dataclass
class Person:
    """Who signs in when the client asks for it, and what was asked."""

    links: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    scope: str | None = None

    async def open(self, link: str) -> None:
        self.links.append(link)

    async def answer(self) -> AuthorizationCodeResult:
        visited = await asyncio.to_thread(walk, self.links[-1], until=CALLBACK)
        given = {name: values[0] for name, values in parse_qs(urlsplit(visited[-1]).query).items()}
        return AuthorizationCodeResult(code=given["code"], state=given.get("state"), iss=given.get("iss"))

    def provider(self, url: str) -> OAuthClientProvider:
        metadata = OAuthClientMetadata.model_validate(
            {
                "client_name": "a client",
                "redirect_uris": [CALLBACK],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
                "scope": self.scope,
            }
        )
        return OAuthClientProvider(url, metadata, self.memory, self.open, self.answer)

    def asked(self, name: str) -> str | None:
        return parse_qs(urlsplit(self.links[-1]).query).get(name, [None])[0]


def registered(gateway: RunningGateway, agent: McpAgent, issuer: OidcProvider, query: str = "", **rules: Any) -> str:
    """Register an MCP runtime that takes tokens for its own URL, as clients ask for them; return that URL."""
    before = guarded_by(issuer.discovery_url, allowedAudience=["not yet known"])
    url = gateway.invocation_url(register(gateway, agent.url, **MCP, **before), query=query)
    issuer.serve(url)
    configure(gateway, url, agent, issuer, **(rules or {"allowedScopes": ["agents.invoke"]}))
    return url


def configure(gateway: RunningGateway, url: str, agent: McpAgent, issuer: OidcProvider, **rules: Any) -> None:
    gateway.control.update_agent_runtime(
        agentRuntimeId=unquote(url).partition("/invocations")[0].rpartition("/")[2],
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": agent.url}},
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **MCP,
        **guarded_by(issuer.discovery_url, allowedAudience=[url], **rules),
    )


@asynccontextmanager
async def connected(url: str, auth: Any, *, mode: Any = "auto", **options: Any) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30, trust_env=False, **options) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, read_timeout_seconds=30) as client,
    ):
        yield client


class Bearer(httpx2.Auth):
    """A client that has its token already."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> Any:
        request.headers["authorization"] = f"Bearer {self._token}"
        yield request


def known(issuer: OidcProvider) -> OAuthClientInformationFull:
    """Register a client that may ask for any scope."""
    wanted = {"redirect_uris": [CALLBACK], "grant_types": ["authorization_code", "refresh_token"]}
    made = httpx2.post(f"{issuer.issuer}/reg", json=wanted, trust_env=False).raise_for_status().json()
    return OAuthClientInformationFull.model_validate(made | {"issuer": issuer.issuer})


def text_of(result: Any) -> str:
    return str(result.content[0].text)


# --- Discovery, login, call ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_finds_the_issuer_logs_in_and_calls_a_tool_of_a_stateless_server(
    gateway: RunningGateway, stateless: McpAgent, oidc_provider: OidcProvider, mode: str
):
    url = registered(gateway, stateless, oidc_provider)
    person = Person()
    async with connected(url, person.provider(url), mode=mode) as client:
        told = await client.call_tool("report", {"steps": 2})
    assert text_of(told) == "done"
    assert len(person.links) == 1


async def test_a_client_finds_the_issuer_logs_in_and_keeps_a_session_of_a_stateful_server(
    gateway: RunningGateway, stateful: McpAgent, oidc_provider: OidcProvider
):
    url = registered(gateway, stateful, oidc_provider)
    person = Person()
    async with connected(url, person.provider(url), mode="legacy") as client:
        counted = [text_of(await client.call_tool("count")) for _ in range(3)]
    assert counted == ["1", "2", "3"]


async def test_a_client_whose_url_names_an_endpoint_asks_for_a_token_for_that_very_url(
    gateway: RunningGateway, stateless: McpAgent, oidc_provider: OidcProvider
):
    url = registered(gateway, stateless, oidc_provider, query="qualifier=DEFAULT")
    person = Person()
    async with connected(url, person.provider(url)) as client:
        assert text_of(await client.call_tool("report", {"steps": 1})) == "done"
    assert person.asked("resource") == url


async def test_a_client_that_overlooks_the_challenge_finds_the_document_where_the_rfc_puts_it(
    gateway: RunningGateway, stateless: McpAgent, oidc_provider: OidcProvider
):
    async def overlook(response: httpx2.Response) -> None:
        response.headers.pop("www-authenticate", None)

    url = registered(gateway, stateless, oidc_provider)
    person = Person()
    async with connected(url, person.provider(url), event_hooks={"response": [overlook]}) as client:
        assert text_of(await client.call_tool("report", {"steps": 1})) == "done"
    assert person.asked("scope") == "agents.invoke offline_access"


async def test_a_client_asks_for_the_scopes_of_the_challenge(
    gateway: RunningGateway, stateless: McpAgent, oidc_provider: OidcProvider
):
    url = registered(gateway, stateless, oidc_provider, allowedScopes=["agents.read"])
    person = Person()
    async with connected(url, person.provider(url)) as client:
        await client.list_tools()
    assert person.asked("scope") == "agents.read offline_access"  # the client's own wish: it can refresh


async def test_a_client_whose_token_lacks_a_scope_logs_in_again_for_both(
    gateway: RunningGateway, stateless: McpAgent, oidc_provider: OidcProvider
):
    url = registered(gateway, stateless, oidc_provider, allowedScopes=["agents.read"])
    person = Person()
    person.memory.client = known(oidc_provider)  # one that registers itself is registered for the first scope alone
    async with connected(url, person.provider(url)) as client:
        await client.list_tools()
    configure(gateway, url, stateless, oidc_provider, allowedScopes=["agents.invoke"])
    async with connected(url, person.provider(url)) as client:
        await client.list_tools()
    assert set((person.asked("scope") or "").split()) == {"agents.read", "agents.invoke", "offline_access"}


async def test_a_client_that_has_a_token_is_not_asked_again(
    gateway: RunningGateway, stateful: McpAgent, oidc_provider: OidcProvider
):
    url = registered(gateway, stateful, oidc_provider)
    person = Person()
    for _ in range(2):
        async with connected(url, person.provider(url)) as client:
            await client.list_tools()
    assert len(person.links) == 1


# --- Sessions and streams ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(gateway: RunningGateway, stateful: McpAgent, jwt_issuer: FakeIssuer) -> str:
    """The URL of a stateful server behind a JWT authorizer."""
    arn = register(gateway, stateful.url, **MCP, **guarded_by(jwt_issuer.discovery_url))
    return gateway.invocation_url(arn)


async def test_progress_reaches_the_client_while_the_tool_works(guarded: str, jwt_issuer: FakeIssuer):
    seen = []

    async def progress(done: float, _total: float | None, _message: str | None) -> None:
        seen.append(done)

    async with connected(guarded, Bearer(token_of(jwt_issuer)), mode="legacy") as client:
        await client.call_tool("report", {"steps": 3}, progress_callback=progress)
    assert seen == [1, 2, 3]


async def test_a_session_has_a_stream_of_events_and_an_end(guarded: str, stateful: McpAgent, jwt_issuer: FakeIssuer):
    stateful.received.clear()
    async with connected(guarded, Bearer(token_of(jwt_issuer)), mode="legacy") as client:
        await client.call_tool("slow", {"seconds": 0.2})
    assert {"POST", "GET", "DELETE"} == set(stateful.methods)


async def test_two_clients_have_two_sessions(guarded: str, jwt_issuer: FakeIssuer):
    counted = []
    for _ in range(2):
        async with connected(guarded, Bearer(token_of(jwt_issuer)), mode="legacy") as client:
            counted.append(text_of(await client.call_tool("count")))
    assert counted == ["1", "1"]


async def test_a_client_of_a_server_that_was_restarted_learns_that_its_session_is_gone(
    gateway: RunningGateway, jwt_issuer: FakeIssuer
):
    port = free_port()
    with running_mcp_agent(stateless=False, port=port) as agent:
        arn = register(gateway, agent.url, **MCP, **guarded_by(jwt_issuer.discovery_url))
        url, bearer = gateway.invocation_url(arn), {"authorization": f"Bearer {token_of(jwt_issuer)}"}
        begun = initialized(url, bearer)
    with running_mcp_agent(stateless=False, port=port):
        answered = call(url, bearer | {"mcp-session-id": begun.headers["mcp-session-id"]}, "tools/list")
    assert answered.status_code == 404


async def test_a_client_of_a_server_that_is_down_gets_an_error_for_its_call(
    gateway: RunningGateway, jwt_issuer: FakeIssuer
):
    arn = register(gateway, f"http://127.0.0.1:{free_port()}", **MCP, **guarded_by(jwt_issuer.discovery_url))
    with pytest.RaisesGroup(
        pytest.RaisesExc(MCPError, check=lambda error: error.error.code == -32010), flatten_subgroups=True
    ):
        async with connected(gateway.invocation_url(arn), Bearer(token_of(jwt_issuer)), mode="legacy"):
            pass


def call(url: str, headers: dict[str, str], method: str, **params: Any) -> httpx2.Response:
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    accepted = {"accept": "application/json, text/event-stream", **headers}
    return httpx2.post(url, json=asked, headers=accepted, trust_env=False)


def initialized(url: str, headers: dict[str, str]) -> httpx2.Response:
    info = {"name": "a client", "version": "1"}
    answered = call(url, headers, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=info)
    assert answered.status_code == 200, answered.text
    return answered
