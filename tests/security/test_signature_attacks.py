"""Threat: a signed request that some verifier let in, at the door of an agent behind a gateway that runs.

One test for each attack of `attack_list`, named for it. Each begins with a request of botocore's that is let in. What
the verifier makes of every single byte has its own tests, `test_sigv4_attacks` and `test_presigned_urls`.
"""

import hmac
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus

from identity_gateway.errors import InvalidSignature
from identity_gateway.protocol.request import EMPTY_SHA256, Request
from identity_gateway.protocol.sigv4 import DUMMY_SECRET, Scope
from tests import web_sockets
from tests.agents import Agent
from tests.callers import AUDIENCE, running_issuer, token_of
from tests.fakes import sigv4_client
from tests.fakes.issuer import FakeIssuer, SigningKey, b64
from tests.fakes.sigv4_client import added, changed, digest, without
from tests.gateways import ACCOUNT, REGION, RunningGateway, register, running_gateway
from tests.security.attacked_doors import SignedDoor, fresh_url
from tests.security_tokens import key_of, made_key, made_role, sts
from tests.web_sockets import WebSocketAgent

SERVICE = "bedrock-agentcore"
USER = "x-amzn-bedrock-agentcore-runtime-user-id"
SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
BODY = b'{"amount": 1}'
OTHER_BODY = b'{"amount": 9}'

MALFORMED = (400, "ValidationException")
MISSING = (403, "MissingAuthenticationTokenException")
INCOMPLETE = (403, "IncompleteSignatureException")
INVALID = (403, "InvalidSignatureException")
DENIED = (403, "AccessDeniedException")
OPENED = (101, None)
UNKNOWN = (404, "UnknownOperationException")


@pytest.fixture(scope="module")
def path(gateway: RunningGateway, _agent_server: Agent) -> str:
    return SignedDoor.of(gateway, _agent_server).path


@pytest.fixture
def door(gateway: RunningGateway, agent: Agent, path: str) -> SignedDoor:
    return SignedDoor(gateway, agent, path)


def rewritten(request: Request, old: str, new: str) -> Request:
    """Return the request with its Authorization header changed at one place."""
    return changed(request, "authorization", old, new)


def authorization(request: Request) -> str:
    return (request.header(b"authorization") or b"").decode()


@contextmanager
def clock_off_by(**offset: float) -> Iterator[None]:
    """Let botocore's signers live in another time."""
    moved = datetime.now(UTC) + timedelta(**offset)
    with mock.patch("botocore.auth.get_current_datetime", return_value=moved.replace(tzinfo=None)):
        yield


# --- What the Authorization header says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256", INCOMPLETE),
        ("/aws4_request", " /aws4_request", INVALID),
        ("Credential=", "Credential =", INCOMPLETE),
        ("SignedHeaders=host", "SignedHeaders= host", INCOMPLETE),
        ("Signature=", "Signature= ", INCOMPLETE),
        ("Credential=", "credential=", INCOMPLETE),
        ("Credential=", "Extra=1, Credential=", INCOMPLETE),
    ],
)
def test_sigv4_loose_authorization_header_is_refused(
    door: SignedDoor, old: str, new: str, error: tuple[int, str]
) -> None:
    good = door.signed()
    assert door.refusal(good, rewritten(good, old, new)) == error


@pytest.mark.parametrize(
    "algorithm", ["aws4-hmac-sha256", "AWS4-HMAC-SHA1", "AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA256-PAYLOAD", "none"]
)
def test_sigv4_other_algorithm_is_refused(door: SignedDoor, algorithm: str) -> None:
    good = door.signed()
    assert door.refusal(good, rewritten(good, "AWS4-HMAC-SHA256", algorithm)) == INCOMPLETE


def test_sigv4_other_algorithm_is_refused_of_version_2(door: SignedDoor) -> None:
    good = door.signed()
    assert door.refusal(good, rewritten(good, authorization(good), f"AWS {door.key_id}:c2lnbmF0dXJl")) == INCOMPLETE


@pytest.mark.parametrize("more", ["Credential=x", "SignedHeaders=host", f"Signature={'0' * 64}"])
@pytest.mark.parametrize("before", [True, False])
def test_sigv4_parameter_twice_is_refused(door: SignedDoor, more: str, before: bool) -> None:
    good = door.signed()
    first = rewritten(good, "Credential=", f"{more}, Credential=")
    last = rewritten(good, authorization(good), f"{authorization(good)}, {more}")
    assert door.refusal(good, first if before else last) == INCOMPLETE


