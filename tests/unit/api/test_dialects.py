"""One error in every dialect: the table that AWS documents per protocol, and the id of the call that failed."""

import json
from typing import Any

import pytest

from identity_gateway.api import render
from identity_gateway.errors import (
    AccessDenied,
    AgentFailed,
    Conflict,
    GatewayError,
    InsufficientScope,
    InvalidToken,
    MissingAuthentication,
    NotFound,
    OperationNotServed,
    QuotaExceeded,
    Throttled,
    Unavailable,
    UnknownOperation,
    ValidationFailed,
)

ERRORS: dict[str, GatewayError] = {
    "auth": InvalidToken(reason="precise"),
    "denied": AccessDenied("no", reason="precise"),
    "scope": InsufficientScope(("a",), reason="precise"),
    "validation": ValidationFailed("bad", reason="precise"),
    "not found": NotFound("gone", reason="precise"),
    "no operation": UnknownOperation("none", reason="precise"),
    "conflict": Conflict("busy", reason="precise"),
    "throttle": Throttled("slow down", reason="precise"),
    "quota": QuotaExceeded("full", reason="precise"),
    "agent": AgentFailed("broken", reason="precise"),
    "internal": GatewayError(reason="precise"),
    "a kind that no table names": OperationNotServed("not here", reason="precise"),
    "unavailable": Unavailable(reason="precise"),
}
MCP = {
    "auth": (-32001, 401),
    "denied": (-32002, 403),
    "scope": (-32002, 403),
    "validation": (-32006, 200),
    "not found": (-32004, 200),
    "no operation": (-32004, 200),
    "conflict": (-32005, 200),
    "throttle": (-32003, 200),
    "quota": (-32003, 200),
    "agent": (-32010, 200),
    "internal": (-32603, 500),
    "a kind that no table names": (-32603, 200),
    "unavailable": (-32603, 503),
}
A2A = {
    "validation": (-32052, 400),
    "not found": (-32051, 404),
    "no operation": (-32051, 404),
    "conflict": (-32054, 409),
    "throttle": (-32053, 429),
    "quota": (-32053, 429),
    "agent": (-32055, 424),
    "internal": (-32603, 500),
    "a kind that no table names": (-32603, 500),
    "unavailable": (-32603, 503),
}
AG_UI = {
    "auth": ("UNAUTHORIZED", 401),
    "denied": ("ACCESS_DENIED", 403),
    "scope": ("ACCESS_DENIED", 403),
    "validation": ("VALIDATION_ERROR", 400),
    "not found": ("NOT_FOUND", 404),
    "no operation": ("NOT_FOUND", 404),
    "conflict": ("SESSION_BUSY", 409),
    "throttle": ("RATE_LIMIT_EXCEEDED", 429),
    "quota": ("SERVICE_QUOTA_EXCEEDED", 429),
    "agent": ("AGENT_ERROR", 200),
    "internal": ("INTERNAL_ERROR", 500),
    "a kind that no table names": ("INTERNAL_ERROR", 500),
    "unavailable": ("INTERNAL_ERROR", 503),
}


def native(protocol: str, error: GatewayError, **more: Any) -> render.Rendered:
    return render.native(protocol, error, "request-1", **({"call_id": 7, "challenge": None} | more))


@pytest.mark.parametrize("protocol", ["HTTP", "MCP", "A2A", "AGUI"])
@pytest.mark.parametrize("name", ERRORS)
def test_no_dialect_tells_the_caller_the_reason(protocol: str, name: str):
    assert b"precise" not in native(protocol, ERRORS[name])[2]


@pytest.mark.parametrize("protocol", ["HTTP", "MCP", "A2A", "AGUI"])
@pytest.mark.parametrize("name", ERRORS)
def test_every_dialect_names_awss_code_and_the_request(protocol: str, name: str):
    headers = dict(native(protocol, ERRORS[name])[1])
    assert headers[b"x-amzn-errortype"] == ERRORS[name].code.encode()
    assert headers[b"x-amzn-requestid"] == b"request-1"


