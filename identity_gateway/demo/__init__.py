"""The demo: a gateway on SQLite, an agent written with the official SDK, and what they deal with, all on this machine.

`walk` starts an OIDC issuer, a vendor with a consent page, a web application and the agent, registers them through
boto3, and shows signed calls, streamed calls with a JWT, refusals, a user's consent, and credentials of the agent's
own. Every step is checked: `ONCE` ends with 0 only if each of them held.
"""

import json
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

from identity_gateway.demo.calls import REGION, Calls
from identity_gateway.demo.credentials import AGENT_POLICY, APPLICATION_POLICY, Credentials

FOLDER = Path("build") / "demo"
_PATIENCE = 60.0
_CONSENT_PATIENCE = 600
"""Seconds that a person may take to click."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the parts of the demo listen."""

    gateway: str
    agent: str
    issuer: str
    vendor: str
    application: str


class DemoFailedError(Exception):
    """A step of the demo did not hold."""


def walk(*, once: bool) -> int:
    """Start everything, show every step, and stay up until Ctrl-C unless `once`. Return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    client_secret, vendor_secret = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    data = FOLDER / time.strftime("%Y%m%d-%H%M%S")
    data.mkdir(parents=True, exist_ok=True)
    try:
        with _parts(data, client_secret, vendor_secret) as parts:
            calls = Calls.prepare(parts.gateway, parts.agent, parts.issuer, data / "gateway", client_secret)
            environment = calls.write_environment(data / "demo.env")
            credentials = Credentials(
                calls.client("bedrock-agentcore-control"),
                calls.client("bedrock-agentcore", patience=_CONSENT_PATIENCE),
                parts.vendor,
                vendor_secret,
                parts.application,
                agent=lambda: calls.signed_agent,
                click=once,
            )
            for number, (title, step) in enumerate([*calls.steps(), *credentials.steps()], start=1):
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
def _parts(data: Path, client_secret: str, vendor_secret: str) -> Iterator[Parts]:
    ports = [_port(preferred) for preferred in range(8080, 8085)]
    parts = Parts(*(f"http://127.0.0.1:{port}" for port in ports))
    gateway, agent, issuer, vendor, application = map(str, ports)
    folder = data / "gateway"
    with ExitStack() as stack:

        def run(name: str, module: list[str], extra: dict[str, str], url: str) -> None:
            _wait(stack.enter_context(_process(data / f"{name}.log", module, extra)), url)

        serve = ["identity_gateway", "serve", "--port", gateway, "--data-dir", str(folder)]
        run("gateway", serve, {"IDENTITY_GATEWAY_EGRESS_ALLOW": "127.0.0.0/8"}, f"{parts.gateway}/readyz")
        part = "identity_gateway.demo."
        run(
            "issuer",
            [part + "issuer", "--port", issuer],
            {"DEMO_CLIENT_SECRET": client_secret},
            f"{parts.issuer}/.well-known/openid-configuration",
        )
        run(
            "vendor",
            [part + "vendor", "--port", vendor, "--gateway", parts.gateway],
            {"DEMO_VENDOR_SECRET": vendor_secret},
            f"{parts.vendor}/.well-known/openid-configuration",
        )
        run(
            "application",
            [part + "application", "--port", application],
            _credentials(folder, parts.gateway, "application", APPLICATION_POLICY),
            f"{parts.application}/",
        )
        where = {"DEMO_VENDOR": parts.vendor, "DEMO_RETURN_URL": f"{parts.application}/return"}
        run(
            "agent",
            [part + "agent", "--port", agent],
            _credentials(folder, parts.gateway, "agent", AGENT_POLICY) | where,
            f"{parts.agent}/ping",
        )
        yield parts


def _credentials(folder: Path, gateway: str, name: str, policy: dict[str, Any]) -> dict[str, str]:
    """Make an access key that may do just this, and return what the SDK reads from the environment."""
    file = folder.parent / f"{name}-policy.json"
    file.write_text(json.dumps(policy))
    command = [sys.executable, "-m", "identity_gateway", "access-key", "create", "--name", name, "--policy", str(file)]
    made = subprocess.run(
        [*command, "--data-dir", str(folder), "--json"], env=_inherited(), capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise DemoFailedError(made.stderr.strip())
    key = json.loads(made.stdout)
    return {
        "AWS_ACCESS_KEY_ID": key["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["secretAccessKey"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": gateway,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": gateway,
    }


def _inherited() -> dict[str, str]:
    ours = ("IDENTITY_GATEWAY_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextmanager
def _process(log: Path, module: list[str], extra: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=_inherited() | extra,
            stdout=output,
            stderr=output,
            start_new_session=True,
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
