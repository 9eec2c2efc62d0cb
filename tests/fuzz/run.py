"""Runs cases until the time is up, judges every answer, and counts."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import structlog

from identity_gateway import telemetry
from tests.fuzz import authorization, head, paths, tokens
from tests.fuzz.answers import code_of, fault_of, let_in
from tests.fuzz.cases import SESSION, Case, Change
from tests.fuzz.world import Answer, World

_UNCHANGED = 0.04
_MOST_FINDINGS = 50
_AT_ONCE = 32
_BEARERS = ("bearer", "mcp", "browser", "web identity")
_SIGNED = ("invoke", "workload", "presigned", "caller identity")


@dataclass
class Report:
    """What a run found. A finding is one line without secrets that can be printed anywhere. `first` is a case's number."""

    seed: int
    first: int = 0
    cases: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    let_in: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def found(self, number: int, generator: str, what: str, shown: str) -> None:
        """Keep a finding."""
        self.findings.append(f"seed {self.seed}, {generator} case {number}: {what}: {shown}")

    def table(self) -> str:
        """Return the figures of the run."""
        rows = [f"{name:<24}{count:>10}{self.let_in[name]:>10}" for name, count in sorted(self.cases.items())]
        rows += ["", *(f"{said:<52}{count:>10}" for said, count in sorted(self.answers.items()))]
        total = f"{self.cases.total()} cases in {self.seconds:.0f} s, seed {self.seed}, findings {len(self.findings)}"
        return "\n".join([f"{'generator':<24}{'cases':>10}{'let in':>10}", *rows, "", total])


@dataclass
class Logged:
    """What was logged while one case was answered, as operators would see it."""

    errors: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


_logged: ContextVar[Logged] = ContextVar("logged")


def _keep(_logger: Any, method: str, event: Any) -> Any:
    """Take a log line of the product."""
    said, logged = repr(telemetry.redact(None, method, event)), _logged.get()
    logged.lines.append(said)
    if method in {"error", "critical", "exception"}:
        logged.errors.append(said)
    raise structlog.DropEvent


class _Errors(logging.Handler):
    """Takes what libraries complain about."""

    def emit(self, record: logging.LogRecord) -> None:
        _logged.get().errors.append(f"{record.name}: {record.getMessage()[:200]} {record.exc_info or ''}")


@contextmanager
def watched_logs() -> Iterator[Logged]:
    """Watch the log lines of the product and its libraries instead of showing them; yield those of no case."""
    elsewhere = Logged()
    token = _logged.set(elsewhere)
    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [_keep]
    handler = _Errors(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield elsewhere
    finally:
        logging.getLogger().removeHandler(handler)
        processors[:] = before
        _logged.reset(token)


def generators(world: World) -> Mapping[str, tuple[tuple[str, ...], Mapping[str, Change]]]:
    """Return the four generators: the requests that each begins with, and its changes."""
    mint = world.mint
    return {
        "request head": (_SIGNED + _BEARERS, head.CHANGES),
        "authorization": ((*_SIGNED, "bearer", "mcp"), authorization.changes(mint.known)),
        "token": (_BEARERS, tokens.changes(mint)),
        "path": (("invoke", "bearer", "mcp", "presigned", "browser", "workload"), paths.changes(mint.known.runtimes)),
    }


def made(rng: random.Random, world: World, bases: tuple[str, ...], changes: Mapping[str, Change]) -> Case:
    """Return a case: a valid request, and up to three changes of it."""
    case: Case = world.mint.bases[rng.choice(bases)](rng)
    if rng.random() < _UNCHANGED:
        return case
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        name = rng.choice(list(changes))
        doomed = changes[name](rng, case)
        if doomed is not None:
            case.steps.append(name)
            # Only alone: another change may have taken the bad one back.
            case.doomed = doomed and len(case.steps) == 1
    return case


def judged(world: World, case: Case, answer: Answer, logged: Logged) -> str:
    """Say what is wrong, if anything is."""
    if logged.errors:
        return f"logged an error: {logged.errors[0][:300]}"
    if fault := fault_of(case, answer):
        return fault
    secrets = [secret.decode("latin-1") for secret in case.secrets if len(secret) >= 20]
    if any(secret in line for line in logged.lines for secret in secrets):
        return "a secret of the request was logged"
    if not let_in(case, answer):
        return "" if case.steps else f"a valid request was refused: {answer.status} {code_of(answer)}"
    if case.doomed or not world.mint.known.may_pass(case):
        return "WRONG ACCEPT"
    return _arrived(case, answer)


def _arrived(case: Case, answer: Answer) -> str:
    """Compare what the agent received with what was sent."""
    if len(answer.agent) > 1:
        return "WRONG ACCEPT: the agent was called more than once"
    for seen in answer.agent:
        if "cut" in seen:
            return "the agent received a part of the body"
        if seen["path"] not in {"/invocations", "/ws", "/mcp"}:
            return f"WRONG ACCEPT: the agent was called at {seen['path'][:80]!r}"
        if "ws" not in seen and seen["length"] != len(case.body):
            return "WRONG ACCEPT: the agent received another body"
        names = [name for name, _ in seen["headers"]]
        if "planted-by-a-stranger" in (value for _, value in seen["headers"]):
            return "WRONG ACCEPT: a planted identity reached the agent"
        sent = [value.strip(b" \t").decode("latin-1") for value in case.values(SESSION)]
        got = [value for name, value in seen["headers"] if name == SESSION.decode()]
        if len(got) > 1 or (sent and not case.web_socket and got != sent[:1]):
            return "WRONG ACCEPT: the agent received another session"
        if "authorization" in names:
            return "the agent received the caller's Authorization"
    return ""


async def fuzz(world: World, report: Report, seconds: float, *, enough: int = _MOST_FINDINGS) -> None:
    """Send cases to the gateway in this process until the time is up, or enough was found: at least one batch.

    A case is made from seed and number alone; keys and times are new in every run.
    """
    kinds = generators(world)
    began, first = time.monotonic(), report.first
    while first == report.first or (time.monotonic() - began < seconds and len(report.findings) < enough):
        numbered = [(number, list(kinds)[number % len(kinds)]) for number in range(first, first + _AT_ONCE)]
        cases = [made(random.Random(f"{report.seed}/{number}"), world, *kinds[name]) for number, name in numbered]
        # Together, because decisions that are kept together are kept faster.
        answered = await asyncio.gather(*(_answered(world, case) for case in cases))
        for (number, name), case, (answer, logged) in zip(numbered, cases, answered, strict=True):
            said = f"{answer.status} {code_of(answer)}".strip()
            report.cases[name] += 1
            report.answers[said] += 1
            report.let_in[name] += let_in(case, answer)
            if fault := judged(world, case, answer, logged):
                report.found(number, name, f"{fault} ({said})", case.shown())
        for seen in world.strays():
            report.found(first, "any", "WRONG ACCEPT: the agent was called for no case", repr(seen)[:300])
        first += _AT_ONCE
    report.seconds += time.monotonic() - began


async def _answered(world: World, case: Case) -> tuple[Answer, Logged]:
    """Send a case; a task of its own, so that what is logged for it is known."""
    logged = Logged()
    _logged.set(logged)
    return await world.ask(case), logged
