"""A refusal comes in the protocol of the runtime that was called, and tells nobody that a runtime exists."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, REGION, RunningGateway, free_port, register, running_gateway
from tests.mcp_agents import running_mcp_agent

UNKNOWN = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/nobody-AbCdEf1234"
METADATA = "/.well-known/oauth-protected-resource"


def speaking(protocol: str) -> dict[str, Any]:
    return {"protocolConfiguration": {"serverProtocol": protocol}}


@pytest.fixture(scope="module")
def guarded(gateway: RunningGateway, _agent_server: Agent, jwt_issuer: FakeIssuer) -> dict[str, str]:
    """A runtime of each protocol that asks for a JWT with the scope agents.invoke."""
    rules = guarded_by(jwt_issuer.discovery_url, allowedScopes=["agents.invoke"])
    rules |= {"requestHeaderConfiguration": {"requestHeaderAllowlist": ["x-thing"]}}
    return {
        protocol: register(gateway, _agent_server.url, **speaking(protocol), **rules)
        for protocol in ("HTTP", "MCP", "A2A", "AGUI")
    }


@pytest.fixture(scope="module")
def signed(gateway: RunningGateway, _agent_server: Agent) -> dict[str, str]:
    """A runtime of each protocol that asks for a signature."""
    return {
        protocol: register(gateway, _agent_server.url, **speaking(protocol))
        for protocol in ("HTTP", "MCP", "A2A", "AGUI")
    }


def ask(
    gateway: RunningGateway, arn: str, token: str | None, body: dict[str, Any], method: str = "POST", **headers: str
) -> httpx2.Response:
    headers |= {"authorization": f"Bearer {token}"} if token is not None else {}
    asked = {"jsonrpc": "2.0", "id": "call-1", "method": "x", **body}
    content = json.dumps(asked).encode() if method == "POST" else None
    with httpx2.Client(trust_env=False, timeout=30) as http:
        return http.request(method, gateway.invocation_url(arn), content=content, headers=headers)


def said(response: httpx2.Response) -> Any:
    """Return what an answer says, without its words: an AWS code, a JSON-RPC code and id, or an event's code."""
    kind = response.headers["content-type"]
    if kind == "text/event-stream":
        event = json.loads(response.text.removeprefix("data: "))
        return event["type"], event["code"]
    document = response.json()
    if "jsonrpc" in document:
        return document["error"]["code"], document["id"]
    return response.headers["x-amzn-errortype"]


NO_TOKEN = {
    "HTTP": (401, "UnauthorizedException"),
    "MCP": (401, (-32001, "call-1")),
    "A2A": (401, "UnauthorizedException"),
    "AGUI": (401, ("RUN_ERROR", "UNAUTHORIZED")),
}


@pytest.mark.parametrize("protocol", NO_TOKEN)
@pytest.mark.parametrize("token", [None, "not-a-token"])
def test_a_caller_without_a_good_token_is_challenged_in_the_protocol(
    gateway: RunningGateway, guarded: dict[str, str], protocol: str, token: str | None
):
    response = ask(gateway, guarded[protocol], token, {})
    assert (response.status_code, said(response)) == NO_TOKEN[protocol]
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', response.headers["www-authenticate"]))
    assert challenge["resource_metadata"].endswith(METADATA + "?qualifier=DEFAULT")
    assert challenge["scope"] == "agents.invoke"


NO_SCOPE = {
    "HTTP": (403, "AccessDeniedException"),
    "MCP": (403, (-32002, "call-1")),
    "A2A": (403, "AccessDeniedException"),
    "AGUI": (403, ("RUN_ERROR", "ACCESS_DENIED")),
}


@pytest.mark.parametrize("protocol", NO_SCOPE)
def test_a_caller_without_a_scope_is_told_which_in_the_protocol(
    gateway: RunningGateway, guarded: dict[str, str], jwt_issuer: FakeIssuer, protocol: str
):
    response = ask(gateway, guarded[protocol], token_of(jwt_issuer, scope="other"), {})
    assert (response.status_code, said(response)) == NO_SCOPE[protocol]
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', response.headers["www-authenticate"]))
    assert (challenge["error"], challenge["scope"]) == ("insufficient_scope", "agents.invoke")
    assert "resource_metadata" in challenge


BROKEN_AGENT = {
    "HTTP": (424, "RuntimeClientError"),
    "MCP": (200, (-32010, "call-1")),
    "A2A": (424, (-32055, "call-1")),
    "AGUI": (200, ("RUN_ERROR", "AGENT_ERROR")),
}


