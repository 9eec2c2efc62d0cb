"""Agents of two frameworks behind the gateway, each in an environment of its own: Strands and LangGraph.

Their models are scripts, so nothing leaves this machine. What is real is the way: boto3, the gateway, the official
SDK's server, the framework's loop, and back to the gateway for a credential that a tool needs.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, free_port, fresh_name, register
from tests.integration.test_sdk_agent import START_SECONDS, answers
from tests.integration.test_sdk_credentials import environment

ROOT = Path(__file__).parents[2]
KEY = "k-of-the-parcel-service"


@dataclass
class Deployed:
    """One agent of a framework, registered twice: to be called with a signature, and with a JWT."""

    framework: str
    gateway: RunningGateway
    signed: str
    guarded: str

    def invoke(self, payload: dict[str, Any], **more: Any) -> Any:
        return self.gateway.data.invoke_agent_runtime(agentRuntimeArn=self.signed, payload=json.dumps(payload), **more)


@pytest.fixture(scope="module", params=["strands", "langgraph"])
def deployed(
    request: pytest.FixtureRequest,
    gateway: RunningGateway,
    jwt_issuer: FakeIssuer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    framework = str(request.param)
    python = ROOT / ".venvs" / framework / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{framework} is not installed: make agent-frameworks")
    folder, key_name, port = tmp_path_factory.mktemp(framework), fresh_name("key"), free_port()
    gateway.control.create_api_key_credential_provider(name=key_name, apiKey=KEY)
    command = [python, ROOT / "tests" / "agent_frameworks" / f"{framework}_agent.py", "--port", str(port)]
    variables = environment(gateway, folder, "GetResourceApiKey") | {"AGENT_KEY": key_name}
    with (
        (folder / "agent.log").open("w+") as log,
        subprocess.Popen(command, env=variables, stdout=log, stderr=log) as process,
    ):
        try:
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
            while not answers(f"{url}/ping"):
                said = Path(log.name).read_text()[-2000:]
                assert process.poll() is None, f"the agent ended: {said}"
                assert time.monotonic() < deadline, f"the agent did not start: {said}"
                time.sleep(0.05)
            guarded = register(gateway, url, **guarded_by(jwt_issuer.discovery_url))
            yield Deployed(framework, gateway, register(gateway, url), guarded)
        finally:
            process.terminate()


def words_of(lines: Iterator[bytes]) -> list[str]:
    return [json.loads(line.removeprefix(b"data: "))["word"] for line in lines if line]


def test_a_payload_that_the_framework_cannot_use_is_the_agents_failure(deployed: Deployed):
    with pytest.raises(ClientError) as failed:
        deployed.invoke({"no prompt": True})
    assert failed.value.response["Error"]["Code"] == "RuntimeClientError"


def test_a_token_of_another_audience_does_not_reach_the_framework(deployed: Deployed, jwt_issuer: FakeIssuer):
    token = token_of(jwt_issuer, aud="somebody-else")
    assert post(deployed.gateway, deployed.guarded, token, b'{"prompt": "a book"}').status_code == 401


def test_boto3_gets_the_answer_of_a_tool_that_got_its_credential_from_the_gateway(deployed: Deployed):
    answer = json.loads(deployed.invoke({"prompt": "a book"})["response"].read())
    assert answer == {"framework": deployed.framework, "answer": f"a book shipped with {KEY}"}


def test_boto3_gets_the_words_of_the_model_as_events(deployed: Deployed):
    response = deployed.invoke({"prompt": "a book", "stream": True})
    assert response["contentType"].startswith("text/event-stream")
    assert words_of(response["response"].iter_lines(chunk_size=1)) == ["a", "book", "shipped", "with", KEY]


def test_a_bearer_gets_the_words_of_the_model_as_events(deployed: Deployed, jwt_issuer: FakeIssuer):
    body = b'{"prompt": "a book", "stream": true}'
    response = post(deployed.gateway, deployed.guarded, token_of(jwt_issuer), body)
    assert words_of(iter(response.content.splitlines())) == ["a", "book", "shipped", "with", KEY]


def test_the_session_of_a_caller_is_kept(deployed: Deployed):
    session = "s" * 40
    first = deployed.invoke({"prompt": "a book"}, runtimeSessionId=session)
    again = deployed.invoke({"prompt": "a pen"}, runtimeSessionId=session)
    assert (first["runtimeSessionId"], again["runtimeSessionId"]) == (session, session)