@pytest.mark.parametrize("name", ERRORS)
def test_mcp_has_the_code_and_the_status_that_aws_documents(name: str):
    status, headers, body = native("MCP", ERRORS[name])
    error = {"code": MCP[name][0], "message": ERRORS[name].message}
    assert json.loads(body) == {"jsonrpc": "2.0", "id": 7, "error": error}
    assert (status, dict(headers)[b"content-type"]) == (MCP[name][1], b"application/json")


@pytest.mark.parametrize("name", ERRORS)
def test_mcp_never_answers_success_to_a_call_without_an_id(name: str):
    assert native("MCP", ERRORS[name], call_id=None)[0] == ERRORS[name].status


@pytest.mark.parametrize("name", A2A)
def test_a2a_has_the_code_and_the_status_that_aws_documents(name: str):
    status, _, body = native("A2A", ERRORS[name])
    assert (json.loads(body)["error"]["code"], status) == A2A[name]


@pytest.mark.parametrize("name", ERRORS.keys() - A2A.keys())
def test_a2a_refuses_callers_in_plain_http(name: str):
    assert native("A2A", ERRORS[name]) == native("HTTP", ERRORS[name])


@pytest.mark.parametrize("name", ERRORS)
def test_ag_ui_has_the_event_and_the_status_that_aws_documents(name: str):
    status, headers, body = native("AGUI", ERRORS[name])
    assert body.startswith(b"data: ")
    assert body.endswith(b"\n\n")
    code, expected = AG_UI[name]
    assert json.loads(body[6:]) == {"type": "RUN_ERROR", "code": code, "message": ERRORS[name].message}
    assert (status, dict(headers)[b"content-type"]) == (expected, b"text/event-stream")


def test_a_message_with_line_ends_stays_one_event():
    assert native("AGUI", AgentFailed("a\n\ndata: b"))[2].count(b"\n\n") == 1


@pytest.mark.parametrize("protocol", ["HTTP", "MCP", "A2A", "AGUI"])
def test_a_challenge_stands_beside_every_dialect(protocol: str):
    headers = native(protocol, InvalidToken(), challenge=b"Bearer")[1]
    assert (b"www-authenticate", b"Bearer") in headers


def test_a_protocol_that_nobody_knows_is_answered_in_awss_form():
    assert native("TOMORROW", MissingAuthentication()) == render.aws(MissingAuthentication(), "request-1")


NO_ID = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b'[{"id": 1, "method": "x"}]',
    "a text": b'"id"',
    "a notification": b'{"method": "x"}',
    "a response": b'{"id": 1, "result": {}}',
    "an id that is null": b'{"id": null, "method": "x"}',
    "an id that is true": b'{"id": true, "method": "x"}',
    "an id that is a list": b'{"id": [], "method": "x"}',
    "an id that is not a number": b'{"id": NaN, "method": "x"}',
    "a long id": json.dumps({"id": "x" * 2000, "method": "x"}).encode(),
    "an endless number": b'{"id": ' + b"9" * 10_000 + b', "method": "x"}',
    "deep": b"[" * 60_000,
    "not UTF-8": b'{"id": "\xff", "method": "x"}',
}


@pytest.mark.parametrize("name", NO_ID)
def test_a_body_without_an_id_to_repeat_has_none(name: str):
    assert render.call_id_of(NO_ID[name]) is None


@pytest.mark.parametrize("call_id", [0, 7, -1, "", "seven", "\N{SNOWMAN}"])
def test_the_id_of_a_call_is_repeated_as_it_is(call_id: Any):
    found = render.call_id_of(json.dumps({"jsonrpc": "2.0", "id": call_id, "method": "x"}).encode())
    assert json.loads(native("MCP", AgentFailed("x"), call_id=found)[2])["id"] == call_id
