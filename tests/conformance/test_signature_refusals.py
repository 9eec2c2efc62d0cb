"""Who is not let in: real boto3 with something wrong, and requests that boto3 cannot send, over a socket.

Every refusal stands before anything of the input is looked at. What a verifier makes of each byte of a signature has
its own tests; here the whole gateway is asked.
"""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from urllib.parse import quote, urlsplit

import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import Scope
from tests.agents import Agent
from tests.conformance.control_plane import CONTROL, DATA, container, create, refusal, refused, send, sign, status
from tests.fakes.sigv4_client import added, changed, without
from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name

MISSING = (403, "MissingAuthenticationTokenException")
INCOMPLETE = (403, "IncompleteSignatureException")
INVALID = (403, "InvalidSignatureException")
VALIDATION = (400, "ValidationException")
LIST = "/identities/ListWorkloadIdentities"
CREATE = "/identities/CreateWorkloadIdentity"
ARN = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/unknown-AbCdEf1234"
NO_KEY = "IGAKAAAAAAAAAAAAAAAA"
WRONG = "wrong" * 8


@contextlib.contextmanager
def before_send(client: Any, edit: Callable[[Any], object]) -> Iterator[Any]:
    """Let `edit` change what the client has signed, before it leaves."""

    def hook(request: Any, **_: Any) -> None:
        edit(request)

    client.meta.events.register("before-send", hook)
    try:
        yield client
    finally:
        client.meta.events.unregister("before-send", hook)


def replaced(header: str, value: str) -> Callable[[Any], None]:
    """Return an edit that sets a header, whether it was there or not."""

    def edit(request: Any) -> None:
        if header in request.headers:
            del request.headers[header]
        request.headers[header] = value

    return edit


@pytest.fixture
def made(control_on_sqlite: Any, agent: Agent) -> dict[str, Any]:
    """A runtime whose agent answers."""
    return create(control_on_sqlite, agentRuntimeArtifact=container(agent.url))


@pytest.fixture
def invoke(gateway: RunningGateway, client_of: Callable[..., Any]) -> Any:
    """A client for invocations."""
    return client_of(gateway, DATA)


@contextlib.contextmanager
def clock(offset: timedelta) -> Iterator[None]:
    """Let botocore's signer, and it alone, live in another time."""
    moved = datetime.now(UTC) + offset
    with mock.patch("botocore.auth.get_current_datetime", return_value=moved.replace(tzinfo=None)):
        yield


# --- boto3 with something wrong ---------------------------------------------------------------------------------------

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    (CONTROL, "list_workload_identities", {}),
    (CONTROL, "list_agent_runtimes", {}),
    (DATA, "get_workload_access_token", {"workloadName": "nobody"}),
    (DATA, "invoke_agent_runtime", {"agentRuntimeArn": ARN, "payload": b"{}"}),
]


@pytest.mark.parametrize(("service", "method", "asked"), CALLS)
def test_a_wrong_secret_is_refused(
    gateway: RunningGateway, client_of: Callable[..., Any], service: str, method: str, asked: dict[str, Any]
):
    client = client_of(gateway, service, key=(gateway.root_key[0], WRONG))
    assert refused(getattr(client, method), **asked) == INVALID


@pytest.mark.parametrize(("service", "method", "asked"), CALLS)
def test_a_key_that_does_not_exist_is_refused(
    gateway: RunningGateway, client_of: Callable[..., Any], service: str, method: str, asked: dict[str, Any]
):
    client = client_of(gateway, service, key=(NO_KEY, WRONG))
    assert refused(getattr(client, method), **asked) == INVALID


@pytest.mark.parametrize(("service", "method", "asked"), CALLS)
def test_an_unsigned_call_is_refused(
    gateway: RunningGateway, client_of: Callable[..., Any], service: str, method: str, asked: dict[str, Any]
):
    client = client_of(gateway, service, signature_version=UNSIGNED)
    assert refused(getattr(client, method), **asked) == MISSING


def test_what_a_wrong_secret_asks_for_does_not_happen(
    gateway: RunningGateway, client_of: Callable[..., Any], control_on_sqlite: Any
):
    name = fresh_name("workload")
    refusal(client_of(gateway, CONTROL, key=(gateway.root_key[0], WRONG)).create_workload_identity, name=name)
    assert refused(control_on_sqlite.get_workload_identity, name=name)[0] == 404


