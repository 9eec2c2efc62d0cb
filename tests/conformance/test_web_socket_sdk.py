"""The official SDK's own WebSocket credentials, unchanged, against a gateway with a name that the SDK accepts."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.callers import guarded_by, token_of
from tests.conformance.test_bearer_challenge import TlsGateway
from tests.fakes.authority import Authority
from tests.fakes.issuer import FakeIssuer
from tests.gateways import REGION, register
from tests.web_sockets import SESSION, ClientConnection, WebSocketAgent, dial

HOST = "agents.gateway.api.aws"  # the SDK refuses hosts outside AWS's domains, whatever port they have
SESSION_ID = "a-session-that-is-long-enough-for-aws-0001"
CUSTOM = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant"

_ASK = """
import json, sys
from bedrock_agentcore.runtime import AgentCoreRuntimeClient
method, arguments = json.loads(sys.argv[1])
print(json.dumps(getattr(AgentCoreRuntimeClient(region="us-east-1"), method)(**arguments)))
"""


class NamedGateway(TlsGateway):
    """A gateway whose certificate names HOST, too."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        self.trust = authority.trust()
        certified = str(authority.certify("127.0.0.1", HOST))
        names = ("IDENTITY_GATEWAY_TLS_CERT_FILE", "IDENTITY_GATEWAY_TLS_KEY_FILE")
        self.environment |= dict.fromkeys(names, certified)


@pytest.fixture(scope="module")
def named() -> Iterator[NamedGateway]:
    folder = Path(tempfile.mkdtemp(prefix="gateway-sdk-"))
    running = NamedGateway(folder, Authority(folder))
    try:
        yield running.start()
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)


def made_by_sdk(gateway: NamedGateway, method: str, **arguments: object) -> tuple[str, dict[str, str]]:
    """Return the URL and the headers that the SDK makes; it reads where the gateway is from its environment."""
    key_id, secret = gateway.root_key
    environment = os.environ | {
        "BEDROCK_AGENTCORE_DP_ENDPOINT": f"https://{HOST}:{gateway.port}",
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
    }
    command = [sys.executable, "-c", _ASK, json.dumps([method, arguments])]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    made = json.loads(said)
    return (made, {}) if isinstance(made, str) else (made[0], made[1])


async def enter(gateway: NamedGateway, made: tuple[str, dict[str, str]]) -> ClientConnection:
    """Use what the SDK made; the name stands in for a line in the DNS. The client writes the handshake's own headers."""
    url, headers = made
    own = ("host", "upgrade", "connection", "user-agent", "sec-websocket-")
    shown = {name: value for name, value in headers.items() if not name.lower().startswith(own)}
    trust: ssl.SSLContext = gateway.trust
    return await dial(url, shown, host="127.0.0.1", port=gateway.port, ssl=trust)


@pytest.fixture
def runtime(named: NamedGateway, ws_agent: WebSocketAgent) -> str:
    return register(named, ws_agent.url, requestHeaderConfiguration={"requestHeaderAllowlist": [CUSTOM]})


async def test_the_signed_headers_of_the_sdk_open_a_stream(
    named: NamedGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    made = made_by_sdk(
        named, "generate_ws_connection", runtime_arn=runtime, session_id=SESSION_ID, endpoint_name="DEFAULT"
    )
    async with await enter(named, made) as stream:
        await stream.send("hello")
        assert await stream.recv() == "hello"
    assert ws_agent.head[SESSION] == SESSION_ID


async def test_the_presigned_url_of_the_sdk_opens_a_stream_though_it_signs_the_host_without_its_port(
    named: NamedGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    made = made_by_sdk(
        named, "generate_presigned_url", runtime_arn=runtime, session_id=SESSION_ID, custom_headers={CUSTOM: "blue"}
    )
    async with await enter(named, made) as stream:
        await stream.send("hello")
        assert await stream.recv() == "hello"
    assert (ws_agent.head[SESSION], ws_agent.head[CUSTOM.lower()]) == (SESSION_ID, "blue")


async def test_the_bearer_headers_of_the_sdk_open_a_stream(
    named: NamedGateway, ws_agent: WebSocketAgent, jwt_issuer: FakeIssuer
) -> None:
    arn = register(named, ws_agent.url, **guarded_by(jwt_issuer.discovery_url))
    made = made_by_sdk(
        named,
        "generate_ws_connection_oauth",
        runtime_arn=arn,
        bearer_token=token_of(jwt_issuer),
        session_id=SESSION_ID,
    )
    async with await enter(named, made) as stream:
        await stream.send("hello")
        assert await stream.recv() == "hello"
    assert ws_agent.head[SESSION] == SESSION_ID
