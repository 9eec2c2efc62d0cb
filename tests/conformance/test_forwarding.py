"""What passes between caller and agent: names, session, trace, headers, tokens, statuses; and what does not.

Boto3 calls runtimes that ask for a signature, plain HTTP those that ask for a JWT. That bytes stream is
`test_streaming.py`; how the pool speaks to agents is `tests/unit/test_upstream.py`.
"""

import asyncio
import base64
import functools
import hashlib
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError

from identity_gateway.model import JwtUser, NamedUser, WorkloadAccess
from identity_gateway.sealing import Sealer
from identity_gateway.workload import SEALING_PERIOD, WorkloadTokens
from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.agent import ScriptedAgent, answer, read_request
from tests.fakes.authority import Authority
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, REGION, RunningGateway, free_port, register, running_gateway

SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
CUSTOM = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant"
WAT = ("workloadaccesstoken", "x-amz-bedrock-agentcore-identity-wat")
LONG_ENOUGH = "session-" + "0" * 25  # 33 characters


@pytest.fixture(scope="module")
def signed(gateway: RunningGateway, _agent_server: Agent) -> str:
    """The ARN of a runtime that asks for a signature and allows two headers."""
    allowed = {"requestHeaderAllowlist": ["X-Tenant", CUSTOM]}
    return register(gateway, _agent_server.url, requestHeaderConfiguration=allowed)


@pytest.fixture(scope="module")
def guarded(gateway: RunningGateway, _agent_server: Agent, jwt_issuer: FakeIssuer) -> str:
    """The ARN of a runtime that asks for a JWT and allows two headers."""
    allowed = {"requestHeaderAllowlist": ["X-Tenant", CUSTOM]}
    rules = guarded_by(jwt_issuer.discovery_url)
    return register(gateway, _agent_server.url, requestHeaderConfiguration=allowed, **rules)


@pytest.fixture
def token(jwt_issuer: FakeIssuer) -> str:
    return token_of(jwt_issuer)


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    folder = Path(tempfile.mkdtemp(prefix="authority-"))
    yield Authority(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> Iterator[RunningGateway]:
    """A gateway that trusts the agents of one authority."""
    with running_gateway(agent_ca_file=str(authority.ca_file)) as running:
        yield running


def values(agent: Agent, name: str) -> list[str]:
    """Return what the agent received under this name."""
    return [value for key, value in agent.last["headers"] if key == name.lower()]


@functools.cache
def client(gateway: RunningGateway, attempts: int = 1) -> Any:
    """Return an unmodified boto3 client, made once: making one takes longer than a call."""
    return gateway.client("bedrock-agentcore", attempts=attempts)


def invoke(gateway: RunningGateway, arn: str, payload: Any = None, *, attempts: int = 1, **more: Any) -> Any:
    """Invoke with unmodified boto3."""
    return client(gateway, attempts).invoke_agent_runtime(
        agentRuntimeArn=arn, payload=json.dumps(payload or {}), **more
    )


def refused(gateway: RunningGateway, arn: str, payload: Any = None, **more: Any) -> tuple[int, str, str]:
    """Return status, code and message of the refusal that boto3 sees."""
    with pytest.raises(ClientError) as caught:
        invoke(gateway, arn, payload, **more)
    told = caught.value.response
    return told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Code"], told["Error"]["Message"]


def invoke_with(gateway: RunningGateway, arn: str, headers: dict[str, str], *, signed: bool) -> Any:
    """Invoke with boto3 and more headers, put there before the request is signed or after."""
    own = gateway.data

    def add(request: Any, **_: Any) -> None:
        for name, value in headers.items():
            request.headers[name] = value

    moment = "before-sign" if signed else "before-send"
    own.meta.events.register(f"{moment}.bedrock-agentcore.InvokeAgentRuntime", add)
    return own.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")


# --- Session ids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 32, 257])
def test_a_session_id_that_is_too_short_or_too_long_is_refused(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str, length: int
):
    response = post(gateway, guarded, token, headers=[(SESSION, "s" * length)])
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert agent.received == []


def test_a_call_without_a_session_id_gets_one_and_the_agent_the_same(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str
):
    made = post(gateway, guarded, token).headers[SESSION]
    assert 33 <= len(made) <= 100
    assert values(agent, SESSION) == [made]


def test_two_calls_without_a_session_id_are_two_sessions(gateway: RunningGateway, guarded: str, token: str):
    assert len({post(gateway, guarded, token).headers[SESSION] for _ in range(2)}) == 2


@pytest.mark.parametrize("session", [LONG_ENOUGH, "s" * 100], ids=["33 characters", "100 characters"])
def test_a_session_id_reaches_the_agent_and_comes_back(
    gateway: RunningGateway, agent: Agent, signed: str, session: str
):
    assert invoke(gateway, signed, runtimeSessionId=session)["runtimeSessionId"] == session
    assert values(agent, SESSION) == [session]


# --- Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "foreign",
    [
        {"region": "eu-west-1"},
        {"account": "111111111111"},
        {"partition": "aws-cn"},
        {"service": "bedrock"},
        {"kind": "agent"},
    ],
    ids=lambda foreign: next(iter(foreign)),
)
def test_an_arn_of_another_place_is_not_found(
    gateway: RunningGateway, agent: Agent, signed: str, foreign: dict[str, str]
):
    own = {"partition": "aws", "service": "bedrock-agentcore", "region": REGION, "account": ACCOUNT, "kind": "runtime"}
    place = "arn:{partition}:{service}:{region}:{account}:{kind}/".format(**(own | foreign))
    assert refused(gateway, place + signed.rpartition("/")[2])[:2] == (404, "ResourceNotFoundException")
    assert agent.received == []


