"""A gateway in a process of its own, which is sent raw bytes: what the server in front of the application makes of them."""

import asyncio
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256

from tests.callers import running_issuer
from tests.fakes.issuer import SigningKey
from tests.fuzz.answers import code_of, fault_of, is_open_door
from tests.fuzz.cases import Case
from tests.fuzz.oracle import Known
from tests.fuzz.raw import BENDS, Raw, read
from tests.fuzz.run import Report
from tests.fuzz.world import Answer, EchoAgent, Mint, guards, running_agent
from tests.gateways import ACCOUNT, REGION, RunningGateway, register, running_gateway

GENERATOR = "raw request head"
_AT_ONCE = 64
_PATIENCE = 6.0
_QUIET = 1.5
_UNCHANGED = 0.05
_MOST_FINDINGS = 50
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3})[^\r\n]*\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
_BARE = {400, 408, 431}
"""What the server itself refuses, without a body."""


@dataclass
class Wired:
    """A running gateway, and valid requests to it."""

    gateway: RunningGateway
    agent: EchoAgent
    mint: Mint


@contextmanager
def open_wire() -> Iterator[Wired]:
    """Run a gateway with its agent and issuer."""
    keys = (SigningKey.make("ES256", "key-1"), SigningKey.make("RS256", "key-2"))
    with (
        running_agent() as agent,
        running_issuer(*keys) as issuer,
        running_gateway(request_head_timeout="1") as gateway,
    ):
        kinds = guards(issuer)
        names = {name: register(gateway, agent.url, name=name, **more) for name, (_, more) in kinds.items()}
        rules = {names[name]: kinds[name][0] for name in names}
        gateway.control.create_workload_identity(name="fuzzed")
        known = Known(*gateway.root_key, REGION, ACCOUNT, rules, issuer.issuer, tuple(key.jwk() for key in keys))
        yield Wired(gateway, agent, Mint(known, issuer, names, host=f"127.0.0.1:{gateway.port}"))


def made(rng: random.Random, wired: Wired) -> Raw:
    """Return a request: a valid one with up to two changes, and perhaps another one right behind it."""
    bases = wired.mint.bases
    raw = Raw.of(bases[rng.choice(["invoke", "bearer", "workload"])](rng))
    if rng.random() < _UNCHANGED:
        return raw
    for _ in range(rng.choice([1, 1, 1, 2])):
        name = rng.choice(list(BENDS))
        raw.doomed = BENDS[name](rng, raw) and not raw.steps
        raw.steps.append(name)
    if rng.random() < 0.2:
        raw.after = Raw.of(bases["invoke"](rng)).written()
        raw.steps.append("another request behind")
        raw.doomed = False
    return raw


async def fuzz(wired: Wired, report: Report, seconds: float) -> None:
    """Send requests over sockets until the time is up: at least one batch."""
    began, first = time.monotonic(), report.first
    while first == report.first or (time.monotonic() - began < seconds and len(report.findings) < _MOST_FINDINGS):
        raws = [made(random.Random(f"{report.seed}/raw/{first + each}"), wired) for each in range(_AT_ONCE)]
        wired.agent.received.clear()
        heard = await asyncio.gather(*(talk(wired.gateway.port, raw.written()) for raw in raws))
        allowed: Counter[str] = Counter()
        for number, (raw, said) in enumerate(zip(raws, heard, strict=True), first):
            report.cases[GENERATOR] += 1
            if fault := _judged(wired, raw, said, allowed, report):
                report.found(number, GENERATOR, fault, raw.shown())
        for seen in wired.agent.received:
            if "cut" in seen:
                continue
            report.let_in[GENERATOR] += 1
            allowed[seen["sha256"]] -= 1
            if allowed[seen["sha256"]] < 0:
                at = next((place for place, raw in enumerate(raws) if _sent(raw, seen["sha256"])), 0)
                report.found(first + at, GENERATOR, "WRONG ACCEPT: the agent was called", raws[at].shown())
        first += _AT_ONCE
    report.seconds += time.monotonic() - began
    if wired.gateway.status("/healthz") != 200:
        report.found(first, GENERATOR, "the gateway does not answer any more", "")
    for line in wired.gateway.log.splitlines():
        if "Traceback" in line or '"level": "error"' in line or "unforeseen" in line:
            report.found(first, GENERATOR, "the gateway logged an error", line[:300])


def _judged(wired: Wired, raw: Raw, said: bytes, allowed: Counter[str], report: Report) -> str:
    """Say what is wrong with the answers to one request, and count the calls that the agent may see of it."""
    requests = read(raw.written(), raw.base.secrets)
    known = wired.mint.known
    may = [] if raw.doomed else [each for each in requests if each.steps and known.may_pass(each)]
    allowed.update(sha256(each.body).hexdigest() for each in may)
    try:
        answers = _answers(said)
    except ValueError as error:
        return f"{error}: {said[-200:]!r}"
    for answer in answers:
        report.answers[f"{answer.status} {code_of(answer)}".strip()] += 1
    final = [answer for answer in answers if answer.status >= 200]
    if not raw.steps and [answer.status for answer in final] != [200]:
        return f"a valid request was refused: {[answer.status for answer in final]}"
    passed = [answer for answer in final if answer.status < 300]
    open_doors = [each for each in requests if is_open_door(each)]
    if len(passed) > len(may) + len(open_doors):
        return f"WRONG ACCEPT: {len(passed)} answered with success, {len(may)} may pass"
    if len(final) > 1 + raw.steps.count("another request behind") + raw.steps.count("something before"):
        return f"{len(final)} answers"
    faults = (_fault(answer, each) for answer, each in zip(final, [*requests, raw.base, raw.base], strict=False))
    return next(filter(None, faults), "")


def _sent(raw: Raw, digest: str) -> bool:
    return sha256(raw.base.body).hexdigest() == digest


def _fault(answer: Answer, case: Case) -> str:
    if answer.status in _BARE and not answer.body and answer.headers.get(b"connection") == b"close":
        return ""
    if answer.status == 200:
        return ""
    return fault_of(case, answer)


def _answers(said: bytes) -> list[Answer]:
    """Return the answers in what was heard. Raises ValueError for anything that is none."""
    answers = []
    while said:
        found = _HEAD.match(said)
        if found is None:
            raise ValueError("an answer is malformed")
        pairs = [line.partition(b":") for line in found[2].split(b"\r\n") if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        said = said[found.end() :]
        if headers.get(b"transfer-encoding") == b"chunked":
            body, said = _dechunked(said)
        else:
            length = int(headers.get(b"content-length", b"0"))
            body, said = said[:length], said[length:]
            if len(body) < length:
                raise ValueError("an answer is too short")
        answers.append(Answer(int(found[1]), headers, body, []))
    return answers


def _dechunked(said: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, said = said.partition(b"\r\n")
        length = int(size, 16)
        body, said = body + said[:length], said[length + 2 :]
        if length == 0:
            return body, said


async def talk(port: int, data: bytes) -> bytes:
    """Send bytes and return all that comes until the gateway closes, or says nothing more after an answer."""
    heard = b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError, TimeoutError):
        writer.write(data)
        await writer.drain()
        while more := await asyncio.wait_for(reader.read(1 << 16), _QUIET if heard else _PATIENCE):
            heard += more
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return heard
