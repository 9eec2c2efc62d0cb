"""WebSockets to an agent over real sockets: four ways to bring credentials, messages both ways, and how streams end."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register
from tests.web_sockets import (
    SENTINEL,
    SESSION,
    WebSocketAgent,
    carrier,
    dial,
    dial_signed,
    door,
    end_of,
    presigned,
    signed_headers,
    until,
)  # fmt: skip

SESSION_ID = "a-session-that-is-long-enough-for-aws-0001"


@pytest.fixture
def runtime(gateway: RunningGateway, ws_agent: WebSocketAgent) -> str:
    return register(gateway, ws_agent.url)


@pytest.fixture
def guarded(gateway: RunningGateway, ws_agent: WebSocketAgent, jwt_issuer: FakeIssuer) -> str:
    return register(gateway, ws_agent.url, **guarded_by(jwt_issuer.discovery_url))


async def refusal(url: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    """Return the answer of a gateway that refuses the handshake."""
    with pytest.raises(InvalidStatus) as refused:
        await dial(url, headers, **more)
    return refused.value.response


# --- Who may not enter ---


async def test_a_stranger_is_refused_before_the_handshake_as_on_the_aws_surface(
    gateway: RunningGateway, runtime: str
) -> None:
    answer = await refusal(door(gateway, runtime))
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationTokenException")
    assert answer.headers["x-amzn-requestid"]


async def test_a_stranger_at_a_runtime_with_a_jwt_authorizer_is_challenged(
    gateway: RunningGateway, guarded: str
) -> None:
    answer = await refusal(door(gateway, guarded))
    assert answer.status_code == 401
    assert "resource_metadata=" in answer.headers["www-authenticate"]


async def test_a_changed_signature_is_refused(gateway: RunningGateway, runtime: str) -> None:
    url = door(gateway, runtime)
    headers = signed_headers(gateway, url)
    headers["Authorization"] = headers["Authorization"][:-1] + ("0" if headers["Authorization"][-1] != "0" else "1")
    assert (await refusal(url, headers)).status_code == 403


async def test_an_unknown_runtime_is_not_found(gateway: RunningGateway, runtime: str) -> None:
    url = door(gateway, runtime[:-10] + "AAAAAAAAAA")
    assert (await refusal(url, signed_headers(gateway, url))).status_code == 404


async def test_an_agent_that_refuses_the_handshake_is_a_failed_agent(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    ws_agent.refuses = 503
    url = door(gateway, runtime)
    answer = await refusal(url, signed_headers(gateway, url))
    assert answer.status_code == 424
    assert b"503" in answer.body


async def test_an_agent_that_is_not_there_is_a_failed_agent(gateway: RunningGateway) -> None:
    url = door(gateway, register(gateway, "http://127.0.0.1:9"))
    assert (await refusal(url, signed_headers(gateway, url))).status_code == 424


def test_a_request_that_asks_for_no_upgrade_is_told_to(gateway: RunningGateway, runtime: str) -> None:
    assert gateway.status(urlsplit(door(gateway, runtime)).path) == 426


# --- The four ways in ---


async def test_a_signed_handshake_opens_a_stream_though_its_session_id_is_not_signed(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    url = door(gateway, runtime)
    async with await dial(url, {**signed_headers(gateway, url), SESSION: SESSION_ID}) as stream:
        await stream.send("hello")
        assert await stream.recv() == "hello"
    assert (ws_agent.paths, ws_agent.head[SESSION]) == (["/ws"], SESSION_ID)


async def test_a_presigned_url_opens_a_stream_for_the_session_it_names(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    url = door(gateway, runtime, f"qualifier=DEFAULT&X-Amzn-Bedrock-AgentCore-Runtime-Session-Id={SESSION_ID}")
    async with await dial(presigned(gateway, url)) as stream:
        await stream.send(b"\x00\xff")
        assert await stream.recv() == b"\x00\xff"
    assert ws_agent.head[SESSION] == SESSION_ID


async def test_a_bearer_token_opens_a_stream(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer, ws_agent: WebSocketAgent
) -> None:
    async with await dial(door(gateway, guarded), {"Authorization": f"Bearer {token_of(jwt_issuer)}"}) as stream:
        await stream.send("hello")
        assert await stream.recv() == "hello"
    assert ws_agent.head["workloadaccesstoken"]
    assert "authorization" not in ws_agent.head


async def test_a_browser_carries_its_token_among_the_sub_protocols_and_is_answered_without_it(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer, ws_agent: WebSocketAgent
) -> None:
    offered = [carrier(token_of(jwt_issuer)), SENTINEL]
    async with await dial(door(gateway, guarded), subprotocols=offered) as stream:
        await stream.send("hello")
        assert (await stream.recv(), stream.subprotocol) == ("hello", SENTINEL)
    assert "sec-websocket-protocol" not in ws_agent.head


async def test_custom_headers_of_the_query_reach_the_agent_if_its_allowlist_names_them(
    gateway: RunningGateway, ws_agent: WebSocketAgent
) -> None:
    name = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant"
    arn = register(gateway, ws_agent.url, requestHeaderConfiguration={"requestHeaderAllowlist": [name]})
    async with await dial(presigned(gateway, door(gateway, arn, f"{name}=blue&{name[:-6]}Other=x"))) as stream:
        await stream.send("hello")
        await stream.recv()
    assert ws_agent.head[name.lower()] == "blue"
    assert f"{name[:-6]}Other".lower() not in ws_agent.head


# --- Messages, and ends ---


async def test_messages_pass_in_order_both_ways(gateway: RunningGateway, runtime: str) -> None:
    sent = [f"message {number}" for number in range(100)]
    async with await dial_signed(gateway, runtime) as stream:
        for message in sent:
            await stream.send(message)
        assert [await stream.recv() for _ in sent] == sent


async def test_a_large_message_of_an_agent_arrives_whole(gateway: RunningGateway, runtime: str) -> None:
    async with await dial_signed(gateway, runtime, max_size=None) as stream:
        await stream.send(json.dumps({"send": 1 << 19}))
        assert len(await stream.recv()) == 1 << 19


async def test_a_caller_who_closes_closes_the_stream_of_the_agent_with_its_code(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    stream = await dial_signed(gateway, runtime)
    await stream.close(4002, "enough")
    await until(lambda: 4002 in ws_agent.closes)


async def test_an_agent_that_closes_closes_the_stream_of_the_caller_with_its_code_and_reason(
    gateway: RunningGateway, runtime: str
) -> None:
    stream = await dial_signed(gateway, runtime)
    await stream.send(json.dumps({"close": 4001, "reason": "done"}))
    assert await end_of(stream) == (4001, "done")


async def test_an_agent_that_is_cut_off_ends_the_stream_as_an_internal_error(
    gateway: RunningGateway, runtime: str
) -> None:
    stream = await dial_signed(gateway, runtime)
    await stream.send(json.dumps({"cut": True}))
    assert (await end_of(stream))[0] == 1011


async def test_a_caller_that_is_cut_off_ends_the_stream_of_the_agent(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    stream = await dial_signed(gateway, runtime)
    stream.transport.abort()
    await until(lambda: 1001 in ws_agent.closes)


async def test_an_agent_that_says_more_than_a_mebibyte_at_once_ends_the_stream_as_too_big(
    gateway: RunningGateway, runtime: str
) -> None:
    stream = await dial_signed(gateway, runtime, max_size=None)
    await stream.send(json.dumps({"send": (1 << 20) + 1}))
    assert (await end_of(stream))[0] == 1009
