"""Callers that do not read: they are cut off, whoever closes the connection or does not; those that are slow are served.

Each caller is a raw socket with a small buffer, so that an answer soon waits in the gateway.
"""

import contextlib
import fcntl
import json
import resource
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from identity_gateway.server import BoundedProtocol
from identity_gateway.settings import Settings
from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register, running_gateway

LARGE = 5_000_000
"""Bytes of an answer that does not fit into the buffers of the system, of either side."""

REFUSED = b"POST /identities/ListWorkloadIdentities HTTP/1.1\r\nhost: gateway\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningGateway]:
    """A gateway that has one second of patience."""
    with running_gateway(request_head_timeout="1") as running:
        yield running


@contextmanager
def caller_of(running: RunningGateway, *, segment: int | None = None) -> Iterator[socket.socket]:
    """Connect; with small segments, for which the gateway's system keeps less than 200 KB instead of megabytes."""
    with socket.socket() as caller:
        if segment is not None:
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.settimeout(20)
        caller.connect(("127.0.0.1", running.port))
        deadline = time.monotonic() + 15
        while kept_for(running, caller) is None and time.monotonic() < deadline:
            time.sleep(0.01)  # not accepted yet
        yield caller


def call(running: RunningGateway, agent: Agent, issuer: FakeIssuer, **asked: Any) -> bytes:
    """Return the bytes of a call to an agent that answers as asked."""
    target = running.invocation_url(register(running, agent.url, **guarded_by(issuer.discovery_url)))
    body = json.dumps(asked).encode()
    head = f"POST {target.removeprefix(running.url)} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n"
    head += f"authorization: Bearer {token_of(issuer)}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def kept_for(running: RunningGateway, caller: socket.socket) -> int | None:
    """Return how many bytes the system keeps for the caller, None when the gateway has let go of the connection."""
    ends = [f"{running.port:04X}", f"{caller.getsockname()[1]:04X}"]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, _, queues, _, _, _, _, inode, *_ = line.split()
        if [here[-4:], there[-4:]] == ends and inode != "0":  # without one, the end belongs to no process any more
            return int(queues.partition(":")[0], 16)
    return None


def is_cut_off(running: RunningGateway, caller: socket.socket) -> bool:
    deadline = time.monotonic() + 15
    while kept_for(running, caller) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def read_all(caller: socket.socket, *, pauses: int = 0) -> bytes:
    """Read to the end, or to the cut; pause so many times, 0.3 s after each 64 KB."""
    heard, paused = bytearray(), 0
    with contextlib.suppress(ConnectionResetError):
        while data := caller.recv(1 << 16):
            heard += data
            if paused < min(pauses, len(heard) >> 16):
                paused += 1
                time.sleep(0.3)
    return bytes(heard)


def ask_until_it_stalls(caller: socket.socket, answer: int, waiting: Callable[[], int]) -> None:
    """Ask again whenever an answer has come to wait in full, until one does not."""
    while True:
        full = waiting() + answer
        caller.sendall(REFUSED)
        deadline = time.monotonic() + 1
        while waiting() < full:
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)


def ask_and_ask(running: RunningGateway, caller: socket.socket) -> int:
    """Fill the buffers of both systems with answers, one by one; return how many bytes those are."""

    def arrived() -> int:
        return int.from_bytes(fcntl.ioctl(caller.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)

    def sent() -> int:
        return arrived() + (kept_for(running, caller) or 0)

    caller.sendall(REFUSED)
    answer = len(caller.recv(4096))
    ask_until_it_stalls(caller, answer, arrived)
    ask_until_it_stalls(caller, answer, sent)
    return sent()


def test_a_stranger_who_asks_and_asks_and_reads_no_refusal_is_cut_off(strict: RunningGateway):
    with caller_of(strict, segment=500) as caller:
        piled_up = ask_and_ask(strict, caller)
        caller.sendall(b"no request\r\n\r\n")  # the gateway closes the connection, but for what waits there
        assert (piled_up > 1 << 14, is_cut_off(strict, caller)) == (True, True)


def test_a_caller_who_reads_nothing_of_a_large_answer_is_cut_off(
    strict: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    request = call(strict, agent, jwt_issuer, bytes=LARGE)
    with caller_of(strict) as caller:
        caller.sendall(request)
        assert is_cut_off(strict, caller)
        assert len(read_all(caller)) < LARGE


def test_a_caller_who_reads_nothing_while_the_connection_is_closed_is_cut_off(agent: Agent, jwt_issuer: FakeIssuer):
    with (
        running_gateway(request_head_timeout="2", agent_stream_timeout="1") as running,
        caller_of(running, segment=500) as caller,
    ):
        caller.sendall(call(running, agent, jwt_issuer, stream=300_000))
        assert caller.recv(12) == b"HTTP/1.1 200"
        assert is_cut_off(running, caller)


def test_a_caller_who_reads_slowly_gets_all_of_a_large_answer(
    strict: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    request = call(strict, agent, jwt_issuer, bytes=LARGE)
    with caller_of(strict) as caller:
        caller.sendall(request)
        heard = read_all(caller, pauses=30)
    assert (heard.count(b"x" * 100) * 100 > LARGE * 0.9, heard.endswith(b"0\r\n\r\n")) == (True, True)


def test_a_caller_who_pauses_for_less_than_the_patience_gets_all_of_its_events(
    strict: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    request = call(strict, agent, jwt_issuer, stream=100, pause=0.02)
    with caller_of(strict) as caller:
        caller.sendall(request)
        assert caller.recv(12) == b"HTTP/1.1 200"
        time.sleep(0.5)
        heard = read_all(caller)
    assert (b"data: 99\n\n" in heard, heard.endswith(b"0\r\n\r\n")) == (True, True)


def test_a_caller_who_waits_longer_than_the_patience_for_what_nobody_sends_is_not_cut_off(
    strict: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    request = call(strict, agent, jwt_issuer, stream=2, pause=3)
    with caller_of(strict) as caller:
        caller.sendall(request)
        heard = read_all(caller)
    assert (b"data: 1\n\n" in heard, heard.endswith(b"0\r\n\r\n")) == (True, True)


class Brief:
    """An application with one second of patience, and an answer that is in the transport as soon as it is made."""

    settings = Settings(request_head_timeout=1)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"connection", b"close"), (b"content-length", b"40000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(40_000)})


@contextmanager
def served(listener: socket.socket) -> Iterator[uvicorn.Server]:
    config = uvicorn.Config(
        Brief(), http=BoundedProtocol, lifespan="off", log_level="error", access_log=False, proxy_headers=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(10)


def test_a_closed_connection_whose_last_bytes_nobody_reads_is_cut_off():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as caller:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # too little for the answer, which is too little
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # for the transport to hold back the application
        with served(listener) as server:
            caller.connect(listener.getsockname())
            caller.sendall(b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n")
            assert caller.recv(12) == b"HTTP/1.1 200"
            assert len(server.server_state.connections) == 1
            deadline = time.monotonic() + 15
            while server.server_state.connections and time.monotonic() < deadline:
                time.sleep(0.05)
            assert server.server_state.connections == set()


def test_the_gateway_takes_all_the_open_files_that_it_is_granted():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        with running_gateway() as running:
            assert running.process is not None
            assert resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
