"""What verification may read of an HTTP request: method, raw path, raw query, headers in wire order, body digest.

`Request` is what was received. `SignedRequest` (made by `protocol.sigv4.verify` alone) is what was proven.
The body itself is never here: the caller decides how to read, bound and spool it, and gives its SHA-256.
"""

from dataclasses import dataclass

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, slots=True)
class Request:
    """A received request head. Everything in it is unproven.

    `raw_path` and `raw_query` are the bytes of the wire, still percent-encoded, without the `?`.
    `headers` are (lower-case name, value) pairs in wire order, repeats kept, values not decoded.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header that must not be repeated, or None. The first of several is not an answer:

        call `count` where a repeat would matter.
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
    """A request whose signature was verified. Holds only the headers that were signed: the others prove nothing."""

    access_key_id: str
    method: str
    raw_path: bytes
    raw_query: bytes
    signed_headers: tuple[tuple[bytes, bytes], ...]

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a signed header (lower-case name), or None."""
        for key, value in self.signed_headers:
            if key == name:
                return value
        return None
