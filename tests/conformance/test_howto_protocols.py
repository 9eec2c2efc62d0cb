"""What the how-to pages of MCP, A2A and AG-UI say is run as it stands there."""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.a2a_agents import running_a2a_agent
from tests.agents import Agent
from tests.callers import token_of
from tests.conformance.test_mcp_client import Person
from tests.fakes.issuer import FakeIssuer
from tests.gateways import REGION, RunningGateway
from tests.issuers import OidcProvider
from tests.mcp_agents import running_mcp_agent

PAGES = Path(__file__).parents[2] / "docs" / "howto"


@pytest.fixture
def environment(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a reader who has pointed boto3 at a gateway."""
    key_id, secret = gateway.root_key
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for service in ("BEDROCK_AGENTCORE", "BEDROCK_AGENTCORE_CONTROL"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", gateway.url)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    return monkeypatch


def run(page: str) -> dict[str, Any]:
    """Run the Python of a page from top to bottom and return its names."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return names


async def test_the_page_about_mcp_works(
    gateway: RunningGateway, oidc_provider: OidcProvider, environment: pytest.MonkeyPatch
):
    oidc_provider.serve(gateway.url)
    environment.setenv("DISCOVERY_URL", oidc_provider.discovery_url)
    with running_mcp_agent(stateless=True) as server:
        environment.setenv("MCP_SERVER", server.url)
        names = run("mcp.md")
        assert await names["call"](names["url"], Person().provider(names["url"])) == "done"


async def test_the_page_about_a2a_works(jwt_issuer: FakeIssuer, environment: pytest.MonkeyPatch):
    environment.setenv("DISCOVERY_URL", jwt_issuer.discovery_url)
    with running_a2a_agent() as agent:
        environment.setenv("A2A_AGENT", agent.url)
        names = run("a2a.md")
        assert await names["call"](names["url"], token_of(jwt_issuer)) == "HELLO"


def test_the_page_about_ag_ui_works(gateway: RunningGateway, agent: Agent, environment: pytest.MonkeyPatch):
    environment.setenv("AG_UI_AGENT", agent.url)
    arn = run("ag-ui.md")["made"]["agentRuntimeArn"]
    answered = gateway.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b'{"status": 500}')
    event = answered["response"].read().decode()
    assert event.startswith('data: {"type": "RUN_ERROR", "code": "AGENT_ERROR", "message": "Received error (500)')
