"""Bearer tokens in HTTP: find the one token of a request, and challenge for one (RFC 6750, RFC 9728).

Says nothing about the token's validity.
"""

import re

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol.request import Request

_LETTERS = bytes(range(0x30, 0x3A)) + bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B)) + b"._~+/=-"
"""Of which a token consists (RFC 6750 §2.1: b64token)."""

_QUOTED = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")


def is_bearer(authorization: bytes) -> bool:
    """Whether an Authorization value names the Bearer scheme (case-insensitive, RFC 9110 §11.1)."""
    return authorization[:7].lower() == b"bearer " or authorization.strip().lower() == b"bearer"


def token(request: Request) -> str:
    """Return the token of the one Authorization header. Raises InvalidToken when there is not exactly one."""
    if request.count(b"authorization") != 1:
        raise InvalidToken(reason="not exactly one Authorization header")
    return token_in(request.header(b"authorization") or b"")


def token_in(authorization: bytes) -> str:
    """Return the token of the value of an Authorization header. Raises InvalidToken when it holds none."""
    value = authorization.strip(b" \t")
    shown = value[7:]
    if not shown or value[:7].lower() != b"bearer " or shown.translate(None, _LETTERS):
        raise InvalidToken(reason="the Authorization header holds no well-formed bearer token")
    return shown.decode("ascii")


def challenge(resource_metadata: str, *, error: str | None = None, scopes: tuple[str, ...] = ()) -> bytes:
    """Return the value of WWW-Authenticate (RFC 6750 §3, RFC 9728 §5.1). `error` is absent when no token was shown."""
    parts = {"resource_metadata": resource_metadata, "error": error, "scope": " ".join(scopes) or None}
    for name, value in parts.items():
        if value is not None and not _QUOTED.fullmatch(value):
            message = f"{name} cannot stand in a quoted string"
            raise ValueError(message)
    return ("Bearer " + ", ".join(f'{name}="{value}"' for name, value in parts.items() if value)).encode("ascii")
