"""Form bodies of the query protocol: fields by name, and the input that they stand for.

It does not bound the size of a body (whoever reads it does); values are checked by `values`.
"""

import re
from collections.abc import Mapping
from typing import Any

from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol.aws.model import Shape
from identity_gateway.protocol.aws.routes import percent_decode
from identity_gateway.protocol.aws.values import Report, read_members, value_of_text

MAX_FIELDS = 500
_MAX_DEPTH = 8
_PLACE = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


def fields_of(body: bytes) -> dict[str, str]:
    """Return the fields of an `application/x-www-form-urlencoded` body. A plus is a blank.

    Raises ValidationFailed of kind CannotParse for a name that stands twice in any case of letters, for what is not
    UTF-8 or holds U+0000, and for more than `MAX_FIELDS`.
    """
    pairs = body.split(b"&") if body else []
    if len(pairs) > MAX_FIELDS:
        raise _cannot_parse(f"more than {MAX_FIELDS} fields")
    fields: dict[str, str] = {}
    seen: set[str] = set()
    for pair in pairs:
        raw_name, _, raw_value = pair.partition(b"=")
        try:
            name, value = (percent_decode(part.replace(b"+", b" ")) for part in (raw_name, raw_value))
        except ValueError:
            raise _cannot_parse("broken percent escape, or not UTF-8") from None
        if "\x00" in name + value:
            raise _cannot_parse("U+0000 in a field")
        if name.lower() in seen:
            raise _cannot_parse("a field stands twice")
        seen.add(name.lower())
        fields[name] = value
    return fields


def read_form(shape: Shape, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the checked input of an action by member name. Raises ValidationFailed, which repeats no value."""
    report = Report()
    taken = read_members(shape, _members(shape, fields, "", 0), "", report)
    report.settle()
    return taken


def _members(shape: Shape, fields: Mapping[str, str], prefix: str, depth: int) -> dict[str, Any]:
    return {
        name: value
        for name, member in shape.members.items()
        if (value := _value(member.shape, fields, prefix + member.wire, depth)) is not None
    }


def _value(shape: Shape, fields: Mapping[str, str], name: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:  # a model that holds itself
        return None
    if shape.kind == "list":
        return _list(shape, fields, name, depth)
    if shape.kind == "structure":
        return _members(shape, fields, f"{name}.", depth + 1) or None
    return value_of_text(shape, fields[name]) if name in fields else None


def _list(shape: Shape, fields: Mapping[str, str], name: str, depth: int) -> list[Any] | None:
    prefix = f"{name}.member."
    places = {field.removeprefix(prefix).partition(".")[0] for field in fields if field.startswith(prefix)}
    if not places:
        return [] if fields.get(name) == "" else None  # this is how SDKs write an empty list
    if not all(_PLACE.fullmatch(place) for place in places) or max(map(int, places)) != len(places):
        raise _cannot_parse("a list is not numbered from 1 without gaps")
    return [_value(shape.element, fields, f"{prefix}{place}", depth + 1) for place in sorted(map(int, places))]


def _cannot_parse(problem: str) -> ValidationFailed:
    return ValidationFailed(f"The body of the request cannot be read: {problem}.", kind="CannotParse")
