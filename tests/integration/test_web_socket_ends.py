"""When the gateway stops, both sides of an open stream are told so; and each worker holds its streams to the limit."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from tests.gateways import RunningGateway, register, running_gateway
from tests.integration.test_drain import CLEAN
from tests.web_sockets import ClientConnection, WebSocketAgent, dial_signed, end_of, until

STOPPING = (1001, "the gateway is stopping")
_MAX = 65_536


async def ended(running: RunningGateway) -> bool:
    assert running.process is not None
    return await asyncio.to_thread(running.process.wait, 20) in CLEAN


@asynccontextmanager
async def talking(stream: ClientConnection, message: str, pause: float) -> AsyncIterator[None]:
    """Send and send, without ever looking at what comes back."""

    async def talk() -> None:
        with suppress(ConnectionClosed):
            while True:
                await stream.send(message)
                await asyncio.sleep(pause)

    talker = asyncio.create_task(talk())
    yield
    talker.cancel()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stream_is_told_that_the_gateway_stops(workers: int, ws_agent: WebSocketAgent):
    with running_gateway(workers=workers, drain_timeout="60") as running:
        arn = register(running, ws_agent.url)
        streams = [await dial_signed(running, arn) for _ in range(4)]
        running.process.terminate()
        assert [await end_of(stream) for stream in streams] == [STOPPING] * 4
        assert await ended(running)
    await until(lambda: ws_agent.closes.count(1001) >= 4)


async def test_a_caller_that_talks_without_a_pause_is_told_that_the_gateway_stops(ws_agent: WebSocketAgent):
    with running_gateway(drain_timeout="60") as running:
        stream = await dial_signed(running, register(running, ws_agent.url))
        async with talking(stream, "x" * _MAX, 0.005):
            await asyncio.sleep(0.3)
            running.process.terminate()
            assert await end_of(stream) == STOPPING
        assert await ended(running)


async def test_a_caller_whose_agent_does_not_listen_is_told_that_the_gateway_stops(ws_agent: WebSocketAgent):
    with running_gateway(drain_timeout="2") as running:
        stream = await dial_signed(running, register(running, ws_agent.url))
        await stream.send('{"sleep": 6}')
        async with talking(stream, "x" * _MAX, 0.005):
            await asyncio.sleep(1.5)
            running.process.terminate()
            assert await end_of(stream) == STOPPING
        assert await ended(running)


async def test_a_caller_that_takes_nothing_and_says_goodbye_does_not_spoil_the_end_of_the_others(
    ws_agent: WebSocketAgent,
):
    with running_gateway(drain_timeout="2") as running:
        arn = register(running, ws_agent.url)
        other, greedy = await dial_signed(running, arn), await dial_signed(running, arn, max_size=None, max_queue=1)
        greedy.transport.pause_reading()
        for _ in range(20):
            await greedy.send(json.dumps({"send": 1 << 20}))
        await asyncio.sleep(1)
        greedy.transport.write(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        await asyncio.sleep(1)
        running.process.terminate()
        assert await end_of(other) == STOPPING
        assert await ended(running)
        assert "Traceback" not in running.log
        greedy.transport.abort()


async def test_the_end_of_streams_leaves_no_complaint_in_the_log(ws_agent: WebSocketAgent):
    with running_gateway() as running:
        stream = await dial_signed(running, register(running, ws_agent.url))
        await stream.send("hello")
        running.process.terminate()
        await end_of(stream)
        assert await ended(running)
        assert ("Traceback" in running.log, '"level": "error"' in running.log) == (False, False)


async def test_workers_together_hold_no_more_streams_than_each_may(ws_agent: WebSocketAgent):
    with running_gateway(workers=2, agent_max_web_sockets="2") as running:
        arn = register(running, ws_agent.url)
        async with AsyncExitStack() as stack:
            refused = []
            for _ in range(12):
                try:
                    stack.push_async_callback((await dial_signed(running, arn)).close)
                except InvalidStatus as error:
                    refused.append(error.response.status_code)
            assert set(refused) == {429}
            assert 12 - len(refused) in {2, 3, 4}
        await until(lambda: ws_agent.open == 0)
        async with await dial_signed(running, arn) as stream:
            await stream.send("a place was given back")
            assert await stream.recv() == "a place was given back"
