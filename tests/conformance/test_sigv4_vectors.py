"""The published AWS Signature Version 4 suite (34 cases, botocore's copy), each case also with one thing changed.

Cases that no HTTP server would receive, or that two readers could read differently, are checked at the calculation and
are refused by `parse`; the table below says which and why.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity_gateway.errors import (
    GatewayError,
    IncompleteSignature,
    InvalidSignature,
    Unauthenticated,
    ValidationFailed,
)
from identity_gateway.model import Secret
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.protocol.sigv4 import (
    Scope,
    canonical_request,
    parse,
    signature,
    string_to_sign,
    verify,
)
from tests.fakes.sigv4_client import digest

VECTORS = Path(os.environ.get("IDENTITY_GATEWAY_VECTORS") or Path(__file__).parents[3] / "shared" / "vectors")
FILE = VECTORS / "sigv4-botocore" / "cases.json"

pytestmark = pytest.mark.skipif(
    not FILE.is_file(),
    reason="the published vectors are not here: export IDENTITY_GATEWAY_VECTORS=<folder with sigv4-botocore/cases.json>",
)

NOT_NORMAL = (ValidationFailed, "empty segments or dot segments")
REFUSED: dict[str, tuple[type[GatewayError], str]] = {
    "get-header-value-multiline": (ValidationFailed, "header is not well-formed"),
    "get-utf8": (ValidationFailed, "RFC 3986"),
    "get-vanilla-utf8-query": (ValidationFailed, "RFC 3986"),
    "normalize-path/get-relative": NOT_NORMAL,
    "normalize-path/get-relative-relative": NOT_NORMAL,
    "normalize-path/get-slash": NOT_NORMAL,
    "normalize-path/get-slash-dot-slash": NOT_NORMAL,
    "normalize-path/get-slash-pointless-dot": NOT_NORMAL,
    "normalize-path/get-slashes": NOT_NORMAL,
    "normalize-path/get-space": (ValidationFailed, "RFC 3986"),
    "post-sts-token/post-sts-header-after": (IncompleteSignature, "must be signed.*x-amz-security-token"),
}
"""What `parse` refuses although the calculation is right."""


@dataclass(frozen=True)
class Case:
    """One case of the suite, with the request as a server would receive it."""

    id: str
    request: Request
    body: bytes
    secret: Secret
    scope: Scope
    now: datetime
    authorization: str
    canonical: str
    to_sign: str
    signature: str

    @property
    def signed_headers(self) -> tuple[bytes, ...]:
        """The names that the expected Authorization header lists."""
        return tuple(self.authorization.partition("SignedHeaders=")[2].partition(",")[0].encode().split(b";"))

    @property
    def timestamp(self) -> str:
        """The time of signing, as it is signed."""
        return self.now.strftime("%Y%m%dT%H%M%SZ")


def load() -> list[Case]:
    if not FILE.is_file():
        return []
    return [read(case) for case in json.loads(FILE.read_text("utf-8"))["cases"]]


def read(case: dict) -> Case:
    headers = [(name.lower(), value) for name, value in case["headers"]]
    headers.append(("authorization", case["expect"]["authorization"]))
    token = case["credentials"]["session_token"]
    # Two cases speak of a token that the signer adds: before signing, or after it and so not covered.
    if case["id"].endswith("header-after"):
        token = "added-after-signing"
    if token and "x-amz-security-token" not in dict(headers):
        headers.append(("x-amz-security-token", token))
    path, _, query = case["target"].partition("?")
    wire = tuple((name.encode(), value.encode()) for name, value in headers)
    return Case(
        id=case["id"],
        request=Request(case["method"], path.encode(), query.encode(), wire),
        body=case["body"].encode(),
        secret=Secret(case["credentials"]["secret_access_key"]),
        scope=Scope(case["region"], case["service"]),
        now=datetime.strptime(case["timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC),
        authorization=case["expect"]["authorization"],
        canonical=case["expect"]["canonical_request"],
        to_sign=case["expect"]["string_to_sign"],
        signature=case["expect"]["signature"],
    )


CASES = load()
ACCEPTED = [case for case in CASES if case.id not in REFUSED]


def each(cases: list[Case]):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.id)


def check(case: Case, request: Request, body: bytes, scope: Scope | None = None) -> SignedRequest:
    presented = parse(request, scope=scope or case.scope, now=case.now)
    return verify(presented, case.secret, digest(body))


# --- The calculation -------------------------------------------------------------------------------------------------


def test_the_suite_has_all_its_cases_and_every_refusal_is_about_one_of_them():
    assert len(CASES) == 34
    assert set(REFUSED) <= {case.id for case in CASES}


@each(CASES)
def test_the_canonical_request_is_the_published_one(case: Case):
    assert canonical_request(case.request, case.signed_headers, digest(case.body)).decode() == case.canonical


@each(CASES)
def test_the_string_to_sign_is_the_published_one(case: Case):
    scope = case.scope.on(case.timestamp[:8])
    assert string_to_sign(case.timestamp, scope, case.canonical.encode()).decode() == case.to_sign


@each(CASES)
def test_the_signature_is_the_published_one(case: Case):
    assert signature(case.scope, case.timestamp, case.canonical.encode(), case.secret) == case.signature


# --- Requests as received --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.id in REFUSED], ids=lambda case: case.id)
def test_a_case_that_a_strict_server_cannot_take_is_refused_and_says_why(case: Case):
    kind, message = REFUSED[case.id]
    with pytest.raises(kind, match=message):
        check(case, case.request, case.body)


@each(ACCEPTED)
def test_a_case_that_came_over_http_is_verified(case: Case):
    assert check(case, case.request, case.body).access_key_id == "AKIDEXAMPLE"


# --- One thing changed -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A request of the suite after an attacker touched it once."""

    id: str
    case: Case
    request: Request
    body: bytes
    scope: Scope


