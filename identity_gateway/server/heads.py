"""Heads of requests that were read before, found by their very bytes: the same bytes say the same again.

A caller that calls again and again sends the same head, but for the length of the body. That number is left out of what
is compared; whatever else differs is another head. Kept is a digest, because heads hold credentials. Nothing is read
here, and nothing that is found here has to hold any more: whoever looks asks.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Generic, TypeVar

T = TypeVar("T")

_REMEMBERED = 20_000
_MOST_BYTES = 32 << 20
"""Of what is remembered, at most; `learn` is told how many there are."""

_LONGEST = 16_384
"""Bytes of a head that is remembered."""

_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: ", b"\r\nContent-Length: "
_DIGITS = 5


class Heads(Generic[T]):
    """What was found out about heads, the latest ones."""

    __slots__ = ("_bytes", "_known")

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def find(self, request: bytes) -> tuple[T, bytes] | None:
        """Return what is known of the head of a request that has arrived whole, and its body; or None."""
        split = _split(request)
        if split is None:
            return None
        head, body = split
        found = self._known.get(head)
        return None if found is None else (found[0], body)

    def learn(self, request: bytes, what: T, size: int) -> None:
        """Remember what was found out about a request, which was read from exactly these bytes and nothing else.

        Only if it is whole. What is remembered, `size` bytes of memory, must follow from its head alone, whatever the
        length of the body.
        """
        split = _split(request)
        if split is None:
            return
        before = self._known.pop(split[0], None)
        self._bytes += size - (0 if before is None else before[1])
        self._known[split[0]] = what, size
        while len(self._known) > _REMEMBERED or self._bytes > _MOST_BYTES:
            self._bytes -= self._known.popitem(last=False)[1][1]


def _split(request: bytes) -> tuple[bytes, bytes] | None:
    """Return the digest of the head without the length that it says, and the body, if that has this length."""
    end = request.find(_END, 0, _LONGEST)
    if end < 0:
        return None
    # The first field of this name, at the beginning of a line. A head that has two is never remembered.
    begin = request.find(_LENGTH[0], 0, end)
    if begin < 0:
        begin = request.find(_LENGTH[1], 0, end)
        if begin < 0:
            return None
    begin += len(_LENGTH[0])
    digits = request[begin : request.find(b"\r", begin, end + 1)]
    if not digits.isdigit() or len(digits) > _DIGITS or end + len(_END) + int(digits) != len(request):
        return None
    head = request[:begin] + request[begin + len(digits) : end]
    return sha256(head).digest(), request[end + len(_END) :]
