"""Every way in which one field of a descriptor can be wrong: another text, another number, another word, or nothing.

A mutant that parses to the very same descriptor (a default that was written out) is none.
"""

import copy
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from identity_gateway.protocol.descriptor.rules import Authentication, Encoding, ExpiresUnit, Outcome, Purpose

EXEMPT = {
    "verified": "the day on which somebody read the documents: shown to people, decides nothing",
    "sources": "where they were read: shown to people, decides nothing",
    "name": "what people are shown; only at the top, the names of parts and machines count",
    "description": "what an administrator is told about a variable",
    "advice": "what an operator is told about a refusal",
    "client.secrets": "the texts tell an administrator what each secret is for; that each is there counts",
}
"""Keys whose values are words for people, each with why changing them changes nothing else."""

WORDS: dict[str, tuple[str, ...]] = {
    "auth": get_args(Authentication),
    "encoding": get_args(Encoding),
    "expires_unit": get_args(ExpiresUnit),
    "outcome": get_args(Outcome),
    "on": get_args(Purpose),
    "method": ("GET", "POST", "DELETE", "PATCH"),
    "pkce": ("S256", "off"),
    "effect": ("token", "grant", "user_client", "installation"),
    "needs": ("access_token", "refresh_token"),
    "format": ("auto", "json", "form"),
    "how": ("refresh_token", "access_token", "never"),
    "source": ("operator", "issuer", "tenant", "caller", "callback", "response"),
    "action": ("revoke", "flush"),
    "algorithm": ("RS256", "PS256", "ES256"),
    "basic_encoding": ("raw", "rfc6749"),
    "narrow": ("strings", "integers", "object"),
    "separator": (" ", ",", ";"),
    "response_separators": (" ", ",", ";"),
}
"""Where a field takes one of few words, a mutant says each of the others: a word that nobody knows would be too easy."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutant:
    """A document with one field wrong; `what` says which, for people, and `section` in which table it stands."""

    what: str
    section: str
    document: dict[str, Any]


def mutants(document: dict[str, Any]) -> Iterator[Mutant]:
    """Yield every mutant of a parsed TOML document."""
    for path, value in _fields(document, ()):
        if _is_exempt(path):
            continue
        if isinstance(value, dict | list):
            yield Mutant(f"without {_named(path)}", str(path[0]), _changed(document, path, _REMOVED))
            continue
        for other in _others(path, value):
            what = "without " + _named(path) if other is _REMOVED else f"{_named(path)} = {other!r}"
            yield Mutant(what, str(path[0]), _changed(document, path, other))


_REMOVED = object()


def _fields(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _fields(each, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _fields(each, (*path, index))


def _is_exempt(path: Path) -> bool:
    names = [each for each in path if isinstance(each, str)]
    if names[0] in {"verified", "sources"} or path == ("name",):
        return True
    return names[-1] in {"advice", "description"} or (names[:2] == ["client", "secrets"] and len(names) == 3)


def _others(path: Path, value: Any) -> Iterator[Any]:
    yield _REMOVED
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, dt.date):
        yield value + dt.timedelta(days=1)
    else:
        words = _words(path)
        yield from (word for word in words if word != value)
        if path[-1] == "response_separators":
            yield f"{value}:"
        elif not words:
            yield f"{value}x"


def _words(path: Path) -> tuple[str, ...]:
    names = [each for each in path if isinstance(each, str)]
    if "narrow" in names:
        return WORDS["narrow"]
    if names[-1] == "needs" and "revoke" not in names:
        return ()
    if len(names) > 1 and names[-2] in {"params", "headers", "answer", "claims"}:
        return ()
    return WORDS.get(names[-1], ())


def _changed(document: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    if value is _REMOVED:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


def _named(path: Path) -> str:
    return ".".join(map(str, path))
