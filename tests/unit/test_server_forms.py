"""Heads like one that was read before: they say the same but for some values, and nothing else is taken for one."""

from collections.abc import Sequence

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from identity_gateway.api.exchange import MAX_HEAD
from identity_gateway.server import forms
from identity_gateway.server.forms import AUTHORIZATION, LENGTH, TARGET, Form, Forms

TARGET_OF_ALL = b"/runtimes/a/invocations?qualifier=DEFAULT"
SESSION = b"x-amzn-bedrock-agentcore-runtime-session-id"
SIGNED = b"AWS4-HMAC-SHA256 Credential=AKIA/20261123/x/y/aws4_request, SignedHeaders=host;x-amz-date, Signature="

Fields = Sequence[tuple[bytes, bytes]]
BEARER: Fields = (
    (b"Host", b"gateway"),
    (b"Authorization", b"Bearer a.b.c"),
    (b"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", b"s" * 33),
    (b"accept", b"text/event-stream, */*"),
    (b"Content-Length", b"2"),
)
SIGNER: Fields = (
    (b"host", b"gateway"),
    (b"x-amz-date", b"20261123T101112Z"),
    (b"x-amz-content-sha256", b"0" * 64),
    (b"authorization", SIGNED + b"f" * 64),
    (b"content-length", b"2"),
)


class Read:
    """What a parser makes of a request."""

    def __init__(self, request: bytes) -> None:
        self.url, self.fields, self.body, self.complete = b"", [], b"", 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(request)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def request(fields: Fields = BEARER, body: bytes = b"{}", *, target: bytes = TARGET_OF_ALL) -> bytes:
    lines = [b"POST " + target + b" HTTP/1.1", *(b"%b: %b" % field for field in fields), b"", b""]
    return b"\r\n".join(lines) + body


def with_value(name: bytes, value: bytes, fields: Fields = BEARER) -> Fields:
    return [(each, value if each.lower() == name else before) for each, before in fields]


def learnt(whole: bytes) -> Form[str] | None:
    read = Read(whole)
    return Forms[str]().learn(whole, read.url, read.fields)


def form(fields: Fields = BEARER) -> Form[str]:
    made = learnt(request(fields))
    assert made is not None
    return made


# --- What is of the form ---


@pytest.mark.parametrize("fields", [BEARER, SIGNER])
def test_a_head_is_of_its_own_form(fields: Fields):
    assert form(fields).read(request(fields)) is not None


@pytest.mark.parametrize("body", [b"", b"x", b"{}", b"x" * 99_999, b"\r\n\r\n", b"content-length: 7\r\n\r\n1234567"])
def test_the_body_may_be_another(body: bytes):
    whole = request(with_value(b"content-length", b"%d" % len(body)), body)
    read = form().read(whole)
    assert read is not None
    assert read[1] == body


@pytest.mark.parametrize(
    ("name", "value", "fields"),
    [
        (b"authorization", b"Bearer another.token", BEARER),
        (SESSION, b"t" * 40, BEARER),
        (b"x-amz-date", b"20261123T111111Z", SIGNER),
        (b"x-amz-content-sha256", b"a" * 64, SIGNER),
        (b"authorization", SIGNED + b"0" * 64, SIGNER),
    ],
)
def test_these_values_may_be_others(name: bytes, value: bytes, fields: Fields):
    like = form(fields)
    read = like.read(request(with_value(name, value, fields)))
    assert read is not None
    assert dict(like.headers(read[0]))[name] == value
    assert read[0][like.at[name]] == value.removeprefix(like.begins if name == AUTHORIZATION else b"")


def test_the_target_may_be_another():
    like = form()
    read = like.read(request(target=b"/other?q=1"))
    assert read is not None
    assert read[0][like.at[TARGET]] == b"/other?q=1"


# --- What is not ---


