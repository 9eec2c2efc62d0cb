"""The gateway behind nginx, configured by `deploy/nginx.conf` as it stands there: two lines are replaced, its ports."""

import copy
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.gateways import START_SECONDS, RunningGateway, free_port, register
from tests.web_sockets import WebSocketAgent, dial, door, presigned, signed_headers

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
LARGEST_PAYLOAD = 100_000_000
MIB = 1 << 20


def configured(*, listen: str, server: str) -> str:
    """Return the configuration with the two lines that are the operator's."""
    text = CONFIGURATION.read_text()
    for old, new in (
        ("listen 8080;  # yours", f"listen {listen};"),
        ("server gateway:8080;  # yours", f"server {server};"),
    ):
        assert text.count(old) == 1, f"{CONFIGURATION.name} has no line {old!r}"
        text = text.replace(old, new)
    return text


@contextmanager
def running_nginx(gateway_port: int) -> Iterator[int]:
    """Run nginx in front of a port of this machine, and give the port it listens on."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # started by root, its workers are another user
        file = folder / "nginx.conf"
        file.write_text(configured(listen=f"127.0.0.1:{port}", server=f"127.0.0.1:{gateway_port}"))
        command = [nginx, "-e", "stderr", "-p", name, "-c", str(file), "-g", "daemon off;"]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                _wait(process, port, folder / "log")
                yield port
            finally:
                process.terminate()
                process.wait(10)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"nginx did not start:\n{log.read_text()[-2000:]}")


def through(gateway: RunningGateway, port: int) -> RunningGateway:
    """Return the gateway as callers see it who know nginx only."""
    seen = copy.copy(gateway)
    seen.url = f"http://127.0.0.1:{port}"
    return seen


def told(url: str, method: str, path: str, **headers: str) -> HTTPResponse:
    """Send a request head and nothing more, and return the answer."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    connection.close()
    return answer


@pytest.fixture(scope="module")
def front(gateway: RunningGateway) -> Iterator[RunningGateway]:
    with running_nginx(urlsplit(gateway.url).port or 0) as port:
        yield through(gateway, port)


def test_a_body_beyond_the_limit_is_refused_in_the_form_of_aws(front: RunningGateway):
    answer = told(front.url, "POST", "/runtimes/x/invocations", content_length=str(100 * MIB + 1))
    assert (answer.status, answer.getheader("x-amzn-errortype")) == (400, "ValidationException")


def test_metrics_are_hidden_by_nginx(front: RunningGateway):
    answer = told(front.url, "GET", "/metrics")
    assert (answer.status, answer.getheader("server")) == (404, "nginx")


def test_a_gateway_that_is_down_is_an_error_that_boto3_can_read(gateway: RunningGateway):
    with running_nginx(free_port()) as port, pytest.raises(ClientError) as refused:
        through(gateway, port).control.list_agent_runtimes()
    assert refused.value.response["Error"]["Code"] == "ServiceUnavailableException"


def test_a_signature_over_an_encoded_arn_holds_behind_nginx(front: RunningGateway, agent: Agent):
    arn = register(front, agent.url)
    assert "%3Aruntime%2F" in front.invocation_url(arn)
    response = front.data.invoke_agent_runtime(agentRuntimeArn=arn, qualifier="DEFAULT", payload=b"{}")
    assert json.loads(response["response"].read())["path"] == "/invocations"


def test_a_token_of_16_kib_passes_nginx(front: RunningGateway):
    answer = told(front.url, "POST", "/runtimes/x/invocations", authorization=f"Bearer {'x' * 16384}")
    assert answer.getheader("x-amzn-requestid")


def test_an_event_passes_nginx_before_the_next_one_is_produced(front: RunningGateway, agent: Agent):
    arn = register(front, agent.url)
    response = front.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=json.dumps({"stream": 2, "pause": 2}))
    lines = response["response"].iter_lines(chunk_size=1)
    assert next(lines) == b"data: 0"
    assert len(agent.started_events) == 1


def test_the_largest_payload_passes_nginx(front: RunningGateway, agent: Agent):
    arn = register(front, agent.url)
    payload = BytesIO(b"x" * LARGEST_PAYLOAD)
    front.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=payload)["response"].read()
    assert agent.last["length"] == LARGEST_PAYLOAD


async def test_a_signed_and_a_presigned_websocket_pass(front: RunningGateway, ws_agent: WebSocketAgent):
    url = door(front, register(front, ws_agent.url))
    for address, headers in ((url, signed_headers(front, url)), (presigned(front, url), {})):
        async with await dial(address, headers) as stream:
            await stream.send("hello")
            assert await stream.recv() == "hello"


def test_an_offer_to_change_to_another_protocol_does_not_pass(front: RunningGateway, agent: Agent):
    arn = register(front, agent.url)
    offer = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    connection = HTTPConnection("127.0.0.1", front.port, timeout=10)
    connection.request("GET", urlsplit(door(front, arn)).path, headers=offer)
    assert connection.getresponse().status == 426
    connection.close()
