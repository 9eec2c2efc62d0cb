"""Who may not call for a user does not do so with an agent's workload access token either, however it came by one."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus

from tests.agents import Agent
from tests.callers import opened, token_of, workload_token
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name, register
from tests.security_tokens import made_key
from tests.sessions import WAT, heard, invoke
from tests.web_sockets import WebSocketAgent, dial, door, signed_headers

Key = tuple[str, str]
DENIED = r"AccessDeniedException.*not authorized to perform bedrock-agentcore:InvokeAgentRuntimeForUser"


def key_that_may(gateway: RunningGateway, folder: Path, arn: str, *actions: str, **conditions: Any) -> Key:
    """Make a key that may do these things to one agent, and mint tokens for agents of its own."""
    mints = {"Effect": "Allow", "Action": "bedrock-agentcore:GetWorkloadAccessToken*", "Resource": "*"}
    calls = {"Effect": "Allow", "Action": [f"bedrock-agentcore:{each}" for each in actions], "Resource": f"{arn}*"}
    return made_key(gateway, folder, {"Version": "2012-10-17", "Statement": [mints, calls | conditions]})


@pytest.fixture
def runtime(gateway: RunningGateway, agent: Agent) -> str:
    return register(gateway, agent.url)


@pytest.fixture
def caller(gateway: RunningGateway, tmp_path: Path, runtime: str) -> Key:
    """A key that may call the agent, but not for users."""
    return key_that_may(gateway, tmp_path, runtime, "InvokeAgentRuntime")


def minted(gateway: RunningGateway, key: Key, **user: str) -> str:
    """Return a token for an agent of one's own, as the key may ask for it."""
    name, client = fresh_name("own"), gateway.client("bedrock-agentcore", key=key)
    gateway.control.create_workload_identity(name=name)
    ask = (
        client.get_workload_access_token_for_jwt
        if "userToken" in user
        else (client.get_workload_access_token_for_user_id if user else client.get_workload_access_token)
    )
    return str(ask(workloadName=name, **user)["workloadAccessToken"])


@pytest.mark.parametrize(
    "shown",
    [
        lambda gateway, key, _: minted(gateway, key, userId="bob"),
        lambda gateway, key, issuer: minted(gateway, key, userToken=token_of(issuer, aud="another application")),
        lambda gateway, _, __: workload_token("an-agent-AbCdEf1234", gateway, user="bob", hosted=True),
    ],
    ids=["named by oneself", "of a token for somebody else", "of an agent that somebody runs"],
)
def test_a_user_does_not_get_in_inside_an_agents_token(
    gateway: RunningGateway, agent: Agent, runtime: str, caller: Key, jwt_issuer: FakeIssuer, shown: Callable[..., str]
):
    with pytest.raises(ClientError, match=DENIED):
        invoke(gateway, runtime, key=caller, signed={WAT: shown(gateway, caller, jwt_issuer)})
    assert agent.received == []


def test_a_user_id_is_not_let_in_because_an_agents_token_says_it_again(
    gateway: RunningGateway, runtime: str, caller: Key
):
    with pytest.raises(ClientError, match=DENIED):
        invoke(gateway, runtime, key=caller, user="bob", signed={WAT: minted(gateway, caller, userId="bob")})


async def test_a_user_does_not_get_into_a_stream_inside_an_agents_token(
    gateway: RunningGateway, ws_agent: WebSocketAgent, tmp_path: Path
):
    arn = register(gateway, ws_agent.url)
    key = key_that_may(gateway, tmp_path, arn, "InvokeAgentRuntimeWithWebSocketStream")
    url, shown = door(gateway, arn), {WAT.replace("-", "_"): minted(gateway, key, userId="bob")}
    with pytest.raises(InvalidStatus) as refused:
        await dial(url, signed_headers(gateway, url, key=key, **shown))
    assert (refused.value.response.status_code, ws_agent.heads) == (403, [])


def test_a_policy_that_names_users_holds_for_those_in_agents_tokens(
    gateway: RunningGateway, runtime: str, tmp_path: Path, jwt_issuer: FakeIssuer
):
    only = {"Condition": {"StringLikeIfExists": {"bedrock-agentcore:userid": "shop/*"}}}
    key = key_that_may(gateway, tmp_path, runtime, "InvokeAgentRuntime", "InvokeAgentRuntimeForUser", **only)
    for others in ({"userId": "bob"}, {"userToken": token_of(jwt_issuer, sub="shop/ada")}):
        with pytest.raises(ClientError, match="AccessDeniedException"):
            invoke(gateway, runtime, key=key, signed={WAT: minted(gateway, key, **others)})
    assert invoke(gateway, runtime, key=key, signed={WAT: minted(gateway, key, userId="shop/ada")})["method"] == "POST"


def test_an_agent_that_acts_for_nobody_needs_no_leave_to_call_for_users(
    gateway: RunningGateway, agent: Agent, runtime: str, caller: Key
):
    invoke(gateway, runtime, key=caller, signed={WAT: minted(gateway, caller)})
    access = opened(heard(agent)["workloadaccesstoken"], gateway)
    assert (access.user, len(access.actors)) == (None, 1)


def test_the_record_of_a_call_names_the_proven_user_that_an_agent_brought(
    gateway: RunningGateway, runtime: str, jwt_issuer: FakeIssuer
):
    token = minted(gateway, gateway.root_key, userToken=token_of(jwt_issuer, sub="ada"))
    invoke(gateway, runtime, signed={WAT: token})
    with closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite")) as records:
        (details,) = records.execute(
            "select details from audit_record where action = 'InvokeAgentRuntime' and resource like ?", (f"{runtime}%",)
        ).fetchone()
    assert json.loads(details)["user"] == ["jwt", jwt_issuer.issuer, "ada"]
