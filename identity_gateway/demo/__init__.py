"""The demo: a gateway on SQLite, an agent written with the official SDK, and an OIDC issuer, all on this machine.

`walk` starts the three, registers the agent through boto3, and shows a signed call, a streamed call with a JWT, and
refusals. Every step is checked: `ONCE` ends with 0 only if each of them held.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from identity_gateway.demo.calls import Calls

FOLDER = Path("build") / "demo"
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the parts of the demo listen."""

    gateway: str
    agent: str
    issuer: str


class DemoFailedError(Exception):
    """A step of the demo did not hold."""


def walk(*, once: bool) -> int:
    """Start everything, show every step, and stay up until Ctrl-C unless `once`. Return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    client_secret = secrets.token_urlsafe(24)
    data = FOLDER / time.strftime("%Y%m%d-%H%M%S")
    data.mkdir(parents=True, exist_ok=True)
    try:
        with _parts(data, client_secret) as parts:
            calls = Calls.prepare(parts.gateway, parts.agent, parts.issuer, data / "gateway", client_secret)
            environment = calls.write_environment(data / "demo.env")
            for number, (title, step) in enumerate(calls.steps(), start=1):
                _show(number, title, step)
            print(_FAREWELL.format(environment=environment, **calls.commands()))
            if not once:
                print("Everything stays up until you press Ctrl-C.")
                signal.pause()
    except KeyboardInterrupt:
        print("\nStopped.")
    except DemoFailedError as error:
        print(f"\nThe demo failed: {error}\nThe logs are in {data}.", file=sys.stderr)
        return 1
    return 0


def _show(number: int, title: str, step: Callable[[], Any]) -> None:
    print(f"{number}. {title}")
    try:
        for line in step():
            print(f"   {line}")
    except Exception as error:
        message = f"step {number} ({title}): {error}"
        raise DemoFailedError(message) from error


@contextmanager
def _parts(data: Path, client_secret: str) -> Iterator[Parts]:
    gateway, agent, issuer = _port(8080), _port(8081), _port(8082)
    allowed = {"IDENTITY_GATEWAY_EGRESS_ALLOW": "127.0.0.0/8"}
    serve = ["identity_gateway", "serve", "--port", str(gateway), "--data-dir", str(data / "gateway")]
    with ExitStack() as stack:
        running = []
        for name, module, extra in (
            ("issuer", ["identity_gateway.demo.issuer", "--port", str(issuer)], {"DEMO_CLIENT_SECRET": client_secret}),
            ("agent", ["identity_gateway.demo.agent", "--port", str(agent)], {}),
            ("gateway", serve, allowed),
        ):
            running.append(stack.enter_context(_process(data / f"{name}.log", module, extra)))
        parts = Parts(*(f"http://127.0.0.1:{port}" for port in (gateway, agent, issuer)))
        for process, url in zip(
            running,
            (f"{parts.issuer}/.well-known/openid-configuration", f"{parts.agent}/ping", f"{parts.gateway}/readyz"),
            strict=True,
        ):
            _wait(process, url)
        yield parts


@contextmanager
def _process(log: Path, module: list[str], extra: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_GATEWAY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module], env=inherited | extra, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(preferred: int) -> int:
    """Return the preferred port if it is free, otherwise any free one."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    message = "no free port on 127.0.0.1"
    raise DemoFailedError(message)


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.1)
    message = f"{url} does not answer"
    raise DemoFailedError(message)


_FAREWELL = """
Repeat it yourself, in another terminal:

  . {environment}

  # a signed call, with unmodified boto3
  {signed}

  # a streamed call with a JWT
  {token}
  {streamed}

  # a forged token
  {forged}
"""

__all__ = ["DemoFailedError", "walk"]