@pytest.mark.parametrize("protocol", BROKEN_AGENT)
def test_an_agents_failure_is_told_in_the_protocol(
    gateway: RunningGateway, guarded: dict[str, str], jwt_issuer: FakeIssuer, agent: Agent, protocol: str
):
    response = ask(gateway, guarded[protocol], token_of(jwt_issuer), {"status": 500, "body": "boom"})
    assert (response.status_code, said(response)) == BROKEN_AGENT[protocol]


@pytest.mark.parametrize("protocol", BROKEN_AGENT)
def test_an_agent_that_is_down_is_told_in_the_protocol(gateway: RunningGateway, jwt_issuer: FakeIssuer, protocol: str):
    nobody = f"http://127.0.0.1:{free_port()}"
    arn = register(gateway, nobody, **speaking(protocol), **guarded_by(jwt_issuer.discovery_url))
    response = ask(gateway, arn, token_of(jwt_issuer), {})
    assert (response.status_code, said(response)) == BROKEN_AGENT[protocol]


@pytest.mark.parametrize("protocol", BROKEN_AGENT)
def test_an_agents_failure_is_told_in_the_protocol_to_a_signer(
    gateway: RunningGateway, signed: dict[str, str], agent: Agent, protocol: str
):
    payload = json.dumps({"jsonrpc": "2.0", "id": "call-1", "method": "x", "status": 500}).encode()
    client = gateway.data
    seen: list[Any] = []
    client.meta.events.register("after-call", lambda http_response, **_: seen.append(http_response))
    try:
        answered = client.invoke_agent_runtime(agentRuntimeArn=signed[protocol], payload=payload)
        content = answered["response"].read()
        status = answered["statusCode"]
    except ClientError:
        content, status = seen[0].content, seen[0].status_code
    expected = BROKEN_AGENT[protocol]
    assert status == expected[0]
    assert str(expected[1][0] if protocol in {"MCP", "A2A"} else "R").encode() in content


@pytest.mark.parametrize(("protocol", "told"), [("AGUI", "AGENT_ERROR"), ("HTTP", None), ("MCP", None)])
def test_a_stream_that_the_agent_breaks_off_ends_with_an_event_where_the_protocol_has_one(
    jwt_issuer: FakeIssuer, agent: Agent, protocol: str, told: str | None, impatient: RunningGateway
):
    arn = register(impatient, agent.url, **speaking(protocol), **guarded_by(jwt_issuer.discovery_url))
    seen = b""
    headers = {"authorization": f"Bearer {token_of(jwt_issuer)}"}
    with (
        contextlib.suppress(httpx2.RemoteProtocolError),
        httpx2.stream(
            "POST", impatient.invocation_url(arn), json={"stream": 2, "pause": 20}, headers=headers, trust_env=False
        ) as response,
    ):
        for chunk in response.iter_raw():
            seen += chunk
    events = seen.decode().split("\n\n")
    assert events[0] == "data: 0"
    assert [json.loads(event[6:])["code"] for event in events if "RUN_ERROR" in event] == ([told] if told else [])


@pytest.fixture(scope="module")
def impatient() -> Iterator[RunningGateway]:
    """A gateway that waits a second for a stream to end."""
    with running_gateway(agent_stream_timeout="1") as running:
        yield running


VALIDATION = {
    "HTTP": (400, "ValidationException"),
    "MCP": (200, (-32006, "call-1")),
    "A2A": (400, (-32052, "call-1")),
    "AGUI": (400, ("RUN_ERROR", "VALIDATION_ERROR")),
}


@pytest.mark.parametrize("protocol", VALIDATION)
def test_a_malformed_call_is_told_in_the_protocol(
    gateway: RunningGateway, guarded: dict[str, str], jwt_issuer: FakeIssuer, protocol: str
):
    response = ask(gateway, guarded[protocol], token_of(jwt_issuer), {}, **{"x-thing": "x" * 5000})
    assert (response.status_code, said(response)) == VALIDATION[protocol]


