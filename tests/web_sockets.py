"""Both ends of a WebSocket through the gateway: an agent that does what it is told, and callers of every kind.

`ws_agent` runs in a thread of the test process. A text message that is a JSON object is an order: `{"close": code,
"reason": …}`, `{"send": n}` (so many bytes), `{"head": true}` (the headers of its handshake), `{"cut": true}`, `{"sleep": seconds}`; whatever
else it is sent, it sends back.
"""

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.gateways import REGION, RunningGateway

SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
SENTINEL = "base64UrlBearerAuthorization"


class WebSocketAgent:
    """An agent that speaks WebSocket: where it stands, what its callers sent it, and how they closed."""

    def __init__(self) -> None:
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.closes: list[int | None] = []
        self.refuses: int | None = None
        self.open = 0
        self.url = ""

    @property
    def head(self) -> dict[str, str]:
        return self.heads[-1]

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refuses:
            return connection.respond(self.refuses, "not now\n")
        # Before the handshake is answered: a caller that is let in finds its own head here.
        self.heads.append({name.lower(): value for name, value in request.headers.raw_items()})
        self.paths.append(request.path)
        return None

    async def serve(self, connection: ServerConnection) -> None:
        self.open += 1
        try:
            while True:
                await self._answer(connection, await connection.recv())
        except ConnectionClosed:
            pass
        finally:
            self.open -= 1
            await connection.wait_closed()
            self.closes.append(connection.close_code)

    async def _answer(self, connection: ServerConnection, message: str | bytes) -> None:
        order = _order(message)
        if "close" in order:
            await connection.close(order["close"], order.get("reason", ""))
        elif "send" in order:
            await connection.send("x" * order["send"])
        elif "head" in order:
            await connection.send(json.dumps(self.head))
        elif "sleep" in order:
            await asyncio.sleep(order["sleep"])
        elif "cut" in order:
            connection.transport.abort()
        else:
            await connection.send(message)


def _order(message: str | bytes) -> dict[str, Any]:
    try:
        order = json.loads(message) if isinstance(message, str) else None
    except ValueError:
        return {}
    return order if isinstance(order, dict) else {}


@pytest.fixture(scope="session")
def _ws_agent_server() -> Iterator[WebSocketAgent]:
    agent, loop = WebSocketAgent(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> Server:
        return await serve(
            agent.serve, "127.0.0.1", 0, process_request=agent.check, compression=None, max_queue=4,
            ping_interval=None, close_timeout=1, max_size=1 << 21, backlog=1024,
        )  # fmt: skip

    server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    agent.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield agent

    async def end() -> None:
        server.close(close_connections=True)
        await server.wait_closed()

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def ws_agent(_ws_agent_server: WebSocketAgent) -> WebSocketAgent:
    """The agent, with an empty memory."""
    _ws_agent_server.heads.clear()
    _ws_agent_server.paths.clear()
    _ws_agent_server.closes.clear()
    _ws_agent_server.refuses = None
    return _ws_agent_server


def door(gateway: RunningGateway, arn: str, query: str = "qualifier=DEFAULT") -> str:
    """Return the URL of a runtime's WebSocket."""
    return f"ws://127.0.0.1:{gateway.port}/runtimes/{quote(arn, safe='')}/ws" + (f"?{query}" if query else "")


def signed_headers(
    gateway: RunningGateway, url: str, *, key: tuple[str, str] | None = None, **more: str
) -> dict[str, str]:
    """Return the headers of a signed handshake. Those in `more` are signed, too; names with _ for -."""
    request = AWSRequest(
        method="GET", url=url.replace("ws", "http", 1), headers={n.replace("_", "-"): v for n, v in more.items()}
    )
    SigV4Auth(Credentials(*(key or gateway.root_key)), "bedrock-agentcore", REGION).add_auth(request)
    return dict(request.headers.items())


def presigned(gateway: RunningGateway, url: str, *, expires: int = 300, key: tuple[str, str] | None = None) -> str:
    """Return a URL that holds its own credentials."""
    request = AWSRequest(method="GET", url=url.replace("ws", "http", 1))
    SigV4QueryAuth(Credentials(*(key or gateway.root_key)), "bedrock-agentcore", REGION, expires=expires).add_auth(
        request
    )
    return str(request.url).replace("http", "ws", 1)


def carrier(token: str) -> str:
    """Return the sub-protocol that carries a token."""
    return f"{SENTINEL}." + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()


async def dial(url: str, headers: Mapping[str, str] | None = None, **more: Any) -> ClientConnection:
    """Open a WebSocket. Raises InvalidStatus with the answer of who refuses."""
    return await connect(url, additional_headers=headers or {}, proxy=None, compression=None, **more)


async def dial_signed(gateway: RunningGateway, arn: str, **more: Any) -> ClientConnection:
    """Open a WebSocket with a signature of the root key."""
    url = door(gateway, arn)
    return await dial(url, signed_headers(gateway, url), **more)


async def end_of(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Return the code and the reason with which the other side ends the stream, whatever it says before."""
    async with asyncio.timeout(20):
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code, connection.close_reason


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that another thread or process does has happened."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
