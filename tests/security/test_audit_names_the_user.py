"""The audit record of a credential says for whom it was made; a user that nobody proved or used is not named."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import RunningGateway, fresh_name, register


@pytest.fixture
def workload(gateway: RunningGateway) -> str:
    name = fresh_name("workload")
    gateway.control.create_workload_identity(name=name)
    return name


@pytest.fixture
def records(gateway: RunningGateway) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(gateway.data_dir / "gateway.sqlite")
    yield connection
    connection.close()


def last(records: sqlite3.Connection, action: str) -> tuple[str, dict[str, Any]]:
    row = records.execute(
        "select decision, details from audit_record where action = ? order by id desc limit 1", (action,)
    ).fetchone()
    return row[0], json.loads(row[1])


def test_a_token_for_a_named_user_names_the_user(gateway: RunningGateway, workload: str, records: sqlite3.Connection):
    gateway.data.get_workload_access_token_for_user_id(workloadName=workload, userId="alice")
    assert last(records, "GetWorkloadAccessTokenForUserId") == (
        "allowed",
        {"user": ["id", "alice"], "permitted": "admin key"},
    )


def test_a_token_for_a_proven_user_names_issuer_and_subject(
    gateway: RunningGateway, workload: str, records: sqlite3.Connection, jwt_issuer: FakeIssuer
):
    gateway.data.get_workload_access_token_for_jwt(workloadName=workload, userToken=token_of(jwt_issuer))
    assert last(records, "GetWorkloadAccessTokenForJWT") == ("allowed", {"user": ["jwt", jwt_issuer.issuer, "ada"]})


def test_a_user_token_that_is_refused_is_recorded_as_denied(
    gateway: RunningGateway, workload: str, records: sqlite3.Connection, jwt_issuer: FakeIssuer
):
    forged = token_of(jwt_issuer, key=SigningKey.make(kid=jwt_issuer.keys[0].kid))
    with pytest.raises(ClientError):
        gateway.data.get_workload_access_token_for_jwt(workloadName=workload, userToken=forged)
    assert last(records, "GetWorkloadAccessTokenForJWT")[0] == "denied"


def test_a_user_id_beside_a_token_is_not_on_record(
    gateway: RunningGateway, agent: Agent, records: sqlite3.Connection, jwt_issuer: FakeIssuer
):
    arn = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    headers = [("x-amzn-bedrock-agentcore-runtime-user-id", "victim")]
    post(gateway, arn, token_of(jwt_issuer), headers=headers)
    assert "victim" not in json.dumps(last(records, "InvokeAgentRuntime"))
