"""Tenants that share a database: nothing that one account holds, knows or was given means anything in the other."""

import base64
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from identity_gateway.errors import AccessDenied
from identity_gateway.sealing import Sealer
from identity_gateway.workload import SEALING_PERIOD, WorkloadTokens
from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name, register, running_gateway
from tests.parts import Postgres

MASTER_KEY = bytes(range(32))
OURS, THEIRS = "111111111111", "222222222222"


@dataclass
class Neighbours:
    """Two gateways of two accounts on one database, with the same master key."""

    ours: RunningGateway
    theirs: RunningGateway


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def neighbours(request: pytest.FixtureRequest) -> Iterator[Neighbours]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="shared-"))
            url = f"sqlite:///{Path(folder) / 'shared.sqlite'}"
        else:
            server: Postgres = request.getfixturevalue("postgres_server")
            url = server.create_database()
        shared = {"database_url": url, "master_key": base64.b64encode(MASTER_KEY).decode()}
        ours = stack.enter_context(running_gateway(account_id=OURS, **shared))
        theirs = stack.enter_context(running_gateway(account_id=THEIRS, **shared))
        yield Neighbours(ours, theirs)


def refusal(call: Any, **asked: Any) -> str:
    """Return the error code of a call that must be refused."""
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return str(caught.value.response["Error"]["Code"])


def id_of(arn: str) -> str:
    return arn.rpartition("/")[2]


def listed(running: RunningGateway) -> set[str]:
    pages = running.control.get_paginator("list_agent_runtimes").paginate()
    return {runtime["agentRuntimeArn"] for page in pages for runtime in page["agentRuntimes"]}


def test_the_root_key_of_one_account_signs_nothing_in_the_other(neighbours: Neighbours):
    stranger = neighbours.theirs.client("bedrock-agentcore-control", key=neighbours.ours.root_key)
    assert refusal(stranger.list_agent_runtimes) == "InvalidSignatureException"


def test_a_key_that_was_made_for_one_account_signs_nothing_in_the_other(neighbours: Neighbours):
    made = json.loads(neighbours.ours.command("access-key", "create", "--name", "visitor", "--admin", "--json").stdout)
    key = (made["accessKeyId"], made["secretAccessKey"])
    assert neighbours.ours.client("bedrock-agentcore-control", key=key).list_agent_runtimes()
    stranger = neighbours.theirs.client("bedrock-agentcore-control", key=key)
    assert refusal(stranger.list_agent_runtimes) == "InvalidSignatureException"


def test_the_keys_of_one_account_are_not_listed_or_deleted_in_the_other(neighbours: Neighbours):
    key_id = neighbours.ours.root_key[0]
    shown = {key["accessKeyId"] for key in json.loads(neighbours.theirs.command("access-key", "list", "--json").stdout)}
    assert (key_id in shown, neighbours.theirs.command("access-key", "delete", key_id).returncode) == (False, 1)


def test_the_runtimes_of_one_account_are_not_listed_in_the_other(neighbours: Neighbours, agent: Agent):
    ours, theirs = register(neighbours.ours, agent.url), register(neighbours.theirs, agent.url)
    assert (ours in listed(neighbours.ours), theirs in listed(neighbours.theirs)) == (True, True)
    assert listed(neighbours.ours) & listed(neighbours.theirs) == set()


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("get_agent_runtime", {}),
        ("delete_agent_runtime", {}),
        ("list_agent_runtime_versions", {}),
        ("list_agent_runtime_endpoints", {}),
        ("create_agent_runtime_endpoint", {"name": "mine"}),
        ("get_agent_runtime_endpoint", {"endpointName": "DEFAULT"}),
        ("update_agent_runtime_endpoint", {"endpointName": "live"}),
        ("delete_agent_runtime_endpoint", {"endpointName": "live"}),
    ],
)
def test_a_runtime_of_another_account_does_not_exist(
    neighbours: Neighbours, agent: Agent, operation: str, more: dict[str, str]
):
    runtime = id_of(register(neighbours.ours, agent.url))
    neighbours.ours.control.create_agent_runtime_endpoint(agentRuntimeId=runtime, name="live")
    call = getattr(neighbours.theirs.control, operation)
    assert refusal(call, agentRuntimeId=runtime, **more) == "ResourceNotFoundException"
    assert neighbours.ours.control.get_agent_runtime_endpoint(agentRuntimeId=runtime, endpointName="live")


def test_one_account_does_not_learn_whether_a_runtime_exists_in_the_other(neighbours: Neighbours, agent: Agent):
    arn, data = register(neighbours.ours, agent.url), neighbours.theirs.data
    missing = arn[:-4] + "0000"
    codes = {refusal(data.invoke_agent_runtime, agentRuntimeArn=each, payload=b"{}") for each in (arn, missing)}
    assert (codes, agent.received) == ({"ResourceNotFoundException"}, [])


@pytest.mark.parametrize("account", [OURS, THEIRS])
def test_a_runtime_of_another_account_is_not_called_by_its_id(neighbours: Neighbours, agent: Agent, account: str):
    runtime, data = id_of(register(neighbours.ours, agent.url)), neighbours.theirs.data
    code = refusal(data.invoke_agent_runtime, agentRuntimeArn=runtime, accountId=account, payload=b"{}")
    assert (code, agent.received) == ("ResourceNotFoundException", [])


