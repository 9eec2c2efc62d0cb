"""`make bench`: runs the rows, prints what was found, and writes it down. `--help` lists the options."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import conditions, document, figures, growth, processes, rounds, rows, servers, streams

BUILD = servers.ROOT / "build"


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the gateway beside its peers.")
    parser.add_argument("--rows", help="names, separated by commas; all of them by default")
    parser.add_argument("--seconds", type=float, help="how long a sample lasts: 2, or 1 for --growth")
    parser.add_argument("--rounds", type=int, help="4, or 10 for --growth")
    parser.add_argument("--quick", action="store_true", help=f"three rounds of {', '.join(rows.QUICK)}")
    parser.add_argument("--growth", action="store_true", help="instead: the same calls, with more and more registered")
    parser.add_argument("--document", action="store_true", help="only write docs/benchmarks.md, from build/bench.json")
    given = parser.parse_args(arguments)
    given.seconds = given.seconds or (1 if given.growth else 2)
    given.rounds = given.rounds or (10 if given.growth else 4)
    if given.quick:
        given.rounds, given.rows = min(given.rounds, 3), given.rows or ",".join(rows.QUICK)
    return given


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run the rows that were asked for; return rows, ratios and their ranges."""
    known = [*rows.ROWS, *streams.ROWS]
    names = given.rows.split(",") if given.rows else known
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(known)}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        world = rows.World(stack, servers.Tools.find(), folder)
        running = {}
        for name in names:
            if name in rows.ROWS:
                say(f"starting {name}")
                running[name] = rows.ROWS[name](world)
                rounds.check(name, running[name])
        os.sched_setaffinity(0, {processes.LOAD_CORE})
        samples = rounds.take(world, running, given.rounds, given.seconds, say) if running else {}
        if streaming := [name for name in names if name in streams.ROWS]:
            samples |= streams.take(world, streaming, min(2, given.rounds), say)
    found = {name: figures.row(taken) for name, taken in samples.items()}
    return {"rows": found, "ratios": figures.ratios(found), "ratio_ranges": figures.paired_ranges(samples)}


def table(found: dict[str, Any]) -> str:
    lines = [
        f"{'':30}{'CPU us':>9}{'range':>16}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'cores':>7}{'PSS MiB':>9}  clean"
    ]
    for name, row in found["rows"].items():
        if "cpu_us" in row:
            low, high = row["range"]["cpu_us"]
            lines.append(
                f"{name:30}{row['cpu_us']:>9.1f}{f'{low:.1f}-{high:.1f}':>16}{row['rps']:>9.0f}{row['p50_ms']:>9.2f}"
                f"{row['p99_ms']:>9.2f}{row['cores']:>7.2f}{row['pss_mib']:>9.1f}{_quality(row)}"
            )
    for name, row in found["rows"].items():
        if "cpu_us" not in row:
            shown = "  ".join(f"{figure} {row[figure]:.1f}" for figure in row["range"])
            lines.append(f"{name:16}{shown}{_quality(row)}")
    for name, ratio in found["ratios"].items():
        span = found["ratio_ranges"].get(name)
        lines.append(f"{name:50}{ratio:>8.4f}" + (f"   {span[0]:.3f}-{span[1]:.3f} within a round" if span else ""))
    return "\n".join(lines)


def _quality(row: dict[str, Any]) -> str:
    remarks = [*(["disturbed"] if row["disturbed"] else []), *row.get("marks", [])]
    return f"  {row['clean']}/{row['samples']} {'; '.join(remarks)}".rstrip()


def grow(given: argparse.Namespace) -> dict[str, Any]:
    """Run the measurements of growth; return rows, and the cost at each size as a multiple of the smallest."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        world = rows.World(stack, servers.Tools.find(), folder)
        found = growth.run(world, given.rounds, given.seconds, say)
    return {"rows": found, "ratios": growth.flatness(found), "ratio_ranges": {}}


def main() -> None:
    given = options(sys.argv[1:])
    if given.document:
        document.write(BUILD / "bench.json", servers.ROOT / "docs" / "benchmarks.md")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending what was started
    began = time.monotonic()
    try:
        found = grow(given) if given.growth else run(given)
    except (processes.Missing, rounds.Refuted) as error:
        raise SystemExit(str(error)) from None
    found["conditions"] = conditions.of_this_run(given.seconds, given.rounds, time.monotonic() - began)
    print(table(found))
    print(f"{_keep(given, found).relative_to(servers.ROOT)} ({found['conditions']['took_seconds']} s)")


def _keep(given: argparse.Namespace, found: dict[str, Any]) -> Path:
    """Write what was found: a whole run replaces the last one, growth stands beside it, a part stands elsewhere."""
    BUILD.mkdir(exist_ok=True)
    whole = BUILD / "bench.json"
    file = BUILD / "bench-partial.json" if given.rows else whole
    before = json.loads(whole.read_text()) if whole.exists() else {}
    if given.growth:
        found = before | {"growth": found}
    elif not given.rows and "growth" in before:
        found["growth"] = before["growth"]
    file.write_text(json.dumps(found, indent=1) + "\n")
    return file


if __name__ == "__main__":
    main()
