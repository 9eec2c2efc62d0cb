"""Signers that are not ours agree with the verifier: botocore's SigV4Auth, and whole requests of boto3."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_gateway.errors import GatewayError
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.protocol.sigv4 import Scope
from tests.fakes.sigv4_client import ARN, KEY_ID, SCOPE, SECRET, added, changed, check, digest, signed

PATHS = [
    f"/runtimes/{ARN}/invocations", "/", "", "/a/", "/a%20b", "/gr%C3%BC%C3%9Fe/%E1%88%B4", "/arn%3aaws%3ax%2fy",
    "/arn:aws:x", "/a~b%7Ec", "/a+b%2Bc", "/identities/GetWorkloadAccessToken", "/a%25b",
]  # fmt: skip
QUERIES = ["", "qualifier=DEFAULT", "b=2&a=1&a=0", "k=%20%2B%2F", "flag=", "Param-3=3&Param=2&%E1%88%B4=1"]
BODIES = [b"", b"{}", bytes(range(256)) * 300]
HEADERS: list[dict[str, str]] = [
    {},
    {"Content-Type": "application/json", "Accept": "text/event-stream"},
    {"X-Custom": "  a   b \t c  ", "X-Empty": "", "X-Quoted": '"a   b"'},
    {"X-Amzn-Bedrock-AgentCore-Runtime-User-Id": "Zoë Müller/ሴ", "User-Agent": "unsigned", "traceparent": "00-1-2-01"},
    {"X-Amz-Content-Sha256": "the body's"},
    {"Date": "replaced by botocore"},
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: "+".join(headers) or "none")
def test_what_botocore_signs_is_verified(method: str, path: str, headers: dict[str, str]):
    for query in QUERIES:
        for body in BODIES:
            sent = {k: digest(body) if v == "the body's" else v for k, v in headers.items()}
            request = signed(method, f"https://gateway.test:8443{path or '/'}?{query}", sent, body)
            assert check(request, body).access_key_id == KEY_ID


labels = st.text(min_size=1, max_size=12).filter(lambda text: text not in {".", ".."} and "\0" not in text)
values = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=20)


@settings(max_examples=80, deadline=None)
@given(
    path=st.lists(labels, max_size=4),
    query=st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=4),
    header=values,
    body=st.binary(max_size=40),
)
def test_whatever_botocore_signs_is_verified(path: list[str], query: list[tuple[str, str]], header: str, body: bytes):
    parameters = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query if name != "Signature"]
    target = "/" + "/".join(quote(label, safe="") for label in path)
    url = f"https://gateway.test{target}?{'&'.join(f'{name}={value}' for name, value in parameters)}"
    request = signed("POST", url, {"X-Custom": header}, body)
    assert check(request, body).header(b"x-custom") == header.strip().encode()


def test_a_gateway_of_another_region_and_name_verifies_what_was_signed_for_it():
    scope = Scope("eu-central-1", "sts")
    assert check(signed(scope=scope), scope=scope).access_key_id == KEY_ID


def test_a_plus_sign_in_the_query_is_signed_as_a_plus_sign_and_not_as_a_blank():
    request = signed(url="https://gateway.test/?k=%2B")
    assert check(replace(request, raw_query=b"k=+")).raw_query == b"k=+"


def test_repeated_headers_are_verified_joined_in_wire_order():
    request = signed(headers={"x-custom": "b,a"})
    split = added(changed(request, "x-custom", "b,a", "b"), "x-custom", "a")
    assert [value for name, value in check(split).signed_headers if name == b"x-custom"] == [b"b", b"a"]


def test_a_verified_request_holds_the_signed_headers_alone_trimmed_and_in_wire_order():
    request = signed(headers={"X-Custom": " kept ", "User-Agent": "dropped", "Accept": "kept"})
    names = [name for name, _ in check(request).signed_headers]
    assert names == [b"host", b"x-custom", b"accept", b"x-amz-date"]
    assert check(request).header(b"x-custom") == b"kept"


def test_a_verified_request_says_who_and_what():
    proven = check(signed(method="PUT"))
    assert (proven.access_key_id, proven.method, proven.raw_query) == (KEY_ID, "PUT", b"qualifier=DEFAULT")


# --- Requests of boto3 itself ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    return boto3.client(
        "bedrock-agentcore",
        region_name=SCOPE.region,
        endpoint_url="https://gateway.test:8443",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}),
    )


class Body(io.BytesIO):
    """What botocore expects of a response body."""

    def stream(self, **_):
        yield self.read()


def sent(client, operation: str, **arguments) -> AWSPreparedRequest:
    """Return the request that the client would have sent."""
    captured: list[AWSPreparedRequest] = []

    def answer(request: AWSPreparedRequest, **_) -> AWSResponse:
        captured.append(request)
        return AWSResponse(request.url, 200, {"content-type": "application/json"}, Body(b"{}"))

    client.meta.events.register("before-send", answer, unique_id="capture")
    try:
        getattr(client, operation)(**arguments)
    finally:
        client.meta.events.unregister("before-send", unique_id="capture")
    return captured[0]


def received(prepared: AWSPreparedRequest) -> tuple[Request, bytes]:
    """Return the head and the body as a server would receive them."""
    parts = urlsplit(prepared.url)
    pairs = [("host", parts.netloc), *prepared.headers.items()]
    headers = tuple(
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode()) for name, value in pairs
    )
    body = prepared.body or b""
    data = body if isinstance(body, bytes) else body.read()
    return Request(prepared.method, parts.path.encode(), parts.query.encode(), headers), data


CALLS = [
    (
        "invoke_agent_runtime",
        {
            "agentRuntimeArn": "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/hello-AbCdEf1234",
            "qualifier": "DEFAULT",
            "runtimeSessionId": "s" * 40,
            "runtimeUserId": "Zoë Müller",
            "contentType": "application/json",
            "accept": "text/event-stream",
            "payload": b'{"prompt": "hello"}',
        },
    ),
    (
        "invoke_agent_runtime",
        {"agentRuntimeArn": "an odd:name/with~every+thing%2F(x)*", "accountId": "000000000000", "payload": b"\x00\xff"},
    ),
    ("get_workload_access_token_for_user_id", {"workloadName": "hello", "userId": "alice"}),
    (
        "get_resource_api_key",
        {"workloadIdentityToken": "token", "resourceCredentialProviderName": "provider"},
    ),
]


def proven(request: Request, body: bytes) -> SignedRequest:
    """Verify at the very time that the request says."""
    date = (request.header(b"x-amz-date") or b"").decode()
    return check(request, body, now=datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))


@pytest.mark.parametrize(("operation", "arguments"), CALLS)
def test_a_request_of_boto3_is_verified(client, operation: str, arguments: dict):
    assert proven(*received(sent(client, operation, **arguments))).access_key_id == KEY_ID


def test_the_user_id_that_boto3_sends_is_proven(client):
    operation, arguments = CALLS[0]
    request, body = received(sent(client, operation, **arguments))
    assert proven(request, body).header(b"x-amzn-bedrock-agentcore-runtime-user-id") == "Zoë Müller".encode()


def mutants(value: bytes):
    """Yield the value with each bit of each byte flipped, and shortened and lengthened by one byte."""
    for position, byte in enumerate(value):
        for bit in range(8):
            yield value[:position] + bytes([byte ^ 1 << bit]) + value[position + 1 :]
    yield value[:-1]
    yield value + b"0"


def edits(request: Request):
    """Yield the request with every single-bit change of what its signature covers."""
    yield from (replace(request, method=method.decode("latin-1")) for method in mutants(request.method.encode()))
    yield from (replace(request, raw_path=path) for path in mutants(request.raw_path))
    yield from (replace(request, raw_query=query) for query in mutants(request.raw_query))
    signed_names = [name for name, _ in proven(request, BOTO_BODY).signed_headers]
    for index, (name, value) in enumerate(request.headers):
        if name in signed_names:
            for edited in mutants(value):
                headers = (*request.headers[:index], (name, edited), *request.headers[index + 1 :])
                yield replace(request, headers=headers)


BOTO_BODY = CALLS[0][1]["payload"]


def test_no_bit_that_boto3_signed_can_be_changed(client):
    operation, arguments = CALLS[0]
    request, body = received(sent(client, operation, **arguments))
    now = datetime.strptime((request.header(b"x-amz-date") or b"").decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    accepted = []
    for edited in edits(request):
        try:
            accepted.append(check(edited, body, now=now))
        except GatewayError:
            continue
    assert accepted == []


def test_no_bit_of_a_body_that_boto3_signed_can_be_changed(client):
    operation, arguments = CALLS[0]
    request, body = received(sent(client, operation, **arguments))
    for edited in mutants(body):
        with pytest.raises(GatewayError):
            proven(request, edited)
