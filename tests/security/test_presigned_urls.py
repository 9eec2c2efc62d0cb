"""Attacks on presigned URLs (AWS Signature Version 4 in the query string), which WebSocket doors take.

An attacker holds a URL that was presigned by somebody else, from a log or a browser's history, and edits it; or a key of
his own. botocore is the signer.
"""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from identity_gateway.errors import GatewayError, IncompleteSignature, InvalidSignature, ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.request import EMPTY_SHA256, Request, SignedRequest
from identity_gateway.protocol.sigv4 import (
    DUMMY_SECRET,
    Scope,
    is_presigned,
    parse,
    parse_query,
    verify,
    verify_unknown,
)
from tests.fakes import sigv4_client
from tests.fakes.sigv4_client import ARN, KEY_ID, NOW, SCOPE, SECRET, WS_URL, added, digest, presigned, signed

SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
USER = "x-amzn-bedrock-agentcore-runtime-user-id"


def check(request: Request, *, secret: str = SECRET, body: bytes = b"", **options: Any) -> SignedRequest:
    presented = parse_query(request, **({"scope": SCOPE, "now": NOW} | options))
    return verify(presented, Secret(secret), digest(body))


def refused(
    request: Request, *, kind: type[GatewayError] = IncompleteSignature, match: str | None = None, **options: Any
) -> None:
    with pytest.raises(kind, match=match):
        check(request, **options)


def queried(request: Request, old: str, new: str) -> Request:
    """Return the request with a text of its query replaced; the text must be there."""
    assert old.encode() in request.raw_query
    return replace(request, raw_query=request.raw_query.replace(old.encode(), new.encode(), 1))


def extended(request: Request, more: str) -> Request:
    return replace(request, raw_query=request.raw_query + b"&" + more.encode())


def parameter(request: Request, name: str) -> str:
    match = re.search(rf"{name}=([^&]*)", request.raw_query.decode())
    assert match
    return match[1]


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expires", [1, 60, 300])
def test_a_url_from_a_log_does_not_serve_after_it_expired(expires: int):
    url = presigned(expires=expires)
    assert check(url, now=NOW + timedelta(seconds=expires)).access_key_id == KEY_ID
    refused(url, kind=InvalidSignature, match="has expired", now=NOW + timedelta(seconds=expires + 1))


@pytest.mark.parametrize("expires", [301, 900, 604_800, 999_999])
def test_a_url_cannot_be_made_to_live_longer_than_five_minutes(expires: int):
    refused(presigned(expires=expires), match="1 to 300 seconds")


@pytest.mark.parametrize(
    "expires", ["", "0", "-1", "+60", "060", "6e1", "60.0", " 60", "６０", "0x3c", "9" * 400, "abc"]
)
def test_an_expiry_that_is_not_plain_digits_is_refused(expires: str):
    refused(queried(presigned(), "X-Amz-Expires=300", f"X-Amz-Expires={quote(expires)}"))


def test_the_life_of_a_url_cannot_be_stretched():
    refused(queried(presigned(expires=60), "Expires=60", "Expires=300"), kind=InvalidSignature)


def test_a_url_cannot_be_presigned_for_later():
    refused(presigned(at=NOW + timedelta(minutes=6)), kind=InvalidSignature, match="not yet current")


def test_an_expired_url_cannot_be_given_a_fresh_date():
    old = presigned(at=NOW - timedelta(hours=1))
    refused(queried(old, "T161522Z", "T171522Z"), kind=InvalidSignature)


@pytest.mark.parametrize("date", ["", "2026-11-22T17:15:22Z", "20261122", "20261131T171522Z", "20261122T171522z"])
def test_a_date_of_another_form_is_refused(date: str):
    refused(queried(presigned(), "X-Amz-Date=20261122T171522Z", f"X-Amz-Date={date}"))


# --- Two readings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"],
)
def test_a_parameter_given_twice_is_not_resolved_but_refused(name: str):
    url = presigned()
    refused(extended(url, f"{name}={parameter(url, name)}"), match=f"{name} more than once")


@pytest.mark.parametrize(
    "more",
    [
        f"x-amz-credential={KEY_ID}%2F20261122%2Fus-east-1%2Fbedrock-agentcore%2Faws4_request",
        "X-AMZ-CREDENTIAL=other", "X-Amz-credential=other", "X%2DAmz-Credential=other", "%58-Amz-Signature=00",
        "x-amz-security-token=stolen", "X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", "X-Amz-Target=x", "x-amz-=1",
    ],
)  # fmt: skip
def test_another_spelling_of_a_parameter_does_not_slip_past_the_first(more: str):
    refused(extended(presigned(), more), match="no other X-Amz- names")


