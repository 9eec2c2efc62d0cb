"""What the official agent SDK signs for a WebSocket is verified: a presigned URL, and headers of the handshake."""

import warnings
from datetime import UTC, datetime
from urllib.parse import urlsplit

import boto3
import pytest

from identity_gateway.errors import IncompleteSignature
from identity_gateway.model import Secret
from identity_gateway.protocol.request import EMPTY_SHA256, Request, SignedRequest
from identity_gateway.protocol.sigv4 import PresentedSignature, parse, parse_query, verify
from tests.fakes.sigv4_client import KEY_ID, SCOPE, SECRET

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, from the classes of its configuration
    from bedrock_agentcore.runtime.agent_core_runtime_client import AgentCoreRuntimeClient

ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/hello-AbCdEf1234"
SESSION = "session-of-the-sdk-that-is-long-enough"
TOKEN = "a/session+token=="


@pytest.fixture(params=[None, TOKEN], ids=["long-term", "temporary"])
def sdk(request: pytest.FixtureRequest) -> AgentCoreRuntimeClient:
    session = boto3.session.Session(
        aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET, aws_session_token=request.param
    )
    return AgentCoreRuntimeClient("us-east-1", session=session)


def proven(presented: PresentedSignature) -> SignedRequest:
    return verify(presented, Secret(SECRET), EMPTY_SHA256)


def opened(url: str, host: str | None = None) -> Request:
    parts = urlsplit(url)
    headers = (
        (b"host", (host or parts.netloc).encode()),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
    )
    return Request("GET", parts.path.encode(), parts.query.encode(), headers)


def test_the_sdk_does_not_presign_for_longer_than_the_gateway_takes(sdk: AgentCoreRuntimeClient):
    url = sdk.generate_presigned_url(ARN, SESSION, expires=300)
    parse_query(opened(url), scope=SCOPE, now=datetime.now(UTC))
    with pytest.raises(IncompleteSignature, match="1 to 60 seconds"):
        parse_query(opened(url), scope=SCOPE, now=datetime.now(UTC), longest=60)


@pytest.mark.parametrize("port", ["", ":8443"])
def test_a_url_that_the_sdk_presigned_proves_its_session(sdk: AgentCoreRuntimeClient, port: str):
    url = sdk.generate_presigned_url(ARN, SESSION, endpoint_name="DEFAULT", custom_headers={"a b": "ä+/&="})
    host = urlsplit(url).netloc + port
    presented = parse_query(opened(url, host), scope=SCOPE, now=datetime.now(UTC))
    assert f"Session-Id={SESSION}".encode() in proven(presented).raw_query


def test_the_headers_of_a_handshake_that_the_sdk_signed_prove_its_key(sdk: AgentCoreRuntimeClient):
    url, headers = sdk.generate_ws_connection(ARN, SESSION, endpoint_name="DEFAULT")
    parts = urlsplit(url)
    wire = tuple((name.lower().encode(), value.encode()) for name, value in headers.items())
    presented = parse(
        Request("GET", parts.path.encode(), parts.query.encode(), wire), scope=SCOPE, now=datetime.now(UTC)
    )
    signed = proven(presented)
    assert signed.access_key_id == KEY_ID
    assert signed.header(b"x-amzn-bedrock-agentcore-runtime-session-id") is None  # the SDK leaves it unsigned
