"""Takes secrets out of a vendor's words before anybody sees them: what was sent, and what looks like a token.

Vendors echo requests into their error texts, whole, cut off, or encoded.
"""

import base64
import re
from collections.abc import Collection, Iterator
from urllib.parse import quote, quote_plus

_GONE = "[secret]"
_WINDOW = 12
"""So many characters of a secret in a row are a leak; fewer are words that happen to be there."""

_PIECE = 6
_STEP = _WINDOW - _PIECE + 1
"""Of any `_WINDOW` characters in a row, one whole piece begins at a multiple of this."""

_TOKEN_LIKE = re.compile(
    r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,4}|(?i:bearer|basic)\s+[A-Za-z0-9._~+/=-]{20,}", re.ASCII
)
_MAX_TEXT = 1000
_MAX_SECRET = 65536


def clean(text: str, *, limit: int, secrets: Collection[str] = (), prefixes: Collection[str] = ()) -> str:
    """Return the text in one printable line of at most `limit` characters, with secrets taken out before it is cut.

    `secrets` are what was sent; `prefixes` are how this vendor's tokens begin. A secret too short to be looked for in
    parts empties the text that holds it.
    """
    text = text[:_MAX_TEXT]
    for secret in {form for each in secrets for form in _forms(each)}:
        text = _without(text, secret[:_MAX_SECRET])
    text = _TOKEN_LIKE.sub(_GONE, text)
    for prefix in prefixes:
        text = re.sub(re.escape(prefix) + r"[A-Za-z0-9._~+/=|-]{8,}", _GONE, text)
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:limit]


def _forms(secret: str) -> Iterator[str]:
    if not secret:
        return
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield base64.b64encode(secret.encode(errors="replace")).decode().rstrip("=")


def _without(text: str, secret: str) -> str:
    if len(secret) < _WINDOW:
        return "" if secret in text else text
    hidden = [False] * len(text)
    for at in _suspected(text, secret):
        if text[at : at + _WINDOW] in secret:
            hidden[at : at + _WINDOW] = [True] * _WINDOW
    pieces = []
    for at, each in enumerate(text):
        if not hidden[at]:
            pieces.append(each)
        elif at == 0 or not hidden[at - 1]:
            pieces.append(_GONE)
    return "".join(pieces)


def _suspected(text: str, secret: str) -> list[int]:
    """Return where a window of the text may be one of the secret: to search a long secret for each takes long."""
    pieces = {secret[at : at + _PIECE] for at in range(0, len(secret) - _PIECE + 1, _STEP)}
    found = {at for at in range(len(text) - _PIECE + 1) if text[at : at + _PIECE] in pieces}
    last = len(text) - _WINDOW
    return sorted({begin for at in found for begin in range(max(0, at - _STEP + 1), min(at, last) + 1)})
