"""Which operation a method and a raw path mean, and the labels in the path.

It does not look at the query string, the headers or the body, never redirects, and treats `/a` and `/a/` as two paths.
"""

import re
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from identity_gateway.errors import UnknownOperation, ValidationFailed

T = TypeVar("T")

_NOT_IN_PATH = re.compile(rb"[^\x21-\x7e]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LABEL = re.compile(r"\{([^{}+]+)\}")


@dataclass(slots=True)
class _Node(Generic[T]):
    """One segment of the paths of a family: literals lead on by name, a label by any segment."""

    literals: dict[bytes, "_Node[T]"] = field(default_factory=dict)
    label: "_Node[T] | None" = None
    operation: T | None = None
    label_names: tuple[tuple[int, str], ...] = ()


class RouteTable(Generic[T]):
    """Operations by method and path. Paths of one method, length and trailing slash share a tree; literals come first.

    So a look-up costs as many steps as the path has segments, and the most specific path wins.
    """

    def __init__(self) -> None:
        self._families: dict[tuple[str, int, bool], _Node[T]] = {}

    def add(self, method: str, template: str, operation: T) -> None:
        """Take an operation in. Raises ValueError if another has this path, or if the template is not understood."""
        segments, trailing_slash = _split(template.encode("ascii"))
        node = self._families.setdefault((method, len(segments), trailing_slash), _Node())
        names: list[tuple[int, str]] = []
        for position, segment in enumerate(segments):
            label = _LABEL.fullmatch(segment.decode("ascii"))
            if label is not None:
                names.append((position, label[1]))
                node.label = node.label or _Node()
                node = node.label
            elif not segment or set(segment) & set(b"{}?"):
                raise ValueError(f"{operation}: the path template {template} is not understood")
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.operation is not None:
            raise ValueError(f"{operation} and {node.operation} have the same method and path")
        node.operation, node.label_names = operation, tuple(names)

    def match(self, method: str, raw_path: bytes) -> tuple[T, dict[str, str]]:
        """Return the operation and the labels of a path as it stood on the wire, without the query string.

        Each label is percent-decoded once, as strict UTF-8. Literals match only as they are: an escaped letter in one
        makes another path. Raises ValidationFailed for a path that no client writes (broken escapes, empty or dot
        segments, control characters), else UnknownOperation.
        """
        if not raw_path.startswith(b"/"):
            raise UnknownOperation("There is no such operation.", reason="the path does not start with a slash")
        if _NOT_IN_PATH.search(raw_path) or _BROKEN_ESCAPE.search(raw_path):
            raise _malformed("it holds a byte that must be escaped, or a broken escape")
        segments, trailing_slash = _split(raw_path)
        texts = [_decode_segment(segment) for segment in segments]
        family = self._families.get((method, len(segments), trailing_slash))
        node = None if family is None else _find(family, segments, 0)
        if node is None or node.operation is None:
            raise UnknownOperation("There is no such operation.", reason="no operation has this method and path")
        return node.operation, {name: texts[position] for position, name in node.label_names}


def percent_decode(raw: bytes) -> str:
    """Decode percent escapes once, as strict UTF-8; a plus stays a plus. Raises ValueError for anything broken."""
    if _BROKEN_ESCAPE.search(raw):
        raise ValueError("broken percent escape")
    if b"%" in raw:
        raw = _ESCAPE.sub(_byte, raw)
    return raw.decode("utf-8")


def _byte(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))


def _split(path: bytes) -> tuple[list[bytes], bool]:
    """Return the segments between the slashes, and whether a slash ends the path."""
    segments = path.split(b"/")[1:]
    if segments[-1] == b"":
        return segments[:-1], True
    return segments, False


def _decode_segment(segment: bytes) -> str:
    if not segment:
        raise _malformed("it has an empty segment")
    try:
        text = percent_decode(segment)
    except ValueError:
        raise _malformed("a segment is not UTF-8") from None
    if _CONTROL.search(text):
        raise _malformed("a segment holds a control character")
    if "." in text and any(part in {".", ".."} for part in text.split("/")):
        raise _malformed("it has a dot segment")
    return text


def _find(node: _Node[T], segments: list[bytes], position: int) -> _Node[T] | None:
    if position == len(segments):
        return None if node.operation is None else node
    for child in (node.literals.get(segments[position]), node.label):
        found = None if child is None else _find(child, segments, position + 1)
        if found is not None:
            return found
    return None


def _malformed(reason: str) -> ValidationFailed:
    return ValidationFailed("The path of the request is malformed.", kind="CannotParse", reason=f"path: {reason}")
