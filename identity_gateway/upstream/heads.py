"""Heads of whole answers, and what was read in those that came before: the same bytes say the same again.

A server writes the same head over and over while its clock stands and its bodies have one length. What `ResponseReader`
has once accepted is found here by its very bytes. Nothing here reads a head.
"""

from typing import Final, Protocol

from identity_gateway.protocol import headers
from identity_gateway.upstream.response import Headers, ResponseReader, UpstreamResponse

_MOST_HEADS: Final = 512
_MOST_BYTES: Final = 1 << 18
_LONGEST: Final = 2048
"""Bytes of a head that is remembered."""

_EVENTS: Final = b"text/event-stream"


class Head:
    """The head of an answer of which nothing is left to come.

    `lines` are the fields that callers may see (`protocol.headers.answered`), each as `name: value` and the end of its
    line. `sized` says whether `content-length` is among them, `streams` whether the body is one of events. `length` is
    that of the body in bytes, `keep_alive` the agent's field of this name.
    """

    __slots__ = ("headers", "keep_alive", "length", "lines", "sized", "status", "streams")

    def __init__(self, reader: ResponseReader) -> None:
        self.status = reader.status
        self.headers: Headers = reader.headers
        self.length = reader.size
        self.keep_alive = reader.keep_alive_header
        told = headers.answered(reader.headers)
        self.lines = b"".join([b"%b: %b\r\n" % field for field in told])
        said = dict(told)
        self.sized = b"content-length" in said
        self.streams = said.get(b"content-type", b"").lower().startswith(_EVENTS)


class Asker(Protocol):
    """Who asks at once. Exactly one of these is called, once, unless the asker leaves before."""

    def answered(self, head: Head, body: bytes) -> None:
        """Take an answer of status 200 to 299 that has arrived whole. The connection is free again, or closed."""

    def began(self, response: UpstreamResponse) -> None:
        """Take a response as it is: something of it has arrived, or it has failed. Listen to it, which tells what."""


class KnownHeads:
    """Heads by their bytes, up to and with the empty line. A few hundred; the oldest go first."""

    __slots__ = ("_size", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, Head] = {}
        self._size = 0

    def learn(self, answer: bytes, reader: ResponseReader, head: Head) -> None:
        """Remember the head of an answer that is whole, was read from exactly these bytes, and is all that they are.

        Only if any other body of the same length would have been read the same way: the head must be the first thing
        that ends in an empty line, say the length, and leave the connection open.
        """
        end = answer.find(b"\r\n\r\n") + 4
        said = dict(head.headers)
        if end > _LONGEST or not reader.keep_alive or head.status == 204 or b"transfer-encoding" in said:
            return
        if said.get(b"content-length") != b"%d" % head.length or answer[end:] != b"".join(reader.body):
            return
        known = self.known
        if (start := answer[:end]) not in known:
            known[start] = head
            self._size += end
        while len(known) > _MOST_HEADS or self._size > _MOST_BYTES:
            oldest = next(iter(known))
            del known[oldest]
            self._size -= len(oldest)
