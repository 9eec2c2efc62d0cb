"""Errors in AWS JSON, with the challenge of a bearer-guarded runtime beside them; and what of an error may be shown."""

import structlog

from identity_gateway.errors import GatewayError
from identity_gateway.protocol.aws import error_response

Rendered = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""

_log = structlog.get_logger()


def safe(error: BaseException) -> GatewayError:
    """Return the error to show: our own as it is; anything else as an internal error that says nothing.

    The log gets the kind of the unforeseen error and where it was raised, but not its text, which may quote input.
    """
    if isinstance(error, GatewayError):
        return error
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename.rpartition('/')[2]}:{where.tb_lineno}" if where else "unknown"
    _log.error("unforeseen error", fault=error.__class__.__name__, place=place)
    return GatewayError(reason=f"{error.__class__.__name__} at {place}")


def aws(error: GatewayError, request_id: str, *, challenge: bytes | None = None) -> Rendered:
    """Return status, headers and body of an error on the AWS surface."""
    status, headers, body = error_response(error, request_id)
    if challenge is not None:
        headers = [*headers, (b"www-authenticate", challenge)]
    return status, headers, body
