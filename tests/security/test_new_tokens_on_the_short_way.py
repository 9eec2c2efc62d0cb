"""Tokens that were not seen before, on the short way: proven by their issuer's keys, for the same user alone.

A call on the short way has the beginning of its request id in common with the others of its process (`Answered.took`).
"""

import time
from typing import Any

import pytest

from tests.agents import Agent
from tests.callers import guarded_by, opened, running_issuer, token_of
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import RunningGateway, register
from tests.repeated_calls import Answered, Caller, calling

NUMBER = iter(range(1_000_000))


def new(issuer: FakeIssuer, **changes: Any) -> str:
    return token_of(issuer, **({"jti": str(next(NUMBER))} | changes))


def shown(caller: Caller, token: str) -> Answered:
    caller.token = token
    return caller.call()


def test_a_new_token_of_the_same_user_takes_the_short_way(caller: Caller, jwt_issuer: FakeIssuer):
    took = caller.call().took
    answers = [shown(caller, new(jwt_issuer)) for _ in range(3)]
    assert [(each.status, each.took) for each in answers] == [(200, took)] * 3


def test_the_agent_is_given_what_was_made_for_the_token_that_came(
    caller: Caller, pair: list[RunningGateway], jwt_issuer: FakeIssuer
):
    tokens = [new(jwt_issuer) for _ in range(3)]
    made = [shown(caller, token).token for token in tokens]
    inside = [opened(token or "", pair[0]).inbound_token for token in made]
    assert [each.reveal() if each else None for each in inside] == tokens


def test_a_new_token_that_comes_again_is_known(caller: Caller, jwt_issuer: FakeIssuer):
    took, token = caller.call().took, new(jwt_issuer)
    assert [shown(caller, token).took for _ in range(4)] == [took] * 4


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sub": "bob"}, 403),
        ({"sub": None}, 403),
        ({"aud": "others"}, 401),
        ({"aud": None}, 401),
        ({"iss": "https://elsewhere.example"}, 401),
        ({"exp": int(time.time()) - 300}, 401),
        ({"exp": None}, 401),
        ({"nbf": int(time.time()) + 3600}, 401),
        ({"exp": "tomorrow"}, 401),
    ],
    ids=["another user", "nobody", "elsewhere", "nowhere", "another issuer", "over", "for ever", "not yet", "no time"],
)
def test_a_new_token_is_refused_as_on_the_long_way(
    caller: Caller, jwt_issuer: FakeIssuer, agent: Agent, changes: dict[str, Any], status: int
):
    received = len(agent.received)
    answered = shown(caller, new(jwt_issuer, **changes))
    assert (answered.status, len(agent.received)) == (status, received)


def test_a_new_token_of_a_key_that_nobody_knows_is_refused(caller: Caller, jwt_issuer: FakeIssuer, agent: Agent):
    received, foreign = len(agent.received), SigningKey.make("RS256", jwt_issuer.keys[0].kid)
    answered = shown(caller, new(jwt_issuer, key=foreign))
    assert (answered.status, len(agent.received)) == (401, received)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["head", "claims", "signature"])
def test_a_new_token_that_was_changed_is_refused(caller: Caller, jwt_issuer: FakeIssuer, agent: Agent, place: int):
    received, parts = len(agent.received), new(jwt_issuer).split(".")
    middle = len(parts[place]) // 2
    letter = "A" if parts[place][middle] != "A" else "B"
    parts[place] = parts[place][:middle] + letter + parts[place][middle + 1 :]
    answered = shown(caller, ".".join(parts))
    assert (answered.status, len(agent.received)) == (401, received)


def test_a_new_token_does_not_bring_a_call_past_a_new_version(
    caller: Caller, by: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    by.control.update_agent_runtime(
        agentRuntimeId=caller.arn.rpartition("/")[2],
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": agent.url}},
        roleArn="arn:aws:iam::000000000000:role/agent",
        networkConfiguration={"networkMode": "PUBLIC"},
        **guarded_by(jwt_issuer.discovery_url, allowedAudience=["others"]),
    )
    assert shown(caller, new(jwt_issuer)).status == 401


def test_a_new_token_does_not_bring_a_call_to_a_runtime_that_is_gone(
    caller: Caller, by: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    received = len(agent.received)
    by.control.delete_agent_runtime(agentRuntimeId=caller.arn.rpartition("/")[2])
    assert (shown(caller, new(jwt_issuer)).status, len(agent.received)) == (401, received)


def test_a_new_token_of_a_key_that_was_withdrawn_is_refused_when_that_is_known(
    pair: list[RunningGateway], agent: Agent
):
    with running_issuer() as issuer:
        arn = register(pair[0], agent.url, **guarded_by(issuer.discovery_url))
        old = issuer.keys[0]
        with calling(pair[0], arn, token_of(issuer)) as caller:
            caller.warmed()
            issuer.rotate()
            assert shown(caller, new(issuer)).status == 200  # makes the gateway look for the new key
            assert shown(caller, new(issuer, key=old)).status == 401


def test_a_new_token_with_a_named_user_beside_it_is_asked_anew(caller: Caller, jwt_issuer: FakeIssuer):
    took = caller.call().took
    caller.token = new(jwt_issuer)
    assert caller.call(b"{}", "x-amzn-bedrock-agentcore-runtime-user-id: bob").took != took


def test_new_tokens_of_two_users_have_each_their_own_session(
    caller: Caller, pair: list[RunningGateway], jwt_issuer: FakeIssuer
):
    with calling(pair[0], caller.arn, new(jwt_issuer, sub="bob")) as other:
        other.warmed()
        mine, others = shown(caller, new(jwt_issuer)), shown(other, new(jwt_issuer, sub="bob"))
        users = [opened(each.token or "", pair[0]).user for each in (mine, others)]
    assert [getattr(user, "subject", None) for user in users] == ["ada", "bob"]