@pytest.mark.parametrize("minutes", [-6, 6, -60 * 24, 60 * 24])
def test_a_clock_that_is_minutes_off_is_refused(control_on_sqlite: Any, minutes: int):
    with clock(timedelta(minutes=minutes)):
        response = refusal(control_on_sqlite.list_workload_identities)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert ("expired" if minutes < 0 else "not yet current") in response["Error"]["Message"]


@pytest.mark.parametrize("minutes", [-4, 4])
def test_a_clock_that_is_a_little_off_will_do(control_on_sqlite: Any, minutes: int):
    with clock(timedelta(minutes=minutes)):
        assert status(control_on_sqlite.list_workload_identities()) == 200


def test_a_body_that_was_changed_on_the_way_is_refused(control_on_sqlite: Any):
    def edit(request: Any) -> None:
        request.body = request.body.replace(b"alice", b"mally")

    with before_send(control_on_sqlite, edit) as control:
        assert refused(control.create_workload_identity, name=fresh_name("alice")) == INVALID


def test_a_payload_that_was_changed_on_the_way_never_reaches_the_agent(invoke: Any, agent: Agent, made: dict[str, Any]):
    asked = {"agentRuntimeArn": made["agentRuntimeArn"], "payload": b'{"amount": 1}'}
    with before_send(invoke, lambda request: setattr(request, "body", b'{"amount": 9}')) as data:
        assert refused(data.invoke_agent_runtime, **asked) == INVALID
    assert agent.received == []


@pytest.mark.parametrize(("asked_for", "error"), [("alice", INVALID), (None, INCOMPLETE)], ids=["changed", "added"])
def test_a_user_who_was_named_on_the_way_is_refused(
    invoke: Any, agent: Agent, made: dict[str, Any], asked_for: str | None, error: tuple[int, str]
):
    asked = {"agentRuntimeArn": made["agentRuntimeArn"], "payload": b"{}"}
    asked |= {"runtimeUserId": asked_for} if asked_for else {}
    with before_send(invoke, replaced("X-Amzn-Bedrock-AgentCore-Runtime-User-Id", "mallory")) as data:
        assert refused(data.invoke_agent_runtime, **asked) == error
    assert agent.received == []


def test_a_date_that_was_changed_on_the_way_is_refused(control_on_sqlite: Any):
    moved = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y%m%dT%H%M%SZ")
    with before_send(control_on_sqlite, replaced("X-Amz-Date", moved)) as control:
        assert refused(control.list_workload_identities) == INVALID


def test_another_region_is_refused(gateway: RunningGateway, client_of: Callable[..., Any]):
    response = refusal(client_of(gateway, CONTROL, region="eu-west-1").list_workload_identities)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert f"region '{REGION}'" in response["Error"]["Message"]


def test_another_service_is_refused(control_on_sqlite: Any):
    with mock.patch.object(control_on_sqlite._request_signer, "_signing_name", "execute-api"):
        response = refusal(control_on_sqlite.list_workload_identities)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert "service 'bedrock-agentcore'" in response["Error"]["Message"]


def test_a_session_token_beside_a_long_term_key_is_refused(gateway: RunningGateway, control_on_sqlite: Any):
    temporary = Credentials(*gateway.root_key, "token")
    with mock.patch.object(control_on_sqlite._request_signer, "_credentials", temporary):
        assert refused(control_on_sqlite.list_workload_identities) == INVALID


def test_boto3_does_not_try_a_refused_signature_again(gateway: RunningGateway, client_of: Callable[..., Any]):
    sent: list[Any] = []
    with before_send(client_of(gateway, CONTROL, key=(NO_KEY, WRONG), attempts=3), sent.append) as client:
        refusal(client.list_workload_identities)
    assert len(sent) == 1


def test_boto3_says_why_it_was_refused(gateway: RunningGateway, client_of: Callable[..., Any]):
    client = client_of(gateway, CONTROL, key=(NO_KEY, WRONG))
    with pytest.raises(ClientError, match=r"InvalidSignatureException.*Check the access key and its secret"):
        client.list_workload_identities()


# --- A captured request -----------------------------------------------------------------------------------------------


