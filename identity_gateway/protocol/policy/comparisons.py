"""The comparisons that conditions are made of: one value of a policy against one value of a request.

Each family reads its values once, when the policy is read, and says what it cannot read (AWS IAM: condition
operators). What a value of a request cannot be read as is equal to nothing, and neither less nor more than anything.
"""

import base64
import binascii
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

from identity_gateway.protocol.policy.patterns import Context, Pattern, read

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?", re.ASCII)
_EPOCH = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?", re.ASCII)
# W3C's profile of ISO 8601, which IAM names: a time of day needs its zone.
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}(?:-(?P<day>[0-9]{2})"
    r"(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:[0-9]{2}))?)?",
    re.ASCII,
)
_ARN_PARTS = 6


class Comparison(Protocol):
    """A value of a policy, ready to be compared."""

    @property
    def keys(self) -> frozenset[str]:
        """The condition keys that its variables ask for."""
        ...

    def matches(self, value: str, context: Context) -> bool | None:
        """Whether the value of a request is as the policy says; None when a variable stands for nothing."""
        ...


Reader = Callable[[str], Comparison]


@dataclass(frozen=True, slots=True)
class Arn:
    """An ARN in six parts, each with wildcards of its own: a star never reaches into the next part."""

    parts: tuple[Pattern, ...]

    @property
    def keys(self) -> frozenset[str]:
        """The condition keys that its variables ask for."""
        return frozenset[str]().union(*(part.keys for part in self.parts))

    def matches(self, value: str, context: Context) -> bool | None:
        """Whether every part matches."""
        given = value.split(":", _ARN_PARTS - 1)
        if len(given) != _ARN_PARTS:
            return False
        answers = [part.matches(each, context) for part, each in zip(self.parts, given, strict=True)]
        if False in answers:
            return False
        return None if None in answers else True


@dataclass(frozen=True, slots=True)
class Value:
    """A value without variables. `holds` compares what a value of a request is read as with it."""

    known: Any
    reader: Callable[[str], Any]
    holds: Callable[[Any, Any], bool]

    @property
    def keys(self) -> frozenset[str]:
        """Return nothing: there are no variables."""
        return frozenset()

    def matches(self, value: str, _context: Context) -> bool | None:
        """Whether the value can be read, and compares."""
        try:
            given = self.reader(value)
        except ValueError:
            return False
        return self.holds(given, self.known)


def _arn(text: str) -> Arn:
    parts = _split(text)
    if len(parts) != _ARN_PARTS:
        raise ValueError("must be an ARN in six parts, each with wildcards or without")
    return Arn(tuple(read(part, wild=True) for part in parts))


def _split(text: str) -> list[str]:
    """Split an ARN at its first five colons, but not inside of `${aws:username}`."""
    parts: list[str] = []
    begins = at = 0
    while at < len(text) and len(parts) < _ARN_PARTS - 1:
        if text.startswith("${", at):
            closed = text.find("}", at)
            at = len(text) if closed < 0 else closed + 1
            continue
        if text[at] == ":":
            parts.append(text[begins:at])
            begins = at + 1
        at += 1
    return [*parts, text[begins:]]


def _typed(reader: Callable[[str], Any], holds: Callable[[Any, Any], bool]) -> Reader:
    def read_value(text: str) -> Comparison:
        if "${" in text:
            raise ValueError("variables stand in texts and ARNs alone")
        return Value(reader(text), reader, holds)

    return read_value


def _number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a number")
    return Decimal(text)


def _moment(text: str) -> Decimal:
    """Return seconds since the epoch: of a date, or of a number of them."""
    if len(text) == 4 and text.isdigit():
        raise ValueError("must not be four digits: they could be a year, or seconds since 1970")
    match = _DATE.fullmatch(text)
    if match is None and _EPOCH.fullmatch(text):
        return Decimal(text)
    if match is None:
        raise ValueError("must be a date: 2026-01-31T09:00:00Z, 2026-01-31, or seconds since 1970")
    parsed = datetime.fromisoformat(text if match["day"] else f"{text}-01")
    since = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return Decimal(since.days * 86400 + since.seconds) + Decimal(since.microseconds) / 1_000_000


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None


def _network(text: str) -> IPv4Network | IPv6Network:
    if "%" in text:
        raise ValueError("must be an address without a zone")
    return ip_network(text, strict=False)


def _in_network(given: Any, known: Any) -> bool:
    return given.version == known.version and given in known


def _address_in(text: str) -> Comparison:
    if "${" in text:
        raise ValueError("variables stand in texts and ARNs alone")
    try:
        known = _network(text)
    except ValueError:
        raise ValueError("must be an address or a network: 203.0.113.0/24, 2001:db8::/32") from None
    return Value(known, ip_address, _in_network)


def _text(*, wild: bool, ignore_case: bool = False) -> Reader:
    def read_text(text: str) -> Comparison:
        return read(text, wild=wild, ignore_case=ignore_case)

    return read_text


@dataclass(frozen=True, slots=True)
class Operator:
    """How a condition compares. `negated`: it holds where none of its values matches."""

    reader: Reader
    negated: bool = False


def _ordered(family: str, reader: Callable[[str], Any]) -> dict[str, Operator]:
    return {
        f"{family}Equals": Operator(_typed(reader, operator.eq)),
        f"{family}NotEquals": Operator(_typed(reader, operator.eq), negated=True),
        f"{family}LessThan": Operator(_typed(reader, operator.lt)),
        f"{family}LessThanEquals": Operator(_typed(reader, operator.le)),
        f"{family}GreaterThan": Operator(_typed(reader, operator.gt)),
        f"{family}GreaterThanEquals": Operator(_typed(reader, operator.ge)),
    }


_EQUAL, _SAME, _LIKE = _text(wild=False), _text(wild=False, ignore_case=True), _text(wild=True)

OPERATORS: Mapping[str, Operator] = {
    "StringEquals": Operator(_EQUAL),
    "StringNotEquals": Operator(_EQUAL, negated=True),
    "StringEqualsIgnoreCase": Operator(_SAME),
    "StringNotEqualsIgnoreCase": Operator(_SAME, negated=True),
    "StringLike": Operator(_LIKE),
    "StringNotLike": Operator(_LIKE, negated=True),
    **_ordered("Numeric", _number),
    **_ordered("Date", _moment),
    "Bool": Operator(_typed(_boolean, operator.eq)),
    "BinaryEquals": Operator(_typed(_binary, operator.eq)),
    "IpAddress": Operator(_address_in),
    "NotIpAddress": Operator(_address_in, negated=True),
    "ArnEquals": Operator(_arn),
    "ArnLike": Operator(_arn),
    "ArnNotEquals": Operator(_arn, negated=True),
    "ArnNotLike": Operator(_arn, negated=True),
}
"""Every operator of IAM but `Null`, which compares no values. `ArnEquals` and `ArnLike` are the same, as in AWS."""
