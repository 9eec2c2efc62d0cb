"""The restJson1 protocol, requests: which part of an HTTP request holds which member of an operation's input.

It does not check values (`values` does) and does not bound the size of anything: the server and the caller do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol.aws.bodies import read_object
from identity_gateway.protocol.aws.model import Member, Shape
from identity_gateway.protocol.aws.outputs import serialise
from identity_gateway.protocol.aws.routes import percent_decode
from identity_gateway.protocol.aws.values import KINDS, Report, read_members, value_of_text

_SCALARS = KINDS - {"list", "map", "structure", "union", "document"}
# HTTP and W3C Trace Context allow these to be sent in several lines; any other member's header must stand once.
_LIST_HEADERS = frozenset({b"accept", b"baggage", b"tracestate"})


class RestJson:
    """Reads the requests and writes the responses of one operation."""

    routed = True

    def __init__(self, taken: Shape, given: Shape, success_status: int) -> None:
        """Sort the members of the input by where they stand. Raises ValueError for a model that is not understood."""
        self._taken = taken
        self._given = given
        self._success_status = success_status
        members = taken.members.values()
        self._labels = [member for member in members if member.location == "uri"]
        self._query = {member.wire: member for member in members if member.location == "querystring"}
        self._headers = {member.wire.lower().encode(): member for member in members if member.location == "header"}
        self._payload = None if taken.payload is None else taken.members[taken.payload]
        self._body = [member for member in members if member.location == "body" and member is not self._payload]
        for member in members:
            if not _understood(member):
                raise ValueError(f"{taken.name}.{member.name} cannot be read from the {member.location}")

    @property
    def body_kind(self) -> str:
        """Return `json` (an object), `blob payload` (the body is one member, as it stands) or `none`."""
        if self._payload is not None:
            return "blob payload" if self._payload.shape.kind == "blob" else "json"
        return "json" if self._body else "none"

    def parse(
        self, labels: Mapping[str, str], raw_query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> dict[str, Any]:
        """Return the checked input by member name. See `Operation.parse_input`."""
        report = Report()
        given: dict[str, Any] = {
            member.name: value_of_text(member.shape, labels[member.wire])
            for member in self._labels
            if member.wire in labels
        }
        if self._query:
            given.update(self._read_query(raw_query, report))
        if self._headers:
            given.update(self._read_headers(headers, report))
        given.update(self._read_body(body))
        taken = read_members(self._taken, given, "", report)
        report.settle()
        return taken

    def serialise(self, output: Mapping[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers and body. See `Operation.serialise_output`."""
        return serialise(self._given, self._success_status, output)

    def _read_query(self, raw_query: bytes, report: Report) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, texts in _query_texts(raw_query).items():
            member = self._query.get(name)
            if member is None:
                continue
            if member.shape.kind == "list":
                given[member.name] = [value_of_text(member.shape.element, text) for text in texts]
            elif len(texts) > 1:
                report.add(member.name, "Member must be given once")
            else:
                given[member.name] = value_of_text(member.shape, texts[0])
        return given

    def _read_headers(self, headers: Sequence[tuple[bytes, bytes]], report: Report) -> dict[str, Any]:
        lines: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            lower = name.lower()
            if lower in self._headers:
                lines.setdefault(lower, []).append(value.strip(b" \t"))
        given: dict[str, Any] = {}
        for name, values in lines.items():
            member = self._headers[name]
            if len(values) > 1 and name not in _LIST_HEADERS:
                report.add(member.name, "Member must be given once")
                continue
            try:
                given[member.name] = value_of_text(member.shape, _header_text(b", ".join(values)))
            except ValueError:
                report.add(member.name, "Member must be UTF-8 text without control characters")
        return given

    def _read_body(self, body: bytes) -> dict[str, Any]:
        if self._payload is not None:
            return {self._payload.name: body if self._payload.shape.kind == "blob" else read_object(body)}
        if not self._body:
            return {}
        document = read_object(body)
        return {member.name: document.get(member.wire) for member in self._body}


def _query_texts(raw_query: bytes) -> dict[str, list[str]]:
    """Return the values of every parameter, in the order of the wire. A parameter without `=` has the empty value."""
    texts: dict[str, list[str]] = {}
    for pair in raw_query.split(b"&") if raw_query else ():
        name, _, value = pair.partition(b"=")
        try:
            texts.setdefault(percent_decode(name), []).append(_without_null(percent_decode(value)))
        except ValueError:
            raise ValidationFailed("The query string of the request is malformed.", kind="CannotParse") from None
    return texts


def _without_null(text: str) -> str:
    if "\x00" in text:
        raise ValueError("U+0000")
    return text


def _header_text(value: bytes) -> str:
    if any(byte < 0x20 and byte != 0x09 for byte in value):
        raise ValueError("control character in a header")
    return value.decode("utf-8")


def _understood(member: Member) -> bool:
    kind = member.shape.kind
    if member.location == "querystring" and kind == "list":
        return member.shape.element.kind in _SCALARS
    if member.location in {"uri", "querystring", "header"}:
        return kind in _SCALARS
    return member.location == "body" and kind in KINDS
