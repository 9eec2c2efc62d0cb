"""A gateway that is told to stop says «not ready», finishes what it began, takes nothing new, and ends in time."""

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.agents import Agent
from tests.gateways import RunningGateway, register, running_gateway

CLEAN = {0, -signal.SIGTERM}
"""One process ends by the signal that it was sent, several workers by their supervisor's own exit."""


@contextmanager
def streaming(running: RunningGateway, agent: Agent, events: int, pause: float) -> Iterator[Any]:
    """Begin an event stream and yield its lines once the first event has arrived."""
    arn = register(running, agent.url)
    asked = json.dumps({"stream": events, "pause": pause})
    body = running.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=asked)["response"]
    lines = (line for line in body.iter_lines(chunk_size=1) if line)
    assert next(lines) == b"data: 0"
    yield lines
    body.close()


def eventually(running: RunningGateway, path: str, status: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if running.status(path) == status:
            return True
        time.sleep(0.02)
    return False


def accepts(running: RunningGateway) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", running.port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False


def refuses_soon(running: RunningGateway) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not accepts(running):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_readyz_says_503_before_the_gateway_stops_accepting(workers: int):
    with running_gateway(workers=workers, drain_delay="3") as running:
        running.process.terminate()
        assert eventually(running, "/readyz", 503)
        assert (running.status("/healthz"), running.process.poll()) == (200, None)
        assert running.process.wait(20) in CLEAN


def test_a_second_sigterm_does_not_shorten_the_delay():
    with running_gateway(drain_delay="3") as running:
        running.process.terminate()
        assert eventually(running, "/readyz", 503)
        running.process.terminate()
        time.sleep(0.5)  # the server looks at its signals every tenth of a second
        assert running.status("/healthz") == 200


def test_a_second_interrupt_ends_the_delay():
    with running_gateway(drain_delay="60") as running:
        running.process.send_signal(signal.SIGINT)
        assert eventually(running, "/readyz", 503)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) in {130, -signal.SIGINT}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_that_had_begun_is_completed_while_new_connections_are_refused(workers: int, agent: Agent):
    with running_gateway(workers=workers) as running, streaming(running, agent, events=4, pause=1.0) as lines:
        running.process.terminate()
        assert refuses_soon(running)
        assert list(lines) == [b"data: 1", b"data: 2", b"data: 3"]
        assert running.process.wait(20) in CLEAN
        assert "Traceback" not in running.log


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_that_lasts_too_long_is_cut_at_the_end_of_the_patience(workers: int, agent: Agent):
    with (
        running_gateway(workers=workers, drain_timeout="1") as running,
        streaming(running, agent, events=100, pause=0.5) as lines,
    ):
        running.process.terminate()
        with pytest.raises(Exception, match=r"(?i)incomplete|broken|prematurely"):
            list(lines)
        assert running.process.wait(20) in CLEAN
        assert ("Traceback" in running.log, "cut by the end of the gateway" in running.log) == (False, True)


def test_a_call_whose_agent_is_silent_is_told_so_at_the_end_of_the_patience(agent: Agent):
    with running_gateway(drain_timeout="1") as running:
        arn = register(running, agent.url)
        client = running.data
        said: list[Any] = []

        def call() -> None:
            try:
                client.invoke_agent_runtime(agentRuntimeArn=arn, payload=json.dumps({"sleep": 30}))
            except client.exceptions.ClientError as error:
                said.append(error.response)

        thread = threading.Thread(target=call)
        thread.start()
        deadline = time.monotonic() + 10
        while not agent.received and time.monotonic() < deadline:
            time.sleep(0.02)
        running.process.terminate()
        thread.join(20)
        status = [(answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) for answer in said]
        assert (status, "Traceback" in running.log) == ([(503, "ServiceUnavailableException")], False)


@pytest.mark.parametrize("workers", [1, 2])
def test_idle_connections_do_not_delay_the_end(workers: int):
    with running_gateway(workers=workers, drain_timeout="60") as running:
        idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(5)]
        for connection in idle[:4]:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        idle[0].sendall(b"GET /heal")  # has begun its next request, and says no more
        running.process.terminate()
        try:
            assert running.process.wait(20) in CLEAN
        finally:
            for connection in idle:
                connection.close()


def test_the_end_of_an_undisturbed_gateway_leaves_no_complaint_in_its_log():
    with running_gateway() as running:
        running.control.list_workload_identities()
        assert running.stop() in CLEAN
        assert re.findall(r'"level": "(?:warning|error|critical)"', running.log) == []
