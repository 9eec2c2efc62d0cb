"""What a presigned URL presents in its query string, read strictly: everything is checked but the signature itself.

For doors that a browser opens without headers of its own: WebSockets. Does not know any key, and does not read a body:
a presigned request here has none.
"""

import re
from datetime import datetime, timedelta
from urllib.parse import unquote_to_bytes

from identity_gateway.errors import IncompleteSignature, InvalidSignature
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4.canonical import Scope
from identity_gateway.protocol.sigv4.elements import (
    VERSION_2,
    PresentedSignature,
    access_key_id_of,
    basic,
    basic_date,
    content_sha256_of,
    hexadecimal,
    moment,
    require_algorithm,
    require_coverage,
    signed_headers_of,
)
from identity_gateway.protocol.sigv4.wellformed import malformed, require_headers, require_request_line

MAX_QUERY = 16_384
"""Longest query string that is read for credentials, in bytes."""

LONGEST = 300
"""Seconds that a presigned URL may be good for (AWS: InvokeAgentRuntimeWithWebSocketStream)."""

_REQUIRED = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)
_TOKEN = "X-Amz-Security-Token"  # noqa: S105 - the name of a parameter
_NAMES = {name.encode(): name for name in (*_REQUIRED, _TOKEN)}
# The query says these; a header that says them again could say something else.
_IN_THE_QUERY_ALONE = (b"x-amz-date", b"x-amz-security-token", b"x-amz-expires", b"x-amz-algorithm")
_SECONDS = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)


def is_presigned(request: Request) -> bool:
    """Say whether the query string carries credentials of any version of the protocol. Nothing is believed here."""
    names = (unquote_to_bytes(element.partition(b"=")[0]).lower() for element in request.raw_query.split(b"&"))
    return any(name.startswith(b"x-amz-") or name in VERSION_2 for name in names)


def parse_query(
    request: Request,
    *,
    scope: Scope,
    now: datetime,
    max_skew: timedelta = timedelta(minutes=5),
    longest: int = LONGEST,
) -> PresentedSignature:
    """Read the signature of a presigned URL; `now` must know its time zone, `longest` is in seconds.

    Raises ValidationFailed for a request line or header that no signer sends, IncompleteSignature for a malformed or
    partial signature, for one beside an Authorization header and for a URL made to live longer than `longest`,
    InvalidSignature for another scope or time. The time may be `max_skew` ahead; what has expired is not excused.
    Does not check that the access key exists. The body is empty: verify against the SHA-256 of nothing.
    """
    if len(request.raw_query) > MAX_QUERY:
        raise malformed(f"The query string is longer than {MAX_QUERY} bytes.")
    require_request_line(request)
    require_headers(request)
    if request.method != "GET":
        raise IncompleteSignature("A presigned URL serves the method GET only.")
    if request.count(b"authorization"):
        raise IncompleteSignature("Credentials stand in the Authorization header and in the query string: send one.")
    found = _parameters(request.raw_query)
    require_algorithm(found["X-Amz-Algorithm"], "algorithm in X-Amz-Algorithm")
    signed_headers = signed_headers_of(found["X-Amz-SignedHeaders"])
    _require_headers_apart(request)
    require_coverage(request, signed_headers, {b"host"})
    timestamp = basic_date(found["X-Amz-Date"])
    _require_timely(timestamp, _lifetime(found["X-Amz-Expires"], longest), now, max_skew)
    return PresentedSignature(
        request=request,
        scope=scope,
        access_key_id=access_key_id_of(found["X-Amz-Credential"], scope, timestamp[:8]),
        timestamp=timestamp,
        signed_headers=signed_headers,
        content_sha256=content_sha256_of(request),
        signature=hexadecimal("X-Amz-Signature", found["X-Amz-Signature"]),
        security_token=found.get(_TOKEN),
        in_query=True,
    )


def _parameters(raw_query: bytes) -> dict[str, str]:
    """Return the parameters of the signature by name, decoded once. Each stands there once, in one spelling."""
    found: dict[str, str] = {}
    for element in raw_query.split(b"&"):
        spelt, _, value = element.partition(b"=")
        name = unquote_to_bytes(spelt)
        if name.lower() in VERSION_2:
            raise IncompleteSignature("Signature Version 2 is not supported. Presign with AWS4-HMAC-SHA256.")
        if not name.lower().startswith(b"x-amz-"):
            continue
        known = _NAMES.get(spelt)
        if known is None:
            raise IncompleteSignature(
                f"The query string may hold {', '.join(_NAMES.values())}, spelt like this, and no other X-Amz- names.",
                reason=f"unknown parameter of a presigned URL: {spelt[:64]!r}",
            )
        if known in found:
            raise IncompleteSignature(f"The query string holds {known} more than once.")
        found[known] = _ascii(known, value)
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise IncompleteSignature(f"The query string lacks {' and '.join(missing)}.")
    return found


def _ascii(name: str, value: bytes) -> str:
    decoded = unquote_to_bytes(value)
    if not decoded or not decoded.isascii():
        raise IncompleteSignature(f"{name} in the query string is empty or holds characters other than ASCII.")
    return decoded.decode("ascii")


def _require_headers_apart(request: Request) -> None:
    for name in _IN_THE_QUERY_ALONE:
        if request.count(name):
            raise IncompleteSignature(f"A presigned URL says {name.decode()} itself: the header must not be there.")


def _lifetime(value: str, longest: int) -> timedelta:
    if not _SECONDS.fullmatch(value) or int(value) > longest:
        raise IncompleteSignature(f"X-Amz-Expires must be 1 to {longest} seconds, in decimal digits.")
    return timedelta(seconds=int(value))


def _require_timely(timestamp: str, lifetime: timedelta, now: datetime, max_skew: timedelta) -> None:
    signed_at = moment(timestamp)
    if signed_at - now > max_skew:
        raise InvalidSignature(f"Signature not yet current: signed at {timestamp}, it is {basic(now)} here.")
    if now > signed_at + lifetime:
        raise InvalidSignature(f"The presigned URL has expired: it was good until {basic(signed_at + lifetime)}.")
