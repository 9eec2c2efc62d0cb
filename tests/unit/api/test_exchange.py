"""One exchange: the head is checked, the body is read to its end or not at all, and the caller may leave."""

import asyncio
from typing import Any

import pytest

from identity_gateway.api import exchange as module
from identity_gateway.api.exchange import MAX_HEAD, MAX_HEADERS, CallerLeft, Exchange, Message
from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol.request import Request
from tests.fakes.asgi import LEFT, Connection, pieces, scope_of

HOST = (b"host", b"gateway.test")
SINGLE = [b"host", b"authorization", b"content-length", b"content-type", b"x-amz-date"]


def opened(*messages: Message, headers: tuple[tuple[bytes, bytes], ...] = (HOST,), **scope: Any) -> Exchange:
    exchange, _ = connected(*messages, headers=headers, **scope)
    return exchange


def connected(
    *messages: Message, headers: tuple[tuple[bytes, bytes], ...] = (HOST,), **scope: Any
) -> tuple[Exchange, Connection]:
    connection = Connection(messages)
    request = Request("POST", b"/runtimes/a%2Fb/invocations", b"qualifier=x", headers)
    return Exchange(scope_of(request) | scope, connection.receive, connection.send), connection


async def read(exchange: Exchange) -> bytes:
    return b"".join([chunk async for chunk in exchange.body()])


# --- The head ---

BAD_HEADS = {
    "no host": (),
    "too many headers": (HOST, *((b"x-%d" % number, b"") for number in range(MAX_HEADERS))),
    "a long value": (HOST, (b"x", b"v" * MAX_HEAD)),
    "a long name": (HOST, (b"x" * MAX_HEAD, b"v")),
    "many middling headers": (HOST, *((b"x-%d" % number, b"v" * 1000) for number in range(70))),
} | {f"{name.decode()} twice": (HOST, *[(name, b"1")] * (1 if name == b"host" else 2)) for name in SINGLE}


@pytest.mark.parametrize("name", BAD_HEADS)
async def test_a_bad_head_is_refused(name: str):
    with pytest.raises(ValidationFailed) as caught:
        opened(headers=BAD_HEADS[name]).check_head()
    assert caught.value.kind == "CannotParse"


@pytest.mark.parametrize("scope", [{"raw_path": b"/" + b"a" * MAX_HEAD}, {"query_string": b"a" * MAX_HEAD}])
async def test_a_long_request_line_is_refused(scope: dict[str, Any]):
    with pytest.raises(ValidationFailed):
        opened(**scope).check_head()


async def test_a_head_that_is_as_large_as_allowed_is_taken():
    opened(headers=(HOST, *((b"x-%d" % number, b"v") for number in range(MAX_HEADERS - 1)))).check_head()
    fixed = len(b"/runtimes/a%2Fb/invocations" + b"qualifier=x") + len(b"hostgateway.test") + len(b"x") + 8
    opened(headers=(HOST, (b"x", b"v" * (MAX_HEAD - fixed)))).check_head()
    with pytest.raises(ValidationFailed):
        opened(headers=(HOST, (b"x", b"v" * (MAX_HEAD - fixed + 1)))).check_head()


async def test_other_headers_may_stand_more_than_once():
    opened(headers=(HOST, (b"x", b"1"), (b"x", b"2"), (b"accept", b"a"), (b"accept", b"b"))).check_head()


async def test_the_request_is_what_the_wire_said():
    exchange = opened(headers=(HOST, (b"x", b"\xff")))
    assert exchange.request == Request("POST", b"/runtimes/a%2Fb/invocations", b"qualifier=x", (HOST, (b"x", b"\xff")))
    assert exchange.source == "203.0.113.7"


async def test_a_caller_without_an_address_has_no_source():
    assert opened(client=None).source == ""


async def test_every_exchange_has_an_id_of_its_own():
    assert opened().request_id != opened().request_id


# --- The body ---


@pytest.mark.parametrize(
    "messages",
    [[LEFT], [*pieces(b"a", b"b", whole=False), LEFT]],
    ids=["before it begins", "in the middle"],
)
async def test_a_body_that_is_cut_is_a_caller_who_left(messages: list[Message]):
    with pytest.raises(CallerLeft):
        await read(opened(*messages))


async def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BODY_PATIENCE", 0.01)
    with pytest.raises(ValidationFailed, match="in time"):
        await read(opened(*pieces(b"a", whole=False)))


@pytest.mark.parametrize("chunks", [[b"12345678901"], [b"1234567890", b"1"], [b"1"] * 11])
async def test_a_body_that_is_too_large_is_refused(chunks: list[bytes]):
    with pytest.raises(ValidationFailed) as caught:
        await opened(*pieces(*chunks)).read(10)
    assert caught.value.kind == "CannotParse"


async def test_a_body_that_is_too_large_is_not_read_further():
    exchange, connection = connected(*pieces(b"x" * 11, b"never read", b"nor this"))
    with pytest.raises(ValidationFailed):
        await exchange.read(10)
    assert connection.received == 1


@pytest.mark.parametrize("chunks", [[b""], [b"1234567890"], [b"1", b"", b"23"]])
async def test_a_body_is_what_arrived(chunks: list[bytes]):
    assert await opened(*pieces(*chunks)).read(10) == b"".join(chunks)


