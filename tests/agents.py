"""A real agent server for tests: it tells what it received, streams, fails, or stays silent, as the payload asks.

`agent` runs it with uvicorn in a thread of the test process. Payloads: `{"echo": …}` (default), `{"stream": n,
"pause": seconds}`, `{"status": 500, "body": …}`, `{"sleep": seconds}`; a body that is not JSON is measured.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tests.gateways import free_port


class Agent:
    """What the server received, in order, and the URL to register."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.received: list[dict[str, Any]] = []
        self.cancelled = threading.Event()
        self.started_events: list[float] = []

    @property
    def last(self) -> dict[str, Any]:
        return self.received[-1]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        digest, length, kept = hashlib.sha256(), 0, b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.received.append({"cut": True, "length": length})
                return
            chunk = message.get("body", b"")
            digest.update(chunk)
            length += len(chunk)
            kept = (kept + chunk)[:65536]
            if not message.get("more_body"):
                break
        head = {
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "length": length,
            "sha256": digest.hexdigest(),
        }
        self.received.append(head)
        await self._answer(head, self._asked(kept), receive, send)

    @staticmethod
    def _asked(body: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(body)
        except ValueError:
            return {}
        return asked if isinstance(asked, dict) else {}

    async def _answer(self, head: dict[str, Any], asked: dict[str, Any], receive: Any, send: Any) -> None:
        if "sleep" in asked:
            await self._sleep(asked["sleep"], receive)
        headers = [(name.encode(), value.encode()) for name, value in asked.get("headers", {}).items()]
        if "stream" in asked:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", b"text/event-stream"), *headers],
                }
            )
            for number in range(asked["stream"]):
                self.started_events.append(time.monotonic())
                await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
                await self._sleep(asked.get("pause", 0), receive)
            await send({"type": "http.response.body", "body": b""})
            return
        if "bytes" in asked:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", b"application/octet-stream")],
                }
            )
            left = asked["bytes"]
            while left > 0:
                part = min(left, 1 << 16)
                await send({"type": "http.response.body", "body": b"x" * part, "more_body": True})
                left -= part
            await send({"type": "http.response.body", "body": b""})
            return
        body = asked["body"].encode() if "body" in asked else json.dumps(head).encode()
        headers = headers or [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": asked.get("status", 200), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _sleep(self, seconds: float, receive: Any) -> None:
        """Wait, but notice when the gateway hangs up."""
        left = asyncio.create_task(receive())
        done, _ = await asyncio.wait({left}, timeout=seconds)
        if done:
            self.cancelled.set()
        else:
            left.cancel()


@pytest.fixture(scope="session")
def _agent_server() -> Iterator[Agent]:
    agent = Agent()
    server = uvicorn.Server(uvicorn.Config(agent, port=agent.port, log_level="error", lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield agent
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def agent(_agent_server: Agent) -> Agent:
    """The agent, with an empty memory."""
    _agent_server.received.clear()
    _agent_server.cancelled.clear()
    _agent_server.started_events.clear()
    return _agent_server
