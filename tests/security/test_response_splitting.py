"""Nothing that a caller or an agent writes into a field can end the field, the head or the message early."""

import asyncio
import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_gateway.upstream import Upstream, UpstreamError
from identity_gateway.upstream.head import host_line, request_head
from identity_gateway.upstream.response import ResponseReader
from tests.fakes.agent import ScriptedAgent, answer, read_request

HOST = host_line("agent.test")
CONTROLS = [bytes([code]) for code in (*range(9), *range(10, 32), 127)]
SMUGGLED = [
    b"x\r\ninjected: 1",
    b"x\ninjected: 1",
    b"x\rinjected: 1",
    b"x\r\n\r\nGET /evil HTTP/1.1\r\nhost: x",
    b"x\0",
    b"\r\n x",
]


def head(method=b"POST", target=b"/", headers=(), length: int | None = 0) -> bytes:
    return request_head(method, target, HOST, headers, length=length)


# --- Towards the agent ---


@pytest.mark.parametrize("value", [*SMUGGLED, *CONTROLS])
def test_a_value_with_a_control_character_is_refused(value) -> None:
    with pytest.raises(ValueError, match="control character"):
        head(headers=[(b"a", b"fine"), (b"b", value)])


@pytest.mark.parametrize(
    "name", [b"", b" ", b"a b", b"a:", b"a\r\nb", b"a\n", b"a\0", b"(a)", b'"a"', "ä".encode(), b"a\t", b" a"]
)
def test_a_name_that_is_not_a_token_is_refused(name) -> None:
    for _ in range(2):  # what is remembered about names must not remember this one as good
        with pytest.raises(ValueError, match="not a token"):
            head(headers=[(name, b"x")])


@pytest.mark.parametrize(
    "target",
    [b"", b"*", b"a", b"http://evil.test/", b"/a b", b"/ HTTP/1.1\r\nx: y", b"/\r", b"/\n", b"/\0", b"/\t", b"/#x", b"/\xc3\xa4", b"/\x7f"],
)  # fmt: skip
def test_a_target_that_is_not_a_path_is_refused(target) -> None:
    with pytest.raises(ValueError, match="target"):
        head(target=target)


@pytest.mark.parametrize("method", [b"", b"GET ", b"GET /evil", b"GET\r\n", b"G\0T", b"CONNECT", b"G\xc3\x84T"])
def test_a_method_that_is_not_a_token_is_refused(method) -> None:
    with pytest.raises(ValueError, match="method"):
        head(method=method)


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"keep-alive", b"Proxy-Connection", b"proxy-authorization", b"PROXY-ANYTHING", b"te"),
        *(b"Trailer", b"Transfer-Encoding", b"upgrade", b"CONTENT-LENGTH", b"Host", b"Expect"),
    ],
)
def test_fields_of_the_connection_are_written_here_and_never_passed_on(name) -> None:
    assert head(headers=[(name, b"injected"), (b"x", b"y")], length=3) == (
        b"POST / HTTP/1.1\r\nhost: agent.test\r\nx: y\r\ncontent-length: 3\r\n\r\n"
    )


def test_a_dropped_field_with_a_control_character_changes_nothing() -> None:
    assert head(headers=[(b"te", b"x\r\ninjected: 1")]) == head()


def test_a_nominated_field_is_not_struck_out() -> None:
    assert b"x-identity: me" in head(headers=[(b"connection", b"x-identity"), (b"x-identity", b"me")])


@given(
    fields=st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=20)), max_size=4),
    target=st.binary(max_size=12).map(lambda tail: b"/" + tail),
)
def test_a_head_has_exactly_the_lines_that_were_asked_for(fields, target) -> None:
    with suppress(ValueError):
        written = head(target=target, headers=fields)
        first, *lines = written.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert first.split(b" ") == [b"POST", target, b"HTTP/1.1"]
        assert len(lines) <= 2 + len(fields)
        assert not re.search(rb"[\r\n\0]", written.replace(b"\r\n", b""))


async def test_a_request_that_is_refused_reaches_no_agent() -> None:
    upstream = Upstream()
    async with ScriptedAgent(answer()) as agent:
        with pytest.raises(ValueError, match="control character"):
            await upstream.request(agent.origin, b"POST", b"/", [(b"x", b"a\r\nb: c")], b"{}", head_timeout=5)
        assert agent.connections == 0
    await upstream.aclose()


async def test_a_body_cannot_start_a_second_request() -> None:
    upstream, inner = Upstream(), b"0\r\n\r\nGET /evil HTTP/1.1\r\nhost: x\r\n\r\n"

    async def body():
        yield inner
        yield b""
        yield inner

    async with ScriptedAgent(answer()) as agent:
        for data, length in ((inner * 2, None), (body(), None), (body(), 2 * len(inner))):
            await upstream.request(agent.origin, b"POST", b"/", [], data, length, head_timeout=5)
        assert [request.body for request in agent.requests] == [inner * 2] * 3
        assert {request.line for request in agent.requests} == {b"POST / HTTP/1.1"}
    await upstream.aclose()


# --- From the agent ---


@pytest.mark.parametrize("control", CONTROLS)
def test_a_response_value_with_a_control_character_is_never_relayed(control) -> None:
    reader = ResponseReader(to_head=False, max_head=1000)
    with pytest.raises(UpstreamError):
        reader.feed(b"HTTP/1.1 200 OK\r\nx: a" + control + b"b: c\r\ncontent-length: 0\r\n\r\n")


@settings(max_examples=300)
@given(fields=st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=12)), max_size=4), cut=st.integers(0, 80))
def test_fields_of_a_response_hold_no_byte_that_could_split_another(fields, cut) -> None:
    raw = b"HTTP/1.1 200 OK\r\n" + b"".join(n + b":" + v + b"\r\n" for n, v in fields) + b"content-length: 0\r\n\r\n"
    reader = ResponseReader(to_head=False, max_head=1000)
    with suppress(UpstreamError):
        for part in (raw[:cut], raw[cut:]):
            if part and not reader.ended:
                reader.feed(part)
    for name, value in reader.headers:
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name)
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value)


async def test_a_response_that_hides_in_another_never_answers_the_next_request() -> None:
    hidden = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
    upstream = Upstream()

    async def script(reader, writer) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                request = await read_request(reader)
                writer.write(answer(request.body) + (hidden if request.body == b"first" else b""))

    async with ScriptedAgent(script) as agent:
        for body in (b"first", b"second"):
            async with await upstream.request(agent.origin, b"POST", b"/", [], body, head_timeout=5) as response:
                assert [chunk async for chunk in response] == [body]
        assert agent.connections == 2
    await upstream.aclose()


async def test_the_rest_of_a_response_that_was_not_read_never_answers_the_next_request() -> None:
    upstream = Upstream()

    async def script(reader, writer) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await read_request(reader)
                writer.write(
                    answer(b"x" * 2_000_000 + b"HTTP/1.1 200 OK\r\n\r\n" if request.body == b"long" else b"own")
                )
                await writer.drain()

    async with ScriptedAgent(script) as agent:
        async with await upstream.request(agent.origin, b"POST", b"/", [], b"long", head_timeout=5) as response:
            assert response.status == 200
        async with await upstream.request(agent.origin, b"POST", b"/", [], b"short", head_timeout=5) as response:
            assert [chunk async for chunk in response] == [b"own"]
    await upstream.aclose()
