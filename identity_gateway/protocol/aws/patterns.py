"""Patterns of the service models (ECMA 262 syntax, full match) as Python regular expressions.

It does not decide which value is held against which pattern, and does not bound its length: `model` and `values` do.
"""

import re
import warnings
from functools import cache

# Unicode's general category "Other" without the unassigned code points, which differ between Unicode versions:
# control, format, surrogate and private use.
_OTHER = (
    r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u2064\u2066-\u206f\ud800-\uf8ff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\U000f0000-\U000ffffd"
    r"\U00100000-\U0010fffd"
)
_PROPERTIES = {r"\p{C}": _OTHER}
_PART = re.compile(r"\\[pP]\{\w*\}|\\.|.", re.DOTALL)
# Python's dot stops at \n alone, and its dollar also stands before a last \n.
_OUTSIDE_CLASS = {".": r"[^\n\r\u2028\u2029]", "$": r"\Z"}


@cache
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    r"""Return the pattern for `fullmatch`, or None if it cannot be translated, and so cannot be checked.

    `\d`, `\w` and `\s` are ASCII, `.` stops at every line end, `$` is the very end. Of the Unicode properties only
    `\p{C}` is known. A test proves that no pattern of the installed models is left out.
    """
    try:
        with warnings.catch_warnings():
            # Python warns that `[[` or `--` may change meaning one day; in ECMA 262 they are plain characters, as here.
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(_translate(pattern), re.ASCII)
    except (re.error, KeyError, OverflowError, RecursionError):
        return None


def _translate(pattern: str) -> str:
    """Rewrite what Python reads otherwise than ECMA 262. Raises KeyError for a Unicode property it does not know."""
    written: list[str] = []
    in_class = False
    for part in _PART.findall(pattern):
        if part[:2] in {r"\p", r"\P"}:
            characters = _PROPERTIES[part]
            written.append(characters if in_class else f"[{characters}]")
            continue
        written.append(part if in_class else _OUTSIDE_CLASS.get(part, part))
        in_class = part != "]" if in_class else part == "["
    return "".join(written)
