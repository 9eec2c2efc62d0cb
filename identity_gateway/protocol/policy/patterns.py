"""Texts of a policy with wildcards and variables: `arn:…:runtime/${aws:username}-*`.

A variable stands for one value of the request, and what it stands for is never read as a pattern: a user called `*` is
one user. No pattern takes for ever, whatever its author wrote (see `wildcard`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from identity_gateway.protocol.policy.keys import KEYS

Context = Mapping[str, tuple[str, ...]]
"""Condition keys of a request, in lower case, and their values."""

# Possessive: a brace that is never closed is found out at its first try.
_VARIABLE = re.compile(r"\$\{(?:([*?$])|([^,'{}]++)(?:,\s*+'([^']*+)'\s*+)?)\}")
_STARS = re.compile(r"\*+")


@dataclass(frozen=True, slots=True)
class Variable:
    """`${key}` or `${key, 'default'}`, the key in lower case."""

    key: str
    default: str | None

    def value(self, context: Context) -> str | None:
        """Return what it stands for. A key with several values stands for nothing (AWS IAM: policy variables)."""
        values = context.get(self.key, ())
        return values[0] if len(values) == 1 else self.default


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that is itself, also where it has a star."""

    text: str


@dataclass(frozen=True, slots=True)
class Wild:
    """Text in which `*` is any text and `?` any character."""

    text: str


Part = Variable | Literal | Wild


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text of a policy, read by `read`. `keys` are those that its variables ask for; without any it is compiled."""

    parts: tuple[Part, ...]
    keys: frozenset[str]
    ignore_case: bool
    compiled: re.Pattern[str] | None

    def matches(self, text: str, context: Context) -> bool | None:
        """Whether the whole text is what the pattern says; None when a variable of it stands for nothing."""
        if self.compiled is not None:
            return self.compiled.fullmatch(text) is not None
        resolved: list[Literal | Wild] = []
        for part in self.parts:
            if not isinstance(part, Variable):
                resolved.append(part)
                continue
            value = part.value(context)
            if value is None:
                return None
            resolved.append(Literal(value))
        return _compiled(resolved, self.ignore_case).fullmatch(text) is not None


def read(text: str, *, wild: bool, ignore_case: bool = False) -> Pattern:
    """Return the pattern that a text of a policy is. Raises ValueError for a variable that cannot be read.

    With `wild`, stars and question marks outside of `${…}` are wildcards; without, they are themselves.
    """
    parts: list[Part] = []
    at = 0
    while (begins := text.find("${", at)) >= 0:
        match = _VARIABLE.match(text, begins)
        if match is None:
            raise ValueError("a variable is written ${key}, ${key, 'default'}, ${*}, ${?} or ${$}")
        if begins > at:
            parts.append(_plain(text[at:begins], wild=wild))
        parts.append(Literal(match[1]) if match[1] else _variable(match[2], match[3]))
        at = match.end()
    if at < len(text) or not parts:
        parts.append(_plain(text[at:], wild=wild))
    keys = frozenset(part.key for part in parts if isinstance(part, Variable))
    constant = [part for part in parts if not isinstance(part, Variable)]
    return Pattern(tuple(parts), keys, ignore_case, None if keys else _compiled(constant, ignore_case))


def _plain(text: str, *, wild: bool) -> Literal | Wild:
    return Wild(text) if wild else Literal(text)


def _variable(written: str, default: str | None) -> Variable:
    name = written.strip()
    key = KEYS.get(name.lower())
    if key is None:
        raise ValueError(f"the variable {name} is not one that this gateway has")
    if key.several:
        raise ValueError(f"the variable {name} may have several values")
    return Variable(name.lower(), default)


def wildcard(text: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Return what a text with `*` and `?` matches, whole. Variables are not looked for."""
    return _compiled([Wild(text)], ignore_case)


def _compiled(parts: list[Literal | Wild], ignore_case: bool) -> re.Pattern[str]:
    """Compile what stands between stars as atoms: each is taken where it is found first, and not tried elsewhere.

    A later place could not match more, and trying every combination of places would take for ever.
    """
    pieces = [""]
    for part in parts:
        if isinstance(part, Literal):
            pieces[-1] += re.escape(part.text)
            continue
        first, *more = (re.escape(piece).replace(r"\?", ".") for piece in _STARS.split(part.text))
        pieces[-1] += first
        pieces += more
    first, *rest = pieces
    between = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    last = f".*{rest[-1]}" if rest else ""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.compile(first + between + last, flags)
