"""Bytes pass through while they are made, in both directions; and whoever hangs up stops the work on the other side.

No test measures time. The agents here are scripts that wait for what the caller has seen, so that a gateway which holds
bytes back lets a test run into its bound.
"""

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import httpx2
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tests.callers import guarded_by, post, token_of
from tests.fakes.agent import ScriptedAgent, answer, read_head, read_request
from tests.fakes.issuer import FakeIssuer
from tests.fakes.sigv4_client import signed
from tests.gateways import RunningGateway, register, running_gateway

BOUND = 20.0
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [b"data: %d\n\n" % number for number in range(3)]
END = b"0\r\n\r\n"

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


@pytest.fixture
def token(jwt_issuer: FakeIssuer) -> str:
    return token_of(jwt_issuer)


@pytest.fixture(scope="module")
def hasty() -> Iterator[RunningGateway]:
    """A gateway whose patience with answers ends soon."""
    with running_gateway(agent_sync_timeout="1", agent_stream_timeout="1") as running:
        yield running


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def echo(reader: Reader, writer: Writer) -> None:
    """Answer every request with its own body."""
    with suppress(asyncio.IncompleteReadError):
        while True:
            writer.write(answer((await read_request(reader)).body))
            await writer.drain()


def request_head(gateway: RunningGateway, arn: str, token: str, *more: str) -> bytes:
    """Return the head of an invocation with a bearer token, as it stands on the wire."""
    target = gateway.invocation_url(arn).removeprefix(gateway.url)
    lines = (f"POST {target} HTTP/1.1", f"host: 127.0.0.1:{gateway.port}", f"authorization: Bearer {token}", *more)
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def connected(gateway: RunningGateway) -> AsyncIterator[tuple[Reader, Writer]]:
    """Open a connection to the gateway, and drop it at the end without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def called(
    gateway: RunningGateway, arn: str, token: str, body: AsyncIterator[bytes] | bytes = b"{}", **headers: str
) -> AsyncIterator[httpx2.Response]:
    """Invoke with a bearer token, and give the response when its head is there."""
    sent = {"authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=BOUND) as http,
        http.stream("POST", gateway.invocation_url(arn), content=body, headers=sent) as response,
    ):
        yield response


async def read_answer(reader: Reader) -> bytes | None:
    """Return the body of the next answer on a connection, or None when the gateway has ended it."""
    try:
        head = await read_head(reader)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    return await reader.readexactly(int(head.header(b"content-length") or 0))


# --- Whoever hangs up stops the work ---------------------------------------------------------------------------------


class Waiting:
    """An agent that answers with `said` and then waits for the end of its connection."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        self.asked.set()
        writer.write(self._said)
        with suppress(ConnectionError):
            await reader.read()
        self.left.set()


