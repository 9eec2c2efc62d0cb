"""InvokeAgentRuntime over a socket, with real boto3."""

import json

from tests.agents import Agent
from tests.gateways import RunningGateway, register


def test_the_agent_receives_what_the_caller_sent(gateway: RunningGateway, agent: Agent):
    arn = register(gateway, agent.url)
    response = gateway.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=json.dumps({"prompt": "hello"}))
    said = json.loads(response["response"].read())
    assert (said["method"], said["path"], said["length"]) == ("POST", "/invocations", 19)


def test_the_first_event_arrives_before_the_second_is_produced(gateway: RunningGateway, agent: Agent):
    arn = register(gateway, agent.url)
    response = gateway.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=json.dumps({"stream": 2, "pause": 2}))
    lines = response["response"].iter_lines(chunk_size=1)
    assert next(lines) == b"data: 0"
    assert len(agent.started_events) == 1
