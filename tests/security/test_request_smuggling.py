"""Request smuggling: what two readers could read differently is refused, and no request ever gets two answers.

Raw bytes go to a running gateway. Whatever it thinks of them, the next caller must be served as if nothing had been.
"""

import json
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import pytest

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.fakes.sigv4_client import signed
from tests.gateways import RunningGateway, register, running_gateway

HOST = b"host: gateway\r\n"
CLOSE = b"connection: close\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LIST = b"POST /identities/ListWorkloadIdentities HTTP/1.1\r\n" + HOST
GET = b"GET /healthz HTTP/1.1\r\n"
HEALTHY = GET + HOST + CLOSE + b"\r\n"
ENOUGH = 1 << 21
SHORT_CUSTOM = b"x-amzn-bedrock-agentcore-runtime-custom-role"


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningGateway]:
    """A gateway that gives a request head one second."""
    with running_gateway(request_head_timeout="1") as running:
        yield running


@pytest.fixture(autouse=True)
def next_caller_is_served(strict: RunningGateway) -> Iterator[None]:
    yield
    assert statuses(talk(strict, HEALTHY)) == [200]


def talk(running: RunningGateway, *pieces: bytes) -> bytes:
    """Send the pieces, and return everything that comes until the gateway closes. One that does not is a failure."""
    heard = b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            pass  # it has heard enough
        try:
            while data := connection.recv(1 << 16):
                heard += data
        except ConnectionResetError:
            pass  # closed while there was more to read
    return heard


