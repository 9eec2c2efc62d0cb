"""What a session keeps and what it does not, who may end it, and what is left of it while its store is down."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ROLE, RunningGateway, register, running_gateway
from tests.integration.test_several_processes import MASTER_KEY, starting_together
from tests.parts import Postgres, Valkey, running_valkey
from tests.sessions import SESSION, StoppableAgent, heard, invoke, new_session, running_agents
from tests.web_sockets import WebSocketAgent, dial, door, signed_headers


@pytest.fixture
def two() -> Iterator[list[StoppableAgent]]:
    with running_agents(2) as agents:
        yield agents


def update(gateway: RunningGateway, arn: str, url: str, **more: Any) -> None:
    """Cut a new version of a runtime, which stands at another URL."""
    gateway.control.update_agent_runtime(
        agentRuntimeId=arn.rpartition("/")[2],
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": url}},
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **more,
    )


def stop(gateway: RunningGateway, arn: str, session: str) -> str:
    answer = gateway.data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
    return str(answer["runtimeSessionId"])


def bearer(gateway: RunningGateway, arn: str, token: str, session: str) -> int:
    return post(gateway, arn, token, headers=[(SESSION, session)]).status_code


def recorded(gateway: RunningGateway, arn: str, action: str) -> list[tuple[str, dict[str, Any]]]:
    """Return decision and details of every record about an action on a runtime."""
    with closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite")) as records:
        rows = records.execute(
            "select decision, details from audit_record where action = ? and resource like ? order by id",
            (action, f"{arn}%"),
        ).fetchall()
    return [(decision, json.loads(details)) for decision, details in rows]


# --- Versions ---


def test_a_session_of_an_old_version_is_called_on_the_path_of_that_version(
    gateway: RunningGateway, two: list[StoppableAgent]
):
    old, new = two
    arn, session = register(gateway, old.url + "/old"), new_session()
    invoke(gateway, arn, session=session)
    update(gateway, arn, new.url + "/new")
    assert invoke(gateway, arn, session=session)["path"] == "/old/invocations"
    assert new.received == []


def test_an_old_session_is_held_to_the_present_versions_header_allowlist(gateway: RunningGateway, agent: Agent):
    arn, session = register(gateway, agent.url), new_session()
    invoke(gateway, arn, session=session)
    update(gateway, arn, agent.url, requestHeaderConfiguration={"requestHeaderAllowlist": ["X-Tenant"]})
    invoke(gateway, arn, session=session, signed={"X-Tenant": "blue"})
    assert heard(agent)["x-tenant"] == "blue"


def test_the_record_of_a_call_names_the_version_that_was_called(gateway: RunningGateway, two: list[StoppableAgent]):
    old, new = two
    arn, session = register(gateway, old.url), new_session()
    invoke(gateway, arn, session=session)
    update(gateway, arn, new.url)
    invoke(gateway, arn, session=session)
    assert [details["version"] for _, details in recorded(gateway, arn, "InvokeAgentRuntime")] == [1, 1]


async def test_a_stream_is_in_the_session_of_the_calls_with_its_id(
    gateway: RunningGateway, two: list[StoppableAgent], ws_agent: WebSocketAgent
):
    arn, session = register(gateway, ws_agent.url), new_session()
    url = door(gateway, arn)
    async with await dial(url, signed_headers(gateway, url) | {SESSION: session}):
        pass
    update(gateway, arn, two[0].url)
    async with await dial(url, signed_headers(gateway, url) | {SESSION: session}):
        assert (len(ws_agent.heads), two[0].received) == (2, [])


def test_a_caller_who_names_no_session_can_go_on_with_the_one_that_was_made(
    gateway: RunningGateway, two: list[StoppableAgent], jwt_issuer: FakeIssuer
):
    (old, new), guard, token = two, guarded_by(jwt_issuer.discovery_url), token_of(jwt_issuer)
    arn = register(gateway, old.url, **guard)
    session = post(gateway, arn, token).headers[SESSION]
    update(gateway, arn, new.url, **guard)
    assert bearer(gateway, arn, token, session) == 200
    assert (len(old.received), len(new.received)) == (2, 0)


# --- Endings ---


def test_a_session_is_ended_once(gateway: RunningGateway, agent: Agent):
    arn, session = register(gateway, agent.url), new_session()
    invoke(gateway, arn, session=session)
    assert stop(gateway, arn, session) == session
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        stop(gateway, arn, session)


def test_a_caller_that_signs_and_may_end_sessions_ends_those_of_the_users_it_calls_for(
    gateway: RunningGateway, agent: Agent
):
    arn, session = register(gateway, agent.url), new_session()
    invoke(gateway, arn, session=session, user="alice")
    stop(gateway, arn, session)
    assert invoke(gateway, arn, session=session, user="bob")["method"] == "POST"


def test_an_ending_that_is_refused_is_recorded_as_refused(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn, session = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url)), new_session()
    bearer(gateway, arn, token_of(jwt_issuer, sub="ada"), session)
    url = gateway.invocation_url(arn, "").removesuffix("invocations") + "stopruntimesession"
    headers = {SESSION: session, "authorization": f"Bearer {token_of(jwt_issuer, sub='eve')}"}
    assert httpx2.post(url, content=b"{}", headers=headers, trust_env=False).status_code == 403
    assert [decision for decision, _ in recorded(gateway, arn, "StopRuntimeSession")] == ["denied"]


def test_an_ending_of_what_is_not_there_is_recorded_as_refused(gateway: RunningGateway, agent: Agent):
    arn = register(gateway, agent.url)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        stop(gateway, arn, new_session())
    assert [decision for decision, _ in recorded(gateway, arn, "StopRuntimeSession")] == ["denied"]


# --- Replicas ---


@pytest.fixture(scope="module")
def pair(postgres_server: Postgres, valkey_server: Valkey) -> Iterator[list[RunningGateway]]:
    """Two gateways, each with a folder of its own, on one database and one Valkey."""
    settings = {"database_url": postgres_server.create_database(), "redis_url": valkey_server.url}
    with starting_together(2, master_key=MASTER_KEY, **settings) as gateways:
        yield gateways


def test_a_session_that_began_at_one_replica_keeps_its_version_at_the_other(
    pair: list[RunningGateway], two: list[StoppableAgent]
):
    (first, second), (old, new) = pair, two
    arn, session = register(first, old.url), new_session()
    invoke(first, arn, session=session)
    update(first, arn, new.url)
    invoke(second, arn, session=session)
    assert (len(old.received), len(new.received)) == (2, 0)


def test_of_two_users_who_begin_one_session_at_two_replicas_at_once_one_has_it(
    pair: list[RunningGateway], agent: Agent
):
    arn = register(pair[0], agent.url)

    def begin(gateway: RunningGateway, session: str, user: str) -> str:
        try:
            invoke(gateway, arn, session=session, user=user)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "let in"

    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            session = new_session()
            told = list(threads.map(begin, pair, [session, session], ["alice", "bob"]))
            assert sorted(told) == ["AccessDeniedException", "let in"]


# --- While the store of sessions is down ---


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def on_valkey(valkey: Valkey) -> Iterator[RunningGateway]:
    with running_gateway(redis_url=valkey.url) as running:
        yield running


@pytest.fixture
def gone(valkey: Valkey, on_valkey: RunningGateway) -> Iterator[Valkey]:
    yield valkey
    valkey.restore()
    on_valkey.wait_ready()


def test_a_call_does_not_get_into_a_session_that_cannot_be_looked_up(
    on_valkey: RunningGateway, gone: Valkey, agent: Agent
):
    arn, session = register(on_valkey, agent.url), new_session()
    invoke(on_valkey, arn, session=session, user="alice")
    gone.stop()
    invoke(on_valkey, arn, session=session, user="bob")
    assert heard(agent)[SESSION] != session


def test_a_caller_is_told_that_its_call_was_in_a_session_of_its_own(
    on_valkey: RunningGateway, gone: Valkey, agent: Agent, jwt_issuer: FakeIssuer
):
    arn, session = register(on_valkey, agent.url, **guarded_by(jwt_issuer.discovery_url)), new_session()
    gone.stop()
    answer = post(on_valkey, arn, token_of(jwt_issuer), headers=[(SESSION, session)])
    assert (answer.status_code, answer.headers[SESSION]) == (200, heard(agent)[SESSION])


def test_the_session_of_an_mcp_server_is_refused_while_it_cannot_be_looked_up(
    on_valkey: RunningGateway, gone: Valkey, agent: Agent, jwt_issuer: FakeIssuer
):
    rules = guarded_by(jwt_issuer.discovery_url) | {"protocolConfiguration": {"serverProtocol": "MCP"}}
    arn = register(on_valkey, agent.url, **rules)
    gone.stop()
    post(on_valkey, arn, token_of(jwt_issuer), headers=[("mcp-session-id", "somebodys")])
    assert agent.received == []
