"""Reads the body of a vendor's answer into a document, whatever the vendor calls it. Never raises for bad bytes.

It bounds size and count, refuses what has two meanings, and does not know what the document should say.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from identity_gateway.protocol import strictjson
from identity_gateway.protocol.descriptor import Purpose

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

_MAX_BODY = 512 * 1024
_MAX_FIELDS = 200
_FORM = re.compile(r"[A-Za-z0-9_.\[\]%-]{1,200}=", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read. `document` is None when the body is no document, or one with two meanings.

    Header names are in lower case; of a repeated header the first counts. `now` is when the request began.
    """

    purpose: Purpose
    status: int
    headers: Mapping[str, str] = field(repr=False)
    document: dict[str, Any] | None = field(repr=False)
    now: float


def answer(purpose: Purpose, status: int, headers: Headers, body: bytes, form: str, now: float) -> Answer:
    """Return an answer of the wire as values. `form` is `auto`, `json` or `form`."""
    named: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        named.setdefault(name.lower(), value)
    return Answer(purpose, status, named, document(body, named.get("content-type", ""), form), now)


def document(body: bytes, content_type: str, form: str) -> dict[str, Any] | None:
    """Return the JSON object or the form that a body holds, or None. An empty body is an empty document.

    `auto` trusts the first character more than the content type: vendors send JSON as text/html, and pages as JSON.
    """
    if len(body) > _MAX_BODY:
        return None
    body = body.removeprefix(_BOM).strip()
    if not body:
        return {}
    if form == "json" or (form == "auto" and (body[:1] == b"{" or "json" in content_type.lower())):
        return _json(body)
    return _form(body)


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        value = strictjson.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _form(body: bytes) -> dict[str, Any] | None:
    try:
        text = body.decode("utf-8")
        if not _FORM.match(text) or _BAD_ESCAPE.search(text):
            return None
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        return None
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def http_date(text: str | None) -> float | None:
    """Return an HTTP date (RFC 9110 §5.6.7) in seconds since the epoch, or None."""
    if not text or len(text) > 64:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
