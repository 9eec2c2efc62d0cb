"""The server's side of ASGI as a script: what arrives is a list of messages, what is sent is kept."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from identity_gateway.api.exchange import Application, Message, Scope
from identity_gateway.protocol.request import Request

LEFT: Message = {"type": "http.disconnect"}


def scope_of(request: Request) -> Scope:
    """Return the scope that a server makes of a request head."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": request.method,
        "path": request.raw_path.decode("latin-1"),
        "raw_path": request.raw_path,
        "query_string": request.raw_query,
        "root_path": "",
        "scheme": "http",
        "headers": list(request.headers),
        "client": ("203.0.113.7", 40_000),
        "server": ("127.0.0.1", 8080),
    }


def pieces(*chunks: bytes, whole: bool = True) -> list[Message]:
    """Return the messages of a body that arrives in chunks, to its end or not."""
    last = len(chunks) - 1
    return [
        {"type": "http.request", "body": chunk, "more_body": place < last or not whole}
        for place, chunk in enumerate(chunks)
    ]


@dataclass
class Connection:
    """One request and its answer. After the scripted messages, the caller stays and says nothing more.

    `received` counts the messages that were asked for; `sent` are those that were answered with.
    """

    messages: Iterable[Message] = ()
    received: int = 0
    sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting = iter(list(self.messages))

    async def receive(self) -> Message:
        message = next(self._waiting, None)
        if message is None:
            await asyncio.Event().wait()
        self.received += 1
        assert message is not None
        return message

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        """The status of the answer, or None while there is none."""
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[bytes, bytes]:
        fields = self.sent[0]["headers"]
        assert len(dict(fields)) == len(fields), "a header stands twice in the answer"
        return dict(fields)

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_complete(self) -> bool:
        """Whether the answer was sent to its end."""
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


async def ask(application: Application, request: Request, *messages: Message) -> Connection:
    """Send one request, by default without a body, and return the answer."""
    connection = Connection(messages or pieces(b""))
    await application(scope_of(request), connection.receive, connection.send)
    return connection