def test_a_bare_id_needs_its_account(gateway: RunningGateway, signed: str):
    assert refused(gateway, signed.rpartition("/")[2])[:2] == (400, "ValidationException")


def test_a_bare_id_with_another_account_is_not_found(gateway: RunningGateway, signed: str):
    told = refused(gateway, signed.rpartition("/")[2], accountId="111111111111")
    assert told[:2] == (404, "ResourceNotFoundException")


def test_an_endpoint_that_does_not_exist_is_not_found(gateway: RunningGateway, signed: str):
    assert refused(gateway, signed, qualifier="nowhere")[:2] == (404, "ResourceNotFoundException")


def test_an_endpoint_arn_with_another_qualifier_is_refused(gateway: RunningGateway, signed: str):
    told = refused(gateway, f"{signed}/runtime-endpoint/DEFAULT", qualifier="nowhere")
    assert told[:2] == (400, "ValidationException")


def test_a_bare_id_with_its_account_names_the_runtime(gateway: RunningGateway, agent: Agent, signed: str):
    invoke(gateway, signed.rpartition("/")[2], accountId=ACCOUNT)
    assert len(agent.received) == 1


@pytest.fixture(scope="module")
def versions(gateway: RunningGateway, _agent_server: Agent) -> str:
    """The ARN of a runtime with version 1 at /v1, where the endpoint `stable` stays, and version 2 at /v2."""
    arn = register(gateway, f"{_agent_server.url}/v1")
    runtime_id = arn.rpartition("/")[2]
    gateway.control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="stable", agentRuntimeVersion="1")
    gateway.control.update_agent_runtime(
        agentRuntimeId=runtime_id,
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": f"{_agent_server.url}/v2"}},
        roleArn=f"arn:aws:iam::{ACCOUNT}:role/agent",
        networkConfiguration={"networkMode": "PUBLIC"},
    )
    return arn


@pytest.mark.parametrize(
    ("named", "version"),
    [
        ({}, "v2"),
        ({"qualifier": "DEFAULT"}, "v2"),
        ({"qualifier": "stable"}, "v1"),
        ({"endpoint": "stable"}, "v1"),
        ({"endpoint": "stable", "qualifier": "stable"}, "v1"),
        ({"endpoint": "DEFAULT"}, "v2"),
    ],
    ids=str,
)
def test_a_call_goes_to_the_version_of_the_endpoint_that_it_names(
    gateway: RunningGateway, agent: Agent, versions: str, named: dict[str, str], version: str
):
    endpoint = named.get("endpoint")
    arn = f"{versions}/runtime-endpoint/{endpoint}" if endpoint else versions
    invoke(gateway, arn, **{name: value for name, value in named.items() if name != "endpoint"})
    assert agent.last["path"] == f"/{version}/invocations"


