"""The upstream pool: one request, one answer, and a connection that is used again only when that is safe."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_gateway.upstream import FailureKind, Origin, Upstream, UpstreamError, UpstreamResponse
from identity_gateway.upstream.response import ResponseReader
from tests.fakes.agent import ScriptedAgent, answer, read_head, read_request

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def upstream():
    pool = Upstream(connect_timeout=5, keep_alive=600)  # what closes in a test is closed for a reason
    yield pool
    await pool.aclose()


async def get(upstream: Upstream, agent: ScriptedAgent | Origin, **more) -> UpstreamResponse:
    origin = agent if isinstance(agent, Origin) else agent.origin
    return await upstream.request(
        origin, more.pop("method", b"POST"), b"/invocations", [], **{"head_timeout": 5} | more
    )


async def fetch(upstream: Upstream, agent: ScriptedAgent | Origin, **more) -> bytes:
    async with await get(upstream, agent, **more) as response:
        return b"".join([chunk async for chunk in response])


async def failure(upstream: Upstream, agent: ScriptedAgent | Origin, **more) -> FailureKind:
    with pytest.raises(UpstreamError) as caught:
        await fetch(upstream, agent, **more)
    return caught.value.kind


def once(canned: bytes):
    """Answer the first request of a connection with these bytes, and hang up."""

    async def script(reader, writer):
        await read_request(reader)
        writer.write(canned)

    return script


async def silence(reader, writer):
    await read_request(reader)
    await reader.read()


async def until(condition) -> None:
    """Let the loop run until something has happened."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never happened")


