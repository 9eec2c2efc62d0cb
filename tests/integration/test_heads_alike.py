"""Calls whose heads are alike but for a few values: each is its own caller's, however its bytes arrive."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from identity_gateway.protocol.headers import MAX_VALUE
from tests.agents import Agent
from tests.callers import guarded_by, opened, token_of
from tests.fakes.issuer import FakeIssuer, b64
from tests.gateways import RunningGateway, register
from tests.repeated_calls import Answered, Caller, calling
from tests.sessions import SESSION, new_session

CUSTOM = "x-amzn-bedrock-agentcore-runtime-custom-colour"


@pytest.fixture
def arn(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> str:
    more = {"requestHeaderConfiguration": {"requestHeaderAllowlist": [CUSTOM]}}
    return register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url), **more)


@pytest.fixture
def caller(gateway: RunningGateway, arn: str, jwt_issuer: FakeIssuer) -> Iterator[Caller]:
    """Somebody whose next call is like the last one on its connection."""
    with calling(gateway, arn, token_of(jwt_issuer)) as made:
        made.warmed()
        yield made


def as_(caller: Caller, token: str, session: str, *fields: str) -> Answered:
    caller.token = token
    return caller.call(b"{}", *fields, session=session)


def test_users_who_share_a_connection_are_told_apart(
    gateway: RunningGateway, caller: Caller, arn: str, jwt_issuer: FakeIssuer
):
    people = {name: (token_of(jwt_issuer, sub=name), new_session()) for name in ("ada", "bob", "eve")}
    for turn in range(5):
        for name, (token, session) in people.items():
            answered = as_(caller, token, session)
            heard = dict(answered.heard)
            inside = opened(answered.token or "", gateway)
            assert (heard[SESSION], inside.user and inside.user.subject, turn) == (session, name, turn)  # type: ignore[union-attr]
            assert inside.inbound_token is not None
            assert inside.inbound_token.reveal() == token
    with closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite", timeout=10)) as database:
        asked = "select principal from audit_record where resource like ? and action = 'InvokeAgentRuntime' order by id"
        kept = [principal.partition("#")[2] for (principal,) in database.execute(asked, (f"{arn}%",))]
    assert kept[-15:] == [*people] * 5


def test_the_session_of_another_user_stays_closed(caller: Caller, jwt_issuer: FakeIssuer):
    own, other = caller.session, token_of(jwt_issuer, sub="bob")
    mine = caller.token
    assert as_(caller, other, new_session()).status == 200
    assert as_(caller, other, own).status == 403
    assert as_(caller, mine, own).status == 200


def test_a_token_that_was_changed_is_refused_between_calls_that_are_not(caller: Caller):
    good = caller.token
    header, payload, signature = good.split(".")
    for bad in (
        f"{header}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        f"{header}.{b64(json.dumps({'sub': 'bob'}).encode())}.{signature}",
        f"{header}.{payload}.",
        "nonsense",
    ):
        assert as_(caller, bad, caller.session).status == 401
        assert as_(caller, good, caller.session).status == 200


def test_a_call_that_arrives_in_two_parts_is_one_call_wherever_it_is_cut(caller: Caller):
    body = b'{"prompt":"in parts"}'
    whole = caller.head(length=len(body)) + body
    before = caller.call(body).shape
    for cut in range(1, len(whole), 7):
        caller.send(whole[:cut])
        time.sleep(0.001)
        caller.send(whole[cut:])
        assert caller.take().shape == before, cut


def test_a_call_that_ends_its_connection_is_answered_and_ends_it(caller: Caller):
    answered = caller.call(b"{}", "connection: close")
    assert (answered.status, answered.header("connection"), caller.connection) == (200, "close", None)
    assert caller.call().status == 200


def test_a_head_is_known_on_one_connection_and_read_on_another(gateway: RunningGateway, arn: str, caller: Caller):
    with calling(gateway, arn, caller.token, session=caller.session) as elsewhere:
        assert elsewhere.call().shape == caller.call().shape


def test_what_differs_from_call_to_call_reaches_the_agent(caller: Caller):
    for number in range(4):
        trace = f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{number:02d}-01"
        root = f"Root=1-5759e988-bd862e3fe1be46a9942727{number:02d}"
        answered = caller.call(
            b"%d" % number, f"traceparent: {trace}", f"x-amzn-trace-id: {root}", f"{CUSTOM}: {number}"
        )
        heard = dict(answered.heard)
        assert (heard["traceparent"], heard["x-amzn-trace-id"], heard[CUSTOM]) == (trace, root, str(number))
        assert answered.header("x-amzn-trace-id") == root


def test_two_calls_in_one_piece_are_answered_once(caller: Caller):
    one = caller.head() + b"{}"
    caller.send(one + one)
    assert caller.take().status == 200
    assert caller.connection is None or caller.connection.recv(1) == b""


def test_many_forms_on_one_connection_are_answered_like_one(caller: Caller):
    shapes = {json.dumps(caller.call(b"{}", f"x-number-{number}: 1").shape, default=str) for number in range(40)}
    assert len(shapes) == 1


def test_a_header_is_passed_to_no_agent_whose_list_does_not_have_it(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer, caller: Caller
):
    other = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    runtimes = (caller.arn, caller.session), (other, new_session())
    for turn in range(5):
        heard = []
        for caller.arn, caller.session in runtimes:
            heard.append(dict(caller.call(b"{}", f"{CUSTOM}: blue").heard).get(CUSTOM))
        assert (heard, turn) == (["blue", None], turn)


@pytest.mark.parametrize("trace", [" a b", "a", "  a", " a "])
def test_a_trace_id_stays_as_it_is_however_it_is_written(caller: Caller, trace: str):
    for _ in range(3):
        answered = caller.call(b"{}", f"x-amzn-trace-id:{trace}")
        assert answered.header("x-amzn-trace-id") == trace.strip()


def test_a_header_grown_too_long_for_the_agent_is_refused(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    more = {"requestHeaderConfiguration": {"requestHeaderAllowlist": ["Authorization"]}}
    arn = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url), **more)
    room = MAX_VALUE - len(f"Bearer {token_of(jwt_issuer, jti='a', filler='')}")
    filler = "f" * (room * 3 // 4 - 8)
    with calling(gateway, arn, token_of(jwt_issuer, jti="a", filler=filler)) as caller:
        caller.warmed()
        answered = [as_(caller, token_of(jwt_issuer, jti=jti, filler=filler), caller.session) for jti in "bcd"]
        assert [each.status for each in answered] == [200] * 3
        assert as_(caller, token_of(jwt_issuer, jti="e" * 128, filler=filler), caller.session).status == 400