def test_a_token_for_a_runtime_of_one_account_opens_nothing_in_the_other(
    neighbours: Neighbours, agent: Agent, jwt_issuer: FakeIssuer
):
    arn, token = register(neighbours.ours, agent.url, **guarded_by(jwt_issuer.discovery_url)), token_of(jwt_issuer)
    assert post(neighbours.ours, arn, token).status_code == 200
    agent.received.clear()
    assert (post(neighbours.theirs, arn, token).status_code, agent.received) == (401, [])


def test_the_metadata_of_a_runtime_is_not_shown_by_the_other_account(
    neighbours: Neighbours, agent: Agent, jwt_issuer: FakeIssuer
):
    arn = register(neighbours.ours, agent.url, **guarded_by(jwt_issuer.discovery_url))
    paths = [
        running.invocation_url(arn, query="").removeprefix(running.url) + "/.well-known/oauth-protected-resource"
        for running in (neighbours.ours, neighbours.theirs)
    ]
    assert (neighbours.ours.status(paths[0]), neighbours.theirs.status(paths[1])) == (200, 404)


def test_both_accounts_may_use_the_same_names(neighbours: Neighbours, agent: Agent):
    name = fresh_name("same")
    arns = [register(running, agent.url, name=name) for running in (neighbours.ours, neighbours.theirs)]
    identities = [
        running.control.create_workload_identity(name=name)["workloadIdentityArn"]
        for running in (neighbours.ours, neighbours.theirs)
    ]
    assert [arn.split(":")[4] for arn in (*arns, *identities)] == [OURS, THEIRS, OURS, THEIRS]


def test_deleting_a_name_in_one_account_leaves_it_in_the_other(neighbours: Neighbours):
    name = fresh_name("kept")
    for running in (neighbours.ours, neighbours.theirs):
        running.control.create_workload_identity(name=name)
    neighbours.theirs.control.delete_workload_identity(name=name)
    assert neighbours.ours.control.get_workload_identity(name=name)["name"] == name


def test_a_token_is_not_vended_for_an_identity_of_the_other_account(neighbours: Neighbours):
    name = neighbours.ours.control.create_workload_identity(name=fresh_name("only-ours"))["name"]
    code = refusal(neighbours.theirs.data.get_workload_access_token, workloadName=name)
    assert code == "ResourceNotFoundException"


def test_a_workload_access_token_of_one_account_does_not_open_in_the_other(neighbours: Neighbours):
    name = neighbours.ours.control.create_workload_identity(name=fresh_name("bearer"))["name"]
    token = neighbours.ours.data.get_workload_access_token(workloadName=name)["workloadAccessToken"]
    sealer = Sealer((MASTER_KEY,), "workload-access-token", period_seconds=SEALING_PERIOD)
    assert WorkloadTokens(sealer, OURS, clock=time.time).open(token).workload == name
    with pytest.raises(AccessDenied):
        WorkloadTokens(sealer, THEIRS, clock=time.time).open(token)


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("tag_resource", {"tags": {"owner": "them"}}),
        ("untag_resource", {"tagKeys": ["owner"]}),
        ("list_tags_for_resource", {}),
    ],
)
def test_the_tags_of_a_resource_are_not_the_business_of_the_other_account(
    neighbours: Neighbours, agent: Agent, operation: str, more: dict[str, Any]
):
    arn = register(neighbours.ours, agent.url, tags={"owner": "us"})
    code = refusal(getattr(neighbours.theirs.control, operation), resourceArn=arn, **more)
    kept = neighbours.ours.control.list_tags_for_resource(resourceArn=arn)["tags"]
    assert (code, kept) == ("ResourceNotFoundException", {"owner": "us"})


def test_an_arn_with_the_own_account_reaches_no_resource_of_the_other(neighbours: Neighbours, agent: Agent):
    arn = register(neighbours.ours, agent.url).replace(OURS, THEIRS)
    data, control = neighbours.theirs.data, neighbours.theirs.control
    codes = [
        refusal(data.invoke_agent_runtime, agentRuntimeArn=arn, payload=b"{}"),
        refusal(control.tag_resource, resourceArn=arn, tags={"owner": "them"}),
    ]
    assert (codes, agent.received) == (["ResourceNotFoundException"] * 2, [])


@pytest.mark.parametrize(
    ("operation", "create"),
    [
        (
            "list_workload_identities",
            lambda running, agent: running.control.create_workload_identity(name=fresh_name("p")),
        ),
        ("list_agent_runtimes", lambda running, agent: register(running, agent.url)),
    ],
)
def test_a_page_token_of_one_account_is_refused_in_the_other(
    neighbours: Neighbours, agent: Agent, operation: str, create: Any
):
    for _ in range(2):
        create(neighbours.ours, agent)
    token = getattr(neighbours.ours.control, operation)(maxResults=1)["nextToken"]
    assert getattr(neighbours.ours.control, operation)(nextToken=token)
    assert refusal(getattr(neighbours.theirs.control, operation), nextToken=token) == "ValidationException"


def test_a_client_token_of_one_account_does_not_replay_in_the_other(neighbours: Neighbours, agent: Agent):
    name, token = fresh_name("once"), "client-token-that-both-accounts-use-" + fresh_name().replace("_", "-")
    made = [
        register(running, agent.url, name=name, clientToken=token)
        for running in (neighbours.ours, neighbours.ours, neighbours.theirs)
    ]
    assert (made[0] == made[1], made[2].split(":")[4], id_of(made[2]) == id_of(made[0])) == (True, THEIRS, False)
