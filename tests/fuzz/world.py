"""A whole gateway in this process: SQLite, in-memory state, an issuer and an agent on loopback; and valid requests to it.

The agent says what reached it. Requests enter where a server would hand them over: as an ASGI scope and messages.
"""

import asyncio
import base64
import json
import random
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from pydantic import SecretStr

from identity_gateway.api import web_sockets
from identity_gateway.api.exchange import Application, Message
from identity_gateway.app import open_gateway, open_state
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import Scope
from identity_gateway.roles import Roles
from identity_gateway.settings import Settings
from tests.agents import Agent
from tests.callers import AUDIENCE, guarded_by
from tests.fakes.asgi import Connection, pieces, scope_of
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.fakes.sigv4_client import presigned, signed
from tests.fuzz.cases import SESSION, Case
from tests.fuzz.oracle import Known, Rules, form
from tests.gateways import ACCOUNT, REGION, ROLE
from tests.security_tokens import POLICY

HOST = "gateway.test"
SENTINEL = "base64UrlBearerAuthorization"
RUNTIME, STS = Scope(REGION, "bedrock-agentcore"), Scope(REGION, "sts")
_ANSWER_SECONDS = 20.0


class EchoAgent(Agent):
    """The agent of the tests, which also lets WebSockets in and closes them."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await super().__call__(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            head = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
            self.received.append({"method": "GET", "path": scope["raw_path"].decode(), "headers": head, "ws": True})
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})


@contextmanager
def running_agent() -> Iterator[EchoAgent]:
    """Run the agent in a thread."""
    agent = EchoAgent()
    config = uvicorn.Config(agent, port=agent.port, log_level="critical", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield agent
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass
class Answer:
    """What came back. `agent` are the requests that the agent received because of it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    agent: list[dict[str, Any]]
    fault: str = ""


