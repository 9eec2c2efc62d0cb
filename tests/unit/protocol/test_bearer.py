"""Bearer tokens: exactly one, well-formed, or none; and challenges that cannot be bent."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol.bearer import challenge, is_bearer, token
from identity_gateway.protocol.request import Request

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
METADATA = "https://gateway.test/runtimes/a/invocations/.well-known/oauth-protected-resource?qualifier=DEFAULT"


def request(*authorizations: bytes) -> Request:
    return Request("POST", b"/", b"", tuple((b"authorization", value) for value in authorizations))


MALFORMED = {
    "nothing": b"",
    "the scheme alone": b"Bearer",
    "the scheme and a blank": b"Bearer ",
    "another scheme": b"Basic dXNlcjpwYXNz",
    "DPoP": b"DPoP " + JWT.encode(),
    "a scheme that begins alike": b"Bearers " + JWT.encode(),
    "no blank": b"Bearer" + JWT.encode(),
    "a tab": b"Bearer\t" + JWT.encode(),
    "two blanks": b"Bearer  " + JWT.encode(),
    "two tokens": b"Bearer a b",
    "two tokens with a comma": b"Bearer a,b",
    "two credentials": b"Bearer a, Bearer b",
    "a parameter": b'Bearer realm="x"',
    "a quoted token": b'Bearer "abc"',
    "a null byte": b"Bearer a\x00b",
    "a line end": b"Bearer a\nb",
    "a letter beyond ASCII": "Bearer é".encode(),
    "a percent sign": b"Bearer a%2Eb",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_bearer_token_is_refused(name: str):
    with pytest.raises(InvalidToken) as caught:
        token(request(MALFORMED[name]))
    assert caught.value.reason == "the Authorization header holds no well-formed bearer token"


@pytest.mark.parametrize("count", [0, 2, 3])
def test_there_is_exactly_one_authorization_header(count: int):
    with pytest.raises(InvalidToken) as caught:
        token(request(*[b"Bearer " + JWT.encode()] * count))
    assert caught.value.reason == "not exactly one Authorization header"


@given(st.binary(max_size=40))
def test_whatever_stands_in_the_header_is_a_token_or_refused(value: bytes):
    with suppress(InvalidToken):
        assert token(request(b"Bearer " + value)).encode() == value.strip()


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b" bEaReR"])
def test_the_scheme_is_read_without_case(scheme: bytes):
    assert token(request(scheme + b" " + JWT.encode() + b" ")) == JWT


@pytest.mark.parametrize("value", [b"Bearer x", b"bearer ", b"BEARER", b" bearer ", b"Bearer  two words"])
def test_a_header_of_the_bearer_scheme_is_known_as_one_whatever_its_token(value: bytes):
    assert is_bearer(value)


@pytest.mark.parametrize("value", [b"", b"Basic x", b"Bearers x", b"Bear", b"AWS4-HMAC-SHA256 Bearer", b"bearer\tx"])
def test_a_header_of_another_scheme_is_not_bearer(value: bytes):
    assert not is_bearer(value)


# --- Challenges ---


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\r\nx: y", "a\x7f", "é", "a\tb"])
def test_a_challenge_never_holds_what_would_end_its_quoted_string(value: str):
    for arguments in ({"resource_metadata": value}, {"error": value}, {"scopes": ("read", value)}):
        with pytest.raises(ValueError, match="cannot stand in a quoted string"):
            challenge(**{"resource_metadata": METADATA} | arguments)


def test_a_challenge_without_a_token_shown_has_no_error():
    assert challenge(METADATA) == f'Bearer resource_metadata="{METADATA}"'.encode()


def test_a_challenge_names_the_error_and_the_scopes_that_are_missing():
    value = challenge("https://m", error="insufficient_scope", scopes=("read", "write"))
    assert value == b'Bearer resource_metadata="https://m", error="insufficient_scope", scope="read write"'
