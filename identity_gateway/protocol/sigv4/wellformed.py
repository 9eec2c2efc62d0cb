"""What no signer sends: request lines and headers that two readers could read differently.

Does not read credentials, and does not bound sizes: the server and the front do.
"""

import re

from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4.canonical import canonical_value

NAMES_A_USER = frozenset(
    {b"x-amzn-bedrock-agentcore-runtime-user-id", b"x-amzn-bedrock-agentcore-payments-user-id"},
)
ONE_SPELLING = NAMES_A_USER | {
    b"x-amzn-bedrock-agentcore-runtime-session-id",
    b"x-amz-bedrock-agentcore-identity-wat",
}
"""Headers that decide whose data is served. A signature leaves repeats and runs of blanks open, so these have none."""

_AT_MOST_ONCE = ONE_SPELLING | {b"host", b"date", b"x-amz-date", b"x-amz-content-sha256", b"x-amz-security-token"}

_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_PATH = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]++|%[0-9A-Fa-f]{2})*+")
_QUERY = re.compile(rb"(?:[!-\"$&-~]++|%[0-9A-Fa-f]{2})*+")
_HEADER_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(rb"[!-~]+")


def require_request_line(request: Request) -> None:
    """Raise ValidationFailed unless method, path and query are of RFC 9110 and RFC 3986 and the path is in normal form.

    The query may hold any printable character but `#`. Does not check that the path leads anywhere.
    """
    if not _METHOD.fullmatch(request.method):
        raise malformed("The request method is not a token.")
    if not _PATH.fullmatch(request.raw_path):
        raise malformed("The path must start with a slash and be percent-encoded as RFC 3986 demands.")
    *inner, last = (segment.lower().replace(b"%2e", b".") for segment in request.raw_path.split(b"/")[1:])
    # The signature covers the path without these segments, a router may see them: the two could disagree.
    if b"" in inner or not {b".", b".."}.isdisjoint([*inner, last]):
        raise malformed("The path must not hold empty segments or dot segments.")
    if b"%00" in request.raw_path:
        raise malformed("The path must not hold a null byte.")
    if not _QUERY.fullmatch(request.raw_query):
        raise malformed("The query string must be percent-encoded as RFC 3986 demands.")


def require_headers(request: Request) -> None:
    """Raise ValidationFailed unless every header is of RFC 9110, Host stands there once, and none is ambiguous."""
    seen: set[bytes] = set()
    for name, value in request.headers:
        if not is_header_name(name) or not _HEADER_VALUE.fullmatch(value):
            raise malformed("A header is not well-formed.")
        if name in _AT_MOST_ONCE and name in seen:
            raise malformed(f"The {name.decode()} header must not be repeated.")
        if name in ONE_SPELLING and canonical_value(value) != value.strip(b" \t"):
            raise malformed(f"The {name.decode()} header must not hold a tab or several blanks in a row.")
        if name == b"host" and not _HOST.fullmatch(value.strip(b" \t")):
            raise malformed("The Host header is not well-formed.")
        seen.add(name)
    if b"host" not in seen:
        raise malformed("The request has no Host header.")


def is_header_name(name: bytes) -> bool:
    """Return whether this is a header name of RFC 9110 §5.1 in lower case."""
    return _HEADER_NAME.fullmatch(name) is not None


def malformed(message: str) -> ValidationFailed:
    """Return the error for a request that cannot be read in one way only."""
    return ValidationFailed(message, kind="CannotParse")