@dataclass
class Mint:
    """Makes valid requests of every kind. `stranger` is a key of nobody, under a published id."""

    known: Known
    issuer: FakeIssuer
    names: dict[str, str]
    host: str = HOST
    stranger: SigningKey = field(default_factory=lambda: SigningKey.make(kid="key-1"))

    @property
    def bases(self) -> dict[str, Any]:
        """Return a maker for every kind of valid request."""
        return {
            "invoke": self.invoke,
            "bearer": lambda rng: self.bearer(rng, "guarded"),
            "mcp": lambda rng: self.bearer(rng, "mcp"),
            "presigned": self.presigned,
            "browser": self.browser,
            "workload": self.workload,
            "caller identity": self.caller_identity,
            "web identity": self.web_identity,
        }

    def path(self, name: str, door: str = "invocations") -> str:
        """Return the path of a runtime's door, as SDKs write it."""
        return f"/runtimes/{quote(self.names[name], safe='')}/{door}"

    def signed(self, path: str, body: bytes, headers: dict[str, str], scope: Scope = RUNTIME) -> Request:
        """Return a POST that botocore signed now."""
        known = self.known
        return signed(
            url=f"http://{self.host}{path}",
            headers=headers,
            body=body,
            key_id=known.key_id,
            secret=known.secret,
            scope=scope,
            at=datetime.now(UTC),
        )

    def invoke(self, rng: random.Random) -> Case:
        """Return what boto3 sends for InvokeAgentRuntime."""
        body = json.dumps({"echo": f"{rng.getrandbits(64):016x}"}).encode()
        headers = {"content-type": "application/json", SESSION.decode(): f"session-{rng.getrandbits(128):032x}"}
        path = self.path("signed") + rng.choice(["", "?qualifier=DEFAULT"])
        return Case.of("invoke", self.signed(path, body, headers), body)

    def token(self, claims: dict[str, Any] | None = None) -> str:
        """Return a good access token."""
        return self.issuer.keys[0].token(self.claims() if claims is None else claims)

    def claims(self, audience: str = AUDIENCE) -> dict[str, Any]:
        """Return the claims of a good access token."""
        now = int(time.time())
        user = {"sub": "ada", "client_id": "caller", "scope": "agents.list agents.invoke"}
        return {"iss": self.issuer.issuer, "aud": audience, "iat": now, "nbf": now, "exp": now + 600, **user}

    def bearer(self, rng: random.Random, name: str) -> Case:
        """Return a call of a runtime that asks for a token."""
        call = {"jsonrpc": "2.0", "id": rng.randrange(1000), "method": "tools/list"}
        body = json.dumps(call if name == "mcp" else {"echo": rng.getrandbits(32)}).encode()
        headers = [
            (b"host", self.host.encode()),
            (b"authorization", f"Bearer {self.token()}".encode()),
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            (SESSION, f"session-{rng.getrandbits(128):032x}".encode()),
        ]
        request = Request("POST", self.path(name).encode(), b"", tuple(headers))
        return Case.of("bearer" if name == "guarded" else name, request, body)

    def presigned(self, rng: random.Random) -> Case:
        """Return the handshake of a presigned WebSocket URL."""
        url = f"http://{self.host}{self.path('signed', 'ws')}?qualifier=DEFAULT"
        url += f"&X-Amzn-Bedrock-AgentCore-Runtime-Session-Id=session-{rng.getrandbits(128):032x}"
        known = self.known
        request = presigned(url, key_id=known.key_id, secret=known.secret, scope=RUNTIME, at=datetime.now(UTC))
        return Case.of("presigned", request, web_socket=True)

    def browser(self, rng: random.Random) -> Case:
        """Return the handshake of a script in a browser, which carries its token as a sub-protocol."""
        carrier = base64.urlsafe_b64encode(self.token().encode()).rstrip(b"=")
        offer = b", ".join([SENTINEL.encode() + b"." + carrier, SENTINEL.encode()])
        headers = ((b"host", self.host.encode()), (b"sec-websocket-protocol", offer))
        case = Case.of("browser", Request("GET", self.path("guarded", "ws").encode(), b"", headers), web_socket=True)
        case.secrets.append(carrier[-24:])
        return case

    def workload(self, rng: random.Random) -> Case:
        """Return a request for a workload access token."""
        asked = {"workloadName": "fuzzed", "userId": f"user-{rng.getrandbits(32)}"}
        body = json.dumps(asked).encode()
        path = "/identities/GetWorkloadAccessTokenForUserId"
        return Case.of("workload", self.signed(path, body, {"content-type": "application/json"}), body)

    def caller_identity(self, _rng: random.Random) -> Case:
        """Return a signed action of the security token service."""
        body = form(Action="GetCallerIdentity", Version="2011-06-15")
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        return Case.of("caller identity", self.signed("/", body, headers, STS), body)

    def web_identity(self, _rng: random.Random) -> Case:
        """Return the exchange of a token for temporary credentials, which nobody signs."""
        token = self.token(self.claims("gateway"))
        body = form(
            Action="AssumeRoleWithWebIdentity",
            Version="2011-06-15",
            RoleArn=self.known.role,
            RoleSessionName="ada",
            WebIdentityToken=token,
        )
        headers = ((b"host", self.host.encode()), (b"content-type", b"application/x-www-form-urlencoded"))
        case = Case.of("web identity", Request("POST", b"/", b"", headers), body)
        case.secrets.append(token[-24:].encode())
        return case


@dataclass
class World:
    """The gateway in this process, and what a fuzzer needs around it."""

    front: Application
    agent: EchoAgent
    mint: Mint

    async def ask(self, case: Case) -> Answer:
        """Send a case and return its answer."""
        trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"  # agents see it, signers do not sign it
        case.web_socket = case.web_socket and web_sockets.opens(case.path)  # elsewhere the offer is ignored
        # Framing is the server's business: it hands over nothing that contradicts the body. `wire` tries that.
        fields = [pair for pair in case.headers if pair[0] not in {b"content-length", b"transfer-encoding"}]
        if case.body:
            fields.append((b"content-length", str(len(case.body)).encode()))
        fields.append((b"traceparent", trace.encode()))
        request = Request(case.method, case.path, case.query, tuple(fields))
        connection = _Handshake() if case.web_socket else Connection(pieces(case.body))
        scope = scope_of(request)
        if case.web_socket:
            scope.update({"type": "websocket", "scheme": "ws", "subprotocols": []})
        fault = ""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self.front(scope, connection.receive, connection.send)
        except Exception as error:
            fault = f"the application raised {error.__class__.__name__}"
        reached = [seen for seen in self.agent.received if ["traceparent", trace] in seen.get("headers", ())]
        for seen in reached:
            self.agent.received.remove(seen)
        return _answer(connection.sent, reached, fault)

    def strays(self) -> list[dict[str, Any]]:
        """Return what reached the agent for no case, and forget it. Calls that were cut say nothing of their head."""
        strays = [seen for seen in self.agent.received if "cut" not in seen]
        self.agent.received.clear()
        return strays