@pytest.mark.parametrize("more", ["the same", "Bearer e30.e30.e30", "AWS4-HMAC-SHA256 Credential=x"])
def test_sigv4_two_authorization_headers_are_refused(door: SignedDoor, more: str) -> None:
    good = door.signed()
    again = authorization(good) if more == "the same" else more
    assert door.refusal(good, added(good, "authorization", again)) == MALFORMED


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("/aws4_request", "/aws4_request/", INCOMPLETE),
        ("/aws4_request", "/AWS4_REQUEST", INVALID),
        ("/aws4_request", "", INCOMPLETE),
        (f"/{REGION}/", "/", INCOMPLETE),
        (f"/{SERVICE}/", f"/{SERVICE}/{SERVICE}/", INCOMPLETE),
        ("Credential=", "Credential=/", INCOMPLETE),
    ],
)
def test_sigv4_scope_of_another_shape_is_refused(door: SignedDoor, old: str, new: str, error: tuple[int, str]) -> None:
    good = door.signed()
    assert door.refusal(good, rewritten(good, old, new)) == error


@pytest.mark.parametrize(
    "scope", [Scope(REGION, "s3"), Scope(REGION, "sts"), Scope(REGION, "iam"), Scope("eu-west-1", SERVICE)], ids=str
)
def test_sigv4_for_another_service_or_region_is_refused(door: SignedDoor, scope: Scope) -> None:
    assert door.refusal(door.signed(), door.signed(scope=scope)) == INVALID


def test_sigv4_for_another_service_or_region_is_refused_in_a_presigned_url(door: SignedDoor) -> None:
    url = AWSRequest("GET", f"https://s3.{REGION}.amazonaws.com/bucket/key")
    SigV4QueryAuth(Credentials(*door.gateway.root_key), "s3", REGION, expires=3600).add_auth(url)
    good = door.signed()
    bad = replace(without(good, "authorization"), raw_query=url.url.partition("?")[2].encode())
    assert door.refusal(good, bad) == MISSING


def test_sigv4_scope_date_of_another_day_is_refused(door: SignedDoor) -> None:
    good = door.signed()
    day = (good.header(b"x-amz-date") or b"").decode()[:8]
    assert door.refusal(good, rewritten(good, f"/{day}/", "/20200101/")) == INVALID


@pytest.mark.parametrize(
    "key_id", ["*", "*)(uid=*", "' OR 1=1 --", "../../root", "a/b", "%2a", "k" * 129, "\u00e9key", "{}"]
)
def test_sigv4_key_id_injection_finds_no_key(door: SignedDoor, key_id: str) -> None:
    good = door.signed()
    assert door.refusal(good, rewritten(good, door.key_id, key_id)) == INCOMPLETE


@pytest.mark.parametrize(
    "digits", ["", "0" * 63, "0" * 65, "F" * 64, "g" * 64, "\u00e9" * 64, f"0x{'0' * 62}"], ids=ascii
)
def test_sigv4_signature_not_in_hex_is_refused(door: SignedDoor, digits: str) -> None:
    good = door.signed()
    assert door.refusal(good, rewritten(good, authorization(good)[-64:], digits)) == INCOMPLETE