# --- Where the agent listens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "base", "path"),
    [
        (None, "", "/invocations"),
        ({"serverProtocol": "HTTP"}, "", "/invocations"),
        ({"serverProtocol": "MCP"}, "", "/mcp"),
        ({"serverProtocol": "A2A"}, "", "/"),
        ({"serverProtocol": "AGUI"}, "", "/invocations"),
        ({"serverProtocol": "HTTP", "path": "/chat"}, "", "/chat"),
        ({"serverProtocol": "MCP", "path": "/v1/mcp/"}, "", "/v1/mcp/"),
        (None, "/", "/invocations"),
        (None, "/agents/hello", "/agents/hello/invocations"),
        (None, "/agents/hello/", "/agents/hello/invocations"),
        ({"serverProtocol": "A2A"}, "/agents/hello", "/agents/hello/"),
        ({"serverProtocol": "HTTP", "path": "/chat"}, "/agents/h%20i", "/agents/h%20i/chat"),
    ],
    ids=str,
)
def test_an_agent_is_called_where_its_protocol_listens(
    gateway: RunningGateway, agent: Agent, protocol: dict[str, str] | None, base: str, path: str
):
    more = {"protocolConfiguration": protocol} if protocol else {}
    invoke(gateway, register(gateway, agent.url + base, **more))
    assert (agent.last["method"], agent.last["path"], agent.last["query"]) == ("POST", path, "")


# --- Request id, trace, content ------------------------------------------------------------------------------------------


def test_the_agent_and_the_caller_know_the_same_request_id(gateway: RunningGateway, agent: Agent, signed: str):
    told = invoke(gateway, signed)["ResponseMetadata"]["RequestId"]
    assert told
    assert values(agent, "x-amzn-bedrock-agentcore-runtime-request-id") == [told]


def test_a_call_without_a_trace_id_gets_one_and_the_agent_the_same(gateway: RunningGateway, agent: Agent, signed: str):
    made = invoke(gateway, signed)["traceId"]
    assert made.startswith("Root=1-")
    assert values(agent, "x-amzn-trace-id") == [made]


def test_the_trace_of_the_caller_goes_on_at_the_agent(gateway: RunningGateway, agent: Agent, signed: str):
    trace = {
        "traceId": "Root=1-65f0c3a2-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=1",
        "traceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "traceState": "vendor=value",
        "baggage": "tenant=example,user=ada",
    }
    assert invoke(gateway, signed, **trace)["traceId"] == trace["traceId"]
    names = ("x-amzn-trace-id", "traceparent", "tracestate", "baggage")
    assert [values(agent, name) for name in names] == [[value] for value in trace.values()]


def test_the_agents_own_trace_comes_back(gateway: RunningGateway, signed: str):
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "step=2"}
    response = invoke(gateway, signed, {"headers": {"content-type": "application/json", **trace}})
    assert (response["traceParent"], response["baggage"]) == tuple(trace.values())


def test_the_members_of_the_call_reach_the_agent(gateway: RunningGateway, agent: Agent, signed: str):
    members = {
        "contentType": "application/json; charset=utf-8",
        "accept": "application/json, text/event-stream",
        "mcpSessionId": "mcp-1",
        "mcpProtocolVersion": "2025-11-25",
        "mcpMethod": "tools/call",
        "mcpName": "weather",
    }
    invoke(gateway, signed, **members)
    names = ("content-type", "accept", "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name")
    assert [values(agent, name) for name in names] == [[value] for value in members.values()]


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000], ids=lambda size: f"{size} bytes")
@pytest.mark.parametrize("scheme", ["signature", "token"])
def test_a_body_reaches_the_agent_unchanged(
    gateway: RunningGateway, agent: Agent, signed: str, guarded: str, token: str, scheme: str, size: int
):
    body = random.Random(size).randbytes(size)
    if scheme == "signature":
        client(gateway).invoke_agent_runtime(agentRuntimeArn=signed, payload=body)
    else:
        post(gateway, guarded, token, body)
    assert (agent.last["length"], agent.last["sha256"]) == (size, hashlib.sha256(body).hexdigest())


