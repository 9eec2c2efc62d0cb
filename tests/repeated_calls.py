"""Callers that repeat a call on a raw connection, and an agent that says what its test has told it to.

A call that repeats one which was let in takes the gateway's short way, on which the agent is shown the same workload
access token as by the call before; every call on the long way has a token of its own. So the way is seen at the agent.
"""

import asyncio
import json
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.agent import ReceivedRequest, ScriptedAgent, read_request
from tests.gateways import RunningGateway
from tests.sessions import SESSION, WAT, new_session

Fields = Sequence[tuple[str, str]]
USER_ID = "x-amzn-bedrock-agentcore-runtime-user-id"

OWN = {"date", "x-amzn-requestid", "x-amzn-trace-id", SESSION}
"""Headers of an answer that differ from call to call."""

OF_THE_CALL = {
    *("workloadaccesstoken", WAT, SESSION, "x-amzn-trace-id", "x-amzn-bedrock-agentcore-runtime-request-id"),
}
"""Headers for the agent that differ from call to call."""

_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Answered:
    """What a caller got. `cut` says that the body ended before its end."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    cut: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    @property
    def heard(self) -> list[tuple[str, str]]:
        """The headers that reached an agent which echoes them, in order."""
        return [(name, value) for name, value in json.loads(self.body)["headers"]]

    @property
    def token(self) -> str | None:
        """The workload access token that an echoing agent was shown; None if none answered."""
        return dict(self.heard)[WAT] if self.status == 200 else None

    @property
    def took(self) -> str:
        """What calls on the short way of one process have in common; on the long way no two have it."""
        request_id = self.header("x-amzn-requestid")
        assert request_id is not None
        return request_id[:23]

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two answers to the same call have in common."""
        told = self._told()
        own = OWN | {"content-length"} if isinstance(told, dict) else OWN  # it tells of a token, whose length varies
        said = sorted((name, "" if name in own else value) for name, value in self.fields)
        return self.status, self.reason, said, told, self.cut

    def _told(self) -> Any:
        try:
            told = json.loads(self.body)
            heard = [(name, "" if name in OF_THE_CALL else value) for name, value in told["headers"]]
        except (ValueError, KeyError, TypeError):
            return _IDS.sub(b"<id>", self.body)
        return told | {"headers": sorted(heard)}


