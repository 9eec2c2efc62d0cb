"""Errors as events of AG-UI, `RUN_ERROR`, in a stream of server-sent events (AWS: AG-UI protocol contract)."""

import json
from collections.abc import Mapping

from identity_gateway.api.render.aws import Rendered
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

_AG_UI: Mapping[type[GatewayError], tuple[str, int]] = {
    Unauthenticated: ("UNAUTHORIZED", 401),
    AccessDenied: ("ACCESS_DENIED", 403),
    ValidationFailed: ("VALIDATION_ERROR", 400),
    NotFound: ("NOT_FOUND", 404),
    UnknownOperation: ("NOT_FOUND", 404),
    Conflict: ("SESSION_BUSY", 409),
    Throttled: ("RATE_LIMIT_EXCEEDED", 429),
    QuotaExceeded: ("SERVICE_QUOTA_EXCEEDED", 429),
    AgentFailed: ("AGENT_ERROR", 200),
    Unavailable: ("INTERNAL_ERROR", 503),
    GatewayError: ("INTERNAL_ERROR", 500),
}


def ag_ui(error: GatewayError, request_id: str) -> Rendered:
    """Return an error as a stream of one event. An agent's failure is an event of a run that took place: HTTP 200."""
    _, status = code_of(error, _AG_UI)
    return status, headers_of(error, request_id, b"text/event-stream"), run_error(error)


def run_error(error: GatewayError) -> bytes:
    """Return the event alone, to end a stream that has begun."""
    code, _ = code_of(error, _AG_UI)
    event = {"type": "RUN_ERROR", "code": code, "message": error.message}
    return b"data: " + json.dumps(event).encode() + b"\n\n"
