"""The load generator, wrk, with requests that were made before; and single requests that check what a row claims."""

import json
import socket
import ssl
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench import processes

SCRIPT = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True)
class Answered:
    """What one run of the load generator saw."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    following: int


def run(
    program: str, url: str, file: Path, first: int, *, connections: int, seconds: float, pause: int = 0
) -> Answered:
    """Send the requests of the file in turn, each connection the next when its answer is complete.

    With a `pause` (milliseconds, in the mean) it waits in between: the load is then about the same for everybody.
    """
    command = [
        program,
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "20s",
        "-s",
        str(SCRIPT),
    ]
    with processes.on_core(processes.LOAD_CORE):
        done = subprocess.run(
            [*command, url, "--", str(file), str(first), str(pause)],
            capture_output=True, text=True, timeout=seconds + 60, check=False,
        )  # fmt: skip
    return read(done.stdout, done.stderr)


def read(output: str, errors: str) -> Answered:
    """Return what the script wrote among the load generator's own words. Raises RuntimeError when it wrote nothing."""
    line = next((line for line in output.splitlines() if line.startswith('{"requests"')), None)
    if line is None:
        raise RuntimeError(f"wrk failed: {output[-500:]}{errors[-500:]}")
    said = json.loads(line)
    return Answered(
        requests=said["requests"],
        seconds=said["us"] / 1e6,
        refused=said["status"],
        broken=said["socket"],
        p50_ms=said["p50_us"] / 1e3,
        p99_ms=said["p99_us"] / 1e3,
        following=said["following"],
    )


def status(port: int, request: bytes, *, tls: bool = False) -> int:
    """Send one request on a connection of its own and return the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) if tls else plain as connection:
            connection.sendall(request)
            answer = b""
            with suppress(TimeoutError):
                while b"\r\n" not in answer and (more := connection.recv(4096)):
                    answer += more
    return int(answer.split()[1]) if answer else 0
