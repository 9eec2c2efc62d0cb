"""Conditions and resource policies at the door of an agent: what they look at is what was proven, or where it came from."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name, register

PREFIX = "bedrock-agentcore:"


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def key_that(gateway: RunningGateway, **condition: Any) -> Any:
    """Return a client whose key may invoke every agent, for every user, under a condition."""
    name = fresh_name("key")
    file = gateway.folder / f"{name}.json"
    file.write_text(
        document({"Effect": "Allow", "Action": f"{PREFIX}Invoke*", "Resource": "*", "Condition": condition})
    )
    made = json.loads(gateway.command("access-key", "create", "--name", name, "--policy", str(file), "--json").stdout)
    return gateway.client("bedrock-agentcore", key=(made["accessKeyId"], made["secretAccessKey"]))


def status_of(client: Any, arn: str, **asked: Any) -> int:
    try:
        return int(client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}", **asked)["statusCode"])
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def guard(gateway: RunningGateway, arn: str, *statements: dict[str, Any]) -> None:
    gateway.control.put_resource_policy(resourceArn=arn, policy=document(*({"Resource": arn, **s} for s in statements)))


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, 403),
        ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, 200),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}, 403),
        ({"Bool": {"aws:SecureTransport": "true"}}, 403),
        ({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, 403),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, 200),
        ({"StringEquals": {f"{PREFIX}RuntimeAuthorizerType": "CUSTOM_JWT"}}, 403),
        ({"StringEquals": {f"{PREFIX}RuntimeAuthorizerType": "AWS_IAM"}}, 200),
    ],
    ids=str,
)
def test_a_condition_is_held_against_the_request_itself(
    gateway: RunningGateway, agent: Agent, condition: dict[str, Any], status: int
):
    assert status_of(key_that(gateway, **condition), register(gateway, agent.url)) == status


def test_a_header_does_not_move_the_caller_to_another_address(gateway: RunningGateway, agent: Agent):
    client = key_that(gateway, IpAddress={"aws:SourceIp": "203.0.113.0/24"})

    def add(request: Any, **_: Any) -> None:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            request.headers[name] = "203.0.113.7"

    client.meta.events.register("before-send.bedrock-agentcore.InvokeAgentRuntime", add)
    assert status_of(client, register(gateway, agent.url)) == 403


def test_a_key_that_may_speak_for_one_user_speaks_for_no_other(gateway: RunningGateway, agent: Agent):
    client = key_that(gateway, StringEqualsIfExists={f"{PREFIX}userid": "ada"})
    arn = register(gateway, agent.url)
    assert [status_of(client, arn, runtimeUserId=user) for user in ("ada", "eve")] == [200, 403]


def test_a_policy_at_a_runtime_refuses_a_bearer_by_what_the_issuer_signed(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    condition = {"StringEquals": {f"{PREFIX}InboundJwtClaim/sub": "eve"}}
    every = {"Principal": "*", "Action": f"{PREFIX}InvokeAgentRuntime"}
    guard(gateway, arn, {"Effect": "Allow", **every}, {"Effect": "Deny", **every, "Condition": condition})
    assert [post(gateway, arn, token_of(jwt_issuer, sub=sub)).status_code for sub in ("ada", "eve")] == [200, 403]


def test_a_policy_at_a_runtime_that_allows_nobody_shuts_its_door_to_bearers(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    guard(gateway, arn, {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": f"{PREFIX}*"})
    assert post(gateway, arn, token_of(jwt_issuer)).status_code == 403
    gateway.control.delete_resource_policy(resourceArn=arn)
    assert post(gateway, arn, token_of(jwt_issuer)).status_code == 200


def test_a_deny_at_a_runtime_wins_over_the_callers_own_policy(gateway: RunningGateway, agent: Agent):
    client, arn = key_that(gateway, IpAddress={"aws:SourceIp": "127.0.0.1"}), register(gateway, agent.url)
    guard(gateway, arn, {"Effect": "Deny", "Principal": "*", "Action": f"{PREFIX}InvokeAgentRuntime"})
    assert status_of(client, arn) == 403
    assert agent.received == []


def test_a_policy_at_a_deleted_runtime_does_not_wait_for_a_namesake(gateway: RunningGateway, agent: Agent):
    arn = register(gateway, agent.url)
    guard(gateway, arn, {"Effect": "Allow", "Principal": "*", "Action": f"{PREFIX}*"})
    gateway.control.delete_agent_runtime(agentRuntimeId=arn.rpartition("/")[2])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        gateway.control.get_resource_policy(resourceArn=arn)
