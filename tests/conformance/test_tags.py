"""TagResource, UntagResource and ListTagsForResource, and the tags that a resource is created with, with real boto3."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.control_plane import create, new_version, outcomes, refusal, refused, shown, status
from tests.gateways import ACCOUNT, REGION, fresh_name

NOT_FOUND = (404, "ResourceNotFoundException")
PREFIX = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:"
FIFTY = {f"key-{number}": "" for number in range(50)}

Make = Callable[[dict[str, str]], str]


@pytest.fixture(params=["runtime", "endpoint", "workload identity"])
def make(request: pytest.FixtureRequest, control: Any) -> Make:
    """A function that creates a resource with these tags and returns its ARN: one of each kind that has tags."""

    def endpoint(tags: dict[str, str]) -> str:
        runtime_id = create(control)["agentRuntimeId"]
        made = control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable", tags=tags)
        return str(made["agentRuntimeEndpointArn"])

    def workload(tags: dict[str, str]) -> str:
        made = control.create_workload_identity(name=fresh_name("workload"), tags=tags)
        return str(made["workloadIdentityArn"])

    made: dict[str, Make] = {
        "runtime": lambda tags: str(create(control, tags=tags)["agentRuntimeArn"]),
        "endpoint": endpoint,
        "workload identity": workload,
    }
    return made[request.param]


@pytest.fixture
def arn(control: Any) -> str:
    return str(create(control)["agentRuntimeArn"])


def tags_of(control: Any, arn: str) -> dict[str, str]:
    tags: dict[str, str] = control.list_tags_for_resource(resourceArn=arn)["tags"]
    return tags


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unknown",
    [
        PREFIX + "runtime/unknown-AbCdEf1234",
        PREFIX + "runtime/unknown-AbCdEf1234/runtime-endpoint/DEFAULT",
        PREFIX + "workload-identity-directory/default/workload-identity/nobody",
        PREFIX + "workload-identity-directory/default",
        PREFIX + "memory/unknown-AbCdEf1234",
    ],
)
def test_the_tags_of_what_does_not_exist_are_not_found(control: Any, unknown: str):
    assert refused(control.list_tags_for_resource, resourceArn=unknown) == NOT_FOUND
    assert refused(control.tag_resource, resourceArn=unknown, tags={"a": "b"}) == NOT_FOUND
    assert refused(control.untag_resource, resourceArn=unknown, tagKeys=["a"]) == NOT_FOUND


@pytest.mark.parametrize(("ours", "theirs"), [(ACCOUNT, "111122223333"), (REGION, "eu-west-1"), (":aws:", ":aws-cn:")])
def test_a_resource_of_another_account_or_region_is_not_found(control: Any, arn: str, ours: str, theirs: str):
    assert refused(control.list_tags_for_resource, resourceArn=arn.replace(ours, theirs)) == NOT_FOUND


@pytest.mark.parametrize("mangled", ["not-an-arn-at-all-but-long", PREFIX + "runtime", PREFIX + "runtime//x"])
def test_what_is_no_arn_is_refused(control_on_sqlite: Any, mangled: str):
    assert refused(control_on_sqlite.list_tags_for_resource, resourceArn=mangled) == (400, "ValidationException")


@pytest.mark.parametrize("key", ["aws:owner", "AWS:owner"])
def test_tag_keys_of_aws_are_refused(control: Any, arn: str, key: str):
    response = refusal(control.tag_resource, resourceArn=arn, tags={key: "x", "mine": "x"})
    assert (status(response), response["Error"]["Code"]) == (400, "ValidationException")
    assert [fault["name"] for fault in response["fieldList"]] == [f"tags.{key}"]
    assert tags_of(control, arn) == {}


def test_nothing_is_created_with_tag_keys_of_aws(control: Any):
    name = fresh_name("workload")
    asked = {"name": name, "tags": {"aws:owner": "x"}}
    assert refused(control.create_workload_identity, **asked) == (400, "ValidationException")
    assert refused(control.get_workload_identity, name=name) == NOT_FOUND


def test_a_resource_has_fifty_tags_at_most(control: Any, make: Make):
    arn = make(FIFTY)
    asked = {"resourceArn": arn, "tags": {"one-more": ""}}
    assert refused(control.tag_resource, **asked) == (402, "ServiceQuotaExceededException")
    assert tags_of(control, arn) == FIFTY


@pytest.mark.parametrize("tags", [{"k" * 129: ""}, {"k": "v" * 257}, {"k": "<b>"}, {"k;": ""}])
def test_tags_that_aws_would_refuse_are_refused(control_on_sqlite: Any, tags: dict[str, str]):
    arn = create(control_on_sqlite)["agentRuntimeArn"]
    assert refused(control_on_sqlite.tag_resource, resourceArn=arn, tags=tags) == (400, "ValidationException")


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_a_resource_has_the_tags_it_was_created_with(control: Any, make: Make):
    tags = {"team": "blue", "cost:center": "a+b@c /x=1", "empty": ""}
    answer = control.list_tags_for_resource(resourceArn=make(tags))
    assert (status(answer), answer["tags"]) == (200, tags)


def test_tagging_adds_and_replaces(control: Any, make: Make):
    arn = make({"kept": "1", "changed": "1"})
    answer = control.tag_resource(resourceArn=arn, tags={"changed": "2", "added": "3"})
    assert (status(answer), shown(answer)) == (204, {})
    assert tags_of(control, arn) == {"kept": "1", "changed": "2", "added": "3"}


def test_untagging_removes_by_key_and_minds_no_absent_one(control: Any, make: Make):
    arn = make({"kept": "1", "a b": "2", "c+d=e": "3"})
    answer = control.untag_resource(resourceArn=arn, tagKeys=["a b", "c+d=e", "absent"])
    assert (status(answer), shown(answer)) == (204, {})
    assert tags_of(control, arn) == {"kept": "1"}


def test_a_full_resource_may_change_its_tags(control: Any, arn: str):
    control.tag_resource(resourceArn=arn, tags=FIFTY)
    control.tag_resource(resourceArn=arn, tags={"key-0": "changed"})
    assert tags_of(control, arn) == FIFTY | {"key-0": "changed"}


def test_default_has_tags_of_its_own(control: Any, arn: str):
    control.tag_resource(resourceArn=f"{arn}/runtime-endpoint/DEFAULT", tags={"a": "b"})
    assert (tags_of(control, arn), tags_of(control, f"{arn}/runtime-endpoint/DEFAULT")) == ({}, {"a": "b"})


def test_the_tags_of_a_deleted_identity_are_gone(control: Any):
    name = fresh_name("workload")
    control.create_workload_identity(name=name, tags={"a": "b"})
    control.delete_workload_identity(name=name)
    made = control.create_workload_identity(name=name)
    assert tags_of(control, made["workloadIdentityArn"]) == {}


def test_the_tags_of_a_deleted_endpoint_are_gone(control: Any):
    runtime_id = create(control)["agentRuntimeId"]
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable", tags={"a": "b"})
    control.delete_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="stable")
    made = control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable")
    assert tags_of(control, made["agentRuntimeEndpointArn"]) == {}


def test_an_update_of_a_runtime_leaves_its_tags(control: Any):
    made = create(control, tags={"a": "b"})
    new_version(control, made)
    assert tags_of(control, made["agentRuntimeArn"]) == {"a": "b"}


def test_tags_given_at_once_are_all_there(control: Any, arn: str):
    got = outcomes(
        lambda number: status(control.tag_resource(resourceArn=arn, tags={"same": "x", f"own-{number}": "x"})), times=6
    )
    assert got == [204] * 6
    assert tags_of(control, arn) == {"same": "x"} | {f"own-{number}": "x" for number in range(6)}


def test_tags_given_at_once_in_different_orders_do_not_wait_for_each_other(control: Any, arn: str):
    keys = [f"key-{number}" for number in range(20)]
    orders = [keys, keys[::-1]] * 3
    got = outcomes(
        lambda number: status(control.tag_resource(resourceArn=arn, tags=dict.fromkeys(orders[number], "x"))), times=6
    )
    assert got == [204] * 6


def test_tags_given_at_once_stay_within_the_limit(control: Any, arn: str):
    lots = [{f"{number}-{key}": "" for key in range(20)} for number in range(6)]
    got = outcomes(lambda number: status(control.tag_resource(resourceArn=arn, tags=lots[number])), times=6)
    assert sorted(map(str, got)) == ["204", "204", *["ServiceQuotaExceededException"] * 4]
    assert len(tags_of(control, arn)) == 40
