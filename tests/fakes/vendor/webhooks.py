"""How a vendor signs what it sends, with examples of what it sends and of whom they are about."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something the vendor tells. `ends` are the grants that die: (account, subject, part); `flushes`: machine tokens too."""

    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    ends: frozenset[tuple[str, str, str]] = frozenset()
    flushes: bool = False


@dataclass(frozen=True)
class Webhooks:
    """HMAC-SHA256 in hexadecimal over `v0:{timestamp}:{body}`, or over the body alone where no timestamp is sent.

    `once` says where an event's identity stands: (`header`, name) or (`path`, name). `challenge` is what the vendor asks
    to check the URL, and the answer that it wants to see under a key.
    """

    header: str
    prefix: str
    secret: str
    timestamp_header: str | None
    max_skew: int
    once: tuple[str, str]
    events: tuple[Event, ...]
    challenge: tuple[Mapping[str, Any], Callable[[bytes], Mapping[str, str]]] | None = None

    def signed(self, key: bytes, body: bytes, timestamp: str) -> dict[str, str]:
        """Return the headers under which the vendor sends this body."""
        base = b"v0:%b:%b" % (timestamp.encode(), body) if self.timestamp_header else body
        headers = {self.header: self.prefix + self.digest(key, base)}
        return headers | ({self.timestamp_header: timestamp} if self.timestamp_header else {})

    @staticmethod
    def digest(key: bytes, text: bytes) -> str:
        return hmac.new(key, text, hashlib.sha256).hexdigest()