@pytest.fixture
def captured(invoke: Any, agent: Agent, made: dict[str, Any]) -> Request:
    """A signed invocation as boto3 sent it, with an empty payload."""
    seen: list[Any] = []
    asked = {"agentRuntimeArn": made["agentRuntimeArn"], "qualifier": "DEFAULT", "payload": b""}
    with before_send(invoke, seen.append) as data, data.invoke_agent_runtime(**asked)["response"] as stream:
        stream.read()
    agent.received.clear()
    parts = urlsplit(seen[0].url)
    headers = [("host", parts.netloc), *((name.lower(), value) for name, value in seen[0].headers.items())]
    wire = tuple((name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers)
    return without(Request("POST", parts.path.encode(), parts.query.encode(), wire), "content-length")


def test_a_captured_request_is_for_one_runtime(
    gateway: RunningGateway, agent: Agent, control_on_sqlite: Any, captured: Request
):
    other = create(control_on_sqlite, agentRuntimeArtifact=container(agent.url))["agentRuntimeArn"]
    path = f"/runtimes/{quote(other, safe='')}/invocations".encode()
    assert send(gateway, replace(captured, raw_path=path)).error == INVALID
    assert agent.received == []


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        ({"raw_query": b"qualifier=other"}, INVALID),
        ({"raw_query": b""}, INVALID),
        ({"raw_query": b"qualifier=DEFAULT&accountId=000000000000"}, INVALID),
        ({"method": "GET"}, (403, "InvalidSignatureException")),
    ],
    ids=str,
)
def test_a_captured_request_is_for_one_call(
    gateway: RunningGateway, captured: Request, edit: dict[str, Any], error: tuple[int, str]
):
    assert send(gateway, replace(captured, **edit)).error == error


def test_a_captured_request_is_for_one_payload(gateway: RunningGateway, agent: Agent, captured: Request):
    assert send(gateway, captured, b'{"other": 1}').error == INVALID
    assert agent.received == []


def test_a_captured_request_is_for_one_host(gateway: RunningGateway, captured: Request):
    port = str(gateway.port)
    assert send(gateway, changed(captured, "host", "127.0.0.1:" + port, "localhost:" + port)).error == INVALID


def test_a_captured_request_is_what_it_was(gateway: RunningGateway, agent: Agent, captured: Request):
    assert send(gateway, captured).status == 200
    assert len(agent.received) == 1


# --- What boto3 cannot send -------------------------------------------------------------------------------------------


def edited(request: Request, old: str, new: str) -> Request:
    return changed(request, "authorization", old, new)


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        ("Bearer e30.e30.e30", MISSING),
        ("Basic dXNlcjpwYXNz", INCOMPLETE),
        ("AWS4-HMAC-SHA256", INCOMPLETE),
        ("AWS4-HMAC-SHA256 Credential=x", INCOMPLETE),
        ("AWS4-HMAC-SHA1 Credential=x, SignedHeaders=host, Signature=x", INCOMPLETE),
        ("AWS AKIDEXAMPLE:c2lnbmF0dXJl", INCOMPLETE),
        ("AWS4-ECDSA-P256-SHA256 Credential=x, SignedHeaders=host, Signature=x", INCOMPLETE),
        ("", MISSING),
        (" ", MISSING),
        ("x" * 5000, INCOMPLETE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_credentials_are_refused(gateway: RunningGateway, authorization: str, error: tuple[int, str]):
    request = without(sign(gateway, "POST", LIST), "authorization")
    assert send(gateway, added(request, "authorization", authorization)).error == error


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Signature=", "Signature=0"),
        ("AWS4-HMAC-SHA256", "aws4-hmac-sha256"),
        ("SignedHeaders=host;", "SignedHeaders="),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=host"),
        ("SignedHeaders=host;", "SignedHeaders=absent;host;"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date;host"),
        ("/aws4_request", ""),
        ("Credential=", "Credential=/"),
        ("Credential=", "Credential=x,Credential="),
        ("Credential=", "Extra=1, Credential="),
    ],
)
def test_a_malformed_signature_is_refused(gateway: RunningGateway, old: str, new: str):
    assert send(gateway, edited(sign(gateway, "POST", LIST), old, new)).error == INCOMPLETE


@pytest.mark.parametrize(
    "scope", [Scope("eu-west-1", "bedrock-agentcore"), Scope(REGION, "s3"), Scope(REGION, "bedrock-agentcore-control")]
)
def test_a_signature_for_another_scope_is_refused(gateway: RunningGateway, scope: Scope):
    assert send(gateway, sign(gateway, "POST", LIST, scope=scope)).error == INVALID


def test_a_signature_of_another_day_is_refused(gateway: RunningGateway):
    request = sign(gateway, "POST", LIST)
    today = datetime.now(UTC).strftime("%Y%m%d")
    assert send(gateway, edited(request, f"/{today}/", "/20200101/")).error == INVALID


