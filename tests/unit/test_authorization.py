"""What a principal may do: identity policies, admin keys, and nothing by default."""

from typing import Any

import pytest

from identity_gateway.authorization import Asked, Authorization
from identity_gateway.errors import AccessDenied
from identity_gateway.model import IamPrincipal

ACCOUNT = "000000000000"
ARN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/hello-AbCdEf1234"
ENDPOINT = f"{ARN}/runtime-endpoint/DEFAULT"


def principal(*, admin: bool = False, policy: dict[str, Any] | None = None) -> IamPrincipal:
    return IamPrincipal(ACCOUNT, "IGAKAAAABBBBCCCCDDDD", "ci", admin=admin, policy=policy)


def document(effect: str, action: str, resource: str | list[str]) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (None, "the key has no policy"),
        (document("Allow", "bedrock-agentcore:GetAgentRuntime", "*"), "not allowed by any statement"),
        (document("Allow", "InvokeAgentRuntime", "*"), "not allowed by any statement"),
        (document("Allow", "lambda:InvokeAgentRuntime", "*"), "not allowed by any statement"),
        (document("Allow", "bedrock-agentcore:InvokeAgentRuntime", ARN), "not allowed by any statement"),
        (document("Deny", "*", ENDPOINT), "not allowed by any statement"),
    ],
)
async def test_what_no_policy_allows_is_denied(policy: dict[str, Any] | None, reason: str):
    with pytest.raises(AccessDenied) as caught:
        await Authorization().permit(principal(policy=policy), Asked("InvokeAgentRuntime", (ARN, ENDPOINT)))
    assert caught.value.reason == reason
    assert reason not in caught.value.message


async def test_an_explicit_deny_is_named_in_the_reason():
    policy = {"Version": "2012-10-17", "Statement": [document(e, "*", "*")["Statement"][0] for e in ("Allow", "Deny")]}
    with pytest.raises(AccessDenied) as caught:
        await Authorization().permit(principal(policy=policy), Asked("InvokeAgentRuntime", (ARN,)))
    assert caught.value.reason == "explicitly denied"


async def test_no_resource_is_denied_to_a_policy_that_allows_everything():
    with pytest.raises(AccessDenied):
        await Authorization().permit(principal(policy=document("Allow", "*", "*")), Asked("InvokeAgentRuntime", ()))


async def test_a_policy_that_covers_every_resource_allows():
    policy = document("Allow", "bedrock-agentcore:Invoke*", [ARN, ENDPOINT])
    assert (
        await Authorization().permit(principal(policy=policy), Asked("InvokeAgentRuntime", (ARN, ENDPOINT)))
        == "identity policy"
    )


async def test_an_admin_key_may_do_everything():
    assert await Authorization().permit(principal(admin=True), Asked("DeleteAgentRuntime", (ARN,))) == "admin key"
