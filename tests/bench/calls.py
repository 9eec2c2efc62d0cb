"""What callers send: whole HTTP requests as bytes, with a token, a signature or nothing. Sending is `wrk`'s business."""

import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.bench.issuer import SESSIONS, Issuer

SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"
JSON_TYPE = {"content-type": "application/json"}


def body(size: int = 150) -> bytes:
    """Return a JSON document of this many bytes."""
    return json.dumps({"prompt": "x" * (size - len(json.dumps({"prompt": ""})))}).encode()


def session(number: int) -> str:
    return f"bench-session-{number % SESSIONS:032d}"


def post(url: str, headers: dict[str, str], content: bytes) -> bytes:
    """Return a POST as it goes over the wire."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = {"host": parts.netloc, "content-length": str(len(content))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + content


def with_token(url: str, token: str | None, number: int, content: bytes) -> bytes:
    """Return an invocation with a bearer token, or with none, in one of the sessions."""
    headers = JSON_TYPE | {SESSION_HEADER: session(number)}
    return post(url, headers | ({"authorization": f"Bearer {token}"} if token else {}), content)


def signed(url: str, key: tuple[str, str], content: bytes, headers: dict[str, str]) -> bytes:
    """Return a POST with AWS's signature, made by botocore at this moment."""
    request = AWSRequest("POST", url, headers=JSON_TYPE | headers, data=content)
    SigV4Auth(Credentials(*key), "bedrock-agentcore", "us-east-1").add_auth(request)
    return post(url, dict(request.headers.items()), content)


class Source(Protocol):
    """Where the requests of a sample come from."""

    def ready(self, seconds: float) -> tuple[Path, int]:
        """Return a file of requests, made for a sample of so many seconds, and at which one to begin."""

    def used(self, following: int, seconds: float) -> list[str]:
        """Take note of where the sample ended; return what a reader of it must know."""


@dataclass
class Rotating:
    """A few requests that are sent in turn, made once, or anew before each sample (signatures grow old)."""

    make: Callable[[], Sequence[bytes]]
    anew: bool = False
    _file: Path | None = None

    def ready(self, seconds: float) -> tuple[Path, int]:
        if self._file is None or self.anew:
            self._file = write(self.make(), self._file)
        return self._file, 0

    def used(self, following: int, seconds: float) -> list[str]:
        return []


@dataclass
class Fresh:
    """Requests whose tokens are used once each. `once` is False for a peer that keeps no token: it may meet one again."""

    issuer: Issuer
    algorithm: str
    url: str
    content: bytes
    once: bool = True
    _next: int = SESSIONS  # the first ones are those that rotate
    _rate: float = 6000.0  # requests per second: a guess for the first sample
    _count: int = 0
    _file: Path | None = None

    def ready(self, seconds: float) -> tuple[Path, int]:
        needed = int(self._rate * seconds * 1.5) + 500
        first = self._next if self.once else 0
        tokens = self.issuer.tokens(self.algorithm, first + needed)
        chosen = list(itertools.islice(enumerate(tokens), first, first + needed))
        self._count = len(chosen)
        requests = [with_token(self.url, token, number, self.content) for number, token in chosen]
        self._file = write(requests, self._file)
        return self._file, 0

    def used(self, following: int, seconds: float) -> list[str]:
        self._next += min(following, self._count)
        self._rate = max(following / seconds, 1500.0)
        return ["tokens were sent twice"] if self.once and following > self._count else []


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="bench-requests-")  # it goes when the process ends


def write(requests: Sequence[bytes], instead_of: Path | None = None) -> Path:
    """Write requests so that the load generator reads them: each after a line with its length."""
    if instead_of is not None:
        instead_of.unlink()
    with tempfile.NamedTemporaryFile(dir=_folder().name, delete=False) as file:
        for request in requests:
            file.write(b"%d\n" % len(request))
            file.write(request)
    return Path(file.name)
