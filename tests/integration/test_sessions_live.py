"""Sessions at a real gateway: they stay with their version, their address and their user, also over two gateways."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ROLE, RunningGateway, free_port, register, running_gateway
from tests.parts import Valkey
from tests.security.attacked_doors import reason_of

HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"


@contextmanager
def running_agent(agent: Agent | None = None) -> Iterator[Agent]:
    """Run one more agent, at a port of its own."""
    agent = agent or Agent()
    server = uvicorn.Server(uvicorn.Config(agent, port=agent.port, log_level="error", lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield agent
    finally:
        server.should_exit = True
        thread.join(10)


def session_id() -> str:
    return f"session-{uuid.uuid4()}"


def invoke(gateway: RunningGateway, arn: str, session: str, **asked: Any) -> Any:
    answer = gateway.data.invoke_agent_runtime(agentRuntimeArn=arn, runtimeSessionId=session, payload=b"{}", **asked)
    answer["response"].read()
    return answer


def moved(gateway: RunningGateway, arn: str, url: str, **more: Any) -> None:
    gateway.control.update_agent_runtime(
        agentRuntimeId=arn.rpartition("/")[2],
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": url}},
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **more,
    )


# --- Whose it is ---


def test_a_session_of_one_user_is_refused_to_another(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer):
    arn, session = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url)), session_id()
    assert post(gateway, arn, token_of(jwt_issuer, sub="ada"), headers=[(HEADER, session)]).status_code == 200
    stolen = post(gateway, arn, token_of(jwt_issuer, sub="eve"), headers=[(HEADER, session)])
    assert (stolen.status_code, len(agent.received)) == (403, 1)
    assert post(gateway, arn, token_of(jwt_issuer, sub="ada"), headers=[(HEADER, session)]).status_code == 200


def test_a_session_of_a_named_user_is_refused_to_a_caller_who_names_another(gateway: RunningGateway, agent: Agent):
    arn, session = register(gateway, agent.url), session_id()
    invoke(gateway, arn, session, runtimeUserId="ada")
    for asked in ({"runtimeUserId": "eve"}, {}):
        with pytest.raises(ClientError, match=r"AccessDeniedException.*opened by another user"):
            invoke(gateway, arn, session, **asked)


def test_a_session_is_not_stopped_by_another_user(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer):
    arn, session = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url)), session_id()
    post(gateway, arn, token_of(jwt_issuer, sub="ada"), headers=[(HEADER, session)])
    url = gateway.invocation_url(arn, "").removesuffix("invocations") + "stopruntimesession"

    def stop(sub: str) -> int:
        shown = {HEADER: session, "authorization": f"Bearer {token_of(jwt_issuer, sub=sub)}"}
        return httpx2.post(url, content=b"{}", headers=shown, trust_env=False).status_code

    assert [stop("eve"), stop("ada"), stop("ada")] == [403, 200, 404]


def test_the_refusal_is_on_record(gateway: RunningGateway, agent: Agent):
    arn, session = register(gateway, agent.url), session_id()
    invoke(gateway, arn, session, runtimeUserId="ada")
    with pytest.raises(ClientError) as refused:
        invoke(gateway, arn, session, runtimeUserId="eve")
    request_id = refused.value.response["ResponseMetadata"]["RequestId"]
    assert "the session belongs to another user" in reason_of(gateway, request_id)


# --- Where it goes ---


def test_a_session_keeps_its_version_and_a_new_one_takes_the_next(gateway: RunningGateway, agent: Agent):
    with running_agent() as newer:
        arn, old, new = register(gateway, agent.url), session_id(), session_id()
        invoke(gateway, arn, old)
        moved(gateway, arn, newer.url)
        invoke(gateway, arn, old)
        invoke(gateway, arn, new)
        assert (len(agent.received), len(newer.received)) == (2, 1)


def test_an_authorizer_that_was_changed_holds_for_sessions_that_live(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn, session = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url)), session_id()
    assert post(gateway, arn, token_of(jwt_issuer), headers=[(HEADER, session)]).status_code == 200
    moved(gateway, arn, agent.url, **guarded_by(jwt_issuer.discovery_url, allowedAudience=["others"]))
    assert post(gateway, arn, token_of(jwt_issuer), headers=[(HEADER, session)]).status_code == 401


def test_a_session_that_was_stopped_begins_anew_at_the_present_version(gateway: RunningGateway, agent: Agent):
    with running_agent() as newer:
        arn, session = register(gateway, agent.url), session_id()
        invoke(gateway, arn, session)
        moved(gateway, arn, newer.url)
        assert gateway.data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)["statusCode"] == 200
        invoke(gateway, arn, session)
        assert len(newer.received) == 1


def test_sessions_spread_over_the_addresses_of_an_agent_and_stay_there(gateway: RunningGateway, agent: Agent):
    with running_agent() as second:
        arn = register(gateway, f"{agent.url}, {second.url}")
        sessions = [session_id() for _ in range(12)]
        for session in sessions:
            before = (len(agent.received), len(second.received))
            for _ in range(3):
                invoke(gateway, arn, session)
            after = (len(agent.received), len(second.received))
            assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 3]
        assert min(len(agent.received), len(second.received)) > 0


def test_a_session_moves_when_its_address_goes_and_no_call_is_lost(gateway: RunningGateway, agent: Agent):
    second = Agent()
    with running_agent(second):
        arn = register(gateway, f"{agent.url},{second.url}")
        sessions = [session_id() for _ in range(8)]
        for session in sessions:
            invoke(gateway, arn, session)
    time.sleep(0.1)
    for session in sessions * 2:
        invoke(gateway, arn, session)
    assert len(agent.received) >= 16
    with running_agent(second):
        time.sleep(5.2)  # an address that took no connection is passed by for 5 s
        fresh = [session_id() for _ in range(16)]
        for session in fresh:
            invoke(gateway, arn, session)
        assert any(session in str(head["headers"]) for head in second.received for session in fresh)


def test_an_agent_of_which_no_address_answers_is_said_to_fail_once(gateway: RunningGateway):
    arn = register(gateway, f"http://127.0.0.1:{free_port()},http://127.0.0.1:{free_port()}")
    with pytest.raises(ClientError, match="RuntimeClientError"):
        invoke(gateway, arn, session_id())


@pytest.mark.parametrize(
    "urls",
    [
        "http://a.test,http://a.test",
        "http://a.test/x,http://b.test/y",
        "http://a.test,ftp://b.test",
        "http://a.test,",
        ",".join(f"http://a{number}.test" for number in range(17)),
    ],
    ids=["twice", "two paths", "no URL", "nothing after the comma", "too many"],
)
def test_addresses_that_cannot_be_one_agent_are_refused(gateway: RunningGateway, urls: str):
    with pytest.raises(ClientError, match="ValidationException"):
        register(gateway, urls)


# --- Several gateways ---


def test_two_gateways_that_share_their_state_agree_about_sessions(valkey_server: Valkey, agent: Agent):
    with running_gateway(redis_url=valkey_server.url) as first, running_agent() as newer:
        second = RunningGateway(first.folder / "second", redis_url=valkey_server.url)
        second.data_dir = first.data_dir
        second.folder.mkdir()
        try:
            second.start()
            arn, session = register(first, agent.url), session_id()
            invoke(first, arn, session, runtimeUserId="ada")
            moved(first, arn, newer.url)
            invoke(second, arn, session, runtimeUserId="ada")
            assert (len(agent.received), len(newer.received)) == (2, 0)
            with pytest.raises(ClientError, match="AccessDeniedException"):
                invoke(second, arn, session, runtimeUserId="eve")
        finally:
            second.kill()


def test_a_gateway_told_not_to_bind_sessions_does_not(agent: Agent):
    with running_gateway(session_binding="none") as gateway:
        arn, session = register(gateway, agent.url), session_id()
        invoke(gateway, arn, session, runtimeUserId="ada")
        invoke(gateway, arn, session, runtimeUserId="eve")
        assert len(agent.received) == 2
