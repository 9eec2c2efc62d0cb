"""An independent signer, botocore's, and edits to what it signed. Values are `Request`; nothing goes over a wire."""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from identity_gateway.model import Secret
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.protocol.sigv4 import Scope, parse, verify, verify_unknown

KEY_ID = "IGEXAMPLEKEY00000001"
SECRET = "an+example/secret=that-is-used-by-tests"
SCOPE = Scope(region="us-east-1", service="bedrock-agentcore")
NOW = datetime(2026, 11, 22, 17, 15, 22, tzinfo=UTC)
ARN = "arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A000000000000%3Aruntime%2Fhello-AbCdEf1234"
URL = f"https://gateway.test/runtimes/{ARN}/invocations?qualifier=DEFAULT"
WS_URL = f"https://gateway.test/runtimes/{ARN}/ws?qualifier=DEFAULT"


def signed(
    method: str = "POST",
    url: str = URL,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    secret: str = SECRET,
    key_id: str = KEY_ID,
    token: str | None = None,
    scope: Scope = SCOPE,
    at: datetime = NOW,
) -> Request:
    """Return the request as botocore would send it, signed at the given time."""
    request = AWSRequest(method=method, url=url, headers=headers or {}, data=body)
    signer = SigV4Auth(Credentials(key_id, secret, token), scope.service, scope.region)
    request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(to_sign, request))
    parts = urlsplit(url)
    pairs = [("Host", parts.netloc), *((name, value) for name, value in request.headers.items())]
    wire = tuple((name.lower().encode(), value.encode()) for name, value in pairs)
    return Request(method, parts.path.encode(), parts.query.encode(), wire)


def presigned(
    url: str = WS_URL,
    headers: dict[str, str] | None = None,
    *,
    secret: str = SECRET,
    key_id: str = KEY_ID,
    token: str | None = None,
    scope: Scope = SCOPE,
    at: datetime = NOW,
    expires: int = 300,
    sent_to: str | None = None,
) -> Request:
    """Return the request of a URL that botocore presigned at the given time, `sent_to` another Host if it is given."""
    host = urlsplit(url).netloc
    request = AWSRequest(method="GET", url=url, headers={"host": host} | (headers or {}))
    signer = SigV4QueryAuth(Credentials(key_id, secret, token), scope.service, scope.region, expires=expires)
    request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(to_sign, request))
    parts = urlsplit(request.url)
    pairs = [("Host", sent_to or host), *(headers or {}).items()]
    wire = tuple((name.lower().encode(), value.encode()) for name, value in pairs)
    return Request("GET", parts.path.encode(), parts.query.encode(), wire)


def digest(body: bytes) -> str:
    """Return the SHA-256 of a body, in hexadecimal."""
    return sha256(body).hexdigest()


def check(
    request: Request, body: bytes = b"", *, secret: str = SECRET, scope: Scope = SCOPE, now: datetime = NOW
) -> SignedRequest:
    """Parse and verify as a story does that knows one access key."""
    presented = parse(request, scope=scope, now=now)
    if presented.access_key_id != KEY_ID:
        verify_unknown(presented, digest(body))
    return verify(presented, Secret(secret), digest(body))


def added(request: Request, name: str, value: str) -> Request:
    """Return the request with one header more, at the end."""
    return replace(request, headers=(*request.headers, (name.encode(), value.encode())))


def without(request: Request, name: str) -> Request:
    """Return the request without the headers of this name."""
    return replace(request, headers=tuple(pair for pair in request.headers if pair[0] != name.encode()))


def changed(request: Request, name: str, old: str, new: str) -> Request:
    """Return the request with a text replaced in one header; the text must be there."""
    value = request.header(name.encode())
    assert value is not None
    assert old.encode() in value
    swapped = value.replace(old.encode(), new.encode(), 1)
    return replace(request, headers=tuple((k, swapped if k == name.encode() else v) for k, v in request.headers))
