"""Which code of a protocol an error has: a table per protocol, read by the error's class and then its ancestors."""

from collections.abc import Mapping
from typing import TypeVar

from identity_gateway.errors import GatewayError

Code = TypeVar("Code")


def code_of(error: GatewayError, codes: Mapping[type[GatewayError], Code]) -> Code:
    """Return the code of the error's own class, or of its nearest ancestor. `codes` has GatewayError itself."""
    return next(codes[kind] for kind in type(error).__mro__ if kind in codes)


def headers_of(error: GatewayError, request_id: str, content_type: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of an error in any dialect: AWS's own, so that logs and AWS SDKs know it all the same."""
    return [
        (b"content-type", content_type),
        (b"x-amzn-errortype", error.code.encode("ascii")),
        (b"x-amzn-requestid", request_id.encode("ascii")),
    ]
