"""PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy, and what a policy at a runtime or endpoint does."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, from the classes of its configuration
    from bedrock_agentcore.services.resource_policy import ResourcePolicyClient

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.conformance.control_plane import (
    CONTROL,
    DATA,
    container,
    create,
    faults,
    invoke,
    refusal,
    refused,
    shown,
    status,
)
from tests.conformance.test_access_keys_cli import Run, commands
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name

DENIED = (403, "AccessDeniedException")
NOT_FOUND = (404, "ResourceNotFoundException")
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"


def policy(arn: str, effect: str = "Allow", principal: Any = "*", **more: Any) -> str:
    statement = {"Effect": effect, "Principal": principal, "Action": INVOKE, "Resource": arn} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def endpoint_of(made: dict[str, Any]) -> str:
    return f"{made['agentRuntimeArn']}/runtime-endpoint/DEFAULT"


def stand(control: Any, made: dict[str, Any], *given: Any, **more: Any) -> None:
    """Let a policy stand at a runtime and at its endpoint."""
    for arn in (made["agentRuntimeArn"], endpoint_of(made)):
        control.put_resource_policy(resourceArn=arn, policy=policy(arn, *given, **more))


Caller = tuple[str, Any]


@pytest.fixture
def run(each_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    return commands(each_gateway, monkeypatch)


@pytest.fixture
def stranger(run: Run, each_gateway: RunningGateway, client_of: Callable[..., Any]) -> Caller:
    """The ARN of a key that has no policy, and a client that signs with it."""
    name = fresh_name("stranger")
    made = json.loads(run("access-key", "create", "--name", name, "--json").stdout)
    client = client_of(each_gateway, DATA, key=(made["accessKeyId"], made["secretAccessKey"]))
    return f"arn:aws:iam::{ACCOUNT}:user/{name}", client


@pytest.fixture
def runtime(control: Any, agent: Agent) -> dict[str, Any]:
    return create(control, agentRuntimeArtifact=container(agent.url))


# --- Refused ---


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/unknown-AbCdEf1234",
        f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:gateway/unknown-AbCdEf1234",
        f"arn:aws:bedrock-agentcore:{REGION}:111111111111:runtime/unknown-AbCdEf1234",
    ],
)
def test_a_policy_stands_at_no_resource_that_is_not_there(control: Any, arn: str):
    assert refused(control.put_resource_policy, resourceArn=arn, policy=policy(arn)) == NOT_FOUND
    assert refused(control.get_resource_policy, resourceArn=arn) == NOT_FOUND
    assert refused(control.delete_resource_policy, resourceArn=arn) == NOT_FOUND


def test_a_policy_with_a_fault_is_refused_with_the_place_of_the_fault(control: Any):
    arn = create(control)["agentRuntimeArn"]
    wrong = policy(arn, principal={"AWS": "*"}, Condition={"StringEquals": {"aws:SourceVpce": "vpce-1"}})
    response = refusal(control.put_resource_policy, resourceArn=arn, policy=wrong)
    assert (status(response), response["Error"]["Code"]) == (400, "ValidationException")
    assert [each["name"] for each in response["fieldList"]] == ["Statement[0].Condition.StringEquals.aws:SourceVpce"]


def test_a_policy_longer_than_aws_takes_is_refused(control: Any):
    arn = create(control)["agentRuntimeArn"]
    long = policy(arn, Sid="x" * 20_480)
    assert refused(control.put_resource_policy, resourceArn=arn, policy=long) == (400, "ValidationException")


def test_a_policy_that_is_not_there_cannot_be_removed(control: Any):
    arn = create(control)["agentRuntimeArn"]
    assert refused(control.delete_resource_policy, resourceArn=arn) == NOT_FOUND


# --- Kept ---


def test_a_policy_is_put_shown_replaced_and_removed(control: Any):
    arn = create(control)["agentRuntimeArn"]
    for effect in ("Allow", "Deny"):
        put = control.put_resource_policy(resourceArn=arn, policy=policy(arn, effect))
        assert (status(put), faults(CONTROL, "PutResourcePolicy", put)) == (201, [])
        got = control.get_resource_policy(resourceArn=arn)
        assert (status(got), got["policy"]) == (200, put["policy"])
        assert json.loads(got["policy"]) == json.loads(policy(arn, effect))
    removed = control.delete_resource_policy(resourceArn=arn)
    assert (status(removed), shown(removed)) == (204, {})
    assert shown(control.get_resource_policy(resourceArn=arn)) == {}


def test_the_official_sdk_keeps_policies_here(
    gateway: RunningGateway, control_on_sqlite: Any, monkeypatch: pytest.MonkeyPatch
):
    key_id, secret = gateway.root_key
    for name, value in {
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": gateway.url,
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
    }.items():
        monkeypatch.setenv(name, value)
    arn = create(control_on_sqlite)["agentRuntimeArn"]
    client = ResourcePolicyClient(REGION)
    assert client.get_resource_policy(arn) is None
    assert client.put_resource_policy(arn, json.loads(policy(arn))) == json.loads(policy(arn))
    assert client.get_resource_policy(arn) == json.loads(policy(arn))
    client.delete_resource_policy(arn)
    assert client.get_resource_policy(arn) is None


def test_an_endpoint_that_comes_again_has_no_policy_of_its_namesake(control: Any):
    made = create(control)
    runtime_id = made["agentRuntimeId"]
    arn = control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="live")["agentRuntimeEndpointArn"]
    control.put_resource_policy(resourceArn=arn, policy=policy(arn, "Deny"))
    control.delete_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="live")
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="live")
    assert shown(control.get_resource_policy(resourceArn=arn)) == {}


# --- What it does ---


def test_a_key_without_a_policy_calls_what_lets_it_in(control: Any, runtime: dict[str, Any], stranger: Caller):
    arn, client = stranger
    asked = {"agentRuntimeArn": runtime["agentRuntimeArn"], "payload": b"{}"}
    assert refused(client.invoke_agent_runtime, **asked) == DENIED
    stand(control, runtime, "Allow", {"AWS": arn})
    assert invoke(client, runtime)


def test_to_let_a_key_in_at_the_runtime_alone_is_not_enough(control: Any, runtime: dict[str, Any], stranger: Caller):
    arn, client = stranger
    own = policy(runtime["agentRuntimeArn"], principal={"AWS": arn})
    control.put_resource_policy(resourceArn=runtime["agentRuntimeArn"], policy=own)
    asked = {"agentRuntimeArn": runtime["agentRuntimeArn"], "payload": b"{}"}
    assert refused(client.invoke_agent_runtime, **asked) == DENIED


def test_a_denial_binds_an_admin_key_until_it_is_removed(control: Any, data: Any, runtime: dict[str, Any]):
    arn = endpoint_of(runtime)
    control.put_resource_policy(resourceArn=arn, policy=policy(arn, "Deny", Action="*"))
    asked = {"agentRuntimeArn": runtime["agentRuntimeArn"], "payload": b"{}"}
    assert refused(data.invoke_agent_runtime, **asked) == DENIED
    control.delete_resource_policy(resourceArn=arn)
    assert invoke(data, runtime)


def test_a_token_passes_a_policy_that_names_anybody_and_no_other(
    each_gateway: RunningGateway, control: Any, agent: Agent, jwt_issuer: FakeIssuer
):
    guard = guarded_by(f"{jwt_issuer.issuer}/.well-known/openid-configuration")
    made = create(control, agentRuntimeArtifact=container(agent.url), **guard)
    token = token_of(jwt_issuer)

    def invoked() -> int:
        return post(each_gateway, made["agentRuntimeArn"], token).status_code

    assert invoked() == 200
    stand(control, made, "Allow", {"AWS": ACCOUNT})
    assert invoked() == 403
    stand(control, made, "Allow", "*")
    assert invoked() == 200


@pytest.mark.parametrize(("network", "enters"), [("127.0.0.0/8", True), ("203.0.113.0/24", False)])
def test_a_policy_compares_where_a_call_came_from(
    control: Any, runtime: dict[str, Any], stranger: Caller, network: str, enters: bool
):
    stand(control, runtime, Condition={"IpAddress": {"aws:SourceIp": network}})
    if enters:
        assert invoke(stranger[1], runtime)
    else:
        asked = {"agentRuntimeArn": runtime["agentRuntimeArn"], "payload": b"{}"}
        assert refused(stranger[1].invoke_agent_runtime, **asked) == DENIED
