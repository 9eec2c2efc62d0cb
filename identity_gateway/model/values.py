"""A JSON object by name, and a value that must not be shown."""

from typing import Any

Document = dict[str, Any]
"""A JSON object, in the member names of the AWS models."""


class Secret:
    """A value that must not be shown. Its `repr` is `<secret>`; compare with `hmac.compare_digest(a.reveal(), …)`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself. Every call site is a place to look at."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> str:
        message = "a secret cannot be pickled"
        raise TypeError(message)
