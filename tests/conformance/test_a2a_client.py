"""The official A2A client through the gateway: it reads the card, and finds the gateway where the agent named itself."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from a2a.client import (
    A2AClientError,
    AuthInterceptor,
    Client,
    ClientCallContext,
    ClientConfig,
    CredentialService,
    create_client,
)
from a2a.helpers import get_message_text, new_text_message
from a2a.types.a2a_pb2 import SendMessageRequest

from tests.a2a_agents import A2aAgent, running_a2a_agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register

A2A = {"protocolConfiguration": {"serverProtocol": "A2A"}}


@pytest.fixture(scope="module")
def shout() -> Iterator[A2aAgent]:
    with running_a2a_agent() as agent:
        yield agent


@pytest.fixture(scope="module")
def url(gateway: RunningGateway, shout: A2aAgent, jwt_issuer: FakeIssuer) -> str:
    """The URL of the agent at the gateway, behind a JWT authorizer."""
    return gateway.invocation_url(register(gateway, shout.url, **A2A, **guarded_by(jwt_issuer.discovery_url)), "")


class Kept(CredentialService):
    """One token, for whichever scheme the card names."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.schemes: list[str] = []

    async def get_credentials(self, security_scheme_name: str, context: ClientCallContext | None) -> str:
        self.schemes.append(security_scheme_name)
        return self.token


@asynccontextmanager
async def connected(url: str, token: str, kept: Kept | None = None, **config: Any) -> AsyncIterator[Client]:
    """Connect a client to the agent. With `kept`, calls get their token from what the card says about security."""
    shown = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(trust_env=False, timeout=30, headers={} if kept else shown) as http:
        interceptors = [AuthInterceptor(kept)] if kept else []
        card = {"headers": shown}
        settings = ClientConfig(httpx_client=http, **config)
        yield await create_client(url, settings, interceptors, resolver_http_kwargs=card)


async def said(client: Client, text: str) -> list[str]:
    asked = SendMessageRequest(message=new_text_message(text))
    return [get_message_text(event.message) async for event in client.send_message(asked)]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_reads_the_card_and_calls_the_agent_through_the_gateway(
    url: str, shout: A2aAgent, jwt_issuer: FakeIssuer, streaming: bool
):
    async with connected(url, token_of(jwt_issuer), streaming=streaming) as client:
        assert await said(client, "hello") == ["HELLO"]


async def test_a_client_brings_the_token_that_the_card_asks_for(url: str, jwt_issuer: FakeIssuer):
    kept = Kept(token_of(jwt_issuer))
    async with connected(url, kept.token, kept) as client:
        assert await said(client, "hello") == ["HELLO"]
    assert set(kept.schemes) == {"gateway"}


async def test_no_token_of_a_client_reaches_the_agent(url: str, shout: A2aAgent, jwt_issuer: FakeIssuer):
    shout.received.clear()
    token = token_of(jwt_issuer)
    async with connected(url, token) as client:
        await said(client, "hello")
    assert {head["path"] for head in shout.received} == {"/", "/.well-known/agent-card.json"}
    assert [head for head in shout.received if "authorization" in head["headers"]] == []


async def test_a_client_without_a_token_is_refused(url: str, jwt_issuer: FakeIssuer):
    async with connected(url, token_of(jwt_issuer), Kept("not-a-token")) as client:
        with pytest.raises(A2AClientError, match="401"):
            await said(client, "hello")


async def test_a_client_of_an_agent_that_went_down_gets_an_error_for_its_call(
    gateway: RunningGateway, jwt_issuer: FakeIssuer
):
    token = token_of(jwt_issuer)
    with running_a2a_agent() as agent:
        arn = register(gateway, agent.url, **A2A, **guarded_by(jwt_issuer.discovery_url))
        async with connected(gateway.invocation_url(arn, ""), token) as client:
            await said(client, "hello")
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {token}"}) as http:
        asked = {"jsonrpc": "2.0", "id": "1", "method": "SendMessage", "params": {}}
        answered = await http.post(gateway.invocation_url(arn, ""), json=asked)
    assert (answered.status_code, answered.json()["error"]["code"]) == (424, -32055)