# --- Headers towards the agent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["Authorization"],
        ["Cookie"],
        ["Host"],
        ["Content-Length"],
        ["Transfer-Encoding"],
        ["Connection"],
        ["X-Forwarded-For"],
        ["WorkloadAccessToken"],
        ["OAuth2CallbackUrl"],
        ["X-Amz-Date"],
        ["X-Amz-Bedrock-AgentCore-Identity-WAT"],
        ["X-Amzn-Trace-Id"],
        ["X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"],
        ["X-Amzn-Bedrock-AgentCore-Runtime-User-Id"],
        ["X-Tenant", "x-tenant"],
        ["X_Tenant"],
        [f"X-Header-{number}" for number in range(21)],
    ],
    ids=lambda names: ", ".join(names[:2]),
)
def test_an_allowlist_that_would_pass_too_much_is_refused(gateway: RunningGateway, agent: Agent, names: list[str]):
    with pytest.raises(ClientError, match="ValidationException"):
        register(gateway, agent.url, requestHeaderConfiguration={"requestHeaderAllowlist": names})


TRUSTED = [
    "WorkloadAccessToken",
    "X-Amzn-Bedrock-AgentCore-Runtime-WorkloadAccessToken",
    "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id",
    "OAuth2CallbackUrl",
    "Cookie",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Other",
    "X-Anything",
    "X_Tenant",
    "Workload_Access_Token",
    "DPoP",
]


@pytest.mark.parametrize("name", TRUSTED)
def test_a_header_that_agents_would_trust_is_never_the_callers(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str, name: str
):
    assert post(gateway, guarded, token, headers=[(name, "forged")]).status_code == 200
    assert "forged" not in str(agent.last["headers"])


def test_a_signature_does_not_make_a_trusted_header_the_callers(gateway: RunningGateway, agent: Agent, signed: str):
    forged = {name: "forged" for name in TRUSTED if name != "X_Tenant"}
    invoke_with(gateway, signed, forged, signed=True)
    assert "forged" not in str(agent.last["headers"])


def test_the_token_of_the_caller_stays_at_the_gateway(gateway: RunningGateway, agent: Agent, guarded: str, token: str):
    post(gateway, guarded, token)
    assert values(agent, "authorization") == []


def test_the_signature_of_the_caller_stays_at_the_gateway(gateway: RunningGateway, agent: Agent, signed: str):
    invoke(gateway, signed)
    names = {name for name, _ in agent.last["headers"]}
    assert names.isdisjoint({"authorization", "x-amz-date", "x-amz-content-sha256", "amz-sdk-invocation-id"})


def test_the_token_reaches_an_agent_that_an_administrator_allowed_to_see_it(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer, token: str
):
    allowed = {"requestHeaderAllowlist": ["Authorization"]}
    rules = guarded_by(jwt_issuer.discovery_url)
    post(gateway, register(gateway, agent.url, requestHeaderConfiguration=allowed, **rules), token)
    assert values(agent, "authorization") == [f"Bearer {token}"]


def test_an_allowed_header_reaches_the_agent_in_any_case(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str
):
    headers = [("x-TENANT", "example"), (CUSTOM.upper(), "one")]
    post(gateway, guarded, token, headers=headers)
    assert (values(agent, "x-tenant"), values(agent, CUSTOM)) == (["example"], ["one"])


def test_an_allowed_header_that_is_signed_reaches_the_agent(gateway: RunningGateway, agent: Agent, signed: str):
    invoke_with(gateway, signed, {"X-Tenant": "example", CUSTOM: "one"}, signed=True)
    assert (values(agent, "x-tenant"), values(agent, CUSTOM)) == (["example"], ["one"])


@pytest.mark.parametrize("name", ["X-Tenant", CUSTOM])
def test_an_allowed_header_that_is_not_signed_is_refused(gateway: RunningGateway, agent: Agent, signed: str, name: str):
    with pytest.raises(ClientError, match="IncompleteSignatureException"):
        invoke_with(gateway, signed, {name: "added on the way"}, signed=False)
    assert agent.received == []


def test_a_user_id_that_is_not_signed_is_refused(gateway: RunningGateway, agent: Agent, signed: str):
    with pytest.raises(ClientError, match="IncompleteSignatureException"):
        invoke_with(gateway, signed, {"X-Amzn-Bedrock-AgentCore-Runtime-User-Id": "ada"}, signed=False)
    assert agent.received == []


