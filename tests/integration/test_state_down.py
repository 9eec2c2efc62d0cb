"""A gateway whose stores stop while it serves: nothing is vended unrecorded, nobody waits long, and it recovers."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name, register, running_gateway
from tests.parts import Postgres, Valkey, running_postgres, running_valkey

UNAVAILABLE = (503, "ServiceUnavailableException")
BOUND = 20.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres) -> Iterator[RunningGateway]:
    with running_gateway(database_url=postgres.create_database()) as running:
        yield running


@pytest.fixture(scope="module")
def on_valkey(valkey: Valkey) -> Iterator[RunningGateway]:
    with running_gateway(redis_url=valkey.url) as running:
        yield running


@pytest.fixture
def down(postgres: Postgres, on_postgres: RunningGateway) -> Iterator[Postgres]:
    """The database, to be stopped by the test, and there again after it."""
    yield postgres
    postgres.restore()
    on_postgres.wait_ready()


@pytest.fixture
def gone(valkey: Valkey, on_valkey: RunningGateway) -> Iterator[Valkey]:
    """The ephemeral store, to be stopped by the test, and there again after it."""
    yield valkey
    valkey.restore()
    on_valkey.wait_ready()


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    """Return status and code of a call that must be refused, and soon."""
    began = time.monotonic()
    with pytest.raises(ClientError) as caught:
        call()
    assert time.monotonic() - began < BOUND
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def readiness(running: RunningGateway) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(running.url + "/readyz", timeout=BOUND) as answer:
            return answer.status, json.loads(answer.read())["faults"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["faults"]


def test_a_signed_operation_is_refused_while_the_database_is_down(on_postgres: RunningGateway, down: Postgres):
    control = on_postgres.control
    down.stop()
    assert refusal(lambda: control.create_workload_identity(name="unrecorded")) == UNAVAILABLE


def test_no_workload_access_token_is_vended_while_the_database_is_down(on_postgres: RunningGateway, down: Postgres):
    name = on_postgres.control.create_workload_identity(name=fresh_name("alone"))["name"]
    data = on_postgres.data
    down.stop()
    assert refusal(lambda: data.get_workload_access_token(workloadName=name)) == UNAVAILABLE


def test_a_signed_call_does_not_reach_its_agent_while_the_database_is_down(
    on_postgres: RunningGateway, down: Postgres, agent: Agent
):
    arn, data = register(on_postgres, agent.url), on_postgres.data
    data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")["response"].read()
    agent.received.clear()
    down.stop()
    said = refusal(lambda: data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}"))
    assert (said, agent.received) == (UNAVAILABLE, [])


def test_a_call_with_a_remembered_token_does_not_reach_its_agent_while_the_database_is_down(
    on_postgres: RunningGateway, down: Postgres, agent: Agent, jwt_issuer: FakeIssuer
):
    arn, token = register(on_postgres, agent.url, **guarded_by(jwt_issuer.discovery_url)), token_of(jwt_issuer)
    assert post(on_postgres, arn, token).status_code == 200
    agent.received.clear()
    down.stop()
    answer = post(on_postgres, arn, token)
    assert (answer.status_code, answer.headers["x-amzn-errortype"], agent.received) == (*UNAVAILABLE, [])


@pytest.mark.parametrize("shown", ["signature", "token"])
def test_a_call_does_not_reach_its_agent_when_only_the_audit_table_fails(
    on_postgres: RunningGateway, postgres: Postgres, agent: Agent, jwt_issuer: FakeIssuer, shown: str
):
    guard = guarded_by(jwt_issuer.discovery_url) if shown == "token" else {}
    arn = register(on_postgres, agent.url, **guard)
    database = urlsplit(on_postgres.environment["IDENTITY_GATEWAY_DATABASE_URL"]).path.removeprefix("/")
    postgres.run("ALTER TABLE audit_decision RENAME TO audit_decision_away", database)
    try:
        if shown == "token":
            said = post(on_postgres, arn, token_of(jwt_issuer)).status_code
        else:
            said = refusal(lambda: on_postgres.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}"))[0]
    finally:
        postgres.run("ALTER TABLE audit_decision_away RENAME TO audit_decision", database)
    assert (said, agent.received) == (503, [])


def test_readyz_names_the_database_that_is_down_and_healthz_stays_calm(on_postgres: RunningGateway, down: Postgres):
    down.stop()
    assert (readiness(on_postgres), on_postgres.status("/healthz")) == ((503, ["records"]), 200)


def test_a_stream_that_had_begun_goes_on_while_the_database_is_down(
    on_postgres: RunningGateway, down: Postgres, agent: Agent
):
    arn = register(on_postgres, agent.url)
    asked = json.dumps({"stream": 3, "pause": 0.5})
    lines = on_postgres.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=asked)["response"].iter_lines(
        chunk_size=1
    )
    assert next(lines) == b"data: 0"
    down.stop()
    assert [line for line in lines if line] == [b"data: 1", b"data: 2"]


def test_the_gateway_serves_again_when_the_database_is_back(on_postgres: RunningGateway, down: Postgres, agent: Agent):
    arn, control = register(on_postgres, agent.url), on_postgres.control
    down.stop()
    for number in range(12):  # more than the pool holds
        assert refusal(lambda number=number: control.create_workload_identity(name=f"lost-{number}")) == UNAVAILABLE
    down.start()
    answer = on_postgres.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")
    assert (answer["statusCode"], readiness(on_postgres)) == (200, (200, []))


def test_what_was_refused_while_the_database_was_down_did_not_happen(on_postgres: RunningGateway, down: Postgres):
    control = on_postgres.control
    down.stop()
    refusal(lambda: control.create_workload_identity(name="never"))
    down.start()
    with pytest.raises(control.exceptions.ResourceNotFoundException):
        control.get_workload_identity(name="never")


def test_a_call_that_meets_a_stopped_database_leaves_no_traceback_and_no_address(
    on_postgres: RunningGateway, down: Postgres
):
    control = on_postgres.control
    down.stop()
    refusal(control.list_workload_identities)
    assert ("Traceback" in on_postgres.log, "postgresql://" in on_postgres.log) == (False, False)


# --- The ephemeral store only spares work: without it the gateway serves, and says that it misses it ---


def test_signed_calls_are_served_while_the_ephemeral_store_is_down(
    on_valkey: RunningGateway, gone: Valkey, agent: Agent
):
    arn = register(on_valkey, agent.url)
    gone.stop()
    assert on_valkey.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")["statusCode"] == 200


def test_calls_with_a_token_of_a_new_issuer_are_served_while_the_ephemeral_store_is_down(
    on_valkey: RunningGateway, gone: Valkey, agent: Agent, jwt_issuer: FakeIssuer
):
    gone.stop()
    arn = register(on_valkey, agent.url, **guarded_by(jwt_issuer.discovery_url))
    assert post(on_valkey, arn, token_of(jwt_issuer)).status_code == 200


def test_readyz_names_the_ephemeral_store_that_is_down(on_valkey: RunningGateway, gone: Valkey):
    gone.stop()
    assert readiness(on_valkey) == (503, ["ephemeral"])


def test_readyz_recovers_when_the_ephemeral_store_is_back(on_valkey: RunningGateway, gone: Valkey):
    gone.stop()
    assert readiness(on_valkey)[0] == 503
    gone.start()
    assert readiness(on_valkey) == (200, [])
