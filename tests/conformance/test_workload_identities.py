"""CreateWorkloadIdentity, Get, Update, Delete and ListWorkloadIdentities, with real boto3."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.control_plane import CONTROL, create, faults, outcomes, refusal, refused, shown, status
from tests.gateways import ACCOUNT, REGION, fresh_name

NOT_FOUND = (404, "ResourceNotFoundException")
URLS = ["https://app.example/callback?x=1", "myapp:/callback", "http://localhost:8081/oauth2/callback"]


@pytest.fixture
def name(control: Any) -> str:
    """A workload identity of the test's own."""
    made: str = control.create_workload_identity(name=fresh_name("workload"))["name"]
    return made


@pytest.fixture
def born_with_a_runtime(control: Any) -> str:
    """The name of the workload identity of an agent runtime: the runtime's id."""
    return str(create(control)["agentRuntimeId"])


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get_workload_identity", "update_workload_identity", "delete_workload_identity"])
def test_an_identity_that_does_not_exist_is_not_found(control: Any, method: str):
    assert refused(getattr(control, method), name="nobody") == NOT_FOUND


def test_a_name_is_given_once(control: Any, name: str):
    assert refused(control.create_workload_identity, name=name) == (409, "ConflictException")


def test_of_creations_of_one_name_at_once_one_succeeds(control: Any):
    wanted = fresh_name("workload")
    got = outcomes(lambda _: control.create_workload_identity(name=wanted)["name"], times=6)
    assert sorted(got) == ["ConflictException"] * 5 + [wanted]


def test_the_identity_of_a_runtime_is_not_deleted_before_it(control: Any, born_with_a_runtime: str):
    response = refusal(control.delete_workload_identity, name=born_with_a_runtime)
    assert (status(response), response["Error"]["Code"]) == (400, "ValidationException")
    assert control.get_workload_identity(name=born_with_a_runtime)["name"] == born_with_a_runtime


def test_the_name_of_a_runtimes_identity_is_taken(control: Any, born_with_a_runtime: str):
    assert refused(control.create_workload_identity, name=born_with_a_runtime) == (409, "ConflictException")


def test_a_deleted_identity_is_gone(control: Any, name: str):
    control.delete_workload_identity(name=name)
    assert refused(control.get_workload_identity, name=name) == NOT_FOUND


@pytest.mark.parametrize("token", ["x", "AAAA", "with blanks", "ü", "A" * 5000])
def test_a_page_token_that_nobody_gave_is_refused(control_on_sqlite: Any, token: str):
    assert refused(control_on_sqlite.list_workload_identities, nextToken=token) == (400, "ValidationException")


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_creating_an_identity_answers_what_the_model_promises(control: Any):
    wanted = fresh_name("workload.with-dots")
    made = control.create_workload_identity(name=wanted, allowedResourceOauth2ReturnUrls=URLS, tags={"team": "blue"})
    assert (status(made), faults(CONTROL, "CreateWorkloadIdentity", made)) == (201, [])
    arn = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:workload-identity-directory/default/workload-identity/{wanted}"
    assert shown(made) == {
        "name": wanted,
        "workloadIdentityArn": arn,
        "allowedResourceOauth2ReturnUrls": URLS,
    }


def test_getting_an_identity_shows_when_it_was_made(control: Any, name: str):
    found = control.get_workload_identity(name=name)
    assert (status(found), faults(CONTROL, "GetWorkloadIdentity", found)) == (200, [])
    assert abs(datetime.now(UTC) - found["createdTime"]) < timedelta(minutes=5)
    assert found["createdTime"] == found["lastUpdatedTime"]


def test_an_update_replaces_the_return_urls(control: Any):
    made = control.create_workload_identity(name=fresh_name("workload"), allowedResourceOauth2ReturnUrls=URLS)
    updated = control.update_workload_identity(name=made["name"], allowedResourceOauth2ReturnUrls=["myapp:/other"])
    assert (status(updated), faults(CONTROL, "UpdateWorkloadIdentity", updated)) == (200, [])
    assert updated["allowedResourceOauth2ReturnUrls"] == ["myapp:/other"]
    assert updated["createdTime"] < updated["lastUpdatedTime"]
    assert shown(control.get_workload_identity(name=made["name"])) == shown(updated)


def test_an_update_without_return_urls_leaves_none(control: Any):
    made = control.create_workload_identity(name=fresh_name("workload"), allowedResourceOauth2ReturnUrls=URLS)
    control.update_workload_identity(name=made["name"])
    assert control.get_workload_identity(name=made["name"])["allowedResourceOauth2ReturnUrls"] == []


def test_updates_at_once_leave_the_urls_of_one_of_them(control: Any, name: str):
    lists = [[f"https://app.example/{number}"] for number in range(6)]
    got = outcomes(
        lambda number: control.update_workload_identity(name=name, allowedResourceOauth2ReturnUrls=lists[number]),
        times=6,
    )
    succeeded = [urls for urls, each in zip(lists, got, strict=True) if each != "ConflictException"]
    assert control.get_workload_identity(name=name)["allowedResourceOauth2ReturnUrls"] in succeeded


def test_deleting_an_identity_answers_nothing(control: Any, name: str):
    deleted = control.delete_workload_identity(name=name)
    assert (status(deleted), shown(deleted)) == (204, {})


def test_the_name_of_a_deleted_identity_is_free(control: Any, name: str):
    control.delete_workload_identity(name=name)
    assert status(control.create_workload_identity(name=name)) == 201


def test_a_runtime_is_born_with_an_identity(control: Any):
    made = create(control)
    found = control.get_workload_identity(name=made["agentRuntimeId"])
    arn = made["workloadIdentityDetails"]["workloadIdentityArn"]
    assert (found["workloadIdentityArn"], found["allowedResourceOauth2ReturnUrls"]) == (arn, [])


def test_the_return_urls_of_a_runtimes_identity_may_be_replaced(control: Any, born_with_a_runtime: str):
    control.update_workload_identity(name=born_with_a_runtime, allowedResourceOauth2ReturnUrls=URLS)
    assert control.get_workload_identity(name=born_with_a_runtime)["allowedResourceOauth2ReturnUrls"] == URLS


def test_every_identity_stands_on_one_page(control: Any):
    made = {control.create_workload_identity(name=fresh_name("workload"))["name"] for _ in range(5)}
    pages = list(control.get_paginator("list_workload_identities").paginate(PaginationConfig={"PageSize": 2}))
    names = [row["name"] for page in pages for row in page["workloadIdentities"]]
    assert made <= set(names)
    assert names == sorted(set(names))
    assert [fault for page in pages for fault in faults(CONTROL, "ListWorkloadIdentities", page)] == []


def test_a_page_holds_twenty_identities_when_nothing_is_asked(control: Any):
    for _ in range(21):
        control.create_workload_identity(name=fresh_name("workload"))
    assert len(control.list_workload_identities()["workloadIdentities"]) == 20


def test_what_appears_and_goes_between_two_pages_disturbs_neither(control: Any):
    # No other name begins with a digit: these are the first of the list.
    first, second, third = (control.create_workload_identity(name=fresh_name("0"))["name"] for _ in range(3))
    token = control.list_workload_identities(maxResults=1)["nextToken"]
    control.delete_workload_identity(name=first)
    control.create_workload_identity(name=first + "-appeared")
    page = control.list_workload_identities(maxResults=3, nextToken=token)
    names = [row["name"] for row in page["workloadIdentities"]]
    assert names == [first + "-appeared", second, third]
    for name in names:
        control.delete_workload_identity(name=name)
