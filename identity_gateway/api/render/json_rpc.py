"""Errors as JSON-RPC 2.0 responses, for MCP and A2A runtimes (AWS: runtime troubleshooting, codes per protocol)."""

import json
from collections.abc import Mapping

from identity_gateway.api.render.aws import Rendered, aws
from identity_gateway.api.render.codes import code_of, headers_of
from identity_gateway.errors import (
    AccessDenied,
    AgentFailed,
    Conflict,
    GatewayError,
    NotFound,
    QuotaExceeded,
    Throttled,
    Unauthenticated,
    Unavailable,
    UnknownOperation,
    ValidationFailed,
)

CallId = str | int | None
"""The id of a JSON-RPC request; None is `null`: there is none, or nobody knows it (JSON-RPC 2.0 §5)."""

_LONGEST_ID = 1024

_MCP: Mapping[type[GatewayError], int] = {
    Unauthenticated: -32001,
    AccessDenied: -32002,
    Throttled: -32003,
    QuotaExceeded: -32003,
    NotFound: -32004,
    UnknownOperation: -32004,
    Conflict: -32005,
    ValidationFailed: -32006,
    AgentFailed: -32010,
    GatewayError: -32603,
}
_NOT_ACCEPTABLE = -32011

_MCP_ON_HTTP = (Unauthenticated, AccessDenied, Unavailable)
"""Errors that clients act upon by their HTTP status: to log in, to ask for more scopes, to come back later."""

_A2A: Mapping[type[GatewayError], tuple[int, int]] = {
    NotFound: (-32051, 404),
    UnknownOperation: (-32051, 404),
    ValidationFailed: (-32052, 400),
    Throttled: (-32053, 429),
    QuotaExceeded: (-32053, 429),
    Conflict: (-32054, 409),
    AgentFailed: (-32055, 424),
    Unavailable: (-32603, 503),
    GatewayError: (-32603, 500),
}


def call_id_of(body: bytes) -> CallId:
    """Return the id of the JSON-RPC request in a body, None if it is none, a notification, or not to be read."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = call.get("id") if isinstance(call, dict) and "method" in call else None
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    return found if len(str(found)) <= _LONGEST_ID else None


def mcp(error: GatewayError, request_id: str, call_id: CallId) -> Rendered:
    """Return an error for a client of MCP's streamable HTTP transport.

    AWS answers most errors with HTTP 200. A client can match such a response to its request by the id alone, so an
    error whose request has no id, or one that nobody knows, has a status of HTTP that says the same.
    """
    acted_upon = isinstance(error, _MCP_ON_HTTP) or type(error) is GatewayError
    status = error.status if acted_upon or call_id is None else 200
    return status, headers_of(error, request_id, b"application/json"), _response(error, code_of(error, _MCP), call_id)


def not_acceptable(request_id: str, call_id: CallId) -> Rendered:
    """Return the refusal of a call of MCP whose Accept lacks a form in which the server answers (AWS: -32011)."""
    error = ValidationFailed("Not Acceptable: accept both application/json and text/event-stream.")
    return 406, headers_of(error, request_id, b"application/json"), _response(error, _NOT_ACCEPTABLE, call_id)


def a2a(error: GatewayError, request_id: str, call_id: CallId) -> Rendered:
    """Return an error for a client of A2A. Refusals of the caller are plain HTTP, in AWS's form."""
    if isinstance(error, Unauthenticated | AccessDenied):
        return aws(error, request_id)
    code, status = code_of(error, _A2A)
    return status, headers_of(error, request_id, b"application/json"), _response(error, code, call_id)


def _response(error: GatewayError, code: int, call_id: CallId) -> bytes:
    document = {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": error.message}}
    return json.dumps(document, allow_nan=False).encode()
