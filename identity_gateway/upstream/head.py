"""Writes the head of an HTTP/1.1 request, and refuses whatever could end a line or a field early (RFC 9112 §3, §5).

What belongs to one connection only (RFC 9110 §7.6.1) is written here from what is known, never passed on. Fields that a
`connection` field nominates are NOT dropped: whoever called could otherwise strike out fields the gateway added.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_TARGET = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
_CONTROLS = bytes([*range(9), *range(10, 32), 127])

_NOT_PASSED_ON = frozenset(
    {
        *(
            b"connection",
            b"keep-alive",
            b"te",
            b"trailer",
            b"transfer-encoding",
            b"upgrade",
            b"content-length",
            b"host",
        ),
        # The body is sent without waiting for a 100: the expectation was met at the gateway's own door.
        b"expect",
    }
)


@lru_cache(maxsize=1024)
def _field_start(name: bytes) -> bytes:
    """Return what goes before a field's value, or nothing if the field is not passed on."""
    if not _TOKEN.fullmatch(name):
        raise ValueError("a field name is not a token")
    lower = name.lower()
    if lower in _NOT_PASSED_ON or lower.startswith(b"proxy-"):
        return b""
    return b"\r\n" + name + b": "


def host_line(authority: str) -> bytes:
    """Return the part of a request head between target and fields, the same for every request to one origin."""
    return b" HTTP/1.1\r\nhost: " + authority.encode("ascii")


def request_head(
    method: bytes, target: bytes, host: bytes, headers: Iterable[tuple[bytes, bytes]], *, length: int | None
) -> bytes:
    """Return the head of a request, up to and with its empty line. `host` comes from `host_line`.

    `length` is that of the body in bytes; None announces a chunked body, and -1 none at all.
    Raises ValueError for control characters anywhere, a target that is not a path, and names that are not tokens.
    """
    head = request_start(method, target, host, headers)
    if length is None:
        return head + b"\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + (b"\r\n\r\n" if length < 0 else b"\r\ncontent-length: %d\r\n\r\n" % length)


def request_start(method: bytes, target: bytes, host: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the beginning of a request head, which several requests may share: more `request_lines` may follow it.

    Raises ValueError as `request_head` does.
    """
    if method not in _METHODS and (not _TOKEN.fullmatch(method) or method == b"CONNECT"):
        raise ValueError("the method cannot be sent")
    if not target.startswith(b"/") or target.translate(None, _TARGET):
        raise ValueError("the target is not a path in visible ASCII characters")
    return method + b" " + target + host + request_lines(headers)


def request_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they stand in a request head, each after the end of the line before it.

    Those that are not passed on are left out. Raises ValueError for control characters, and names that are not tokens.
    """
    lines = [line + value for name, value in headers if (line := _field_start(name))]
    fields = b"".join(lines)
    # Every line brings its own CR and LF. One more control character came with a value.
    if len(fields) - len(fields.translate(None, _CONTROLS)) != 2 * len(lines):
        raise ValueError("a field value holds a control character")
    return fields
