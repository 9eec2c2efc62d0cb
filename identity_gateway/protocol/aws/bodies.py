"""Request bodies of the AWS protocols that are JSON: one object, strictly read.

It does not bound the size (whoever reads the body does), and does not know what the object should hold.
"""

from typing import Any

from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol import strictjson

MAX_DEPTH = 64


def read_object(body: bytes) -> dict[str, Any]:
    """Return the object that the body holds; an empty body is an empty object.

    Raises ValidationFailed of kind CannotParse, whose message repeats nothing of the body.
    """
    if not body:
        return {}
    try:
        value = strictjson.loads(body, max_depth=MAX_DEPTH)
    except ValueError as error:
        raise _cannot_parse(str(error)) from None
    if not isinstance(value, dict):
        raise _cannot_parse("not a JSON object")
    if b"\\u0000" in body and _holds_null_character(value):
        raise _cannot_parse("U+0000 in a string")
    return value


def _holds_null_character(document: dict[str, Any]) -> bool:
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and "\x00" in value:
            return True
        if isinstance(value, dict | list):
            waiting.extend(value)
        if isinstance(value, dict):
            waiting.extend(value.values())
    return False


def _cannot_parse(problem: str) -> ValidationFailed:
    return ValidationFailed(f"The body of the request cannot be read: {problem}.", kind="CannotParse")
