"""Conditions and variables in the policies of keys, with real boto3: what each operation gives them to compare."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.callers import token_of
from tests.conformance.control_plane import CONTROL, DATA, JWT_AUTHORIZER, create, creation, refused
from tests.conformance.test_access_keys_cli import Run, commands
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name

DENIED = (403, "AccessDeniedException")
CLAIM = "bedrock-agentcore:InboundJwtClaim/"
DISCOVERY_URL = JWT_AUTHORIZER["customJWTAuthorizer"]["discoveryUrl"]

Restricted = Callable[..., Any]


@pytest.fixture
def run(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    return commands(gateway, monkeypatch)


@pytest.fixture
def restricted(run: Run, gateway: RunningGateway, client_of: Callable[..., Any], tmp_path: Path) -> Restricted:
    """A function that returns a client with a key that may do everything under a condition."""

    def client(condition: dict[str, Any], service: str = DATA, resource: str = "*", name: str | None = None) -> Any:
        statement = {"Effect": "Allow", "Action": "*", "Resource": resource}
        whole = statement | ({"Condition": condition} if condition else {})
        (tmp_path / "policy.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": whole}))
        flags = ("--name", name or fresh_name("key"), "--policy", str(tmp_path / "policy.json"), "--json")
        made = json.loads(run("access-key", "create", *flags).stdout)
        return client_of(gateway, service, key=(made["accessKeyId"], made["secretAccessKey"]))

    return client


@pytest.fixture
def workload(control_on_sqlite: Any) -> str:
    return str(control_on_sqlite.create_workload_identity(name=fresh_name("workload"))["name"])


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"IpAddress": {"aws:SourceIp": "127.0.0.1"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, False),
        ({"Bool": {"aws:SecureTransport": "true"}}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}, False),
        ({"NumericGreaterThan": {"aws:EpochTime": int(time.time()) - 3600}}, True),
        ({"StringLike": {"aws:UserAgent": "*Boto3*"}}, True),
        ({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, True),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/key_*"}}, True),
        ({"Null": {"bedrock-agentcore:userid": "true"}}, True),
    ],
)
def test_every_request_says_where_when_and_by_whom_it_was_sent(
    restricted: Restricted, workload: str, condition: dict[str, Any], allowed: bool
):
    asked = restricted(condition)
    if allowed:
        assert asked.get_workload_access_token(workloadName=workload)["workloadAccessToken"]
    else:
        assert refused(asked.get_workload_access_token, workloadName=workload) == DENIED


def test_a_key_acts_for_the_users_that_its_policy_names(restricted: Restricted, workload: str):
    asked = restricted({"StringLike": {"bedrock-agentcore:userid": "team-a/*"}})
    assert asked.get_workload_access_token_for_user_id(workloadName=workload, userId="team-a/ada")
    other = {"workloadName": workload, "userId": "team-b/bob"}
    assert refused(asked.get_workload_access_token_for_user_id, **other) == DENIED


@pytest.mark.parametrize(
    ("condition", "claims", "allowed"),
    [
        ({"StringEquals": {CLAIM + "iss": "{issuer}"}}, {}, True),
        ({"StringEquals": {CLAIM + "iss": "https://other.example"}}, {}, False),
        ({"StringEquals": {CLAIM + "sub": "ada"}}, {"sub": "ada"}, True),
        ({"StringEquals": {CLAIM + "sub": "ada"}}, {"sub": "bob"}, False),
        ({"ForAnyValue:StringEquals": {CLAIM + "aud": "agents"}}, {"aud": ["x", "agents"]}, True),
        ({"ForAnyValue:StringEquals": {CLAIM + "aud": "agents"}}, {"aud": "x"}, False),
        ({"ForAnyValue:StringLike": {CLAIM + "scope": "agents.*"}}, {"scope": "openid agents.invoke"}, True),
        ({"ForAnyValue:StringLike": {CLAIM + "scope": "agents.*"}}, {"scope": "openid"}, False),
        ({"StringEquals": {CLAIM + "client_id": "web"}}, {"client_id": "web"}, True),
        ({"StringEquals": {CLAIM + "client_id": "web"}}, {"client_id": None}, False),
    ],
)
def test_a_key_acts_for_the_tokens_that_its_policy_names(
    restricted: Restricted, workload: str, jwt_issuer: FakeIssuer, condition: Any, claims: Any, allowed: bool
):
    asked = restricted(json.loads(json.dumps(condition).replace("{issuer}", jwt_issuer.issuer)))
    given = {"workloadName": workload, "userToken": token_of(jwt_issuer, **claims)}
    if allowed:
        assert asked.get_workload_access_token_for_jwt(**given)["workloadAccessToken"]
    else:
        assert refused(asked.get_workload_access_token_for_jwt, **given) == DENIED


def test_a_claim_that_nobody_signed_is_none(restricted: Restricted, workload: str, jwt_issuer: FakeIssuer):
    head, _, signature = token_of(jwt_issuer, sub="bob").split(".")
    _, claims, _ = token_of(jwt_issuer, sub="ada").split(".")
    asked = restricted({"StringEquals": {CLAIM + "sub": "ada"}})
    given = {"workloadName": workload, "userToken": f"{head}.{claims}.{signature}"}
    assert refused(asked.get_workload_access_token_for_jwt, **given) == (401, "UnauthorizedException")


def test_a_key_that_may_not_anyway_makes_the_gateway_ask_no_issuer(
    restricted: Restricted, workload: str, jwt_issuer: FakeIssuer
):
    both = {"StringEquals": {CLAIM + "sub": "ada"}, "Bool": {"aws:SecureTransport": "true"}}
    unknown = f"http://127.0.0.1:9/{fresh_name('issuer')}"
    given = {"workloadName": workload, "userToken": token_of(jwt_issuer, iss=unknown)}
    assert refused(restricted(both).get_workload_access_token_for_jwt, **given) == DENIED


def test_a_consent_is_completed_for_the_users_that_a_policy_names(restricted: Restricted, jwt_issuer: FakeIssuer):
    session = "urn:ietf:params:oauth:request_uri:unknown"
    asked = restricted({"StringEquals": {"bedrock-agentcore:userid": "ada"}})
    complete = asked.complete_resource_token_auth
    assert refused(complete, sessionUri=session, userIdentifier={"userId": "bob"}) == DENIED
    asked = restricted({"StringEquals": {CLAIM + "sub": "ada"}})
    token = {"userToken": token_of(jwt_issuer, sub="bob")}
    assert refused(asked.complete_resource_token_auth, sessionUri=session, userIdentifier=token) == DENIED


@pytest.mark.parametrize(
    ("condition", "with_authorizer", "without"),
    [
        ({"StringEquals": {"bedrock-agentcore:RuntimeAuthorizerType": "CUSTOM_JWT"}}, True, False),
        ({"StringEquals": {"bedrock-agentcore:RuntimeAuthorizerType": "AWS_IAM"}}, False, True),
        ({"StringEquals": {"bedrock-agentcore:DiscoveryUrl": DISCOVERY_URL}}, True, False),
        ({"StringEquals": {"bedrock-agentcore:DiscoveryUrl": "https://other.example/x"}}, False, False),
    ],
)
def test_a_key_registers_agents_with_the_guard_that_its_policy_names(
    restricted: Restricted, condition: dict[str, Any], with_authorizer: bool, without: bool
):
    asked = restricted(condition, CONTROL)
    for more, allowed in (({"authorizerConfiguration": JWT_AUTHORIZER}, with_authorizer), ({}, without)):
        if allowed:
            assert create(asked, **more)["agentRuntimeId"]
        else:
            assert refused(asked.create_agent_runtime, **creation(**more)) == DENIED


def test_a_policy_for_all_names_each_keys_own(restricted: Restricted, control_on_sqlite: Any):
    name = fresh_name("ada")
    directory = "arn:aws:bedrock-agentcore:*:*:workload-identity-directory/default"
    mine = [directory, directory + "/workload-identity/${aws:username}-*"]
    asked = restricted({}, resource=mine, name=name)  # type: ignore[arg-type]
    for workload in (f"{name}-web", f"{fresh_name('bob')}-web"):
        control_on_sqlite.create_workload_identity(name=workload)
        if workload.startswith(name):
            assert asked.get_workload_access_token(workloadName=workload)
        else:
            assert refused(asked.get_workload_access_token, workloadName=workload) == DENIED
