"""Every row that a load generator measures: who is asked, with what, and what must be refused first."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.bench import calls, gateways, servers
from tests.bench.calls import Fresh, Rotating, Source
from tests.bench.issuer import SESSIONS, Issuer, corrupted
from tests.bench.servers import Server, Tools
from tests.fakes.authority import Authority
from tests.fakes.consenting_vendor import ConsentingVendor
from tests.gateways import free_port

SMALL = calls.body(150)
_KIB_64, _MIB = 65_536, 1_048_576


@dataclass
class Row:
    """One line of the table. `refused` are requests that must be answered with 401 or 403.

    `before` is sent before a sample where the row's own requests must not be sent twice.
    """

    server: Server
    source: Source
    good: Callable[[], bytes]
    refused: Sequence[Callable[[], bytes]] = ()
    connections: int = 32
    upstream: bool = True  # whether nginx stands behind it, which counts connections
    shorter: float = 1.0
    pause: int = 0
    before: Source | None = None

    @property
    def warm(self) -> Source:
        """What is sent before a sample: requests that may be sent again."""
        return self.before or self.source


class World:
    """What the rows share, started when the first row needs it and ended with the stack."""

    def __init__(self, stack: ExitStack, tools: Tools, folder: Path) -> None:
        self.stack, self.tools, self.folder = stack, tools, folder
        port = free_port()
        self.issuer = Issuer(f"http://127.0.0.1:{port}")
        token = '{"access_token":"%s","token_type":"Bearer","expires_in":36000}' % ("v" * 40)
        documents = self.issuer.documents | {"/token": token}
        self.upstream = servers.upstream(stack, tools, folder / "upstream", port, documents)
        self.asked = 0  # times that the upstream was asked for its counters
        self.cached = self.issuer.tokens("RS256", SESSIONS)

    @cached_property
    def agent(self) -> Server:
        return servers.agent(self.stack, self.folder)

    @cached_property
    def certificate(self) -> Path:
        return Authority(self.folder).certify("127.0.0.1")

    @cached_property
    def nginx(self) -> Server:
        return servers.nginx(self.stack, self.tools, self.folder / "nginx", self.upstream.port)

    @cached_property
    def plain_proxy(self) -> Server:
        return servers.plain_proxy(self.stack, self.tools, self.folder / "plain", self.upstream.url, self.issuer)

    @cached_property
    def envoy_plain(self) -> Server:
        return servers.envoy(self.stack, self.tools, self.folder / "envoy-plain", self.upstream.port)

    @cached_property
    def envoy_cached(self) -> Server:
        return servers.envoy(self.stack, self.tools, self.folder / "envoy", self.upstream.port, self.issuer)

    @cached_property
    def envoy_uncached(self) -> Server:
        return servers.envoy(
            self.stack, self.tools, self.folder / "envoy-uncached", self.upstream.port, self.issuer, cached=False
        )

    @cached_property
    def envoy_tls(self) -> Server:
        return servers.envoy(
            self.stack, self.tools, self.folder / "envoy-tls", self.upstream.port, self.issuer,
            certificate=self.certificate,
        )  # fmt: skip

    @cached_property
    def estate(self) -> gateways.Estate:
        vendor = self.stack.enter_context(ConsentingVendor())
        return gateways.prepare(self.folder / "estate", self.issuer, vendor, self.upstream.url, self.agent.url)

    @cached_property
    def gateway(self) -> gateways.Subject:
        return gateways.start(self.stack, self.estate, self.folder / "gateway")

    @cached_property
    def gateway_tls(self) -> gateways.Subject:
        return gateways.start(self.stack, self.estate, self.folder / "gateway-tls", certificate=self.certificate)

    @cached_property
    def gateway_2_workers(self) -> gateways.Subject:
        return gateways.start(self.stack, self.estate, self.folder / "gateway-2", workers=2)


def _open(world: World, server: Server) -> Row:
    url = f"{server.url}/invocations"
    requests = [calls.with_token(url, token, number, SMALL) for number, token in enumerate(world.cached)]
    return Row(server, Rotating(lambda: requests), lambda: requests[0])


def _with_jwt(world: World, server: Server, url: str, source: Source | None = None, algorithm: str = "RS256") -> Row:
    tokens = world.issuer.tokens(algorithm, SESSIONS)

    def request(token: str | None, number: int = 0) -> bytes:
        return calls.with_token(url, token, number, SMALL)

    rotating = Rotating(lambda: [request(token, number) for number, token in enumerate(tokens)])
    return Row(
        server,
        source or rotating,
        lambda: request(tokens[0]),
        [lambda: request(corrupted(tokens[0])), lambda: request(None)],
        shorter=1.0 if source is None else 0.5,
        before=rotating,
    )


def _peer_with_jwt(world: World, server: Server) -> Row:
    return _with_jwt(world, server, f"{server.url}/invocations")


def _peer_uncached(world: World, server: Server, algorithm: str) -> Row:
    url = f"{server.url}/invocations"
    source = Fresh(world.issuer, algorithm, url, SMALL, once=False)
    return _with_jwt(world, server, url, source, algorithm)


def _gateway_with_jwt(subject: gateways.Subject, world: World) -> Row:
    return _with_jwt(world, subject.server, subject.gateway.invocation_url(world.estate.with_jwt))


def _gateway_uncached(world: World, algorithm: str) -> Row:
    url = world.gateway.gateway.invocation_url(world.estate.with_jwt)
    return _with_jwt(world, world.gateway.server, url, Fresh(world.issuer, algorithm, url, SMALL), algorithm)


def _paced(row: Row) -> Row:
    """Ask no more than about 3,200 times a second: latencies of two rows can be compared at the same load only."""
    row.pause = 10
    return row


def _signed(world: World, url: str, contents: Sequence[bytes], headers: Callable[[int], dict[str, str]]) -> Row:
    key = world.estate.key

    def request(number: int, secret: str = key[1]) -> bytes:
        return calls.signed(url, (key[0], secret), contents[number % len(contents)], headers(number))

    return Row(
        world.gateway.server,
        Rotating(lambda: [request(number) for number in range(SESSIONS)], anew=True),
        lambda: request(0),
        [lambda: request(0, "x" * 40), lambda: calls.post(url, calls.JSON_TYPE | headers(0), contents[0])],
    )


def _sigv4(world: World, size: int, connections: int, *, reads_body: bool) -> Row:
    arn = world.estate.agent_with_signature if reads_body else world.estate.with_signature
    row = _signed(
        world,
        world.gateway.gateway.invocation_url(arn),
        [calls.body(size)],
        lambda number: {calls.SESSION_HEADER: calls.session(number)},
    )
    row.connections, row.upstream = connections, not reads_body
    return row


def _vend(world: World, path: str, contents: Sequence[str]) -> Row:
    url, asked = world.gateway.gateway.url + path, [content.encode() for content in contents]
    row = _signed(world, url, asked, lambda number: {"x-number": str(number)})
    row.upstream = False
    return row


def people(estate: gateways.Estate) -> list[str]:
    """Return what asks for the tokens that the vault keeps for some users."""
    asked = (
        '{"workloadIdentityToken":"%s","resourceCredentialProviderName":"people","scopes":["parcels"],'
        '"oauth2Flow":"USER_FEDERATION","resourceOauth2ReturnUrl":"%s"}'
    )
    return [asked % (access, estate.back) for access in estate.access]


def _vend_oauth2(world: World) -> Row:
    return _vend(world, "/identities/oauth2/token", people(world.estate))


def _vend_oauth2_machine(world: World) -> Row:
    asked = '{"workloadIdentityToken":"%s","resourceCredentialProviderName":"vendor","oauth2Flow":"M2M","scopes":["a"]}'
    return _vend(world, "/identities/oauth2/token", [asked % world.estate.workload_token])


def _vend_api_key(world: World) -> Row:
    asked = '{"workloadIdentityToken":"%s","resourceCredentialProviderName":"api-key"}'
    return _vend(world, "/identities/api-key", [asked % world.estate.workload_token])


ROWS: dict[str, Callable[[World], Row]] = {
    "nginx_plain": lambda world: _open(world, world.nginx),
    "envoy_plain": lambda world: _open(world, world.envoy_plain),
    "envoy_jwt_cached": lambda world: _peer_with_jwt(world, world.envoy_cached),
    "envoy_jwt_uncached": lambda world: _peer_uncached(world, world.envoy_uncached, "RS256"),
    "envoy_jwt_es256_uncached": lambda world: _peer_uncached(world, world.envoy_uncached, "ES256"),
    "envoy_tls_jwt_cached": lambda world: _peer_with_jwt(world, world.envoy_tls),
    "fastapi_httpx": lambda world: _peer_with_jwt(world, world.plain_proxy),
    "gateway_jwt_cached": lambda world: _gateway_with_jwt(world.gateway, world),
    "gateway_rs256_uncached": lambda world: _gateway_uncached(world, "RS256"),
    "gateway_es256_uncached": lambda world: _gateway_uncached(world, "ES256"),
    "gateway_sigv4_small": lambda world: _sigv4(world, 200, 32, reads_body=False),
    "gateway_sigv4_64k": lambda world: _sigv4(world, _KIB_64, 16, reads_body=True),
    "gateway_sigv4_1m": lambda world: _sigv4(world, _MIB, 8, reads_body=True),
    "gateway_tls_jwt_cached": lambda world: _gateway_with_jwt(world.gateway_tls, world),
    "gateway_jwt_cached_2_workers": lambda world: _gateway_with_jwt(world.gateway_2_workers, world),
    "envoy_jwt_cached_paced": lambda world: _paced(_peer_with_jwt(world, world.envoy_cached)),
    "gateway_jwt_cached_paced": lambda world: _paced(_gateway_with_jwt(world.gateway, world)),
    "vend_oauth2_hit": _vend_oauth2,
    "vend_oauth2_machine": _vend_oauth2_machine,
    "vend_api_key": _vend_api_key,
    "vend_workload_token": lambda world: _vend(
        world, "/identities/GetWorkloadAccessToken", ['{"workloadName":"%s"}' % world.estate.workload]  # noqa: UP031
    ),
}  # fmt: skip

QUICK = (
    "nginx_plain", "envoy_plain", "envoy_jwt_cached", "fastapi_httpx", "gateway_jwt_cached", "gateway_sigv4_small",
)  # fmt: skip
