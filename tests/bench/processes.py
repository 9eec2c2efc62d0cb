"""The processes of a run: started on a core, measured through /proc, ended by their ids. It knows no server by name."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.bench import figures

TICK = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE, LOAD_CORE = CORES[0], CORES[-1]


class Missing(Exception):
    """A part of the system is not there. The text says how to get it."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started meanwhile stays on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(stack: ExitStack, core: int, command: list[str], log: Path, **environment: str) -> int:
    """Start a process on a core and return its id; it ends with the stack. What it says goes to the log."""
    with on_core(core), log.open("ab") as said:
        started = subprocess.Popen(
            command, env=os.environ | environment, stdout=said, stderr=said, start_new_session=True
        )
    stack.callback(_end, started)
    return started.pid


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(3)
    with suppress(ProcessLookupError):  # itself, if it is slow, and workers that outlived it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_port(port: int, pid: int, log: Path, seconds: float = 30) -> None:
    """Wait until somebody listens. Raises RuntimeError with the end of the log when the process ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if not Path(f"/proc/{pid}/stat").exists() or state(pid) == "Z":
            break
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens at port {port}:\n{log.read_text(errors='replace')[-3000:]}")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = figures.stat_parent((entry / "stat").read_text())
    return figures.descendants(parents, pid)


def cpu_seconds(pids: list[int], *, reaped: bool = False) -> float:
    """Return user and system time of the processes; `reaped` adds that of children that ended."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            ticks = figures.stat_ticks(Path(f"/proc/{pid}/stat").read_text())
            total += sum(ticks) if reaped else ticks[0] + ticks[1]
    return total / TICK


def memory_kib(pids: list[int], name: str = "Pss") -> int:
    """Return the sum of one figure of memory: Pss (shares divided), Private_Dirty, or VmHWM (the highest resident)."""
    file = "status" if name.startswith("Vm") else "smaps_rollup"
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += figures.kib(Path(f"/proc/{pid}/{file}").read_text(), name)
    return total


def forget_high_water(pids: list[int]) -> None:
    """Let VmHWM start again from what is resident now."""
    for pid in pids:
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


class Foreign:
    """How much of a core processes used that this run did not start, since the object was made."""

    def __init__(self) -> None:
        self._began, self._busy, self._ours = time.monotonic(), _busy_seconds(), _our_seconds()

    def cores(self) -> float:
        passed = time.monotonic() - self._began
        busy, ours = _busy_seconds() - self._busy, _our_seconds() - self._ours
        return max(0.0, (busy - ours) / passed) if passed else 0.0


def _busy_seconds() -> float:
    return figures.busy_ticks(Path("/proc/stat").read_text()) / TICK


def _our_seconds() -> float:
    return cpu_seconds(tree(os.getpid()), reaped=True)


def system_part(program: str, package: str) -> str:
    """Return the path of a system program; installs its package on Debian as root. Raises Missing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    if found := shutil.which(program, path=path):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # the latter: installing must not start it
        for command in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *command], env=os.environ | quiet, check=True, stdout=subprocess.DEVNULL)
        if found := shutil.which(program, path=path):
            return found
    raise Missing(f"{program} is missing: apt-get install {package}")
