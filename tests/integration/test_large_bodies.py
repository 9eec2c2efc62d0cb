"""The largest bodies pass both ways, and the gateway's memory hardly notices. One byte more is refused unread."""

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register, running_gateway

LARGEST = 100_000_000
PIECE = bytes(range(256)) * 256
MIB = 1 << 20
MAY_GROW = 32 * MIB

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux says how much memory is used")

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def roomy() -> Iterator[RunningGateway]:
    """A gateway of this module's own: nobody else's calls count."""
    with running_gateway() as running:
        yield running


@pytest.fixture
def signed_arn(roomy: RunningGateway, agent: Agent) -> str:
    """A runtime for signed calls, that was called before: what is loaded once is loaded."""
    arn = register(roomy, agent.url)
    roomy.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=PIECE * 40)["response"].read()
    return arn


@pytest.fixture
def guarded_arn(roomy: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> str:
    """A runtime for calls with a token, that was called before."""
    arn = register(roomy, agent.url, **guarded_by(jwt_issuer.discovery_url))
    assert post(roomy, arn, token_of(jwt_issuer), PIECE * 40).status_code == 200
    return arn


def pieces(size: int) -> Iterator[bytes]:
    while size > 0:
        yield PIECE[:size]
        size -= len(PIECE)


def digest_of(size: int) -> str:
    digest = hashlib.sha256()
    for piece in pieces(size):
        digest.update(piece)
    return digest.hexdigest()


def memory(running: RunningGateway, figure: str) -> int:
    """Return one figure of the process, in bytes."""
    assert running.process is not None
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(figure + ":"))


@contextmanager
def growth_of(running: RunningGateway, record_property: Record, name: str) -> Iterator[None]:
    """Fail if the memory of the gateway, at its highest within the block, grows by MAY_GROW or more."""
    assert running.process is not None
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")  # the high-water mark begins anew
    before = memory(running, "VmRSS")
    yield
    grown = memory(running, "VmHWM") - before
    record_property(name, grown)
    print(f"{name}: {grown / MIB:.1f} MiB more at the highest, of {before / MIB:.0f} MiB")
    assert grown < MAY_GROW


def spool_files(running: RunningGateway) -> list[str]:
    """Return the spooled bodies that the process still has open: they have no names."""
    assert running.process is not None
    folder = Path(f"/proc/{running.process.pid}/fd")
    return [link for entry in folder.iterdir() if "/spool/" in (link := str(entry.readlink()))]


def bearer(http: httpx2.Client, running: RunningGateway, arn: str, token: str, body: Iterator[bytes] | bytes):
    return http.stream("POST", running.invocation_url(arn), content=body, headers={"authorization": f"Bearer {token}"})


def test_the_largest_signed_body_arrives_whole_and_takes_little_memory(
    roomy: RunningGateway, agent: Agent, signed_arn: str, record_property: Record
):
    payload = b"".join(pieces(LARGEST))
    with growth_of(roomy, record_property, "signed upload"):
        said = json.loads(
            roomy.data.invoke_agent_runtime(agentRuntimeArn=signed_arn, payload=payload)["response"].read()
        )
    assert (said["length"], said["sha256"]) == (LARGEST, digest_of(LARGEST))


def test_a_spooled_body_leaves_no_file_behind(roomy: RunningGateway, signed_arn: str):
    roomy.data.invoke_agent_runtime(agentRuntimeArn=signed_arn, payload=PIECE * 100)["response"].read()
    assert (spool_files(roomy), list((roomy.data_dir / "spool").iterdir())) == ([], [])


@pytest.mark.parametrize("framed", ["by its length", "in chunks"])
def test_the_largest_body_with_a_token_arrives_whole_and_takes_little_memory(
    roomy: RunningGateway, agent: Agent, guarded_arn: str, jwt_issuer: FakeIssuer, framed: str, record_property: Record
):
    headers = {"authorization": f"Bearer {token_of(jwt_issuer)}"}
    if framed == "by its length":
        headers["content-length"] = str(LARGEST)
    with (
        growth_of(roomy, record_property, f"bearer upload {framed}"),
        httpx2.Client(trust_env=False, timeout=60) as http,
    ):
        answer = http.post(roomy.invocation_url(guarded_arn), content=pieces(LARGEST), headers=headers)
    assert (answer.json()["length"], answer.json()["sha256"]) == (LARGEST, digest_of(LARGEST))


