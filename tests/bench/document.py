"""docs/benchmarks.md, made from what a run has written down: tables, and the conditions under which they hold."""

import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import growth, streams
from tests.bench.agent import ANSWER

HEAD = """# Benchmarks

Made by `make bench` (and `python -m tests.bench --growth`, `--document`); not written by hand. Compare rows of one run
with one another, and nothing with figures from another machine.
"""

METHOD = """
## How it was measured

- Everything on loopback. The gateway and each peer ran on the first core; the load generator (wrk, one thread,
  {connections} connections kept alive) and the upstream (nginx, which answers a POST at once with {answer} bytes of JSON)
  on the last one. Payloads of 150 bytes unless the row says otherwise.
- CPU is user and system time of the whole process tree per request, from `/proc/PID/stat`. It is the figure to compare:
  for the fastest rows the load generator's core was the limit, not the subject.
- All rows were measured in turn in each of {rounds} rounds of {seconds:g} s, forwards and backwards by turns, after one
  that did not count, and each sample after a second of the same load that did not count: the first call of a session after
  some seconds of silence takes the gateway's long way, which costs about a millisecond. Figures are medians, with the smallest and largest sample. A sample during which other processes
  used 0.15 of a core or more was taken again, twice at most; "clean" counts those without. Where none was, the row says
  "disturbed".
- Before it was measured, each row that authenticates answered 200 to a good credential and 401 or 403 to a changed one
  and to none. During it every answer was 200, and connections to the upstream were used again.
- "Cached": 64 JWTs (RS256, about 770 bytes) by turns. "Uncached": each token once (Envoy without its
  cache may meet one again). Each call names one of 64 sessions.
  Signatures were made anew before each sample, by a key with a policy of its own, and verified each time.
- The gateway ran as it ships: audit, metrics, request log, sessions, policies, limits. Peers had one plain configuration
  each, untuned: Envoy with one worker and `jwt_authn` (with a token cache where the row says cached), nginx as a proxy that
  checks nothing, and [a proxy in FastAPI, httpx and PyJWT](../tests/bench/plain_proxy.py). Two workers shared the one core.
- "Paced": each connection waits 10 ms in the mean before each request, so that both meet the same load, about 3,200
  requests a second if they keep up: the rows to compare latencies of. The others show latencies at full load.
- `vend_…`: GetResourceOauth2Token with the tokens that the vault keeps for ten users (`machine`: for the agent itself),
  GetResourceApiKey, GetWorkloadAccessToken. All signed, no upstream; the record of each is on the disk before the answer.
- Bodies of 64 KiB and more went to an agent that reads them, over 16 and 8 connections.
- Streams: {idle:,} that said one thing and then nothing; {talking} with {events} events each, 10 ms apart. Memory is the
  growth of the proportional set size. Transfers: {size} MB in one body; growth is of the highest resident size.
"""

RATIO_WORDS = "\nCPU time per request, as a multiple of the peer's; the range is that of the samples of one round.\n\n"


def write(source: Path, target: Path) -> None:
    """Write the document. Exits with a sentence when there was no whole run yet."""
    if not source.exists() or "rows" not in (found := json.loads(source.read_text())):
        raise SystemExit(f"{source.name} holds no whole run: make bench")
    target.write_text(text(found))


def text(found: dict[str, Any]) -> str:
    """Return the whole document."""
    made = found["conditions"]
    method = METHOD.format(
        connections=32, answer=len(ANSWER), rounds=made["rounds"], seconds=made["seconds"], idle=streams.IDLE, talking=streams.TALKING,
        events=streams.EVENTS, size=streams.SIZE // 1_000_000,
    )  # fmt: skip
    parts = [HEAD, _machine(made), "\n## Requests\n\n", _requests(found["rows"]), "\n## Ratios\n", RATIO_WORDS]
    parts += [_ratios(found), "\n## Streams\n\n", _streams(found["rows"]), "\n## 100 MB\n\n", _transfers(found["rows"])]
    if "growth" in found:
        parts += ["\n## Growth\n\n", _growth(found["growth"])]
    return "".join([*parts, method])


