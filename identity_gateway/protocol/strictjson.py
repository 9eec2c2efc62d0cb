"""Reads JSON that decides about trust: one text has one meaning, and its cost is known before it is read.

It does not bound the size (the caller did, before it held the bytes), and does not know what the document should say.
"""

import json
import math
import re
from typing import Any, NoReturn

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)
"""A string swallows the brackets inside it. One without an end swallows the rest, so that the scan stays linear."""

_LARGEST_INTEGER = 2**63 - 1


def loads(data: bytes, *, max_depth: int = 32) -> Any:
    """Return the value of a JSON text (RFC 8259), or raise ValueError, and nothing else.

    Refused beyond the grammar: bytes that are not UTF-8, a byte order mark, two members of one name, NaN and Infinity,
    numbers that no IEEE 754 double holds, integers beyond 64 bits, lone surrogates, and nesting deeper than `max_depth`
    (measured before parsing). The error says what was wrong and never quotes the document.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 at byte {error.start}"
        raise ValueError(message) from None
    _check_depth(text, max_depth)
    value = _value(text)
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _value(text: str) -> Any:
    try:
        if text[:1] == "{":
            value, end = _DECODER.raw_decode(text)
            if end == len(text):  # nothing stands before it or after it, not even blanks
                return value
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        message = f"not JSON at character {error.pos}"
        raise ValueError(message) from None


def _check_depth(text: str, limit: int) -> None:
    # Most documents have fewer brackets than the limit: counting them is quicker than following them.
    if text.count("[") + text.count("{") <= limit:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        mark = match.group()
        if mark in "[{":
            depth += 1
            if depth > limit:
                message = f"nested deeper than {limit}"
                raise ValueError(message)
        elif mark in "]}":
            depth -= 1


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        message = "a lone surrogate in a string"
        raise ValueError(message) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        message = "two members of one name"
        raise ValueError(message)
    return members


def _integer(digits: str) -> int:
    if len(digits) < 19:
        return int(digits)
    if len(digits) > 20 or abs(number := int(digits)) > _LARGEST_INTEGER:
        message = "an integer beyond 64 bits"
        raise ValueError(message)
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        message = "a number beyond the range of a double"
        raise ValueError(message)
    return number


def _constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant, strict=True
)
