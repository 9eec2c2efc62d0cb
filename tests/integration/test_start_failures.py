"""A gateway that cannot start says why in one sentence, ends with an error, and repeats no secret."""

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateways import RunningGateway, free_port

SECRET = "hunter2-the-password"
BOUND = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="gateway-"))
    yield made
    shutil.rmtree(made)


def start_of(folder: Path, *, workers: int = 1, **settings: str) -> tuple[int, str]:
    """Return the exit code and what was said of a gateway that must not come up."""
    running = RunningGateway(folder, workers=workers, **settings)
    try:
        running.start(wait=False)
        assert running.process is not None
        return running.process.wait(BOUND), running.log
    finally:
        running.kill()


def sentence(said: tuple[int, str]) -> str:
    """Return the one line of a refused start."""
    code, log = said
    assert code in {1, 3}, log
    assert ("Traceback" in log, SECRET in log) == (False, False), log
    lines = [line for line in log.splitlines() if '"level": "info"' not in line]
    assert len(lines) == 1, log
    return lines[0]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken(folder: Path, taken_port: int, workers: int):
    said = sentence(served_on(folder, taken_port, workers))
    assert f"cannot listen on 127.0.0.1:{taken_port}: Address already in use" in said


def served_on(folder: Path, port: int, workers: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "identity_gateway", "serve", "--port", str(port), "--workers", str(workers)]
    environment = RunningGateway(folder).environment
    done = subprocess.run(
        [*command, "--data-dir", str(folder / "data")],
        env=environment, capture_output=True, text=True, timeout=BOUND, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_port_that_is_taken_is_noticed_before_any_state_is_made(folder: Path, taken_port: int):
    served_on(folder, taken_port, 1)
    assert not (folder / "data").exists()


def test_a_metrics_port_that_is_taken(folder: Path, taken_port: int):
    said = sentence(start_of(folder, metrics_port=str(taken_port)))
    assert f"cannot listen on 127.0.0.1:{taken_port}: Address already in use" in said


def test_an_address_that_is_not_of_this_machine(folder: Path):
    assert "cannot listen on 192.0.2.1:" in sentence(start_of(folder, host="192.0.2.1"))


def test_a_data_folder_that_cannot_be_made(folder: Path):
    (folder / "data").write_text("a file stands in its place")
    assert f"the data folder {folder / 'data'} cannot be used" in sentence(start_of(folder))


def test_a_master_key_file_that_holds_no_key(folder: Path):
    (folder / "data").mkdir()
    (folder / "data" / "master.key").write_text("short")
    assert "does not hold a master key of 32 bytes" in sentence(start_of(folder))


def test_a_database_file_that_is_none(folder: Path):
    (folder / "data").mkdir()
    (folder / "data" / "gateway.sqlite").write_bytes(b"not a database, " * 100)
    assert "records:" in sentence(start_of(folder))


@pytest.mark.parametrize(
    "url",
    [f"mysql://user:{SECRET}@127.0.0.1/db", f"sqlite://user:{SECRET}@host/db", f"{SECRET}", "sqlite://"],
)
def test_a_database_url_of_another_kind(folder: Path, url: str):
    assert "DATABASE_URL cannot be used: " in sentence(start_of(folder, database_url=url))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_database_that_does_not_answer(folder: Path, workers: int):
    url = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/db"
    code, log = start_of(folder, workers=workers, database_url=url)
    reasons = {line.partition('"reason": ')[2].partition(",")[0] for line in log.splitlines() if '"reason": ' in line}
    assert (code, reasons) == (3, {'"records: ConnectionRefusedError"'})
    assert (SECRET in log, "Traceback" in log) == (False, False)


def test_a_redis_url_of_another_kind(folder: Path):
    assert "REDIS_URL cannot be used: " in sentence(start_of(folder, redis_url=f"http://user:{SECRET}@127.0.0.1/0"))


def test_an_authority_file_that_holds_none(folder: Path):
    (folder / "ca.pem").write_text("no certificate")
    assert "certificate authorities" in sentence(start_of(folder, egress_ca_file=str(folder / "ca.pem")))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_certificate_that_is_not_there(folder: Path, workers: int):
    missing = str(folder / "missing.pem")
    said = sentence(start_of(folder, workers=workers, tls_cert_file=missing, tls_key_file=missing))
    assert "TLS_CERT_FILE and TLS_KEY_FILE cannot be used: No such file or directory" in said


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("drain_delay", "long", "IDENTITY_GATEWAY_DRAIN_DELAY"),
        ("master_key", SECRET, "master_key must be 32 bytes"),
        ("root_secret_access_key", SECRET, "must be given together"),
        ("no_such_setting", SECRET, "unknown setting: IDENTITY_GATEWAY_NO_SUCH_SETTING"),
        ("egress_allow", "everywhere", "IDENTITY_GATEWAY_EGRESS_ALLOW"),
        ("master_key_file", "/no/such/file", "IDENTITY_GATEWAY_MASTER_KEY_FILE cannot be read"),
    ],
)
def test_a_setting_that_is_refused(folder: Path, name: str, value: str, expected: str):
    environment = {name: value}
    running = RunningGateway(folder, **environment)
    done = running.command("serve", "--port", str(running.port))
    assert expected in sentence((done.returncode, done.stdout + done.stderr))


@pytest.mark.parametrize("command", [("access-key", "list"), ("access-key", "create", "--name", "x")])
def test_a_command_on_a_database_that_does_not_answer(folder: Path, command: tuple[str, ...]):
    url = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/db"
    done = RunningGateway(folder, database_url=url).command(*command)
    said = sentence((done.returncode, done.stdout + done.stderr))
    assert said == "identity-gateway: records: ConnectionRefusedError"


def test_a_port_that_is_free_again_is_taken_at_once(folder: Path):
    running = RunningGateway(folder)
    for _ in range(2):
        running.start()
        assert running.status("/healthz") == 200
        running.kill()
