"""Streams between a caller and an agent: what passes, how each end reaches the other side, and which limits end one."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.utils import accept_key

from identity_gateway.errors import AgentFailed, Throttled
from identity_gateway.invocation import Addresses
from identity_gateway.invocation.web_sockets import StreamLimits, Streams
from identity_gateway.upstream import AgentSockets, Ended, Origin
from tests.fakes.clock import Clock

Said = str | bytes | Ended | Exception
LONG = StreamLimits(idle=30, lifetime=30, leeway=60)
NOWHERE = Origin("http", "127.0.0.1", 1)


@dataclass
class Script:
    """A caller who says what is put into `says`, and keeps what it was told."""

    says: "asyncio.Queue[Said]" = field(default_factory=asyncio.Queue)
    told: list[str | bytes] = field(default_factory=list)
    closed: list[Ended] = field(default_factory=list)
    gone: bool = False
    heard: Callable[[], float] = lambda: 0.0

    def last_frame(self) -> float:
        return self.heard()

    async def next(self) -> str | bytes | Ended:
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def pass_on(self, message: str | bytes) -> Ended | None:
        self.told.append(message)
        return Ended(1006) if self.gone else None

    async def close(self, ended: Ended) -> None:
        self.closed.append(ended)


class Agent:
    """An agent: what it was sent, how it was closed, and what it does for each message."""

    def __init__(self) -> None:
        self.received: list[str | bytes] = []
        self.closes: list[tuple[int | None, str | None]] = []
        self.answer: Callable[[ServerConnection, str | bytes], Awaitable[None]] = self.echo
        self.refusal: tuple[int, str] | None = None
        self.origin = NOWHERE

    @staticmethod
    async def echo(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message)

    def check(self, connection: ServerConnection, _request: Request) -> Response | None:
        return connection.respond(*self.refusal) if self.refusal else None

    async def __call__(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in connection:
                self.received.append(message)
                await self.answer(connection, message)
        await connection.wait_closed()
        self.closes.append((connection.close_code, connection.close_reason))


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    made = Agent()
    options = {"process_request": made.check, "compression": None, "ping_interval": None, "close_timeout": 1}
    async with serve(made, "127.0.0.1", 0, **options) as server:
        made.origin = Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])
        yield made


@pytest.fixture
async def sockets() -> AsyncIterator[AgentSockets]:
    made = AgentSockets(max_streams=2, connect_timeout=5)
    yield made
    await made.aclose()


@pytest.fixture
def addresses(clock: Clock) -> Addresses:
    return Addresses(clock=clock)


@pytest.fixture
def streams(sockets: AgentSockets, addresses: Addresses, clock: Clock) -> Streams:
    return Streams(sockets, addresses, LONG, clock=clock)


async def ended(streams: Streams, agent: Agent, *said: Said, expires_at: float | None = None) -> tuple[Ended, Script]:
    """Relay what a caller says until the stream ends, and return how."""
    caller = Script()
    for each in said:
        caller.says.put_nowait(each)
    opened = await streams.open([agent.origin], b"/ws", [])
    async with asyncio.timeout(10):
        return await streams.relay(caller, opened, expires_at=expires_at), caller


async def closes_of(agent: Agent) -> list[tuple[int | None, str | None]]:
    """Return how the agent's one stream was closed, once it knows."""
    async with asyncio.timeout(10):
        while not agent.closes:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
    return agent.closes


# --- Opening ---


async def test_a_refusal_of_the_agent_is_the_agents_failure_and_holds_nothing_unprintable(
    streams: Streams, agent: Agent
):
    agent.refusal = (403, "not\x1b[31m you\n")
    with pytest.raises(AgentFailed, match=r"\(403\) from runtime\. The agent said: not \[31m you$"):
        await streams.open([agent.origin], b"/ws", [])


async def test_an_agent_at_no_address_has_failed(streams: Streams):
    with pytest.raises(AgentFailed, match="did not open"):
        await streams.open([NOWHERE], b"/ws", [])


async def test_no_more_streams_are_opened_than_may_be(streams: Streams, agent: Agent):
    opened = [await streams.open([agent.origin], b"/ws", []) for _ in range(2)]
    with pytest.raises(Throttled):
        await streams.open([agent.origin], b"/ws", [])
    await streams.abandon(opened[0])
    await streams.abandon(await streams.open([agent.origin], b"/ws", []))
    await streams.abandon(opened[1])


async def test_refused_handshakes_take_no_places(streams: Streams, agent: Agent):
    agent.refusal = (403, "")
    for _ in range(3):
        with pytest.raises(AgentFailed):
            await streams.open([agent.origin], b"/ws", [])
    agent.refusal = None
    await streams.abandon(await streams.open([agent.origin], b"/ws", []))


async def test_an_opening_that_is_given_up_takes_no_place(streams: Streams, agent: Agent):
    async with mute() as origin:
        for _ in range(3):
            opening = asyncio.create_task(streams.open([origin], b"/ws", []))
            await asyncio.sleep(0.02)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
    await streams.abandon(await streams.open([agent.origin], b"/ws", []))


async def test_the_next_address_is_tried_when_one_takes_no_connection(
    streams: Streams, agent: Agent, addresses: Addresses
):
    await streams.abandon(await streams.open([NOWHERE, agent.origin], b"/ws", []))
    assert addresses.in_order([NOWHERE, agent.origin], "any session")[-1] == NOWHERE


