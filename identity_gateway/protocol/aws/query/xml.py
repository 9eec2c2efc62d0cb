"""XML of the query protocol: outputs and errors. It reads none: callers never send any."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from identity_gateway.errors import GatewayError
from identity_gateway.protocol.aws.model import Shape
from identity_gateway.protocol.aws.outputs import json_value

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document can hold, not even escaped."""

_CODES: Mapping[str, tuple[str, int | None]] = {
    "ValidationException": ("ValidationError", None),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", None),
    "IncompleteSignatureException": ("IncompleteSignature", None),
    "InvalidSignatureException": ("SignatureDoesNotMatch", None),
    "UnrecognizedClientException": ("InvalidClientTokenId", None),
    "ExpiredTokenException": ("ExpiredToken", None),
    "AccessDeniedException": ("AccessDenied", None),
    "UnauthorizedException": ("InvalidIdentityToken", 400),
    "UnknownOperationException": ("InvalidAction", 400),
    "UnsupportedOperationException": ("InvalidAction", 400),
    "ThrottlingException": ("Throttling", None),
    "ServiceUnavailableException": ("ServiceUnavailable", None),
    "InternalServerException": ("InternalFailure", None),
}
"""What STS calls the errors that have another name in AWS JSON, and their status where it differs, too."""

_FIRST_SERVER_FAULT = 500


def result_document(
    action: str, wrapper: str, namespace: str, shape: Shape, output: Mapping[str, Any], request_id: str
) -> bytes:
    """Return the answer of an action. A name that the output does not have, and a wrong type, is a TypeError."""
    unknown = sorted(output.keys() - shape.members.keys())
    if unknown:
        raise TypeError(f"{shape.name} has no member {', '.join(unknown)}")
    result = _element(wrapper, _members(shape, output))
    metadata = _element("ResponseMetadata", _element("RequestId", _text(request_id)))
    return _document(f"{action}Response", namespace, result + metadata)


def error_document(error: GatewayError, namespace: str, request_id: str) -> tuple[int, bytes]:
    """Return status and body of an error, by the code that STS has for it. `error.reason` is not in it."""
    code, status = _CODES.get(error.code, (error.code, None))
    status = status or error.status
    fault = "Sender" if status < _FIRST_SERVER_FAULT else "Receiver"
    said = _element("Type", fault) + _element("Code", _text(code)) + _element("Message", _text(error.message))
    return status, _document(
        "ErrorResponse", namespace, _element("Error", said) + _element("RequestId", _text(request_id))
    )


def _members(shape: Shape, output: Mapping[str, Any]) -> str:
    return "".join(
        _element(member.wire, _value(member.shape, output[name], name))
        for name, member in shape.members.items()
        if output.get(name) is not None
    )


def _value(shape: Shape, value: Any, path: str) -> str:
    if shape.kind == "structure":
        return _members(shape, value)
    if shape.kind == "list":
        return "".join(_element("member", _value(shape.element, each, path)) for each in value)
    if shape.kind == "timestamp":
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise TypeError(f"{path} must be a datetime with a time zone")
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    written = json_value(shape, value, path)
    return _text(written if isinstance(written, str) else str(written).lower())


def _text(value: str) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value), {"\r": "&#13;"})


def _element(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


def _document(name: str, namespace: str, content: str) -> bytes:
    return f'<{name} xmlns="{escape(namespace)}">{content}</{name}>\n'.encode()
