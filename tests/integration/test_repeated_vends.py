"""A credential that is asked for again takes the short way: the same answer, one record, and an end with every change."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.gateways import RunningGateway, fresh_name, running_gateway

_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "bedrock-agentcore:GetResourceApiKey", "Resource": "*"}],
}


_OWN = {"date", "x-amzn-requestid", "content-length"}
"""Headers that differ from answer to answer: two workload access tokens are not always of one length."""


@dataclass
class Agent:
    """Somebody who asks for the same API key with the same bytes, under an access key of their own."""

    gateway: RunningGateway
    key_id: str
    data: Any
    asked: dict[str, str] = field(repr=False)

    def ask(self) -> dict[str, Any]:
        answered: dict[str, Any] = self.data.get_resource_api_key(**self.asked)
        return answered

    def refusal(self) -> str:
        with pytest.raises(ClientError) as caught:
            self.ask()
        return str(caught.value.response["Error"]["Code"])

    def records_of(self, answered: dict[str, Any]) -> list[dict[str, Any]]:
        request_id = answered["ResponseMetadata"]["RequestId"]
        with closing(sqlite3.connect(self.gateway.data_dir / "gateway.sqlite", timeout=10)) as database:
            database.row_factory = sqlite3.Row
            rows = database.execute("select * from audit_record where request_id = ? order by id", (request_id,))
            return [dict(row) for row in rows]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def serving(request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    with running_gateway(workers=request.param) as running:
        yield running


Key = tuple[str, str]


def a_key(serving: RunningGateway, action: str = "GetResourceApiKey") -> Key:
    """Make a key that may do this alone."""
    policy = serving.data_dir / "policy.json"
    policy.write_text(json.dumps(_POLICY).replace("GetResourceApiKey", action))
    told = serving.command("access-key", "create", "--name", fresh_name("key"), "--policy", str(policy), "--json")
    made = json.loads(told.stdout)
    return made["accessKeyId"], made["secretAccessKey"]


def an_agent(serving: RunningGateway, key: Key) -> Agent:
    """Return an agent that has asked often enough for every process to know the call."""
    name = fresh_name("agent")
    serving.control.create_workload_identity(name=name)
    serving.control.create_api_key_credential_provider(name=name, apiKey=f"key-of-{name}")
    token = serving.data.get_workload_access_token(workloadName=name)["workloadAccessToken"]
    data = serving.client("bedrock-agentcore", key=key)
    found = Agent(serving, key[0], data, {"workloadIdentityToken": token, "resourceCredentialProviderName": name})
    for _ in range(6):
        assert found.ask()["apiKey"] == f"key-of-{name}"
    return found


@pytest.fixture(scope="module")
def key(serving: RunningGateway) -> Key:
    return a_key(serving)


@pytest.fixture
def agent(serving: RunningGateway, key: Key) -> Agent:
    return an_agent(serving, key)


def _delete_provider(agent: Agent) -> None:
    agent.gateway.control.delete_api_key_credential_provider(name=agent.asked["resourceCredentialProviderName"])


def _delete_workload(agent: Agent) -> None:
    agent.gateway.control.delete_workload_identity(name=agent.asked["resourceCredentialProviderName"])


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (_delete_provider, "ResourceNotFoundException"),
        (_delete_workload, "AccessDeniedException"),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_"),
)
def test_what_was_given_again_and_again_is_refused_after_the_change(
    agent: Agent, end: Callable[[Agent], None], code: str
):
    end(agent)
    assert [agent.refusal() for _ in range(4)] == [code] * 4


@pytest.mark.parametrize(
    ("command", "code"), [("disable", "UnrecognizedClientException"), ("delete", "InvalidSignatureException")]
)
def test_what_was_given_again_and_again_is_refused_to_a_key_that_ended(
    serving: RunningGateway, command: str, code: str
):
    agent = an_agent(serving, a_key(serving))
    assert serving.command("access-key", command, agent.key_id).returncode == 0
    assert [agent.refusal() for _ in range(4)] == [code] * 4


def test_a_signature_with_another_secret_is_refused_for_a_call_that_is_known(agent: Agent):
    wrong = agent.gateway.client("bedrock-agentcore", key=(agent.key_id, "x" * 40))
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        wrong.get_resource_api_key(**agent.asked)


def test_another_key_whose_policy_does_not_allow_it_is_not_given_what_is_known(agent: Agent):
    key = a_key(agent.gateway, "GetWorkloadAccessToken")
    other = agent.gateway.client("bedrock-agentcore", key=key)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        other.get_resource_api_key(**agent.asked)


def test_a_key_that_was_replaced_is_not_given_any_more(agent: Agent):
    name = agent.asked["resourceCredentialProviderName"]
    agent.gateway.control.update_api_key_credential_provider(name=name, apiKey="another-key")
    assert [agent.ask()["apiKey"] for _ in range(4)] == ["another-key"] * 4


def test_each_answer_has_one_record_that_says_for_whom_and_why_it_was_given(agent: Agent):
    answers = [agent.ask() for _ in range(4)]
    records = [agent.records_of(answered) for answered in answers]
    said = [(row["decision"], row["reason"], json.loads(row["details"])) for rows in records for row in rows]
    name = agent.asked["resourceCredentialProviderName"]
    assert {len(rows) for rows in records} == {1}
    assert all(each == said[0] for each in said)
    assert said[0][:2] == ("allowed", "vended")
    named = {part: said[0][2][part] for part in ("workload", "user", "provider", "flow", "permitted")}
    assert named == {
        "workload": name,
        "user": None,
        "provider": name,
        "flow": "API_KEY",
        "permitted": "identity policy, Statement[0]",
    }


def test_the_head_of_each_answer_is_that_of_the_first(serving: RunningGateway):
    name = fresh_name("agent")
    serving.control.create_workload_identity(name=name)
    answers = [serving.data.get_workload_access_token(workloadName=name) for _ in range(6)]
    heads = [answered["ResponseMetadata"]["HTTPHeaders"] for answered in answers]
    alike = [{key: value for key, value in head.items() if key not in _OWN} for head in heads]
    assert all(head == alike[0] for head in alike)
    assert len({head["x-amzn-requestid"] for head in heads}) == 6
