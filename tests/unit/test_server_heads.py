"""Heads of requests that were read before: the same bytes are the same head, and nothing else is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_gateway.server import heads
from identity_gateway.server.heads import Heads

LINES = (b"POST /runtimes/a/invocations HTTP/1.1", b"host: gateway", b"authorization: Bearer a.b.c", b"accept: */*")


def request(body: bytes = b"{}", *, length: bytes | None = None, name: bytes = b"content-length", at: int = 4) -> bytes:
    said = name + b": " + (str(len(body)).encode() if length is None else length)
    return b"\r\n".join([*LINES[:at], said, *LINES[at:], b"", b""]) + body


@pytest.fixture
def known() -> Heads[str]:
    made: Heads[str] = Heads()
    made.learn(request(), "known", 1)
    return made


@pytest.mark.parametrize("body", [b"", b"x", b"{}", b"x" * 99_999, b"\r\n\r\n", b"content-length: 7\r\n\r\n1234567"])
def test_a_head_is_known_whatever_the_length_of_its_body(known: Heads[str], body: bytes):
    assert known.find(request(body)) == ("known", body)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("name", [b"content-length", b"Content-Length"])
def test_a_head_is_known_wherever_its_length_stands(name: bytes, at: int):
    made: Heads[str] = Heads()
    made.learn(request(name=name, at=at), "known", 1)
    assert made.find(request(b"another", name=name, at=at)) == ("known", b"another")


@pytest.mark.parametrize(
    "other",
    [
        request(length=b"3"),
        request(length=b"1"),
        request(length=b" 2"),
        request(length=b"2 "),
        request(length=b"+2"),
        request(length=b"-2"),
        request(length=b"0x2"),
        request(length=b"2, 2"),
        request(length=b""),
        request(length=b"000002"),
        request(length="\u0662".encode()),
        request(name=b"Content-length"),
        request(at=3),
        request() + b"P",
        request() + request(),
        b"\r\n" + request(),
        request()[:-1],
        request().replace(b"\r\n\r\n", b"\n\n"),
        request().replace(b"\r\n", b"\n"),
        request().replace(b"\r\nhost", b"\r\ncontent-length: 2\r\nhost"),
        request().replace(b"content-length: 2", b"content-length: 2\r\n content-length: 2"),
        request().replace(b"content-length: 2", b"transfer-encoding: chunked"),
    ],
)
def test_what_differs_in_anything_else_is_not_known(known: Heads[str], other: bytes):
    assert known.find(other) is None


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_head_that_differs_in_one_byte_is_not_known(data: st.DataObject):
    made: Heads[str] = Heads()
    made.learn(request(), "known", 1)
    whole = request()
    place = data.draw(st.integers(0, whole.index(b"\r\n\r\n") + 3))
    byte = data.draw(st.integers(0, 255).filter(lambda other: other != whole[place]))
    assert made.find(whole[:place] + bytes([byte]) + whole[place + 1 :]) is None


def test_a_head_of_many_bytes_is_not_remembered():
    made: Heads[str] = Heads()
    long = request().replace(b"accept: ", b"accept: " + b"x" * 16_384)
    made.learn(long, "known", 1)
    assert made.find(long) is None


def test_the_latest_heads_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heads, "_REMEMBERED", 3)
    made: Heads[int] = Heads()
    many = [request().replace(b"a.b.c", b"%d" % number) for number in range(6)]
    for number, each in enumerate(many):
        made.learn(each, number, 1)
    assert [made.find(each) for each in many] == [None] * 3 + [(number, b"{}") for number in range(3, 6)]


def test_heads_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heads, "_MOST_BYTES", 100)
    made: Heads[int] = Heads()
    many = [request().replace(b"a.b.c", b"%d" % number) for number in range(6)]
    for number, each in enumerate([*many, *many]):
        made.learn(each, number, 40)
    assert [made.find(each) is not None for each in many] == [False] * 4 + [True] * 2
