"""Real MCP servers as agents: the official package's, stateless and stateful, run with uvicorn in a thread.

Tools: `whoami` tells what the server was told of its caller, `count` how often it was called in this session, `report`
sends progress on the way, `slow` waits. `running_mcp_agent(stateless=…)`; a test that restarts its agent gives the port.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from tests.gateways import free_port


@dataclass
class McpAgent:
    """A running server: the URL to register, and the heads of the requests that reached it."""

    url: str
    received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        return [head["method"] for head in self.received]


def server() -> MCPServer[Any]:
    made = MCPServer("tools", version="1.0.0")
    counts: Counter[str] = Counter()

    @made.tool()
    async def whoami(ctx: Context[Any, Any]) -> str:
        """Tell what the server was told of its caller."""
        headers = ctx.headers or {}
        return headers.get("x-amzn-bedrock-agentcore-runtime-session-id", "nobody")

    @made.tool()
    async def count(ctx: Context[Any, Any]) -> int:
        """Count the calls of this session."""
        session = (ctx.headers or {}).get("mcp-session-id", "")
        counts[session] += 1
        return counts[session]

    @made.tool()
    async def report(steps: int, ctx: Context[Any, Any]) -> str:
        """Report progress, then end."""
        for step in range(steps):
            await ctx.report_progress(step + 1, steps)
        return "done"

    @made.tool()
    async def slow(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return "slept"

    return made


@contextmanager
def running_app(app: Any, port: int, *, lifespan: Any = "off") -> Iterator[None]:
    """Run an ASGI application in a thread."""
    config = uvicorn.Config(
        app, port=port, log_level="error", access_log=False, lifespan=lifespan, timeout_graceful_shutdown=1
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        running.should_exit = True
        thread.join(10)


@contextmanager
def running_mcp_agent(*, stateless: bool, port: int | None = None) -> Iterator[McpAgent]:
    """Run an MCP server of its own."""
    port = port or free_port()
    agent = McpAgent(f"http://127.0.0.1:{port}")
    app = server().streamable_http_app(stateless_http=stateless)

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            agent.received.append({"method": scope["method"], "path": scope["path"], "headers": headers})
        await app(scope, receive, send)

    with running_app(watched, port, lifespan="on"):
        yield agent
