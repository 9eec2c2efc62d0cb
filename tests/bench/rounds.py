"""Takes the samples: each row is checked first, then all rows are measured in turn, forwards and backwards by turns."""

import urllib.request
from collections.abc import Callable, Mapping

from tests.bench import processes, wrk
from tests.bench.figures import Sample
from tests.bench.rows import Row, World

TRIES = 3
_RECONNECTS = 0.02
"""Connections made to the upstream per request, at most, for a row to count as one that uses them again."""


class Refuted(Exception):
    """A row does not do what its name says. The text says which, and what it did."""


def check(name: str, row: Row) -> None:
    """Send what must be answered and what must be refused. Raises Refuted."""
    if (status := wrk.status(row.server.port, row.good(), tls=row.server.tls)) != 200:
        raise Refuted(f"{name}: a good request was answered with {status}")
    for bad in row.refused:
        if (status := wrk.status(row.server.port, bad(), tls=row.server.tls)) not in {401, 403}:
            raise Refuted(f"{name}: a bad credential was answered with {status}")


def measure(world: World, name: str, row: Row, seconds: float) -> Sample:
    """Take one sample. Raises Refuted when answers were not 200, or when connections were not used again.

    A second of load comes before it that does not count: rows have their turns a minute apart, and each server has
    closed connections and forgotten things meanwhile.
    """
    seconds = max(1, round(seconds * row.shorter))
    file, first = row.warm.ready(1)
    wrk.run(world.tools.wrk, row.server.url, file, first, connections=row.connections, seconds=1)
    file, first = row.source.ready(seconds)
    pids = processes.tree(row.server.pid)
    accepted = _accepted(world)
    foreign, before = processes.Foreign(), processes.cpu_seconds(pids)
    answered = wrk.run(
        world.tools.wrk, row.server.url, file, first,
        connections=row.connections, seconds=seconds, pause=row.pause,
    )  # fmt: skip
    spent, others = processes.cpu_seconds(pids) - before, foreign.cores()
    if answered.refused or answered.broken or not answered.requests:
        raise Refuted(
            f"{name}: of {answered.requests} answers {answered.refused} were not 200, {answered.broken} broke"
        )
    made = (_accepted(world) - accepted) / answered.requests
    if row.upstream and made > _RECONNECTS and _accepted(world) - accepted > 2 * row.connections:
        raise Refuted(f"{name}: {made:.3f} connections to the upstream per request")
    figures = {
        "cpu_us": spent / answered.requests * 1e6,
        "rps": answered.requests / answered.seconds,
        "rps_per_core": answered.requests / spent if spent else 0.0,
        "p50_ms": answered.p50_ms,
        "p99_ms": answered.p99_ms,
        "cores": spent / answered.seconds,
        "pss_mib": processes.memory_kib(processes.tree(row.server.pid)) / 1024,
    }
    return Sample(figures, others, row.source.used(answered.following - first, seconds))


def take(
    world: World, rows: Mapping[str, Row], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """Measure every row in every round, after one round that does not count. Disturbed samples are taken again, twice
    at most, and altogether no more often than half of the samples."""
    taken: dict[str, list[Sample]] = {name: [] for name in rows}
    again = rounds * len(rows) // 2
    for number in range(-1, rounds):
        say(f"round {number + 1} of {rounds}" if number >= 0 else "warming up")
        for name in list(rows)[:: 1 if number % 2 else -1]:
            if number < 0:
                measure(world, name, rows[name], 1)
                continue
            sample = measure(world, name, rows[name], seconds)
            tries = 1
            while not sample.clean and tries < TRIES and again > 0:
                other = measure(world, name, rows[name], seconds)
                sample = min(sample, other, key=lambda found: found.foreign)
                tries, again = tries + 1, again - 1
            taken[name].append(sample)
    return taken


def _accepted(world: World) -> int:
    """Return how many connections the upstream has accepted, those that asked here left out."""
    world.asked += 1
    with urllib.request.urlopen(f"{world.upstream.url}/status", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(lines[2].split()[0]) - world.asked
