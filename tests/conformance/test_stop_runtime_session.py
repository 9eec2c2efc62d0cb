"""StopRuntimeSession: the same credentials as a call, and no word about sessions to anybody else."""

import json

import httpx2
import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, REGION, RunningGateway, register

SESSION = "a-session-of-more-than-thirty-three-characters"
SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"
UNKNOWN = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/nobody-AbCdEf1234"


def stop(gateway: RunningGateway, arn: str, token: str | None) -> httpx2.Response:
    url = gateway.invocation_url(arn, "").removesuffix("invocations") + "stopruntimesession"
    headers = {SESSION_HEADER: SESSION} | ({"authorization": f"Bearer {token}"} if token is not None else {})
    return httpx2.post(url, content=b"{}", headers=headers, trust_env=False)


def test_a_session_is_not_ended_without_a_token(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer):
    arn = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    response = stop(gateway, arn, None)
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (401, "UnauthorizedException")
    assert "/invocations/.well-known/oauth-protected-resource" in response.headers["www-authenticate"]


def test_a_session_is_not_ended_without_a_signature(gateway: RunningGateway, agent: Agent):
    told = [stop(gateway, arn, None) for arn in (register(gateway, agent.url), UNKNOWN)]
    assert [response.status_code for response in told] == [403, 403]
    assert told[0].json() == told[1].json()


@pytest.mark.parametrize("action", ["InvokeAgentRuntime", "GetAgentCard"])
def test_a_key_that_may_do_something_else_may_not_end_a_session(gateway: RunningGateway, agent: Agent, action: str):
    policy = gateway.folder / f"{action}.json"
    statement = {"Effect": "Allow", "Action": f"bedrock-agentcore:{action}", "Resource": "*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    command = gateway.command("access-key", "create", "--name", f"only-{action}", "--policy", str(policy), "--json")
    made = json.loads(command.stdout)
    client = gateway.client("bedrock-agentcore", key=(made["accessKeyId"], made["secretAccessKey"]))
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.stop_runtime_session(agentRuntimeArn=register(gateway, agent.url), runtimeSessionId=SESSION)


def test_a_session_that_nobody_knows_is_not_found(gateway: RunningGateway, agent: Agent):
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        gateway.data.stop_runtime_session(agentRuntimeArn=register(gateway, agent.url), runtimeSessionId=SESSION)


def test_a_session_that_nobody_knows_is_not_found_by_the_bearer_of_a_token(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    response = stop(gateway, arn, token_of(jwt_issuer))
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (404, "ResourceNotFoundException")