async def test_a_caller_who_hangs_up_before_the_answer_stops_the_agent(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    script = Waiting(b"")
    async with asyncio.timeout(BOUND), ScriptedAgent(script) as silent:
        arn = register(gateway, str(silent.origin), **guarded_by(jwt_issuer.discovery_url))
        async with connected(gateway) as (_, writer):
            writer.write(request_head(gateway, arn, token, "content-length: 2") + b"{}")
            await script.asked.wait()
            assert not script.left.is_set()
        await script.left.wait()


async def test_a_caller_who_hangs_up_in_the_middle_of_a_stream_stops_the_agent(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    script = Waiting(STREAM + chunk(EVENTS[0]))
    async with asyncio.timeout(BOUND), ScriptedAgent(script) as endless:
        arn = register(gateway, str(endless.origin), **guarded_by(jwt_issuer.discovery_url))
        async with called(gateway, arn, token) as response:
            assert await anext(response.aiter_raw()) == EVENTS[0]
            assert not script.left.is_set()
        await script.left.wait()


async def test_boto3_that_gives_up_stops_the_agent(gateway: RunningGateway):
    script = Waiting(b"")
    impatient = gateway.client("bedrock-agentcore", read_timeout=1)
    async with asyncio.timeout(BOUND), ScriptedAgent(script) as silent:
        arn = register(gateway, str(silent.origin))
        with pytest.raises(ReadTimeoutError):
            await asyncio.to_thread(impatient.invoke_agent_runtime, agentRuntimeArn=arn, payload=b"{}")
        await script.left.wait()


@pytest.mark.parametrize(
    ("framing", "part"),
    [("content-length: 100", b"half of it"), ("transfer-encoding: chunked", chunk(b"half of it"))],
    ids=["known length", "chunks"],
)
async def test_a_caller_who_hangs_up_while_sending_leaves_the_agent_half_a_request(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str, framing: str, part: bytes
):
    begun, whole = asyncio.Event(), []

    async def script(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        begun.set()
        whole.append(await reader.read())

    async with asyncio.timeout(BOUND), ScriptedAgent(script) as listening:
        arn = register(gateway, str(listening.origin), **guarded_by(jwt_issuer.discovery_url))
        async with connected(gateway) as (_, writer):
            writer.write(request_head(gateway, arn, token, framing) + part)
            await begun.wait()
        await listening.finished()
    assert b"half of it" in whole[0]
    assert END not in whole[0]


async def test_a_caller_who_hangs_up_while_sending_stops_an_agent_that_answers_already(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    left = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(STREAM + chunk(EVENTS[0]))
        with suppress(ConnectionError):
            await reader.read()
        left.set()

    async with asyncio.timeout(BOUND), ScriptedAgent(script) as early:
        arn = register(gateway, str(early.origin), **guarded_by(jwt_issuer.discovery_url))
        async with connected(gateway) as (reader, writer):
            writer.write(request_head(gateway, arn, token, "content-length: 100") + b"half of it")
            await reader.readuntil(EVENTS[0])
        await left.wait()


@pytest.mark.parametrize(
    "said",
    [STREAM + chunk(EVENTS[0]), b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it"],
    ids=["an event stream", "a whole answer"],
)
async def test_an_answer_that_takes_too_long_is_cut_on_both_sides(
    hasty: RunningGateway, jwt_issuer: FakeIssuer, token: str, said: bytes
):
    script = Waiting(said)
    async with asyncio.timeout(BOUND), ScriptedAgent(script) as endless:
        arn = register(hasty, str(endless.origin), **guarded_by(jwt_issuer.discovery_url))
        with pytest.raises(httpx2.RemoteProtocolError):
            await asyncio.to_thread(post, hasty, arn, token)
        await script.left.wait()


async def test_an_agent_that_stays_silent_is_told_as_424_and_runs_once(hasty: RunningGateway):
    script = Waiting(b"")
    patient = hasty.client("bedrock-agentcore", attempts=3)
    async with asyncio.timeout(BOUND), ScriptedAgent(script) as silent:
        arn = register(hasty, str(silent.origin))
        with pytest.raises(ClientError, match=r"RuntimeClientError.*The agent did not answer in time\."):
            await asyncio.to_thread(patient.invoke_agent_runtime, agentRuntimeArn=arn, payload=b"{}")
        await script.left.wait()
        assert silent.connections == 1


# --- Answers stream ------------------------------------------------------------------------------------------------------


class Patient:
    """An agent that makes an event only when the caller has seen the one before."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(STREAM)
        for event in EVENTS:
            writer.write(chunk(event))
            await self.seen.get()
        writer.write(END)


async def test_a_bearer_sees_each_event_when_it_is_made(gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str):
    script, arrived = Patient(), []
    async with asyncio.timeout(BOUND), ScriptedAgent(script) as patient:
        arn = register(gateway, str(patient.origin), **guarded_by(jwt_issuer.discovery_url))
        async with called(gateway, arn, token) as response:
            async for event in response.aiter_raw():
                arrived.append(event)
                script.seen.put_nowait(None)
    assert (response.headers["content-type"], arrived) == ("text/event-stream", EVENTS)


async def test_boto3_sees_each_event_when_it_is_made(gateway: RunningGateway):
    script, loop = Patient(), asyncio.get_running_loop()

    def read(arn: str) -> list[bytes]:
        arrived = []
        stream = gateway.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")["response"]
        for line in filter(None, stream.iter_lines(chunk_size=1)):
            arrived.append(line)
            loop.call_soon_threadsafe(script.seen.put_nowait, None)
        return arrived

    async with asyncio.timeout(BOUND), ScriptedAgent(script) as patient:
        arrived = await asyncio.to_thread(read, register(gateway, str(patient.origin)))
    assert arrived == [event.strip() for event in EVENTS]


async def test_a_caller_who_does_not_read_makes_the_agent_wait_and_gets_everything_later(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    size, piece = 64 << 20, b"x" * (1 << 18)
    stalled, written = asyncio.Event(), 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(piece)
            written += len(piece)
            draining = asyncio.ensure_future(writer.drain())
            if not (await asyncio.wait({draining}, timeout=0.5))[0]:
                stalled.set()
            await draining

    async with asyncio.timeout(60), ScriptedAgent(script) as generous:
        arn = register(gateway, str(generous.origin), **guarded_by(jwt_issuer.discovery_url))
        async with called(gateway, arn, token) as response:
            await stalled.wait()
            assert written < size
            received = 0
            async for part in response.aiter_raw():
                received += len(part)
    assert received == size


# --- Requests stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, "9"], ids=["chunks", "known length"])
async def test_the_agent_sees_the_first_part_of_a_bearers_body_before_the_last_is_sent(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str, length: str | None
):
    seen = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        await reader.readuntil(b"first")
        seen.set()
        await reader.readuntil(b"last")
        if length is None:
            await reader.readuntil(END)
        writer.write(answer(b"whole"))

    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        await seen.wait()
        yield b"last"

    async with asyncio.timeout(BOUND), ScriptedAgent(script) as listening:
        arn = register(gateway, str(listening.origin), **guarded_by(jwt_issuer.discovery_url))
        framing = {"content_length": length} if length else {}
        async with called(gateway, arn, token, parts(), **framing) as response:
            assert await response.aread() == b"whole"


async def test_the_agent_sees_nothing_of_a_signed_body_that_does_not_match_its_signature(gateway: RunningGateway):
    key_id, secret = gateway.root_key
    body = b"x" * 70_000
    async with asyncio.timeout(BOUND), ScriptedAgent(echo) as listening:
        url = gateway.invocation_url(register(gateway, str(listening.origin)))
        request = signed(url=url, body=body, key_id=key_id, secret=secret, at=datetime.now(UTC))
        headers = [pair for pair in request.headers if pair[0] != b"host"]
        async with httpx2.AsyncClient(trust_env=False, timeout=BOUND) as http:
            response = await http.post(url, content=body[:-1] + b"y", headers=headers)
        assert (response.status_code, response.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
        assert listening.connections == 0


# --- Connections ---------------------------------------------------------------------------------------------------------


async def test_calls_one_after_the_other_share_a_connection_to_the_agent(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    async with asyncio.timeout(BOUND), ScriptedAgent(answer(b"{}")) as agent:
        arn = register(gateway, str(agent.origin), **guarded_by(jwt_issuer.discovery_url))
        for _ in range(5):
            await asyncio.to_thread(post, gateway, arn, token)
        assert (len(agent.requests), agent.connections) == (5, 1)


async def test_an_answer_that_was_cut_does_not_reach_the_next_caller(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    connections = itertools.count()

    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        if next(connections) == 0:
            writer.write(STREAM + chunk(EVENTS[0]))
            await reader.read()
            return
        writer.write(answer(b"mine"))
        await reader.read()

    async with asyncio.timeout(BOUND), ScriptedAgent(script) as agent:
        arn = register(gateway, str(agent.origin), **guarded_by(jwt_issuer.discovery_url))
        async with called(gateway, arn, token) as response:
            await anext(response.aiter_raw())
        async with called(gateway, arn, token) as response:
            assert await response.aread() == b"mine"


async def test_callers_at_the_same_time_get_their_own_answers(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    async def ask(http: httpx2.AsyncClient, number: int) -> bool:
        body = b"%d" % number * 1000
        headers = {"authorization": f"Bearer {token}"}
        return (await http.post(gateway.invocation_url(arn), content=body, headers=headers)).content == body

    async with (
        asyncio.timeout(BOUND),
        ScriptedAgent(echo) as agent,
        httpx2.AsyncClient(trust_env=False, timeout=BOUND) as http,
    ):
        arn = register(gateway, str(agent.origin), **guarded_by(jwt_issuer.discovery_url))
        assert all(await asyncio.gather(*(ask(http, number) for number in range(50))))
        assert agent.connections <= 50


async def test_requests_that_arrive_together_are_answered_in_their_order_or_not_run(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str
):
    sent, run = [b"first", b"second", b"third"], []

    async def script(reader: Reader, writer: Writer) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                run.append((await read_request(reader)).body)
                writer.write(answer(run[-1]))

    async with asyncio.timeout(BOUND), ScriptedAgent(script) as agent:
        arn = register(gateway, str(agent.origin), **guarded_by(jwt_issuer.discovery_url))
        head = functools.partial(request_head, gateway, arn, token)
        async with connected(gateway) as (reader, writer):
            writer.write(b"".join(head(f"content-length: {len(body)}") + body for body in sent))
            answered = []
            while len(answered) < len(sent) and (response := await read_answer(reader)) is not None:
                answered.append(response)
    assert answered == sent[: len(answered) or 1]
    assert run == answered