@pytest.mark.parametrize("place", [0, 63])
def test_sigv4_comparison_takes_as_long_for_every_wrong_digit(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest

    def noted(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    good = sigv4_client.signed()
    sigv4_client.check(good)
    at_first, right = list(compared), authorization(good)[-64:]
    wrong = right[:place] + ("0" if right[place] != "0" else "1") + right[place + 1 :]
    compared.clear()
    with pytest.raises(InvalidSignature):
        sigv4_client.check(rewritten(good, right, wrong))
    assert (right.encode(), wrong.encode()) in compared
    assert len(compared) == len(at_first)


# --- What the signature covers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["host", "x-amz-date"])
def test_sigv4_required_header_unsigned_is_refused(door: SignedDoor, name: str) -> None:
    good = door.signed()
    bad = (
        rewritten(good, "SignedHeaders=host;", "SignedHeaders=") if name == "host" else rewritten(good, f";{name}", "")
    )
    assert door.refusal(good, bad) == INCOMPLETE


@pytest.mark.parametrize("name", ["x-amz-target", "x-amz-security-token", "x-amz-content-sha256", "x-amz-acl"])
def test_sigv4_amz_header_added_after_signing_is_refused(door: SignedDoor, name: str) -> None:
    good = door.signed()
    assert door.refusal(good, added(good, name, EMPTY_SHA256)) == INCOMPLETE


@pytest.mark.parametrize("name", [USER, "x-amzn-bedrock-agentcore-payments-user-id"])
def test_sigv4_user_named_after_signing_is_refused(door: SignedDoor, name: str) -> None:
    good = door.signed()
    assert door.refusal(good, added(good, name, "mallory")) == INCOMPLETE


def test_sigv4_user_named_after_signing_is_refused_in_place_of_another(door: SignedDoor) -> None:
    good = door.signed(headers={USER: "alice"})
    assert door.refusal(good, changed(good, USER, "alice", "mally")) == INVALID


@pytest.mark.parametrize("value", [" ", "1"])
def test_sigv4_absent_signed_header_is_not_empty(door: SignedDoor, value: str) -> None:
    good = door.signed(headers={"X-Custom": value})
    assert door.refusal(good, without(good, "x-custom")) == INCOMPLETE


def test_sigv4_signed_header_from_the_query_is_refused(door: SignedDoor) -> None:
    good = door.signed(headers={"X-Custom": "1"})
    bad = replace(without(good, "x-custom"), raw_query=good.raw_query + b"&x-custom=1")
    assert door.refusal(good, bad) == INCOMPLETE


@pytest.mark.parametrize("order", ["x-amz-date;host", "host;host;x-amz-date", "Host;x-amz-date", "host;;x-amz-date"])
def test_sigv4_signed_headers_out_of_order_are_refused(door: SignedDoor, order: str) -> None:
    good = door.signed()
    assert door.refusal(good, rewritten(good, "SignedHeaders=host;x-amz-date", f"SignedHeaders={order}")) == INCOMPLETE


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("host", (400, None)),  # the server itself refuses it, before it is a request
        ("x-amz-date", MALFORMED),
        ("x-amz-content-sha256", MALFORMED),
        (SESSION, MALFORMED),
        (USER, MALFORMED),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_sigv4_repeated_header_is_refused_whichever_is_read(
    door: SignedDoor, name: str, error: tuple[int, str | None], first: bool
) -> None:
    good = door.signed(headers={USER: "alice", SESSION: "s" * 40, "X-Amz-Content-Sha256": EMPTY_SHA256})
    other = (name.encode(), b"mallory")
    bad = replace(good, headers=(other, *good.headers) if first else (*good.headers, other))
    assert door.refusal(good, bad) == error


@pytest.mark.parametrize(
    "query", ["X-Amz-Date=20260101T000000Z", "x-amz-security-token=t", "X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"]
)
def test_sigv4_amz_parameter_over_a_header_is_refused(door: SignedDoor, query: str) -> None:
    good = door.signed()
    assert door.refusal(good, door.signed(path=f"{door.path}&{query}")) == INCOMPLETE


@pytest.mark.parametrize(
    "name", ["x-forwarded-host", "x-original-url", "x-rewrite-url", "forwarded", "x-forwarded-port"]
)
def test_sigv4_forwarded_host_does_not_stand_for_the_one_that_was_signed(door: SignedDoor, name: str) -> None:
    good = door.signed()
    here = (good.header(b"host") or b"").decode()
    bad = added(changed(good, "host", "127.0.0.1", "evil.test"), name, here)
    assert door.refusal(good, bad) == INVALID


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "evil.test"])
def test_sigv4_for_another_host_is_refused(door: SignedDoor, host: str) -> None:
    good = door.signed()
    assert door.refusal(good, changed(good, "host", "127.0.0.1", host)) == INVALID


@pytest.fixture(scope="module")
def named(_agent_server: Agent) -> Iterator[SignedDoor]:
    """The door of a gateway that knows its names."""
    with running_gateway(signed_hosts="127.0.0.1,agents.test") as gateway:
        yield SignedDoor.of(gateway, _agent_server)


def signed_for(door: SignedDoor, host: str, path: str, **changes: Any) -> Request:
    key_id, secret = door.gateway.root_key
    given = {"key_id": key_id, "secret": secret, "at": datetime.now(UTC)} | changes
    return sigv4_client.signed("POST", f"http://{host}{path}", **given)


