"""The workloads that an authorizer asks for: a rule that cannot be read is not a rule that is absent."""

from typing import Any

import pytest

from identity_gateway.protocol import jwt
from identity_gateway.protocol.jwt import AllowedWorkloads, allowed_workloads

GATEWAY = "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/g-1234567890"
BASE = {"discoveryUrl": "https://a.example/.well-known/openid-configuration", "allowedAudience": ["a"]}

REFUSED: list[Any] = [
    {},
    [],
    "agent",
    {"workloadIdentities": []},
    {"workloadIdentities": [], "hostingEnvironments": []},
    {"workloadIdentities": "agent"},
    {"workloadIdentities": [""]},
    {"workloadIdentities": [7]},
    {"workloadIdentities": ["agent"] * 11},
    {"hostingEnvironments": [GATEWAY]},
    {"hostingEnvironments": [{}]},
    {"hostingEnvironments": [{"arn": ""}]},
    {"hostingEnvironments": [{"arn": GATEWAY, "more": 1}]},
    {"workloadIdentities": ["agent"], "somethingNew": ["x"]},
]


@pytest.mark.parametrize("configuration", REFUSED)
def test_a_configuration_that_names_nobody_is_refused_at_registration(configuration: Any) -> None:
    assert jwt.check_authorizer(BASE | {"allowedWorkloadConfiguration": configuration})


@pytest.mark.parametrize("configuration", [*REFUSED, None])
def test_a_stored_configuration_that_names_nobody_is_not_taken_for_none(configuration: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        allowed_workloads(BASE | {"allowedWorkloadConfiguration": configuration})


def test_an_authorizer_may_ask_for_no_workload() -> None:
    assert allowed_workloads(BASE) is None


def test_workloads_are_named_or_hosted() -> None:
    configuration = {"workloadIdentities": ["agent"], "hostingEnvironments": [{"arn": GATEWAY}]}
    found = allowed_workloads(BASE | {"allowedWorkloadConfiguration": configuration})
    assert found == AllowedWorkloads(frozenset({GATEWAY}), frozenset({"agent"}))
    assert jwt.check_authorizer(BASE | {"allowedWorkloadConfiguration": configuration}) == []
