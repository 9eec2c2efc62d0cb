"""Handshakes that try to get past the checks of HTTP: what stands behind them, beside them, or in place of credentials."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register, running_gateway
from tests.web_sockets import SENTINEL, WebSocketAgent, carrier, dial, door, presigned, signed_headers, until

_UPGRADE = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
_FRAME = b"\x81\x80\x00\x00\x00\x00"  # an empty text message, masked


@pytest.fixture
def runtime(gateway: RunningGateway, ws_agent: WebSocketAgent) -> str:
    return register(gateway, ws_agent.url)


@pytest.fixture
def guarded(gateway: RunningGateway, ws_agent: WebSocketAgent, jwt_issuer: FakeIssuer) -> str:
    return register(gateway, ws_agent.url, **guarded_by(jwt_issuer.discovery_url))


async def status_of(url: str, headers: Any = None, **more: Any) -> int:
    """Return the status with which the gateway refuses a handshake."""
    with pytest.raises(InvalidStatus) as refused:
        await dial(url, headers, **more)
    return refused.value.response.status_code


@contextmanager
def connected(gateway: RunningGateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as line:
        yield line


def head(gateway: RunningGateway, arn: str, *more: str, without: str = "", method: str = "GET") -> bytes:
    """Return a signed handshake as it stands on the wire."""
    url = door(gateway, arn)
    parts = urlsplit(url)
    fields = {**_UPGRADE, "Host": parts.netloc, **signed_headers(gateway, url)}
    lines = [f"{name}: {value}" for name, value in fields.items() if name != without]
    return "\r\n".join([f"{method} {parts.path}?{parts.query} HTTP/1.1", *lines, *more, "", ""]).encode()


def answers(gateway: RunningGateway, sent: bytes) -> bytes:
    """Return everything that the gateway says until it closes, or for half a second when it keeps the line open."""
    with connected(gateway) as line:
        line.sendall(sent)
        taken = b""
        try:
            while chunk := line.recv(65536):
                taken += chunk
                line.settimeout(0.5)
        except (TimeoutError, ConnectionResetError):
            pass
        return taken


# --- What stands behind or beside a handshake ---


def test_the_signed_handshake_of_these_tests_is_a_good_one(gateway: RunningGateway, runtime: str) -> None:
    assert answers(gateway, head(gateway, runtime)).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize(
    "framing", ["Content-Length: 40", "Transfer-Encoding: chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked"]
)
def test_a_handshake_with_a_body_is_refused(gateway: RunningGateway, runtime: str, framing: str) -> None:
    behind = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    said = answers(gateway, head(gateway, runtime, framing) + behind)
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("behind", [_FRAME, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_whatever_stands_behind_a_handshake_ends_the_connection(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent, behind: bytes
) -> None:
    said = answers(gateway, head(gateway, runtime) + behind)
    assert said.startswith(b"HTTP/1.1 400")
    assert not ws_agent.heads


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/runtimes/x/invocations", "/runtimes/x/ws/shells", "/runtimes/x/ws/"]
)
def test_no_other_path_upgrades(gateway: RunningGateway, path: str) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in _UPGRADE.items())
    said = answers(gateway, f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    assert said.startswith(b"HTTP/1.1 ")
    assert b" 101 " not in said
    assert b"upgrade: websocket" not in said.lower()


@pytest.mark.parametrize(
    ("without", "more"),
    [
        ("Sec-WebSocket-Key", ()),
        ("Sec-WebSocket-Version", ()),
        ("Sec-WebSocket-Version", ("Sec-WebSocket-Version: 8",)),
        ("", ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",)),
        ("", ("Upgrade: h2c",)),
        ("Upgrade", ("Upgrade: websocket, h2c",)),
        ("Connection", ("Connection: keep-alive",)),
        ("", ("Host: elsewhere",)),
        ("Host", ()),
    ],
)
def test_a_handshake_that_is_none_upgrades_nothing(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent, without: str, more: tuple[str, ...]
) -> None:
    said = answers(gateway, head(gateway, runtime, *more, without=without))
    assert said.split(b" ")[1] in {b"400", b"426"}
    assert not ws_agent.heads


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
def test_only_get_upgrades(gateway: RunningGateway, runtime: str, method: str) -> None:
    assert b" 101 " not in answers(gateway, head(gateway, runtime, method=method))


def test_a_handshake_of_http_1_0_upgrades_nothing(gateway: RunningGateway, runtime: str) -> None:
    assert b" 101 " not in answers(gateway, head(gateway, runtime).replace(b"HTTP/1.1", b"HTTP/1.0", 1))


def test_a_head_that_is_too_large_is_refused(gateway: RunningGateway, runtime: str) -> None:
    fields = [f"x-{number}: {'x' * 8000}" for number in range(20)]
    assert answers(gateway, head(gateway, runtime, *fields)).startswith(b"HTTP/1.1 431")


def test_a_handshake_that_does_not_end_is_not_waited_for(ws_agent: WebSocketAgent) -> None:
    with running_gateway(request_head_timeout="1") as impatient, connected(impatient) as line:
        line.sendall(b"GET /runtimes/x/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 408")


# --- Credentials ---


async def test_a_page_of_another_origin_has_nothing_of_its_visitor_to_enter_with(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
) -> None:
    ambient = {"Cookie": f"token={token_of(jwt_issuer)}; Authorization={token_of(jwt_issuer)}"}
    assert await status_of(door(gateway, guarded), ambient, origin="https://evil.example") == 401


async def test_a_token_in_the_query_is_no_credential(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
) -> None:
    url = door(gateway, guarded, f"qualifier=DEFAULT&access_token={token_of(jwt_issuer)}")
    assert await status_of(url) == 401


@pytest.mark.parametrize("offer", ["alone", "twice", "two tokens", "with another", "sentinel alone", "sentinel twice"])
async def test_a_carrier_stands_beside_the_sentinel_alone(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer, offer: str
) -> None:
    one, two = carrier(token_of(jwt_issuer)), carrier(token_of(jwt_issuer, sub="eve"))
    offered = {
        "alone": [one],
        "twice": [one, one, SENTINEL],
        "two tokens": [two, one, SENTINEL],
        "with another": [one, SENTINEL, "chat"],
        "sentinel alone": [SENTINEL],
        "sentinel twice": [SENTINEL, SENTINEL],
    }[offer]
    assert await status_of(door(gateway, guarded), subprotocols=offered) == 400


async def test_a_carrier_beside_an_authorization_header_is_refused_though_both_are_good(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
) -> None:
    token = token_of(jwt_issuer)
    shown = {"Authorization": f"Bearer {token}"}
    assert await status_of(door(gateway, guarded), shown, subprotocols=[carrier(token), SENTINEL]) == 400


@pytest.mark.parametrize("spoil", [lambda c: c + "=", lambda c: c + "AA.AA", lambda c: c[:-1] + "~", lambda c: c * 40])
async def test_a_carrier_that_is_not_base64url_of_a_token_is_refused(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer, spoil: Any
) -> None:
    spoilt = spoil(carrier(token_of(jwt_issuer)))
    shown = {"Sec-WebSocket-Protocol": f"{spoilt}, {SENTINEL}"}
    assert await status_of(door(gateway, guarded), shown) in {400, 401}


async def test_a_carrier_smuggles_no_second_header_line(gateway: RunningGateway, guarded: str) -> None:
    smuggled = [carrier("x\r\nx-amzn-bedrock-agentcore-runtime-user-id: root"), SENTINEL]
    assert await status_of(door(gateway, guarded), subprotocols=smuggled) == 401


async def test_a_presigned_url_beside_a_carrier_is_refused(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
) -> None:
    url = presigned(gateway, door(gateway, guarded))
    assert await status_of(url, subprotocols=[carrier(token_of(jwt_issuer)), SENTINEL]) == 400


async def test_a_presigned_url_beside_a_bearer_token_is_refused(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
) -> None:
    url = presigned(gateway, door(gateway, guarded))
    assert await status_of(url, {"Authorization": f"Bearer {token_of(jwt_issuer)}"}) == 400


# --- Presigned URLs ---


async def test_a_presigned_url_is_worth_nothing_once_it_has_expired(gateway: RunningGateway, runtime: str) -> None:
    url = presigned(gateway, door(gateway, runtime), expires=1)
    await until(lambda: datetime.now(UTC).timestamp() > _signed_at(url) + 2)
    assert await status_of(url) == 403


def _signed_at(url: str) -> float:
    moment = url.partition("X-Amz-Date=")[2][:16]
    return datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


async def test_a_presigned_url_may_not_be_good_for_longer_than_five_minutes(
    gateway: RunningGateway, runtime: str
) -> None:
    assert await status_of(presigned(gateway, door(gateway, runtime), expires=301)) == 403


async def test_a_presigned_url_of_one_runtime_opens_no_other(
    gateway: RunningGateway, runtime: str, ws_agent: WebSocketAgent
) -> None:
    other = register(gateway, ws_agent.url)
    url = presigned(gateway, door(gateway, runtime))
    assert await status_of(door(gateway, other, urlsplit(url).query)) == 403


async def test_the_session_of_a_presigned_url_cannot_be_changed_or_said_again(
    gateway: RunningGateway, runtime: str
) -> None:
    name = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
    url = presigned(gateway, door(gateway, runtime, f"{name}={'a' * 40}"))
    assert await status_of(url.replace("a" * 40, "b" * 40)) == 403
    assert await status_of(f"{url}&{name.lower()}={'b' * 40}") == 400
    assert await status_of(url, {name: "b" * 40}) == 400


async def test_a_parameter_that_is_a_header_holds_no_line_break(gateway: RunningGateway, runtime: str) -> None:
    url = door(gateway, runtime, "X-Amzn-Bedrock-AgentCore-Runtime-Custom-A=a%0d%0aworkloadaccesstoken:%20x")
    assert await status_of(presigned(gateway, url)) == 400


async def test_a_presigned_url_does_not_reach_the_log(gateway: RunningGateway, runtime: str) -> None:
    url = presigned(gateway, door(gateway, runtime))
    await (await dial(url)).close()
    assert url.partition("X-Amz-Signature=")[2] not in gateway.log
