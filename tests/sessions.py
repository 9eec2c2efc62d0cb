"""Callers that keep a session, and agents of which there are several: what tests of sessions and addresses share.

`running_agents` runs agents that can be stopped one by one; `invoke` is a signed call with a session, a user, and headers
that its signature covers or does not.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.agents import Agent
from tests.gateways import RunningGateway
from tests.mcp_agents import running_app

SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
WAT = "x-amz-bedrock-agentcore-identity-wat"


class StoppableAgent(Agent):
    """An agent that ends before its test does, and may begin again on the same port."""

    def __init__(self) -> None:
        super().__init__()
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(running_app(self, self.port))

    def stop(self) -> None:
        self._running.close()


@contextmanager
def running_agents(count: int) -> Iterator[list[StoppableAgent]]:
    """Run some agents, each on a port of its own."""
    agents = [StoppableAgent() for _ in range(count)]
    for agent in agents:
        agent.start()
    try:
        yield agents
    finally:
        for agent in agents:
            agent.stop()


def new_session() -> str:
    """Return a session id that nobody has used."""
    return f"session-{uuid.uuid4()}"


def invoke(
    gateway: RunningGateway,
    arn: str,
    *,
    session: str | None = None,
    user: str | None = None,
    key: tuple[str, str] | None = None,
    signed: Mapping[str, str] | None = None,
    unsigned: Mapping[str, str] | None = None,
    payload: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """Invoke an agent with boto3 and return what it answers; `signed` and `unsigned` are further headers."""
    client = gateway.client("bedrock-agentcore", key=key)

    def add(headers: Mapping[str, str] | None, request: Any) -> None:
        for name, value in (headers or {}).items():
            request.headers[name] = value

    client.meta.events.register("before-sign.*.*", lambda request, **_: add(signed, request))
    client.meta.events.register("before-send.*.*", lambda request, **_: add(unsigned, request))
    given = {"runtimeSessionId": session, "runtimeUserId": user} | more
    answer = client.invoke_agent_runtime(
        agentRuntimeArn=arn, payload=json.dumps(payload or {}), **{k: v for k, v in given.items() if v is not None}
    )
    return dict(json.loads(answer["response"].read()))


def heard(agent: Agent) -> dict[str, str]:
    """Return the headers of the last call that reached an agent."""
    return {name.lower(): value for name, value in agent.last["headers"]}