@pytest.mark.parametrize("host", ["other.test", "agents.test.evil.test", "evil.agents.test", "127.0.0.10"])
def test_sigv4_for_another_gateway_is_refused(named: SignedDoor, host: str) -> None:
    good, bad = (signed_for(named, each, named.path) for each in ("agents.test:8443", host))
    assert named.refusal(good, bad) == INVALID


def test_sigv4_for_another_gateway_is_refused_by_the_sts(named: SignedDoor) -> None:
    body, form = b"Action=GetCallerIdentity&Version=2011-06-15", {"Content-Type": "application/x-www-form-urlencoded"}
    given = {"headers": form, "body": body, "scope": Scope(REGION, "sts")}
    answers = [named.shown(signed_for(named, host, "/", **given), body) for host in ("agents.test", "other.test")]
    assert [answer.status for answer in answers] == [200, 403]


def only_from(network: str) -> dict[str, Any]:
    condition = {"IpAddress": {"aws:SourceIp": network}}
    allow = {"Effect": "Allow", "Action": f"{SERVICE}:InvokeAgentRuntime*", "Resource": "*", "Condition": condition}
    return {"Version": "2012-10-17", "Statement": allow}


@pytest.fixture(scope="module")
def bound(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two keys: one is good from here, one from another network."""
    folder = tmp_path_factory.mktemp("bound")
    made = [made_key(gateway, folder, only_from(network)) for network in ("127.0.0.0/8", "203.0.113.0/24")]
    return [dict(zip(("key_id", "secret"), key, strict=True)) for key in made]


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP"])
def test_sigv4_forwarded_address_is_not_the_callers(door: SignedDoor, bound: list[dict[str, Any]], name: str) -> None:
    claimed = {name: "for=203.0.113.7" if name == "Forwarded" else "203.0.113.7"}
    good, bad = (door.signed(headers=claimed, **key) for key in bound)
    assert door.refusal(good, bad) == DENIED


IDENTITIES = [
    "X-Remote-User", "X-Principal", "X-Principal-Type", "X-Forwarded-User", "X-Amzn-Oidc-Identity", "Client-Cert",
    "WorkloadAccessToken", "Remote_User", "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id",
]  # fmt: skip


@pytest.mark.parametrize("name", IDENTITIES)
def test_sigv4_identity_header_of_the_caller_does_not_reach_the_agent(
    door: SignedDoor, agent: Agent, name: str
) -> None:
    good = door.signed()
    assert door.shown(good).status == 200
    assert door.shown(added(good, name, "forged")).status == 200
    assert len(agent.received) == 2
    assert "forged" not in str(agent.last["headers"])


# --- The path and the query -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("%3A", ":", INVALID),
        ("%3A", "%3a", INVALID),
        ("%3A", "%253A", MALFORMED),
        ("%2F", "/", UNKNOWN),
        ("/runtimes/", "/%72untimes/", UNKNOWN),
    ],
)
def test_sigv4_path_in_another_spelling_is_refused(
    door: SignedDoor, old: str, new: str, error: tuple[int, str]
) -> None:
    good = door.signed()
    path = good.raw_path.replace(old.encode(), new.encode())
    assert path != good.raw_path
    assert door.refusal(good, replace(good, raw_path=path)) == error


def test_sigv4_path_encoded_once_is_not_what_was_signed(door: SignedDoor) -> None:
    good = door.signed()
    with mock.patch.object(SigV4Auth, "_normalize_url_path", lambda _, path: path):
        bad = door.signed()
    assert bad.raw_path == good.raw_path
    assert door.refusal(good, bad) == INVALID


@pytest.mark.parametrize("insert", ["/.", "//", "/x/..", "/%2e", "/x/%2E%2e", "/%2e/x/.."])
def test_sigv4_dot_segments_are_refused_though_the_signature_does_not_see_them(door: SignedDoor, insert: str) -> None:
    good = door.signed()
    inserted = insert.rstrip("/").encode() if insert != "//" else b"/"
    bad = replace(good, raw_path=good.raw_path.replace(b"/invocations", inserted + b"/invocations"))
    assert door.refusal(good, bad) == MALFORMED


@pytest.mark.parametrize("escape", ["%", "%4", "%zz", "%00", "%u0041"])
def test_sigv4_bad_escape_in_the_path_is_refused(door: SignedDoor, escape: str) -> None:
    good = door.signed()
    bad = replace(good, raw_path=good.raw_path.replace(b"%3Aruntime", b"%3Aruntime" + escape.encode()))
    assert door.refusal(good, bad) == MALFORMED


def test_sigv4_plus_as_a_blank_is_refused(door: SignedDoor) -> None:
    good = door.signed(path=f"{door.path}&note=a%20b")
    assert door.refusal(good, replace(good, raw_query=good.raw_query.replace(b"%20", b"+"))) == INVALID


@pytest.mark.parametrize(
    ("signed", "sent"),
    [
        ("note=1%262", "note=1&2"),
        ("note-3=3&note=2", "note=2-3&note=3"),
        ("note=&note-3=", "note-3=&note-3="),
        ("note=1", "note=1&note=1"),
        ("note=1", "Note=1"),
        ("note=1", ""),
    ],
)
def test_sigv4_query_of_other_pairs_is_refused(door: SignedDoor, signed: str, sent: str) -> None:
    good = door.signed(path=f"{door.path}&{signed}")
    assert (
        door.refusal(good, replace(good, raw_query=good.raw_query.replace(signed.encode(), sent.encode()))) == INVALID
    )


def test_sigv4_query_of_other_pairs_is_refused_where_the_order_is_not_signed(door: SignedDoor) -> None:
    good, twice = door.signed(), door.signed(path=f"{door.path}&qualifier=OTHER")
    swapped = replace(twice, raw_query=b"qualifier=OTHER&qualifier=DEFAULT")
    assert door.refusal(good, twice) == MALFORMED
    assert door.refusal(good, swapped) == MALFORMED


def test_sigv4_form_body_is_not_the_query(door: SignedDoor) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    good = door.signed(headers=form)
    assert door.refusal(good, replace(good, raw_query=b""), bad_body=good.raw_query) == INVALID


# --- The body ---------------------------------------------------------------------------------------------------------


def test_sigv4_body_without_a_declared_hash_is_covered_all_the_same(door: SignedDoor) -> None:
    good = door.signed(BODY)
    assert good.header(b"x-amz-content-sha256") is None
    assert door.refusal(good, good, BODY, bad_body=OTHER_BODY) == INVALID


def test_sigv4_body_under_a_declared_hash_of_another_is_refused(door: SignedDoor) -> None:
    good, bad = (door.signed(BODY, {"X-Amz-Content-Sha256": digest(body)}) for body in (BODY, OTHER_BODY))
    assert door.refusal(good, bad, BODY) == INVALID


def test_sigv4_body_under_a_declared_hash_of_nothing_is_refused(door: SignedDoor) -> None:
    good = door.signed(headers={"X-Amz-Content-Sha256": EMPTY_SHA256})
    assert door.refusal(good, good, bad_body=BODY) == INVALID


UNSIGNED_MODES = [
    "UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-EVENTS",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "streaming-", "",
]  # fmt: skip


@pytest.mark.parametrize("mode", UNSIGNED_MODES)
def test_sigv4_unsigned_payload_is_refused(door: SignedDoor, mode: str) -> None:
    good, bad = (door.signed(BODY, {"X-Amz-Content-Sha256": said}) for said in (digest(BODY), mode))
    assert door.refusal(good, bad, BODY, bad_body=OTHER_BODY) == INCOMPLETE


@pytest.mark.parametrize("mode", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", digest(BODY)])
def test_sigv4_anonymous_fallback_is_refused(door: SignedDoor, mode: str) -> None:
    good = door.signed(BODY, {"X-Amz-Content-Sha256": digest(BODY)})
    bad = changed(without(good, "authorization"), "x-amz-content-sha256", digest(BODY), mode)
    assert door.refusal(good, bad, BODY) == MISSING


@pytest.mark.parametrize("change", [0, 1, 2])
def test_sigv4_chunk_that_was_changed_is_refused_wherever_it_stands(
    door: SignedDoor, agent: Agent, change: int
) -> None:
    chunks = [b'{"a":1,', b'"b":1,', b'"c":1}']
    request = added(door.signed(b"".join(chunks)), "transfer-encoding", "chunked")
    bad = [chunk.replace(b"1", b"2") if place == change else chunk for place, chunk in enumerate(chunks)]
    assert [in_chunks(door, request, each) for each in (bad, chunks)] == [INVALID, (200, None)]
    assert len(agent.received) == 1


def in_chunks(door: SignedDoor, request: Request, chunks: list[bytes]) -> tuple[int, str | None]:
    """Send a body in these chunks; return the status, and the code of a refusal."""
    lines = [b"POST %s?%s HTTP/1.1" % (request.raw_path, request.raw_query)]
    lines += [b"%s: %s" % pair for pair in request.headers] + [b"connection: close", b"", b""]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", door.gateway.port), timeout=30) as connection:
        connection.sendall(b"\r\n".join(lines) + framed)
        response = HTTPResponse(connection, method="POST")
        response.begin()
        response.read()
        return response.status, response.getheader("x-amzn-errortype")


# --- Time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [6, 60 * 24, 60 * 24 * 365])
def test_sigv4_old_date_is_refused(door: SignedDoor, minutes: int) -> None:
    now = datetime.now(UTC)
    good, bad = (door.signed(at=now - timedelta(minutes=age)) for age in (4, minutes))
    assert door.refusal(good, bad) == INVALID


@pytest.mark.parametrize("minutes", [6, 60 * 24, 60 * 24 * 365])
def test_sigv4_future_date_is_refused(door: SignedDoor, minutes: int) -> None:
    now = datetime.now(UTC)
    good, bad = (door.signed(at=now + timedelta(minutes=ahead)) for ahead in (4, minutes))
    assert door.refusal(good, bad) == INVALID


# --- Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["test", "secret", "", "the id", DUMMY_SECRET.reveal()])
def test_sigv4_well_known_secret_is_refused(door: SignedDoor, secret: str) -> None:
    good = door.signed()
    bad = door.signed(secret=door.key_id if secret == "the id" else secret)
    assert door.refusal(good, bad) == INVALID


@pytest.mark.parametrize("key_id", ["IGAKAAAAAAAAAAAAAAAA", "AKIAIOSFODNN7EXAMPLE"])
def test_sigv4_well_known_secret_is_refused_for_a_key_that_does_not_exist(door: SignedDoor, key_id: str) -> None:
    assert door.refusal(door.signed(), door.signed(key_id=key_id, secret=DUMMY_SECRET.reveal())) == INVALID


def test_sigv4_key_id_without_a_signature_is_nobody(door: SignedDoor) -> None:
    good = door.signed()
    right = authorization(good)[-64:]
    assert door.refusal(good, rewritten(good, right, "0" * 64)) == INVALID
    assert door.refusal(good, rewritten(good, f", Signature={right}", "")) == INCOMPLETE


def test_sigv4_unknown_key_and_wrong_secret_are_answered_alike(door: SignedDoor) -> None:
    good = door.signed()
    wrong, unknown = (door.signed(**each) for each in ({"secret": "wrong"}, {"key_id": "IGAKAAAAAAAAAAAAAAAA"}))
    assert [door.refusal(good, each) for each in (wrong, unknown)] == [INVALID, INVALID]
    told = [door.shown(each) for each in (wrong, unknown)]
    own = {"x-amzn-requestid", "date"}
    assert told[0].body == told[1].body
    heads = [[pair for pair in each.headers if pair[0] not in own] for each in told]
    assert heads[0] == heads[1]


NOTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}


def test_sigv4_permission_is_not_told_before_the_signature_is_proven(door: SignedDoor, tmp_path: Path) -> None:
    key_id, secret = made_key(door.gateway, tmp_path, NOTHING)
    good = door.signed()
    assert door.refusal(good, door.signed(key_id=key_id, secret=secret)) == DENIED
    assert door.refusal(good, door.signed(key_id=key_id, secret="wrong")) == INVALID


@pytest.fixture(scope="module")
def sessions(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two sessions of one role, which may invoke every agent."""
    folder = tmp_path_factory.mktemp("sessions")
    policy = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": f"{SERVICE}:Invoke*", "Resource": "*"},
    }
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    arn = made_role(gateway, folder, {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*"]}, policy)
    with sts(gateway, made_key(gateway, folder, everything)) as client:
        given = [client.assume_role(RoleArn=arn, RoleSessionName=name)["Credentials"] for name in ("ada", "eve")]
    return [dict(zip(("key_id", "secret", "token"), key_of(each), strict=True)) for each in given]


def test_sigv4_session_token_of_another_key_is_refused(door: SignedDoor, sessions: list[dict[str, Any]]) -> None:
    ada, eve = sessions
    good = door.signed(**ada)
    assert door.refusal(good, door.signed(**ada | {"token": eve["token"]})) == INVALID
    assert door.refusal(good, door.signed(token=ada["token"])) == INVALID
    assert door.refusal(good, door.signed(key_id=ada["key_id"], secret=ada["secret"])) == INVALID
    for key_id in (ada["key_id"], door.key_id):
        assert door.refusal(good, door.signed(**eve | {"key_id": key_id})) == INVALID


def test_sigv4_session_token_added_after_signing_is_refused(door: SignedDoor, sessions: list[dict[str, Any]]) -> None:
    ada = sessions[0]
    bare = door.signed(key_id=ada["key_id"], secret=ada["secret"])
    assert door.refusal(door.signed(**ada), added(bare, "x-amz-security-token", ada["token"])) == INCOMPLETE


# --- Presigned URLs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(gateway: RunningGateway, ws_agent: WebSocketAgent) -> str:
    """The URL of an agent's WebSocket."""
    return web_sockets.door(gateway, register(gateway, ws_agent.url))


async def opened(url: str) -> tuple[int, str | None]:
    """Return the status of a handshake, and the code of a refusal."""
    try:
        await (await web_sockets.dial(url)).close()
    except InvalidStatus as refused:
        return refused.response.status_code, refused.response.headers.get("x-amzn-errortype")
    return OPENED


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_presigned_url_outside_websockets_is_refused(door: SignedDoor, method: str) -> None:
    url = AWSRequest(method, door.gateway.url + door.path)
    SigV4QueryAuth(Credentials(*door.gateway.root_key), SERVICE, REGION, expires=300).add_auth(url)
    good = door.signed()
    bad = replace(without(good, "authorization"), method=method, raw_query=url.url.partition("?")[2].encode())
    assert door.refusal(good, without(bad, "x-amz-date")) == MISSING


@pytest.mark.parametrize("expires", [301, 900, 604_800, 0])
async def test_presigned_url_of_a_long_life_is_refused(gateway: RunningGateway, stream: str, expires: int) -> None:
    good, bad = (web_sockets.presigned(gateway, stream, expires=seconds) for seconds in (300, expires))
    assert [await opened(url) for url in (good, bad)] == [OPENED, INCOMPLETE]


async def test_presigned_url_for_later_is_refused(gateway: RunningGateway, stream: str) -> None:
    urls = []
    for minutes in (4, 6, 60 * 24):
        with clock_off_by(minutes=minutes):
            urls.append(web_sockets.presigned(gateway, stream))
    assert [await opened(url) for url in urls] == [OPENED, INVALID, INVALID]


async def test_presigned_url_that_has_expired_is_refused(gateway: RunningGateway, stream: str) -> None:
    with clock_off_by(seconds=-60):
        good, bad = (web_sockets.presigned(gateway, stream, expires=seconds) for seconds in (120, 30))
    assert [await opened(url) for url in (good, bad)] == [OPENED, INVALID]


@pytest.mark.parametrize("name", ["X-Amz-Credential", "x-amz-credential", "X-AMZ-CREDENTIAL", "X-Amz-Expires"])
async def test_presigned_url_with_a_parameter_twice_is_refused(gateway: RunningGateway, stream: str, name: str) -> None:
    good = web_sockets.presigned(gateway, stream)
    assert [await opened(url) for url in (good, f"{good}&{name}=1")] == [OPENED, INCOMPLETE]


# --- The security token service ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trusted(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeIssuer, str]]:
    """An issuer, and a role that its tokens are exchanged for."""
    with running_issuer(SigningKey.make("RS256")) as issuer:
        trust = {"webIdentity": {"discoveryUrl": fresh_url(issuer), "allowedAudience": [AUDIENCE]}}
        yield issuer, made_role(gateway, tmp_path_factory.mktemp("trusted"), trust)


@pytest.mark.parametrize("alg", ["none", "None", "", "HS256"])
def test_sts_web_identity_alg_none_is_refused(
    gateway: RunningGateway, trusted: tuple[FakeIssuer, str], alg: str
) -> None:
    good = token_of(trusted[0])
    header = b64(b'{"alg": "%s", "kid": "key-1", "typ": "JWT"}' % alg.encode())
    with sts(gateway) as client:
        asked = {"RoleArn": trusted[1], "RoleSessionName": "ada"}
        assert client.assume_role_with_web_identity(**asked, WebIdentityToken=good)["Credentials"]
        with pytest.raises(ClientError) as caught:
            client.assume_role_with_web_identity(**asked, WebIdentityToken=f"{header}.{good.partition('.')[2]}")
    assert caught.value.response["Error"]["Code"] == "InvalidIdentityToken"
