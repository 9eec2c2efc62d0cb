"""People who share a role, each with credentials for a token of their own, do not share sessions."""

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import AUDIENCE, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import REGION, RunningGateway, register
from tests.security_tokens import made_role, sts
from tests.sessions import new_session

ACTIONS = ["bedrock-agentcore:InvokeAgentRuntime", "bedrock-agentcore:StopRuntimeSession"]
POLICY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ACTIONS, "Resource": "*"}}


def signed_in(gateway: RunningGateway, role: str, issuer: FakeIssuer, person: str) -> Any:
    """Return a client with the credentials that a person gets for their token. Everybody names their session alike."""
    with sts(gateway) as client:
        given = client.assume_role_with_web_identity(
            RoleArn=role, RoleSessionName="app", WebIdentityToken=token_of(issuer, sub=person)
        )["Credentials"]
    return boto3.session.Session().client(
        "bedrock-agentcore",
        endpoint_url=gateway.url,
        region_name=REGION,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )


@pytest.fixture
def role(gateway: RunningGateway, jwt_issuer: FakeIssuer, tmp_path: Path) -> str:
    trust = {"webIdentity": {"discoveryUrl": jwt_issuer.discovery_url, "allowedAudience": [AUDIENCE]}}
    return made_role(gateway, tmp_path, trust, POLICY)


def test_the_session_of_a_person_is_refused_to_another_of_the_same_role(
    gateway: RunningGateway, agent: Agent, role: str, jwt_issuer: FakeIssuer
):
    session = {"agentRuntimeArn": register(gateway, agent.url), "runtimeSessionId": new_session(), "payload": b"{}"}
    signed_in(gateway, role, jwt_issuer, "ada").invoke_agent_runtime(**session)
    with pytest.raises(ClientError, match=r"AccessDeniedException.*another user"):
        signed_in(gateway, role, jwt_issuer, "eve").invoke_agent_runtime(**session)
    assert len(agent.received) == 1


def test_a_person_keeps_their_session_with_new_credentials(
    gateway: RunningGateway, agent: Agent, role: str, jwt_issuer: FakeIssuer
):
    session = {"agentRuntimeArn": register(gateway, agent.url), "runtimeSessionId": new_session(), "payload": b"{}"}
    for _ in range(2):
        signed_in(gateway, role, jwt_issuer, "ada").invoke_agent_runtime(**session)
    assert len(agent.received) == 2


def test_a_person_ends_their_own_sessions_alone(
    gateway: RunningGateway, agent: Agent, role: str, jwt_issuer: FakeIssuer
):
    session = {"agentRuntimeArn": register(gateway, agent.url), "runtimeSessionId": new_session()}
    ada, eve = (signed_in(gateway, role, jwt_issuer, person) for person in ("ada", "eve"))
    ada.invoke_agent_runtime(**session, payload=b"{}")
    with pytest.raises(ClientError, match=r"AccessDeniedException.*another user"):
        eve.stop_runtime_session(**session)
    assert ada.stop_runtime_session(**session)["runtimeSessionId"] == session["runtimeSessionId"]
