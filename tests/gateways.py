"""A gateway as its users run it: a process of its own, reached over a socket, with real boto3 clients.

Fixtures: `gateway` (SQLite, one per test process), `agent` (a real ASGI server that tells what it received), and
`runtime_of` to register an agent. A test that kills, drains or fills its gateway runs its own (`running_gateway`).
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.config import Config

REGION = "us-east-1"
ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/agent"
START_SECONDS = 60.0
_NAMES = itertools.count()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningGateway:
    """A gateway process. `log` is what it wrote to standard error so far."""

    def __init__(self, folder: Path, *, workers: int = 1, **settings: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._workers = workers
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("IDENTITY_GATEWAY_", "AWS_")) and not name.lower().endswith("_proxy")
        } | {
            "IDENTITY_GATEWAY_EGRESS_ALLOW": "127.0.0.0/8",
            **{f"IDENTITY_GATEWAY_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        return self.folder / "gateway.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def root_key(self) -> tuple[str, str]:
        kept = json.loads((self.data_dir / "root-access-key.json").read_text())
        return kept["accessKeyId"], kept["secretAccessKey"]

    def start(self, *, wait: bool = True) -> "RunningGateway":
        command = [sys.executable, "-m", "identity_gateway", "serve", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--workers", str(self._workers)]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log[-3000:]}")
            if self.status("/readyz") == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"the gateway was not ready in {START_SECONDS} s:\n{self.log[-3000:]}")

    def status(self, path: str) -> int:
        """Return the status of a GET, 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line on this gateway's data folder."""
        environment = self.environment | {"IDENTITY_GATEWAY_DATA_DIR": str(self.data_dir)}
        return subprocess.run(
            [sys.executable, "-m", "identity_gateway", *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def client(self, service: str, *, key: tuple[str, str] | None = None, attempts: int = 1, **options: Any) -> Any:
        """Return an unmodified boto3 client for `bedrock-agentcore` or `bedrock-agentcore-control`."""
        key_id, secret = key or self.root_key
        return boto3.session.Session().client(
            service,
            endpoint_url=self.url,
            region_name=options.pop("region", REGION),
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": attempts}, **options),
        )

    @property
    def control(self) -> Any:
        return self.client("bedrock-agentcore-control")

    @property
    def data(self) -> Any:
        return self.client("bedrock-agentcore")

    def invocation_url(self, arn: str, query: str = "qualifier=DEFAULT") -> str:
        return f"{self.url}/runtimes/{quote(arn, safe='')}/invocations" + (f"?{query}" if query else "")

    def signal_group(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill -9, workers included."""
        if self.process is not None and self.process.poll() is None:
            self.signal_group(signal.SIGKILL)
            self.process.wait()

    def stop(self, patience: float = 30.0) -> int:
        """SIGTERM, then wait; return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self.process.returncode)


@contextmanager
def running_gateway(*, workers: int = 1, **settings: str) -> Iterator[RunningGateway]:
    """Run a gateway of its own, with settings by their lower-case names, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-"))
    running = RunningGateway(folder, workers=workers, **settings)
    try:
        yield running.start()
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def gateway() -> Iterator[RunningGateway]:
    """A gateway on SQLite that many tests share: use names of your own (`fresh_name`)."""
    with running_gateway() as running:
        yield running


def fresh_name(prefix: str = "agent") -> str:
    """Return a runtime name that no other test of this process uses."""
    return f"{prefix}_{os.getpid()}_{next(_NAMES)}"


def register(gateway: RunningGateway, url: str, *, name: str | None = None, **more: Any) -> str:
    """Register an agent that stands at `url` and return the ARN of its runtime."""
    made = gateway.control.create_agent_runtime(
        agentRuntimeName=name or fresh_name(),
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": url}},
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **more,
    )
    return str(made["agentRuntimeArn"])


RegisterRuntime = Callable[..., str]