@dataclass
class Caller:
    """Somebody who calls one runtime, as `head` has it, on one connection that is kept."""

    gateway: RunningGateway
    arn: str
    token: str
    session: str = field(default_factory=new_session)
    query: str = "qualifier=DEFAULT"
    connection: socket.socket | None = None

    def head(self, *fields: str, length: int | None = 2, version: str = "1.1", session: str | None = None) -> bytes:
        """Return the head of a call. `fields` are further lines of it; `length` is that of the body."""
        target = self.gateway.invocation_url(self.arn, self.query).removeprefix(self.gateway.url)
        lines = [f"POST {target} HTTP/{version}", "host: gateway", f"authorization: Bearer {self.token}"]
        lines += [f"{SESSION}: {session or self.session}", *fields]
        lines += [f"content-length: {length}"] if length is not None else []
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def connect(self) -> socket.socket:
        """Open another connection."""
        self.close()
        self.connection = socket.create_connection(("127.0.0.1", self.gateway.port), timeout=30)
        return self.connection

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def send(self, *parts: bytes) -> None:
        for part in parts:
            (self.connection or self.connect()).sendall(part)

    def take(self) -> Answered:
        """Return the next answer, as far as it comes."""
        assert self.connection is not None
        response = HTTPResponse(self.connection, method="POST")
        try:
            response.begin()
            body, cut = response.read(), False
        except IncompleteRead as error:
            body, cut = error.partial, True
        fields = [(name.lower(), value) for name, value in response.getheaders()]
        if response.will_close or cut:
            self.close()
        response.close()
        return Answered(response.status, response.reason, fields, body, cut)

    def call(self, body: bytes | dict[str, Any] = b"{}", *fields: str, session: str | None = None) -> Answered:
        """Call once and return what came back."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(self.head(*fields, length=len(content), session=session) + content)
        return self.take()

    def warmed(self) -> Answered:
        """Call until a call has repeated another, and return what came back."""
        before = self.call()
        for _ in range(5):
            after = self.call()
            if after.token == before.token:
                return after
            before = after
        raise AssertionError("no call took the short way")


@contextmanager
def calling(gateway: RunningGateway, arn: str, token: str, **more: Any) -> Iterator[Caller]:
    """Give a caller, and close its connection."""
    caller = Caller(gateway, arn, token, **more)
    try:
        yield caller
    finally:
        caller.close()


@dataclass(frozen=True)
class Says:
    """What an agent answers, in pieces that it sends one by one, and whether it closes the connection then."""

    pieces: Sequence[bytes]
    closes: bool = False
    waits: bool = False
    """Whether it says nothing before `Teller.go_on`."""


class Teller:
    """An agent that echoes, and to each call that is foreseen in `says` answers that instead."""

    def __init__(self) -> None:
        self.says: list[Says] = []
        self.received: list[ReceivedRequest] = []
        self.connections = 0
        self.url = ""
        self.loop = asyncio.new_event_loop()
        self.listener: asyncio.Server | None = None
        self._go_on = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self.waiting = threading.Event()

    def murmur(self, data: bytes) -> None:
        """Say this to whoever is connected, unasked, and wait until it has been sent."""

        async def say() -> None:
            for writer in self._writers:
                writer.write(data)
                await writer.drain()

        asyncio.run_coroutine_threadsafe(say(), self.loop).result(10)

    def hang_up(self) -> None:
        """Close the connections that there are."""

        async def close() -> None:
            for writer in self._writers:
                writer.close()

        asyncio.run_coroutine_threadsafe(close(), self.loop).result(10)

    def deafen(self) -> None:
        """Take no new connections; those that there are stay."""

        async def close() -> None:
            assert self.listener is not None
            self.listener.close()

        asyncio.run_coroutine_threadsafe(close(), self.loop).result(10)

    def go_on(self) -> None:
        self.loop.call_soon_threadsafe(self._go_on.set)

    async def script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await read_request(reader)
                self.received.append(request)
                says = self.says.pop(0) if self.says else Says([echo_of(request)])
                if says.waits:
                    self.waiting.set()
                    await self._go_on.wait()
                for number, piece in enumerate(says.pieces):
                    if number:
                        await asyncio.sleep(0.1)  # so that it arrives by itself
                    writer.write(piece)
                    await writer.drain()
                if says.closes:
                    return


def echo_of(request: ReceivedRequest) -> bytes:
    """Return an answer that tells what was received."""
    heard = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers]
    body = json.dumps({"headers": heard, "body": request.body.decode("latin-1")}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


@contextmanager
def running_teller() -> Iterator[Teller]:
    """Run a teller in a thread of its own."""
    teller = Teller()
    thread = threading.Thread(target=teller.loop.run_forever, daemon=True)
    thread.start()
    agent = ScriptedAgent(teller.script)
    asyncio.run_coroutine_threadsafe(agent.__aenter__(), teller.loop).result(10)
    teller.url, teller.listener = f"http://127.0.0.1:{agent.port}", agent._server
    try:
        yield teller
    finally:
        asyncio.run_coroutine_threadsafe(agent.__aexit__(None, None, None), teller.loop).result(10)
        asyncio.run_coroutine_threadsafe(agent.finished(), teller.loop).result(10)
        teller.loop.call_soon_threadsafe(teller.loop.stop)
        thread.join(10)
        teller.loop.close()


@contextmanager
def running_pair() -> Iterator[list[RunningGateway]]:
    """Run two gateways on one data folder."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        gateways = [RunningGateway(folder), RunningGateway(folder)]
        for gateway in gateways:
            stack.callback(gateway.kill)
            gateway.start()
        yield gateways


@dataclass
class Signer(Caller):
    """Somebody who signs each call, with a key of the gateway."""

    key: tuple[str, str] = ("", "")
    session_token: str | None = None

    def signed(self, body: bytes, fields: Mapping[str, str] | None = None, *, user: str | None = None) -> bytes:
        """Return a whole call, signed at this moment."""
        url = self.gateway.invocation_url(self.arn, self.query)
        named = {} if user is None else {USER_ID: user}
        headers = {SESSION: self.session, "content-type": "application/json", **named, **(fields or {})}
        request = AWSRequest("POST", url, headers=headers, data=body)
        SigV4Auth(Credentials(*self.key, self.session_token), "bedrock-agentcore", "us-east-1").add_auth(request)
        lines = [f"POST {url.removeprefix(self.gateway.url)} HTTP/1.1", f"host: {self.gateway.url.partition('//')[2]}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body

    def call(self, body: bytes | dict[str, Any] = b"{}", *fields: str, session: str | None = None) -> Answered:
        """Sign a call and return what came back."""
        assert not fields
        assert session is None
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.sent(self.signed(content))

    def sent(self, call: bytes) -> Answered:
        """Send a call as it is and return what came back."""
        self.send(call)
        return self.take()
