"""A call that repeats another takes the short way: its agent, its caller and its operator see what they see on the long."""

import json
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, free_port, register, running_gateway
from tests.integration.test_drain import CLEAN
from tests.repeated_calls import Answered, Caller, Says, Teller, running_teller
from tests.sessions import SESSION, new_session, running_agents

CUSTOM = "x-amzn-bedrock-agentcore-runtime-custom-"
ALLOWED = ["Authorization", f"{CUSTOM}colour"]
PORT = free_port()
LEFT = "the caller left"


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningGateway]:
    """A gateway whose calls only the tests of this module make."""
    with running_gateway(metrics_port=str(PORT), agent_sync_timeout="2") as running:
        yield running


@pytest.fixture
def teller() -> Iterator[Teller]:
    """An agent that can be told what to say."""
    with running_teller() as running:
        yield running


def a_caller(gateway: RunningGateway, url: str, issuer: FakeIssuer, **more: Any) -> Caller:
    """Return a caller of a new runtime at this address, which passes the headers of `ALLOWED` on."""
    more |= {"requestHeaderConfiguration": {"requestHeaderAllowlist": ALLOWED}}
    arn = register(gateway, url, **guarded_by(issuer.discovery_url), **more)
    return Caller(gateway, arn, token_of(issuer))


@pytest.fixture
def caller(plain: RunningGateway, teller: Teller, jwt_issuer: FakeIssuer) -> Iterator[Caller]:
    """Somebody who may call the teller, and has called nobody yet."""
    made = a_caller(plain, teller.url, jwt_issuer)
    yield made
    made.close()


def line_about(gateway: RunningGateway, answered: Answered) -> dict[str, Any]:
    """Wait for the line about a call, and return it."""
    told = f'"request_id": "{answered.header("x-amzn-requestid")}"'
    return next_line(gateway, told, 0)


def next_line(gateway: RunningGateway, text: str, seen: int) -> dict[str, Any]:
    """Wait for more than so many lines with this text, and return the last one."""
    deadline = time.monotonic() + 10
    while True:
        found = [line for line in gateway.log.splitlines() if text in line and line.endswith("}")]
        if len(found) > seen:
            return dict(json.loads(found[-1]))
        assert time.monotonic() < deadline, f"no line has {text}"
        time.sleep(0.02)


