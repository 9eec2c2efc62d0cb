"""A gateway that is killed under load and started again has lost nothing that it acknowledged, and kept no half."""

import itertools
import json
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.gateways import ROLE, RunningGateway, running_gateway
from tests.parts import Postgres

WRITERS = 4
AT_LEAST = 8
"""Registrations that are acknowledged before the gateway may be killed."""

AGENT = {"containerConfiguration": {"containerUri": "http://127.0.0.1:9/"}}
_NUMBERS = itertools.count()


@dataclass
class Acknowledged:
    """What the gateway said it has registered: ids or names, and the ids of the requests."""

    runtimes: list[str] = field(default_factory=list)
    endpoints: list[tuple[str, str]] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def note(self, answer: dict[str, Any]) -> None:
        self.requests.append(answer["ResponseMetadata"]["RequestId"])
        if len(self.requests) >= AT_LEAST:
            self.enough.set()

    def write(self, control: Any) -> None:
        """Register one thing after the other until the gateway is gone."""
        try:
            while True:
                self._write_once(control, next(_NUMBERS))
        except (BotoCoreError, ClientError):
            return

    def _write_once(self, control: Any, number: int) -> None:
        made = control.create_agent_runtime(
            agentRuntimeName=f"killed_{number}",
            agentRuntimeArtifact=AGENT,
            roleArn=ROLE,
            networkConfiguration={"networkMode": "PUBLIC"},
        )
        runtime = made["agentRuntimeId"]
        self.runtimes.append(runtime)
        self.note(made)
        self.note(control.create_agent_runtime_endpoint(agentRuntimeId=runtime, name="live"))
        self.endpoints.append((runtime, "live"))
        self.note(control.create_workload_identity(name=f"killed-{number}"))
        self.identities.append(f"killed-{number}")


@dataclass
class Killable:
    """A gateway, and a way to read its audit table without its code."""

    gateway: RunningGateway
    allowed_requests: Callable[[], set[str]]


ALLOWED = "SELECT request_id FROM audit_record WHERE decision = 'allowed'"


@pytest.fixture(params=["sqlite", "postgresql"])
def killable(request: pytest.FixtureRequest) -> Iterator[Killable]:
    if request.param == "sqlite":
        with running_gateway() as running:
            yield Killable(running, lambda: audited_in_sqlite(running))
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    url = server.create_database()
    with running_gateway(database_url=url) as running:
        yield Killable(running, lambda: set(server.run(ALLOWED, urlsplit(url).path.removeprefix("/")).split()))


def audited_in_sqlite(running: RunningGateway) -> set[str]:
    with closing(sqlite3.connect(running.data_dir / "gateway.sqlite")) as connection:
        return {request for (request,) in connection.execute(ALLOWED)}


def load_and_kill(running: RunningGateway, done: Acknowledged) -> None:
    control = running.client("bedrock-agentcore-control", max_pool_connections=WRITERS, read_timeout=10)
    with ThreadPoolExecutor(WRITERS) as writers:
        for _ in range(WRITERS):
            writers.submit(done.write, control)
        assert done.enough.wait(30)
        threading.Event().wait(random.uniform(0, 0.3))  # the moment of a kill is anybody's
        running.kill()


def keys_of(running: RunningGateway) -> tuple[tuple[str, str], bytes]:
    return running.root_key, (running.data_dir / "master.key").read_bytes()


def whole_runtimes(running: RunningGateway) -> set[str]:
    """Return the ids of all runtimes; every one must have its version, DEFAULT endpoint and workload identity."""
    control = running.control
    found = [
        runtime["agentRuntimeId"]
        for page in control.get_paginator("list_agent_runtimes").paginate()
        for runtime in page["agentRuntimes"]
    ]
    for runtime in found:
        shown = control.get_agent_runtime(agentRuntimeId=runtime)
        default = control.get_agent_runtime_endpoint(agentRuntimeId=runtime, endpointName="DEFAULT")
        identity = control.get_workload_identity(name=runtime)
        whole = (shown["agentRuntimeVersion"], shown["agentRuntimeArtifact"], default["liveVersion"], identity["name"])
        assert whole == ("1", AGENT, "1", runtime)
    return set(found)


def names_of_identities(running: RunningGateway) -> set[str]:
    pages = running.control.get_paginator("list_workload_identities").paginate()
    return {identity["name"] for page in pages for identity in page["workloadIdentities"]}


def test_nothing_that_was_acknowledged_is_lost_when_the_gateway_is_killed(killable: Killable):
    running, done = killable.gateway, Acknowledged()
    keys = keys_of(running)
    for _ in range(2):
        done.enough.clear()
        load_and_kill(running, done)
        running.start()
    control = running.control
    live = {(runtime, name) for runtime, name in done.endpoints if endpoint_is_whole(control, runtime, name)}
    assert len(done.requests) >= AT_LEAST
    assert set(done.runtimes) <= whole_runtimes(running)
    assert set(done.identities) <= names_of_identities(running)
    assert live == set(done.endpoints)
    assert set(done.requests) <= killable.allowed_requests()
    assert keys_of(running) == keys


def endpoint_is_whole(control: Any, runtime: str, name: str) -> bool:
    shown = control.get_agent_runtime_endpoint(agentRuntimeId=runtime, endpointName=name)
    return (shown["name"], shown["liveVersion"], shown["status"]) == (name, "1", "READY")


def test_a_gateway_that_is_killed_while_it_starts_comes_up_the_next_time(killable: Killable):
    running = killable.gateway
    keys = keys_of(running)
    for _ in range(3):
        running.kill()
        running.start(wait=False)
        threading.Event().wait(random.uniform(0.2, 1.5))
    running.kill()
    running.start()
    assert (keys_of(running), json.loads(running.command("doctor", "--json").stdout)["records"]) == (keys, "ok")
