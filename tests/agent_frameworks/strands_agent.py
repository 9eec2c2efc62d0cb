"""A Strands agent behind the gateway. Its model is a script: it calls the one tool, then says what the tool answered.

The tool asks the gateway for an API key through the SDK's decorator, as the workload that the gateway said it is.
Payload: `{"prompt": …}`, with `"stream": true` for events. It runs in the environment of requirements/strands.txt.
"""

import argparse
import os
from collections.abc import AsyncIterator
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.identity.auth import requires_api_key
from strands import Agent, tool
from strands.models import Model

app = BedrockAgentCoreApp()


@requires_api_key(provider_name=os.environ.get("AGENT_KEY", "key"))
async def _key(*, api_key: str = "") -> str:
    return api_key


@tool
async def ship(parcel: str) -> str:
    """Ship a parcel.

    Args:
        parcel: What to ship.
    """
    return f"{parcel} shipped with {await _key()}"


class ScriptedModel(Model):
    """Asks for the tool with the user's words, then repeats its result word by word."""

    def update_config(self, **_: Any) -> None:
        """Change nothing: there is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """Return an empty configuration."""
        return {}

    async def structured_output(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        """Refuse: no test asks for it."""
        raise ValueError("the script has no structured output")
        yield {}

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Say the next line of the script."""
        said = messages[-1]["content"][0]
        yield {"messageStart": {"role": "assistant"}}
        if "toolResult" in said:
            yield {"contentBlockStart": {"start": {}}}
            for word in said["toolResult"]["content"][0]["text"].split():
                yield {"contentBlockDelta": {"delta": {"text": f"{word} "}}}
            reason = "end_turn"
        else:
            call = {"name": "ship", "toolUseId": "call-1"}
            yield {"contentBlockStart": {"start": {"toolUse": call}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"parcel": "' + said["text"] + '"}'}}}}
            reason = "tool_use"
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": reason}}


async def _words(prompt: str) -> AsyncIterator[str]:
    agent = Agent(model=ScriptedModel(), tools=[ship], callback_handler=None)
    async for event in agent.stream_async(prompt):
        if "data" in event:
            yield event["data"]


@app.entrypoint
async def answer(payload: dict[str, Any]) -> Any:
    """Answer with JSON, or with an event for each word."""
    words = _words(payload["prompt"])
    if payload.get("stream"):
        return ({"word": word.strip()} async for word in words)
    return {"framework": "strands", "answer": "".join([word async for word in words]).strip()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app.run(port=parser.parse_args().port, host="127.0.0.1")
