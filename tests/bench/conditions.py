"""Under which conditions a run was made: the machine, the versions, and when."""

import datetime as dt
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench import processes, servers


def of_this_run(seconds: float, rounds: int, took: float) -> dict[str, Any]:
    """Return what a reader must know to judge the figures."""
    tools = servers.Tools.find()
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": len(processes.CORES),
        "kernel": platform.release(),
        "versions": {
            "identity-gateway": version("identity-gateway"),
            "Python": platform.python_version(),
            "uvloop": version("uvloop"),
            "httptools": version("httptools"),
            "cryptography": version("cryptography"),
            "nginx": _said(tools.nginx, "-v"),
            "Envoy": _said(tools.envoy, "--version"),
            "wrk": _said(tools.wrk, "--version"),
        }
        | _peers(tools.python),
        "seconds": seconds,
        "rounds": rounds,
        "took_seconds": round(took),
    }


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _said(program: str, option: str) -> str:
    done = subprocess.run([program, option], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "?"


def _peers(python: str) -> dict[str, str]:
    names = ("fastapi", "httpx", "pyjwt", "uvicorn")
    asked = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    done = subprocess.run([python, "-c", asked, *names], capture_output=True, text=True, timeout=20, check=True)
    return {f"{name} of the peer": found for name, found in zip(names, done.stdout.split(), strict=True)}