@pytest.mark.parametrize("name", ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Expires"])
def test_a_parameter_cannot_be_spelt_in_escapes(name: str):
    refused(queried(presigned(), f"{name}=", f"{name.replace('-', '%2D')}="), match="spelt like this")


def test_a_signature_in_the_header_beside_one_in_the_query_is_refused():
    header = (signed(method="GET", url=WS_URL).header(b"authorization") or b"").decode()
    refused(added(presigned(), "authorization", header), match="send one")


@pytest.mark.parametrize("value", ["Bearer e30.e30.e30", "", "Basic Zm9v"])
def test_a_token_beside_a_signature_in_the_query_is_refused(value: str):
    refused(added(presigned(), "authorization", value), match="send one")


@pytest.mark.parametrize("name", ["x-amz-date", "x-amz-security-token"])
def test_a_header_cannot_say_again_what_the_query_says(name: str):
    refused(added(presigned(), name, "20261122T171522Z"), match="must not be there")


def test_a_presigned_url_does_not_serve_where_headers_are_asked_for():
    with pytest.raises(IncompleteSignature, match="Authorization header only"):
        parse(presigned(), scope=SCOPE, now=NOW)


@pytest.mark.parametrize(
    "query", ["AWSAccessKeyId=AKID&Signature=abc&Expires=1", "a=1&signature=x", "SignatureVersion=2"]
)
def test_a_url_of_signature_version_2_is_refused(query: str):
    refused(replace(presigned(), raw_query=query.encode()), match="Version 2")


# --- What is not signed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x-amz-bedrock-agentcore-identity-wat", "x-amz-target", "x-amz-content-sha256", USER])
def test_no_header_that_matters_can_be_added_to_a_url(name: str):
    refused(added(presigned(), name, EMPTY_SHA256), match=f"must be signed.*{name}")


def test_the_host_cannot_be_left_unsigned():
    refused(queried(presigned(headers={"X-Custom": "1"}), "host%3Bx-custom", "x-custom"), match="must be signed.*host")


def test_a_signed_header_that_is_absent_is_not_empty():
    url = presigned(headers={"X-Custom": ""})
    refused(replace(url, headers=url.headers[:1]), match="does not have: x-custom")


@pytest.mark.parametrize("more", [f"{SESSION}=another", "qualifier=PROD", "x=1", "="])
def test_nothing_can_be_added_to_the_query(more: str):
    refused(extended(presigned(), more), kind=InvalidSignature)


def test_the_session_of_a_url_cannot_be_exchanged():
    url = presigned(url=f"{WS_URL}&{SESSION}={'s' * 36}")
    refused(queried(url, "s" * 36, "t" * 36), kind=InvalidSignature)


def test_a_session_token_cannot_be_taken_out_or_put_in():
    url = presigned(token="token")
    refused(queried(url, "&X-Amz-Security-Token=token", ""), kind=InvalidSignature)
    refused(extended(presigned(), "X-Amz-Security-Token=token"), kind=InvalidSignature)


def test_a_body_cannot_ride_on_a_url():
    refused(presigned(), kind=InvalidSignature, body=b"anything")


@pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD", "get"])
def test_a_url_does_not_serve_another_method(method: str):
    refused(replace(presigned(), method=method), match="GET only")


@pytest.mark.parametrize("path", [f"/runtimes/{ARN}/invocations", f"/runtimes/{ARN.replace('hello', 'other')}/ws"])
def test_a_url_for_one_path_does_not_open_another(path: str):
    refused(replace(presigned(), raw_path=path.encode()), kind=InvalidSignature)


# --- Other hosts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["other.test", "gateway.test.other.test", "other.test:443", "gateway.test:x", "[::1]:80"]
)
def test_a_url_for_one_host_does_not_serve_at_another(host: str):
    refused(presigned(sent_to=host), kind=InvalidSignature)


def test_a_url_for_one_port_does_not_serve_at_another():
    refused(
        presigned(url=WS_URL.replace("gateway.test", "gateway.test:8443"), sent_to="gateway.test:9"),
        kind=InvalidSignature,
    )


@pytest.mark.parametrize("name", ["x-forwarded-host", "forwarded", "x-original-url"])
def test_a_forwarding_header_does_not_replace_the_signed_host(name: str):
    refused(added(presigned(sent_to="other.test"), name, "gateway.test"), kind=InvalidSignature)


def test_the_port_is_not_dropped_from_the_host_of_a_signature_in_a_header():
    with pytest.raises(InvalidSignature):
        sigv4_client.check(sigv4_client.changed(signed(), "host", "gateway.test", "gateway.test:8443"))


# --- Other scopes and algorithms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scope", [Scope("us-east-1", "s3"), Scope("us-east-1", "sts"), Scope("eu-west-1", SCOPE.service)]
)
def test_a_url_for_another_service_or_region_is_no_proof_here(scope: Scope):
    refused(presigned(scope=scope), kind=InvalidSignature, match="Credential should be scoped")


