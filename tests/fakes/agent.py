"""An agent made of a script: raw bytes over a socket, so that it can say what no decent server would."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from identity_gateway.upstream import Origin

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it came over the wire: first line, fields (names in lower case) and decoded body."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


async def read_head(reader: asyncio.StreamReader) -> ReceivedRequest:
    """Read a request up to its empty line. Raises IncompleteReadError at the end of the connection."""
    line, *fields = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    pairs = [field.split(b": ", 1) for field in fields]
    return ReceivedRequest(line, [(name.lower(), value) for name, value in pairs], b"")


async def read_request(reader: asyncio.StreamReader) -> ReceivedRequest:
    """Read a request with its body. Raises IncompleteReadError if the connection ends before the request does."""
    head = await read_head(reader)
    if head.header(b"transfer-encoding") != b"chunked":
        body = await reader.readexactly(int(head.header(b"content-length") or 0))
        return ReceivedRequest(head.line, head.headers, body)
    chunks = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunks.append(await reader.readexactly(size))
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return ReceivedRequest(head.line, head.headers, b"".join(chunks))


def answer(body: bytes = b"", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a whole response with this body."""
    return b"\r\n".join((b"HTTP/1.1 " + status, *fields, b"content-length: %d" % len(body), b"", body))


class ScriptedAgent:
    """Serves a script, once per connection; or answers every request with the same bytes.

    `connections` counts those that were accepted, `requests` are those that were read whole (canned bytes only),
    `failures` are the exceptions in which scripts ended.
    """

    def __init__(self, script: Script | bytes, *, context: ssl.SSLContext | None = None) -> None:
        self._script = self._repeat(script) if isinstance(script, bytes) else script
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.connections = 0
        self.requests: list[ReceivedRequest] = []
        self.failures: list[BaseException] = []

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def origin(self) -> Origin:
        return Origin("https" if self._context else "http", "127.0.0.1", self.port)

    async def finished(self) -> None:
        """Wait until no connection is served any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)

    def _repeat(self, canned: bytes) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                try:
                    self.requests.append(await read_request(reader))
                except asyncio.IncompleteReadError:
                    return
                writer.write(canned)
                await writer.drain()

        return script

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._script(reader, writer)
        except Exception as error:
            self.failures.append(error)
        finally:
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await self.finished()
        await self._server.wait_closed()