def flipped(value: bytes, position: int = -1) -> bytes:
    """Return the value with one byte changed to another letter or digit; an empty value grows."""
    if not value:
        return b"x"
    edited = bytearray(value)
    edited[position] = ord("y") if edited[position] == ord("x") else ord("x")
    return bytes(edited)


def headers_changed(case: Case) -> Iterator[tuple[str, Request]]:
    for index, (name, value) in enumerate(case.request.headers):
        if name in case.signed_headers:
            before, after = case.request.headers[:index], case.request.headers[index + 1 :]
            label = f"{name.decode()}-{index}"
            yield f"{label}-value", replace(case.request, headers=(*before, (name, flipped(value)), *after))
            yield f"{label}-gone", replace(case.request, headers=(*before, *after))
            yield f"{label}-twice", replace(case.request, headers=(*case.request.headers, (name, value)))
    date = case.timestamp.encode()
    later = date.replace(b"3600Z", b"3601Z")
    moved = tuple((name, later if value == date else value) for name, value in case.request.headers)
    yield "a-second-later", replace(case.request, headers=moved)


def authorization_changed(case: Case) -> Iterator[tuple[str, Request]]:
    text = case.authorization
    last = text[-1]
    for label, old, new in (
        ("last-digit", f"Signature={case.signature}", f"Signature={case.signature[:-1]}{'0' if last != '0' else '1'}"),
        ("first-digit", "Signature=", "Signature=" + ("0" if case.signature[0] != "0" else "1")),
        ("shorter", case.signature, case.signature[:-1]),
        ("upper-case", case.signature, case.signature.upper()),
        ("zeros", case.signature, "0" * 64),
        ("another-day", "/20150830/", "/20150831/"),
        ("another-region", "/us-east-1/", "/us-west-2/"),
        ("another-service", "/service/", "/iam/"),
        ("another-terminator", "/aws4_request", "/aws4_reques"),
        ("one-header-less", ";x-amz-date", ""),
        ("one-header-more", "SignedHeaders=", "SignedHeaders=a;"),
    ):
        edited = text.replace(old, new, 1)
        if label == "first-digit":
            edited = text.replace(old + case.signature, new + case.signature[1:])
        headers = tuple(
            (name, edited.encode() if name == b"authorization" else value) for name, value in case.request.headers
        )
        yield label, replace(case.request, headers=headers)


def line_changed(case: Case) -> Iterator[tuple[str, Request]]:
    request = case.request
    yield "method", replace(request, method="PUT")
    yield "method-case", replace(request, method=request.method.lower())
    yield "path-longer", replace(request, raw_path=request.raw_path + b"x")
    yield "path-encoded", replace(request, raw_path=request.raw_path + b"%78")
    if len(request.raw_path) > 1:
        yield "path-byte", replace(request, raw_path=flipped(request.raw_path))
    yield "query-longer", replace(request, raw_query=request.raw_query + b"&x=1")
    if request.raw_query:
        yield "query-byte", replace(request, raw_query=flipped(request.raw_query))
        yield "query-first-byte", replace(request, raw_query=flipped(request.raw_query, 0))
        yield "query-gone", replace(request, raw_query=b"")
        yield "query-in-path", replace(request, raw_query=b"", raw_path=request.raw_path + b"%3F" + request.raw_query)


def changes() -> Iterator[Change]:
    for case in ACCEPTED:
        for label, request in (*headers_changed(case), *authorization_changed(case), *line_changed(case)):
            yield Change(f"{case.id}:{label}", case, request, case.body, case.scope)
        yield Change(f"{case.id}:body-longer", case, case.request, case.body + b"x", case.scope)
        if case.body:
            yield Change(f"{case.id}:body-gone", case, case.request, b"", case.scope)
        elsewhere, other = replace(case.scope, region="us-west-2"), replace(case.scope, service="iam")
        yield Change(f"{case.id}:gateway-of-another-region", case, case.request, case.body, elsewhere)
        yield Change(f"{case.id}:gateway-of-another-service", case, case.request, case.body, other)


@pytest.mark.parametrize("change", list(changes()), ids=lambda change: change.id)
def test_a_case_with_one_thing_changed_is_refused(change: Change):
    with pytest.raises((Unauthenticated, ValidationFailed)):
        check(change.case, change.request, change.body, change.scope)


@each(ACCEPTED)
def test_a_case_under_another_secret_is_refused(case: Case):
    presented = parse(case.request, scope=case.scope, now=case.now)
    with pytest.raises(InvalidSignature):
        verify(presented, Secret("another secret"), digest(case.body))


@each(ACCEPTED)
def test_a_case_today_is_refused_as_expired(case: Case):
    with pytest.raises(InvalidSignature, match="Signature expired"):
        parse(case.request, scope=case.scope, now=case.now.replace(year=2026))
