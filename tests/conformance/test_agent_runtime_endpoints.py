"""CreateAgentRuntimeEndpoint, Get, Update, Delete and ListAgentRuntimeEndpoints, with real boto3."""

import re
from datetime import timedelta
from typing import Any

import pytest

from tests.conformance.control_plane import CONTROL, create, faults, new_version, outcomes, refused, shown, status

UNKNOWN = "unknown-AbCdEf1234"
NOT_FOUND = (404, "ResourceNotFoundException")
CONFLICT = (409, "ConflictException")


@pytest.fixture
def runtime(control: Any) -> dict[str, Any]:
    """A runtime with two versions and no endpoint but DEFAULT."""
    made = create(control)
    new_version(control, made)
    return made


@pytest.fixture
def runtime_id(runtime: dict[str, Any]) -> str:
    return str(runtime["agentRuntimeId"])


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get_agent_runtime_endpoint", "update_agent_runtime_endpoint"])
def test_an_endpoint_that_does_not_exist_is_not_found(control: Any, runtime_id: str, method: str):
    asked = {"agentRuntimeId": runtime_id, "endpointName": "nowhere"}
    assert refused(getattr(control, method), **asked) == NOT_FOUND


def test_an_endpoint_that_does_not_exist_is_not_deleted(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, "endpointName": "nowhere"}
    assert refused(control.delete_agent_runtime_endpoint, **asked) == NOT_FOUND


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("create_agent_runtime_endpoint", {"name": "stable"}),
        ("get_agent_runtime_endpoint", {"endpointName": "DEFAULT"}),
        ("update_agent_runtime_endpoint", {"endpointName": "DEFAULT"}),
        ("delete_agent_runtime_endpoint", {"endpointName": "DEFAULT"}),
        ("list_agent_runtime_endpoints", {}),
    ],
)
def test_endpoints_of_a_runtime_that_does_not_exist_are_not_found(control: Any, method: str, more: dict[str, str]):
    assert refused(getattr(control, method), agentRuntimeId=UNKNOWN, **more) == NOT_FOUND


def test_an_endpoint_is_not_made_for_a_version_that_does_not_exist(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, "name": "stable", "agentRuntimeVersion": "3"}
    assert refused(control.create_agent_runtime_endpoint, **asked) == NOT_FOUND


def test_an_endpoint_is_not_moved_to_a_version_that_does_not_exist(control: Any, runtime_id: str):
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    asked = {"agentRuntimeId": runtime_id, "endpointName": "stable", "agentRuntimeVersion": "3"}
    assert refused(control.update_agent_runtime_endpoint, **asked) == NOT_FOUND


def test_a_name_is_given_once_within_a_runtime(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, "name": "stable"}
    control.create_agent_runtime_endpoint(**asked)
    assert refused(control.create_agent_runtime_endpoint, **asked) == CONFLICT


def test_the_name_default_is_taken_from_the_start(control: Any, runtime_id: str):
    assert refused(control.create_agent_runtime_endpoint, agentRuntimeId=runtime_id, name="DEFAULT") == CONFLICT


def test_default_cannot_be_moved(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, "endpointName": "DEFAULT", "agentRuntimeVersion": "1"}
    assert refused(control.update_agent_runtime_endpoint, **asked) == CONFLICT


def test_default_cannot_be_deleted(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, "endpointName": "DEFAULT"}
    assert refused(control.delete_agent_runtime_endpoint, **asked) == CONFLICT


def test_a_page_token_of_other_runtimes_is_refused(control: Any, runtime_id: str):
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    token = control.list_agent_runtime_endpoints(agentRuntimeId=runtime_id, maxResults=1)["nextToken"]
    asked = {"agentRuntimeId": create(control)["agentRuntimeId"], "nextToken": token}
    assert refused(control.list_agent_runtime_endpoints, **asked) == (400, "ValidationException")


def test_a_page_token_of_versions_is_refused(control: Any, runtime_id: str):
    token = control.list_agent_runtime_versions(agentRuntimeId=runtime_id, maxResults=1)["nextToken"]
    asked = {"agentRuntimeId": runtime_id, "nextToken": token}
    assert refused(control.list_agent_runtime_endpoints, **asked) == (400, "ValidationException")


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_creating_an_endpoint_answers_what_the_model_promises(control: Any, runtime: dict[str, Any]):
    runtime_id, arn = runtime["agentRuntimeId"], runtime["agentRuntimeArn"]
    made = control.create_agent_runtime_endpoint(
        agentRuntimeId=runtime_id, name="stable", agentRuntimeVersion="1", description="for customers", tags={"a": "b"}
    )
    assert (status(made), faults(CONTROL, "CreateAgentRuntimeEndpoint", made)) == (202, [])
    assert {name: value for name, value in shown(made).items() if name != "createdAt"} == {
        "agentRuntimeId": runtime_id,
        "agentRuntimeArn": arn,
        "agentRuntimeEndpointArn": f"{arn}/runtime-endpoint/stable",
        "endpointName": "stable",
        "targetVersion": "1",
        "status": "READY",
    }