def test_an_allowed_header_of_more_than_4_kilobytes_is_refused(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str
):
    response = post(gateway, guarded, token, headers=[("X-Tenant", "x" * 4097)])
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert agent.received == []


def test_an_allowed_header_of_4_kilobytes_reaches_the_agent(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str
):
    post(gateway, guarded, token, headers=[("X-Tenant", "x" * 4096)])
    assert values(agent, "x-tenant") == ["x" * 4096]


# --- The workload access token -------------------------------------------------------------------------------------------


def opened(gateway: RunningGateway, agent: Agent) -> WorkloadAccess:
    """Open the workload access token that the agent received, with the key of the gateway."""
    sealer = Sealer(
        [(gateway.data_dir / "master.key").read_bytes()], "workload-access-token", period_seconds=SEALING_PERIOD
    )
    return WorkloadTokens(sealer, ACCOUNT, clock=time.time).open(values(agent, WAT[0])[0])


def test_the_agent_receives_one_token_under_both_names(gateway: RunningGateway, agent: Agent, signed: str):
    invoke(gateway, signed)
    first, second = (values(agent, name) for name in WAT)
    assert first == second
    assert len(first) == 1


def test_the_token_tells_an_agent_nothing(
    gateway: RunningGateway, agent: Agent, guarded: str, jwt_issuer: FakeIssuer, token: str
):
    post(gateway, guarded, token)
    sealed = base64.urlsafe_b64decode(values(agent, WAT[0])[0])
    secrets = (jwt_issuer.issuer, token, token.split(".")[1], guarded.rpartition("/")[2])
    assert not any(secret.encode() in sealed for secret in secrets)


def test_two_calls_get_two_tokens(gateway: RunningGateway, agent: Agent, signed: str):
    tokens = set()
    for _ in range(2):
        invoke(gateway, signed, runtimeUserId="ada")
        tokens.update(values(agent, WAT[0]))
    assert len(tokens) == 2


def test_the_token_of_a_signed_call_stands_for_the_agent_alone(gateway: RunningGateway, agent: Agent, signed: str):
    invoke(gateway, signed)
    access = opened(gateway, agent)
    assert (access.workload, access.user, access.inbound_token) == (signed.rpartition("/")[2], None, None)


def test_the_token_of_a_signed_call_for_a_user_stands_for_a_user_that_the_caller_named(
    gateway: RunningGateway, agent: Agent, signed: str
):
    invoke(gateway, signed, runtimeUserId="ada")
    assert opened(gateway, agent).user == NamedUser("ada")


def test_a_user_id_never_looks_like_the_user_of_a_jwt(
    gateway: RunningGateway, agent: Agent, signed: str, jwt_issuer: FakeIssuer
):
    named = f"{jwt_issuer.issuer}#ada"
    invoke(gateway, signed, runtimeUserId=named)
    assert opened(gateway, agent).user == NamedUser(named) != JwtUser(jwt_issuer.issuer, "ada")


def test_the_token_of_a_bearer_call_stands_for_the_user_of_the_jwt_and_keeps_it(
    gateway: RunningGateway, agent: Agent, guarded: str, jwt_issuer: FakeIssuer, token: str
):
    post(gateway, guarded, token)
    access = opened(gateway, agent)
    assert (access.workload, access.user) == (guarded.rpartition("/")[2], JwtUser(jwt_issuer.issuer, "ada"))
    assert access.inbound_token is not None
    assert access.inbound_token.reveal() == token


def test_a_user_id_beside_a_bearer_token_is_ignored(
    gateway: RunningGateway, agent: Agent, guarded: str, jwt_issuer: FakeIssuer, token: str
):
    post(gateway, guarded, token, headers=[("X-Amzn-Bedrock-AgentCore-Runtime-User-Id", "grace")])
    assert opened(gateway, agent).user == JwtUser(jwt_issuer.issuer, "ada")
    assert "grace" not in str(agent.last["headers"])


def test_a_jwt_without_a_subject_stands_for_no_user(
    gateway: RunningGateway, agent: Agent, guarded: str, jwt_issuer: FakeIssuer
):
    post(gateway, guarded, token_of(jwt_issuer, sub=None))
    assert opened(gateway, agent).user is None


