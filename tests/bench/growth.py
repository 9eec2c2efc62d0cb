"""What it costs that much is registered: the same calls with 10, 1,000 and 100,000 runtimes, users and grants, by turns.

The records are written straight into the database before the gateway starts. Calls go to the same number of runtimes
and users however many there are, evenly spread over them.
"""

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from identity_gateway.model import (
    AgentRuntime,
    AgentRuntimeEndpoint,
    AgentRuntimeVersion,
    Grant,
    WorkloadIdentity,
)
from identity_gateway.records.sql import open_records
from tests.bench import calls, figures, gateways, processes, rounds
from tests.bench.calls import Rotating
from tests.bench.figures import Sample
from tests.bench.issuer import SESSIONS
from tests.bench.rows import SMALL, Row, World, people
from tests.gateways import ACCOUNT

SIZES = (10, 1_000, 100_000)
CALLED = gateways.PEOPLE
_BATCH = 5_000


def run(world: World, turns: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Return rows by name and size: `jwt_…`, `grant_…`, and `start_…` with the seconds of a start."""
    base = world.estate
    rows: dict[str, Row] = {}
    found: dict[str, Any] = {}
    for size in SIZES:
        say(f"registering {size:,}")
        folder = world.folder / f"grown-{size}"
        shutil.copytree(base.folder, folder)
        began = time.monotonic()
        arns = asyncio.run(_grow(folder, base, size))
        registered = time.monotonic() - began
        estate = replace(base, folder=folder)
        found[f"start_{size}"] = figures.row(_starts(world, estate, size))
        say(f"registered in {registered:.1f} s")
        subject = gateways.start(world.stack, estate, world.folder / f"growth-{size}")
        rows[f"jwt_{size}"] = _invocations(world, subject, arns)
        rows[f"grant_{size}"] = _vends(base, subject)
    for name, row in rows.items():
        rounds.check(name, row)
    os.sched_setaffinity(0, {processes.LOAD_CORE})
    samples = rounds.take(world, rows, turns, seconds, say)
    return found | {name: figures.row(taken) for name, taken in samples.items()}


def flatness(found: dict[str, Any]) -> dict[str, float]:
    """Return the cost of a call at each size, as a multiple of its cost at the smallest."""
    return {
        f"{kind}_{size}": found[f"{kind}_{size}"]["cpu_us"] / found[f"{kind}_{SIZES[0]}"]["cpu_us"]
        for kind in ("jwt", "grant")
        for size in SIZES[1:]
    }


async def _grow(folder: Path, base: gateways.Estate, size: int) -> list[str]:
    """Write runtimes and grants until there are `size` of either; return the ARNs of the runtimes to call."""
    template = base.with_jwt.rpartition("/")[2]
    records = await open_records(f"sqlite:///{folder / 'gateway.sqlite'}")
    try:
        async with records.read() as transaction:
            runtime = await transaction.get(AgentRuntime, account=ACCOUNT, id=template)
            here: dict[str, Any] = {"account": ACCOUNT, "runtime_id": template}
            version = await transaction.get(AgentRuntimeVersion, **here, version=1)
            endpoint = await transaction.get(AgentRuntimeEndpoint, **here, name="DEFAULT")
            workload = await transaction.get(WorkloadIdentity, account=ACCOUNT, name=template)
            grants = await transaction.list(Grant, account=ACCOUNT, limit=1)
        parts = (runtime, version, endpoint, workload)
        assert all(parts)
        ids = [f"grown_{number}-{number:010d}" for number in range(size)]
        made = ([_called(part, template, name) for part in parts] for name in ids)
        await _write(records, itertools.chain.from_iterable(made))
        await _write(records, (_another(grants[0], number) for number in range(size - CALLED)))
    finally:
        await records.close()
    return [base.with_jwt.replace(template, name) for name in ids[:: size // CALLED][:CALLED]]


def _called(record: Any, template: str, name: str) -> Any:
    """Return the record under another id, wherever the id stands in it."""
    texts = {each.name: getattr(record, each.name) for each in fields(record)}
    changed = {key: text.replace(template, name) for key, text in texts.items() if isinstance(text, str)}
    if isinstance(record, AgentRuntime):
        changed["name"] = name.partition("-")[0]
    return replace(record, **changed)


def _another(grant: Grant, number: int) -> Grant:
    """Return a grant of somebody else, which nobody asks for: what is sealed in it does not open there."""
    return replace(
        grant,
        id=f"{number:032x}",
        lookup=f"{number:064x}",
        user=grant.user.replace("user-", f"other-{number}-"),
    )


async def _write(records: Any, rows: Iterable[Any]) -> None:
    left = iter(rows)
    while batch := list(itertools.islice(left, _BATCH)):
        async with records.write() as transaction:
            await transaction.create(*batch)


def _starts(world: World, estate: gateways.Estate, size: int) -> list[Sample]:
    """Start a gateway three times: how long it takes from the process to its being ready."""
    taken = []
    for number in range(3):
        foreign = processes.Foreign()
        with ExitStack() as stack:
            folder = world.folder / f"start-{size}-{number}"
            started = gateways.start(stack, estate, folder)
            taken.append(Sample({"start_seconds": started.start_seconds}, foreign.cores()))
        shutil.rmtree(folder)
    return taken


def _invocations(world: World, subject: gateways.Subject, arns: list[str]) -> Row:
    urls = [subject.gateway.invocation_url(arn) for arn in arns]

    def request(number: int, token: str | None) -> bytes:
        return calls.with_token(urls[number % len(urls)], token, number, SMALL)

    requests = [request(number, token) for number, token in enumerate(world.cached)]
    return Row(subject.server, Rotating(lambda: requests), lambda: requests[0], [lambda: request(0, None)])


def _vends(base: gateways.Estate, subject: gateways.Subject) -> Row:
    url, contents = f"{subject.gateway.url}/identities/oauth2/token", people(base)

    def request(number: int, secret: str = base.key[1]) -> bytes:
        content = contents[number % len(contents)].encode()
        return calls.signed(url, (base.key[0], secret), content, {"x-number": str(number)})

    return Row(
        subject.server,
        Rotating(lambda: [request(number) for number in range(SESSIONS)], anew=True),
        lambda: request(0),
        [lambda: request(0, "x" * 40)],
        upstream=False,
    )
