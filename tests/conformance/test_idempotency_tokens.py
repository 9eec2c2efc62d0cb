"""`clientToken`: the same call sent again has its effect once, with real boto3 on both databases."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.control_plane import (
    configuration,
    create,
    creation,
    new_version,
    outcomes,
    refusal,
    refused,
    shown,
    status,
)
from tests.gateways import fresh_name


@pytest.fixture
def token() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def runtime_id(control: Any) -> str:
    return str(create(control)["agentRuntimeId"])


def runtimes_named(control: Any, name: str) -> list[str]:
    pages = control.get_paginator("list_agent_runtimes").paginate()
    return [row["agentRuntimeId"] for page in pages for row in page["agentRuntimes"] if row["agentRuntimeName"] == name]


def versions_of(control: Any, runtime_id: str) -> list[str]:
    rows = control.list_agent_runtime_versions(agentRuntimeId=runtime_id)["agentRuntimes"]
    return [row["agentRuntimeVersion"] for row in rows]


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"description": "other"}, {"agentRuntimeName": "other_name"}, {"tags": {"a": "b"}}], ids=str
)
def test_a_token_is_for_one_set_of_parameters(control: Any, token: str, changes: dict[str, Any]):
    asked = creation(clientToken=token)
    control.create_agent_runtime(**asked)
    response = refusal(control.create_agent_runtime, **(asked | changes))
    assert (status(response), response["Error"]["Code"]) == (400, "ValidationException")
    assert response["reason"] == "IdempotentParameterMismatchException"


def test_a_token_of_one_runtime_is_not_for_another(control: Any, runtime_id: str, token: str):
    control.update_agent_runtime(agentRuntimeId=runtime_id, clientToken=token, **configuration())
    asked = {"agentRuntimeId": create(control)["agentRuntimeId"], "clientToken": token, **configuration()}
    assert refusal(control.update_agent_runtime, **asked)["reason"] == "IdempotentParameterMismatchException"


def test_a_refused_call_does_not_use_its_token_up(control: Any, token: str):
    asked = creation(clientToken=token)
    taken = create(control, agentRuntimeName=asked["agentRuntimeName"])
    assert refused(control.create_agent_runtime, **asked) == (409, "ConflictException")
    control.delete_agent_runtime(agentRuntimeId=taken["agentRuntimeId"])
    assert status(control.create_agent_runtime(**asked)) == 202


# --- The same call again ----------------------------------------------------------------------------------------------


def test_a_runtime_created_again_is_the_same_one(control: Any, token: str):
    asked = creation(clientToken=token)
    first, again = control.create_agent_runtime(**asked), control.create_agent_runtime(**asked)
    assert (status(again), shown(again)) == (202, shown(first))
    assert runtimes_named(control, asked["agentRuntimeName"]) == [first["agentRuntimeId"]]


def test_the_order_of_parameters_does_not_matter(control: Any, token: str):
    asked = creation(clientToken=token, environmentVariables={"A": "1", "B": "2"})
    first = control.create_agent_runtime(**asked)
    again = control.create_agent_runtime(**(asked | {"environmentVariables": {"B": "2", "A": "1"}}))
    assert shown(again) == shown(first)


def test_the_first_answer_is_given_whatever_happened_since(control: Any, token: str):
    asked = creation(clientToken=token)
    first = control.create_agent_runtime(**asked)
    new_version(control, first)
    assert shown(control.create_agent_runtime(**asked)) == shown(first)


def test_an_update_sent_again_cuts_no_further_version(control: Any, runtime_id: str, token: str):
    asked = {"agentRuntimeId": runtime_id, "clientToken": token, **configuration(description="two")}
    first, again = control.update_agent_runtime(**asked), control.update_agent_runtime(**asked)
    assert (shown(again), versions_of(control, runtime_id)) == (shown(first), ["1", "2"])


def test_a_deletion_sent_again_answers_as_the_first_time(control: Any, runtime_id: str, token: str):
    asked = {"agentRuntimeId": runtime_id, "clientToken": token}
    first, again = control.delete_agent_runtime(**asked), control.delete_agent_runtime(**asked)
    assert (status(again), shown(again)) == (202, shown(first))


def test_an_endpoint_created_moved_and_deleted_again_is_so_once(control: Any, runtime_id: str):
    at = {"agentRuntimeId": runtime_id, "endpointName": "stable"}
    calls: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (control.create_agent_runtime_endpoint, {"agentRuntimeId": runtime_id, "name": "stable"}),
        (control.update_agent_runtime_endpoint, at | {"description": "moved"}),
        (control.delete_agent_runtime_endpoint, at),
    ]
    for call, asked in calls:
        token = str(uuid.uuid4())
        assert shown(call(clientToken=token, **asked)) == shown(call(clientToken=token, **asked))


def test_operations_keep_their_tokens_apart(control: Any, token: str):
    made = create(control, clientToken=token)
    asked = {"agentRuntimeId": made["agentRuntimeId"], "clientToken": token}
    updated = control.update_agent_runtime(**asked, **configuration())
    control.create_agent_runtime_endpoint(**asked, name="stable")
    control.update_agent_runtime_endpoint(**asked, endpointName="stable")
    control.delete_agent_runtime_endpoint(**asked, endpointName="stable")
    assert (updated["agentRuntimeVersion"], control.delete_agent_runtime(**asked)["status"]) == ("2", "DELETING")


def test_boto3_gives_every_call_a_token_of_its_own(control: Any, runtime_id: str):
    asked = {"agentRuntimeId": runtime_id, **configuration()}
    versions = [control.update_agent_runtime(**asked)["agentRuntimeVersion"] for _ in range(2)]
    assert versions == ["2", "3"]


# --- The same call at once --------------------------------------------------------------------------------------------


def test_creations_with_one_token_at_once_make_one_runtime(control: Any, token: str):
    asked = creation(clientToken=token)
    got = outcomes(lambda _: shown(control.create_agent_runtime(**asked)), times=6)
    assert got == [got[0]] * 6
    assert runtimes_named(control, asked["agentRuntimeName"]) == [got[0]["agentRuntimeId"]]


def test_updates_with_one_token_at_once_cut_one_version(control: Any, runtime_id: str, token: str):
    asked = {"agentRuntimeId": runtime_id, "clientToken": token, **configuration()}
    got = outcomes(lambda _: shown(control.update_agent_runtime(**asked)), times=6)
    assert (got, versions_of(control, runtime_id)) == ([got[0]] * 6, ["1", "2"])


def test_deletions_with_one_token_at_once_all_answer_the_same(control: Any, runtime_id: str, token: str):
    asked = {"agentRuntimeId": runtime_id, "clientToken": token}
    got = outcomes(lambda _: shown(control.delete_agent_runtime(**asked)), times=6)
    assert got == [{"status": "DELETING", "agentRuntimeId": runtime_id}] * 6


def test_of_different_calls_with_one_token_at_once_one_has_its_way(control: Any, token: str):
    names = [fresh_name() for _ in range(6)]
    got = outcomes(lambda number: create(control, agentRuntimeName=names[number], clientToken=token), times=6)
    assert sorted(each == "ValidationException" for each in got) == [False] + [True] * 5
