"""The demo's agent: a real one, written with the `bedrock-agentcore` SDK. It answers JSON, or streams when asked to.

It says what the gateway told it (session, user's workload access token), and never shows a token.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp, RequestContext
from bedrock_agentcore.runtime.context import BedrockAgentCoreContext

app = BedrockAgentCoreApp()


@app.entrypoint
async def answer(payload: dict[str, Any], context: RequestContext) -> Any:
    """Greet; with `{"stream": true}` one event at a time."""
    if payload.get("fail"):
        message = "the demo agent was asked to fail"
        raise RuntimeError(message)
    if payload.get("stream"):
        return _events()
    token = BedrockAgentCoreContext.get_workload_access_token()
    return {
        "answer": f"Hello, {payload.get('prompt', 'world')}!",
        "session": context.session_id,
        "workloadAccessToken": f"received, {len(token)} characters" if token else "missing",
    }


async def _events() -> AsyncIterator[dict[str, Any]]:
    for number in range(1, 4):
        yield {"event": number, "of": 3}
        await asyncio.sleep(0.3)


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(description="The demo's agent.")
    parser.add_argument("--port", type=int, required=True)
    app.run(port=parser.parse_args().port, host="127.0.0.1")


if __name__ == "__main__":
    main()
