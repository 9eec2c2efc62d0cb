"""Agents that call agents: what the calling agent's workload access token proves, and what it does not."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import AUDIENCE, guarded_by, opened, post, token_of, workload_token
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name, register

WAT = "X-Amz-Bedrock-AgentCore-Identity-WAT"


def call(gateway: RunningGateway, arn: str, shown: str, *, signed: bool = True, **asked: Any) -> Any:
    """Invoke as the SDK does inside an agent: with the agent's own token beside the call, under the signature."""
    client = gateway.data

    def add(request: Any, **_: Any) -> None:
        request.headers[WAT] = shown

    client.meta.events.register(f"before-{'sign' if signed else 'send'}.bedrock-agentcore.InvokeAgentRuntime", add)
    return client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}", **asked)


def given(agent: Agent, gateway: RunningGateway) -> Any:
    """Return what the token that the agent was given stands for."""
    (token,) = [value for name, value in agent.last["headers"] if name == "workloadaccesstoken"]
    return opened(token, gateway)


@pytest.fixture
def signed(gateway: RunningGateway, agent: Agent) -> str:
    return register(gateway, agent.url)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda _: "forged", "not valid"),
        (lambda _: workload_token("caller", None), "not valid"),
        (lambda gateway: workload_token("caller", gateway, account="999999999999"), "not valid"),
        (lambda gateway: workload_token("caller", gateway, age=901), "expired"),
        (lambda gateway: workload_token("caller", gateway)[:-8] + "AAAAAAAA", "not valid"),
    ],
    ids=["no token", "another gateway", "another account", "expired", "changed"],
)
def test_a_token_that_proves_no_agent_refuses_the_call(
    gateway: RunningGateway, agent: Agent, signed: str, made: Any, said: str
):
    before = len(agent.received)
    with pytest.raises(ClientError, match=f"AccessDeniedException.*{said}"):
        call(gateway, signed, made(gateway))
    assert len(agent.received) == before


def test_a_token_that_the_signature_does_not_cover_is_refused(gateway: RunningGateway, signed: str):
    with pytest.raises(ClientError, match="IncompleteSignatureException"):
        call(gateway, signed, workload_token("caller", gateway), signed=False)


def test_a_caller_cannot_put_another_user_beside_the_users_token(gateway: RunningGateway, signed: str):
    with pytest.raises(ClientError, match=r"AccessDeniedException.*another user"):
        call(gateway, signed, workload_token("caller", gateway, user="ada"), runtimeUserId="eve")


def test_a_chain_of_agents_that_grows_too_long_is_cut(gateway: RunningGateway, agent: Agent, signed: str):
    nine = tuple(f"agent-{number}" for number in range(9))
    call(gateway, signed, workload_token("the-tenth", gateway, actors=nine))
    assert given(agent, gateway).actors == (*nine, "the-tenth")
    with pytest.raises(ClientError, match=r"AccessDeniedException.*too many agents"):
        call(gateway, signed, workload_token("the-eleventh", gateway, actors=(*nine, "the-tenth")))


def test_the_user_of_the_calling_agent_is_the_user_of_the_called_one(
    gateway: RunningGateway, agent: Agent, signed: str
):
    call(gateway, signed, workload_token("caller", gateway, user="ada"))
    access = given(agent, gateway)
    assert (access.user.id, access.actors, access.workload) == ("ada", ("caller",), signed.rpartition("/")[2])


def test_an_agent_without_a_user_calls_for_itself(gateway: RunningGateway, agent: Agent, signed: str):
    call(gateway, signed, workload_token("caller", gateway, user=None))
    assert (given(agent, gateway).user, given(agent, gateway).actors) == (None, ("caller",))


def test_the_bearers_own_token_names_the_user_whatever_the_agents_token_says(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    shown = [(WAT, workload_token("caller", gateway, user="eve"))]
    assert post(gateway, arn, token_of(jwt_issuer), headers=shown).status_code == 200
    assert (given(agent, gateway).user.subject, given(agent, gateway).actors) == ("ada", ("caller",))


# --- allowedWorkloadConfiguration ---


@pytest.fixture
def picky(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> tuple[str, str, str]:
    """A runtime that takes calls of one workload by name, and of one runtime by its ARN."""
    friend, hosted = fresh_name("friend"), register(gateway, agent.url)
    allowed = {"workloadIdentities": [friend], "hostingEnvironments": [{"arn": hosted}]}
    rules = guarded_by(jwt_issuer.discovery_url, allowedAudience=[AUDIENCE], allowedWorkloadConfiguration=allowed)
    return register(gateway, agent.url, **rules), friend, hosted.rpartition("/")[2]


def test_a_bearer_without_an_agents_token_is_refused_where_workloads_are_listed(
    gateway: RunningGateway, picky: tuple[str, str, str], jwt_issuer: FakeIssuer
):
    response = post(gateway, picky[0], token_of(jwt_issuer))
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")


def test_a_workload_that_is_not_listed_is_refused(
    gateway: RunningGateway, picky: tuple[str, str, str], jwt_issuer: FakeIssuer
):
    shown = [(WAT, workload_token("stranger", gateway))]
    assert post(gateway, picky[0], token_of(jwt_issuer), headers=shown).status_code == 403


@pytest.mark.parametrize("which", [1, 2], ids=["by its name", "by the runtime that hosts it"])
def test_a_workload_that_is_listed_is_let_in(
    gateway: RunningGateway, picky: tuple[str, str, str], jwt_issuer: FakeIssuer, which: int
):
    shown = [(WAT, workload_token(picky[which], gateway, hosted=which == 2))]
    assert post(gateway, picky[0], token_of(jwt_issuer), headers=shown).status_code == 200


def test_a_workload_of_ones_own_with_the_name_of_a_listed_runtime_is_refused(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    gone = register(gateway, agent.url)
    name = gone.rpartition("/")[2]
    gateway.control.delete_agent_runtime(agentRuntimeId=name)
    gateway.control.create_workload_identity(name=name)
    asked_for = gateway.data.get_workload_access_token(workloadName=name)["workloadAccessToken"]
    allowed = {"hostingEnvironments": [{"arn": gone}]}
    rules = guarded_by(jwt_issuer.discovery_url, allowedAudience=[AUDIENCE], allowedWorkloadConfiguration=allowed)
    arn = register(gateway, agent.url, **rules)
    assert post(gateway, arn, token_of(jwt_issuer), headers=[(WAT, asked_for)]).status_code == 403


def test_an_agent_earlier_in_the_chain_does_not_open_the_door(
    gateway: RunningGateway, picky: tuple[str, str, str], jwt_issuer: FakeIssuer
):
    shown = [(WAT, workload_token("stranger", gateway, actors=(picky[1],)))]
    assert post(gateway, picky[0], token_of(jwt_issuer), headers=shown).status_code == 403


def test_two_tokens_beside_a_bearer_token_are_refused(
    gateway: RunningGateway, picky: tuple[str, str, str], jwt_issuer: FakeIssuer
):
    shown = [(WAT, workload_token(name, gateway)) for name in (picky[1], "stranger")]
    assert post(gateway, picky[0], token_of(jwt_issuer), headers=shown).status_code == 400


def test_the_agents_token_does_not_stand_for_the_bearers(
    gateway: RunningGateway, picky: tuple[str, str, str], jwt_issuer: FakeIssuer
):
    shown = [(WAT, workload_token(picky[1], gateway))]
    assert post(gateway, picky[0], token_of(jwt_issuer, aud="other"), headers=shown).status_code == 401
