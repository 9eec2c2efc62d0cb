"""An agent that stands at several addresses: sessions stay where they are, and nobody notices when one of them dies."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, free_port, fresh_name, register, running_gateway
from tests.mcp_agents import McpAgent, running_mcp_agent
from tests.sessions import StoppableAgent, invoke, new_session, running_agents
from tests.web_sockets import SESSION, WebSocketAgent, dial, door, signed_headers

SESSIONS = 30


@pytest.fixture
def three() -> Iterator[list[StoppableAgent]]:
    with running_agents(3) as agents:
        yield agents


@pytest.fixture
def own() -> Iterator[RunningGateway]:
    """A gateway that has not met any address yet."""
    with running_gateway() as running:
        yield running


def at_all(agents: list[Any]) -> str:
    return ",".join(agent.url for agent in agents)


def counts(agents: list[StoppableAgent]) -> list[int]:
    return [len(agent.received) for agent in agents]


def where(agents: list[StoppableAgent], gateway: RunningGateway, arn: str, session: str) -> int:
    """Return which of the agents a call in this session reaches; it reaches one."""
    before = counts(agents)
    invoke(gateway, arn, session=session)
    reached = [index for index, count in enumerate(counts(agents)) if count > before[index]]
    assert len(reached) == 1
    return reached[0]


# --- Registration ---


def test_sixteen_addresses_are_taken_and_no_more(gateway: RunningGateway):
    urls = [f"http://127.0.0.1:{port}" for port in range(1, 18)]
    assert register(gateway, ",".join(urls[:16]))
    with pytest.raises(ClientError, match="ValidationException"):
        register(gateway, ",".join(urls))


# --- Sessions ---


def test_the_sessions_of_an_address_that_dies_go_on_elsewhere_and_the_others_stay(
    own: RunningGateway, three: list[StoppableAgent]
):
    arn, sessions = register(own, at_all(three)), [new_session() for _ in range(SESSIONS)]
    places = [where(three, own, arn, session) for session in sessions]
    three[0].stop()
    after = [where(three, own, arn, session) for session in sessions]
    assert 0 not in after
    assert [new for old, new in zip(places, after, strict=True) if old] == [old for old in places if old]


def test_a_session_that_moved_stays_where_it_is_when_its_first_address_is_back(
    own: RunningGateway, three: list[StoppableAgent]
):
    arn, session = register(own, at_all(three)), new_session()
    first = where(three, own, arn, session)
    three[first].stop()
    second = where(three, own, arn, session)
    three[first].start()
    assert {where(three, own, arn, session) for _ in range(3)} == {second}


def test_a_call_is_refused_when_no_address_takes_a_connection(own: RunningGateway):
    arn = register(own, ",".join(f"http://127.0.0.1:{free_port()}" for _ in range(2)))
    with pytest.raises(ClientError, match="RuntimeClientError"):
        invoke(own, arn)


# --- A request is sent once ---


class Cutter(BaseRequestHandler):
    """Takes a connection, reads what comes, and hangs up."""

    def handle(self) -> None:
        self.request.recv(65536)
        self.server.taken.append(1)  # type: ignore[attr-defined]


def test_a_call_that_may_have_reached_an_agent_is_not_sent_to_another(own: RunningGateway):
    with ExitStack() as stack:
        taken: list[int] = []
        urls = []
        for _ in range(3):
            server = stack.enter_context(ThreadingTCPServer(("127.0.0.1", 0), Cutter))
            server.taken = taken  # type: ignore[attr-defined]
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
            urls.append(f"http://127.0.0.1:{server.server_address[1]}")
        arn = register(own, ",".join(urls))
        with pytest.raises(ClientError, match="RuntimeClientError"):
            invoke(own, arn)
        assert taken == [1]


def test_an_agent_that_answers_with_an_error_is_not_down(own: RunningGateway, three: list[StoppableAgent]):
    arn, session = register(own, at_all(three)), new_session()
    first = where(three, own, arn, session)
    with pytest.raises(ClientError, match="RuntimeClientError"):
        invoke(own, arn, session=session, payload={"status": 500, "body": "no"})
    assert where(three, own, arn, session) == first


# --- Bodies that are streamed, and streams ---


def test_a_streamed_body_goes_whole_to_the_next_address(
    own: RunningGateway, three: list[StoppableAgent], jwt_issuer: FakeIssuer
):

    arn = register(own, at_all(three), **guarded_by(jwt_issuer.discovery_url))
    three[0].stop()
    three[1].stop()
    pieces = (b"x" * 1000 for _ in range(100))
    headers = {"authorization": f"Bearer {token_of(jwt_issuer)}"}
    answer = httpx2.post(own.invocation_url(arn), content=pieces, headers=headers, trust_env=False)
    assert (answer.status_code, three[2].last["length"]) == (200, 100_000)


async def test_a_stream_opens_at_another_address_when_one_is_down(own: RunningGateway, ws_agent: WebSocketAgent):
    arn = register(own, f"http://127.0.0.1:{free_port()},{ws_agent.url}", name=fresh_name())
    url = door(own, arn)
    for _ in range(4):  # each in a session of its own: some would begin at the address that is down
        async with await dial(url, signed_headers(own, url) | {SESSION: new_session()}) as stream:
            await stream.send("hello")
            assert await stream.recv() == "hello"


# --- MCP ---


@pytest.fixture
def servers() -> Iterator[list[McpAgent]]:
    with running_mcp_agent(stateless=False) as first, running_mcp_agent(stateless=False) as second:
        yield [first, second]


async def test_each_session_of_a_stateful_mcp_server_stays_at_the_address_that_named_it(
    gateway: RunningGateway, servers: list[McpAgent], jwt_issuer: FakeIssuer
):

    arn = register(
        gateway,
        at_all(servers),
        protocolConfiguration={"serverProtocol": "MCP"},
        **guarded_by(jwt_issuer.discovery_url),
    )
    headers = {"authorization": f"Bearer {token_of(jwt_issuer)}"}
    for _ in range(6):
        async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20) as http:
            transport = streamable_http_client(gateway.invocation_url(arn), http_client=http)
            async with Client(transport, mode="legacy") as client:
                told = [json.loads((await client.call_tool("count", {})).content[0].text) for _ in range(3)]  # type: ignore[union-attr]
        assert told == [1, 2, 3]
    assert all(server.received for server in servers)
