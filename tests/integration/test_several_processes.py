"""Several gateways start at the same moment on one empty store: all come up, and they are one gateway."""

import base64
import os
import re
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.gateways import RunningGateway, free_port, register, running_gateway
from tests.parts import Postgres

MASTER_KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_MASTER_KEY = base64.b64encode(bytes(32)).decode()
NOWHERE = "http://127.0.0.1:9/"


@contextmanager
def starting_together(count: int, *, data_dir: Path | None = None, **settings: str) -> Iterator[list[RunningGateway]]:
    """Start gateways at the same moment, on one data folder or each on its own, and wait for all of them."""
    with ExitStack() as stack:
        gateways = []
        for _ in range(count):
            folder = Path(tempfile.mkdtemp(prefix="gateway-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            gateway = RunningGateway(folder, **settings)
            gateway.data_dir = data_dir or gateway.data_dir
            stack.callback(gateway.kill)
            gateways.append(gateway)
        for gateway in gateways:
            gateway.start(wait=False)
        for gateway in gateways:
            gateway.wait_ready()
        yield gateways


@pytest.fixture(scope="module", params=["one data folder", "one database"])
def trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningGateway]]:
    """Three gateways that were started together on an empty store, which they share."""
    if request.param == "one data folder":
        with starting_together(3, data_dir=tmp_path_factory.mktemp("shared") / "data") as gateways:
            yield gateways
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    with starting_together(3, database_url=server.create_database(), master_key=MASTER_KEY) as gateways:
        yield gateways


def test_gateways_that_start_together_share_one_root_key(trio: list[RunningGateway]):
    assert len({gateway.root_key for gateway in trio}) == 1


def test_gateways_that_start_together_see_at_once_what_one_of_them_registered(trio: list[RunningGateway]):
    first, *others = trio
    made = [first.control.create_workload_identity(name=f"shared-{number}")["name"] for number in range(3)]
    seen = [[other.control.get_workload_identity(name=name)["name"] for name in made] for other in others]
    assert seen == [made] * len(others)


def test_a_name_is_taken_once_whichever_gateway_is_asked(trio: list[RunningGateway]):
    clients = [gateway.control for gateway in trio]

    def take(client) -> bool:
        try:
            client.create_workload_identity(name="wanted-by-all")
        except client.exceptions.ConflictException:
            return False
        return True

    with ThreadPoolExecutor(len(clients)) as threads:
        assert sorted(threads.map(take, clients)) == [False, False, True]


def test_a_list_that_one_gateway_began_goes_on_at_another(trio: list[RunningGateway]):
    first, second, third = trio
    for name in ("page-a", "page-b", "page-c"):
        first.control.create_workload_identity(name=name)
    page = second.control.list_workload_identities(maxResults=2)
    rest = third.control.list_workload_identities(nextToken=page["nextToken"])
    names = [each["name"] for each in page["workloadIdentities"] + rest["workloadIdentities"]]
    assert names == sorted({*names, "page-a", "page-b", "page-c"})


def test_two_gateways_on_one_empty_data_folder_share_one_master_key(tmp_path: Path):
    with starting_together(2, data_dir=tmp_path / "data") as (first, second):
        key = (tmp_path / "data" / "master.key").read_bytes()
        first.control.create_workload_identity(name="sealed")
        second.kill()
        second.start()
        assert second.control.get_workload_identity(name="sealed")["name"] == "sealed"
    assert (len(key), (tmp_path / "data" / "master.key").read_bytes()) == (32, key)


def test_a_gateway_with_another_master_key_refuses_the_database_and_says_why(postgres_server: Postgres):
    url = postgres_server.create_database()
    with running_gateway(database_url=url, master_key=MASTER_KEY):
        other = RunningGateway(Path(tempfile.mkdtemp(prefix="gateway-")), database_url=url, master_key=OTHER_MASTER_KEY)
        try:
            other.start(wait=False)
            assert other.process is not None
            code = other.process.wait(30)
        finally:
            other.kill()
            log = other.log
            shutil.rmtree(other.folder)
    assert (code, "the master key is not the one that this database was last used with" in log) == (3, True)
    assert ("Traceback" in log, OTHER_MASTER_KEY in log) == (False, False)


# --- Workers of one gateway ---

CALLS = 24


def counted(text: str) -> int:
    """Return the requests for ListWorkloadIdentities that a metrics page counts."""
    found = re.findall(
        r'^identity_gateway_requests_total\{operation="ListWorkloadIdentities".*\} (\S+)$', text, re.MULTILINE
    )
    return round(sum(map(float, found)))


def read(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def counted_soon(url: str, **headers: str) -> int:
    """Return what a metrics page counts when it has the calls, or at last: a worker shows its own a moment later."""
    end = time.monotonic() + 10
    while (found := counted(read(url, **headers))) < CALLS and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[RunningGateway, int]]:
    """A gateway of two workers that answered CALLS calls, and the port of its metrics."""
    port = free_port()
    with running_gateway(workers=2, metrics_port=str(port), metrics_token="let-me-see") as running:

        def call(_number: int) -> None:
            running.control.list_workload_identities()  # a client, and so a connection, of its own

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(call, range(CALLS)))
        yield running, port


def test_two_workers_serve_one_runtime(workers: tuple[RunningGateway, int], agent):
    arn = register(workers[0], agent.url)
    clients = [workers[0].data for _ in range(6)]
    lengths = [client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"12345")["statusCode"] for client in clients]
    assert lengths == [200] * 6


def test_the_metrics_port_adds_up_what_the_workers_did(workers: tuple[RunningGateway, int]):
    assert counted_soon(f"http://127.0.0.1:{workers[1]}/metrics") == CALLS


def test_metrics_by_token_add_up_what_the_workers_did(workers: tuple[RunningGateway, int]):
    assert counted_soon(workers[0].url + "/metrics", authorization="Bearer let-me-see") == CALLS


def test_metrics_ask_for_their_token(workers: tuple[RunningGateway, int]):
    assert workers[0].status("/metrics") == 401


def test_metrics_are_not_public_by_default(gateway: RunningGateway):
    assert gateway.status("/metrics") == 404


def test_a_worker_that_is_killed_is_replaced_and_meanwhile_the_other_one_serves():
    with running_gateway(workers=2) as running:
        before = worker_pids(running)
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 30
        while before[0] in worker_pids(running) or len(worker_pids(running)) < 2:
            assert time.monotonic() < deadline
            assert running.status("/healthz") == 200
            time.sleep(0.05)


def worker_pids(running: RunningGateway) -> list[int]:
    """Return the processes that the supervisor has spawned to serve."""
    assert running.process is not None
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
