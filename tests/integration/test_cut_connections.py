"""A caller that hangs up, and an agent that cuts its answer: the other side notices, and the log has one line of it."""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register, running_gateway

STREAM = json.dumps({"stream": 1000, "pause": 0.05}).encode()
STARTED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 0\n\n\r\n"
)


@pytest.fixture
def logged() -> Iterator[RunningGateway]:
    """A gateway whose log holds nothing but the test's own lines."""
    with running_gateway() as running:
        yield running


def head_of(running: RunningGateway, issuer: FakeIssuer, url: str) -> bytes:
    """Register an agent and return the head of a call to it, without its length."""
    arn = register(running, url, **guarded_by(issuer.discovery_url))
    target = running.invocation_url(arn).removeprefix(running.url)
    return f"POST {target} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token_of(issuer)}\r\n".encode()


def lines_about(running: RunningGateway, operation: str) -> list[dict[str, Any]]:
    """Wait for the line about this operation, and return all that was logged but the start and the registration."""
    deadline = time.monotonic() + 20
    while f'"operation": "{operation}"' not in running.log:
        assert time.monotonic() < deadline, running.log
        time.sleep(0.02)
    time.sleep(0.3)  # so long may a complaint come behind it
    lines = [json.loads(line) for line in running.log.splitlines()]  # a traceback would not be JSON
    return [line for line in lines if line["event"] != "serving" and line.get("operation") != "CreateAgentRuntime"]


@contextmanager
def hanging_agent(answer: bytes, heard: threading.Event, *, reset: bool = False) -> Iterator[str]:
    """Run an agent that answers one request with these bytes and, when they were heard, is gone. Yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while not request.endswith(b"{}"):
                    request += connection.recv(65536)
                connection.sendall(answer)
                heard.wait(10)
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_a_caller_that_hangs_up_in_a_stream_is_one_line_and_stops_the_agent(
    logged: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer, reset: bool
):
    head = head_of(logged, jwt_issuer, agent.url) + b"content-length: %d\r\n\r\n" % len(STREAM)
    with socket.create_connection(("127.0.0.1", logged.port), timeout=20) as connection:
        connection.sendall(head + STREAM)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert agent.cancelled.wait(10)
    lines = lines_about(logged, "InvokeAgentRuntime")
    assert [(line["event"], line["error"]) for line in lines] == [("request", "the caller left")]


def test_a_caller_that_hangs_up_before_the_answer_is_one_line_and_stops_the_agent(
    logged: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    body = b'{"sleep": 30}'
    head = head_of(logged, jwt_issuer, agent.url) + b"content-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", logged.port), timeout=20) as connection:
        connection.sendall(head + body)
        deadline = time.monotonic() + 10
        while not agent.received and time.monotonic() < deadline:
            time.sleep(0.02)
    assert agent.cancelled.wait(10)
    lines = lines_about(logged, "InvokeAgentRuntime")
    assert [(line["event"], line["error"]) for line in lines] == [("request", "the caller left")]


def test_a_caller_that_hangs_up_in_its_body_is_one_line_and_no_whole_request(
    logged: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    head = head_of(logged, jwt_issuer, agent.url) + b"content-length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", logged.port), timeout=20) as connection:
        connection.sendall(head + b"x" * 50_000)
    lines = lines_about(logged, "InvokeAgentRuntime")
    assert [(line["event"], line["error"]) for line in lines] == [("request", "the caller left")]
    assert [received for received in agent.received if "cut" not in received] == []


def test_a_caller_that_hangs_up_in_the_body_of_an_operation_is_one_line(logged: RunningGateway):
    head = "POST /identities/ListWorkloadIdentities HTTP/1.1\r\nhost: gateway\r\ncontent-length: 100\r\n"
    credential = "IGAK/20260101/us-east-1/bedrock-agentcore/aws4_request"
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    credential = credential.replace("20260101", moment[:8])
    signature = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    with socket.create_connection(("127.0.0.1", logged.port), timeout=20) as connection:
        connection.sendall(f"{head}x-amz-date: {moment}\r\nauthorization: {signature}\r\n\r\n{{".encode())
    lines = lines_about(logged, "ListWorkloadIdentities")
    assert [(line["event"], line["error"]) for line in lines] == [("request", "the caller left")]


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_an_agent_that_cuts_its_stream_is_one_line_and_the_caller_sees_the_cut(
    logged: RunningGateway, jwt_issuer: FakeIssuer, reset: bool
):
    began = threading.Event()
    with hanging_agent(STARTED, began, reset=reset) as url:
        head = head_of(logged, jwt_issuer, url) + b"content-length: 2\r\n\r\n{}"
        with socket.create_connection(("127.0.0.1", logged.port), timeout=20) as connection:
            connection.sendall(head)
            heard = connection.recv(4096)
            began.set()
            heard += b"".join(iter(lambda: connection.recv(4096), b""))
    assert (len(re.findall(rb"^HTTP/1", heard, re.MULTILINE)), heard.endswith(b"0\r\n\r\n")) == (1, False)
    lines = lines_about(logged, "InvokeAgentRuntime")
    assert [(line["event"], line["status"], line["error"]) for line in lines] == [("request", 200, "AgentFailed")]


def test_an_agent_that_is_gone_before_its_answer_is_one_line_and_a_424(logged: RunningGateway, jwt_issuer: FakeIssuer):
    began = threading.Event()
    began.set()
    with hanging_agent(b"", began) as url:
        head = head_of(logged, jwt_issuer, url) + b"content-length: 2\r\n\r\n{}"
        with socket.create_connection(("127.0.0.1", logged.port), timeout=20) as connection:
            connection.sendall(head)
            heard = connection.recv(4096)
    lines = lines_about(logged, "InvokeAgentRuntime")
    assert (heard[:12], [line["status"] for line in lines]) == (b"HTTP/1.1 424", [424])


def test_a_stream_that_lasts_longer_than_it_may_is_cut_and_one_line(agent: Agent, jwt_issuer: FakeIssuer):
    with running_gateway(agent_stream_timeout="0.5") as running:
        arn = register(running, agent.url, **guarded_by(jwt_issuer.discovery_url))
        headers = {"authorization": f"Bearer {token_of(jwt_issuer)}"}
        with (
            httpx2.Client(trust_env=False, timeout=20) as http,
            pytest.raises(httpx2.RemoteProtocolError),
        ):
            http.post(running.invocation_url(arn), content=STREAM, headers=headers)
        lines = lines_about(running, "InvokeAgentRuntime")
    assert [(line["event"], line["status"], line["error"]) for line in lines] == [("request", 200, "AgentFailed")]
