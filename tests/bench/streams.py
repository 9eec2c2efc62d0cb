"""What a load generator cannot measure: server-sent events, streams that say nothing, and 100 MB in either direction.

Everybody stands before the same agent; each starts anew for each round, because memory that was used once is used again.
"""

import asyncio
import json
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.bench import calls, gateways, processes, servers
from tests.bench.figures import Sample
from tests.bench.issuer import SESSIONS
from tests.bench.rows import World
from tests.bench.servers import Server

IDLE, TALKING, EVENTS, FIRST_BYTES = 1000, 100, 200, 200
SIZE = 100_000_000
PATIENCE = 60


@dataclass(frozen=True)
class Subject:
    """Who is measured: a server before the agent, and the URL at which it is invoked."""

    server: Server
    url: str

    @property
    def pids(self) -> list[int]:
        return processes.tree(self.server.pid)


def _nginx(world: World, stack: ExitStack, folder: Path) -> Subject:
    server = servers.nginx(stack, world.tools, folder / "nginx", world.agent.port)
    return Subject(server, f"{server.url}/invocations")


def _envoy(world: World, stack: ExitStack, folder: Path) -> Subject:
    server = servers.envoy(stack, world.tools, folder / "envoy", world.agent.port, world.issuer)
    return Subject(server, f"{server.url}/invocations")


def _gateway(world: World, stack: ExitStack, folder: Path) -> Subject:
    running = gateways.start(stack, world.estate, folder / "gateway")
    return Subject(running.server, running.gateway.invocation_url(world.estate.agent_with_jwt))


SUBJECTS: dict[str, Callable[[World, ExitStack, Path], Subject]] = {
    "nginx": _nginx,
    "envoy": _envoy,
    "gateway": _gateway,
}
ROWS = [f"{name}_{kind}" for kind in ("sse", "100mb") for name in SUBJECTS]


