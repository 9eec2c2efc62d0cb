"""The arithmetic of the measurements: samples to rows, rows to ratios, and what /proc says in numbers. Nothing here acts."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FOREIGN_CORES = 0.15
"""A sample during which processes not ours used as much of a core, or more, is taken again."""

RATIOS = (
    ("gateway_jwt_cached", "envoy_jwt_cached"),
    ("gateway_sigv4_small", "envoy_jwt_cached"),
    ("gateway_rs256_uncached", "envoy_jwt_uncached"),
    ("gateway_es256_uncached", "envoy_jwt_es256_uncached"),
    ("gateway_tls_jwt_cached", "envoy_tls_jwt_cached"),
    ("gateway_jwt_cached", "nginx_plain"),
    ("gateway_jwt_cached", "fastapi_httpx"),
)
"""Pairs of rows whose CPU time per request is compared."""


@dataclass
class Sample:
    """What one short measurement found. `foreign` is in cores; `marks` say what a reader must know about it."""

    figures: dict[str, float]
    foreign: float = 0.0
    marks: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.foreign < FOREIGN_CORES


def row(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the medians, with `range` (smallest and largest of each figure) and how many samples were clean.

    Samples that were disturbed count only when there are no others; `disturbed` then says so.
    """
    clean = [sample for sample in samples if sample.clean]
    kept = clean or list(samples)
    found: dict[str, Any] = {}
    spans: dict[str, list[float]] = {}
    for name in kept[0].figures:
        values = [sample.figures[name] for sample in kept if name in sample.figures]
        found[name] = statistics.median(values)
        spans[name] = [min(values), max(values)]
    found["range"] = spans
    found["samples"], found["clean"] = len(samples), len(clean)
    found["disturbed"] = not clean
    found["foreign_cores"] = statistics.median(sample.foreign for sample in kept)
    if marks := sorted({mark for sample in kept for mark in sample.marks}):
        found["marks"] = marks
    return found


def ratios(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the quotients of CPU time per request of every pair in RATIOS that was measured."""
    return {
        f"{mine}/{theirs}": rows[mine]["cpu_us"] / rows[theirs]["cpu_us"]
        for mine, theirs in RATIOS
        if mine in rows and theirs in rows and rows[theirs].get("cpu_us")
    }


def paired_ranges(samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[float]]:
    """Return the smallest and largest quotient within a round: what both met at nearly the same time."""
    found = {}
    for mine, theirs in RATIOS:
        if mine in samples and theirs in samples:
            pairs = zip(samples[mine], samples[theirs], strict=False)
            quotients = [a.figures["cpu_us"] / b.figures["cpu_us"] for a, b in pairs if b.figures["cpu_us"]]
            if quotients:
                found[f"{mine}/{theirs}"] = [min(quotients), max(quotients)]
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share (0 to 1) of the values lies, the nearest one above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def stat_ticks(stat: str) -> tuple[int, int, int, int]:
    """Return utime, stime, cutime and cstime of a line of /proc/PID/stat. The program's name may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14])


def stat_parent(stat: str) -> int:
    """Return the parent's process id of a line of /proc/PID/stat."""
    return int(stat.rpartition(")")[2].split()[1])


def busy_ticks(stat: str) -> int:
    """Return the ticks in which any core worked for somebody, of /proc/stat: idle, waiting and guests left out.

    Time that the machine below gave to others (steal) counts as work: it disturbs a measurement just so.
    """
    fields = [int(value) for value in stat.split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4]


def kib(text: str, name: str) -> int:
    """Return one figure (KiB) of /proc/PID/smaps_rollup or /proc/PID/status; 0 where it is not listed."""
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def descendants(parents: Mapping[int, int], root: int) -> list[int]:
    """Return the root and everything below it, from each process's parent."""
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and child != pid]
    return found