async def let_pass(seconds: float) -> None:
    """Put the clock of the loop forward, and let it run what is due by then."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds
    for _ in range(5):
        await asyncio.sleep(0)


class Gate:
    """An agent that answers a request when it is told to, and says when it has one."""

    def __init__(self) -> None:
        self.arrived = asyncio.Semaphore(0)
        self.open = asyncio.Semaphore(0)

    async def __call__(self, reader, writer):
        with suppress(asyncio.IncompleteReadError):
            while True:
                request = await read_request(reader)
                self.arrived.release()
                await self.open.acquire()
                writer.write(answer(request.body))


# --- Answers that are none ---

MALFORMED = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "another protocol of the same form": b"RTSP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "an empty line first": b"\r\n" + answer(),
    "HTTP/2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "a status above 599": b"HTTP/1.1 600 OK\r\ncontent-length: 0\r\n\r\n",
    "a status with a sign": b"HTTP/1.1 +20 OK\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "switching protocols unasked": b"HTTP/1.1 101 Go\r\n\r\n",
    "informational with a length": b"HTTP/1.1 103 Hints\r\ncontent-length: 2\r\n\r\nhi" + answer(),
    "informational with a coding": b"HTTP/1.1 150 Hm\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + answer(),
    "HTTP/1.0 after informational": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a folded field": OK + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "a space before the colon": OK + b"content-length : 0\r\n\r\n",
    "a field without a name": OK + b": x\r\ncontent-length: 0\r\n\r\n",
    "a field without a colon": OK + b"x\r\ncontent-length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "one bare line feed": OK + b"x: a\ncontent-length: 0\r\n\r\n",
    "length and coding": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths that differ": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "two lengths in one": OK + b"content-length: 5, 5\r\n\r\nhello",
    "a signed length": OK + b"content-length: +5\r\n\r\nhello",
    "a negative length": OK + b"content-length: -5\r\n\r\nhello",
    "an empty length": OK + b"content-length:\r\n\r\n",
    "a hexadecimal length": OK + b"content-length: 0x5\r\n\r\nhello",
    "a length beyond counting": OK + b"content-length: 99999999999999999999\r\n\r\n",
    "an unknown coding": OK + b"transfer-encoding: gzip\r\n\r\n",
    "two codings": OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings in two fields": OK + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding like chunked": OK + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": OK + b"transfer-encoding: identity\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size that is no number": OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\nhi\r\n0\r\n\r\n",
    "a negative chunk size": OK + b"transfer-encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n",
    "a chunk size beyond counting": OK + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "a chunk longer than its size": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhiX\r\n0\r\n\r\n",
    "chunks with bare line feeds": OK + b"transfer-encoding: chunked\r\n\r\n2\nhi\n0\n\n",
    "a length in the trailer": OK + b"transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 5\r\n\r\n",
}


@pytest.mark.parametrize("canned", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_response_is_a_protocol_failure(upstream, canned) -> None:
    async with ScriptedAgent(once(canned)) as agent:
        assert await failure(upstream, agent) == "protocol"


CUT = {
    "before a byte": b"",
    "in the status line": b"HTTP/1.1 20",
    "in the head": OK + b"content-len",
    "after an informational response": b"HTTP/1.1 100 Continue\r\n\r\n",
    "in a body with a length": OK + b"content-length: 6\r\n\r\nhello",
    "before a body with a length": OK + b"content-length: 6\r\n\r\n",
    "in a chunk": OK + b"transfer-encoding: chunked\r\n\r\n6\r\nhello",
    "between chunks": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "in the trailer": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n",
}


@pytest.mark.parametrize("canned", CUT.values(), ids=CUT.keys())
async def test_a_response_that_is_cut_short_is_not_taken_for_whole(upstream, canned) -> None:
    async with ScriptedAgent(once(canned)) as agent:
        assert await failure(upstream, agent) == "closed"


async def test_what_arrived_before_the_cut_is_delivered_first(upstream) -> None:
    async with ScriptedAgent(once(OK + b"content-length: 6\r\n\r\nhello")) as agent:
        response = await get(upstream, agent)
        assert await anext(response) == b"hello"
        with pytest.raises(UpstreamError):
            await anext(response)


OVERSIZE = {
    "one endless field": OK + b"x: " + b"a" * 70_000,
    "one long field": OK + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "an endless status line": b"HTTP/1.1 200 " + b"a" * 70_000,
    "many fields": OK + b"x: y\r\n" * 300 + b"content-length: 0\r\n\r\n",
    "endless informational responses": b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
    "a long trailer": OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 12_000,
    "an endless trailer field": OK + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 600_000,
    "an endless chunk extension": OK + b"transfer-encoding: chunked\r\n\r\n5;" + b"y" * 600_000,
}


@pytest.mark.parametrize("canned", OVERSIZE.values(), ids=OVERSIZE.keys())
async def test_bytes_that_are_not_body_are_bounded(upstream, canned) -> None:
    async def script(reader, writer):
        await read_request(reader)
        writer.write(canned)
        await reader.read()

    async with ScriptedAgent(script) as agent:
        assert await failure(upstream, agent) == "too_large"


async def test_a_silent_agent_is_a_timeout(upstream) -> None:
    async with ScriptedAgent(silence) as agent:
        assert await failure(upstream, agent, head_timeout=0.05) == "timeout"


async def test_the_time_to_answer_covers_the_head_only(upstream) -> None:
    async def script(reader, writer):
        await read_request(reader)
        writer.write(OK + b"content-length: 5\r\n\r\nhe")
        await rest.acquire()
        writer.write(b"llo")

    rest = asyncio.Semaphore(0)
    async with ScriptedAgent(script) as agent, await get(upstream, agent, head_timeout=20) as response:
        await let_pass(30)
        rest.release()
        assert b"".join([chunk async for chunk in response]) == b"hello"


async def test_the_time_to_answer_begins_when_the_request_is_sent(upstream) -> None:
    async def body():
        yield b"a"
        await let_pass(30)
        yield b"b"

    async with ScriptedAgent(answer(b"done")) as agent:
        assert await fetch(upstream, agent, body=body(), head_timeout=20) == b"done"


async def test_a_port_on_which_nobody_listens_refuses(upstream) -> None:
    async with ScriptedAgent(silence) as agent:
        origin = agent.origin
    assert await failure(upstream, origin) == "refused"


async def test_a_failure_names_the_origin_and_nothing_of_the_request(upstream) -> None:
    async with ScriptedAgent(once(b"")) as agent:
        with pytest.raises(UpstreamError) as caught:
            await upstream.request(agent.origin, b"GET", b"/secret", [(b"x", b"secret")], b"secret", head_timeout=5)
        assert str(agent.origin) in str(caught.value)
        assert "secret" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [OK, b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"\r\n", b"5\r\nhello\r\n"]
            ),
            st.sampled_from([b"0\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"connection: close\r\n", b"HTTP/1.0 204 N\r\n"]),
        ),
        max_size=12,
    ),
    to_head=st.booleans(),
)
def test_arbitrary_bytes_are_a_response_or_a_failure(pieces, to_head) -> None:
    reader, kind = ResponseReader(to_head=to_head, max_head=2000), None
    try:
        for piece in pieces:
            if piece and not reader.ended:
                reader.feed(piece)
    except UpstreamError as error:
        kind = error.kind
    assert kind in {None, "protocol", "too_large"}
    assert 200 <= reader.status <= 599 or not (reader.body or reader.ended)


@settings(max_examples=40, deadline=None)
@given(canned=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: OK + tail)))
def test_arbitrary_bytes_over_a_socket_neither_hang_nor_break_the_pool(canned) -> None:
    async def main() -> None:
        upstream = Upstream()
        async with asyncio.timeout(10), ScriptedAgent(once(canned)) as agent:
            for _ in range(2):
                with suppress(UpstreamError):
                    await fetch(upstream, agent)
        await upstream.aclose()
        assert upstream._open == 0

    asyncio.run(main())


# --- Answers ---


async def test_status_fields_and_body_arrive_as_they_were_sent(upstream) -> None:
    canned = b"HTTP/1.1 404 Not here\r\nX-One: a \t\r\nx-one:b\r\nEmpty:\r\nContent-Length: 5\r\n\r\nhello"
    async with ScriptedAgent(canned) as agent, await get(upstream, agent) as response:
        assert response.status == 404
        assert response.headers == (
            (b"x-one", b"a"),
            (b"x-one", b"b"),
            (b"empty", b""),
            (b"content-length", b"5"),
        )
        assert [chunk async for chunk in response] == [b"hello"]


async def test_the_request_arrives_as_it_was_given(upstream) -> None:
    async with ScriptedAgent(answer()) as agent:
        target = b"/a%2Fb%2f/../c//d/%7E~?q=a%20b+c&&=;x"
        fields = [(b"X-Case", b"Kept"), (b"x-utf8", "ü".encode()), (b"x-case", b"twice")]
        response = await upstream.request(agent.origin, b"PATCH", target, fields, b"body", head_timeout=5)
        await response.aclose()
        request = agent.requests[0]
        assert request.line == b"PATCH " + target + b" HTTP/1.1"
        assert request.headers == [
            (b"host", agent.origin.authority.encode()),
            (b"x-case", b"Kept"),
            (b"x-utf8", "ü".encode()),
            (b"x-case", b"twice"),
            (b"content-length", b"4"),
        ]
        assert request.body == b"body"


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [(b"GET", None, None), (b"POST", None, b"0"), (b"GET", b"", b"0"), (b"PUT", b"x", b"1")],
)
async def test_a_length_is_announced_where_a_body_is_expected(upstream, method, body, length) -> None:
    async with ScriptedAgent(answer()) as agent:
        await fetch(upstream, agent, method=method, body=body)
        assert agent.requests[0].header(b"content-length") == length


async def test_small_requests_leave_in_one_write(upstream) -> None:
    seen = []

    async def script(reader, writer):
        seen.append(await reader.read(65536))
        writer.write(answer())

    async with ScriptedAgent(script) as agent:
        await fetch(upstream, agent, body=b"body")
    assert seen[0].endswith(b"\r\n\r\nbody")


BODIES = {
    "a length": OK + b"content-length: 5\r\n\r\nhello",
    "chunks": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "chunks in capitals": OK + b"Transfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
    "the end of the connection": OK + b"\r\nhello",
    "the end of the connection in HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "informational responses first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"
    + answer(b"hello"),
    "a trailer": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: y\r\n\r\n",
}


@pytest.mark.parametrize("canned", BODIES.values(), ids=BODIES.keys())
async def test_a_body_ends_where_its_framing_says(upstream, canned) -> None:
    async with ScriptedAgent(once(canned)) as agent, await get(upstream, agent) as response:
        assert b"".join([chunk async for chunk in response]) == b"hello"
        assert not any(name in {b"x-trailer", b"link"} for name, _ in response.headers)


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", OK + b"content-length: 5\r\n\r\n"),
        (b"HEAD", OK + b"transfer-encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    ],
)
async def test_some_responses_have_no_body_and_keep_the_connection(upstream, method, head) -> None:
    async with ScriptedAgent(head) as agent:
        assert [await fetch(upstream, agent, method=method) for _ in range(2)] == [b"", b""]
        assert agent.connections == 1


async def test_ready_gives_a_whole_small_response_without_waiting(upstream) -> None:
    async with ScriptedAgent(answer(b"hello")) as agent:
        response = await get(upstream, agent)
        assert response.ready() == (b"hello", True)


async def test_ready_says_that_more_is_to_come(upstream) -> None:
    async def script(reader, writer):
        await read_request(reader)
        writer.write(OK + b"content-length: 5\r\n\r\nhe")
        await reader.read()

    async with ScriptedAgent(script) as agent, await get(upstream, agent) as response:
        first = response.ready()[0] or await anext(response)
        assert (first, response.ready()) == (b"he", (b"", False))


async def test_ready_does_not_hide_that_the_body_was_cut(upstream) -> None:
    async with ScriptedAgent(once(OK + b"content-length: 6\r\n\r\nhello")) as agent:
        response = await get(upstream, agent)
        await agent.finished()
        await until(lambda: response._source is None)
        assert response.ready() == (b"hello", False)
        with pytest.raises(UpstreamError):
            response.ready()


async def test_a_response_closed_before_it_was_read_does_not_look_whole(upstream) -> None:
    async with ScriptedAgent(answer(b"hello")) as agent:
        response = await get(upstream, agent)
        await response.aclose()
        await response.aclose()
        with pytest.raises(UpstreamError):
            await anext(response)


# --- Connections ---


async def test_a_connection_serves_many_requests(upstream) -> None:
    async with ScriptedAgent(answer(b"hello")) as agent:
        assert [await fetch(upstream, agent) for _ in range(5)] == [b"hello"] * 5
        assert agent.connections == 1


NOT_AGAIN = {
    "the agent says so": answer(b"", b"connection: close"),
    "the agent speaks HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "the agent is about to hang up": answer(b"", b"keep-alive: timeout=1, max=5"),
    "more came than was announced": answer() + b"H",
    "a second response came": answer() * 2,
    "a body came that must not": b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("canned", NOT_AGAIN.values(), ids=NOT_AGAIN.keys())
async def test_a_connection_is_not_used_again_when(upstream, canned) -> None:
    async with ScriptedAgent(canned) as agent:
        assert [await fetch(upstream, agent) for _ in range(2)] == [b"", b""]
        assert agent.connections == 2


async def test_a_head_response_with_a_body_does_not_reach_the_next_request(upstream) -> None:
    async with ScriptedAgent(answer(b"HTTP/1.1 200 OK\r\n\r\n")) as agent:
        assert [await fetch(upstream, agent, method=b"HEAD") for _ in range(2)] == [b"", b""]
        assert agent.connections == 2


async def test_bytes_that_arrive_unasked_close_the_connection(upstream) -> None:
    poison = asyncio.Event()

    async def script(reader, writer):
        await read_request(reader)
        writer.write(answer(b"mine"))
        await poison.wait()
        writer.write(answer(b"poison"))
        await reader.read()

    async with ScriptedAgent(script) as agent:
        await fetch(upstream, agent)
        poison.set()
        await until(lambda: not upstream._open)
        assert await fetch(upstream, agent) == b"mine"
        assert agent.connections == 2


async def test_an_idle_connection_is_closed_when_the_agent_hangs_up(upstream) -> None:
    async with ScriptedAgent(once(answer(b"x"))) as agent:
        await fetch(upstream, agent)
        await agent.finished()
        await until(lambda: not upstream._open)
        assert await fetch(upstream, agent) == b"x"


async def test_an_idle_connection_is_dropped_after_a_while() -> None:
    upstream = Upstream(keep_alive=0.05)
    async with ScriptedAgent(answer()) as agent:
        await fetch(upstream, agent)
        await agent.finished()
        assert upstream._lanes == {}
    await upstream.aclose()


async def test_idle_connections_are_dropped_each_in_its_time() -> None:
    upstream, gate = Upstream(keep_alive=100), Gate()
    async with ScriptedAgent(gate) as agent:
        responses = [asyncio.create_task(fetch(upstream, agent, head_timeout=900)) for _ in range(2)]
        await until(lambda: upstream._open == 2)
        gate.open.release()
        await asyncio.wait(responses, return_when=asyncio.FIRST_COMPLETED)
        await let_pass(60)
        gate.open.release()
        await asyncio.wait(responses)
        await let_pass(60)
        await until(lambda: upstream._open == 1)
        assert upstream._lanes != {}
        await let_pass(60)
        await until(lambda: upstream._lanes == {})
    await upstream.aclose()


async def test_a_connection_whose_response_was_not_read_to_its_end_is_closed(upstream) -> None:
    async def script(reader, writer):
        await read_request(reader)
        writer.write(OK + b"content-length: 50\r\n\r\nhello")
        await reader.read()

    async with ScriptedAgent(script) as agent:
        async with await get(upstream, agent):
            pass
        await agent.finished()
        async with await get(upstream, agent):
            pass
        assert agent.connections == 2


async def test_a_request_that_met_a_closed_connection_is_not_repeated(upstream) -> None:
    async def script(reader, writer):
        await read_request(reader)
        writer.write(answer())
        await read_request(reader)

    async with ScriptedAgent(script) as agent:
        await fetch(upstream, agent)
        assert await failure(upstream, agent) == "closed"
        assert agent.connections == 1


# --- Bounds ---


async def test_requests_beyond_the_bound_wait_in_order() -> None:
    upstream, gate, order = Upstream(max_connections=1), Gate(), []

    async def ask(name: bytes) -> None:
        await fetch(upstream, agent, body=name)
        order.append(name)

    async with ScriptedAgent(gate) as agent, asyncio.TaskGroup() as group:
        for name in (b"1", b"2", b"3", b"4"):
            group.create_task(ask(name))
            await asyncio.sleep(0)
        for _ in range(4):
            gate.open.release()
    await upstream.aclose()
    assert order == [b"1", b"2", b"3", b"4"]
    assert agent.connections == 1


async def test_a_full_queue_is_busy() -> None:
    upstream, gate = Upstream(max_connections=1, max_waiting=1), Gate()
    async with ScriptedAgent(gate) as agent, asyncio.TaskGroup() as group:
        group.create_task(fetch(upstream, agent))
        await gate.arrived.acquire()
        group.create_task(fetch(upstream, agent))
        await asyncio.sleep(0)
        assert await failure(upstream, agent) == "busy"
        gate.open.release()
        gate.open.release()
    await upstream.aclose()


async def test_a_wait_that_takes_too_long_is_busy() -> None:
    upstream, gate = Upstream(max_connections=1, connect_timeout=20), Gate()
    async with ScriptedAgent(gate) as agent, asyncio.TaskGroup() as group:
        group.create_task(fetch(upstream, agent, head_timeout=60))
        await gate.arrived.acquire()
        group.create_task(let_pass(30))
        assert await failure(upstream, agent) == "busy"
        gate.open.release()
    await upstream.aclose()


async def test_a_connection_that_closes_makes_room_for_the_one_who_waits() -> None:
    upstream = Upstream(max_connections=1)
    async with ScriptedAgent(once(answer(b"x", b"connection: close"))) as agent:
        assert await asyncio.gather(*(fetch(upstream, agent) for _ in range(5))) == [b"x"] * 5
    await upstream.aclose()


async def test_a_connection_that_cannot_be_opened_makes_room_for_the_one_who_waits() -> None:
    upstream = Upstream(max_connections=1)
    async with ScriptedAgent(silence) as agent:
        origin = agent.origin
    assert await asyncio.gather(*(failure(upstream, origin) for _ in range(3))) == ["refused"] * 3
    assert upstream._open == 0
    await upstream.aclose()


async def test_one_who_stops_waiting_loses_nobody_the_place() -> None:
    upstream, gate = Upstream(max_connections=1), Gate()
    async with ScriptedAgent(gate) as agent, asyncio.TaskGroup() as group:
        group.create_task(fetch(upstream, agent))
        await gate.arrived.acquire()
        second = group.create_task(fetch(upstream, agent))
        third = group.create_task(fetch(upstream, agent, body=b"third"))
        await asyncio.sleep(0)
        second.cancel()
        gate.open.release()
        gate.open.release()
        assert await third == b"third"
    await upstream.aclose()


async def test_one_who_goes_away_when_the_place_is_granted_passes_it_on() -> None:
    upstream, gate = Upstream(max_connections=1), Gate()
    async with ScriptedAgent(gate) as agent, asyncio.TaskGroup() as group:
        second = group.create_task(fetch(upstream, agent))
        third = group.create_task(fetch(upstream, agent, body=b"third"))
        gate.open.release()
        gate.open.release()
        await get(upstream, agent)  # the connection is granted to the second, who did not hear of it yet
        second.cancel()
        assert await third == b"third"
        assert agent.connections == 1
    await upstream.aclose()


async def test_one_who_goes_away_when_leave_to_connect_is_granted_passes_it_on() -> None:
    upstream = Upstream(max_connections=1)
    async with ScriptedAgent(answer(b"x", b"connection: close")) as agent, asyncio.TaskGroup() as group:
        second = group.create_task(fetch(upstream, agent))
        third = group.create_task(fetch(upstream, agent))
        await get(upstream, agent)  # its connection ends, and the second may open another
        second.cancel()
        assert await third == b"x"
        assert agent.connections == 2
    await upstream.aclose()


async def test_a_connection_that_dies_when_it_is_granted_is_not_used() -> None:
    upstream = Upstream(max_connections=1)
    async with ScriptedAgent(answer(b"x")) as agent, asyncio.TaskGroup() as group:
        second = group.create_task(fetch(upstream, agent))
        await get(upstream, agent)
        next(iter(upstream._connections)).abort()
        assert await second == b"x"
        assert agent.connections == 2
    await upstream.aclose()


async def test_one_who_has_just_stopped_waiting_is_passed_over() -> None:
    upstream = Upstream(max_connections=1)
    half = OK + b"content-length: 4\r\n\r\nha"
    async with ScriptedAgent(half) as agent, asyncio.TaskGroup() as group:
        await get(upstream, agent)
        second = group.create_task(get(upstream, agent))
        third = group.create_task(get(upstream, agent))
        await asyncio.sleep(0)
        second.cancel()
        next(iter(upstream._connections)).data_received(b"lf")  # in the same moment
        await third
        assert len(agent.requests) == 2
    await upstream.aclose()


async def test_the_idle_connections_of_others_make_room_within_the_total() -> None:
    upstream = Upstream(max_total=2)
    async with ScriptedAgent(answer(b"1")) as one, ScriptedAgent(answer(b"2")) as two, ScriptedAgent(answer()) as three:
        await fetch(upstream, one)
        await fetch(upstream, two)
        await fetch(upstream, three)
        await one.finished()  # the one that had been idle the longest
        assert upstream._open == 2
    await upstream.aclose()


async def test_origins_share_the_total_in_the_order_of_asking() -> None:
    upstream, gate, order = Upstream(max_total=1), Gate(), []

    async def ask(agent: ScriptedAgent, name: str) -> None:
        await fetch(upstream, agent)
        order.append(name)

    async with ScriptedAgent(gate) as one, ScriptedAgent(gate) as two, asyncio.TaskGroup() as group:
        for agent, name in ((one, "1a"), (two, "2a"), (one, "1b"), (two, "2b")):
            group.create_task(ask(agent, name))
            await asyncio.sleep(0)
        for _ in range(4):
            gate.open.release()
    assert order == ["1a", "2a", "1b", "2b"]
    await upstream.aclose()


# --- Cancelling ---


async def cancelled_at(upstream: Upstream, agent: ScriptedAgent, reached, **more) -> None:
    task = asyncio.create_task(fetch(upstream, agent, **more))
    await reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await agent.finished()
    await until(lambda: not upstream._open)


async def test_cancelling_while_connecting_leaves_nothing_behind() -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def resolver(host: str, port: int) -> list[str]:
        asked.set()
        await never.wait()
        return []

    upstream = Upstream(resolver=resolver)
    task = asyncio.create_task(fetch(upstream, Origin("http", "agent.test", 80)))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream._open == 0
    await upstream.aclose()


async def test_cancelling_while_waiting_for_the_head_closes_the_connection(upstream) -> None:
    arrived = asyncio.Event()

    async def script(reader, writer):
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with ScriptedAgent(script) as agent:
        await cancelled_at(upstream, agent, arrived.wait)
        assert agent.connections == 1


async def test_cancelling_while_the_request_is_sent_closes_the_connection(upstream) -> None:
    sending, closed = asyncio.Event(), asyncio.Event()

    async def body():
        try:
            yield b"a"
            sending.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with ScriptedAgent(silence) as agent:
        await cancelled_at(upstream, agent, sending.wait, body=body())
        assert isinstance(agent.failures[0], asyncio.IncompleteReadError)
    assert closed.is_set()


async def test_cancelling_while_the_agent_does_not_read_closes_the_connection(upstream) -> None:
    full, closed = asyncio.Event(), asyncio.Event()

    async def body():
        try:
            while True:
                asyncio.get_running_loop().call_later(0.1, full.set)
                yield b"a" * 1_000_000
        finally:
            closed.set()

    release = asyncio.Event()

    async def deaf(reader, writer):
        await release.wait()

    async with ScriptedAgent(deaf) as agent:
        task = asyncio.create_task(fetch(upstream, agent, body=body()))
        await full.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not upstream._open)
        release.set()
    assert closed.is_set()


async def test_cancelling_while_reading_the_body_closes_the_connection(upstream) -> None:
    sent = asyncio.Event()

    async def script(reader, writer):
        await read_request(reader)
        writer.write(OK + b"content-length: 50\r\n\r\nhello")
        sent.set()
        await reader.read()

    async with ScriptedAgent(script) as agent:
        await cancelled_at(upstream, agent, sent.wait)


# --- Bodies that arrive piece by piece ---


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_of_unknown_length_is_sent_in_chunks(upstream) -> None:
    async with ScriptedAgent(answer(b"ok")) as agent:
        await fetch(upstream, agent, body=pieces(b"he", b"", b"llo"))
        await fetch(upstream, agent, body=pieces())
        assert [request.body for request in agent.requests] == [b"hello", b""]
        assert agent.requests[0].header(b"transfer-encoding") == b"chunked"
        assert agent.connections == 1


async def test_a_body_of_known_length_is_sent_with_it(upstream) -> None:
    async with ScriptedAgent(answer(b"ok")) as agent:
        await fetch(upstream, agent, body=pieces(b"he", b"", b"llo", b""), content_length=5)
        await fetch(upstream, agent, body=pieces(), content_length=0)
        assert [request.body for request in agent.requests] == [b"hello", b""]
        assert agent.requests[0].header(b"content-length") == b"5"
        assert agent.connections == 1


@pytest.mark.parametrize("parts", [(b"hell",), (), (b"he", b"llo", b"!"), (b"hello!",)])
async def test_a_body_of_another_length_than_announced_is_never_a_whole_request(upstream, parts) -> None:
    async with ScriptedAgent(answer(b"acted")) as agent:
        with pytest.raises(ValueError, match="than its content-length"):
            await fetch(upstream, agent, body=pieces(*parts), content_length=5)
        await agent.finished()
        assert agent.requests == []


@pytest.mark.parametrize(("body", "length"), [(b"hello", 4), (b"hello", 6), (None, 1)])
async def test_bytes_of_another_length_than_announced_are_not_sent(upstream, body, length) -> None:
    async with ScriptedAgent(answer()) as agent:
        with pytest.raises(ValueError, match="length of the body"):
            await fetch(upstream, agent, body=body, content_length=length)
        assert agent.connections == 0


@pytest.mark.parametrize("length", [None, 5, 10])
async def test_a_body_that_fails_is_never_a_whole_request(upstream, length) -> None:
    async def body():
        yield b"hello"
        raise LookupError("the signature of the last chunk is wrong")

    async with ScriptedAgent(answer(b"acted")) as agent:
        with pytest.raises(LookupError, match="signature"):
            await fetch(upstream, agent, body=body(), content_length=length)
        await agent.finished()
        assert agent.requests == []


async def test_an_early_answer_is_delivered_and_ends_the_sending(upstream) -> None:
    closed = asyncio.Event()

    async def body():
        try:
            yield b"a" * 10
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def script(reader, writer):
        await read_head(reader)
        writer.write(answer(b"too much", status=b"413 Content Too Large"))
        await reader.read()

    async with ScriptedAgent(script) as agent:
        async with await get(upstream, agent, body=body(), content_length=1000) as response:
            assert response.status == 413
            assert closed.is_set()
            assert [chunk async for chunk in response] == [b"too much"]
        await agent.finished()
        assert upstream._open == 0


async def test_an_early_answer_may_go_on_after_the_sending_has_stopped(upstream) -> None:
    async def body():
        yield b"a"
        await asyncio.Event().wait()

    async def script(reader, writer):
        await read_head(reader)
        writer.write(OK + b"content-length: 4\r\n\r\nno")
        await asyncio.sleep(0.05)
        writer.write(b"pe")
        await reader.read()

    async with ScriptedAgent(script) as agent:
        assert await fetch(upstream, agent, body=body()) == b"nope"
        await agent.finished()


async def test_an_early_answer_to_bytes_that_were_not_all_sent_ends_the_connection(upstream) -> None:
    async def script(reader, writer):
        await reader.read(100)
        writer.write(answer(b"enough"))
        await writer.drain()
        release.set()
        await asyncio.Event().wait()

    release = asyncio.Event()
    async with ScriptedAgent(script) as agent:
        assert await fetch(upstream, agent, body=b"a" * 50_000_000) == b"enough"
        await until(lambda: not upstream._open)


async def test_a_body_that_fails_when_it_is_stopped_takes_the_early_answer_with_it(upstream) -> None:
    async def body():
        yield b"a"
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("the body cannot stop")

    async def script(reader, writer):
        await read_head(reader)
        writer.write(OK + b"content-length: 4\r\n\r\nno")
        await reader.read()

    async with ScriptedAgent(script) as agent:
        with pytest.raises(LookupError):
            await fetch(upstream, agent, body=body())
        await agent.finished()


async def test_a_body_that_is_slow_to_close_does_not_end_the_next_request(upstream) -> None:
    closing, close, begun, end = (asyncio.Event() for _ in range(4))

    class SlowToClose:
        """A body of one piece whose sender lasts longer than its request."""

        def __init__(self) -> None:
            self.left = [b"a"]

        def __aiter__(self):
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

        async def aclose(self) -> None:
            try:
                await close.wait()
            except asyncio.CancelledError:
                closing.set()
                await close.wait()

    async def unhurried():
        begun.set()
        await end.wait()
        yield b"b"

    async with ScriptedAgent(answer(b"ok")) as agent, asyncio.TaskGroup() as requests:
        first = requests.create_task(fetch(upstream, agent, body=SlowToClose(), content_length=1))
        await closing.wait()
        second = requests.create_task(fetch(upstream, agent, body=unhurried(), content_length=1))
        await begun.wait()
        close.set()
        await first
        end.set()
        assert (await second, agent.connections) == (b"ok", 1)


async def test_a_body_that_cancels_itself_does_not_keep_the_request_waiting(upstream) -> None:
    async def body():
        yield b"a"
        raise asyncio.CancelledError

    async with ScriptedAgent(answer(b"acted")) as agent:
        assert await failure(upstream, agent, body=body()) == "closed"
        assert agent.requests == []


async def test_a_negative_length_is_refused(upstream) -> None:
    with pytest.raises(ValueError, match="negative"):
        await get(upstream, Origin("http", "127.0.0.1", 9), body=pieces(), content_length=-1)


async def test_an_agent_that_hangs_up_while_the_request_is_sent_is_closed(upstream) -> None:
    async def body():
        while True:
            yield b"a" * 1000
            await asyncio.sleep(0)

    async def script(reader, writer):
        await read_head(reader)

    async with ScriptedAgent(script) as agent:
        assert await failure(upstream, agent, body=body()) == "closed"


# --- The end ---


async def test_closing_the_pool_ends_everything() -> None:
    upstream, gate = Upstream(max_connections=1), Gate()
    async with ScriptedAgent(gate) as agent:
        working = asyncio.create_task(failure(upstream, agent))
        await gate.arrived.acquire()
        waiting = asyncio.create_task(failure(upstream, agent))
        await asyncio.sleep(0)
        await upstream.aclose()
        assert [await working, await waiting, await failure(upstream, agent)] == ["closed"] * 3
        gate.open.release()
    await upstream.aclose()


async def test_closing_the_pool_ends_a_name_that_is_being_resolved() -> None:
    asked = asyncio.Event()

    async def resolver(host: str, port: int) -> list[str]:
        asked.set()
        await asyncio.Event().wait()
        return []

    upstream = Upstream(resolver=resolver)
    task = asyncio.create_task(failure(upstream, Origin("http", "agent.test", 80)))
    await asked.wait()
    await upstream.aclose()
    assert await task == "closed"


async def test_an_agent_that_is_reached_when_the_pool_is_closed_is_left_at_once() -> None:
    asked = asyncio.Event()

    async def resolver(host: str, port: int) -> list[str]:
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    upstream = Upstream(resolver=resolver)
    async with ScriptedAgent(answer(b"acted")) as agent:
        task = asyncio.create_task(failure(upstream, Origin("http", "agent.test", agent.port)))
        await asked.wait()
        await upstream.aclose()
        assert await task == "closed"
        assert agent.requests == []


async def test_two_tasks_cannot_read_one_response(upstream) -> None:
    async def script(reader, writer):
        await read_request(reader)
        writer.write(OK + b"content-length: 5\r\n\r\n")
        await reader.read()

    async with ScriptedAgent(script) as agent, await get(upstream, agent) as response:
        first = asyncio.ensure_future(anext(response))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await anext(response)
        first.cancel()
        await asyncio.wait([first])
