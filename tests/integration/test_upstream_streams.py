"""Streams through the upstream pool: against a real server, over TLS, on both event loops, and larger than memory."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
import uvloop

from identity_gateway.upstream import Origin, Upstream, UpstreamError
from tests.fakes.agent import ScriptedAgent, answer, read_head, read_request
from tests.fakes.authority import Authority

MEGABYTE = b"m" * (1 << 20)
SIZE = 50 * len(MEGABYTE)
BOUND = 12 << 20
"""What both ends together may hold of 50 MiB: buffers of two transports and of the pieces on their way."""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request) -> Callable[[Awaitable[None]], None]:
    """Run a coroutine on each of the event loops that the gateway may have."""

    def on_this_loop(main: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(main, 60))

    return on_this_loop


@asynccontextmanager
async def pool(**options) -> AsyncIterator[Upstream]:
    upstream = Upstream(**options)
    try:
        yield upstream
    finally:
        await upstream.aclose()


@asynccontextmanager
async def serving(app) -> AsyncIterator[Origin]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Origin("http", "127.0.0.1", listener.getsockname()[1])
        finally:
            server.should_exit = True
            await task


async def body_of(receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body, more = body + message["body"], message["more_body"]
    return body


async def parts_of_50_mib() -> AsyncIterator[bytes]:
    for _ in range(50):
        yield MEGABYTE
        await asyncio.sleep(0)


# --- A real server ---


async def echo(scope, receive, send) -> None:
    body = await body_of(receive)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["raw_path"])]})
    await send({"type": "http.response.body", "body": body})


def test_a_real_server_gets_what_was_sent_and_its_connection_is_kept(run) -> None:
    async def main() -> None:
        async with serving(echo) as origin, pool() as upstream:
            for body in (b"whole", b"", parts_of_50_mib.__name__.encode() * 10_000):
                async with await upstream.request(origin, b"POST", b"/a%2Fb", [], body, head_timeout=30) as response:
                    assert b"".join([chunk async for chunk in response]) == body
                    assert (b"x-path", b"/a%2Fb") in response.headers
            assert upstream._open == 1

    run(main())


def test_an_event_is_seen_before_the_next_one_is_made(run) -> None:
    async def main() -> None:
        seen = asyncio.Semaphore(0)

        async def events(scope, receive, send) -> None:
            await body_of(receive)
            fields = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            for number in range(20):
                await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
                await seen.acquire()
            await send({"type": "http.response.body", "body": b""})

        async with serving(events) as origin, pool() as upstream:
            received = []
            async with await upstream.request(origin, b"POST", b"/", [], b"{}", head_timeout=30) as response:
                async for event in response:
                    received.append(event)
                    seen.release()
        assert received == [b"data: %d\n\n" % number for number in range(20)]

    run(main())


def test_a_real_server_notices_that_a_reader_went_away(run) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def endless(scope, receive, send) -> None:
            await body_of(receive)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            assert (await receive())["type"] == "http.disconnect"
            gone.set()

        async with serving(endless) as origin, pool() as upstream:
            async with await upstream.request(origin, b"POST", b"/", [], b"{}", head_timeout=30) as response:
                assert await anext(response) == b"first"
            await gone.wait()

    run(main())


def test_a_hundred_requests_at_once_are_answered_each_with_its_own(run) -> None:
    async def main() -> None:
        async with serving(echo) as origin, pool(max_connections=8) as upstream:

            async def ask(number: int) -> None:
                body = b"%d" % number * 100
                async with await upstream.request(origin, b"POST", b"/", [], body, head_timeout=30) as response:
                    assert b"".join([chunk async for chunk in response]) == body

            await asyncio.gather(*map(ask, range(100)))
            assert upstream._open <= 8

    run(main())


# --- Larger than memory ---


@pytest.mark.parametrize("length", [SIZE, None], ids=["fixed length", "chunked"])
def test_50_mib_go_up_in_bounded_memory(run, length) -> None:
    async def main() -> None:
        received = 0

        async def script(reader, writer) -> None:
            nonlocal received
            await read_head(reader)
            tail = b""
            while not (received >= SIZE if length else tail.endswith(b"0\r\n\r\n")):
                block = await reader.read(65536)
                received, tail = received + len(block), block[-5:]
            writer.write(answer())

        async with ScriptedAgent(script) as agent, pool() as upstream:
            tracemalloc.start()
            body = parts_of_50_mib()
            async with await upstream.request(agent.origin, b"POST", b"/", [], body, length, head_timeout=30):
                peak = tracemalloc.get_traced_memory()[1]
        assert received >= SIZE
        assert peak < BOUND

    try:
        run(main())
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunked", [False, True], ids=["fixed length", "chunked"])
def test_50_mib_come_down_in_bounded_memory(run, chunked) -> None:
    async def script(reader, writer) -> None:
        await read_request(reader)
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % SIZE
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        for _ in range(50):
            writer.write(b"100000\r\n%b\r\n" % MEGABYTE if chunked else MEGABYTE)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")

    async def main() -> None:
        received = 0
        async with ScriptedAgent(script) as agent, pool() as upstream:
            tracemalloc.start()
            async with await upstream.request(agent.origin, b"GET", b"/", [], head_timeout=30) as response:
                async for chunk in response:
                    received += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        assert received == SIZE
        assert peak < BOUND

    try:
        run(main())
    finally:
        tracemalloc.stop()


def test_an_agent_waits_for_a_reader_that_is_slow(run) -> None:
    async def main() -> None:
        sent, stalled = 0, asyncio.Event()

        async def script(reader, writer) -> None:
            nonlocal sent
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
            while sent < SIZE:
                writer.write(MEGABYTE)
                sent += len(MEGABYTE)
                try:
                    await asyncio.wait_for(writer.drain(), 0.3)
                except TimeoutError:
                    stalled.set()
                    await writer.drain()

        async with ScriptedAgent(script) as agent, pool() as upstream:
            response = await upstream.request(agent.origin, b"GET", b"/", [], head_timeout=30)
            await stalled.wait()
            assert sent < SIZE
            assert sum([len(chunk) async for chunk in response]) == SIZE

    run(main())


def test_a_body_waits_for_an_agent_that_is_slow(run) -> None:
    async def main() -> None:
        taken, stalled = 0, asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            nonlocal taken
            for _ in range(50):
                timer = asyncio.get_running_loop().call_later(0.3, stalled.set)
                taken += len(MEGABYTE)
                yield MEGABYTE
                timer.cancel()

        async def script(reader, writer) -> None:
            await stalled.wait()
            assert taken < SIZE
            request = await read_request(reader)
            writer.write(answer(b"%d" % len(request.body)))

        async with ScriptedAgent(script) as agent, pool() as upstream:
            response = await upstream.request(agent.origin, b"POST", b"/", [], body(), SIZE, head_timeout=30)
            assert await anext(response) == b"%d" % SIZE
        assert agent.failures == []

    run(main())


# --- TLS ---


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def to_loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def ask(run, agent: ScriptedAgent, host: str, **options) -> bytes | str:
    """Return the body that the agent gives, or the kind of failure."""
    result: list[bytes | str] = []

    async def main() -> None:
        async with agent, pool(resolver=to_loopback, **options) as upstream:
            origin = Origin("https", host, agent.port)
            try:
                for _ in range(2):
                    async with await upstream.request(origin, b"POST", b"/", [], b"{}", head_timeout=30) as response:
                        result.append(b"".join([chunk async for chunk in response]))
            except UpstreamError as error:
                result.append(str(error.kind))
                assert upstream._open == 0

    run(main())
    return result[-1]


def test_a_certificate_of_another_name_is_refused(run, authority) -> None:
    agent = ScriptedAgent(answer(b"secret"), context=authority.serve("other.test"))
    assert ask(run, agent, "agent.test", ssl_context=authority.trust()) == "tls"
    assert agent.requests == []


def test_a_certificate_of_another_address_is_refused(run, authority) -> None:
    agent = ScriptedAgent(answer(b"secret"), context=authority.serve("127.0.0.2", "agent.test"))
    assert ask(run, agent, "127.0.0.1", ssl_context=authority.trust()) == "tls"
    assert agent.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(run, authority, tmp_path) -> None:
    agent = ScriptedAgent(answer(b"secret"), context=Authority(tmp_path, "Another").serve("agent.test"))
    assert ask(run, agent, "agent.test", ssl_context=authority.trust()) == "tls"
    assert agent.requests == []


def test_the_system_decides_whom_to_trust_by_default(run, authority) -> None:
    agent = ScriptedAgent(answer(b"secret"), context=authority.serve("agent.test"))
    assert ask(run, agent, "agent.test") == "tls"


@pytest.mark.parametrize("reply", [answer(b"secret", status=b"400 Bad Request"), b""], ids=["answers", "hangs up"])
def test_an_agent_without_tls_is_refused_under_https(run, authority, reply) -> None:
    async def script(reader, writer) -> None:
        await reader.read(65536)
        writer.write(reply)

    assert ask(run, ScriptedAgent(script), "agent.test", ssl_context=authority.trust()) == "tls"


def test_a_body_whose_end_is_not_signed_is_not_taken_for_whole(authority) -> None:
    async def main() -> None:
        seen = asyncio.Event()

        async def script(reader, writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
            await seen.wait()
            writer.transport.abort()

        async with (
            ScriptedAgent(script, context=authority.serve("127.0.0.1")) as agent,
            pool(ssl_context=authority.trust()) as upstream,
        ):
            response = await upstream.request(agent.origin, b"GET", b"/", [], head_timeout=30)
            assert await anext(response) == b"hello"
            seen.set()
            with pytest.raises(UpstreamError):
                await anext(response)

    uvloop.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("host", ["agent.test", "127.0.0.1"])
def test_an_agent_is_reached_over_tls_under_its_own_name(run, authority, host) -> None:
    context = authority.serve(host)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    context.set_alpn_protocols(["h2", "http/1.1"])
    agent = ScriptedAgent(answer(b"hello"), context=context)
    assert ask(run, agent, host, ssl_context=authority.trust()) == b"hello"
    assert asked == ["agent.test" if host == "agent.test" else None]
    assert agent.connections == 1


def test_cancelling_during_a_tls_handshake_leaves_nothing_behind(run, authority) -> None:
    async def main() -> None:
        greeted = asyncio.Event()

        async def script(reader, writer) -> None:
            await reader.read(1)
            greeted.set()
            await reader.read()

        async with ScriptedAgent(script) as agent, pool(ssl_context=authority.trust()) as upstream:
            origin = Origin("https", "127.0.0.1", agent.port)
            task = asyncio.create_task(upstream.request(origin, b"GET", b"/", [], head_timeout=30))
            await greeted.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await agent.finished()
            assert upstream._open == 0

    run(main())


def test_a_tls_handshake_that_never_ends_is_a_timeout(run, authority) -> None:
    async def main() -> None:
        async def script(reader, writer) -> None:
            await reader.read()

        async with ScriptedAgent(script) as agent, pool(ssl_context=authority.trust(), connect_timeout=0.3) as upstream:
            with pytest.raises(UpstreamError) as caught:
                await upstream.request(Origin("https", "127.0.0.1", agent.port), b"GET", b"/", [], head_timeout=30)
            assert caught.value.kind == "timeout"
            await agent.finished()

    run(main())
