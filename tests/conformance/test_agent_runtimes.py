"""CreateAgentRuntime, Get, Update, Delete, ListAgentRuntimes and ListAgentRuntimeVersions, with real boto3.

What the endpoints of a runtime do is in `test_agent_runtime_endpoints`, bad input in `test_aws_errors`, repeated calls
in `test_idempotency_tokens`.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.agents import Agent
from tests.conformance.control_plane import (
    CONTROL,
    JWT_AUTHORIZER,
    NOBODY,
    configuration,
    container,
    create,
    creation,
    faults,
    invoke,
    new_version,
    outcomes,
    refusal,
    refused,
    shown,
    status,
)
from tests.gateways import ACCOUNT, REGION, fresh_name

UNKNOWN = "unknown-AbCdEf1234"
NOT_FOUND = (404, "ResourceNotFoundException")
CONFLICT = (409, "ConflictException")

EVERYTHING = {
    "description": "answers questions",
    "environmentVariables": {"MODEL": "large", "EMPTY": ""},
    "authorizerConfiguration": JWT_AUTHORIZER,
    "requestHeaderConfiguration": {"requestHeaderAllowlist": ["Authorization", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-A"]},
    "protocolConfiguration": {"serverProtocol": "MCP"},
    "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 60, "maxLifetime": 120},
}  # fmt: skip


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("get_agent_runtime", {}),
        ("update_agent_runtime", configuration()),
        ("delete_agent_runtime", {}),
        ("list_agent_runtime_versions", {}),
    ],
)
def test_a_runtime_that_does_not_exist_is_not_found(control: Any, method: str, more: dict[str, Any]):
    assert refused(getattr(control, method), agentRuntimeId=UNKNOWN, **more) == NOT_FOUND


def test_a_version_that_does_not_exist_is_not_found(control: Any):
    made = create(control)
    assert (
        refused(control.get_agent_runtime, agentRuntimeId=made["agentRuntimeId"], agentRuntimeVersion="2") == NOT_FOUND
    )


def test_a_name_is_given_once(control: Any):
    name = fresh_name()
    create(control, agentRuntimeName=name)
    assert refused(control.create_agent_runtime, **creation(agentRuntimeName=name)) == CONFLICT


def test_a_refused_creation_leaves_nothing_behind(control: Any):
    name = fresh_name()
    create(control, agentRuntimeName=name)
    refusal(control.create_agent_runtime, **creation(agentRuntimeName=name))
    pages = control.get_paginator("list_agent_runtimes").paginate()
    assert [row["agentRuntimeName"] for page in pages for row in page["agentRuntimes"]].count(name) == 1


def test_a_runtime_with_endpoints_is_not_deleted(control: Any):
    runtime_id = create(control)["agentRuntimeId"]
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    assert refused(control.delete_agent_runtime, agentRuntimeId=runtime_id) == CONFLICT
    assert control.get_agent_runtime(agentRuntimeId=runtime_id)["status"] == "READY"


def test_the_newest_version_is_not_deleted(control: Any):
    made = create(control)
    new_version(control, made)
    asked = {"agentRuntimeId": made["agentRuntimeId"], "agentRuntimeVersion": "2"}
    assert refused(control.delete_agent_runtime, **asked) == CONFLICT


def test_a_version_that_an_endpoint_serves_is_not_deleted(control: Any):
    made = create(control)
    asked = {"agentRuntimeId": made["agentRuntimeId"], "agentRuntimeVersion": "1"}
    control.create_agent_runtime_endpoint(name="stable", **asked)
    new_version(control, made)
    assert refused(control.delete_agent_runtime, **asked) == CONFLICT


def test_a_version_that_does_not_exist_is_not_deleted(control: Any):
    made = create(control)
    asked = {"agentRuntimeId": made["agentRuntimeId"], "agentRuntimeVersion": "99999"}
    assert refused(control.delete_agent_runtime, **asked) == NOT_FOUND


def test_a_deleted_version_is_gone(control: Any):
    made = create(control)
    new_version(control, made)
    asked = {"agentRuntimeId": made["agentRuntimeId"], "agentRuntimeVersion": "1"}
    control.delete_agent_runtime(**asked)
    assert refused(control.get_agent_runtime, **asked) == NOT_FOUND


def test_a_deleted_runtime_is_gone(control: Any):
    runtime_id = create(control)["agentRuntimeId"]
    control.delete_agent_runtime(agentRuntimeId=runtime_id)
    assert refused(control.get_agent_runtime, agentRuntimeId=runtime_id) == NOT_FOUND
    assert refused(control.get_workload_identity, name=runtime_id) == NOT_FOUND


def test_a_runtime_is_deleted_once(control: Any):
    runtime_id = create(control)["agentRuntimeId"]
    control.delete_agent_runtime(agentRuntimeId=runtime_id)
    assert refused(control.delete_agent_runtime, agentRuntimeId=runtime_id) == NOT_FOUND


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_creating_a_runtime_answers_what_the_model_promises(control: Any):
    made = create(control, tags={"team": "blue"})
    assert (status(made), faults(CONTROL, "CreateAgentRuntime", made)) == (202, [])
    assert (made["agentRuntimeVersion"], made["status"]) == ("1", "READY")


def test_a_runtime_is_named_as_aws_names_one(control: Any):
    name = fresh_name()
    made = create(control, agentRuntimeName=name)
    runtime_id, prefix = made["agentRuntimeId"], f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}"
    assert re.fullmatch(f"{name}-[A-Za-z0-9]{{10}}", runtime_id)
    assert made["agentRuntimeArn"] == f"{prefix}:runtime/{runtime_id}"
    assert made["workloadIdentityDetails"] == {
        "workloadIdentityArn": f"{prefix}:workload-identity-directory/default/workload-identity/{runtime_id}"
    }


def test_getting_a_runtime_shows_everything_it_was_given(control: Any):
    made = create(control, **EVERYTHING)
    found = control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])
    assert (status(found), faults(CONTROL, "GetAgentRuntime", found)) == (200, [])
    assert {name: found[name] for name in configuration(**EVERYTHING)} == configuration(**EVERYTHING)
    assert {name: found[name] for name in shown(made)} == shown(made)


def test_a_runtime_knows_when_it_was_made_and_changed(control: Any):
    made = create(control)
    new_version(control, made)
    found = control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])
    assert abs(datetime.now(UTC) - found["createdAt"]) < timedelta(minutes=5)
    assert found["createdAt"] < found["lastUpdatedAt"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, (900, 28_800)),
        ({"idleRuntimeSessionTimeout": 61}, (61, 28_800)),
        ({"maxLifetime": 300}, (300, 300)),
        ({"idleRuntimeSessionTimeout": 100_000}, (100_000, 100_000)),
    ],
)
def test_lifetimes_that_are_not_given_have_defaults(control: Any, given: dict[str, int] | None, kept: tuple[int, int]):
    made = create(control, lifecycleConfiguration=given)
    found = control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])["lifecycleConfiguration"]
    assert found == dict(zip(("idleRuntimeSessionTimeout", "maxLifetime"), kept, strict=True))


def test_a_runtime_may_leave_its_network_out(control: Any):
    made = create(control, networkConfiguration=None)
    assert status(control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])) == 200


def test_updating_a_runtime_cuts_the_next_version(control: Any):
    made = create(control)
    updated = control.update_agent_runtime(agentRuntimeId=made["agentRuntimeId"], **configuration(description="two"))
    assert (status(updated), faults(CONTROL, "UpdateAgentRuntime", updated)) == (202, [])
    assert (updated["agentRuntimeVersion"], updated["createdAt"]) == ("2", made["createdAt"])
    assert control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])["description"] == "two"


def test_an_update_replaces_the_whole_configuration(control: Any):
    made = create(control, **EVERYTHING)
    new_version(control, made, networkConfiguration=None)
    found = control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])
    left = set(found) & ({*EVERYTHING, "networkConfiguration"} - {"lifecycleConfiguration"})
    assert left == set()
    assert found["lifecycleConfiguration"]["maxLifetime"] == 28_800


def test_an_update_without_an_authorizer_turns_a_jwt_runtime_into_a_signed_one(control: Any, data: Any, agent: Agent):
    url = container(agent.url)
    made = create(control, agentRuntimeArtifact=url, authorizerConfiguration=JWT_AUTHORIZER)
    before = refused(data.invoke_agent_runtime, agentRuntimeArn=made["agentRuntimeArn"], payload=b"{}")
    new_version(control, made, agentRuntimeArtifact=url)
    after = json.loads(invoke(data, made))
    assert (before, after["path"]) == ((403, "AccessDeniedException"), "/invocations")


def test_old_versions_stay_as_they_were(control: Any):
    made = create(control, description="one", environmentVariables={"A": "1"})
    new_version(control, made, description="two")
    first = control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"], agentRuntimeVersion="1")
    assert (first["agentRuntimeVersion"], first["description"]) == ("1", "one")
    assert first["environmentVariables"] == {"A": "1"}


def test_calls_reach_the_newest_version_and_named_endpoints_stay(control: Any, data: Any, agent: Agent):
    made = create(control, agentRuntimeArtifact=container(f"{agent.url}/one"))
    control.create_agent_runtime_endpoint(agentRuntimeId=made["agentRuntimeId"], name="stable")
    new_version(control, made, agentRuntimeArtifact=container(f"{agent.url}/two"))

    def reached(**more: str) -> str:
        answer = data.invoke_agent_runtime(agentRuntimeArn=made["agentRuntimeArn"], payload=b"{}", **more)
        with answer["response"] as stream:
            return str(json.loads(stream.read())["path"])

    assert reached() == reached(qualifier="DEFAULT") == "/two/invocations"
    assert reached(qualifier="stable") == "/one/invocations"


def test_deleting_a_runtime_answers_what_the_model_promises(control: Any):
    runtime_id = create(control)["agentRuntimeId"]
    deleted = control.delete_agent_runtime(agentRuntimeId=runtime_id)
    assert (status(deleted), faults(CONTROL, "DeleteAgentRuntime", deleted)) == (202, [])
    assert shown(deleted) == {"status": "DELETING", "agentRuntimeId": runtime_id}


def test_deleting_a_version_leaves_the_runtime(control: Any):
    made = create(control)
    new_version(control, made)
    deleted = control.delete_agent_runtime(agentRuntimeId=made["agentRuntimeId"], agentRuntimeVersion="1")
    assert (deleted["status"], deleted["agentRuntimeVersion"]) == ("DELETING", "1")
    assert control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])["agentRuntimeVersion"] == "2"


def test_the_name_of_a_deleted_runtime_is_free(control: Any):
    name = fresh_name()
    first = create(control, agentRuntimeName=name)
    control.delete_agent_runtime(agentRuntimeId=first["agentRuntimeId"])
    assert create(control, agentRuntimeName=name)["agentRuntimeId"] != first["agentRuntimeId"]


# --- Lists ------------------------------------------------------------------------------------------------------------


def test_the_list_shows_the_newest_version_of_a_runtime(control: Any):
    made = create(control, description="one")
    new_version(control, made)
    rows = [row for page in control.get_paginator("list_agent_runtimes").paginate() for row in page["agentRuntimes"]]
    (row,) = (row for row in rows if row["agentRuntimeId"] == made["agentRuntimeId"])
    assert (row["agentRuntimeVersion"], row["description"], row["status"]) == ("2", "", "READY")


def test_every_runtime_stands_on_one_page(control: Any):
    made = {create(control)["agentRuntimeId"] for _ in range(5)}
    pages = list(control.get_paginator("list_agent_runtimes").paginate(maxResults=2))
    ids = [row["agentRuntimeId"] for page in pages for row in page["agentRuntimes"]]
    assert made <= set(ids)
    assert ids == sorted(set(ids))
    assert {len(page["agentRuntimes"]) for page in pages[:-1]} == {2}
    assert faults(CONTROL, "ListAgentRuntimes", pages[0]) == []


def test_the_last_page_names_no_next_one(control: Any):
    made = create(control)
    answer = control.list_agent_runtime_versions(agentRuntimeId=made["agentRuntimeId"], maxResults=1)
    assert len(answer["agentRuntimes"]) == 1
    assert "nextToken" not in answer


def test_versions_are_listed_oldest_first(control: Any):
    made = create(control)
    for _ in range(10):
        new_version(control, made)
    pager = control.get_paginator("list_agent_runtime_versions")
    pages = list(pager.paginate(agentRuntimeId=made["agentRuntimeId"], maxResults=3))
    numbers = [int(row["agentRuntimeVersion"]) for page in pages for row in page["agentRuntimes"]]
    assert (numbers, len(pages)) == (list(range(1, 12)), 4)
    assert faults(CONTROL, "ListAgentRuntimeVersions", pages[0]) == []


@pytest.mark.parametrize("token", ["x", "AAAA", "A" * 2048, "%00", "ü", "../../x", "eyJhIjoxfQ=="])
def test_a_page_token_that_nobody_gave_is_refused(control_on_sqlite: Any, token: str):
    assert refused(control_on_sqlite.list_agent_runtimes, nextToken=token) == (400, "ValidationException")


def test_a_page_token_is_for_the_operation_that_gave_it(control: Any):
    create(control), create(control)
    token = control.list_agent_runtimes(maxResults=1)["nextToken"]
    assert refused(control.list_workload_identities, nextToken=token) == (400, "ValidationException")


def test_a_page_token_is_for_the_runtime_that_was_asked_about(control: Any):
    made, other = create(control), create(control)
    new_version(control, made)
    token = control.list_agent_runtime_versions(agentRuntimeId=made["agentRuntimeId"], maxResults=1)["nextToken"]
    asked = {"agentRuntimeId": other["agentRuntimeId"], "nextToken": token}
    assert refused(control.list_agent_runtime_versions, **asked) == (400, "ValidationException")


def test_a_changed_page_token_is_refused(control: Any):
    create(control), create(control)
    token = control.list_agent_runtimes(maxResults=1)["nextToken"]
    changed = token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]
    assert refused(control.list_agent_runtimes, nextToken=changed) == (400, "ValidationException")


# --- At once ----------------------------------------------------------------------------------------------------------


def test_updates_at_once_cut_consecutive_versions_or_conflict(control: Any):
    made = create(control)
    got = outcomes(lambda number: new_version(control, made, description=f"update {number}"), times=6)
    cut = {version: f"update {number}" for number, version in enumerate(got) if version != "ConflictException"}
    rows = control.list_agent_runtime_versions(agentRuntimeId=made["agentRuntimeId"])["agentRuntimes"]
    assert {row["agentRuntimeVersion"]: row["description"] for row in rows[1:]} == cut
    assert [row["agentRuntimeVersion"] for row in rows] == [str(number + 1) for number in range(len(rows))]
    assert len(rows) > 1


def test_of_creations_of_one_name_at_once_one_succeeds(control: Any):
    name = fresh_name()
    got = outcomes(lambda _: create(control, agentRuntimeName=name)["agentRuntimeId"], times=6)
    assert sorted(each == "ConflictException" for each in got) == [False] + [True] * 5


def test_an_endpoint_never_serves_a_version_that_is_deleted_at_the_same_time(control: Any):
    for _ in range(4):
        made = create(control, agentRuntimeArtifact=container(NOBODY))
        asked = {"agentRuntimeId": made["agentRuntimeId"], "agentRuntimeVersion": "1"}
        new_version(control, made)
        calls = [
            lambda asked=asked: control.delete_agent_runtime(**asked),
            lambda asked=asked: control.create_agent_runtime_endpoint(name="stable", **asked),
        ]
        got = outcomes(lambda number, calls=calls: calls[number](), times=2)
        assert any(isinstance(each, str) for each in got), "one of the two must have lost"


def test_a_runtime_that_is_deleted_while_it_gains_an_endpoint_leaves_none_behind(control: Any):
    for _ in range(4):
        runtime_id = create(control)["agentRuntimeId"]
        calls = [
            lambda runtime_id=runtime_id: control.delete_agent_runtime(agentRuntimeId=runtime_id),
            lambda runtime_id=runtime_id: control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="late"),
        ]
        got = outcomes(lambda number, calls=calls: calls[number](), times=2)
        assert any(isinstance(each, str) for each in got), "one of the two must have lost"
