"""GetAgentCard: boto3 and plain HTTP read an A2A agent's card at the gateway, and it leads nowhere else."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError

from tests.a2a_agents import ELSEWHERE, A2aAgent, running_a2a_agent
from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, REGION, RunningGateway, register
from tests.mcp_agents import running_mcp_agent

A2A = {"protocolConfiguration": {"serverProtocol": "A2A"}}
CARD = "/.well-known/agent-card.json"
UNKNOWN = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/nobody-AbCdEf1234"
SESSION = "a-session-of-more-than-thirty-three-characters"


@pytest.fixture(scope="module")
def shout() -> Iterator[A2aAgent]:
    with running_a2a_agent() as agent:
        yield agent


@pytest.fixture(scope="module")
def signed(gateway: RunningGateway, shout: A2aAgent) -> str:
    return register(gateway, shout.url, **A2A)


@pytest.fixture(scope="module")
def guarded(gateway: RunningGateway, shout: A2aAgent, jwt_issuer: FakeIssuer) -> str:
    rules = {"allowedScopes": ["agents.invoke"], "advertisedScopeMapping": {"agents.invoke": "api://agents/invoke"}}
    return register(gateway, shout.url, **A2A, **guarded_by(jwt_issuer.discovery_url, **rules))


def read(gateway: RunningGateway, arn: str, token: str | None, query: str = "") -> httpx2.Response:
    url = gateway.invocation_url(arn, "") + CARD + (f"?{query}" if query else "")
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    return httpx2.get(url, headers=headers, trust_env=False)


# --- Refused -------------------------------------------------------------------------------------------------------------


def test_a_card_is_not_read_without_a_token(gateway: RunningGateway, guarded: str, shout: A2aAgent):
    shout.received.clear()
    response = read(gateway, guarded, None)
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (401, "UnauthorizedException")
    assert "/invocations/.well-known/oauth-protected-resource" in response.headers["www-authenticate"]
    assert shout.received == []


def test_a_card_is_not_read_without_a_signature(gateway: RunningGateway, signed: str):
    told = [read(gateway, arn, None) for arn in (signed, UNKNOWN)]
    assert [response.status_code for response in told] == [403, 403]
    assert told[0].json() == told[1].json()


def test_a_key_that_may_invoke_may_not_read_the_card(gateway: RunningGateway, signed: str):
    policy = gateway.folder / "invoke.json"
    statement = {"Effect": "Allow", "Action": "bedrock-agentcore:InvokeAgentRuntime", "Resource": "*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    command = gateway.command("access-key", "create", "--name", "invoker", "--policy", str(policy), "--json")
    made = json.loads(command.stdout)
    client = gateway.client("bedrock-agentcore", key=(made["accessKeyId"], made["secretAccessKey"]))
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.get_agent_card(agentRuntimeArn=signed)


@pytest.mark.parametrize("protocol", ["HTTP", "MCP", "AGUI"])
def test_an_agent_of_another_protocol_has_no_card(gateway: RunningGateway, agent: Agent, protocol: str):
    arn = register(gateway, agent.url, protocolConfiguration={"serverProtocol": protocol})
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        gateway.data.get_agent_card(agentRuntimeArn=arn)
    assert agent.received == []


def test_a_runtime_that_does_not_exist_has_no_card(gateway: RunningGateway):
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        gateway.data.get_agent_card(agentRuntimeArn=UNKNOWN)


def test_an_agent_without_a_card_is_the_agents_failure(gateway: RunningGateway):
    with running_mcp_agent(stateless=True) as other:  # it knows no such path
        arn = register(gateway, other.url, **A2A)
        with pytest.raises(ClientError, match="RuntimeClientError"):
            gateway.data.get_agent_card(agentRuntimeArn=arn)


# --- Read ----------------------------------------------------------------------------------------------------------------


def test_boto3_reads_the_card_of_an_agent_behind_a_signature(gateway: RunningGateway, signed: str):
    answered = gateway.data.get_agent_card(agentRuntimeArn=signed, runtimeSessionId=SESSION)
    card = answered["agentCard"]
    assert answered["statusCode"] == 200
    assert {each["url"] for each in card["supportedInterfaces"]} == {gateway.invocation_url(signed, "")}
    scheme = card["securitySchemes"]["gateway"]["httpAuthSecurityScheme"]["scheme"]
    assert (card["name"], scheme) == ("Shout", "AWS4-HMAC-SHA256")


def test_a_card_leads_to_the_gateway_and_to_nobody_else(
    gateway: RunningGateway, guarded: str, shout: A2aAgent, jwt_issuer: FakeIssuer
):
    text = read(gateway, guarded, token_of(jwt_issuer, scope="agents.invoke")).text
    assert shout.url not in text
    assert ELSEWHERE not in text
    assert "signatures" not in text


def test_a_card_names_the_issuer_and_the_scopes_of_the_runtime(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
):
    card: dict[str, Any] = read(gateway, guarded, token_of(jwt_issuer)).json()
    scheme = card["securitySchemes"]["gateway"]["openIdConnectSecurityScheme"]
    assert scheme == {"openIdConnectUrl": jwt_issuer.discovery_url}
    assert card["securityRequirements"] == [{"schemes": {"gateway": {"list": ["api://agents/invoke"]}}}]


def test_a_card_leads_to_the_endpoint_that_was_asked_for(gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer):
    card = read(gateway, guarded, token_of(jwt_issuer), "qualifier=DEFAULT").json()
    assert card["url"] == gateway.invocation_url(guarded, "qualifier=DEFAULT")


def test_reading_a_card_is_recorded(gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer):
    count = "select count(*) from audit_record where action = 'GetAgentCard' and decision = 'allowed'"
    with closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite")) as records:
        before = records.execute(count).fetchone()[0]
        read(gateway, guarded, token_of(jwt_issuer))
        assert records.execute(count).fetchone()[0] == before + 1