def statuses(heard: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", heard, re.MULTILINE)]


def whole(agent: Agent) -> list[dict[str, Any]]:
    """Return the requests that the agent received to their end; it notices late that another was cut."""
    return [received for received in agent.received if "cut" not in received]


def wire(running: RunningGateway, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return the head of a well-signed POST, without the line that ends it and without a length."""
    key_id, secret = running.root_key
    request = signed(
        url=running.url + path, headers=headers, body=body, key_id=key_id, secret=secret, at=datetime.now(UTC)
    )
    lines = [name + b": " + value for name, value in request.headers]
    return b"POST " + path.encode() + b" HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n"


# --- Where a request ends ---

AMBIGUOUS = {
    "length and chunks": LIST + b"content-length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and length": LIST + CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n",
    "two different lengths": LIST + b"content-length: 0\r\ncontent-length: 5\r\n\r\nGET /",
    "the same length twice": LIST + b"content-length: 0\r\ncontent-length: 0\r\n\r\n",
    "a list of lengths": LIST + b"content-length: 0, 0\r\n\r\n",
    "a length with a sign": LIST + b"content-length: +0\r\n\r\n",
    "a negative length": LIST + b"content-length: -1\r\n\r\n",
    "a hexadecimal length": LIST + b"content-length: 0x1\r\n\r\nx",
    "a length beyond 64 bits": LIST + b"content-length: 99999999999999999999\r\n\r\n",
    "a length with a blank before its colon": LIST + b"content-length : 1\r\n\r\nx",
    "chunks under another name": LIST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks twice": LIST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks that are not the last coding": LIST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding that was dropped from HTTP": LIST + b"transfer-encoding: identity\r\n\r\n",
    "chunks behind a vertical tab": LIST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks on a folded line": LIST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /tags/x HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n",
    "a chunk size with 0x": LIST + CHUNKED + b"\r\n0x1\r\nx\r\n0\r\n\r\n",
    "a chunk size with a sign": LIST + CHUNKED + b"\r\n+1\r\nx\r\n0\r\n\r\n",
    "a negative chunk size": LIST + CHUNKED + b"\r\n-1\r\nx\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": LIST + CHUNKED + b"\r\n10000000000000001\r\nx\r\n0\r\n\r\n",
    "a chunk size with a blank": LIST + CHUNKED + b"\r\n1 \r\nx\r\n0\r\n\r\n",
    "a chunk size that ends in LF": LIST + CHUNKED + b"\r\n1\nx\r\n0\r\n\r\n",
    "a chunk extension that ends in LF": LIST + CHUNKED + b"\r\n1;a\nx\r\n0\r\n\r\n",
    "a chunk that is longer than its size": LIST + CHUNKED + b"\r\n1\r\nxx\r\n0\r\n\r\n",
    "a chunk that ends in LF": LIST + CHUNKED + b"\r\n1\r\nx\n0\r\n\r\n",
}

MALFORMED = {
    "lines that end in LF": b"GET /healthz HTTP/1.1\nhost: gateway\n\n",
    "one line that ends in LF": GET + b"host: gateway\nx: y\r\n\r\n",
    "a CR within a value": GET + b"host: gateway\rx: y\r\n\r\n",
    "a folded line": GET + HOST + b"a: b\r\n c\r\n\r\n",
    "a folded first line": GET + b" host: gateway\r\n\r\n",
    "a blank before the colon": GET + b"host : gateway\r\n\r\n",
    "a name without a colon": GET + HOST + b"alone\r\n\r\n",
    "an empty name": GET + HOST + b": empty\r\n\r\n",
    "a NUL in a value": GET + HOST + b"a: b\0c\r\n\r\n",
    "a NUL in a name": GET + HOST + b"a\0: b\r\n\r\n",
    "a NUL in the target": b"GET /healthz\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control character in a value": GET + HOST + b"a: b\x01c\r\n\r\n",
    "no Host": GET + b"\r\n",
    "two Hosts": GET + HOST + HOST + b"\r\n",
    "two Hosts on an operation": LIST + HOST + b"content-length: 0\r\n\r\n",
    "a target without a slash": b"GET healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target with a blank": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target that is not ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "an authority as target": b"GET gateway:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tunnel": b"CONNECT gateway:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.9": b"GET /healthz HTTP/1.9\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in lower case": b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"STEAL /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_whose_end_is_ambiguous_is_refused_and_the_connection_closed(strict: RunningGateway, name: str):
    assert statuses(talk(strict, AMBIGUOUS[name] + HEALTHY)) in ([400], [403])


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_follows_a_request_whose_end_is_ambiguous_is_never_executed(strict: RunningGateway, name: str):
    assert b'{"status":"alive"}' not in talk(strict, AMBIGUOUS[name] + HEALTHY)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused_and_the_connection_closed(strict: RunningGateway, name: str):
    assert statuses(talk(strict, MALFORMED[name] + HEALTHY)) == [400]


# --- Which door a target names ---

TARGETS = {
    "/%zz": 400,
    "/%": 400,
    "//": 400,
    "//healthz": 400,
    "/./healthz": 400,
    "/../healthz": 400,
    "/x/../healthz": 400,
    "/%2e%2e/healthz": 400,
    "/%2E/healthz": 400,
    "/runtimes/%2e%2e/invocations": 400,
    "/runtimes//invocations": 400,
    "/runtimes/a%00b/invocations": 400,
    "/runtimes/x/invocations/": 404,
    "/healthz/": 404,
    "/healthz%20": 404,
    "/%68ealthz": 404,
    "/HEALTHZ": 404,
    "/healthz;x": 404,
    "/metrics%2f": 404,
    "*": 404,
    "/" + "a" * 60_000: 404,
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:30])
def test_a_target_that_only_looks_like_a_door_opens_none(strict: RunningGateway, target: str):
    heard = talk(strict, b"GET " + target.encode() + b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    assert (statuses(heard), b"alive" in heard) == ([TARGETS[target]], False)


def test_an_absolute_target_is_its_path_whatever_authority_it_names(strict: RunningGateway):
    heard = talk(strict, b"GET http://elsewhere.example/healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    assert statuses(heard) == [200]


def test_an_absolute_target_does_not_reach_elsewhere(strict: RunningGateway, agent: Agent):
    talk(strict, f"POST {agent.url}/invocations HTTP/1.1\r\n".encode() + HOST + CLOSE + b"content-length: 0\r\n\r\n")
    assert whole(agent) == []


def test_a_request_in_http_1_0_needs_no_host_and_ends_its_connection(strict: RunningGateway):
    assert statuses(talk(strict, b"GET /healthz HTTP/1.0\r\n\r\n")) == [200]


OFFER = GET + HOST + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n"


def test_an_offer_to_upgrade_is_ignored_and_the_connection_goes_on(strict: RunningGateway):
    with socket.create_connection(("127.0.0.1", strict.port), timeout=20) as connection:
        answers = [answer_to(connection, OFFER) for _ in range(2)]
    assert [statuses(answer) for answer in answers] == [[200], [200]]


def answer_to(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"}") and (data := connection.recv(4096)):
        answer += data
    return answer


def test_what_stands_behind_an_offer_to_upgrade_is_not_executed(strict: RunningGateway):
    assert statuses(talk(strict, OFFER + HEALTHY)) == [200]


@pytest.mark.parametrize("gap", [False, True], ids=["in one piece", "in two pieces"])
@pytest.mark.parametrize("length", [b"content-length: %d\r\n" % len(HEALTHY), CHUNKED])
def test_a_body_behind_an_offer_to_upgrade_does_not_become_a_request(strict: RunningGateway, length: bytes, gap: bool):
    head = LIST + b"connection: upgrade\r\nupgrade: h2c\r\n" + length + b"\r\n"
    heard = talk(strict, *((head, HEALTHY) if gap else (head + HEALTHY,)))
    assert statuses(heard) == [400]


# --- How large a head may be ---


@pytest.mark.parametrize("size", [70_000, 130_000])
def test_a_head_that_is_too_large_for_an_operation_is_refused(strict: RunningGateway, size: int):
    head = LIST + CLOSE + b"a: " + b"a" * size + b"\r\ncontent-length: 0\r\n\r\n"
    assert statuses(talk(strict, head)) == [400]


@pytest.mark.parametrize("door", [GET + HOST, LIST], ids=["page", "operation"])
@pytest.mark.parametrize("pieces", [1, 2, 50])
def test_a_head_of_200_kilobytes_is_refused_by_the_server(strict: RunningGateway, door: bytes, pieces: int):
    heard = talk(strict, door + b"a: ", *[b"a" * (200_000 // pieces)] * pieces, b"\r\n\r\n")
    assert statuses(heard) == [431]


def test_a_field_that_never_ends_is_cut_off(strict: RunningGateway):
    assert statuses(talk(strict, GET + HOST + b"a: ", *repeat(b"a" * 4096, ENOUGH // 4096))) == [431]


def test_a_head_that_never_ends_is_cut_off(strict: RunningGateway):
    assert statuses(talk(strict, GET + HOST, *repeat(b"a: b\r\n" * 500, ENOUGH // 3000))) == [431]


def test_a_target_that_never_ends_is_cut_off(strict: RunningGateway):
    assert statuses(talk(strict, b"GET /", *repeat(b"a" * 4096, ENOUGH // 4096))) == [431]


def test_a_head_of_20_000_fields_is_refused(strict: RunningGateway):
    heard = talk(strict, LIST + CLOSE + b"a: b\r\n" * 20_000 + b"content-length: 0\r\n\r\n")
    assert statuses(heard) == [400]


# --- What stands between and behind the pieces of a body ---


@pytest.fixture
def guarded(strict: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> bytes:
    """The head of a call, in chunks, to a runtime that forwards a custom header."""
    header = {"requestHeaderConfiguration": {"requestHeaderAllowlist": [SHORT_CUSTOM.decode()]}}
    arn = register(strict, agent.url, **guarded_by(jwt_issuer.discovery_url), **header)
    target = strict.invocation_url(arn).removeprefix(strict.url).encode()
    token = token_of(jwt_issuer).encode()
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + CHUNKED + b"authorization: Bearer " + token + b"\r\n"


def test_a_trailer_field_does_not_become_a_header(strict: RunningGateway, guarded: bytes, agent: Agent):
    heard = talk(strict, guarded + CLOSE + b"\r\n2\r\n{}\r\n0\r\n" + SHORT_CUSTOM + b": admin\r\n\r\n")
    names = [name for name, _ in whole(agent)[-1]["headers"]]
    assert (statuses(heard), SHORT_CUSTOM.decode() in names) == ([200], False)


def test_a_trailer_field_does_not_authenticate(strict: RunningGateway, jwt_issuer: FakeIssuer, guarded: bytes):
    head, _, token = guarded.partition(b"authorization")
    heard = talk(strict, head + CLOSE + b"\r\n2\r\n{}\r\n0\r\nauthorization" + token + b"\r\n")
    assert statuses(heard) == [401]


def test_trailers_that_never_end_are_cut_off(strict: RunningGateway, guarded: bytes):
    flood = repeat(b"a: " + b"b" * 4000 + b"\r\n", ENOUGH // 4000)
    assert statuses(talk(strict, guarded + b"\r\n2\r\n{}\r\n0\r\n", *flood)) in ([431], [])


def test_trailers_of_a_refused_request_that_never_end_are_cut_off(strict: RunningGateway):
    flood = repeat(b"a: " + b"b" * 4000 + b"\r\n", ENOUGH // 4000)
    assert statuses(talk(strict, LIST + CHUNKED + b"\r\n0\r\n", *flood)) in ([403], [431], [])


def test_a_chunk_extension_that_never_ends_is_cut_off(strict: RunningGateway, guarded: bytes):
    assert statuses(talk(strict, guarded + b"\r\n1;", *repeat(b"a" * 4096, ENOUGH // 4096))) in ([431], [])


# --- One request at a time ---


def test_a_request_behind_one_that_is_not_answered_yet_is_not_executed(
    strict: RunningGateway, guarded: bytes, agent: Agent
):
    body = b'{"sleep": 0.5}'
    call = guarded + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    heard = talk(strict, call + call)
    assert (statuses(heard), len(whole(agent))) == ([200], 1)


def test_garbage_behind_a_request_does_not_answer_for_it(strict: RunningGateway, guarded: bytes):
    body = b'{"stream": 3, "pause": 0.2}'
    call = guarded + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    heard = talk(strict, call, b"\r\n\r\nGARBAGE\r\n\r\n")
    assert (statuses(heard), heard.count(b"data: "), heard.endswith(b"0\r\n\r\n")) == ([200], 3, True)


def test_the_beginning_of_a_next_request_does_not_break_into_a_stream(strict: RunningGateway, guarded: bytes):
    body = b'{"stream": 4, "pause": 0.5}'  # longer than a head may take
    call = guarded + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    heard = talk(strict, call, b"GET /heal")
    assert (statuses(heard), heard.count(b"data: "), heard.endswith(b"0\r\n\r\n")) == ([200], 4, True)


def test_a_malformed_chunk_does_not_break_into_an_answer_that_has_begun(
    strict: RunningGateway, agent: Agent, guarded: bytes
):
    heard = talk(strict, guarded + b"\r\n2\r\n{}\r\n", b"zz\r\n")
    assert statuses(heard) in ([400], [])
    assert whole(agent) == []


def test_the_rest_of_a_refused_request_gets_no_answer_of_its_own(strict: RunningGateway):
    head = LIST + b"content-length: 1000\r\n\r\n"
    assert statuses(talk(strict, head, HEALTHY * 3)) == [403]


# --- How long it may take ---


def test_a_caller_that_says_nothing_is_not_kept(strict: RunningGateway):
    assert talk(strict, b"") == b""


@pytest.mark.parametrize("said", [b"G", GET, GET + HOST + b"a: b"])
def test_a_head_that_stops_is_not_kept(strict: RunningGateway, said: bytes):
    assert statuses(talk(strict, said)) == [408]


def test_a_second_head_that_stops_is_not_kept(strict: RunningGateway):
    with socket.create_connection(("127.0.0.1", strict.port), timeout=20) as connection:
        first = answer_to(connection, GET + HOST + b"\r\n")
        connection.sendall(b"GET /heal")
        rest = b"".join(iter(lambda: connection.recv(4096), b""))
    assert (statuses(first), statuses(rest)) == ([200], [408])


@pytest.mark.parametrize("began", [b"", b"{"])
def test_the_body_of_an_operation_that_stops_is_not_waited_for(strict: RunningGateway, began: bytes):
    head = wire(strict, "/identities/ListWorkloadIdentities") + b"content-length: 2\r\n\r\n"
    assert statuses(talk(strict, head + began)) == [408]


def test_a_signed_call_whose_body_stops_is_not_waited_for(strict: RunningGateway, agent: Agent):
    path = strict.invocation_url(register(strict, agent.url)).removeprefix(strict.url)
    heard = talk(strict, wire(strict, path) + b"content-length: 9000000\r\n\r\n", b"x" * 2_000_000)
    assert (statuses(heard), whole(agent)) == ([408], [])


def test_a_body_that_trickles_is_not_waited_for(strict: RunningGateway):
    head = wire(strict, "/identities/ListWorkloadIdentities") + b"content-length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", strict.port), timeout=0.1) as connection:
        connection.sendall(head)
        heard = b""
        for _ in range(100):
            try:
                connection.sendall(b" ")
                if not (data := connection.recv(4096)):
                    break
                heard += data
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                break
    assert statuses(heard) == [408]


def test_a_caller_that_was_refused_early_has_little_time_for_the_rest(strict: RunningGateway):
    assert statuses(talk(strict, LIST + b"content-length: 1000000\r\n\r\n", b"x")) == [403]


def test_a_slow_agent_is_not_the_fault_of_its_caller(strict: RunningGateway, guarded: bytes):
    body = json.dumps({"sleep": 2.5}).encode()  # longer than a head may take
    assert statuses(talk(strict, guarded + CLOSE + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))) == [200]