async def test_the_next_address_is_not_tried_when_an_agent_has_answered(streams: Streams, agent: Agent):
    agent.refusal = (500, "")
    with pytest.raises(AgentFailed, match="500"):
        await streams.open([agent.origin, NOWHERE], b"/ws", [])


@asynccontextmanager
async def mute() -> AsyncIterator[Origin]:
    """Run an agent that takes connections and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(1024):
                pass
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])


async def test_an_agent_that_pings_and_pings_and_does_not_read_is_cut_off(streams: Streams):
    ping = Frame(Opcode.PING, b"x" * 125).serialize(mask=False) * 500

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
        assert key is not None
        fields = f"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept_key(key[1].decode())}"
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\n".encode())
        with suppress(ConnectionError):
            while True:
                writer.write(ping)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server, asyncio.timeout(10):
        origin = Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])
        end = await streams.relay(Script(), await streams.open([origin], b"/ws", []), expires_at=None)
    assert end.code == 1011


# --- How a stream ends ---


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (Ended(1000, "bye"), (1000, "bye")),
        (Ended(4001, "mine"), (4001, "mine")),
        (Ended(1005), (1000, "")),
        (Ended(1006), (1001, "")),
        (Ended(1015), (1011, "")),
        (Ended(999), (1011, "")),
        (Ended(2500, "?"), (1011, "")),
        (Ended(5000), (1011, "")),
        (Ended(1008, "ä" * 80), (1008, "ä" * 61)),
        (RuntimeError("a fault"), (1011, "")),
    ],
    ids=str,
)
async def test_the_agent_hears_how_the_caller_ended(streams: Streams, agent: Agent, said: Said, heard: tuple[int, str]):
    await ended(streams, agent, said)
    assert await closes_of(agent) == [heard]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_the_caller_hears_how_the_agent_ended(streams: Streams, agent: Agent, code: int):
    agent.answer = lambda connection, _: connection.close(code, "done")
    end, caller = await ended(streams, agent, "go")
    assert (end, caller.closed) == (Ended(code, "done"), [Ended(code, "done")])


async def test_a_caller_whose_agent_was_cut_off_hears_so(streams: Streams, agent: Agent):
    async def cut(connection: ServerConnection, _message: str | bytes) -> None:
        connection.transport.abort()

    agent.answer = cut
    _, caller = await ended(streams, agent, "go")
    assert caller.closed == [Ended(1011, "the agent ended the connection")]


async def test_what_a_caller_says_before_it_leaves_reaches_the_agent(streams: Streams, agent: Agent):
    await ended(streams, agent, "one", b"two", Ended(1000))
    await closes_of(agent)
    assert agent.received == ["one", b"two"]


async def test_what_an_agent_says_before_it_leaves_reaches_the_caller(streams: Streams, agent: Agent):
    async def many(connection: ServerConnection, _message: str | bytes) -> None:
        for number in range(20):
            await connection.send(str(number))
        await connection.close()

    agent.answer = many
    _, caller = await ended(streams, agent, "go")
    assert caller.told == [str(number) for number in range(20)]


async def test_both_sides_are_told_when_the_gateway_cuts_a_stream(streams: Streams, agent: Agent):
    caller, opened = Script(), await streams.open([agent.origin], b"/ws", [])
    relaying = asyncio.create_task(streams.relay(caller, opened, expires_at=None))
    await asyncio.sleep(0.02)
    relaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relaying
    told = Ended(1001, "the gateway is stopping")
    assert (caller.closed, await closes_of(agent)) == ([told], [(told.code, told.reason)])


async def test_streams_that_have_ended_give_their_places_back(streams: Streams, agent: Agent):
    for _ in range(3):
        end, _ = await ended(streams, agent, "one", Ended(1000))
        assert end == Ended(1000)


# --- Limits ---


async def test_a_silent_stream_ends(sockets: AgentSockets, addresses: Addresses, agent: Agent, clock: Clock):
    hasty = Streams(sockets, addresses, StreamLimits(idle=0.05, lifetime=30, leeway=0), clock=clock)
    assert (await ended(hasty, agent))[0] == Ended(1001, "nothing was said for too long")


async def test_frames_of_the_caller_keep_a_stream_until_it_has_lasted_long_enough(
    sockets: AgentSockets, addresses: Addresses, agent: Agent, clock: Clock
):
    hasty = Streams(sockets, addresses, StreamLimits(idle=0.1, lifetime=0.4, leeway=0), clock=clock)
    caller = Script(heard=asyncio.get_running_loop().time)
    opened = await hasty.open([agent.origin], b"/ws", [])
    end = await hasty.relay(caller, opened, expires_at=None)
    assert end == Ended(1001, "the stream has lasted as long as one may")


@pytest.mark.parametrize("left", [0.05, -60.0, -1000.0])
async def test_a_stream_ends_with_its_token(
    sockets: AgentSockets, addresses: Addresses, agent: Agent, clock: Clock, left: float
):
    strict = Streams(sockets, addresses, StreamLimits(idle=30, lifetime=30, leeway=0), clock=clock)
    end, caller = await ended(strict, agent, expires_at=clock() + left)
    assert (end.code, caller.closed, await closes_of(agent)) == (1008, [end], [(end.code, end.reason)])


async def test_a_stream_outlives_its_token_by_the_leeway_of_the_door(
    sockets: AgentSockets, addresses: Addresses, agent: Agent, clock: Clock
):
    lenient = Streams(sockets, addresses, StreamLimits(idle=30, lifetime=0.1, leeway=60), clock=clock)
    end, _ = await ended(lenient, agent, expires_at=clock() - 30)
    assert end.code == 1001
