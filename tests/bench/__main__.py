"""`make bench`: what an invocation costs in the gateway, beside a plain FastAPI proxy, interleaved in one run.

Prints CPU microseconds per request (user and system, whole process tree of the candidate), requests per second, p50 and
p99 as medians over the rounds, and the ratios; writes build/bench.json. Candidate on the first core, load and agent on
the second. Small JSON in and out, keep-alive connections, 64 different tokens.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.bench import load
from tests.gateways import RunningGateway, free_port, register

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
CONNECTIONS = 16
TOKENS = 64
PAYLOAD = json.dumps({"prompt": "x" * 150}).encode()
_TICK = os.sysconf("SC_CLK_TCK")


@contextmanager
def process(core: int, *module: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    started = subprocess.Popen(
        [sys.executable, "-m", *module],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no threads here yet
    )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(20)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its descendants."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / _TICK + sum(cpu_seconds(int(child)) for child in children)


def wait(url: str) -> None:
    for _ in range(600):
        try:
            if httpx2.get(url, timeout=2, trust_env=False).status_code < 500:
                return
        except httpx2.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def post(path: str, port: int, headers: dict[str, str]) -> bytes:
    head = {"host": f"127.0.0.1:{port}", "content-type": "application/json", "content-length": str(len(PAYLOAD))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (head | headers).items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + PAYLOAD


def signed(gateway: RunningGateway, url: str, count: int) -> list[bytes]:
    requests = []
    for number in range(count):
        request = AWSRequest(
            "POST",
            url,
            headers={
                "content-type": "application/json",
                "x-amzn-bedrock-agentcore-runtime-session-id": f"bench-session-{number:032d}",
            },
            data=PAYLOAD,
        )
        SigV4Auth(Credentials(*gateway.root_key), "bedrock-agentcore", "us-east-1").add_auth(request)
        requests.append(post(url.partition(str(gateway.port))[2], gateway.port, dict(request.headers.items())))
    return requests


def measure(pid: int, port: int, requests: list[bytes]) -> dict[str, float]:
    before = cpu_seconds(pid)
    result = load.run(port, requests, connections=CONNECTIONS, seconds=SECONDS)
    spent = cpu_seconds(pid) - before
    count = len(result.latencies)
    if result.bad or not count:
        raise SystemExit(f"{result.bad} answers were not 200")
    ordered = sorted(result.latencies)
    return {
        "cpu_us": spent / count * 1e6,
        "rps": count / result.seconds,
        "p50_ms": ordered[count // 2] * 1e3,
        "p99_ms": ordered[int(count * 0.99)] * 1e3,
    }


def candidates(stack: ExitStack) -> dict[str, tuple[int, int, Any]]:
    """Start everything; return name -> pid, port, and what makes its requests."""
    ours, theirs = (0, 1) if len(os.sched_getaffinity(0)) > 1 else (0, 0)
    issuer_port, agent_port, peer_port = free_port(), free_port(), free_port()
    issuer, agent = f"http://127.0.0.1:{issuer_port}", f"http://127.0.0.1:{agent_port}"
    stack.enter_context(
        process(theirs, "identity_gateway.demo.issuer", "--port", str(issuer_port), DEMO_CLIENT_SECRET="bench")
    )
    stack.enter_context(
        process(theirs, "uvicorn", "tests.bench.agent:app", "--port", str(agent_port), "--log-level", "error")
    )
    wait(f"{issuer}/keys")
    wait(agent)
    peer = stack.enter_context(
        process(ours, "uvicorn", "tests.bench.plain_proxy:app", "--port", str(peer_port), "--log-level", "error",
                "--no-access-log", BENCH_AGENT=agent, BENCH_ISSUER=issuer)
    )  # fmt: skip
    gateway = RunningGateway(Path(stack.enter_context(tempfile.TemporaryDirectory())), log_level="warning")
    stack.callback(gateway.kill)
    gateway.start()
    assert gateway.process is not None
    os.sched_setaffinity(gateway.process.pid, {ours})
    for thread in Path(f"/proc/{gateway.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {ours})
    wait(f"http://127.0.0.1:{peer_port}/docs")
    os.sched_setaffinity(0, {theirs})
    authorizer = {"discoveryUrl": f"{issuer}/.well-known/openid-configuration", "allowedAudience": ["demo-agents"]}
    bearer = register(gateway, agent, authorizerConfiguration={"customJWTAuthorizer": authorizer})
    plain = register(gateway, agent)
    form = {"grant_type": "client_credentials"}
    tokens = [
        httpx2.post(f"{issuer}/token", data=form, auth=("demo-client", "bench"), trust_env=False).json()["access_token"]
        for _ in range(TOKENS)
    ]

    def with_tokens(path: str, port: int) -> list[bytes]:
        return [post(path, port, {"authorization": f"Bearer {token}"}) for token in tokens]

    bearer_path = gateway.invocation_url(bearer).partition(str(gateway.port))[2]
    return {
        "fastapi_httpx": (peer.pid, peer_port, lambda: with_tokens("/invocations", peer_port)),
        "gateway_jwt_cached": (gateway.process.pid, gateway.port, lambda: with_tokens(bearer_path, gateway.port)),
        "gateway_sigv4_small": (
            gateway.process.pid, gateway.port, lambda: signed(gateway, gateway.invocation_url(plain), TOKENS)
        ),
    }  # fmt: skip


def main() -> None:
    with ExitStack() as stack:
        running = candidates(stack)
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in running}
        for number in range(-1, ROUNDS):  # the first round warms up and is not counted
            for name in list(running)[:: 1 if number % 2 else -1]:
                pid, port, make = running[name]
                measured = measure(pid, port, make())
                if number >= 0:
                    rounds[name].append(measured)
    rows = {
        name: {figure: statistics.median(row[figure] for row in taken) for figure in taken[0]}
        for name, taken in rounds.items()
    }
    base = rows["fastapi_httpx"]["cpu_us"]
    ratios = {f"{name}/fastapi_httpx": row["cpu_us"] / base for name, row in rows.items() if name != "fastapi_httpx"}
    print(f"{'':24}{'CPU us':>10}{'range':>18}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for name, row in rows.items():
        costs = [taken["cpu_us"] for taken in rounds[name]]
        span = f"{min(costs):.0f}-{max(costs):.0f}"
        print(
            f"{name:24}{row['cpu_us']:>10.1f}{span:>18}{row['rps']:>10.0f}{row['p50_ms']:>10.2f}{row['p99_ms']:>10.2f}"
        )
    for name, ratio in ratios.items():
        print(f"{name:40}{ratio:.3f}")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench.json").write_text(json.dumps({"rows": rows, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