# --- Headers and statuses towards the caller -----------------------------------------------------------------------------


def test_what_only_concerns_the_agents_own_server_stays_behind(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str
):
    dropped = {
        "set-cookie": "session=1",
        "server": "the agent's",
        "location": "http://elsewhere.example/",
        "www-authenticate": "Basic",
        "x-powered-by": "something",
        "access-control-allow-origin": "*",
        "x-amzn-errortype": "ValidationException",
        "x-amzn-bedrock-agentcore-runtime-session-id": "forged",
        "x-amzn-requestid": "forged",
        "workloadaccesstoken": "forged",
    }
    asked = {"headers": {"content-type": "text/plain", **dropped}}
    response = post(gateway, guarded, token, json.dumps(asked).encode())
    kept = {name: value for name, value in response.headers.items() if dropped.get(name) == value}
    assert (response.status_code, kept) == (200, {})


def test_what_the_caller_needs_of_the_agents_answer_comes_back(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str
):
    kept = {
        "content-type": "application/vnd.example+json",
        "cache-control": "no-store",
        "mcp-session-id": "mcp-2",
        "mcp-protocol-version": "2025-11-25",
        CUSTOM.lower(): "one",
    }
    response = post(gateway, guarded, token, json.dumps({"headers": kept}).encode())
    assert {name: response.headers.get(name) for name in kept} == kept


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_a_success_of_the_agent_is_the_callers(gateway: RunningGateway, signed: str, status: int):
    response = invoke(gateway, signed, {"status": status, "body": "" if status == 204 else "said"})
    assert (response["statusCode"], response["response"].read()) == (status, b"" if status == 204 else b"said")


@pytest.mark.parametrize("status", [300, 302, 304, 307, 400, 401, 403, 404, 409, 429, 500, 502, 503, 504])
def test_a_failure_of_the_agent_is_told_as_424_and_the_agent_runs_once(
    gateway: RunningGateway, agent: Agent, signed: str, status: int
):
    body = "" if status == 304 else "the reason"
    told = refused(gateway, signed, {"status": status, "body": body}, attempts=3)
    assert told[:2] == (424, "RuntimeClientError")
    assert told[2].startswith(f"Received error ({status}) from runtime.")
    assert told[2].endswith(body)
    assert len(agent.received) == 1


def test_a_redirect_of_the_agent_is_not_passed_on(gateway: RunningGateway, agent: Agent, guarded: str, token: str):
    asked = {"status": 307, "headers": {"location": "http://elsewhere.example/"}, "body": ""}
    response = post(gateway, guarded, token, json.dumps(asked).encode())
    assert (response.status_code, "location" in response.headers) == (424, False)


def test_a_challenge_of_the_agent_is_not_taken_for_the_gateways(
    gateway: RunningGateway, agent: Agent, guarded: str, token: str
):
    asked = {"status": 401, "headers": {"www-authenticate": "Basic"}, "body": ""}
    response = post(gateway, guarded, token, json.dumps(asked).encode())
    assert (response.status_code, "www-authenticate" in response.headers) == (424, False)


def test_what_a_failing_agent_says_is_cut_and_printable(gateway: RunningGateway, signed: str):
    _, _, message = refused(gateway, signed, {"status": 500, "body": "\x1b[31mred\r\n\x00" + "x" * 5000})
    assert message.isprintable()
    assert 1000 < len(message) < 1200


# --- Agents that fail before they answer ---------------------------------------------------------------------------------


def test_an_agent_that_does_not_listen_is_told_as_424(gateway: RunningGateway):
    told = refused(gateway, register(gateway, f"http://127.0.0.1:{free_port()}"))
    assert told == (424, "RuntimeClientError", "The agent does not accept connections.")


