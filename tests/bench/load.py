"""A closed-loop load: connections that send the next request when the answer to the last one is complete."""

import asyncio
import time
from dataclasses import dataclass, field

import httptools
import uvloop


@dataclass
class Result:
    """What one round did: answers, their latencies in seconds, and what was not a 200."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    bad: int = 0


class _Caller(asyncio.Protocol):
    def __init__(self, requests: list[bytes], first: int, result: Result) -> None:
        self._requests = requests
        self._next = first
        self._result = result
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0
        self.stopped = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])  # type: ignore[attr-defined]
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._result.latencies.append(time.perf_counter() - self._sent)
        self._result.bad += self._parser.get_status_code() != 200
        self._parser = httptools.HttpResponseParser(self)
        if self.stopped:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.stopped:
            self._result.bad += 1
        if not self.closed.done():
            self.closed.set_result(None)


def run(port: int, requests: list[bytes], *, connections: int, seconds: float) -> Result:
    """Send the requests in turn over `connections` for `seconds`."""

    async def main() -> Result:
        result = Result()
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        callers = [
            (await loop.create_connection(lambda i=i: _Caller(requests, i, result), "127.0.0.1", port))[1]
            for i in range(connections)
        ]
        await asyncio.sleep(seconds)
        for caller in callers:
            caller.stopped = True
        await asyncio.wait({caller.closed for caller in callers}, timeout=30)
        result.seconds = time.perf_counter() - started
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