class _Handshake(Connection):
    """A caller who asks for a WebSocket, and leaves as soon as it is open."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._answered = asyncio.Event()

    async def receive(self) -> Message:
        if not self._begun:
            self._begun = True
            return {"type": "websocket.connect"}
        await self._answered.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self._answered.set()


def _answer(sent: list[Message], reached: list[dict[str, Any]], fault: str) -> Answer:
    if not sent:
        return Answer(0, {}, b"", reached, fault or "no answer")
    first = sent[0]
    status = 101 if first["type"] == "websocket.accept" else first["status"]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    pairs = [(bytes(name), bytes(value)) for name, value in first.get("headers", ())]
    if len(dict(pairs)) != len(pairs):
        fault = fault or "a header stands twice in the answer"
    return Answer(status, dict(pairs), body, reached, fault)


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """Build everything, and give it back."""
    key_id, secret = "IGFUZZEDKEY000000001", secrets.token_urlsafe(30)
    keys = (SigningKey.make("ES256", "key-1"), SigningKey.make("RS256", "key-2"))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, running_agent() as agent:
        settings = Settings(
            data_dir=Path(folder),
            public_url=f"http://{HOST}",
            root_access_key_id=key_id,
            root_secret_access_key=SecretStr(secret),
            egress_allow=(ip_network("127.0.0.0/8"),),
        )
        async with FakeIssuer(*keys) as issuer:
            trust = {"webIdentity": {"discoveryUrl": issuer.discovery_url, "allowedAudience": ["gateway"]}}
            async with open_state(settings) as state:
                roles = Roles(state.records, state.realm, state.identity_providers, clock=time.time)
                await roles.create("fuzzed", POLICY, trust)
            published = tuple(key.jwk() for key in keys)
            role = f"arn:aws:iam::{ACCOUNT}:role/fuzzed"
            known = Known(key_id, secret, REGION, ACCOUNT, {}, issuer.issuer, published, role)
            mint = Mint(known, issuer, {})
            async with open_gateway(settings) as gateway:
                world = World(gateway.front, agent, mint)
                await _furnish(world)
                yield world


def guards(issuer: FakeIssuer) -> dict[str, tuple[Rules, dict[str, Any]]]:
    """Return the runtimes of every world: what the oracle knows of them, and how they are registered."""
    strict = {"allowedAudience": [AUDIENCE], "allowedClients": ["caller"], "allowedScopes": ["agents.invoke"]}
    mcp = {"protocolConfiguration": {"serverProtocol": "MCP"}}
    return {
        "signed": (Rules(), {}),
        "guarded": (Rules(AUDIENCE, "caller", "agents.invoke"), guarded_by(issuer.discovery_url, **strict)),
        "mcp": (
            Rules(AUDIENCE, methods=("POST", "GET", "DELETE")),
            guarded_by(issuer.discovery_url) | mcp,
        ),
    }


async def _furnish(world: World) -> None:
    """Register the runtimes and a workload, through the front door."""
    mint = world.mint
    runtimes: dict[str, Rules] = {}
    for name, (rules, more) in guards(mint.issuer).items():
        asked = {
            "agentRuntimeName": name,
            "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": world.agent.url}},
            "roleArn": ROLE,
            "networkConfiguration": {"networkMode": "PUBLIC"},
            "clientToken": secrets.token_hex(20),
            **more,
        }
        made = await _asked(world, "PUT", "/runtimes/", asked)
        mint.names[name] = made["agentRuntimeArn"]
        runtimes[made["agentRuntimeArn"]] = rules
    await _asked(world, "POST", "/identities/CreateWorkloadIdentity", {"name": "fuzzed"})
    mint.known = Known(**{**vars(mint.known), "runtimes": runtimes})


async def _asked(world: World, method: str, path: str, asked: dict[str, Any]) -> Any:
    body = json.dumps(asked).encode()
    known = world.mint.known
    request = signed(
        method,
        f"http://{HOST}{path}",
        {"content-type": "application/json"},
        body,
        key_id=known.key_id,
        secret=known.secret,
        scope=RUNTIME,
        at=datetime.now(UTC),
    )
    answer = await world.ask(Case.of("furnish", request, body))
    assert answer.status < 300, answer.body
    return json.loads(answer.body)
