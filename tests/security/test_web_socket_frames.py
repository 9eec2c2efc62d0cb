"""Streams that take more than their share: too much at once, too often, for too long, or without ever being read."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register, running_gateway
from tests.web_sockets import ClientConnection, WebSocketAgent, dial, dial_signed, door, end_of, until

_MAX = 65_536


@pytest.fixture
def runtime(gateway: RunningGateway, ws_agent: WebSocketAgent) -> str:
    return register(gateway, ws_agent.url)


@pytest.fixture(scope="module")
def hasty() -> Iterator[RunningGateway]:
    """A gateway whose streams may be silent for one second and last for three."""
    with running_gateway(agent_web_socket_idle="1", agent_stream_timeout="3", request_head_timeout="1") as running:
        yield running


def frames(stream: ClientConnection, *sent: tuple[Opcode, bytes, bool]) -> None:
    """Send frames as they are, whether or not they make sense."""
    data = [Frame(opcode, data, fin).serialize(mask=True) for opcode, data, fin in sent]
    stream.transport.write(b"".join(data))


async def test_a_message_of_the_largest_size_passes(gateway: RunningGateway, runtime: str) -> None:
    async with await dial_signed(gateway, runtime) as stream:
        await stream.send("x" * _MAX)
        assert len(await stream.recv()) == _MAX


async def test_a_message_above_the_largest_size_ends_the_stream(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    stream = await dial_signed(gateway, runtime)
    await stream.send("x" * (_MAX + 1))
    assert (await end_of(stream))[0] == 1009
    await until(lambda: 1009 in ws_agent.closes)


async def test_a_message_in_pieces_is_as_large_as_all_of_them(gateway: RunningGateway, runtime: str) -> None:
    stream = await dial_signed(gateway, runtime)
    frames(stream, (Opcode.BINARY, b"x" * _MAX, False), (Opcode.CONT, b"x", True))
    assert (await end_of(stream))[0] == 1009


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.PING, Opcode.PONG])
async def test_more_frames_in_a_second_than_are_allowed_end_the_stream(
    gateway: RunningGateway, runtime: str, opcode: Opcode
) -> None:
    stream = await dial_signed(gateway, runtime)
    frames(stream, *[(opcode, b"", True)] * 600)
    assert (await end_of(stream))[0] == 1008


async def test_a_message_in_endless_empty_pieces_ends_the_stream(gateway: RunningGateway, runtime: str) -> None:
    stream = await dial_signed(gateway, runtime)
    frames(stream, (Opcode.TEXT, b"", False), *[(Opcode.CONT, b"", False)] * 600)
    assert (await end_of(stream))[0] == 1008


async def test_a_frame_that_is_not_masked_ends_the_stream(gateway: RunningGateway, runtime: str) -> None:
    stream = await dial_signed(gateway, runtime)
    stream.transport.write(Frame(Opcode.TEXT, b"x").serialize(mask=False))
    assert (await end_of(stream))[0] == 1002


async def test_text_that_is_not_utf_8_ends_the_stream(gateway: RunningGateway, runtime: str) -> None:
    stream = await dial_signed(gateway, runtime)
    frames(stream, (Opcode.TEXT, b"\xff\xfe", True))
    assert (await end_of(stream))[0] == 1007


async def test_a_silent_stream_ends(hasty: RunningGateway, ws_agent: WebSocketAgent) -> None:
    stream = await dial_signed(hasty, register(hasty, ws_agent.url))
    assert await end_of(stream) == (1001, "nothing was said for too long")
    await until(lambda: 1001 in ws_agent.closes)


async def test_pings_keep_a_stream_until_it_has_lasted_as_long_as_it_may(
    hasty: RunningGateway, ws_agent: WebSocketAgent
) -> None:
    stream = await dial_signed(hasty, register(hasty, ws_agent.url), ping_interval=0.3)
    began = time.monotonic()
    assert await end_of(stream) == (1001, "the stream has lasted as long as one may")
    assert time.monotonic() - began >= 2.5


async def test_a_stream_ends_with_the_token_that_opened_it(
    gateway: RunningGateway, ws_agent: WebSocketAgent, jwt_issuer: FakeIssuer
) -> None:
    arn = register(gateway, ws_agent.url, **guarded_by(jwt_issuer.discovery_url))
    token = token_of(jwt_issuer, exp=int(time.time()) - 57)  # still good for three seconds of the leeway
    stream = await dial(door(gateway, arn), {"Authorization": f"Bearer {token}"})
    assert await end_of(stream) == (1008, "the token that opened the stream has expired")


async def test_a_caller_who_reads_nothing_is_cut_off(hasty: RunningGateway, ws_agent: WebSocketAgent) -> None:
    stream = await dial_signed(hasty, register(hasty, ws_agent.url), max_queue=1, max_size=None)
    await stream.send(json.dumps({"send": 1 << 20}))
    stream.transport.pause_reading()
    for _ in range(40):
        try:
            await stream.send(json.dumps({"send": 1 << 20}))
        except ConnectionClosed:
            break
        await asyncio.sleep(0.02)
    await until(lambda: bool(ws_agent.closes))
    stream.transport.abort()


async def test_an_agent_that_reads_nothing_makes_its_caller_wait(
    hasty: RunningGateway, ws_agent: WebSocketAgent
) -> None:
    stream = await dial_signed(hasty, register(hasty, ws_agent.url), max_size=None)
    await stream.send(json.dumps({"sleep": 5}))
    taken = 0
    with suppress(TimeoutError, ConnectionClosed):
        async with asyncio.timeout(2.5):
            while True:
                await stream.send("x" * _MAX)
                taken += _MAX
                await asyncio.sleep(0.005)  # below the rate of frames that is allowed: 30 MB in this time
    assert taken < 24_000_000
    stream.transport.abort()