async def test_a_message_without_members_is_the_end_of_an_empty_body():
    assert await read(opened({"type": "http.request"})) == b""


async def test_a_body_is_read_once():
    exchange = opened(*pieces(b"a"))
    assert (await read(exchange), await read(exchange)) == (b"a", b"")


# --- A caller who leaves ---


async def waits(awaitable: Any) -> bool:
    done, pending = await asyncio.wait({task := asyncio.ensure_future(awaitable)}, timeout=0.02)
    for each in pending:
        each.cancel()
    assert not (done and task.exception())
    return not done


async def test_nobody_listens_for_the_end_while_the_body_is_being_read():
    exchange, connection = connected(*pieces(b"a"), LEFT)
    assert await waits(exchange.left())
    assert connection.received == 0


async def test_a_caller_who_leaves_after_its_body_is_noticed():
    exchange = opened(*pieces(b"a"), {"type": "http.request"}, LEFT)
    await read(exchange)
    await exchange.left()


async def test_a_caller_who_stays_has_not_left():
    exchange = opened(*pieces(b"a"))
    await read(exchange)
    assert await waits(exchange.left())


async def test_a_body_that_was_given_up_does_not_keep_the_leaving_from_being_noticed():
    exchange = opened(*pieces(b"a", b"b", whole=False), LEFT)
    exchange.abandon_body()
    await exchange.left()
    assert await read(exchange) == b""


# --- The answer ---


async def test_an_answer_has_its_length_and_its_request_id():
    exchange, connection = connected()
    await exchange.answer(200, [(b"content-type", b"application/json")], b"{}")
    assert connection.headers == {
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"x-amzn-requestid": exchange.request_id.encode(),
    }
    assert (connection.body, connection.is_complete, exchange.status, exchange.ended) == (b"{}", True, 200, True)


async def test_an_empty_answer_says_that_it_is_empty():
    exchange, connection = connected()
    await exchange.answer(200, [], b"")
    assert connection.headers[b"content-length"] == b"0"


async def test_an_answer_without_content_has_no_length_and_no_body():
    exchange, connection = connected()
    await exchange.answer(204, [], b"")
    assert b"content-length" not in connection.headers
    assert (connection.body, connection.is_complete) == (b"", True)


async def test_a_request_id_that_is_there_is_not_said_twice():
    exchange, connection = connected()
    await exchange.answer(400, [(b"x-amzn-requestid", b"id-1")], b"")
    assert connection.headers[b"x-amzn-requestid"] == b"id-1"


async def test_chunks_are_sent_as_they_come():
    exchange, connection = connected()
    await exchange.begin(200, [])
    await exchange.chunk(b"a")
    assert (connection.body, connection.is_complete, exchange.ended) == (b"a", False, False)
    await exchange.end()
    assert (connection.body, connection.is_complete, exchange.ended) == (b"a", True, True)


# --- What is kept of the body for a refusal ---


async def test_a_body_that_nobody_read_is_there_for_a_refusal():
    assert await opened(*pieces(b"one ", b"two")).small_body() == b"one two"


async def test_a_body_that_somebody_read_is_there_for_a_refusal():
    exchange = opened(*pieces(b"one ", b"two"))
    await read(exchange)
    assert await exchange.small_body() == b"one two"


async def test_a_body_that_somebody_began_to_read_is_there_whole():
    exchange = opened(*pieces(b"one ", b"two"))
    await anext(exchange.body())
    assert await exchange.small_body() == b"one two"


async def test_of_a_long_body_nothing_is_kept():
    assert await opened(*pieces(*[b"x" * 1024] * 65)).small_body() == b""


async def test_a_body_that_says_that_it_is_long_is_not_waited_for():
    exchange, connection = connected(*pieces(b"x"), headers=(HOST, (b"content-length", b"100000000")))
    assert (await exchange.small_body(), connection.received) == (b"", 0)


async def test_a_body_that_drips_in_is_not_read_for_its_id(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BRIEF_PATIENCE", 0.01)
    assert await opened(*pieces(b"x", whole=False)).small_body() == b""


async def test_who_leaves_in_the_middle_of_a_body_is_not_refused_any_more():
    with pytest.raises(CallerLeft):
        await opened(*pieces(b"x", whole=False), LEFT).small_body()


async def test_nothing_is_kept_once_an_answer_has_begun():
    exchange = opened(*pieces(b"one"))
    await read(exchange)
    await exchange.begin(200, [])
    assert await exchange.small_body() == b""


STREAMS = {
    "a stream of events": ([(b"content-type", b"text/event-stream; charset=utf-8")], True),
    "a stream whose length is known": ([(b"content-type", b"text/event-stream"), (b"content-length", b"9")], False),
    "a compressed stream": ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], False),
    "JSON": ([(b"content-type", b"application/json")], False),
    "nothing said": ([], False),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_an_event_can_be_added_to_an_open_stream_of_events_only(name: str):
    headers, expected = STREAMS[name]
    exchange = opened()
    await exchange.begin(200, headers)
    assert exchange.streams_events is expected


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True), ("wss", True), ("ws", False)])
def test_an_exchange_knows_whether_its_connection_is_encrypted(scheme: str, secure: bool):
    assert opened(scheme=scheme).secure is secure
