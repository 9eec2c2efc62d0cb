"""The short way of calls that repeat one which was let in never outlives a truth, whichever process changed it.

A call that takes the short way is shown the workload access token of the call before (`tests.repeated_calls`): one that is
let in with another token went the long way, where everything is asked anew.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.agents import Agent
from tests.callers import guarded_by, opened, running_issuer, token_of
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import ROLE, RunningGateway, register, running_gateway
from tests.repeated_calls import Caller, Teller, calling, running_teller
from tests.sessions import SESSION, new_session

INVOKE = "bedrock-agentcore:InvokeAgentRuntime"


def identity(caller: Caller) -> str:
    return caller.arn.rpartition("/")[2]


def update(by: RunningGateway, arn: str, url: str, **more: Any) -> str:
    made = by.control.update_agent_runtime(
        agentRuntimeId=arn.rpartition("/")[2],
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": url}},
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **more,
    )
    return str(made["agentRuntimeVersion"])


def put_policy(by: RunningGateway, arn: str, effect: str) -> None:
    statement = {"Effect": effect, "Principal": "*", "Action": INVOKE, "Resource": arn}
    by.control.put_resource_policy(
        resourceArn=arn, policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


# --- What was changed ---


def test_who_may_not_call_a_new_version_is_refused_by_the_next_answer(
    caller: Caller, by: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    update(by, caller.arn, agent.url, **guarded_by(jwt_issuer.discovery_url, allowedAudience=["others"]))
    assert caller.call().status == 401


def test_a_new_version_has_every_call_asked_anew(
    caller: Caller, by: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    before = caller.call()
    update(by, caller.arn, agent.url, **guarded_by(jwt_issuer.discovery_url))
    after = caller.call()
    assert (after.status, after.token == before.token) == (200, False)


def test_a_runtime_that_is_deleted_is_not_called_again(caller: Caller, by: RunningGateway, agent: Agent):
    received = len(agent.received)
    by.control.delete_agent_runtime(agentRuntimeId=identity(caller))
    assert (caller.call().status, len(agent.received)) == (401, received)


def test_an_endpoint_that_leads_to_another_version_has_that_versions_rules(
    caller: Caller, by: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    by.control.create_agent_runtime_endpoint(agentRuntimeId=identity(caller), name="prod", agentRuntimeVersion="1")
    others = guarded_by(jwt_issuer.discovery_url, allowedAudience=["others"])
    version = update(by, caller.arn, agent.url, **others)
    with calling(caller.gateway, caller.arn, caller.token, query="qualifier=prod") as at_prod:
        at_prod.warmed()
        by.control.update_agent_runtime_endpoint(
            agentRuntimeId=identity(caller), endpointName="prod", agentRuntimeVersion=version
        )
        assert at_prod.call().status == 401


def test_an_endpoint_that_is_deleted_is_not_called_again(caller: Caller, by: RunningGateway):
    by.control.create_agent_runtime_endpoint(agentRuntimeId=identity(caller), name="prod", agentRuntimeVersion="1")
    with calling(caller.gateway, caller.arn, caller.token, query="qualifier=prod") as at_prod:
        at_prod.warmed()
        by.control.delete_agent_runtime_endpoint(agentRuntimeId=identity(caller), endpointName="prod")
        assert at_prod.call().status == 401


@pytest.mark.parametrize("at", ["", "/runtime-endpoint/DEFAULT"], ids=["runtime", "endpoint"])
def test_a_policy_that_denies_is_honoured_by_the_next_answer(caller: Caller, by: RunningGateway, at: str):
    put_policy(by, caller.arn + at, "Deny")
    assert caller.call().status == 403


def test_a_policy_that_allows_has_every_call_asked_anew(caller: Caller, by: RunningGateway):
    before = caller.call()
    put_policy(by, caller.arn, "Allow")
    tokens = {caller.call().token for _ in range(3)} | {before.token}
    assert (len(tokens), None in tokens) == (4, False)


def test_a_policy_that_is_removed_lets_calls_take_the_short_way_again(caller: Caller, by: RunningGateway):
    put_policy(by, caller.arn, "Allow")
    caller.call()
    by.control.delete_resource_policy(resourceArn=caller.arn)
    assert caller.warmed().status == 200


def test_a_session_that_was_stopped_begins_anew_on_the_long_way(caller: Caller, by: RunningGateway):
    before = caller.call()
    url = by.invocation_url(caller.arn).replace("/invocations?", "/stopruntimesession?")
    shown = {"authorization": f"Bearer {caller.token}", SESSION: caller.session}
    stopped = httpx2.post(url, headers=shown, trust_env=False)
    after = caller.call()
    assert (stopped.status_code, after.status, after.token == before.token) == (200, 200, False)


def test_somebody_else_who_takes_over_a_stopped_session_is_its_only_user(
    caller: Caller, by: RunningGateway, jwt_issuer: FakeIssuer
):
    url = by.invocation_url(caller.arn).replace("/invocations?", "/stopruntimesession?")
    shown = {"authorization": f"Bearer {caller.token}", SESSION: caller.session}
    httpx2.post(url, headers=shown, trust_env=False)
    with calling(by, caller.arn, token_of(jwt_issuer, sub="bob"), session=caller.session) as bob:
        assert (bob.call().status, caller.call().status) == (200, 403)


def test_a_session_that_another_process_moved_is_called_where_it_is_now(
    pair: list[RunningGateway], jwt_issuer: FakeIssuer
):
    with running_teller() as one, running_teller() as two:
        arn = register(pair[0], f"{one.url},{two.url}", **guarded_by(jwt_issuer.discovery_url))
        token = token_of(jwt_issuer)
        with calling(pair[0], arn, token) as caller, calling(pair[1], arn, token, session=caller.session) as beside:
            caller.warmed()
            home, other = sorted((one, two), key=lambda teller: not teller.received)
            home.deafen()  # for the other gateway, which has no connection to it
            moved, after = beside.call(), caller.call()
        assert ([moved.status, after.status], len(other.received)) == ([200, 200], 2)


# --- Who calls ---


def test_a_token_is_not_believed_beyond_its_end(pair: list[RunningGateway], agent: Agent, jwt_issuer: FakeIssuer):
    arn = register(pair[0], agent.url, **guarded_by(jwt_issuer.discovery_url))
    leeway = 60
    with calling(pair[0], arn, token_of(jwt_issuer, exp=int(time.time()) - leeway + 3)) as caller:
        answers = []
        until = time.monotonic() + 6
        while time.monotonic() < until and (not answers or answers[-1].status == 200):
            answers.append(caller.call())
        assert (answers[0].status, answers[-1].status) == (200, 401)


def test_a_token_whose_key_was_withdrawn_is_refused_when_that_is_known(pair: list[RunningGateway], agent: Agent):
    with running_issuer(SigningKey.make(kid="old")) as issuer:
        arn = register(pair[0], agent.url, **guarded_by(issuer.discovery_url))
        with calling(pair[0], arn, token_of(issuer)) as caller:
            caller.warmed()
            issuer.rotate(SigningKey.make(kid="new"))
            with calling(pair[0], arn, token_of(issuer)) as newer:
                assert (newer.call().status, caller.call().status) == (200, 401)


def test_another_user_does_not_come_into_a_session_of_repeated_calls(caller: Caller, jwt_issuer: FakeIssuer):
    with calling(caller.gateway, caller.arn, token_of(jwt_issuer, sub="bob"), session=caller.session) as bob:
        assert bob.call().status == 403


@pytest.mark.parametrize("scheme", ["bearer", "Basic", "BEARER"])
def test_the_same_token_in_another_form_is_asked_anew(caller: Caller, scheme: str):
    before = caller.call()
    head = caller.head().replace(b"Bearer ", f"{scheme} ".encode())
    caller.send(head + b"{}")
    after = caller.take()
    assert after.status != 200 or after.token != before.token


def test_a_token_that_differs_in_its_last_letter_is_refused(caller: Caller):
    letter = "A" if caller.token[-10] != "A" else "B"
    caller.token = caller.token[:-10] + letter + caller.token[-9:]
    assert caller.call().status == 401


def test_two_users_are_told_apart_by_their_tokens_on_the_short_way(caller: Caller, jwt_issuer: FakeIssuer):
    ada = caller.warmed()
    with calling(caller.gateway, caller.arn, token_of(jwt_issuer, sub="bob")) as other:
        bob = other.warmed()
    users = [opened(str(answered.token), caller.gateway).user for answered in (ada, bob, caller.call())]
    assert [getattr(user, "subject", None) for user in users] == ["ada", "bob", "ada"]


def test_two_sessions_of_one_user_have_each_their_own_answers(caller: Caller):
    session = new_session()
    calls = [caller.call(b"{}", session=each) for each in (None, session) * 3]
    assert [dict(call.heard)[SESSION] for call in calls] == [caller.session, session] * 3


# --- What comes in parts ---


@pytest.fixture
def teller() -> Iterator[Teller]:
    with running_teller() as running:
        yield running


def test_a_body_that_was_held_back_does_not_bring_a_call_past_a_change(
    caller: Caller, by: RunningGateway, agent: Agent
):
    caller.send(caller.head(length=10) + b"half")
    received = len(agent.received)
    time.sleep(0.1)  # so that the head has arrived
    by.control.delete_agent_runtime(agentRuntimeId=identity(caller))
    caller.send(b" done.")
    assert (caller.take().status, len(agent.received)) == (401, received)


def test_what_an_agent_sends_unasked_is_nobodys_answer(
    pair: list[RunningGateway], teller: Teller, jwt_issuer: FakeIssuer
):
    arn = register(pair[0], teller.url, **guarded_by(jwt_issuer.discovery_url))
    with calling(pair[0], arn, token_of(jwt_issuer)) as caller:
        caller.warmed()
        teller.murmur(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        assert caller.call().token is not None


def test_no_header_of_a_caller_stands_for_one_of_the_gateway(caller: Caller):
    forged = ("workloadaccesstoken: forged", "x-amzn-bedrock-agentcore-runtime-request-id: forged")
    before = caller.warmed()
    heard = caller.call(b"{}", *forged).heard
    names = [name for name, _ in heard]
    assert ("forged" in dict(heard).values(), len(names) - len(set(names)), dict(heard)["workloadaccesstoken"]) == (
        False, 0, before.token,
    )  # fmt: skip


def test_every_worker_honours_a_deletion(agent: Agent, jwt_issuer: FakeIssuer):
    with running_gateway(workers=2) as running, ExitStack() as stack:
        arn, token = register(running, agent.url, **guarded_by(jwt_issuer.discovery_url)), token_of(jwt_issuer)
        callers = [stack.enter_context(calling(running, arn, token)) for _ in range(8)]
        for each in callers:
            each.warmed()
        running.control.delete_agent_runtime(agentRuntimeId=arn.rpartition("/")[2])
        assert [each.call().status for each in callers] == [401] * 8
