"""Two thousand streams at once that say nothing, and one that is kept alive for what stands for an hour.

Prints what an idle stream costs the gateway in memory: `pytest -s tests/integration/test_idle_streams.py`.
"""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register, running_gateway
from tests.web_sockets import ClientConnection, WebSocketAgent, dial, dial_signed, door

STREAMS = 2000
AT_ONCE = 40
_PER_STREAM_KIB = 256
"""What an idle stream may cost at most; a buffer that is kept for each would cost more."""

# An hour in six seconds: an agent session is idle after 15 minutes, and a keep-alive comes every 15 seconds.
_SCALE = 600
_IDLE, _LIFETIME, _EVERY = 900 / _SCALE, 3600 * 3 / _SCALE, 15 / _SCALE
_KEEP_ALIVES = 3600 // 15


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """Both ends of every stream are open files of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * STREAMS + 1000
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files: ulimit -Hn {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def roomy() -> Iterator[RunningGateway]:
    """A gateway of its own for each kind of stream: memory that another kind gave back would be used again."""
    with running_gateway(agent_max_connections=str(STREAMS)) as running:
        yield running


@asynccontextmanager
async def web_socket(gateway: RunningGateway, arn: str, token: str) -> AsyncIterator[ClientConnection]:
    shown = {"Authorization": f"Bearer {token}"}
    stream = await dial(door(gateway, arn), shown, open_timeout=60, ping_interval=None)
    try:
        yield stream
    finally:
        stream.transport.abort()


@asynccontextmanager
async def event_stream(gateway: RunningGateway, arn: str, token: str) -> AsyncIterator[None]:
    """Open an event stream, read its first event, and keep it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        body = json.dumps({"stream": 2, "pause": 600}).encode()
        path = gateway.invocation_url(arn).removeprefix(gateway.url)
        head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(60):
            await reader.readuntil(b"data: 0\n\n")
        yield
    finally:
        writer.transport.abort()


def memory_of(gateway: RunningGateway) -> int:
    """Return the resident memory of the gateway in KiB."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("kind", [web_socket, event_stream], ids=["WebSocket", "SSE"])
async def test_two_thousand_idle_streams_stand_at_once_and_the_gateway_still_answers(
    roomy: RunningGateway,
    ws_agent: WebSocketAgent,
    agent: Agent,
    jwt_issuer: FakeIssuer,
    capsys: pytest.CaptureFixture[str],
    kind,
) -> None:
    arn = register(roomy, ws_agent.url if kind is web_socket else agent.url, **guarded_by(jwt_issuer.discovery_url))
    token, gate = token_of(jwt_issuer), asyncio.Semaphore(AT_ONCE)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(kind(roomy, arn, token))  # what the first one loads is not counted
        before = memory_of(roomy)

        async def one_more() -> None:
            async with gate:
                await stack.enter_async_context(kind(roomy, arn, token))

        async with asyncio.timeout(70), asyncio.TaskGroup() as group:
            for _ in range(STREAMS - 1):
                group.create_task(one_more())
        each = (memory_of(roomy) - before) / (STREAMS - 1)
        with capsys.disabled():
            print(f"\n{STREAMS} idle streams ({kind.__name__}): {each:.1f} KiB of memory each")
        assert (await asyncio.to_thread(roomy.status, "/readyz"), each < _PER_STREAM_KIB) == (200, True)


async def test_keep_alives_hold_a_silent_web_socket_for_an_hour(ws_agent: WebSocketAgent) -> None:
    with running_gateway(agent_web_socket_idle=str(_IDLE), agent_stream_timeout=str(_LIFETIME)) as running:
        async with await dial_signed(running, register(running, ws_agent.url), ping_interval=None) as stream:
            for _ in range(_KEEP_ALIVES):
                await (await stream.ping())
                await asyncio.sleep(_EVERY)
            await stream.send("still here")
            assert await stream.recv() == "still here"


async def test_keep_alives_of_an_agent_hold_an_event_stream_for_an_hour(gateway: RunningGateway, agent: Agent) -> None:
    arn = register(gateway, agent.url)
    body = {"stream": _KEEP_ALIVES, "pause": _EVERY}
    answer = await asyncio.to_thread(
        gateway.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=json.dumps(body))["response"].read
    )
    assert answer.count(b"data: ") == _KEEP_ALIVES