@pytest.mark.parametrize(
    "other",
    [
        request(with_value(b"content-length", b"3")),
        request(with_value(b"content-length", b"1")),
        request(with_value(b"content-length", b" 2")),
        request(with_value(b"content-length", b"2 ")),
        request(with_value(b"content-length", b"+2")),
        request(with_value(b"content-length", b"-2")),
        request(with_value(b"content-length", b"0x2")),
        request(with_value(b"content-length", b"2,2")),
        request(with_value(b"content-length", b"")),
        request(with_value(b"content-length", b"000002")),
        request(with_value(b"content-length", "\u0662".encode())),
        request(with_value(b"authorization", b"Bearer ")),
        request(with_value(b"authorization", b"Bearer a b")),
        request(with_value(b"authorization", b"Bearer a\tb")),
        request(with_value(b"authorization", b"Bearer a\x00b")),
        request(with_value(b"authorization", b"Bearer a\xffb")),
        request(with_value(b"authorization", b"Bearer a\nb: c")),
        request(with_value(b"authorization", b"Bearer a\r\ntransfer-encoding: chunked")),
        request(with_value(b"authorization", b"bearer a.b.c")),
        request(with_value(b"authorization", b"Bearer " + b"a" * 16_385)),
        request(with_value(SESSION, b"s" * 257)),
        request(with_value(b"accept", b"*/*")),
        request(target=b"/runtimes/a b"),
        request(target=b"/runtimes/a HTTP/1.1\r\nx: y"),
        request(target=b""),
        request() + b"P",
        request() + request(),
        b"\r\n" + request(),
        request()[:-1],
        request()[1:],
        request().replace(b"POST", b"PUT"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"Host", b"host"),
        request().replace(b": gateway", b":gateway"),
        request().replace(b"\r\n\r\n", b"\n\n"),
        request().replace(b"\r\n", b"\n"),
        request([*BEARER, (b"connection", b"close")]),
        request([*BEARER, (b"Content-Length", b"2")]),
        request([*BEARER, (b"transfer-encoding", b"chunked")]),
        request(BEARER[:-1]),
        request([BEARER[1], BEARER[0], *BEARER[2:]]),
    ],
)
def test_what_differs_in_anything_else_is_not_of_the_form(other: bytes):
    assert form().read(other) is None


@pytest.mark.parametrize(
    "whole",
    [
        request([(b"host", b"gateway")], b""),  # no length
        request([*BEARER[:-1], (b"Content-Length", b" 2")]),
        request(with_value(b"authorization", b"Basic YTpi")),
        request([*BEARER, (b"x-long", b"x" * 4096)]),
        b"\r\n" + request(),
        request() + b"more",
        request()[:-1],
    ],
)
def test_nothing_is_learnt_from_other_heads(whole: bytes):
    read = Read(whole.removesuffix(b"more"))
    assert Forms[str]().learn(whole, read.url, read.fields) is None


def test_nothing_is_learnt_where_a_parser_has_read_something_else():
    read = Read(request())
    known = Forms[str]()
    assert known.learn(request(), read.url + b"x", read.fields) is None
    assert known.learn(request(), read.url, read.fields[1:]) is None
    assert known.learn(request(), read.url, read.fields[:-1]) is None
    assert known.learn(request(), read.url, [(b"hosts", b"gateway"), *read.fields[1:]]) is None
    assert known.learn(request(), read.url, [(name, value + b"x") for name, value in read.fields]) is None
    assert known.learn(request(), read.url, [(name + b"x", value) for name, value in read.fields]) is None


_BYTES = st.one_of(
    st.binary(max_size=40), st.text("abc.-_~=%?/ \t\r\n:,;0123456789\0\x7f\xff", max_size=40).map(str.encode)
)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from([BEARER, SIGNER]), st.data())
@example(BEARER, None).via("the head itself")
def test_whatever_is_of_the_form_is_read_as_a_parser_reads_it(fields: Fields, data: st.DataObject | None):
    """Somewhere in the head, something is put in, left out or replaced: it is read rightly, or not at all."""
    like, whole = form(fields), request(fields)
    if data is not None:
        begin = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(begin, min(len(whole), begin + 40)))
        whole = whole[:begin] + data.draw(_BYTES) + whole[end:]
    found = like.read(whole)
    if found is None:
        return
    values, body = found
    read = Read(whole)
    assert read.complete == 1
    assert read.parser.get_method() == b"POST"
    assert read.parser.get_http_version() == "1.1"
    assert read.parser.should_keep_alive()
    assert values[like.at[TARGET]] == read.url
    assert like.headers(values) == tuple(read.fields)
    assert body == read.body


# --- What is kept ---


def test_a_form_is_there_once_for_each_use():
    read, known = Read(request()), Forms[str]()
    first = known.learn(request(), read.url, read.fields, "one")
    assert first is known.learn(request(), read.url, read.fields, "one")
    assert first is not known.learn(request(), read.url, read.fields, "two")


def test_no_credential_is_kept():
    like = form()
    kept = dict(like.headers([b""] * len(like.at)))
    assert kept[AUTHORIZATION] == b"Bearer "
    assert kept[SESSION] == b""
    assert kept[LENGTH] == b""


def test_the_latest_forms_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forms, "_REMEMBERED", 3)
    known = Forms[str]()
    for number in range(6):
        whole = request([*BEARER, (b"x", b"%d" % number)])
        read = Read(whole)
        known.learn(whole, read.url, read.fields)
    assert len(known._known) == 3


def test_no_head_of_a_form_is_longer_than_heads_may_be():
    assert sum(forms._LONGEST.values()) + forms._MOST_BYTES < MAX_HEAD