def rows(gateway: RunningGateway, arn: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite", timeout=10)) as database:
        database.row_factory = sqlite3.Row
        found = database.execute("select * from audit_record where resource like ? order by id", (f"{arn}%",))
        return [dict(row) for row in found if row["action"] == "InvokeAgentRuntime"]


def metrics() -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as page:
        shown = [line.rpartition(" ") for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in shown}


def in_flight_after(patience: float) -> float:
    """Return how many requests are being answered, when none is or the patience has ended."""
    deadline = time.monotonic() + patience
    while (count := metrics()["identity_gateway_requests_in_flight"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return count


# --- What is the same ---


def test_a_repeated_call_is_shown_the_token_of_the_call_before(caller: Caller):
    first, second, third = (caller.call() for _ in range(3))
    assert (first.token == second.token, second.token == third.token) == (False, True)


SAME = {
    "nothing": (),
    "a type": ("content-type: application/json", "accept: text/event-stream, application/json"),
    "a trace": ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b"),
    "a long trace state": ("tracestate: " + "a" * 300,),
    "too long a trace state": ("tracestate: " + "a" * 600,),
    "a trace id": ("x-amzn-trace-id: Root=1-5759e988-bd862e3fe1be46a994272793",),
    "an empty trace id": ("x-amzn-trace-id:",),
    "an empty type": ("content-type:",),
    "an empty accept": ("accept:   ",),
    "an empty method of MCP": ("mcp-method:",),
    "too long a method of MCP": ("mcp-method: " + "m" * 2000,),
    "an allowed header": (f"{CUSTOM}colour: blue",),
    "an allowed header in capitals and with blanks": (f"{CUSTOM.upper()}COLOUR:   blue \t ",),
    "too long an allowed header": (f"{CUSTOM}colour: " + "b" * 4097,),
    "the longest allowed header": (f"{CUSTOM}colour: " + "b" * 4096,),
    "an allowed header twice": (f"{CUSTOM}colour: blue", f"{CUSTOM}colour: red"),
    "a header that is not allowed": (f"{CUSTOM}taste: sweet", "cookie: a=b", "x-forwarded-for: 10.0.0.1"),
    "a token of an agent": ("workloadaccesstoken: abc",),
    "another token of an agent": ("x-amz-bedrock-agentcore-identity-wat: abc",),
    "a user": ("x-amzn-bedrock-agentcore-runtime-user-id: bob",),
    "a session of MCP": ("mcp-session-id: 1234",),
    "another type twice": ("content-type: text/plain", "content-type: application/json"),
    "a connection that ends": ("connection: close",),
    "an offer to upgrade": ("connection: upgrade", "upgrade: h2c"),
    "letters beyond ASCII": ("baggage: a=\xe4", f"{CUSTOM}colour: \xe4"),
    "an own request id": ("x-amzn-bedrock-agentcore-runtime-request-id: mine",),
    "a hundred headers": tuple(f"x-{number}: a" for number in range(96)),
    "too many headers": tuple(f"x-{number}: a" for number in range(97)),
    "a head that is too large": tuple(f"x-{number}: " + "a" * 4000 for number in range(17)),
    "an encoding": ("content-encoding: gzip",),
    "a control character": (f"{CUSTOM}taste: a\x01b",),
    "a delete": ("accept: a\x7fb",),
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
def test_a_repeated_call_is_answered_like_one_that_was_never_made_before(caller: Caller, fields: tuple[str, ...]):
    caller.warmed()
    again = caller.call(b"{}", *fields)
    fresh = caller.call(b"{}", *fields, session=new_session())
    assert again.shape == fresh.shape


SHORT = ["nothing", "a trace", "a trace id", "an allowed header", "a header that is not allowed", "a type"]


@pytest.mark.parametrize("fields", [SAME[name] for name in SHORT], ids=SHORT)
def test_a_call_with_other_headers_takes_the_short_way(caller: Caller, fields: tuple[str, ...]):
    before = caller.warmed()
    assert caller.call(b"{}", *fields).token == before.token


def test_a_call_with_another_body_takes_the_short_way(caller: Caller):
    before = caller.warmed()
    after = caller.call(b"x" * 65_536)
    assert (after.token == before.token, len(json.loads(after.body)["body"])) == (True, 65_536)


def test_the_trace_of_each_call_reaches_the_agent(caller: Caller):
    caller.warmed()
    told = [dict(caller.call(b"{}", f"traceparent: {trace}").heard)["traceparent"] for trace in ("a", "b")]
    assert told == ["a", "b"]


def test_each_repeated_call_has_ids_of_its_own(caller: Caller):
    caller.warmed()
    calls = [caller.call() for _ in range(5)]
    told = [dict(call.heard) for call in calls]
    asked = {each["x-amzn-bedrock-agentcore-runtime-request-id"] for each in told}
    assert (len(asked), asked) == (5, {call.header("x-amzn-requestid") for call in calls})
    assert len({each["x-amzn-trace-id"] for each in told}) == 5


LONG = {
    "a length of 65537": (("content-length: 65537",), b"x" * 65_537),
    "a chunked body": (("transfer-encoding: chunked",), b"2\r\n{}\r\n0\r\n\r\n"),
    "no body": ((), b""),
    "a length with zeros": (("content-length: 0000002",), b"{}"),
}


@pytest.mark.parametrize(("fields", "body"), LONG.values(), ids=LONG)
def test_a_call_with_another_framing_takes_the_long_way(caller: Caller, fields: tuple[str, ...], body: bytes):
    before = caller.warmed()
    caller.send(caller.head(*fields, length=None) + body)
    after = caller.take()
    assert (after.status, after.token == before.token) == (200, False)


def test_a_caller_that_waits_for_leave_to_send_gets_it(caller: Caller):
    before = caller.warmed()
    caller.send(caller.head("expect: 100-continue"))
    assert caller.connection is not None
    assert caller.connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.send(b"{}")
    assert caller.take().token not in {None, before.token}


def test_a_call_in_http_1_0_takes_the_long_way(caller: Caller):
    before = caller.warmed()
    caller.send(caller.head(version="1.0") + b"{}")
    after = caller.take()
    assert (after.token == before.token, after.header("connection")) == (False, "close")


def test_a_body_that_comes_byte_by_byte_is_whole_for_the_agent(caller: Caller):
    caller.warmed()
    caller.send(caller.head(length=5))
    for letter in b"hello":
        caller.send(bytes([letter]))
        time.sleep(0.02)
    assert json.loads(caller.take().body)["body"] == "hello"


def test_the_records_of_repeated_calls_differ_in_their_ids_alone(plain: RunningGateway, caller: Caller):
    calls = [caller.call() for _ in range(4)]
    kept = rows(plain, caller.arn)
    told = [{name: value for name, value in row.items() if name not in {"id", "at", "request_id"}} for row in kept]
    assert [row["request_id"] for row in kept] == [call.header("x-amzn-requestid") for call in calls]
    assert (told, len({row["id"] for row in kept})) == ([told[0]] * 4, 4)
    assert [type(row["at"]) for row in kept] == [int] * 4


def test_the_lines_about_repeated_calls_are_alike(plain: RunningGateway, caller: Caller):
    about = [line_about(plain, caller.call()) for _ in range(3)]
    told = [{key: line[key] for key in line.keys() - {"request_id", "seconds", "timestamp"}} for line in about]
    assert told == [told[0]] * 3
    assert [sorted(line) for line in about] == [sorted(about[0])] * 3


COUNTED = [
    'identity_gateway_requests_total{operation="InvokeAgentRuntime",status="200"}',
    'identity_gateway_decisions_total{decision="allowed",scheme="jwt"}',
    'identity_gateway_request_seconds_count{operation="InvokeAgentRuntime"}',
]


def test_every_repeated_call_is_counted_once(caller: Caller):
    caller.warmed()
    before = metrics()
    for _ in range(3):
        caller.call()
    after = metrics()
    assert [after[name] - before[name] for name in COUNTED] == [3.0] * 3


def test_no_call_is_in_flight_when_all_were_answered(caller: Caller):
    caller.warmed()
    assert in_flight_after(5) == 0.0


# --- Answers of every kind ---


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + (b"0\r\n\r\n" if end else b"")
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n" + body


def whole(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, *fields, b"content-length: %d" % len(body), b"", body))


ANSWERS = {
    "nothing": Says([whole(b"")]),
    "201": Says([whole(b"made", status=b"201 Created")]),
    "204": Says([b"HTTP/1.1 204 No Content\r\n\r\n"]),
    "206": Says([whole(b"part", status=b"206 Partial Content")]),
    "299": Says([whole(b"own", status=b"299 Own")]),
    "chunks": Says([chunked(b"a", b"b" * 5000)]),
    "chunks one by one": Says([chunked(b"a", end=False), b"1\r\nb\r\n", b"0\r\n\r\n"]),
    "a body in pieces": Says([whole(b"x" * 10)[:-5], b"xxxxx"]),
    "a head in pieces": Says([whole(b"x")[:20], whole(b"x")[20:]]),
    "a body until the end": Says([b"HTTP/1.1 200 OK\r\n\r\nabc", b"def"], closes=True),
    "information first": Says([b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + whole(b"late")]),
    "headers of its own": Says(
        [whole(b"", b"set-cookie: a=b", b"cache-control: no-store", b"server: x", CUSTOM.encode() + b"a: 1")]
    ),
    "headers of the gateway": Says(
        [whole(b"", b"x-amzn-requestid: theirs", b"date: never", SESSION.encode() + b": theirs", b"connection: close")]
    ),
    "events": Says([whole(b"data: 1\n\n", b"content-type: text/event-stream")]),
    "500": Says([whole(b"out of order", status=b"500 Oops")]),
    "500 in pieces": Says([whole(b"out of order", status=b"500 Oops")[:-5], b"order"]),
    "302": Says([whole(b"", b"location: http://127.0.0.1/", status=b"302 Found")]),
    "401": Says([whole(b"no", status=b"401 Unauthorized")]),
    "an end before the head": Says([b""], closes=True),
    "an end in the head": Says([b"HTTP/1.1 200 OK\r\ncontent-"], closes=True),
    "an end in the body": Says([whole(b"x" * 100)[:-50]], closes=True),
    "an end in the body, later": Says([whole(b"x" * 100)[:-50], b"x"], closes=True),
    "an end between chunks": Says([chunked(b"a", end=False)], closes=True),
    "garbage": Says([b"RTSP/1.0 200 OK\r\n\r\n"]),
    "garbage after a chunk": Says([chunked(b"hello", end=False) + b"ZZZ\r\n"]),
    "garbage after a chunk, later": Says([chunked(b"hello", end=False), b"ZZZ\r\n"]),
    "two lengths": Says([whole(b"abc", b"content-length: 5")]),
    "a length and chunks": Says([whole(b"0\r\n\r\n", b"transfer-encoding: chunked")]),
    "a folded header": Says([whole(b"", b"content-type: a\r\n\tb: c")]),
    "a bare return in a header": Says([whole(b"", CUSTOM.encode() + b"a: 1\rx: 2")]),
    "a control character in a header": Says([whole(b"", CUSTOM.encode() + b"a: 1\x002")]),
    "a second answer behind the first": Says([whole(b"one") + whole(b"two")]),
    "a protocol that nobody asked for": Says([b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"]),
    "an answer that begins late and never": Says([b""], waits=True),
    "an answer that never ends": Says([whole(b"x" * 10)[:-5]]),
}


@pytest.mark.parametrize("says", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_to_a_repeated_call_is_passed_on_and_logged_as_any_other(
    plain: RunningGateway, teller: Teller, caller: Caller, says: Says
):
    caller.warmed()
    teller.says = [says]
    again = caller.call()
    teller.says = [says]
    fresh = caller.call(session=new_session())
    told = [line_about(plain, answered) for answered in (again, fresh)]
    compared = ["status", "error"] + ["reason"] * (not says.waits)  # two clocks may end that; they have their own words
    said = [[line[name] for name in compared] for line in told]
    assert (again.shape, said[0]) == (fresh.shape, said[1])
    assert caller.call().status == 200


def test_an_event_reaches_the_caller_before_the_agent_makes_the_next(
    plain: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    caller = a_caller(plain, agent.url, jwt_issuer)
    caller.warmed()
    asked = json.dumps({"stream": 3, "pause": 0.5}).encode()
    caller.send(caller.head(length=len(asked)) + asked)
    assert caller.connection is not None
    begun = caller.connection.recv(65536)
    while b"data: 0" not in begun:
        begun += caller.connection.recv(65536)
    assert (len(agent.started_events), b"transfer-encoding: chunked" in begun) == (1, True)
    rest = b""
    while not rest.endswith(b"0\r\n\r\n"):
        rest += caller.connection.recv(65536)
    assert b"data: 2" in rest
    caller.close()


def test_an_agent_that_began_anew_is_called_as_if_nothing_had_been(plain: RunningGateway, jwt_issuer: FakeIssuer):
    with running_agents(1) as [agent]:
        caller = a_caller(plain, agent.url, jwt_issuer)
        before = caller.warmed()
        agent.stop()
        agent.start()
        after = caller.call()
    caller.close()
    assert (after.status, after.shape[3]) == (200, before.shape[3])


def test_an_agent_that_is_gone_does_not_accept_connections(plain: RunningGateway, jwt_issuer: FakeIssuer):
    with running_agents(1) as [agent]:
        caller = a_caller(plain, agent.url, jwt_issuer)
        caller.warmed()
        agent.stop()
        after = caller.call()
    caller.close()
    assert (after.status, b"does not accept connections" in after.body) == (424, True)


# --- Callers who leave, or are slow ---


def test_a_caller_that_leaves_before_the_answer_stops_the_agent_and_leaves_no_remains(
    plain: RunningGateway, teller: Teller, caller: Caller
):
    caller.warmed()
    before, seen = teller.connections, plain.log.count(LEFT)
    teller.says = [Says([whole(b"of another call")], waits=True)]
    caller.send(caller.head() + b"{}")
    assert teller.waiting.wait(10)
    caller.close()
    line = next_line(plain, LEFT, seen)
    teller.go_on()
    assert (line["status"], line["error"], len(line["request_id"])) == (0, LEFT, 36)
    assert (caller.call().token is not None, teller.connections) == (True, before + 1)


def test_a_caller_that_leaves_before_its_body_is_whole_calls_nobody(
    plain: RunningGateway, teller: Teller, caller: Caller
):
    caller.warmed()
    before, seen = len(teller.received), plain.log.count(LEFT)
    caller.send(caller.head(length=10) + b"half")
    caller.close()
    line = next_line(plain, LEFT, seen)
    assert (line["error"], len(line["request_id"]), len(teller.received)) == (LEFT, 36, before)
    assert in_flight_after(5) == 0.0


def test_a_caller_that_leaves_in_an_answer_stops_the_agent(plain: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer):
    caller = a_caller(plain, agent.url, jwt_issuer)
    caller.warmed()
    asked = json.dumps({"stream": 1000, "pause": 0.05}).encode()
    caller.send(caller.head(length=len(asked)) + asked)
    assert caller.connection is not None
    assert caller.connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
    caller.close()
    assert agent.cancelled.wait(10)


def resident(running: RunningGateway) -> int:
    """Return the bytes of memory that a gateway process uses."""
    assert running.process is not None
    return int(Path(f"/proc/{running.process.pid}/statm").read_text().split()[1]) * 4096


def test_a_slow_reader_of_a_long_answer_costs_little_memory(agent: Agent, jwt_issuer: FakeIssuer):
    size = 20_000_000
    with running_gateway() as running:
        caller = a_caller(running, agent.url, jwt_issuer)
        caller.warmed()
        before = resident(running)
        asked = json.dumps({"bytes": size}).encode()
        caller.send(caller.head(length=len(asked)) + asked)
        most = 0
        for _ in range(20):
            time.sleep(0.05)
            most = max(most, resident(running))
        answered = caller.take()
        caller.close()
    assert (len(answered.body), answered.cut, most - before < 6_000_000) == (size, False, True)


# --- One after the other ---


def test_a_second_call_before_the_answer_to_the_first_is_not_read(teller: Teller, caller: Caller):
    caller.warmed()
    before = len(teller.received)
    caller.send((caller.head() + b"{}") * 2)
    first = caller.take()
    assert (first.status, first.header("connection"), len(teller.received)) == (200, "close", before + 1)


def test_a_websocket_opens_on_the_connection_of_a_repeated_call(plain: RunningGateway, caller: Caller):
    caller.warmed()
    target = plain.invocation_url(caller.arn, "").removeprefix(plain.url).removesuffix("/invocations")
    lines = [
        f"GET {target}/ws HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {caller.token}",
        "connection: upgrade",
    ]
    lines += ["upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    caller.send("\r\n".join(lines).encode())
    assert caller.take().status == 424  # the agent does not speak it, which the gateway has found out


# --- The end of a gateway ---


@pytest.mark.parametrize("workers", [1, 2])
def test_a_repeated_call_under_way_is_answered_by_a_gateway_that_ends(
    agent: Agent, jwt_issuer: FakeIssuer, workers: int
):
    with running_gateway(workers=workers) as running:
        caller = a_caller(running, agent.url, jwt_issuer)
        caller.warmed()
        asked = json.dumps({"sleep": 1.5}).encode()
        received = len(agent.received)
        caller.send(caller.head(length=len(asked)) + asked)
        while len(agent.received) == received:
            time.sleep(0.01)
        assert running.process is not None
        running.process.terminate()
        answered = caller.take()
        assert (answered.status, answered.header("connection")) == (200, "close")
        assert running.process.wait(20) in CLEAN
        assert "Traceback" not in running.log


def test_a_repeated_call_whose_agent_is_silent_is_told_so_at_the_end_of_the_patience(
    agent: Agent, jwt_issuer: FakeIssuer
):
    with running_gateway(drain_timeout="1") as running:
        caller = a_caller(running, agent.url, jwt_issuer)
        caller.warmed()
        asked = json.dumps({"sleep": 30}).encode()
        received = len(agent.received)
        caller.send(caller.head(length=len(asked)) + asked)
        while len(agent.received) == received:
            time.sleep(0.01)
        assert running.process is not None
        running.process.terminate()
        answered = caller.take()
        assert (answered.status, running.process.wait(20) in CLEAN) == (503, True)
        assert ("Traceback" in running.log, "cut by the end of the gateway" in running.log) == (False, True)


def test_each_of_two_workers_takes_the_short_way(agent: Agent, jwt_issuer: FakeIssuer):
    with running_gateway(workers=2) as running:
        caller = a_caller(running, agent.url, jwt_issuer)
        callers = [Caller(running, caller.arn, caller.token, caller.session) for _ in range(8)]
        answers: list[Answered] = [each.warmed() for each in callers]
        for each in callers:
            each.close()
    assert 1 <= len({answered.token for answered in answers}) <= 2


# --- The trail ---


def test_nobody_is_called_while_the_trail_cannot_be_written(jwt_issuer: FakeIssuer):
    with running_gateway() as running, running_teller() as teller:
        caller = a_caller(running, teller.url, jwt_issuer)
        caller.warmed()
        received = len(teller.received)
        with closing(
            sqlite3.connect(running.data_dir / "gateway.sqlite", isolation_level=None, timeout=10)
        ) as database:
            database.execute("alter table audit_repeat rename to elsewhere")
            database.execute("alter table audit_decision rename to elsewhere_too")
            refused = caller.call()
            caller.send((caller.head() + b"{}") * 2)
            pipelined = caller.take()
            database.execute("alter table elsewhere rename to audit_repeat")
            database.execute("alter table elsewhere_too rename to audit_decision")
        assert (refused.status, pipelined.status, len(teller.received)) == (503, 503, received)
        assert pipelined.header("connection") == "close"
        assert caller.warmed().status == 200
        caller.close()


def test_nobody_is_called_before_a_locked_database_has_the_record(jwt_issuer: FakeIssuer):
    with running_gateway() as running, running_teller() as teller:
        caller = a_caller(running, teller.url, jwt_issuer)
        caller.warmed()
        received = len(teller.received)
        with closing(
            sqlite3.connect(running.data_dir / "gateway.sqlite", isolation_level=None, timeout=10)
        ) as database:
            database.execute("begin immediate")
            caller.send(caller.head() + b"{}")
            time.sleep(1)
            called = len(teller.received) - received
            database.execute("rollback")
        assert (called, caller.take().status, len(teller.received) - received) == (0, 200, 1)
        caller.close()


def test_a_call_that_waits_for_its_record_is_answered_whatever_comes_behind_it(jwt_issuer: FakeIssuer):
    with running_gateway() as running, running_teller() as teller:
        caller = a_caller(running, teller.url, jwt_issuer)
        caller.warmed()
        with closing(
            sqlite3.connect(running.data_dir / "gateway.sqlite", isolation_level=None, timeout=10)
        ) as database:
            database.execute("begin immediate")
            caller.send(caller.head() + b"{}")
            time.sleep(0.3)
            caller.send(caller.head() + b"{}")
            time.sleep(0.3)
            teller.hang_up()
            time.sleep(0.3)
            database.execute("rollback")
        answered = caller.take()
        assert (answered.status, answered.header("connection")) == (200, "close")
        assert (
            len([row for row in rows(running, caller.arn) if row["request_id"] == answered.header("x-amzn-requestid")])
            == 1
        )
        caller.close()


def test_callers_that_hold_back_their_bodies_hold_no_connection_of_the_agent(teller: Teller, jwt_issuer: FakeIssuer):
    with running_gateway(agent_max_connections="1", agent_connect_timeout="2") as running:
        caller = a_caller(running, teller.url, jwt_issuer)
        caller.warmed()
        holding = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(3)]
        for connection in holding:
            connection.sendall(caller.head())
        time.sleep(0.3)
        assert caller.call().status == 200
        for connection in holding:
            connection.close()
        time.sleep(0.3)
        assert [caller.call().status for _ in range(3)] == [200] * 3
        caller.close()


def test_an_answer_that_is_given_up_keeps_no_connection_of_the_agent(teller: Teller, jwt_issuer: FakeIssuer):
    limits = {"agent_max_connections": "1", "agent_connect_timeout": "2", "agent_sync_timeout": "1"}
    with running_gateway(**limits) as running:
        caller = a_caller(running, teller.url, jwt_issuer)
        caller.warmed()
        teller.says = [Says([whole(b"x" * 10)[:-5]]), Says([whole(b"late")], waits=True)]
        assert [caller.call().cut, caller.call().status, caller.call().status] == [True, 424, 200]
        caller.close()
