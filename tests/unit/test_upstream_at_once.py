"""Asking at once: what is heard is what a reader of the same bytes would have found, whatever was heard before."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_gateway.protocol import headers
from identity_gateway.upstream import FailureKind, Origin, Upstream, UpstreamError, UpstreamResponse
from identity_gateway.upstream.connection import Connection
from identity_gateway.upstream.heads import Head, KnownHeads
from identity_gateway.upstream.response import ResponseReader
from tests.fakes.agent import ScriptedAgent, answer, read_request

OK = b"HTTP/1.1 200 OK\r\n"
JSON = answer(b"hello", b"server: x", b"content-type: application/json", b"x-hidden: y")
ORIGIN = Origin("http", "127.0.0.1", 8080)
REQUEST = Upstream.start(ORIGIN, b"/invocations", []) + b"\r\ncontent-length: 2\r\n\r\n{}"
PATIENCE = 5.0


class Line(asyncio.Transport):
    """A transport that leads nowhere: what is written is counted, and a test plays the agent."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Asked:
    """One who asks, and notes what is heard."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = b""
        self.response: UpstreamResponse | None = None
        self.calls = 0
        self.news = asyncio.Event()

    def answered(self, head: Head, body: bytes) -> None:
        self.calls += 1
        self.head, self.body = head, body
        self.news.set()

    def began(self, response: UpstreamResponse) -> None:
        self.calls += 1
        self.response = response
        response.listen(self.news.set)

    @property
    def found(self) -> tuple[Any, ...]:
        if self.head is not None:
            return self.head.status, self.head.headers, self.body, True, None
        return (0, (), b"", False, None) if self.response is None else found(self.response)


def found(response: UpstreamResponse) -> tuple[Any, ...]:
    """Return status, fields, body, whether it is whole, and how it failed."""
    data, over, failure = b"", False, None
    try:
        data, over = response.ready()
        if data and not over:
            over = response.ready()[1]
    except UpstreamError as error:
        failure = error.kind
    return response.status, response.headers, data, over, failure


def connect(upstream: Upstream) -> tuple[Connection, Line]:
    """Give the pool an idle connection that leads nowhere."""
    lane, line = upstream._lane(ORIGIN), Line()
    connection = Connection(str(ORIGIN), asyncio.get_running_loop())
    connection.connection_made(line)
    connection.settle(lane)
    lane.open += 1
    upstream._open += 1
    upstream._connections.add(connection)
    return connection, line


def ask(upstream: Upstream, *segments: bytes, over: Connection | None = None) -> tuple[Any, ...]:
    """Return what is heard, and whether the connection is good for another request."""
    connection = over or connect(upstream)[0]
    asked = Asked()
    connection.ask(REQUEST, asked, PATIENCE)
    for segment in segments:
        if not connection._transport.is_closing() and not asked.found[3]:
            connection.data_received(segment)
    assert asked.calls == 1
    return *asked.found, connection.usable


def read(upstream: Upstream, *segments: bytes) -> tuple[Any, ...]:
    """Return the same of a response that is listened to from the beginning."""
    connection, line = connect(upstream)
    response = connection.exchange(REQUEST, upstream._reader(b"POST"), PATIENCE)
    for segment in segments:
        if not line.closed and not found(response)[3]:
            connection.data_received(segment)
    return *found(response), connection.usable


ONE_LOOK = {
    "too little": (b"HTTP/1.1 200 O",),
    "a head and half a body": (OK + b"content-length: 5\r\n\r\nhe",),
    "no end": (OK + b"\r\nhello",),
    "not HTTP": (b"SSH-2.0\r\n\r\n",),
    "two lengths": (OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",),
    "a length and a coding": (OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",),
    "too long a head": (OK + b"x: " + b"y" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",),
    "switching protocols": (b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",),
    "a refusal": (answer(b"no", status=b"403 Forbidden"),),
    "an error": (answer(b"no", status=b"500 Oh"),),
    "not modified": (b"HTTP/1.1 304 N\r\ncontent-length: 5\r\n\r\n",),
    "whole": (JSON,),
    "whole in two pieces": (JSON[:40], JSON[40:]),
    "head and body apart": (JSON[:-5], b"hello"),
    "chunks": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",),
    "chunks with a trailer": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",),
    "chunks without an end": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",),
    "an informational one first": (b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + JSON,),
    "nothing but an informational one": (b"HTTP/1.1 100 Continue\r\n\r\n", JSON),
    "no content": (b"HTTP/1.1 204 N\r\n\r\n",),
    "no content, with a length": (b"HTTP/1.1 204 N\r\ncontent-length: 5\r\n\r\n",),
    "an empty body": (answer(),),
    "the end of the connection": (answer(b"hello", b"connection: close"),),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",),
    "HTTP/1.0 that stays": (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",),
    "bytes behind the end": (JSON + b"!",),
    "another one behind the end": (JSON + JSON,),
    "a body like a head": (answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),),
}


@pytest.mark.parametrize("segments", ONE_LOOK.values(), ids=ONE_LOOK.keys())
async def test_what_is_heard_at_once_is_what_a_reader_finds(segments) -> None:
    upstream = Upstream()
    expected = read(Upstream(), *segments)
    assert [ask(upstream, *segments) for _ in range(3)] == [expected] * 3


PIECES = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 204 N\r\n",
        b"HTTP/1.1 100 C\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 404 N\r\n",
        b"content-length: 5\r\n",
        b"content-length: 0\r\n",
        b"Content-Length: 05\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"connection: upgrade\r\nupgrade: x\r\n",
        b"keep-alive: timeout=3\r\n",
        b"x: y\r\n",
        b"\r\n",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"\n",
        b" ",
    ]
)
ANSWERS = st.one_of(
    st.lists(PIECES, max_size=8).map(b"".join),
    st.lists(PIECES, max_size=4).map(lambda pieces: OK + b"".join(pieces) + b"content-length: 5\r\n\r\nhello"),
)


@settings(max_examples=300, deadline=None)
@given(before=st.lists(ANSWERS, max_size=3), segment=ANSWERS.filter(len))
def test_arbitrary_answers_are_read_the_same_whatever_was_heard_before(before, segment) -> None:
    async def main() -> None:
        upstream = Upstream()
        for earlier in filter(None, [*before, segment]):
            connection, line = connect(upstream)
            connection.ask(REQUEST, Asked(), PATIENCE)
            connection.data_received(earlier)
            line.closed = True
        expected = read(Upstream(), segment)
        connection, line = connect(upstream)
        asked = Asked()
        connection.ask(REQUEST, asked, PATIENCE)
        connection.data_received(segment)
        assert (*asked.found, connection.usable) == expected

    asyncio.run(main())


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, JSON.index(b"\r\n\r\n") + 3), byte=st.integers(0, 255))
def test_a_head_that_differs_by_a_byte_is_read_anew(at, byte) -> None:
    async def main() -> None:
        upstream = Upstream()
        ask(upstream, JSON)
        other = JSON[:at] + bytes([byte]) + JSON[at + 1 :]
        assert ask(upstream, other) == read(Upstream(), other)

    asyncio.run(main())


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=12))
def test_a_known_head_goes_with_any_body_of_its_length_and_no_other(body) -> None:
    async def main() -> None:
        upstream = Upstream()
        ask(upstream, JSON)
        other = JSON[:-5] + body
        assert ask(upstream, other) == read(Upstream(), other)

    asyncio.run(main())


# --- What is remembered ---


def heads_of(*answers: bytes) -> KnownHeads:
    known = KnownHeads()
    for canned in answers:
        reader = ResponseReader(to_head=False, max_head=65_536)
        reader.feed(canned)
        known.learn(canned, reader, Head(reader))
    return known


NOT_KEPT = {
    "chunks": ONE_LOOK["chunks"][0],
    "no content": ONE_LOOK["no content"][0],
    "no content, with a length": ONE_LOOK["no content, with a length"][0],
    "the end of the connection": ONE_LOOK["the end of the connection"][0],
    "an informational one first": ONE_LOOK["an informational one first"][0],
    "a length in other words": OK + b"content-length: 005\r\n\r\nhello",
    "a long head": answer(b"hello", b"x: " + b"y" * 2048),
}


@pytest.mark.parametrize("canned", NOT_KEPT.values(), ids=NOT_KEPT.keys())
def test_a_head_is_not_remembered_of(canned) -> None:
    assert not heads_of(canned).known


def test_the_heads_that_are_remembered_are_bounded_in_number() -> None:
    known = heads_of(*(answer(b"", b"x: %d" % number) for number in range(2000)))
    assert len(known.known) == 512
    assert answer(b"", b"x: 1999") in known.known


def test_the_heads_that_are_remembered_are_bounded_in_bytes() -> None:
    known = heads_of(*(answer(b"", b"x: %04d%b" % (number, b"y" * 1900)) for number in range(300)))
    assert sum(map(len, known.known)) == known._size <= 1 << 18


async def test_heads_that_are_never_the_same_are_soon_not_remembered() -> None:
    upstream = Upstream()
    connection, _ = connect(upstream)
    for number in range(1000):
        ask(upstream, answer(b"", b"x: %d" % number), over=connection)
    assert len(upstream._heads.known) == 32


async def test_heads_are_tried_again_after_a_while() -> None:
    upstream = Upstream()
    connection, _ = connect(upstream)
    for number in range(1100):
        ask(upstream, answer(b"", b"x: %d" % number), over=connection)
    assert answer(b"", b"x: 1030") in upstream._heads.known


async def test_the_end_that_an_agent_announces_is_believed_in_a_known_head_too() -> None:
    canned = answer(b"hello", b"keep-alive: timeout=3")
    upstream, other = Upstream(keep_alive=60), Origin("http", "127.0.0.2", 8080)
    ask(upstream, canned)
    connection, _ = connect(upstream)
    lane = upstream._lane(other)
    connection.settle(lane)
    ask(upstream, canned, over=connection)
    assert lane.keep_alive == 2


async def test_the_lines_of_a_head_are_what_callers_may_see() -> None:
    upstream, asked = Upstream(), Asked()
    connection, _ = connect(upstream)
    connection.ask(REQUEST, asked, PATIENCE)
    connection.data_received(JSON)
    assert asked.head.lines == b"".join(b"%b: %b\r\n" % field for field in headers.answered(asked.head.headers))
    assert asked.head.sized


@pytest.mark.parametrize(
    ("kind", "streams"), [(b"Text/Event-Stream; charset=utf-8", True), (b"application/json", False)]
)
async def test_a_head_says_whether_its_body_is_one_of_events(kind, streams) -> None:
    upstream, asked = Upstream(), Asked()
    connection, _ = connect(upstream)
    connection.ask(REQUEST, asked, PATIENCE)
    connection.data_received(OK + b"content-type: " + kind + b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
    assert (asked.head.streams, asked.head.sized) == (streams, False)


# --- The connection ---


async def test_a_connection_is_free_when_the_answer_is_told() -> None:
    class Eager(Asked):
        def answered(self, head: Head, body: bytes) -> None:
            super().answered(head, body)
            assert upstream.idle(ORIGIN) is connection

    upstream, asked = Upstream(), Eager()
    connection, _ = connect(upstream)
    connection.ask(REQUEST, asked, PATIENCE)
    connection.data_received(JSON)
    assert asked.body == b"hello"


async def test_a_connection_that_works_is_not_usable() -> None:
    upstream = Upstream()
    connection, _ = connect(upstream)
    connection.ask(REQUEST, Asked(), PATIENCE)
    assert not connection.usable


async def test_an_answer_to_bytes_that_were_not_all_taken_ends_the_connection() -> None:
    upstream, asked = Upstream(), Asked()
    ask(upstream, JSON)
    connection, line = connect(upstream)
    connection.ask(REQUEST, asked, PATIENCE)
    line.unsent = 1
    connection.data_received(JSON)
    assert line.closed
    assert asked.body == b"hello"


async def test_bytes_that_come_after_a_known_answer_close_the_connection() -> None:
    upstream = Upstream()
    connection, line = connect(upstream)
    for _ in range(2):
        ask(upstream, JSON, over=connection)
    connection.data_received(JSON)
    assert line.closed


@pytest.mark.parametrize("field", [(b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x\r\ny", b"z"), (b"x y", b"z")])
def test_lines_that_would_be_other_lines_are_refused(field) -> None:
    with pytest.raises(ValueError, match=r"control character|token"):
        Upstream.lines([(b"a", b"b"), field])


def test_lines_leave_out_what_belongs_to_the_connection() -> None:
    fields = [(b"x", b"1"), (b"host", b"evil"), (b"content-length", b"9"), (b"transfer-encoding", b"x"), (b"y", b"2")]
    assert Upstream.lines(fields) == b"\r\nx: 1\r\ny: 2"


async def test_the_request_is_written_as_it_was_given() -> None:
    connection, line = connect(Upstream())
    connection.ask(REQUEST, Asked(), PATIENCE)
    assert line.written == REQUEST


async def test_who_leaves_hears_nothing_and_closes_the_connection() -> None:
    upstream, asked = Upstream(), Asked()
    connection, line = connect(upstream)
    connection.ask(REQUEST, asked, PATIENCE)
    connection.leave(asked)
    connection.connection_lost(None)
    assert line.closed
    assert not asked.calls


async def test_who_was_answered_cannot_close_the_connection_of_the_next_one() -> None:
    upstream, first, second = Upstream(), Asked(), Asked()
    connection, line = connect(upstream)
    connection.ask(REQUEST, first, PATIENCE)
    connection.data_received(JSON)
    connection.ask(REQUEST, second, PATIENCE)
    connection.leave(first)
    assert not line.closed


async def test_who_leaves_when_an_answer_begins_hears_nothing_more() -> None:
    class Leaving(Asked):
        def began(self, response: UpstreamResponse) -> None:
            super().began(response)
            response.abandon()

    upstream, asked = Upstream(), Leaving()
    connection, line = connect(upstream)
    connection.ask(REQUEST, asked, PATIENCE)
    connection.data_received(JSON[:-1])
    assert line.closed
    assert not asked.news.is_set()


async def test_the_time_to_answer_begins_when_a_slow_agent_has_taken_the_request() -> None:
    upstream, asked = Upstream(), Asked()
    connection, _ = connect(upstream)
    connection.pause_writing()
    connection.ask(REQUEST, asked, 0.01)
    await asyncio.sleep(0.05)
    assert not asked.calls
    connection.resume_writing()
    await asyncio.wait_for(asked.news.wait(), 5)
    assert asked.found[4] == FailureKind.TIMEOUT


async def silence(reader, writer):
    await read_request(reader)
    await reader.read()


async def hang_up(reader, writer):
    await read_request(reader)


async def heard(upstream: Upstream, agent: ScriptedAgent, patience: float = PATIENCE) -> Asked:
    asked = Asked()
    connection = await upstream.connection(agent.origin)
    connection.ask(REQUEST, asked, patience)
    await asyncio.wait_for(asked.news.wait(), 10)
    return asked


@pytest.mark.parametrize(
    ("script", "patience", "kind"), [(silence, 0.05, FailureKind.TIMEOUT), (hang_up, 5.0, FailureKind.CLOSED)]
)
async def test_an_agent_that_does_not_answer_is_a_response_that_failed(script, patience, kind) -> None:
    upstream = Upstream()
    async with ScriptedAgent(script) as agent:
        asked = await heard(upstream, agent, patience)
        assert asked.found[4] == kind
        await upstream.aclose()


async def test_closing_the_pool_fails_what_was_asked() -> None:
    upstream, asked = Upstream(), Asked()
    async with ScriptedAgent(silence) as agent:
        connection = await upstream.connection(agent.origin)
        connection.ask(REQUEST, asked, PATIENCE)
        await upstream.aclose()
        assert asked.found[4] == FailureKind.CLOSED


async def test_many_askers_share_a_connection_one_after_another() -> None:
    upstream = Upstream()
    async with ScriptedAgent(JSON) as agent:
        bodies = [(await heard(upstream, agent)).body for _ in range(5)]
        assert (bodies, agent.connections) == ([b"hello"] * 5, 1)
        await upstream.aclose()


async def test_a_connection_that_is_spared_serves_the_next_one() -> None:
    upstream = Upstream()
    async with ScriptedAgent(JSON) as agent:
        connection = await upstream.connection(agent.origin)
        upstream.spare(agent.origin, connection)
        assert upstream.idle(agent.origin) is connection
        await upstream.aclose()
