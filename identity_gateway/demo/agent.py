"""The demo's agent: a real one, written with the `bedrock-agentcore` SDK and its decorators.

It greets, streams, or does a task with somebody else's credentials: `parcels` with a token that the user consented to,
`depot` with a token of its own, `weather` with an API key. It never shows a credential, only what one opened.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import httpx2
from bedrock_agentcore import BedrockAgentCoreApp, RequestContext
from bedrock_agentcore.identity.auth import requires_access_token, requires_api_key
from bedrock_agentcore.runtime.context import BedrockAgentCoreContext

VENDOR_PROVIDER, KEY_PROVIDER = "demo-parcels", "demo-weather"

app = BedrockAgentCoreApp()
_links: ContextVar["asyncio.Queue[dict[str, Any]]"] = ContextVar("links")


def _tell_user(link: str) -> None:
    _links.get().put_nowait({"pleaseOpen": link})


async def _ask_vendor(access_token: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(
            os.environ["DEMO_VENDOR"] + "/parcels", headers={"authorization": f"Bearer {access_token}"}
        )
    found: dict[str, Any] = answer.json()
    return found | {"status": answer.status_code}


@requires_access_token(
    provider_name=VENDOR_PROVIDER,
    scopes=["parcels:read"],
    auth_flow="USER_FEDERATION",
    callback_url=os.environ.get("DEMO_RETURN_URL"),
    on_auth_url=_tell_user,
)
async def _parcels(*, access_token: str = "") -> dict[str, Any]:
    return await _ask_vendor(access_token)


@requires_access_token(provider_name=VENDOR_PROVIDER, scopes=["depot:read"], auth_flow="M2M")
async def _depot(*, access_token: str = "") -> dict[str, Any]:
    return await _ask_vendor(access_token)


@requires_api_key(provider_name=KEY_PROVIDER)
async def _weather(*, api_key: str = "") -> dict[str, Any]:
    return {"weather": "sunny", "askedWith": f"an API key of {len(api_key)} characters"}


TASKS = {"parcels": _parcels, "depot": _depot, "weather": _weather}


@app.entrypoint
async def answer(payload: dict[str, Any], context: RequestContext) -> Any:
    """Greet; with `{"stream": true}` one event at a time; with `{"task": …}` do the task and stream what happens."""
    if payload.get("fail"):
        message = "the demo agent was asked to fail"
        raise RuntimeError(message)
    if payload.get("stream"):
        return _events()
    if payload.get("task") in TASKS:
        return _work(payload["task"])
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


async def _work(name: str) -> AsyncIterator[dict[str, Any]]:
    """Do a task; a link that the user must open is streamed while the task waits for the consent."""
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    _links.set(said)
    task = asyncio.create_task(TASKS[name]())
    task.add_done_callback(lambda _: said.put_nowait({}))
    while event := await said.get():
        yield event
    yield {"done": name, **task.result()}


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(description="The demo's agent.")
    parser.add_argument("--port", type=int, required=True)
    app.run(port=parser.parse_args().port, host="127.0.0.1")


if __name__ == "__main__":
    main()
