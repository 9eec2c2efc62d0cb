"""Responses of the restJson1 protocol: outputs and errors as status, headers and body.

It does not choose between errors, and does not write streams: the body of a streamed answer never comes here.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from identity_gateway.errors import GatewayError, ValidationFailed
from identity_gateway.protocol.aws.model import Member, Shape

Response = tuple[int, list[tuple[bytes, bytes]], bytes]

_JSON = (b"content-type", b"application/json")
_BODILESS = frozenset({204, 304})


def error_response(error: GatewayError, request_id: str) -> Response:
    """Return status, headers and body of an error in AWS's form. `error.reason` is not in it.

    What belongs to one error alone, such as `WWW-Authenticate` (RFC 6750 §3), the caller adds. Raises ValueError for a
    request id that is not printable ASCII.
    """
    if not (request_id.isascii() and request_id.isprintable()):
        raise ValueError("a request id is printable ASCII")
    document: dict[str, Any] = {"message": error.message}
    if isinstance(error, ValidationFailed):
        document["reason"] = error.kind
        document["fieldList"] = [{"name": each.name, "message": each.message} for each in error.fields]
    headers = [
        _JSON,
        (b"x-amzn-errortype", error.code.encode("ascii")),
        (b"x-amzn-requestid", request_id.encode("ascii")),
    ]
    return error.status, headers, _json_bytes(document)


def serialise(shape: Shape, success_status: int, output: Mapping[str, Any]) -> Response:
    """Return status, headers and body of an output. See `Operation.serialise_output`."""
    unknown = sorted(output.keys() - shape.members.keys())
    if unknown:
        raise TypeError(f"{shape.name} has no member {', '.join(unknown)}")
    status, payload = success_status, None
    headers: list[tuple[bytes, bytes]] = []
    document: dict[str, Any] = {}
    for name, value in output.items():
        member = shape.members[name]
        if value is None:
            continue
        if member.location == "statusCode":
            status = _integer(member.shape, value, name)
        elif member.location == "header":
            headers.append((member.wire.lower().encode("ascii"), _header_value(member, value)))
        elif name == shape.payload:
            payload = value if member.shape.kind == "blob" else _json_bytes(json_value(member.shape, value, name))
        else:
            document[member.wire] = json_value(member.shape, value, name)
    if status in _BODILESS:
        if document or payload:
            raise TypeError(f"{shape.name}: a {status} response has no body")
        return status, headers, b""
    return _with_body(shape, status, headers, document, payload)


def _with_body(
    shape: Shape, status: int, headers: list[tuple[bytes, bytes]], document: dict[str, Any], payload: Any
) -> Response:
    if shape.payload is None:
        return status, [*headers, _JSON], _json_bytes(document)
    kind = shape.members[shape.payload].shape.kind
    if kind == "eventstream":
        raise TypeError(f"{shape.name} is an event stream: it is not serialised at once")
    if payload is None:
        payload = b""
    if not isinstance(payload, bytes):
        raise TypeError(f"{shape.name}.{shape.payload} must be bytes")
    return status, headers if kind == "blob" else [*headers, _JSON], payload


def json_value(shape: Shape, value: Any, path: str) -> Any:
    """Return a value as JSON knows it. Raises TypeError when it is not of the shape; the message has no value in it.

    Members that a nested structure does not have are left out, None is an absent one.
    """
    return _WRITERS[shape.kind](shape, value, path)


def _header_value(member: Member, value: Any) -> bytes:
    if member.shape.kind == "timestamp":
        if (member.shape.timestamp_format or "rfc822") == "rfc822":
            return format_datetime(_aware(value, member.name).astimezone(UTC), usegmt=True).encode("ascii")
        return str(json_value(member.shape, value, member.name)).encode("ascii")
    written = json_value(member.shape, value, member.name)
    text = written if isinstance(written, str) else json.dumps(written)
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise TypeError(f"{member.name} holds a control character and cannot be a header")
    return text.encode("utf-8")


def _string(_shape: Shape, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _mismatch(path, value, "a string")
    return str(value)


def _integer(_shape: Shape, value: Any, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch(path, value, "an integer")
    return value


def _float(_shape: Shape, value: Any, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _mismatch(path, value, "a finite number")
    return value


def _boolean(_shape: Shape, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _mismatch(path, value, "a boolean")
    return value


def _timestamp(shape: Shape, value: Any, path: str) -> float | str:
    moment = _aware(value, path).astimezone(UTC)
    if shape.timestamp_format == "iso8601":
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if shape.timestamp_format == "rfc822":
        return format_datetime(moment, usegmt=True)
    seconds = round(moment.timestamp(), 3)
    return int(seconds) if seconds.is_integer() else seconds


def _aware(value: Any, path: str) -> datetime:
    if not isinstance(value, datetime):
        raise _mismatch(path, value, "a datetime")
    if value.tzinfo is None or value.utcoffset() is None:
        raise TypeError(f"{path} must be a datetime with a time zone")
    return value


def _blob(_shape: Shape, value: Any, path: str) -> str:
    if not isinstance(value, bytes):
        raise _mismatch(path, value, "bytes")
    return base64.b64encode(value).decode("ascii")


def _list(shape: Shape, value: Any, path: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _mismatch(path, value, "a list")
    return [json_value(shape.element, each, f"{path}[{index}]") for index, each in enumerate(value)]


def _map(shape: Shape, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(path, value, "a mapping")
    return {
        _string(shape.key, key, f"{path}[{index}].key"): json_value(shape.element, each, f"{path}[{index}].value")
        for index, (key, each) in enumerate(value.items())
    }


def _structure(shape: Shape, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(path, value, "a mapping")
    return {
        member.wire: json_value(member.shape, value[name], f"{path}.{name}")
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _document(_shape: Shape, value: Any, _path: str) -> Any:
    return value


def _event_stream(shape: Shape, _value: Any, _path: str) -> Any:
    raise TypeError(f"{shape.name} is an event stream: it is not serialised at once")


def _mismatch(path: str, value: Any, wanted: str) -> TypeError:
    return TypeError(f"{path} must be {wanted}, not {type(value).__name__}")


def _json_bytes(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


_WRITERS: Mapping[str, Callable[[Shape, Any, str], Any]] = {
    "string": _string,
    "integer": _integer,
    "long": _integer,
    "float": _float,
    "double": _float,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "blob": _blob,
    "list": _list,
    "map": _map,
    "structure": _structure,
    "union": _structure,
    "document": _document,
    "eventstream": _event_stream,
}
