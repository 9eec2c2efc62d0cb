"""One error in every dialect: `aws` (AWS JSON), `json_rpc` (MCP, A2A) and `sse` (AG-UI), one module each.

`native` chooses by the protocol of the runtime that was called. Whether a caller may be answered in that protocol at
all is decided by whoever calls it: the form of an answer tells that the runtime exists.
"""

from identity_gateway.api.render import json_rpc, sse
from identity_gateway.api.render.aws import Rendered, aws, safe
from identity_gateway.api.render.json_rpc import CallId, call_id_of, not_acceptable
from identity_gateway.api.render.sse import run_error
from identity_gateway.errors import GatewayError

__all__ = ["CallId", "Rendered", "aws", "call_id_of", "native", "not_acceptable", "run_error", "safe"]


def native(
    protocol: str, error: GatewayError, request_id: str, *, call_id: CallId = None, challenge: bytes | None
) -> Rendered:
    """Return an error in the form of a runtime's protocol (AWS: `serverProtocol`), HTTP's being AWS JSON.

    `call_id` is the id of the JSON-RPC request that failed, None where there is none or nobody knows it.
    """
    if protocol == "MCP":
        rendered = json_rpc.mcp(error, request_id, call_id)
    elif protocol == "A2A":
        rendered = json_rpc.a2a(error, request_id, call_id)
    elif protocol == "AGUI":
        rendered = sse.ag_ui(error, request_id)
    else:
        rendered = aws(error, request_id)
    status, headers, body = rendered
    return status, [*headers, *([(b"www-authenticate", challenge)] if challenge is not None else ())], body