def test_the_largest_answer_to_a_signed_call_takes_little_memory(
    roomy: RunningGateway, signed_arn: str, record_property: Record
):
    with growth_of(roomy, record_property, "signed download"):
        answer = roomy.data.invoke_agent_runtime(agentRuntimeArn=signed_arn, payload=json.dumps({"bytes": LARGEST}))
        received = sum(len(chunk) for chunk in answer["response"].iter_chunks(1 << 16))
    assert received == LARGEST


def test_the_largest_answer_to_a_call_with_a_token_takes_little_memory(
    roomy: RunningGateway, guarded_arn: str, jwt_issuer: FakeIssuer, record_property: Record
):
    with growth_of(roomy, record_property, "bearer download"), httpx2.Client(trust_env=False, timeout=60) as http:
        asked = json.dumps({"bytes": LARGEST}).encode()
        with bearer(http, roomy, guarded_arn, token_of(jwt_issuer), asked) as answer:
            received = sum(len(chunk) for chunk in answer.iter_raw())
    assert received == LARGEST


def test_an_answer_that_nobody_reads_waits_at_the_agent(
    roomy: RunningGateway, guarded_arn: str, jwt_issuer: FakeIssuer, record_property: Record
):
    with growth_of(roomy, record_property, "unread download"), httpx2.Client(trust_env=False, timeout=60) as http:
        asked = json.dumps({"bytes": LARGEST}).encode()
        with bearer(http, roomy, guarded_arn, token_of(jwt_issuer), asked) as answer:
            for _ in range(40):  # meanwhile the gateway has all the time to read ahead
                assert roomy.status("/healthz") == 200
            received = sum(len(chunk) for chunk in answer.iter_raw())
    assert received == LARGEST


@pytest.mark.parametrize("authorization", ["signature", "token"])
def test_one_byte_more_is_refused_when_its_length_is_announced(
    roomy: RunningGateway,
    agent: Agent,
    signed_arn: str,
    guarded_arn: str,
    jwt_issuer: FakeIssuer,
    authorization: str,
):
    arn, shown = guarded_arn, f"authorization: Bearer {token_of(jwt_issuer)}\r\n"
    if authorization == "signature":
        arn, shown = signed_arn, head_of_a_signed_call(roomy, signed_arn)
    agent.received.clear()
    target = roomy.invocation_url(arn).removeprefix(roomy.url)
    head = f"POST {target} HTTP/1.1\r\nhost: 127.0.0.1:{roomy.port}\r\n{shown}content-length: {LARGEST + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", roomy.port), timeout=20) as connection:
        connection.sendall(head.encode() + PIECE)
        answer = connection.recv(65536)
    assert (answer[:12], b"ValidationException" in answer, agent.received) == (b"HTTP/1.1 400", True, [])


def head_of_a_signed_call(running: RunningGateway, arn: str) -> str:
    """Return the header lines of a well-formed signature; its body never comes, so nobody checks what it covers."""
    captured: dict[str, str] = {}
    client = running.data
    client.meta.events.register(
        "before-send.bedrock-agentcore.InvokeAgentRuntime", lambda request, **_: captured.update(request.headers)
    )
    client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")["response"].read()
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in captured.items()}
    wanted = ("authorization", "x-amz-date", "content-type", "accept")
    kept = [
        (name, value) for name, value in texts.items() if name.lower() in wanted or name.lower().startswith("x-amz")
    ]
    return "".join(f"{name}: {value}\r\n" for name, value in kept)


def test_one_byte_more_in_chunks_is_refused_and_never_becomes_a_request(
    roomy: RunningGateway, agent: Agent, guarded_arn: str, jwt_issuer: FakeIssuer
):
    agent.received.clear()
    headers = {"authorization": f"Bearer {token_of(jwt_issuer)}"}
    with httpx2.Client(trust_env=False, timeout=60) as http:
        answer = http.post(roomy.invocation_url(guarded_arn), content=pieces(LARGEST + 1), headers=headers)
    assert answer.status_code == 400
    assert [received for received in agent.received if "cut" not in received] == []