def take(world: World, names: list[str], rounds: int, say: Callable[[str], None]) -> dict[str, list[Sample]]:
    """Measure the rows of ROWS that are named, in turn, each time with processes that were just started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * IDLE + 1000
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise processes.Missing(f"{needed} open files are needed: ulimit -Hn {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    taken: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            say(f"{name} {number + 1} of {rounds}")
            who, _, kind = name.partition("_")
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
                subject = SUBJECTS[who](world, stack, folder)
                foreign = processes.Foreign()
                figures = _events(world, subject) if kind == "sse" else _transfers(world, subject)
                taken[name].append(Sample(figures, foreign.cores()))
    return taken


def _request(world: World, url: str, asked: dict[str, Any], number: int) -> bytes:
    number %= SESSIONS
    return calls.with_token(url, world.cached[number], number, json.dumps(asked).encode())


# --- Events ---------------------------------------------------------------------------------------------------------------


@dataclass
class _Stream(asyncio.Protocol):
    """A caller who counts the events of one answer after another."""

    events: int = 0
    ended: bool = False
    head: bytes = b""
    _tail: bytes = b""
    _transport: asyncio.Transport | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> None:
        assert self._transport is not None
        self.events, self.ended, self.head, self._tail = 0, False, b"", b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.head = self.head or data[:12]
        data = self._tail + data
        self.events += data.count(b"data: ")
        self.ended = data.endswith(b"\n0\r\n\r\n")
        self._tail = data[-5:]  # one byte less than what is counted, so that nothing is counted twice
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.news.set()

    async def until(self, events: int, *, ended: bool = False) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.events < events or (ended and not self.ended):
                self.news.clear()
                if self._transport is None or self._transport.is_closing():
                    raise RuntimeError(f"the stream ended early: {self.head!r}")
                await self.news.wait()

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _dial(port: int) -> _Stream:
    made = await asyncio.get_running_loop().create_connection(_Stream, "127.0.0.1", port)
    return made[1]


def _events(world: World, subject: Subject) -> dict[str, float]:
    async def main() -> dict[str, float]:
        found = await _first_bytes(world, subject)
        found |= await _talking(world, subject)
        return found | await _idle(world, subject)

    return uvloop.run(main())


async def _first_bytes(world: World, subject: Subject) -> dict[str, float]:
    """Compare the time to the first event through the subject and directly, by turns, on connections kept alive."""
    asked = {"events": 1}
    direct, through = await _dial(world.agent.port), await _dial(subject.server.port)
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(FIRST_BYTES + 20):
        for stream, url in ((direct, f"{world.agent.url}/invocations"), (through, subject.url)):
            request = _request(world, url, asked, number)
            began = time.perf_counter()
            stream.ask(request)
            await stream.until(1)
            if number >= 20:
                times[stream is through].append(time.perf_counter() - began)
            await stream.until(1, ended=True)
    direct.leave()
    through.leave()
    added = statistics.median(times[True]) - statistics.median(times[False])
    return {"first_byte_ms": statistics.median(times[True]) * 1e3, "first_byte_added_us": added * 1e6}


async def _talking(world: World, subject: Subject) -> dict[str, float]:
    """Let streams talk for two seconds; the time of opening them does not count."""
    asked = {"events": EVENTS + 1, "pause": 0.01, "wait": 3}
    streams = [await _dial(subject.server.port) for _ in range(TALKING)]
    for number, stream in enumerate(streams):
        stream.ask(_request(world, subject.url, asked, number))
    for stream in streams:
        await stream.until(1)
    pids = subject.pids
    before = processes.cpu_seconds(pids)
    for stream in streams:
        await stream.until(EVENTS + 1, ended=True)
    spent = processes.cpu_seconds(pids) - before
    for stream in streams:
        stream.leave()
    return {"cpu_us_per_event": spent / (EVENTS * TALKING) * 1e6, "events": float(EVENTS * TALKING)}


async def _idle(world: World, subject: Subject) -> dict[str, float]:
    """Open streams that say one thing and then nothing, and keep all of them."""
    asked = {"events": 1, "hold": True}
    pids = subject.pids
    memory, before = processes.memory_kib(pids), processes.cpu_seconds(pids)
    streams = []
    for number in range(IDLE):
        streams.append(await _dial(subject.server.port))
        streams[-1].ask(_request(world, subject.url, asked, number))
        if number % 50 == 49:
            for stream in streams[-50:]:
                await stream.until(1)
    opened = processes.cpu_seconds(pids)
    await asyncio.sleep(2)
    idle = processes.cpu_seconds(pids)
    grown = processes.memory_kib(pids) - memory
    silent = [stream for stream in streams if stream.events != 1 or stream.ended]
    for stream in streams:
        stream.leave()
    if silent:
        raise RuntimeError(f"{len(silent)} of {IDLE} streams did not stay open")
    return {
        "open_cpu_us": (opened - before) / IDLE * 1e6,
        "idle_kib_per_stream": grown / IDLE,
        "idle_cpu_ms_per_s": (idle - opened) / 2 * 1e3,
        "idle_streams": float(IDLE),
    }


# --- 100 MB ---------------------------------------------------------------------------------------------------------------


def _transfers(world: World, subject: Subject) -> dict[str, float]:
    """Send and receive, after a small call that opens what is opened once."""
    _exchange(world, subject, b"{}")
    found = _transfer(subject, "up", lambda: _exchange(world, subject, b" " * SIZE))
    asked = json.dumps({"bytes": SIZE}).encode()
    return found | _transfer(subject, "down", lambda: _exchange(world, subject, asked))


def _transfer(subject: Subject, way: str, move: Callable[[], None]) -> dict[str, float]:
    pids = subject.pids
    processes.forget_high_water(pids)
    resident, before, began = (
        processes.memory_kib(pids, "VmRSS"),
        processes.cpu_seconds(pids),
        time.monotonic(),
    )
    move()
    passed = time.monotonic() - began
    grown = processes.memory_kib(pids, "VmHWM") - resident
    return {
        f"{way}_mb_per_s": SIZE / 1e6 / passed,
        f"{way}_cpu_ms": (processes.cpu_seconds(pids) - before) * 1e3,
        f"{way}_grown_mib": grown / 1024,
    }


def _exchange(world: World, subject: Subject, content: bytes) -> None:
    """Send a request and read the whole answer, of which the length says the end. Raises RuntimeError unless 200."""
    head = calls.with_token(subject.url, world.cached[0], 0, b"")
    head = head.replace(b"content-length: 0", b"content-length: %d" % len(content))
    with socket.create_connection(("127.0.0.1", subject.server.port), PATIENCE) as connection:
        connection.sendall(head)
        connection.sendall(content)
        answer: Any = connection.makefile("rb", buffering=1 << 18)
        status, length = answer.readline(), 0
        while line := answer.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if status.split()[1:2] != [b"200"]:
            raise RuntimeError(f"the transfer was answered with {status!r}")
        room = bytearray(1 << 18)
        while length:
            if not (size := answer.readinto(memoryview(room)[:length])):
                raise RuntimeError("the answer was cut")
            length -= size
