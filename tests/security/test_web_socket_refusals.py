"""A handshake that is refused before anybody looked at its credentials does not repeat what it said."""

import pytest

from tests.gateways import RunningGateway
from tests.security.test_web_socket_handshakes import answers

HANDSHAKE = (
    "GET /runtimes/x/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\n{}\r\n\r\n"
)
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    "field",
    [
        KEY + "Sec-WebSocket-Protocol: base64UrlBearerAuthorization.VE9LRU4; base64UrlBearerAuthorization",
        KEY + "Sec-WebSocket-Extensions: VE9LRU4;;",
        "Sec-WebSocket-Key: !VE9LRU4",
    ],
    ids=["sub-protocols", "extensions", "key"],
)
def test_a_handshake_that_cannot_be_read_is_refused_without_repeating_it(gateway: RunningGateway, field: str) -> None:
    said = answers(gateway, HANDSHAKE.format(field).encode())
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"VE9LRU4" not in said


@pytest.mark.parametrize("name", ["%ff", "%0aFORGED", "%c3%a9", "a%20b", "%00"])
def test_a_parameter_whose_name_is_no_header_is_refused_and_not_repeated(gateway: RunningGateway, name: str) -> None:
    parameter = f"X-Amzn-Bedrock-AgentCore-Runtime-Custom-{name}"
    target = f"/runtimes/x/ws?accountId=000000000000&{parameter}=a&{parameter}=b"
    said = answers(gateway, HANDSHAKE.format(KEY.strip()).replace("/runtimes/x/ws", target).encode())
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"has a name of letters" in said
