"""An agent written with the official SDK stands behind the gateway unchanged; and the demo shows it all in one command."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, free_port, register

START_SECONDS = 30.0
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.URLError:
        return False


@pytest.fixture(scope="module")
def sdk_agent() -> Iterator[str]:
    """The URL of the demo's agent, a `BedrockAgentCoreApp` in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "identity_gateway.demo.agent", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(f"http://127.0.0.1:{port}/ping"):
                assert process.poll() is None, "the agent ended"
                assert time.monotonic() < deadline, "the agent did not start"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def signed(gateway: RunningGateway, sdk_agent: str) -> str:
    return register(gateway, sdk_agent)


@pytest.fixture(scope="module")
def guarded(gateway: RunningGateway, sdk_agent: str, jwt_issuer: FakeIssuer) -> str:
    return register(gateway, sdk_agent, **guarded_by(jwt_issuer.discovery_url))


def invoke(gateway: RunningGateway, arn: str, payload: dict[str, Any], **more: Any) -> Any:
    return gateway.data.invoke_agent_runtime(
        agentRuntimeArn=arn, payload=json.dumps(payload), contentType="application/json", **more
    )


def test_a_handler_that_fails_is_told_with_its_own_words(gateway: RunningGateway, signed: str):
    with pytest.raises(ClientError) as failed:
        invoke(gateway, signed, {"fail": True})
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert failed.value.response["Error"]["Code"] == "RuntimeClientError"
    assert "the demo agent was asked to fail" in failed.value.response["Error"]["Message"]


def test_a_payload_that_is_no_json_is_told_in_the_words_of_the_sdk(gateway: RunningGateway, signed: str):
    with pytest.raises(ClientError, match=r"Received error \(400\) from runtime.*Invalid JSON"):
        gateway.data.invoke_agent_runtime(agentRuntimeArn=signed, payload=b"not json")


def test_a_handler_answers_json_and_knows_session_and_token(gateway: RunningGateway, signed: str):
    response = invoke(gateway, signed, {"prompt": "boto3"}, runtimeUserId="ada")
    said = json.loads(response["response"].read())
    assert (said["answer"], said["session"]) == ("Hello, boto3!", response["runtimeSessionId"])
    assert re.fullmatch(r"received, \d{3,} characters", said["workloadAccessToken"])


def test_a_handler_answers_a_bearer_and_knows_session_and_token(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
):
    response = post(gateway, guarded, token_of(jwt_issuer), b'{"prompt": "bearer"}')
    said = response.json()
    assert (said["answer"], said["session"]) == ("Hello, bearer!", response.headers[SESSION])
    assert said["workloadAccessToken"].startswith("received")


def test_the_token_of_one_call_is_not_there_in_the_next(gateway: RunningGateway, signed: str):
    sizes = set()
    for user in ("a", "a" * 128):
        said = json.loads(invoke(gateway, signed, {}, runtimeUserId=user)["response"].read())
        sizes.add(said["workloadAccessToken"])
    assert len(sizes) == 2


def test_a_generator_streams_events(gateway: RunningGateway, signed: str):
    response = invoke(gateway, signed, {"stream": True})
    assert response["contentType"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix(b"data: ")) for line in response["response"].iter_lines() if line]
    assert events == [{"event": number, "of": 3} for number in (1, 2, 3)]


# --- The demo ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """What `identity-gateway demo --once` did in an empty folder, while somebody else used the ports that it prefers."""
    folder = tmp_path_factory.mktemp("demo")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IDENTITY_GATEWAY_"))
    }
    with ExitStack() as others:
        for port in range(8080, 8085):
            taken = others.enter_context(socket.socket())
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody else has it indeed
            taken.listen()
        command = [sys.executable, "-m", "identity_gateway", "demo", "--once"]
        return subprocess.run(
            command, cwd=folder, env=inherited, capture_output=True, text=True, timeout=100, check=False
        )


def test_every_step_of_the_demo_holds(demo: "subprocess.CompletedProcess[str]"):
    assert (demo.returncode, demo.stderr) == (0, "")
    assert [line[0] for line in demo.stdout.splitlines() if re.match(r"\d\. ", line)] == list("123456789")


def test_the_demo_walks_a_consent_through_every_page_and_gets_what_it_opens(
    demo: "subprocess.CompletedProcess[str]",
):
    walked = demo.stdout.partition("7. ")[2].partition("8. ")[0]
    seen = re.findall(r"^ +(\d{3}) http://127\.0\.0\.1:\d+/(\S*)$", walked, re.MULTILINE)
    assert [(status, path.partition("callback")[0]) for status, path in seen] == [
        ("200", "identities/oauth2/authorize"),
        ("303", "identities/oauth2/authorize"),
        ("200", "authorize"),
        ("303", "authorize"),
        ("303", "identities/oauth2/"),
        ("200", "return"),
    ]
    assert '"parcelsOf": "Ada"' in walked


def test_the_demo_takes_other_ports_when_its_own_are_busy(demo: "subprocess.CompletedProcess[str]"):
    ports = set(re.findall(r"http://127\.0\.0\.1:(\d+)", demo.stdout))
    assert ports
    assert ports.isdisjoint({"8080", "8081", "8082", "8083", "8084"})
