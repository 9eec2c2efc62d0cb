"""Attacks on AWS Signature Version 4 in the Authorization header. Each test is one threat and is named for it.

An attacker here holds a request that was signed by somebody else, or a key of his own, but not the other's secret.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_gateway.errors import (
    GatewayError,
    IncompleteSignature,
    InvalidSignature,
    MissingAuthentication,
    Unauthenticated,
    ValidationFailed,
)
from identity_gateway.model import Secret
from identity_gateway.protocol.request import EMPTY_SHA256, Request
from identity_gateway.protocol.sigv4 import (
    DUMMY_SECRET,
    Scope,
    canonical_request,
    parse,
    signature,
    verify,
    verify_unknown,
)
from tests.fakes.sigv4_client import (
    ARN,
    KEY_ID,
    NOW,
    SCOPE,
    SECRET,
    URL,
    added,
    changed,
    check,
    digest,
    signed,
    without,
)

USER = "x-amzn-bedrock-agentcore-runtime-user-id"
SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
WAT = "x-amz-bedrock-agentcore-identity-wat"


def refused(
    request: Request,
    body: bytes = b"",
    *,
    kind: type[GatewayError] = IncompleteSignature,
    match: str | None = None,
    **options: Any,
) -> None:
    with pytest.raises(kind, match=match):
        check(request, body, **options)


# --- Something is added to a signed request --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [USER, "x-amzn-bedrock-agentcore-payments-user-id"])
def test_a_user_cannot_be_named_after_signing(name: str):
    refused(added(signed(), name, "victim"), match=f"must be signed.*{name}")


def test_a_workload_token_cannot_be_added_after_signing():
    refused(added(signed(), WAT, "a.stolen.token"), match=WAT)


def test_a_session_token_cannot_be_added_after_signing():
    refused(added(signed(), "x-amz-security-token", "stolen"), match="x-amz-security-token")


@pytest.mark.parametrize("name", ["x-amz-target", "x-amz-", "x-amz-meta-anything", "x-amz-content-sha256"])
def test_no_amz_header_can_be_added_after_signing(name: str):
    refused(added(signed(), name, EMPTY_SHA256), match=f"must be signed.*{name}")


def test_an_unsigned_header_does_not_reach_those_who_read_proven_headers():
    proven = check(added(signed(), SESSION, "s" * 40))
    assert proven.header(SESSION.encode()) is None


def test_an_unsigned_copy_of_a_signed_header_is_part_of_the_signed_value():
    request = signed(headers={"X-Custom": "safe"})
    refused(added(request, "x-custom", "evil"), kind=InvalidSignature)


@pytest.mark.parametrize("name", ["X-Amz-Target", "X-AMZ-TARGET", USER.title()])
def test_an_upper_case_name_does_not_slip_past_the_rules_for_lower_case_names(name: str):
    refused(added(signed(), name, "evil"), kind=ValidationFailed)


# --- Something is taken out of a signed request ----------------------------------------------------------------------


def test_a_signed_header_cannot_be_removed():
    refused(without(signed(headers={"X-Custom": ""}), "x-custom"), match="does not have: x-custom")


def test_a_signed_header_cannot_be_supplied_by_the_query():
    request = without(signed(headers={"X-Custom": "1"}), "x-custom")
    refused(replace(request, raw_query=b"qualifier=DEFAULT&x-custom=1"), match="does not have")


def test_the_host_cannot_be_left_unsigned():
    refused(changed(signed(), "authorization", "SignedHeaders=host;", "SignedHeaders="), match="host")


def test_the_date_cannot_be_left_unsigned():
    refused(changed(signed(), "authorization", ";x-amz-date", ""), match="x-amz-date")


# --- Bodies ----------------------------------------------------------------------------------------------------------


def test_a_body_cannot_be_replaced():
    refused(signed(body=b'{"prompt": "hello"}'), b'{"prompt": "obey"}', kind=InvalidSignature)


def test_a_body_cannot_ride_on_the_signed_hash_of_the_empty_body():
    request = signed(headers={"X-Amz-Content-Sha256": EMPTY_SHA256})
    refused(request, b'{"prompt": "obey"}', kind=InvalidSignature)


def test_a_declared_hash_does_not_replace_the_hash_of_the_body():
    request = signed(headers={"X-Amz-Content-Sha256": digest(b"what was signed")})
    refused(request, b"what was sent", kind=InvalidSignature)


def test_a_wrongly_declared_hash_is_refused_even_under_a_signature_of_the_right_one():
    presented = parse(signed(headers={"X-Amz-Content-Sha256": digest(b"declared")}), scope=SCOPE, now=NOW)
    canonical = canonical_request(presented.request, presented.signed_headers, digest(b"sent"))
    right = signature(SCOPE, presented.timestamp, canonical, Secret(SECRET))
    with pytest.raises(InvalidSignature):
        verify(replace(presented, signature=right), Secret(SECRET), digest(b"sent"))


@pytest.mark.parametrize(
    "mode",
    [
        "UNSIGNED-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-EVENTS",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "STREAMING-",
    ],
)
def test_a_body_cannot_be_left_out_of_the_signature(mode: str):
    refused(signed(headers={"X-Amz-Content-Sha256": mode}), b"anything", match="not supported")


def test_a_form_body_is_never_read_as_the_query():
    request = signed(headers={"Content-Type": "application/x-www-form-urlencoded"}, body=b"")
    refused(replace(request, raw_query=b""), b"qualifier=DEFAULT", kind=InvalidSignature)


# --- Another place ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"/runtimes/{ARN}/commands",
        f"/runtimes/{ARN.replace('hello', 'other')}/invocations",
        f"/runtimes/{ARN}/invocations/",
        f"/runtimes/{ARN.replace('%3A', ':')}/invocations",
        f"/runtimes/{ARN.replace('%3A', '%3a')}/invocations",
        f"/runtimes/{ARN.replace('%2F', '/')}/invocations",
        f"/runtimes/{ARN.replace('%', '%25')}/invocations",
        f"/Runtimes/{ARN}/invocations",
        f"/%72untimes/{ARN}/invocations",
    ],
)
def test_a_signature_for_one_path_does_not_open_another_or_another_spelling(path: str):
    refused(replace(signed(), raw_path=path.encode()), kind=InvalidSignature)


@pytest.mark.parametrize(
    "path",
    [
        f"//runtimes/{ARN}/invocations",
        f"/runtimes//{ARN}/invocations",
        f"/./runtimes/{ARN}/invocations",
        f"/identities/../runtimes/{ARN}/invocations",
        f"/runtimes/{ARN}/invocations/x/..",
        f"/runtimes/{ARN}/invocations/.",
    ],
)
def test_a_path_that_only_normalises_to_the_signed_one_is_refused(path: str):
    refused(replace(signed(), raw_path=path.encode()), kind=ValidationFailed, match="dot segments")


@pytest.mark.parametrize("segment", ["%2e%2e", "%2E%2e", ".%2e", "%2e"])
def test_a_dot_segment_cannot_hide_in_percent_escapes_even_when_signed(segment: str):
    refused(signed(url=f"https://gateway.test/runtimes/x/{segment}/y"), kind=ValidationFailed, match="dot segments")


def test_a_signature_for_one_method_does_not_serve_another():
    refused(replace(signed(method="GET"), method="DELETE"), kind=InvalidSignature)


@pytest.mark.parametrize("query", [b"", b"qualifier=PROD", b"qualifier=DEFAULT&qualifier=PROD", b"Qualifier=DEFAULT"])
def test_a_signature_for_one_query_does_not_serve_another(query: bytes):
    refused(replace(signed(), raw_query=query), kind=InvalidSignature)


def test_a_value_cannot_move_from_one_signed_header_to_another():
    request = signed(headers={"X-First": "a", "X-Second": "b"})
    swapped = changed(changed(request, "x-first", "a", "b"), "x-second", "b", "a")
    refused(swapped, kind=InvalidSignature)


def test_the_order_of_a_repeated_header_is_signed():
    request = signed(headers={"X-Custom": "first,second"})
    swapped = added(changed(request, "x-custom", "first,second", "second"), "x-custom", "first")
    refused(swapped, kind=InvalidSignature)


@pytest.mark.parametrize("value", ["a\nx-amz-date:20261122T171522Z", "a\r\nb", "a\x00b", "a\x0bb"])
def test_a_line_break_in_a_value_cannot_forge_a_line_of_the_canonical_request(value: str):
    refused(added(without(signed(headers={"X-Custom": "a"}), "x-custom"), "x-custom", value), kind=ValidationFailed)


def test_a_line_break_in_the_method_cannot_forge_a_line_of_the_canonical_request():
    refused(replace(signed(), method="POST\n/other"), kind=ValidationFailed)


@pytest.mark.parametrize("name", ["x-forwarded-host", "x-original-url", "x-rewrite-url", "forwarded", "x-host"])
def test_a_forwarding_header_does_not_replace_the_signed_host(name: str):
    request = changed(signed(), "host", "gateway.test", "evil.test")
    refused(added(request, name, "gateway.test"), kind=InvalidSignature)


def test_a_request_for_another_host_does_not_serve_here():
    refused(changed(signed(url=URL.replace("gateway", "other")), "host", "other", "gateway"), kind=InvalidSignature)


# --- Another scope, another time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scope", [Scope("us-east-1", "s3"), Scope("us-east-1", "sts"), Scope("eu-west-1", SCOPE.service)]
)
def test_a_valid_signature_for_another_service_or_region_is_no_proof_here(scope: Scope):
    refused(signed(scope=scope), kind=InvalidSignature, match="Credential should be scoped")


@pytest.mark.parametrize("scope", [Scope("us-east-1", "s3"), Scope("eu-west-1", SCOPE.service)])
def test_the_signing_key_is_never_derived_from_what_the_caller_names(scope: Scope):
    presented = parse(signed(scope=scope), scope=scope, now=NOW)
    with pytest.raises(InvalidSignature):
        verify(replace(presented, scope=SCOPE), Secret(SECRET), EMPTY_SHA256)


def test_a_captured_request_cannot_be_replayed_after_the_window():
    refused(signed(), kind=InvalidSignature, match="Signature expired", now=NOW + timedelta(minutes=5, seconds=1))


def test_a_request_cannot_be_signed_ahead_of_time():
    refused(signed(at=NOW + timedelta(days=1)), kind=InvalidSignature, match="not yet current")


def test_a_captured_request_cannot_be_given_a_fresh_date():
    request = changed(signed(at=NOW - timedelta(hours=1)), "x-amz-date", "T161522Z", "T171522Z")
    refused(request, kind=InvalidSignature)


def test_a_signing_key_of_one_day_does_not_serve_on_another():
    request = signed(at=NOW - timedelta(days=1))
    refused(changed(request, "x-amz-date", "20261121", "20261122"), kind=InvalidSignature, match="20261122")


def test_an_unsigned_date_header_does_not_overrule_the_signed_amz_date():
    request = added(signed(at=NOW - timedelta(hours=1)), "date", "Sun, 22 Nov 2026 17:15:22 GMT")
    refused(request, kind=InvalidSignature, match="expired")


# --- Two readings ----------------------------------------------------------------------------------------------------


def test_two_authorization_headers_are_refused():
    request = signed()
    refused(added(request, "authorization", (request.header(b"authorization") or b"").decode()), match="repeated")


def test_a_bearer_token_beside_a_signature_is_refused():
    refused(added(signed(), "authorization", "Bearer abc"), match="repeated")


@pytest.mark.parametrize(
    "name", ["host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", USER, SESSION, WAT]
)
def test_a_header_that_must_be_single_is_refused_when_repeated(name: str):
    request = signed(
        headers={"X-Amz-Content-Sha256": EMPTY_SHA256, USER: "alice", SESSION: "s" * 40, WAT: "w"}, token="token"
    )
    again = (request.header(name.encode()) or b"").decode()
    refused(added(request, name, again), kind=ValidationFailed, match="repeated")


@pytest.mark.parametrize("spelling", ["alice  smith", "alice\tsmith", "alice \t smith"])
@pytest.mark.parametrize("name", [USER, SESSION, WAT])
def test_two_users_cannot_share_one_signature_by_the_number_of_blanks(name: str, spelling: str):
    request = changed(signed(headers={name: "alice smith"}), name, "alice smith", spelling)
    refused(request, kind=ValidationFailed, match="several blanks")


def test_two_user_headers_cannot_pass_for_one_user_with_a_comma():
    request = signed(headers={USER: "alice,bob"})
    split = added(changed(request, USER, "alice,bob", "alice"), USER, "bob")
    refused(split, kind=ValidationFailed, match="repeated")


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Signature=0", "x-amz-signature=0", "X-AMZ-CREDENTIAL=a", "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X%2DAmz-Signature=0", "%58-Amz-Security-Token=t", "X-Amz-Date=20261122T171522Z", "AWSAccessKeyId=a",
        "awsaccesskeyid=a", "a=1&Signature=b", "SignatureVersion=2",
    ],
)  # fmt: skip
def test_credentials_in_header_and_query_are_refused_even_when_signed(query: str):
    refused(signed(url=f"https://gateway.test/?{query}"), match="in the Authorization header and in the query")


def test_credentials_in_the_query_alone_are_refused():
    request = without(signed(url="https://gateway.test/?X-Amz-Signature=0"), "authorization")
    refused(request, match="accepted in the Authorization header only; these stand in the query string")


def test_a_parameter_given_twice_is_not_resolved_but_refused():
    request = signed()
    value = (request.header(b"authorization") or b"").decode()
    refused(changed(request, "authorization", value, f"{value}, Credential=other/a/b/c/d"), match="more than once")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/aws4_request", " /aws4_request"),
        ("Credential=", "Credential ="),
        ("SignedHeaders=host", "SignedHeaders= host"),
        ("host;", "host ;"),
        ("Signature=", "Signature= "),
    ],
)
def test_blanks_inside_the_authorization_header_are_not_read_away(old: str, new: str):
    refused(changed(signed(), "authorization", old, new), kind=Unauthenticated)


@pytest.mark.parametrize(
    "terminator", ["aws4_request/", "aws4_request/aws4_request", "AWS4_REQUEST", "aws4_reques", ""]
)
def test_a_scope_that_ends_otherwise_is_refused(terminator: str):
    refused(changed(signed(), "authorization", "aws4_request", terminator), kind=Unauthenticated)


@pytest.mark.parametrize("mode", ["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "UNSIGNED-PAYLOAD"])
def test_an_unsigned_body_without_credentials_is_not_anonymous_access(mode: str):
    request = without(signed(headers={"X-Amz-Content-Sha256": mode}), "authorization")
    refused(request, b"anything", kind=MissingAuthentication)


def test_an_amz_parameter_of_the_query_does_not_stand_for_a_header():
    request = without(signed(url="https://gateway.test/?x-amz-date=20261122T171522Z"), "x-amz-date")
    refused(request, match="in the query string")


# --- Other algorithms, other shapes ----------------------------------------------------------------------------------


def test_an_asymmetric_signature_is_refused_and_never_read_as_an_hmac():
    refused(changed(signed(), "authorization", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), match="Version 4A")


def test_a_signature_of_version_2_is_refused():
    value = (signed().header(b"authorization") or b"").decode()
    refused(changed(signed(), "authorization", value, f"AWS {KEY_ID}:AAAA"), match="Version 2")


def test_stripping_the_credentials_is_not_anonymous_access():
    refused(without(signed(), "authorization"), kind=MissingAuthentication)


@pytest.mark.parametrize("digits", ["", "0" * 63, "0" * 65, "g" * 64, "é" * 32, "０" * 64, "F" * 64])
def test_a_signature_that_is_not_64_hexadecimal_digits_never_reaches_the_comparison(digits: str):
    request = signed()
    value = (request.header(b"authorization") or b"").decode()
    refused(changed(request, "authorization", value[-64:], digits))


@pytest.mark.parametrize(
    "key_id", ["a/b", "*)(uid=*", "../../etc", "' OR 1=1 --", "%2e", "a\x00b", "ключ", "a" * 129, ""]
)
def test_an_access_key_id_cannot_carry_a_query_or_a_path_into_the_look_up(key_id: str):
    with pytest.raises((IncompleteSignature, ValidationFailed)):
        parse(changed(signed(), "authorization", KEY_ID, key_id), scope=SCOPE, now=NOW)


def test_an_endless_authorization_header_is_refused_before_it_is_parsed():
    refused(changed(signed(), "authorization", "Signature=", "," * 1_000_000), match="longer than 4096")


@pytest.mark.parametrize("path", [b"/" + b"a" * 100_000 + b"\xff", b"/" + b"%41" * 50_000 + b"%"])
def test_a_long_malformed_path_is_refused_without_backtracking(path: bytes):
    refused(replace(signed(), raw_path=path), kind=ValidationFailed)


# --- What an attacker can learn --------------------------------------------------------------------------------------


def complaint(act: Callable[[], object]) -> tuple[type[GatewayError], str, int, str]:
    with pytest.raises(GatewayError) as caught:
        act()
    return type(caught.value), caught.value.code, caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    "act",
    [
        lambda: check(signed(), secret="a wrong secret"),
        lambda: check(signed(), b"a changed body"),
        lambda: check(signed(headers={"X-Amz-Content-Sha256": EMPTY_SHA256}), b"a changed body"),
    ],
    ids=["wrong secret", "changed body", "wrong declared hash"],
)
def test_an_unknown_key_is_answered_exactly_like_every_wrong_signature(act: Callable[[], object]):
    unknown = parse(signed(key_id="UNKNOWNKEY0000000001"), scope=SCOPE, now=NOW)
    assert complaint(act) == complaint(lambda: verify_unknown(unknown, EMPTY_SHA256))


def test_the_secret_that_stands_for_unknown_keys_authenticates_nobody():
    presented = parse(signed(secret=DUMMY_SECRET.reveal()), scope=SCOPE, now=NOW)
    with pytest.raises(InvalidSignature):
        verify_unknown(presented, EMPTY_SHA256)


def test_the_answer_holds_neither_the_secret_nor_the_expected_signature_nor_what_was_signed():
    request = signed(token="a-session-token")
    right = (request.header(b"authorization") or b"")[-64:].decode()
    wrong = changed(request, "authorization", right[-4:], "0000" if right[-4:] != "0000" else "1111")
    with pytest.raises(InvalidSignature) as caught:
        check(wrong)
    told = f"{caught.value} {caught.value.reason} {caught.value!r}"
    assert not [secret for secret in (SECRET, right, "a-session-token", "DEFAULT") if secret in told]


def test_a_printed_request_shows_no_credentials():
    request = signed(token="a-session-token", url=f"{URL}&code=one-time-code")
    printed = f"{request!r} {parse(request, scope=SCOPE, now=NOW)!r} {check(request)!r}"
    assert not [secret for secret in ("a-session-token", "AWS4-HMAC-SHA256", "one-time-code") if secret in printed]
