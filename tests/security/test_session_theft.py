"""Whoever learns the id of somebody's session does not get into it: the agent hears nothing, and the attempt is kept."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import RunningGateway, register
from tests.security_tokens import made_key
from tests.sessions import SESSION, invoke, new_session
from tests.web_sockets import WebSocketAgent, dial, door, signed_headers

EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "bedrock-agentcore:*", "Resource": "*"}],
}
DENIED = (403, "AccessDeniedException")


@pytest.fixture
def guarded(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> str:
    return register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))


@pytest.fixture
def signed(gateway: RunningGateway, agent: Agent) -> str:
    return register(gateway, agent.url)


@pytest.fixture(scope="module")
def other_key(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return made_key(gateway, tmp_path_factory.mktemp("key"), EVERYTHING)


def as_bearer(gateway: RunningGateway, arn: str, token: str, session: str) -> tuple[int, str | None]:
    response = post(gateway, arn, token, headers=[(SESSION, session)])
    return response.status_code, response.headers.get("x-amzn-errortype")


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(*arguments, **options)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


# --- Bearers of tokens ---


def test_the_session_of_a_user_stays_theirs_after_an_attempt_to_steal_it(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
):
    session = new_session()
    as_bearer(gateway, guarded, token_of(jwt_issuer, sub="ada"), session)
    as_bearer(gateway, guarded, token_of(jwt_issuer, sub="eve"), session)
    assert as_bearer(gateway, guarded, token_of(jwt_issuer, sub="ada"), session)[0] == 200


def test_a_user_keeps_their_session_with_a_new_token(gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer):
    session = new_session()
    tokens = [token_of(jwt_issuer, sub="ada", jti=number) for number in ("one", "two")]
    assert [as_bearer(gateway, guarded, token, session)[0] for token in tokens] == [200, 200]


def test_the_session_of_a_user_is_refused_to_a_token_without_a_user(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
):
    session = new_session()
    as_bearer(gateway, guarded, token_of(jwt_issuer, sub="ada"), session)
    assert as_bearer(gateway, guarded, token_of(jwt_issuer, sub=None), session) == DENIED


def test_an_attempt_to_steal_a_session_is_on_record(gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer):
    session = new_session()
    as_bearer(gateway, guarded, token_of(jwt_issuer, sub="ada"), session)
    as_bearer(gateway, guarded, token_of(jwt_issuer, sub="eve-on-record"), session)
    with closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite")) as records:
        rows = records.execute(
            "select decision, reason from audit_record where principal like '%#eve-on-record' and resource like ?",
            (f"{guarded}%",),
        ).fetchall()
    assert [decision for decision, _ in rows] == ["denied"]
    assert "session" in rows[0][1]


def test_one_id_is_one_session_at_each_agent(
    gateway: RunningGateway, guarded: str, agent: Agent, jwt_issuer: FakeIssuer
):
    session, other = new_session(), register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    assert as_bearer(gateway, guarded, token_of(jwt_issuer, sub="ada"), session)[0] == 200
    assert as_bearer(gateway, other, token_of(jwt_issuer, sub="eve"), session)[0] == 200


def test_a_token_that_is_refused_opens_no_session(gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer):
    session = new_session()
    forged = token_of(jwt_issuer, key=SigningKey.make(kid=jwt_issuer.keys[0].kid), sub="eve")
    assert as_bearer(gateway, guarded, forged, session)[0] == 401
    assert as_bearer(gateway, guarded, token_of(jwt_issuer, sub="ada"), session)[0] == 200


# --- Callers that sign ---


def test_the_session_of_a_named_user_is_refused_to_a_caller_who_names_nobody(gateway: RunningGateway, signed: str):
    session = new_session()
    invoke(gateway, signed, session=session, user="alice")
    assert refused(invoke, gateway, signed, session=session) == DENIED


def test_the_session_of_a_key_is_refused_to_another_key(
    gateway: RunningGateway, signed: str, other_key: tuple[str, str]
):
    session = new_session()
    invoke(gateway, signed, session=session)
    assert refused(invoke, gateway, signed, session=session, key=other_key) == DENIED


def test_a_key_that_may_not_call_the_agent_opens_no_session(gateway: RunningGateway, signed: str, tmp_path: Path):
    session, nothing = new_session(), {**EVERYTHING, "Statement": []}
    nothing["Statement"] = [{"Effect": "Deny", "Action": "*", "Resource": "*"}]
    assert refused(invoke, gateway, signed, session=session, key=made_key(gateway, tmp_path, nothing)) == DENIED
    assert invoke(gateway, signed, session=session)["method"] == "POST"


# --- WebSockets ---


async def test_a_stream_into_somebody_elses_session_is_refused_before_the_handshake(
    gateway: RunningGateway, ws_agent: WebSocketAgent, jwt_issuer: FakeIssuer
):
    arn, session = register(gateway, ws_agent.url, **guarded_by(jwt_issuer.discovery_url)), new_session()
    mine, theirs = (
        {"authorization": f"Bearer {token_of(jwt_issuer, sub=name)}", SESSION: session} for name in ("ada", "eve")
    )
    async with await dial(door(gateway, arn), mine):
        with pytest.raises(InvalidStatus) as caught:
            await dial(door(gateway, arn), theirs)
    assert (caught.value.response.status_code, len(ws_agent.heads)) == (403, 1)


async def test_an_unsigned_session_id_of_a_stream_opens_no_door_to_the_session_of_another_key(
    gateway: RunningGateway, ws_agent: WebSocketAgent, other_key: tuple[str, str]
):
    arn, session = register(gateway, ws_agent.url), new_session()
    url = door(gateway, arn)
    async with await dial(url, signed_headers(gateway, url) | {SESSION: session}):
        with pytest.raises(InvalidStatus) as caught:
            await dial(url, signed_headers(gateway, url, key=other_key) | {SESSION: session})
    assert caught.value.response.status_code == 403
