"""The front door, without a server: what is refused before anything is read, and what nobody is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from pydantic import SecretStr
from structlog.testing import capture_logs

from identity_gateway.api.exchange import MAX_HEAD, Message
from identity_gateway.app import Gateway, open_gateway
from identity_gateway.protocol.request import Request
from identity_gateway.settings import Settings
from tests.fakes.agent import ScriptedAgent, answer, read_request
from tests.fakes.asgi import LEFT, Connection, ask, pieces, scope_of
from tests.fakes.clock import Clock
from tests.fakes.issuer import FakeIssuer
from tests.fakes.sigv4_client import KEY_ID, SECRET, added, signed

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN_RUNTIME = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/nobody-AbCdEf1234"


@dataclass
class World:
    """One gateway for all tests of this file, an issuer that it may reach, and an agent that answers everything."""

    gateway: Gateway
    clock: Clock
    issuer: FakeIssuer
    agent: ScriptedAgent
    names: int = 0

    async def ask(self, request: Request, *messages: Message) -> Connection:
        return await ask(self.gateway.front, request, *messages)

    async def operate(
        self, method: str, path: str, document: Any = None, *, body: bytes | None = None, **options: Any
    ) -> Connection:
        """Call an operation with a signed request."""
        body = json.dumps(document or {}).encode() if body is None else body
        return await self.ask(signed(method, "http://gateway.test" + path, body=body, **options), *pieces(body))

    async def register(self, agent: ScriptedAgent | None = None, *, guarded: bool = False) -> str:
        """Register an agent and return the ARN of its runtime."""
        self.names += 1
        url = f"http://127.0.0.1:{(agent or self.agent).port}"
        asked: dict[str, Any] = {
            "agentRuntimeName": f"agent_{self.names}",
            "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": url}},
            "roleArn": "arn:aws:iam::000000000000:role/agent",
            "networkConfiguration": {"networkMode": "PUBLIC"},
        }
        if guarded:
            guard = {"discoveryUrl": self.issuer.discovery_url, "allowedAudience": ["agents"]}
            asked["authorizerConfiguration"] = {"customJWTAuthorizer": guard}
        made = await self.operate("PUT", "/runtimes/", asked)
        assert made.status == 202, made.body
        return made.json["agentRuntimeArn"]

    def token(self) -> bytes:
        claims = {"iss": self.issuer.issuer, "sub": "alice", "aud": "agents", "exp": self.clock.now + 60}
        return b"Bearer " + self.issuer.keys[0].token(claims).encode()

    async def invoke(self, arn: str, *authorizations: bytes) -> Connection:
        request = added(bare("POST", invocations(arn), *authorizations), "content-length", "2")
        return await self.ask(request, *pieces(b"{}"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("front"),
        public_url="https://gateway.test",
        root_access_key_id=KEY_ID,
        root_secret_access_key=SecretStr(SECRET),
        egress_allow=(ip_network("127.0.0.0/8"),),
    )
    clock = Clock()
    async with (
        FakeIssuer() as issuer,
        ScriptedAgent(answer(b'{"hello": 1}', b"content-type: application/json")) as agent,
        open_gateway(settings, clock=clock) as gateway,
    ):
        yield World(gateway, clock, issuer, agent)


def bare(method: str, path: str, *authorizations: bytes) -> Request:
    """Return a request without a signature."""
    raw_path, _, query = path.encode().partition(b"?")
    headers = [(b"host", b"gateway.test"), *((b"authorization", value) for value in authorizations)]
    return Request(method, raw_path, query, tuple(headers))


def invocations(arn: str) -> str:
    return f"/runtimes/{quote(arn, safe='')}/invocations"


def metadata(arn: str) -> str:
    return invocations(arn) + "/.well-known/oauth-protected-resource"


def refusal(connection: Connection) -> tuple[int | None, bytes]:
    assert connection.is_complete
    return connection.status, connection.headers[b"x-amzn-errortype"]


# --- Refused before anything is read ---

BAD_HEADS = {
    "too large": added(signed(), "x-large", "v" * MAX_HEAD),
    "without a host": replace(signed(), headers=signed().headers[1:]),
    "with two hosts": added(signed(), "host", "other.test"),
    "with two authorizations": added(signed(), "authorization", "Bearer x"),
    "with two lengths": added(added(signed(), "content-length", "1"), "content-length", "2"),
    "with two types": added(added(signed(), "content-type", "a/b"), "content-type", "c/d"),
    "with two dates": added(signed(), "x-amz-date", "20260101T000000Z"),
}


@pytest.mark.parametrize("name", BAD_HEADS)
async def test_a_bad_head_is_refused_before_the_body_is_read(world: World, name: str):
    answered = await world.ask(BAD_HEADS[name])
    assert refusal(answered) == (400, b"ValidationException")
    assert answered.received == 0


async def test_a_request_without_credentials_is_refused_before_the_body_is_read(world: World):
    answered = await world.ask(bare("PUT", "/runtimes/"))
    assert refusal(answered) == (403, b"MissingAuthenticationTokenException")
    assert answered.received == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/nowhere"), ("PATCH", "/runtimes/"), ("GET", "/Healthz"), ("GET", "/%68ealthz"), ("GET", "/docs")],
)
async def test_a_path_that_is_none_is_an_unknown_operation(world: World, method: str, path: str):
    assert refusal(await world.ask(bare(method, path))) == (404, b"UnknownOperationException")


# --- The order of the checks ---


async def test_an_operation_that_is_not_served_is_told_to_known_callers_only(world: World):
    path = "/memories/create"
    assert refusal(await world.ask(bare("POST", path)))[0] == 403
    answered = await world.operate("POST", path, {"name": "x"})
    assert refusal(answered) == (501, b"UnsupportedOperationException")
    assert "CreateMemory" in answered.json["message"]


@pytest.mark.parametrize("secret", ["wrong", SECRET])
async def test_an_input_is_looked_at_after_the_signature_was_verified(world: World, secret: str):
    answered = await world.operate("POST", "/identities/CreateWorkloadIdentity", body=b"{broken", secret=secret)
    expected = (400, b"ValidationException") if secret == SECRET else (403, b"InvalidSignatureException")
    assert refusal(answered) == expected


async def test_a_body_that_is_not_the_one_that_was_signed_is_refused(world: World):
    request = signed("POST", "http://gateway.test/identities/CreateWorkloadIdentity", body=b'{"name": "good"}')
    answered = await world.ask(request, *pieces(b'{"name": "evil"}'))
    assert refusal(answered) == (403, b"InvalidSignatureException")
    found = await world.operate("POST", "/identities/GetWorkloadIdentity", {"name": "evil"})
    assert refusal(found) == (404, b"ResourceNotFoundException")


async def test_a_body_of_an_operation_is_bounded(world: World):
    body = bytes((1 << 20) + 1)
    answered = await world.operate("POST", "/identities/CreateWorkloadIdentity", body=body)
    assert refusal(answered) == (400, b"ValidationException")


async def test_a_validation_error_lists_the_fields(world: World):
    answered = await world.operate("POST", "/identities/CreateWorkloadIdentity", {})
    assert [fault["name"] for fault in answered.json["fieldList"]] == ["name"]


# --- Answers ---


async def test_an_answer_without_content_has_no_body(world: World):
    await world.operate("POST", "/identities/CreateWorkloadIdentity", {"name": "short-lived"})
    answered = await world.operate("POST", "/identities/DeleteWorkloadIdentity", {"name": "short-lived"})
    assert (answered.status, answered.body, answered.is_complete) == (204, b"", True)
    assert b"content-length" not in answered.headers


async def test_every_answer_has_a_request_id_and_the_log_has_the_same(world: World):
    for request in (
        bare("POST", "/nowhere"),
        bare("PUT", "/runtimes/"),
        signed("PUT", "http://gateway.test/runtimes/"),
    ):
        with capture_logs() as logs:
            answered = await world.ask(request)
        (line,) = [entry for entry in logs if entry["event"] == "request"]
        assert line["request_id"] == answered.headers[b"x-amzn-requestid"].decode()
        assert (line["status"], line["source"]) == (answered.status, "203.0.113.7")


async def test_a_refusal_is_logged_with_its_reason_and_told_without(world: World):
    with capture_logs() as logs:
        answered = await world.operate("POST", "/identities/ListWorkloadIdentities", key_id="IGAKNOBODYNOBODYNOBO")
    assert logs[-1]["error"] == "InvalidSignature"
    assert logs[-1]["reason"]
    assert logs[-1]["reason"].encode() not in answered.body


async def test_the_open_doors_are_open(world: World):
    assert (await world.ask(bare("GET", "/healthz"))).json == {"status": "alive"}
    assert (await world.ask(bare("GET", "/readyz"))).json == {"status": "ready", "faults": []}


# --- What was not foreseen ---


async def test_an_unforeseen_error_says_nothing_and_its_text_is_not_logged(world: World):
    connection = Connection()

    async def broken() -> Message:
        raise RuntimeError("password=hunter2")

    with capture_logs() as logs:
        await world.gateway.front(scope_of(signed("POST", "http://gateway.test/runtimes/")), broken, connection.send)
    assert refusal(connection) == (500, b"InternalServerException")
    assert connection.json == {"message": "An internal error occurred."}
    assert [entry.get("error") or entry.get("fault") for entry in logs] == ["RuntimeError", "RuntimeError"]
    assert "hunter2" not in str(logs)


async def test_a_caller_who_leaves_before_its_body_is_complete_is_not_answered(world: World):
    request = signed("POST", "http://gateway.test/identities/CreateWorkloadIdentity", body=b'{"name": "cut-off"}')
    with capture_logs() as logs:
        answered = await world.ask(request, *pieces(b'{"name"', whole=False), LEFT)
    assert answered.sent == []
    assert logs[-1]["error"] == "the caller left"


# --- Invocations ---


async def test_a_guarded_runtime_challenges_a_caller_without_a_token(world: World):
    arn = await world.register(guarded=True)
    answered = await world.invoke(arn)
    assert refusal(answered) == (401, b"UnauthorizedException")
    expected = f'Bearer resource_metadata="https://gateway.test{metadata(arn)}"'
    assert answered.headers[b"www-authenticate"] == expected.encode()


async def test_a_guarded_runtime_says_that_a_token_is_bad_and_not_why(world: World):
    arn = await world.register(guarded=True)
    answered = await world.invoke(arn, b"Bearer eyJhbGciOiJub25lIn0.e30.")
    assert refusal(answered) == (401, b"UnauthorizedException")
    assert b'error="invalid_token"' in answered.headers[b"www-authenticate"]
    assert answered.json == {"message": "The bearer token is missing or not valid."}


async def test_a_good_token_reaches_the_agent(world: World):
    answered = await world.invoke(await world.register(guarded=True), world.token())
    assert (answered.status, answered.json, answered.is_complete) == (200, {"hello": 1}, True)


async def test_a_runtime_without_an_authorizer_does_not_challenge(world: World):
    answered = await world.invoke(await world.register())
    assert refusal(answered) == (403, b"MissingAuthenticationTokenException")
    assert b"www-authenticate" not in answered.headers


async def test_an_unknown_runtime_looks_like_a_known_one_to_strangers(world: World):
    known = await world.invoke(await world.register())
    unknown = await world.invoke(UNKNOWN_RUNTIME)
    assert (refusal(unknown), unknown.json) == (refusal(known), known.json)


def cut_after(begin: bytes) -> Any:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(begin)

    return script


async def test_an_answer_that_the_agent_cuts_is_cut_for_the_caller_too(world: World):
    async with ScriptedAgent(cut_after(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123")) as agent:
        arn = await world.register(agent)
        with capture_logs() as logs:
            answered = await world.ask(signed("POST", f"http://gateway.test{invocations(arn)}"))
    assert (answered.status, answered.body, answered.is_complete) == (200, b"123", False)
    assert logs[-1]["error"] == "AgentFailed"


async def test_a_caller_who_leaves_while_the_agent_works_is_not_worked_for(world: World):
    working = asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        working.set()
        assert await reader.read() == b""  # the end of the connection is what this test waits for

    async with ScriptedAgent(script) as agent:
        arn = await world.register(agent)
        caller = Connection()
        request = scope_of(signed("POST", f"http://gateway.test{invocations(arn)}"))

        async def receive() -> Message:
            if not caller.received:
                caller.received += 1
                return pieces(b"")[0]
            await working.wait()
            return LEFT

        await world.gateway.front(request, receive, caller.send)
        await agent.finished()
    assert (agent.connections, agent.failures, caller.sent) == (1, [], [])


async def test_a_request_that_the_end_of_the_gateway_cuts_is_answered_so(world: World):
    working = asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        working.set()
        await reader.read()

    async with ScriptedAgent(script) as agent:
        arn = await world.register(agent)
        task = asyncio.create_task(world.ask(signed("POST", f"http://gateway.test{invocations(arn)}")))
        await working.wait()
        task.cancel()
        answered = await task
    assert refusal(answered) == (503, b"ServiceUnavailableException")


# --- Protected resource metadata ---


@pytest.mark.parametrize("query", ["", "?qualifier=DEFAULT"])
async def test_the_metadata_of_a_guarded_runtime_is_for_everybody(world: World, query: str):
    arn = await world.register(guarded=True)
    answered = await world.ask(bare("GET", metadata(arn) + query))
    assert (answered.status, answered.headers[b"access-control-allow-origin"]) == (200, b"*")
    assert answered.json == {
        "resource": f"https://gateway.test{invocations(arn)}{query}",
        "authorization_servers": [world.issuer.issuer],
        "bearer_methods_supported": ["header"],
    }


async def test_there_is_no_metadata_of_other_runtimes_and_nobody_learns_which_exist(world: World):
    unguarded = await world.ask(bare("GET", metadata(await world.register())))
    unknown = await world.ask(bare("GET", metadata(UNKNOWN_RUNTIME)))
    assert refusal(unguarded) == refusal(unknown) == (404, b"ResourceNotFoundException")
    assert unguarded.json == unknown.json


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
async def test_metadata_can_only_be_read(world: World, method: str):
    answered = await world.ask(bare(method, metadata(UNKNOWN_RUNTIME)))
    assert refusal(answered) == (404, b"UnknownOperationException")


@pytest.mark.parametrize("path", ["", "/runtimes/", "/identities/GetWorkloadIdentity", "/runtimes/x"])
async def test_only_invocations_have_metadata(world: World, path: str):
    answered = await world.ask(bare("GET", f"{path}/.well-known/oauth-protected-resource"))
    assert answered.status in {400, 404}