def test_getting_an_endpoint_shows_what_it_was_given(control: Any, runtime_id: str):
    control.create_agent_runtime_endpoint(
        agentRuntimeId=runtime_id, name="stable", agentRuntimeVersion="1", description="for customers"
    )
    found = control.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="stable")
    assert (status(found), faults(CONTROL, "GetAgentRuntimeEndpoint", found)) == (200, [])
    assert (found["name"], found["description"]) == ("stable", "for customers")
    assert (found["liveVersion"], found["targetVersion"]) == ("1", "1")
    assert re.fullmatch("stable-[A-Za-z0-9]{10}", found["id"])


def test_an_endpoint_without_a_version_serves_the_newest(control: Any, runtime_id: str):
    made = control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    assert made["targetVersion"] == "2"


def test_default_follows_the_newest_version_and_others_stay(control: Any, runtime: dict[str, Any]):
    runtime_id = runtime["agentRuntimeId"]
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    new_version(control, runtime)
    default, stable = (
        control.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName=name)
        for name in ("DEFAULT", "stable")
    )
    assert (default["liveVersion"], stable["liveVersion"]) == ("3", "2")


def test_updating_an_endpoint_moves_it(control: Any, runtime_id: str):
    made = control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable", description="first")
    moved = control.update_agent_runtime_endpoint(
        agentRuntimeId=runtime_id, endpointName="stable", agentRuntimeVersion="1"
    )
    assert (status(moved), faults(CONTROL, "UpdateAgentRuntimeEndpoint", moved)) == (202, [])
    assert (moved["liveVersion"], moved["targetVersion"], moved["createdAt"]) == ("1", "1", made["createdAt"])
    assert moved["lastUpdatedAt"] - moved["createdAt"] > timedelta(0)


def test_an_update_leaves_what_it_does_not_give(control: Any, runtime_id: str):
    control.create_agent_runtime_endpoint(
        agentRuntimeId=runtime_id, name="stable", agentRuntimeVersion="1", description="first"
    )
    control.update_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="stable", description="second")
    control.update_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="stable")
    found = control.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="stable")
    assert (found["liveVersion"], found["description"]) == ("1", "second")


def test_default_may_be_described(control: Any, runtime_id: str):
    control.update_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="DEFAULT", description="the newest")
    found = control.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="DEFAULT")
    assert found["description"] == "the newest"


def test_deleting_an_endpoint_answers_what_the_model_promises(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, "endpointName": "stable"}
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    deleted = control.delete_agent_runtime_endpoint(**asked)
    assert (status(deleted), faults(CONTROL, "DeleteAgentRuntimeEndpoint", deleted)) == (202, [])
    assert shown(deleted) == {"status": "DELETING"} | asked
    assert refused(control.get_agent_runtime_endpoint, **asked) == NOT_FOUND


def test_a_runtime_whose_endpoints_are_gone_may_go(control: Any, runtime_id: str):
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    control.delete_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="stable")
    control.delete_agent_runtime(agentRuntimeId=runtime_id)
    assert refused(control.list_agent_runtime_endpoints, agentRuntimeId=runtime_id) == NOT_FOUND


def test_endpoints_are_listed_in_the_order_of_their_names(control: Any, runtime_id: str):
    for name in ("beta", "Zeta", "alpha", "a_1"):
        control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name=name)
    pager = control.get_paginator("list_agent_runtime_endpoints")
    pages = list(pager.paginate(agentRuntimeId=runtime_id, maxResults=2))
    names = [row["name"] for page in pages for row in page["runtimeEndpoints"]]
    assert (names, len(pages)) == (["DEFAULT", "Zeta", "a_1", "alpha", "beta"], 3)
    assert [fault for page in pages for fault in faults(CONTROL, "ListAgentRuntimeEndpoints", page)] == []


def test_the_list_of_one_runtime_shows_nothing_of_another(control: Any, runtime_id: str):
    other = create(control)["agentRuntimeId"]
    control.create_agent_runtime_endpoint(agentRuntimeId=other, name="stable")
    answer = control.list_agent_runtime_endpoints(agentRuntimeId=runtime_id)
    assert [row["name"] for row in answer["runtimeEndpoints"]] == ["DEFAULT"]


# --- At once ----------------------------------------------------------------------------------------------------------


def test_of_creations_of_one_name_at_once_one_succeeds(control: Any, runtime_id: str):
    got = outcomes(
        lambda _: control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")["status"], times=6
    )
    assert sorted(got) == ["ConflictException"] * 5 + ["READY"]


def test_endpoints_of_one_runtime_can_be_made_at_once(control: Any, runtime_id: str):
    names = [f"endpoint_{number}" for number in range(5)]
    outcomes(
        lambda number: control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name=names[number]), times=5
    )
    rows = control.list_agent_runtime_endpoints(agentRuntimeId=runtime_id)["runtimeEndpoints"]
    assert [row["name"] for row in rows] == ["DEFAULT", *names]


def test_an_endpoint_is_never_moved_to_a_version_that_is_deleted_at_the_same_time(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, "agentRuntimeVersion": "1"}
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    calls = [
        lambda: control.delete_agent_runtime(**asked),
        lambda: control.update_agent_runtime_endpoint(endpointName="stable", **asked),
    ]
    got = outcomes(lambda number: calls[number](), times=2)
    assert sum(isinstance(each, str) for each in got) == 1, "one of the two must have lost"