def test_a_url_of_an_asymmetric_signature_is_never_read_as_an_hmac():
    refused(queried(presigned(), "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), match="Version 4A")


@pytest.mark.parametrize("value", ["", "aws4-hmac-sha256", "AWS4-HMAC-SHA1", "AWS4-HMAC-SHA256%20", "none"])
def test_another_algorithm_is_refused(value: str):
    refused(queried(presigned(), "AWS4-HMAC-SHA256", value))


@pytest.mark.parametrize("digits", ["", "0" * 63, "0" * 65, "g" * 64, "F" * 64, "%C3%A9" * 32])
def test_a_signature_that_is_not_64_hexadecimal_digits_never_reaches_the_comparison(digits: str):
    url = presigned()
    refused(queried(url, parameter(url, "X-Amz-Signature"), digits))


@pytest.mark.parametrize("name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"])
def test_a_url_that_lacks_a_parameter_is_refused(name: str):
    url = presigned()
    whole = f"X-Amz-{name}={parameter(url, f'X-Amz-{name}')}"
    refused(queried(url, whole, "a=1"), match=f"lacks X-Amz-{name}")


@pytest.mark.parametrize(
    "credential", ["a", "a%2Fb%2Fc%2Fd", f"%2F20261122%2Fus-east-1%2F{SCOPE.service}%2Faws4_request"]
)
def test_a_credential_of_another_shape_is_refused(credential: str):
    url = presigned()
    refused(queried(url, parameter(url, "X-Amz-Credential"), credential))


def test_an_endless_query_is_refused_before_it_is_parsed():
    refused(extended(presigned(), "a" * 20_000), kind=ValidationFailed, match="longer than 16384")


def test_a_malformed_escape_in_the_query_is_refused():
    refused(extended(presigned(), "a=%zz"), kind=ValidationFailed)


# --- What an attacker can learn --------------------------------------------------------------------------------------


def test_an_unknown_key_is_answered_exactly_like_a_wrong_signature():
    told = []
    unknown = parse_query(presigned(key_id="UNKNOWNKEY0000000001"), scope=SCOPE, now=NOW)
    for act in (lambda: verify_unknown(unknown, EMPTY_SHA256), lambda: check(presigned(secret="wrong"))):
        with pytest.raises(InvalidSignature) as caught:
            act()
        told.append((caught.value.code, caught.value.status, str(caught.value)))
    assert told[0] == told[1]


def test_the_secret_that_stands_for_unknown_keys_authenticates_nobody():
    with pytest.raises(InvalidSignature):
        verify_unknown(parse_query(presigned(secret=DUMMY_SECRET.reveal()), scope=SCOPE, now=NOW), EMPTY_SHA256)


def test_a_presigned_request_prints_no_credentials():
    url = presigned(token="a-session-token")
    presented = parse_query(url, scope=SCOPE, now=NOW)
    printed = f"{url!r} {presented!r} {check(url)!r}"
    assert not [word for word in ("a-session-token", parameter(url, "X-Amz-Signature")) if word in printed]


def flips(url: Request) -> list[Request]:
    """Return the URL with each byte of its query and path changed in turn."""
    changed = []
    for place, byte in enumerate(url.raw_query):
        other = b"0" if byte != ord("0") else b"1"
        changed.append(replace(url, raw_query=url.raw_query[:place] + other + url.raw_query[place + 1 :]))
    for place, byte in enumerate(url.raw_path):
        other = b"0" if byte != ord("0") else b"1"
        changed.append(replace(url, raw_path=url.raw_path[:place] + other + url.raw_path[place + 1 :]))
    return changed


def test_no_byte_of_a_url_can_be_changed():
    url = presigned(url=f"{WS_URL}&{SESSION}={'s' * 36}", token="token")
    accepted = []
    for changed in flips(url):
        try:
            accepted.append(check(changed))
        except (IncompleteSignature, InvalidSignature, ValidationFailed):
            continue
    assert accepted == []


# --- Good ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "sent_to"),
    [
        (WS_URL, "gateway.test"),
        (WS_URL, "gateway.test:8443"),  # signed for the bare host name, as the agents' SDK does
        (WS_URL, "GATEWAY.test:8443"),
        (WS_URL.replace("gateway.test", "gateway.test:8443"), "gateway.test:8443"),
        (WS_URL.replace("gateway.test", "127.0.0.1"), "127.0.0.1:8443"),
    ],
)
def test_a_url_serves_at_the_host_that_it_was_presigned_for_whatever_the_port(url: str, sent_to: str):
    assert check(presigned(url=url, sent_to=sent_to)).access_key_id == KEY_ID


def test_a_url_proves_its_session_and_its_token_and_drops_its_signature():
    url = presigned(url=f"{WS_URL}&{SESSION}={'s' * 36}&k=%20%2B", token="to/ken+=", headers={"X-Custom": "1"})
    assert parse_query(url, scope=SCOPE, now=NOW).security_token == "to/ken+="
    proven = check(url)
    assert f"{SESSION}={'s' * 36}".encode() in proven.raw_query
    assert b"X-Amz-Signature" not in proven.raw_query
    assert proven.header(b"x-custom") == b"1"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", False), (b"qualifier=DEFAULT&X-Amzn-Bedrock-AgentCore-Runtime-Session-Id=x", False),
        (b"X-Amz-Signature=x", True), (b"x%2Damz-date=1", True), (b"a=1&awsaccesskeyid=x", True), (b"Signature=x", True),
    ],
)  # fmt: skip
def test_a_query_with_any_credentials_is_known_as_such(query: bytes, shown: bool):
    assert is_presigned(Request("GET", b"/", query, ())) is shown