def test_credentials_in_the_query_are_refused(gateway: RunningGateway):
    key_id, secret = gateway.root_key
    presigned = AWSRequest("POST", gateway.url + LIST)
    SigV4QueryAuth(Credentials(key_id, secret), "bedrock-agentcore", REGION, expires=300).add_auth(presigned)
    parts = urlsplit(presigned.url)
    host = ((b"host", parts.netloc.encode()),)
    assert send(gateway, Request("POST", parts.path.encode(), parts.query.encode(), host)).status == 403


def test_credentials_in_the_query_beside_a_signature_are_refused(gateway: RunningGateway):
    request = sign(gateway, "POST", LIST + "?X-Amz-Signature=" + "0" * 64)
    assert send(gateway, request).error == INCOMPLETE


def test_two_authorization_headers_are_refused(gateway: RunningGateway):
    request = sign(gateway, "POST", LIST)
    twice = added(request, "authorization", (request.header(b"authorization") or b"").decode())
    assert send(gateway, twice).error == VALIDATION


def test_a_signature_beside_a_bearer_token_is_refused(gateway: RunningGateway):
    request = added(sign(gateway, "POST", LIST), "authorization", "Bearer e30.e30.e30")
    assert send(gateway, request).error == VALIDATION


@pytest.mark.parametrize("name", ["host", "x-amz-date"])
def test_a_header_that_must_stand_once_stands_once(gateway: RunningGateway, name: str):
    request = sign(gateway, "POST", LIST)
    twice = added(request, name, (request.header(name.encode()) or b"").decode())
    assert send(gateway, twice).status == 400


@pytest.mark.parametrize("declared", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "0" * 64])
def test_a_body_that_the_signature_leaves_open_is_refused(gateway: RunningGateway, declared: str):
    body = json.dumps({"name": fresh_name("workload")}).encode()
    request = sign(gateway, "POST", CREATE, body, headers={"X-Amz-Content-SHA256": declared})
    assert send(gateway, request, body).status == 403


def test_a_session_token_that_is_not_signed_is_refused(gateway: RunningGateway):
    request = added(sign(gateway, "POST", LIST), "x-amz-security-token", "token")
    assert send(gateway, request).error == INCOMPLETE


def test_a_body_that_comes_in_chunks_is_held_to_its_signature(gateway: RunningGateway):
    body = json.dumps({"name": fresh_name("workload")}).encode()
    request = added(sign(gateway, "POST", CREATE, body), "transfer-encoding", "chunked")
    chunks = [body[:5], body[5:]]
    good = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    bad = good.replace(b"workload", b"mallory_")
    assert (raw_status(gateway, request, bad), raw_status(gateway, request, good)) == (403, 201)


def raw_status(gateway: RunningGateway, request: Request, content: bytes) -> int:
    """Send these very bytes after the head and return the status."""
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.raw_path)]
    lines += [b"%s: %s" % pair for pair in request.headers] + [b"connection: close", b"", content]
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(b"\r\n".join(lines))
        return int(connection.recv(65536).split(b" ", 2)[1])


# --- What a refusal tells ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("POST", LIST), ("GET", "/runtimes/unknown-AbCdEf1234/")])
def test_an_unknown_key_and_a_wrong_secret_are_answered_alike(gateway: RunningGateway, method: str, path: str):
    unknown = send(gateway, sign(gateway, method, path, key_id=NO_KEY))
    wrong = send(gateway, sign(gateway, method, path, secret=WRONG))
    own = {"x-amzn-requestid", "date"}
    shown = [
        (answer.status, [pair for pair in answer.headers if pair[0] not in own], answer.body)
        for answer in (unknown, wrong)
    ]
    assert shown[0] == shown[1]


def test_who_did_not_sign_does_not_learn_what_exists(gateway: RunningGateway, control_on_sqlite: Any):
    runtime_id = create(control_on_sqlite)["agentRuntimeId"]
    here, nowhere = (
        send(gateway, sign(gateway, "GET", f"/runtimes/{each}/", secret=WRONG))
        for each in (runtime_id, "unknown-AbCdEf1234")
    )
    assert (here.error, here.body) == (nowhere.error, nowhere.body)


def test_who_did_not_sign_does_not_learn_what_is_wrong_with_the_input(gateway: RunningGateway):
    answer = send(gateway, sign(gateway, "POST", CREATE, b"{", secret=WRONG), b"{")
    assert answer.error == INVALID


def test_a_refusal_does_not_repeat_the_signature(gateway: RunningGateway):
    request = sign(gateway, "POST", LIST, secret=WRONG)
    signature = (request.header(b"authorization") or b"").decode().rpartition("=")[2]
    answer = send(gateway, request)
    assert signature not in answer.body.decode() + gateway.log
