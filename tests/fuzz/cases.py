"""One request of the fuzzer: what is sent, how it came about, and what must never be heard again."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from identity_gateway.protocol.request import Request

SESSION = b"x-amzn-bedrock-agentcore-runtime-session-id"
USER = b"x-amzn-bedrock-agentcore-runtime-user-id"
NOT_SHOWN = frozenset({b"authorization", b"cookie", b"x-amz-security-token", b"sec-websocket-protocol"})


@dataclass
class Case:
    """A request. `base` names the valid one it was; `steps` say what was done to it.

    `doomed` means that one of the steps must lead to a refusal, whatever else the request is.
    """

    base: str
    method: str
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    web_socket: bool = False
    steps: list[str] = field(default_factory=list)
    doomed: bool = False
    secrets: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, base: str, request: Request, body: bytes = b"", *, web_socket: bool = False) -> "Case":
        """Return a case that is this request, whose signature or token is a secret."""
        case = cls(base, request.method, request.raw_path, request.raw_query, list(request.headers), body, web_socket)
        case.secrets = [value[-24:] for value in case.values(b"authorization")]
        case.secrets += [part[-24:] for part in request.raw_query.split(b"&") if part.startswith(b"X-Amz-Signature=")]
        return case

    def values(self, name: bytes) -> list[bytes]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key == name]

    def put(self, name: bytes, value: bytes) -> None:
        """Let a header stand once, with this value, where it stood."""
        places = [place for place, (key, _) in enumerate(self.headers) if key == name]
        self.drop(name)
        self.headers.insert(places[0] if places else len(self.headers), (name, value))

    def drop(self, name: bytes) -> None:
        """Remove a header."""
        self.headers = [pair for pair in self.headers if pair[0] != name]

    def shown(self) -> str:
        """Return the case in one line that may be printed anywhere."""
        names = " ".join(
            f"{name[:48]!r}:{'…' if name in NOT_SHOWN else repr(value[:48])}" for name, value in self.headers[:12]
        )
        query = b"&".join(part for part in self.query.split(b"&") if not part.lower().startswith(b"x-amz-"))
        return (
            f"{self.base} {self.steps} {self.method[:16]} {self.path[:200]!r}?{query[:80]!r} {names} +{len(self.body)}"
        )


Change = Callable[[random.Random, Case], bool | None]
"""Changes a case in place. True: the case must be refused. None: it was not for this case, and nothing happened."""
