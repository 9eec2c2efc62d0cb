"""Whoever invents an access key neither fills the disk nor takes the place of those who have one."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import REGION, RunningGateway, register, running_gateway

MEBI = 1 << 20


@pytest.fixture(scope="module")
def narrow() -> Iterator[RunningGateway]:
    """A gateway on whose disk one body may lie at a time."""
    with running_gateway(spooled_bodies="1") as running:
        yield running


def opened(gateway: RunningGateway, key: tuple[str, str], arn: str, body: bytes, *, held_back: int) -> socket.socket:
    """Begin a signed call whose last bytes are not sent."""
    url = gateway.invocation_url(arn)
    request = AWSRequest("POST", url, headers={"content-length": str(len(body))}, data=body)
    SigV4Auth(Credentials(*key), "bedrock-agentcore", REGION).add_auth(request)
    lines = [f"POST {url.removeprefix(gateway.url)} HTTP/1.1", f"host: 127.0.0.1:{gateway.port}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) - held_back])
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """Read an answer with a length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head[9:12]), json.loads(body)


def test_uploads_with_an_invented_key_take_no_place_of_those_who_have_one(narrow: RunningGateway, agent: Agent):
    arn = register(narrow, agent.url)
    invented = ("IGAKINVENTED23456789", "whatever")
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(opened(narrow, invented, arn, b"x" * 3 * MEBI, held_back=1))
        response = narrow.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"y" * 2 * MEBI)
        assert json.loads(response["response"].read())["length"] == 2 * MEBI


def test_an_invented_key_with_a_large_body_is_refused_like_a_wrong_secret(narrow: RunningGateway, agent: Agent):
    arn = register(narrow, agent.url)
    refusals = []
    for key in (("IGAKINVENTED23456789", "whatever"), (narrow.root_key[0], "whatever")):
        with opened(narrow, key, arn, b"x" * 2 * MEBI, held_back=0) as connection:
            refusals.append(answer(connection))
    assert refusals[0] == refusals[1]


def test_a_length_of_thousands_of_digits_is_refused_in_words(
    narrow: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn = register(narrow, agent.url, **guarded_by(jwt_issuer.discovery_url))
    path = narrow.invocation_url(arn).removeprefix(narrow.url)
    lines = [f"POST {path} HTTP/1.1", "host: g", f"authorization: Bearer {token_of(jwt_issuer)}"]
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, f"content-length: {'0' * 5000}2", "", "{}"]).encode())
        status, said = answer(connection)
    assert (status, said["message"]) == (400, "Content-Length is not a number.")


def test_a_runtime_that_changed_while_the_body_arrived_is_not_called_by_its_old_rules(
    narrow: RunningGateway, agent: Agent
):
    arn = register(narrow, agent.url)
    with opened(narrow, narrow.root_key, arn, b'{"echo": 1}', held_back=1) as connection:
        time.sleep(1.2)  # longer than a route is believed
        narrow.control.delete_agent_runtime(agentRuntimeId=arn.rpartition("/")[2])
        connection.sendall(b"}")
        status, _ = answer(connection)
    assert (status, agent.received) == (409, [])


def test_a_qualifier_that_can_be_no_endpoint_is_not_repeated(narrow: RunningGateway, agent: Agent):
    arn = register(narrow, agent.url)
    path = narrow.invocation_url(arn, query="qualifier=" + "%22" * 5000).removeprefix(narrow.url)
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n".encode())
        status, said = answer(connection)
    assert status == 400
    assert len(json.dumps(said)) < 500
