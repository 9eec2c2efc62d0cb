"""Policies at runtimes and endpoints: kept with what they stand at, believed for a second, gone with it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from identity_gateway.errors import NotFound, ValidationFailed
from identity_gateway.model import AgentRuntime, AgentRuntimeEndpoint, ResourcePolicy
from identity_gateway.protocol.policy import MOST
from identity_gateway.records.sql import SqlRecords
from identity_gateway.resource_policies import ResourcePolicies, drop_policy
from tests.fakes.clock import Clock
from tests.fakes.policies import REALM

ID = "hello-AbCdEf1234"
RUNTIME, ENDPOINT = REALM.runtime_arn(ID), REALM.endpoint_arn(ID, "live")
UNKNOWN = REALM.runtime_arn("other-AbCdEf1234")
NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Process:
    """What one process of the gateway knows: several share the records."""

    def __init__(self, records: SqlRecords) -> None:
        self.policies = ResourcePolicies(records, REALM, clock=Clock())

    async def put(self, arn: str = RUNTIME, effect: str = "Allow", **changes: Any) -> None:
        await self.policies.put_resource_policy({"resourceArn": arn, "policy": text(arn, effect, **changes)})

    async def effects(self, *arns: str) -> dict[str, list[bool]]:
        """Return whether the statements that stand at each resource allow."""
        standing = await self.policies.standing_at(arns or (RUNTIME, ENDPOINT))
        return {arn: [statement.allows for statement in policy.statements] for arn, policy in standing.items()}


def text(arn: str, effect: str = "Allow", **changes: Any) -> str:
    statement = {"Effect": effect, "Principal": "*", "Action": "bedrock-agentcore:*", "Resource": arn} | changes
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
async def process(records: SqlRecords) -> Process:
    async with records.write() as transaction:
        await transaction.create(AgentRuntime(REALM.account, ID, "hello", 1, NOW, NOW))
        await transaction.create(AgentRuntimeEndpoint(REALM.account, ID, "live", "e", 1, None, NOW, NOW))
    return Process(records)


# --- Refused ---


@pytest.mark.parametrize(
    "arn",
    [
        UNKNOWN,
        REALM.endpoint_arn(ID, "other"),
        REALM.runtime_arn("*"),
        RUNTIME.replace("us-east-1", "eu-west-1"),
        RUNTIME.replace(REALM.account, "111111111111"),
        RUNTIME + "/endpoint/live",
        RUNTIME + "/",
        REALM.arn("memory/hello-AbCdEf1234"),
        "arn:aws:s3:::bucket-of-somebody",
    ],
)
async def test_a_policy_stands_at_what_exists(process: Process, arn: str):
    with pytest.raises(NotFound):
        await process.put(arn)
    with pytest.raises(NotFound):
        await process.policies.get_resource_policy({"resourceArn": arn})
    with pytest.raises(NotFound):
        await process.policies.delete_resource_policy({"resourceArn": arn})


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "{",
        "[]",
        '"x"',
        '{"Version": "2012-10-17"}',
        '{"Version": "2012-10-17", "Version": "2012-10-17"}',
        "[" * 40 + "]" * 40,
        text(RUNTIME, "Perhaps"),
        text(ENDPOINT),
        text("*"),
        text(RUNTIME, Principal={"Service": "x.amazonaws.com"}),
        text(RUNTIME, Condition={"StringEquals": {"aws:SourceVpce": "vpce-1"}}),
        text(RUNTIME, Sid="x" * MOST),
    ],
)
async def test_a_policy_that_is_not_served_whole_does_not_stand(process: Process, policy: str):
    with pytest.raises(ValidationFailed):
        await process.policies.put_resource_policy({"resourceArn": RUNTIME, "policy": policy})
    assert await process.effects() == {}


async def test_where_no_policy_stands_none_is_shown_or_removed(process: Process):
    assert await process.policies.get_resource_policy({"resourceArn": RUNTIME}) == {}
    with pytest.raises(NotFound, match="No resource policy"):
        await process.policies.delete_resource_policy({"resourceArn": RUNTIME})


# --- Kept ---


async def test_a_policy_is_shown_as_it_was_put(process: Process):
    await process.put(Sid="Grüße")
    shown = await process.policies.get_resource_policy({"resourceArn": RUNTIME})
    assert json.loads(shown["policy"]) == json.loads(text(RUNTIME, Sid="Grüße"))
    assert "Grüße" in shown["policy"]


async def test_who_puts_a_policy_leaves_it_on_record(process: Process):
    put = await process.policies.put_resource_policy({"resourceArn": RUNTIME, "policy": text(RUNTIME)})
    assert (put.reason, put.details) == ("policy put", {"policy": json.loads(text(RUNTIME))})


async def test_a_policy_stands_at_its_resource_alone(process: Process):
    await process.put(ENDPOINT)
    assert await process.effects(RUNTIME, ENDPOINT, UNKNOWN, REALM.runtime_arn("*")) == {ENDPOINT: [True]}


async def test_a_change_counts_at_once_in_its_own_process(process: Process):
    for effect, allows in (("Allow", True), ("Deny", False)):
        await process.put(effect=effect)
        assert await process.effects() == {RUNTIME: [allows]}
    await process.policies.delete_resource_policy({"resourceArn": RUNTIME})
    assert await process.effects() == {}


async def test_a_change_in_another_process_counts_at_once(process: Process, records: SqlRecords):
    other = Process(records)
    assert await other.effects() == {}
    await process.put(effect="Deny")
    assert await other.effects() == {RUNTIME: [False]}


async def test_a_policy_goes_with_its_resource(process: Process, records: SqlRecords):
    await process.put()
    async with records.write() as transaction:
        await drop_policy(transaction, REALM.account, RUNTIME)
    assert await process.effects() == {}


async def test_a_policy_that_cannot_be_read_any_more_lets_nobody_in(process: Process, records: SqlRecords):
    broken = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Future": True}]}
    async with records.write() as transaction:
        await transaction.create(ResourcePolicy(REALM.account, RUNTIME, broken, created_at=NOW, updated_at=NOW))
    with pytest.raises(ValueError, match="Future"):
        await process.effects()