def _machine(made: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    where = f"{made['date']}; {made['cores']} cores ({made['processor']}), Linux {made['kernel']}. "
    return "\n" + textwrap.fill(f"{where}{versions}.", 118, break_on_hyphens=False) + "\n"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    shown = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in shown)


def _span(row: dict[str, Any], figure: str, digits: int = 1) -> str:
    low, high = row["range"][figure]
    return f"{low:.{digits}f}–{high:.{digits}f}"


def _name(name: str, row: dict[str, Any]) -> str:
    remarks = [*(["disturbed"] if row["disturbed"] else []), *row.get("marks", [])]
    return f"`{name}`" + (f" ({'; '.join(remarks)})" if remarks else "")


def _requests(rows: dict[str, Any]) -> str:
    head = ["row", "CPU µs", "range", "requests/s", "p50 ms", "p99 ms", "PSS MiB", "clean"]
    return _table(
        head,
        [
            [
                _name(name, row), f"{row['cpu_us']:.1f}", _span(row, "cpu_us"), f"{row['rps']:.0f}",
                f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['pss_mib']:.0f}",
                f"{row['clean']}/{row['samples']}",
            ]
            for name, row in rows.items()
            if "cpu_us" in row
        ],
    )  # fmt: skip


def _ratios(found: dict[str, Any]) -> str:
    lines = []
    for name, ratio in found["ratios"].items():
        low, high = found["ratio_ranges"].get(name, (ratio, ratio))
        lines.append([f"`{name}`", f"{ratio:.3f}", f"{low:.3f}–{high:.3f}"])
    return _table(["rows", "ratio", "range"], lines)


def _streams(rows: dict[str, Any]) -> str:
    head = ["row", "first byte, added µs", "CPU µs per event", "KiB per idle stream", "CPU µs to open", "idle CPU ms/s"]
    figures = ("first_byte_added_us", "cpu_us_per_event", "idle_kib_per_stream", "open_cpu_us", "idle_cpu_ms_per_s")
    return _figures(rows, head, figures)


def _transfers(rows: dict[str, Any]) -> str:
    head = ["row", "up MB/s", "up CPU ms", "up growth MiB", "down MB/s", "down CPU ms", "down growth MiB"]
    ways = [f"{way}_{what}" for way in ("up", "down") for what in ("mb_per_s", "cpu_ms", "grown_mib")]
    return _figures(rows, head, ways)


def _figures(rows: dict[str, Any], head: Sequence[str], figures: Sequence[str]) -> str:
    shown = {name: row for name, row in rows.items() if figures[0] in row}
    return _table(
        head,
        [[_name(name, row), *(f"{row[figure]:.1f}" for figure in figures)] for name, row in shown.items()],
    )


def _growth(grown: dict[str, Any]) -> str:
    """Calls with a JWT to ten runtimes, vends of ten users' grants, and the start, by how much is registered."""
    rows, lines = grown["rows"], []
    for size in growth.SIZES:
        jwt, grant, start = (rows[f"{kind}_{size}"] for kind in ("jwt", "grant", "start"))
        lines.append(
            [
                f"{size:,}", f"{jwt['cpu_us']:.1f}", _span(jwt, "cpu_us"), f"{grant['cpu_us']:.1f}",
                _span(grant, "cpu_us"), f"{start['start_seconds']:.2f}", f"{grant['pss_mib']:.0f}",
            ]
        )  # fmt: skip
    head = [
        "runtimes, users and grants",
        "JWT call, CPU µs",
        "range",
        "vend of a grant, CPU µs",
        "range",
        "start s",
        "PSS MiB",
    ]
    return f"{grown['conditions']['date']}.\n\n" + _table(head, lines)
