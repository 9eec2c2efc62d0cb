"""One value held against its shape: types become Python's, and every constraint of the model is checked.

It does not know where a value came from (`rest_json` does), and never repeats a value in a message: it may be a secret.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from identity_gateway.errors import FieldError, ValidationFailed
from identity_gateway.protocol.aws.model import Shape
from identity_gateway.protocol.aws.patterns import compile_pattern

MAX_ERRORS = 20
"""A report that holds so many errors is full: the rest of the input is not looked at."""

_BOUNDS = {"integer": 2**31, "long": 2**63}
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,18})", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,32}(?:\.\d{1,32})?(?:[eE][+-]?\d{1,3})?", re.ASCII)


class Report:
    """What is wrong with one input, all of it together, up to `MAX_ERRORS`."""

    def __init__(self) -> None:
        self._fields: list[FieldError] = []

    def add(self, path: str, problem: str) -> None:
        """Note a problem of the member at this path. Raises ValidationFailed when the report is full."""
        self._fields.append(FieldError(path, problem))
        if len(self._fields) >= MAX_ERRORS:
            self.settle()

    def settle(self) -> None:
        """Raise ValidationFailed if anything was noted."""
        if not self._fields:
            return
        count = len(self._fields)
        found = "; ".join(
            f"Value at '{each.name}' failed to satisfy constraint: {each.message}" for each in self._fields
        )
        noun = "error" if count == 1 else "errors"
        raise ValidationFailed(f"{count} validation {noun} detected: {found}", fields=tuple(self._fields))


def read_value(shape: Shape, value: Any, path: str, report: Report) -> Any:
    """Return a JSON value as what its shape says: datetime for timestamp, bytes for blob, float for float and double.

    What is wrong goes into the report; the value returned then means nothing. Bytes are taken as a decoded blob.
    Members that the shape does not have are left out. Documents are returned as they are.
    """
    return _READERS[shape.kind](shape, value, path, report)


def value_of_text(shape: Shape, text: str) -> Any:
    """Return the JSON value that a label, query parameter, header or form field stands for.

    Text that does not fit is returned as it is: `read_value` then refuses it.
    """
    if shape.kind in _BOUNDS:
        return int(text) if _WHOLE.fullmatch(text) else text
    if shape.kind in {"float", "double"}:
        return float(text) if _DECIMAL.fullmatch(text) else text
    if shape.kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if shape.kind == "timestamp" and shape.timestamp_format == "unixTimestamp":
        return float(text) if _DECIMAL.fullmatch(text) else text
    return text


def _string(shape: Shape, value: Any, path: str, report: Report) -> Any:
    if not isinstance(value, str):
        report.add(path, "Member must be a string")
        return None
    if not _fits(shape, len(value), path, report, "length"):
        return None
    if shape.enum and value not in shape.enum:
        report.add(path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    elif shape.pattern is not None:
        compiled = compile_pattern(shape.pattern)
        if compiled is not None and not compiled.fullmatch(value):
            report.add(path, f"Member must satisfy regular expression pattern: {shape.pattern}")
    return value


def _integer(shape: Shape, value: Any, path: str, report: Report) -> Any:
    bound = _BOUNDS[shape.kind]
    if not isinstance(value, int) or isinstance(value, bool) or not -bound <= value < bound:
        report.add(path, "Member must be an integer" if shape.kind == "integer" else "Member must be a long integer")
        return None
    _fits(shape, value, path, report, "value")
    return value


def _float(shape: Shape, value: Any, path: str, report: Report) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**128:
        value = float(value)
    if not isinstance(value, float) or not math.isfinite(value):
        report.add(path, "Member must be a number")
        return None
    _fits(shape, value, path, report, "value")
    return value


def _boolean(_shape: Shape, value: Any, path: str, report: Report) -> Any:
    if not isinstance(value, bool):
        report.add(path, "Member must be a boolean")
    return value


def _timestamp(shape: Shape, value: Any, path: str, report: Report) -> Any:
    try:
        moment = _TIMESTAMPS[shape.timestamp_format or "unixTimestamp"](value)
    except (TypeError, ValueError, OverflowError, OSError, IndexError):
        moment = None
    if moment is None:
        report.add(path, "Member must be a timestamp")
    return moment


def _epoch_seconds(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return datetime.fromtimestamp(value, UTC)


def _date_time(value: Any) -> datetime | None:
    return datetime.fromisoformat(value).astimezone(UTC) if _DATE_TIME.fullmatch(value) else None


def _http_date(value: Any) -> datetime | None:
    if not isinstance(value, str) or not value.endswith(" GMT") or len(value) > 40:
        return None
    return parsedate_to_datetime(value).astimezone(UTC)


def _blob(shape: Shape, value: Any, path: str, report: Report) -> Any:
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            value = None
    if not isinstance(value, bytes):
        report.add(path, "Member must be base64 (RFC 4648 §4)")
        return None
    _fits(shape, len(value), path, report, "length")
    return value


def _list(shape: Shape, value: Any, path: str, report: Report) -> Any:
    if not isinstance(value, list):
        report.add(path, "Member must be a list")
        return None
    if not _fits(shape, len(value), path, report, "length"):
        return None
    return [_entry(shape.element, each, f"{path}[{index}]", report) for index, each in enumerate(value)]


def _map(shape: Shape, value: Any, path: str, report: Report) -> Any:
    if not isinstance(value, dict):
        report.add(path, "Member must be a map")
        return None
    if not _fits(shape, len(value), path, report, "length"):
        return None
    read: dict[str, Any] = {}
    for index, (key, each) in enumerate(value.items()):
        read_value(shape.key, key, f"{path}[{index}].key", report)
        read[key] = _entry(shape.element, each, f"{path}[{index}].value", report)
    return read


def _entry(shape: Shape, value: Any, path: str, report: Report) -> Any:
    if value is None:
        report.add(path, "Member must not be null")
        return None
    return read_value(shape, value, path, report)


def _structure(shape: Shape, value: Any, path: str, report: Report) -> Any:
    if not isinstance(value, dict):
        report.add(path, "Member must be an object")
        return None
    given = {name: value.get(member.wire) for name, member in shape.members.items()}
    return read_members(shape, given, f"{path}.", report)


def _union(shape: Shape, value: Any, path: str, report: Report) -> Any:
    read = _structure(shape, value, path, report)
    if read is not None and len(read) != 1:
        report.add(path, f"Member must have exactly one of: {', '.join(shape.members)}")
    return read


def _document(_shape: Shape, value: Any, _path: str, _report: Report) -> Any:
    return value


def read_members(shape: Shape, given: Mapping[str, Any], prefix: str, report: Report) -> dict[str, Any]:
    """Return the members of a structure whose JSON values are given by member name; None is an absent one."""
    read: dict[str, Any] = {}
    for name, member in shape.members.items():
        value = given.get(name)
        if value is not None:
            read[name] = read_value(member.shape, value, prefix + name, report)
        elif member.required:
            report.add(prefix + name, "Member must not be null")
    return read


def _fits(shape: Shape, size: float, path: str, report: Report, what: str) -> bool:
    if shape.minimum is not None and size < shape.minimum:
        report.add(path, f"Member must have {what} greater than or equal to {shape.minimum}")
        return False
    if shape.maximum is not None and size > shape.maximum:
        report.add(path, f"Member must have {what} less than or equal to {shape.maximum}")
        return False
    return True


_TIMESTAMPS: Mapping[str, Callable[[Any], datetime | None]] = {
    "unixTimestamp": _epoch_seconds,
    "iso8601": _date_time,
    "rfc822": _http_date,
}
_READERS: Mapping[str, Callable[[Shape, Any, str, Report], Any]] = {
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
    "union": _union,
    "document": _document,
}
KINDS = frozenset(_READERS)
"""The kinds of shape that an input may hold."""
