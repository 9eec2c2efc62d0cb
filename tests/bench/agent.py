"""The agent of the rows that nginx cannot play: it reads a whole body, streams events, and sends much.

`{"events": N, "pause": S}` answers N server-sent events, S seconds apart, the first at once; with `"wait": S` it waits so
long after the first, and with `"hold": true` the stream stays open after the last. `{"bytes": N}` answers N bytes.
Everything else is answered with a small JSON document when it was read to the end.
Run: `python -m tests.bench.agent PORT`.
"""

import asyncio
import json
import sys
from typing import Any

import httptools
import uvloop

ANSWER = json.dumps({"answer": "x" * 190}).encode()
SMALL = 4096
CHUNK = b"x" * 65536


def _head(kind: str, framing: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()


class Agent(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._length = 0
        self._transport: Any = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def on_message_begin(self) -> None:
        self._body, self._length = b"", 0

    def on_body(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= SMALL:
            self._body += data

    def on_message_complete(self) -> None:
        asked = json.loads(self._body) if 0 < self._length <= SMALL else {}
        if "events" in asked:
            self._task = asyncio.get_running_loop().create_task(self._stream(**asked))
        elif "bytes" in asked:
            self._task = asyncio.get_running_loop().create_task(self._send(asked["bytes"]))
        else:
            self._transport.write(_head("application/json", f"content-length: {len(ANSWER)}") + ANSWER)

    async def _stream(self, events: int, pause: float = 0, wait: float = 0, hold: bool = False) -> None:
        self._transport.write(_head("text/event-stream", "transfer-encoding: chunked"))
        for number in range(events):
            if number:
                await asyncio.sleep(wait + pause if number == 1 else pause)
            event = b"data: %08d\n\n" % number
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        if not hold:
            self._transport.write(b"0\r\n\r\n")

    async def _send(self, size: int) -> None:
        self._transport.write(_head("application/octet-stream", f"content-length: {size}"))
        while size:
            await self._writable.wait()
            self._transport.write(CHUNK[:size])
            size -= min(size, len(CHUNK))


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Agent, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
