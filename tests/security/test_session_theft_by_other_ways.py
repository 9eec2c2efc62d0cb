"""Somebody's session is not entered through another endpoint of its agent, nor beside an MCP session of one's own."""

import json

import httpx2
import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register
from tests.sessions import SESSION, heard, invoke, new_session

MCP_SESSION = b"mcp-session-id"
MCP = {"protocolConfiguration": {"serverProtocol": "MCP"}}
LIVE = "qualifier=live"


def live(gateway: RunningGateway, arn: str) -> str:
    """Give a runtime a second endpoint, at the same version and so at the same agent."""
    gateway.control.create_agent_runtime_endpoint(agentRuntimeId=arn.rpartition("/")[2], name="live")
    return arn


@pytest.fixture
def twofold(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> str:
    return live(gateway, register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url)))


@pytest.fixture
def mcp(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> str:
    return register(gateway, agent.url, **MCP, **guarded_by(jwt_issuer.discovery_url))


def test_the_session_of_a_user_is_refused_to_another_at_another_endpoint_of_the_agent(
    gateway: RunningGateway, twofold: str, agent: Agent, jwt_issuer: FakeIssuer
):
    session = [(SESSION, new_session())]
    post(gateway, twofold, token_of(jwt_issuer, sub="ada"), headers=session)
    refused = post(gateway, twofold, token_of(jwt_issuer, sub="eve"), query=LIVE, headers=session)
    assert (refused.status_code, len(agent.received)) == (403, 1)


def test_a_user_goes_on_with_their_session_at_another_endpoint_of_the_agent(
    gateway: RunningGateway, twofold: str, jwt_issuer: FakeIssuer
):
    session, token = [(SESSION, new_session())], token_of(jwt_issuer, sub="ada")
    answers = [post(gateway, twofold, token, query=query, headers=session) for query in ("", LIVE, "")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_a_session_is_not_ended_through_an_endpoint_that_it_is_not_at(gateway: RunningGateway, agent: Agent):
    arn, session = live(gateway, register(gateway, agent.url)), new_session()
    invoke(gateway, arn, session=session)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        gateway.data.stop_runtime_session(agentRuntimeArn=arn, qualifier="live", runtimeSessionId=session)


def test_the_session_of_a_user_is_refused_to_another_who_names_an_mcp_session_of_their_own(
    gateway: RunningGateway, mcp: str, agent: Agent, jwt_issuer: FakeIssuer
):
    session = (SESSION, new_session())
    post(gateway, mcp, token_of(jwt_issuer, sub="ada"), headers=[session])
    beside = [session, ("mcp-session-id", new_session())]
    refused = post(gateway, mcp, token_of(jwt_issuer, sub="eve"), headers=beside)
    assert (refused.status_code, len(agent.received)) == (403, 1)


def test_the_session_that_a_user_names_beside_their_mcp_session_is_theirs(
    gateway: RunningGateway, mcp: str, agent: Agent, jwt_issuer: FakeIssuer
):
    session = (SESSION, new_session())
    for own in (new_session(), new_session()):
        answer = post(gateway, mcp, token_of(jwt_issuer, sub="ada"), headers=[session, ("mcp-session-id", own)])
        assert (answer.status_code, heard(agent)[SESSION]) == (200, session[1])
    refused = post(gateway, mcp, token_of(jwt_issuer, sub="eve"), headers=[session])
    assert refused.status_code == 403


def test_the_card_of_an_agent_is_not_asked_for_in_the_session_of_somebody_else(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    a2a = {"protocolConfiguration": {"serverProtocol": "A2A"}}
    arn, session = register(gateway, agent.url, **a2a, **guarded_by(jwt_issuer.discovery_url)), new_session()
    post(gateway, arn, token_of(jwt_issuer, sub="ada"), headers=[(SESSION, session)])
    url = gateway.invocation_url(arn, "") + "/.well-known/agent-card.json"
    headers = {SESSION: session, "authorization": f"Bearer {token_of(jwt_issuer, sub='eve')}"}
    refused = httpx2.get(url, headers=headers, trust_env=False)
    assert (refused.status_code, len(agent.received)) == (403, 1)


@pytest.mark.parametrize("before", [None, "the-session-before"], ids=["the first session", "another one"])
@pytest.mark.parametrize("spelt", ["session", "sitzung-für"])
def test_an_mcp_session_is_of_whom_its_server_named_it_for(
    gateway: RunningGateway, mcp: str, agent: Agent, jwt_issuer: FakeIssuer, before: str | None, spelt: str
):
    named = f"{spelt}-{new_session()}"
    answer = {"headers": {"content-type": "application/json", "mcp-session-id": named}}
    shown = [("mcp-session-id", f"{before}-{new_session()}")] if before else []
    post(gateway, mcp, token_of(jwt_issuer, sub="ada"), json.dumps(answer).encode(), headers=shown)
    stolen = [(b"authorization", f"Bearer {token_of(jwt_issuer, sub='eve')}".encode()), (MCP_SESSION, named.encode())]
    refused = httpx2.post(gateway.invocation_url(mcp), content=b"{}", headers=stolen, trust_env=False)
    assert (refused.status_code, len(agent.received)) == (403, 1)
