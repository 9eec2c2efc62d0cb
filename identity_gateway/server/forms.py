"""Heads of requests that differ from one that was read before in a few values only, which are read without a parser.

A caller sends the same head again and again, but for a token, a session, a date, a signature. Of a head that was read
and understood, everything else is compared byte for byte; where such a value stood, another may stand that consists of
visible ASCII alone, and so can end neither its line nor itself early. A head of this form says the same as the one
before it, with these values instead. Nothing is decided here, and the values themselves are somebody else's to judge.
"""

import re
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from identity_gateway.protocol import headers

_REMEMBERED = 1024
_MOST_BYTES = 4096
"""Of a form: what is compared. A head that has more is never remembered; there are `_REMEMBERED` forms at most."""

_VISIBLE = bytes(range(0x21, 0x7F))
_END = b"\r\n\r\n"

TARGET, AUTHORIZATION, LENGTH = b"", b"authorization", b"content-length"
"""Names of three of the values: what stands behind the method, and two headers. Others have their headers' names."""

_SHORT = 128
_LONGEST = {
    TARGET: 4096,
    AUTHORIZATION: 16_384,
    LENGTH: 5,
    headers.SESSION_ID: 256,
    headers.TRACE_ID: _SHORT,
    b"traceparent": _SHORT,
    b"x-amz-date": 16,
    b"x-amz-content-sha256": 64,
    b"amz-sdk-invocation-id": _SHORT,
}
"""The values that may differ, and of how many bytes each may be."""

_BEARER, _SIGNATURE = b"Bearer ", b"Signature="

Fields = Sequence[tuple[bytes, bytes]]
Parts = tuple[tuple[bytes, bytes], ...]
"""Names of values, each with the bytes that stand before it."""

T = TypeVar("T")


class Form(Generic[T]):
    """What heads of one form have in common.

    `at` says which of the values has a name. An Authorization header `begins` with what is the same in all of them; its
    value here is the rest: the token or the signature. `use` is what somebody has made of this.
    """

    __slots__ = ("_fields", "_length", "_match", "at", "begins", "use")

    def __init__(self, parts: Parts, tail: bytes, begins: bytes, fields: Fields) -> None:
        values = [re.escape(before) + _value(name) for name, before in parts]
        self._match = re.compile(b"".join(values) + re.escape(tail)).match
        self.at = {name: number for number, (name, _) in enumerate(parts)}
        self._length = self.at[LENGTH]
        self.begins = begins
        self._fields = tuple((name, b"" if name in self.at else value) for name, value in fields)
        self.use: T | None = None

    def read(self, request: bytes) -> tuple[tuple[bytes, ...], bytes] | None:
        """Return the values of a request of this form that has arrived whole, and its body; or None."""
        match = self._match(request)
        if match is None:
            return None
        values, body = match.groups(), request[match.end() :]
        length = values[self._length]
        return (values, body) if length.isdigit() and int(length) == len(body) else None

    def headers(self, values: Sequence[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers of a request with these values, as a parser would."""
        at = self.at
        return tuple(
            (name, (self.begins if name == AUTHORIZATION else b"") + values[at[name]] if name in at else value)
            for name, value in self._fields
        )


class Forms(Generic[T]):
    """The forms of heads, the latest ones: each is there once, however many connections use it."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Parts, bytes, Hashable], Form[T]] = OrderedDict()

    def learn(self, request: bytes, target: bytes, fields: Fields, used_for: Hashable = None) -> Form[T] | None:
        """Return the form of a POST, whose head a parser has read from the beginning of these bytes, and nothing else.

        `fields` are what it has read, in lower case, no name twice. A form belongs to what it is `used_for`, and is
        another one for something else. None if what a head says cannot be told from its bytes alone.
        """
        lines = request[: request.find(_END)].split(b"\r\n")
        if lines[0] != b"POST %b HTTP/1.1" % target or len(lines) != len(fields) + 1:
            return None
        parts, before, begins = [(TARGET, b"POST ")], b" HTTP/1.1", b""
        for line, (name, value) in zip(lines[1:], fields, strict=True):
            written, _, rest = line.partition(b":")
            if written.lower() != name or rest.strip(b" \t") != value.strip(b" \t"):
                return None
            if name in _LONGEST and rest == b" " + value and not value.translate(None, _VISIBLE + b" "):
                kept = _constant(value) if name == AUTHORIZATION else b""
                if name == AUTHORIZATION:
                    begins = kept
                parts.append((name, before + b"\r\n" + written + b": " + kept))
                before = b""
            else:
                before += b"\r\n" + line
        key = tuple(parts), before + _END, used_for
        if LENGTH not in dict(parts) or sum(len(text) for _, text in parts) + len(before) > _MOST_BYTES:
            return None
        form = self._known.get(key)
        if form is None:
            form = self._known[key] = Form(*key[:2], begins, fields)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return form if form.read(request) is not None else None


def _value(name: bytes) -> bytes:
    """Return the pattern of a value: visible ASCII, nothing of which is given back once taken. A target is a path."""
    return b"(%b[!-~]{1,%d}+)" % (b"/" if name == TARGET else b"", _LONGEST[name])


def _constant(authorization: bytes) -> bytes:
    """Return how the value of an Authorization header begins that may differ at its end only: token or signature."""
    if authorization.startswith(_BEARER):
        return _BEARER
    start, _, _ = authorization.rpartition(_SIGNATURE)
    return start + _SIGNATURE if start else authorization
