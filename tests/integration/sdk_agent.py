"""An agent with every decorator of the SDK that asks for a credential. It answers with the credential itself: a test.

`{"task": …}` names one of TASKS. What happens is streamed: the link for the user, while the SDK polls, then the
credential. Providers and the return URL come from the environment, as they would in a deployment.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.identity.auth import requires_access_token, requires_api_key

VENDOR, KEY = os.environ.get("AGENT_VENDOR", "vendor"), os.environ.get("AGENT_KEY", "key")
RESOURCE = "https://agents.example/rs256"
LASTING, BRIEF = ["openid", "offline_access"], ["openid", "offline_access", "brief"]

app = BedrockAgentCoreApp()
_links: ContextVar["asyncio.Queue[dict[str, Any]]"] = ContextVar("links")


def _tell_user(link: str) -> None:
    _links.get().put_nowait({"link": link})


def _for_user(scopes: list[str], **more: Any) -> Callable[[], Awaitable[str]]:
    @requires_access_token(
        provider_name=VENDOR,
        scopes=scopes,
        auth_flow="USER_FEDERATION",
        callback_url=os.environ.get("AGENT_RETURN_URL"),
        on_auth_url=_tell_user,
        custom_parameters={"prompt": "consent"},
        **more,
    )
    async def federated(*, access_token: str = "") -> str:
        return access_token

    task: Callable[[], Awaitable[str]] = federated
    return task


@requires_access_token(provider_name=VENDOR, scopes=["agents.read"], resources=[RESOURCE], auth_flow="M2M")
async def _machine(*, access_token: str = "") -> str:
    return access_token


@requires_access_token(provider_name=VENDOR, scopes=["openid"], auth_flow="ON_BEHALF_OF_TOKEN_EXCHANGE")
async def _on_behalf(*, access_token: str = "") -> str:
    return access_token


@requires_api_key(provider_name=KEY)
async def _api_key(*, api_key: str = "") -> str:
    return api_key


@requires_api_key(provider_name=KEY, into="secret")
def _api_key_without_async(*, secret: str = "") -> str:
    return secret


async def _in_plain_function() -> str:
    secret: str = _api_key_without_async()
    return secret


TASKS = {
    "user": _for_user(LASTING),
    "user again": _for_user(LASTING, force_authentication=True),
    "brief": _for_user(BRIEF),
    "refused": _for_user([*LASTING, "extra"]),
    "machine": _machine,
    "on behalf": _on_behalf,
    "key": _api_key,
    "key in a plain function": _in_plain_function,
}


@app.entrypoint
async def answer(payload: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Do the task, and tell what happens."""
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    _links.set(said)
    task = asyncio.ensure_future(TASKS[payload["task"]]())
    task.add_done_callback(lambda _: said.put_nowait({}))
    while event := await said.get():
        yield event
    yield {"credential": task.result()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app.run(port=parser.parse_args().port, host="127.0.0.1")
