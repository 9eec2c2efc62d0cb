"""What verification may read of an HTTP request: method, raw path, raw query, headers in wire order, body digest.

`Request` is what was received. `SignedRequest` (made by `protocol.sigv4` alone) is what was proven.
The body itself is never here: the caller decides how to read, bound and spool it, and gives its SHA-256.
"""

from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def query_pairs(raw_query: bytes) -> list[tuple[bytes, bytes]]:
    """Return the (name, value) pairs of a raw query in wire order, repeats kept, each decoded once.

    Only `&` separates, `+` is a plus sign, a name without `=` has an empty value, empty elements are dropped
    (RFC 3986 §3.4; the reading that AWS Signature Version 4 signs). Malformed escapes stay as they are: a caller who
    minds has to look for them before.
    """
    elements = (element.partition(b"=") for element in raw_query.split(b"&") if element)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in elements]


@dataclass(frozen=True, slots=True)
class Request:
    """A received request head. Everything in it is unproven.

    `raw_path` and `raw_query` are the bytes of the wire, still percent-encoded, without the `?`.
    `headers` are (lower-case name, value) pairs in wire order, repeats kept, values not decoded.
    Query and headers stay out of the `repr`: they may carry credentials.
    """

    method: str
    raw_path: bytes
    raw_query: bytes = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header (lower-case name) that must not be repeated, or None.

        The first of several is not an answer: call `count` where a repeat would matter.
        """
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def count(self, name: bytes) -> int:
        """Return how often a header (lower-case name) stands in the request."""
        return sum(1 for key, _ in self.headers if key == name)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request whose signature was verified. Holds only the headers that were signed: the others prove nothing.

    `signed_headers` keep wire order and repeats; blanks around a value are gone. The signature does not fix how many
    blanks stand in a row inside a value, whether a list is one header or several, or the order of query parameters of
    one name: a reader who decides by any of these must refuse the doubtful form.
    """

    access_key_id: str
    method: str
    raw_path: bytes
    raw_query: bytes = field(repr=False)
    signed_headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a signed header (lower-case name), or None."""
        for key, value in self.signed_headers:
            if key == name:
                return value
        return None
