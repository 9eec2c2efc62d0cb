"""Sessions stay within what narrows them: their session policy, the duration they may have, and who they are."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name
from tests.security_tokens import key_of, made_key, made_role, sts

ANY_USER = {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*", f"arn:aws:iam::{ACCOUNT}:role/*"]}


def policy(effect: str, action: Any, **more: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": "*"} | more]}


def both(*documents: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [each for document in documents for each in document["Statement"]]}


EVERYTHING = policy("Allow", "*")
DIRECTORY = policy("Allow", ["bedrock-agentcore:ListWorkloadIdentities", "sts:AssumeRole", "sts:GetWebIdentityToken"])


@pytest.fixture
def key(gateway: RunningGateway, tmp_path: Path) -> tuple[str, str]:
    return made_key(gateway, tmp_path, EVERYTHING)


@pytest.fixture
def role(gateway: RunningGateway, tmp_path: Path) -> str:
    return made_role(gateway, tmp_path, ANY_USER, EVERYTHING)


def assumed(gateway: RunningGateway, key: tuple[str, ...], role: str, **more: Any) -> tuple[str, str, str]:
    with sts(gateway, key) as client:
        return key_of(client.assume_role(**{"RoleArn": role, "RoleSessionName": "ada"} | more)["Credentials"])


def error(gateway: RunningGateway, key: tuple[str, ...], act: str, **asked: Any) -> str | None:
    """Return the code of what the security token service answers, None where it does what it was asked."""
    with sts(gateway, key) as client:
        try:
            getattr(client, act)(**asked)
        except ClientError as refused:
            return str(refused.response["Error"]["Code"])
    return None


def control_error(gateway: RunningGateway, key: tuple[str, str, str], act: str, **asked: Any) -> str | None:
    client = boto3.client(
        "bedrock-agentcore-control",
        endpoint_url=gateway.url,
        region_name=REGION,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        aws_session_token=key[2],
    )
    try:
        getattr(client, act)(**asked)
    except ClientError as refused:
        return str(refused.response["Error"]["Code"])
    finally:
        client.close()
    return None


# --- Session policies ---


@pytest.mark.parametrize(
    "document",
    [
        " ", "null", "[]", "{", "{}", '{"Version": "2012-10-17", "Version": "2012-10-17"}',
        json.dumps({"Version": "2012-10-17", "Statement": []}),
        json.dumps(policy("Allow", "*", Principal="*")),
        json.dumps(policy("Allow", "*", Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}})),
        json.dumps(policy("Allow", [f"bedrock-agentcore:{place}" for place in range(100)])),
    ],
)  # fmt: skip
def test_a_session_policy_that_would_not_narrow_is_refused(
    gateway: RunningGateway, key: tuple[str, str], role: str, document: str
):
    asked = {"RoleArn": role, "RoleSessionName": "ada", "Policy": document}
    assert error(gateway, key, "assume_role", **asked) == "ValidationError"


def test_a_session_policy_narrows_and_never_widens(gateway: RunningGateway, key: tuple[str, str], tmp_path: Path):
    narrow = made_role(gateway, tmp_path, ANY_USER, DIRECTORY)
    session = assumed(gateway, key, narrow, Policy=json.dumps(policy("Allow", "bedrock-agentcore:*")))
    assert control_error(gateway, session, "list_workload_identities") is None
    assert control_error(gateway, session, "list_agent_runtimes") == "AccessDeniedException"
    asked = {"Audience": ["x"], "SigningAlgorithm": "RS256"}
    assert error(gateway, session, "get_web_identity_token", **asked) == "AccessDenied"


def test_a_session_that_may_not_assume_does_not_shed_its_policy_by_assuming_its_role_again(
    gateway: RunningGateway, key: tuple[str, str], role: str
):
    session = assumed(gateway, key, role, Policy=json.dumps(policy("Allow", "bedrock-agentcore:*")))
    assert error(gateway, session, "assume_role", RoleArn=role, RoleSessionName="free") == "AccessDenied"


def test_a_session_does_not_prolong_itself_by_a_chain_of_roles(
    gateway: RunningGateway, key: tuple[str, str], role: str
):
    with sts(gateway, key) as client:
        first = client.assume_role(RoleArn=role, RoleSessionName="ada", DurationSeconds=900)["Credentials"]
    with sts(gateway, key_of(first)) as client:
        second = client.assume_role(RoleArn=role, RoleSessionName="ada", DurationSeconds=3600)["Credentials"]
    assert second["Expiration"] <= first["Expiration"]


# --- Durations ---


@pytest.mark.parametrize("more", [{}, {"DurationSeconds": 3600}])
def test_who_is_denied_long_sessions_gets_none_by_saying_nothing(
    gateway: RunningGateway, role: str, tmp_path: Path, more: dict[str, Any]
):
    deny = policy("Deny", "sts:AssumeRole", Condition={"NumericGreaterThan": {"sts:DurationSeconds": "900"}})
    key = made_key(gateway, tmp_path, both(EVERYTHING, deny))
    assert error(gateway, key, "assume_role", RoleArn=role, RoleSessionName="ada", **more) == "AccessDenied"


@pytest.mark.parametrize(("more", "code"), [({}, "AccessDenied"), ({"DurationSeconds": 60}, None)])
def test_who_may_have_short_tokens_gets_no_longer_one_by_saying_nothing(
    gateway: RunningGateway, tmp_path: Path, more: dict[str, Any], code: str | None
):
    short = {"NumericLessThanEqualsIfExists": {"sts:DurationSeconds": "60"}}
    key = made_key(gateway, tmp_path, policy("Allow", "sts:GetWebIdentityToken", Condition=short))
    asked = {"Audience": ["x"], "SigningAlgorithm": "ES384"} | more
    assert error(gateway, key, "get_web_identity_token", **asked) == code


# --- Who a session is ---


def test_a_session_is_known_by_an_id_that_no_namesake_of_its_role_has(
    gateway: RunningGateway, key: tuple[str, str], role: str, tmp_path: Path
):
    session = assumed(gateway, key, role)
    with sts(gateway, session) as client:
        known = client.get_caller_identity()["UserId"]
    mine = {"StringEquals": {"aws:userid": known}}
    name = role.rpartition("/")[2]
    (tmp_path / "mine.json").write_text(json.dumps(policy("Allow", "bedrock-agentcore:*", Condition=mine)))
    (tmp_path / "trust.json").write_text(json.dumps(ANY_USER))
    assert gateway.command("role", "update", name, "--policy", str(tmp_path / "mine.json")).returncode == 0
    assert control_error(gateway, session, "list_workload_identities") is None
    files = ["--policy", str(tmp_path / "mine.json"), "--trust", str(tmp_path / "trust.json")]
    assert gateway.command("role", "delete", name).returncode == 0
    assert gateway.command("role", "create", "--name", name, *files).returncode == 0
    again = assumed(gateway, key, role)
    assert control_error(gateway, again, "list_workload_identities") == "AccessDeniedException"
    assert control_error(gateway, session, "list_workload_identities") == "UnrecognizedClientException"


def test_a_session_is_no_user_of_any_name(gateway: RunningGateway, key: tuple[str, str], tmp_path: Path):
    named = {"StringLike": {"aws:username": "*"}}
    role = made_role(gateway, tmp_path, ANY_USER, policy("Allow", "bedrock-agentcore:*", Condition=named))
    session = assumed(gateway, key, role)
    asked = {"name": fresh_name("agent")}
    assert control_error(gateway, session, "create_workload_identity", **asked) == "AccessDeniedException"


def test_one_session_of_a_role_is_taken_back_by_its_name(
    gateway: RunningGateway, key: tuple[str, str], role: str, tmp_path: Path
):
    stolen, other = assumed(gateway, key, role), assumed(gateway, key, role, RoleSessionName="grace")
    deny = policy("Deny", "*", Condition={"StringLike": {"aws:userid": "*:ada"}})
    (tmp_path / "taken-back.json").write_text(json.dumps(both(EVERYTHING, deny)))
    changed = ["role", "update", role.rpartition("/")[2], "--policy", str(tmp_path / "taken-back.json")]
    assert gateway.command(*changed).returncode == 0
    assert control_error(gateway, stolen, "list_workload_identities") == "AccessDeniedException"
    assert control_error(gateway, other, "list_workload_identities") is None