# --- GET and DELETE ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("protocol", ["HTTP", "MCP", "A2A", "AGUI"])
def test_a_client_that_probes_otherwise_than_by_post_is_challenged(
    gateway: RunningGateway, guarded: dict[str, str], protocol: str, method: str
):
    response = ask(gateway, guarded[protocol], None, {}, method)
    assert response.status_code == 401
    assert METADATA in response.headers["www-authenticate"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("protocol", ["HTTP", "A2A", "AGUI"])
def test_a_protocol_without_sessions_of_its_own_has_no_get_and_no_delete(
    gateway: RunningGateway, guarded: dict[str, str], jwt_issuer: FakeIssuer, agent: Agent, protocol: str, method: str
):
    response = ask(gateway, guarded[protocol], token_of(jwt_issuer), {}, method)
    assert (response.status_code, agent.received) == (404, [])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_mcp_server_gets_the_method_of_the_caller(
    gateway: RunningGateway, guarded: dict[str, str], jwt_issuer: FakeIssuer, agent: Agent, method: str
):
    ask(gateway, guarded["MCP"], token_of(jwt_issuer), {}, method)
    assert [head["method"] for head in agent.received] == [method]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS"])
def test_another_method_is_no_operation(gateway: RunningGateway, guarded: dict[str, str], method: str):
    assert ask(gateway, guarded["MCP"], None, {}, method).status_code == 404


@pytest.mark.parametrize("status", [400, 404, 405, 409])
def test_what_an_mcp_server_says_by_its_status_reaches_the_client(
    gateway: RunningGateway, guarded: dict[str, str], jwt_issuer: FakeIssuer, agent: Agent, status: int
):
    response = ask(gateway, guarded["MCP"], token_of(jwt_issuer), {"status": status, "body": "said"})
    assert (response.status_code, response.text) == (status, "said")


def test_a_call_whose_answer_an_mcp_server_cannot_give_is_told_so_with_awss_code(
    gateway: RunningGateway, jwt_issuer: FakeIssuer
):
    with running_mcp_agent(stateless=True) as server:
        arn = register(gateway, server.url, **speaking("MCP"), **guarded_by(jwt_issuer.discovery_url))
        asked = {"method": "tools/list", "id": "call-1"}
        headers = {"accept": "text/html", "content-type": "application/json"}
        response = ask(gateway, arn, token_of(jwt_issuer), asked, **headers)
    assert (response.status_code, said(response)) == (406, (-32011, "call-1"))


@pytest.mark.parametrize("status", [401, 403])
def test_an_mcp_server_cannot_send_a_client_to_log_in(
    gateway: RunningGateway, guarded: dict[str, str], jwt_issuer: FakeIssuer, agent: Agent, status: int
):
    asked = {"status": status, "headers": {"www-authenticate": 'Bearer resource_metadata="https://evil.example"'}}
    response = ask(gateway, guarded["MCP"], token_of(jwt_issuer), asked)
    assert (response.status_code, said(response)) == BROKEN_AGENT["MCP"]
    assert "www-authenticate" not in response.headers


# --- What the form of an answer tells ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("protocol", ["MCP", "A2A", "AGUI"])
@pytest.mark.parametrize("authorization", [None, "AWS4-HMAC-SHA256 nonsense", "Basic eDp5"])
def test_a_stranger_cannot_tell_a_runtime_that_asks_for_a_signature_from_none(
    gateway: RunningGateway, signed: dict[str, str], protocol: str, authorization: str | None, method: str
):
    headers = {"authorization": authorization} if authorization else {}
    told = []
    for arn in (signed[protocol], UNKNOWN):
        url = f"{gateway.url}/runtimes/{quote(arn, safe='')}/invocations"
        response = httpx2.request(method, url, headers=headers, trust_env=False)
        told.append((response.status_code, response.headers["x-amzn-errortype"], response.json()))
    assert told[0] == told[1]


@pytest.fixture(scope="module")
def idle_key(gateway: RunningGateway) -> tuple[str, str]:
    """A key that may call nothing."""
    made = json.loads(gateway.command("access-key", "create", "--name", "idle", "--json").stdout)
    return made["accessKeyId"], made["secretAccessKey"]


@pytest.mark.parametrize("protocol", ["MCP", "A2A", "AGUI"])
def test_a_key_that_may_call_nothing_cannot_tell_a_runtime_from_none(
    gateway: RunningGateway, signed: dict[str, str], protocol: str, idle_key: tuple[str, str]
):
    client = gateway.client("bedrock-agentcore", key=idle_key)
    told = []
    for arn in (signed[protocol], UNKNOWN):
        with pytest.raises(ClientError) as refused:
            client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")
        told.append(refused.value.response["Error"])
    assert told[0] == told[1]