def test_an_agent_whose_name_nobody_knows_is_told_as_424(gateway: RunningGateway):
    told = refused(gateway, register(gateway, "http://agent.invalid"))
    assert told == (424, "RuntimeClientError", "The agent cannot be reached.")


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "100.100.100.200", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"],
)
def test_an_agent_that_stands_on_a_metadata_service_is_not_called(gateway: RunningGateway, address: str):
    told = refused(gateway, register(gateway, f"http://{address}"))
    assert told == (424, "RuntimeClientError", "The agent's address is one that this gateway does not call.")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "The agent closed the connection before its answer was complete."),
        (b"HTTP/1.1 200 OK\r\ncontent-", "The agent closed the connection before its answer was complete."),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "The agent did not answer in HTTP/1.1 as expected."),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "The agent did not answer in HTTP/1.1 as expected."),
    ],
    ids=["nothing", "half a head", "another protocol", "two lengths"],
)  # fmt: skip
async def test_an_agent_that_does_not_speak_http_is_told_as_424_and_runs_once(
    gateway: RunningGateway, said: bytes, message: str
):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)

    async with ScriptedAgent(script) as broken:
        told = await asyncio.to_thread(refused, gateway, register(gateway, str(broken.origin)), attempts=3)
        assert told == (424, "RuntimeClientError", message)
        assert broken.connections == 1


# --- Agents that fail while they answer ----------------------------------------------------------------------------------

CUT = {
    "a stream of chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    "a body of a known length": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst",
}


def cutting(said: bytes) -> ScriptedAgent:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)

    return ScriptedAgent(script)


@pytest.mark.parametrize("said", CUT.values(), ids=CUT)
async def test_boto3_does_not_take_an_answer_that_was_cut_for_a_whole_one(gateway: RunningGateway, said: bytes):
    def read(arn: str) -> bytes:
        return bytes(invoke(gateway, arn, attempts=3)["response"].read())

    async with cutting(said) as broken:
        with pytest.raises((ResponseStreamingError, IncompleteReadError)):
            await asyncio.to_thread(read, register(gateway, str(broken.origin)))
        assert broken.connections == 1


@pytest.mark.parametrize("said", CUT.values(), ids=CUT)
async def test_a_bearer_does_not_take_an_answer_that_was_cut_for_a_whole_one(
    gateway: RunningGateway, jwt_issuer: FakeIssuer, token: str, said: bytes
):
    async with cutting(said) as broken:
        arn = register(gateway, str(broken.origin), **guarded_by(jwt_issuer.discovery_url))
        with pytest.raises(httpx2.RemoteProtocolError):
            await asyncio.to_thread(post, gateway, arn, token)


# --- Agents behind TLS -----------------------------------------------------------------------------------------------------


async def test_an_agent_of_the_trusted_authority_is_called(trusting: RunningGateway, authority: Authority):
    async with ScriptedAgent(answer(b"{}"), context=authority.serve("127.0.0.1")) as secure:
        response = await asyncio.to_thread(invoke, trusting, register(trusting, str(secure.origin)))
        assert (response["statusCode"], len(secure.requests)) == (200, 1)


@pytest.mark.parametrize("certified", ["localhost", "127.0.0.2"])
async def test_an_agent_with_a_certificate_for_another_place_is_not_called(
    trusting: RunningGateway, authority: Authority, certified: str
):
    async with ScriptedAgent(answer(b"{}"), context=authority.serve(certified)) as other:
        told = await asyncio.to_thread(refused, trusting, register(trusting, str(other.origin)))
        assert told == (424, "RuntimeClientError", "The agent offers no TLS connection that this gateway trusts.")
        assert other.requests == []


async def test_an_agent_of_an_authority_that_nobody_trusts_is_not_called(gateway: RunningGateway, authority: Authority):
    async with ScriptedAgent(answer(b"{}"), context=authority.serve("127.0.0.1")) as other:
        told = await asyncio.to_thread(refused, gateway, register(gateway, str(other.origin)))
        assert told == (424, "RuntimeClientError", "The agent offers no TLS connection that this gateway trusts.")
        assert other.requests == []


async def test_an_agent_that_is_registered_with_tls_is_never_called_without(trusting: RunningGateway):
    heard = []

    async def plain_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))
        writer.write(answer(status=b"400 Bad Request"))

    async with ScriptedAgent(plain_server) as plain:
        told = await asyncio.to_thread(refused, trusting, register(trusting, f"https://127.0.0.1:{plain.port}"))
    assert told == (424, "RuntimeClientError", "The agent offers no TLS connection that this gateway trusts.")
    assert [b"POST" in said for said in heard] == [False]
