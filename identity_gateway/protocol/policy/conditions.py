"""Conditions of a statement: which values of the request make it hold.

A condition is an operator, one key of the request, and the values that the policy names. Operators may be followed by
`IfExists`, and begin with `ForAnyValue:` or `ForAllValues:` (AWS IAM: condition operators, multivalued context keys).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from identity_gateway.errors import FieldError
from identity_gateway.protocol.policy.comparisons import OPERATORS, Comparison, Operator
from identity_gateway.protocol.policy.keys import KEYS
from identity_gateway.protocol.policy.patterns import Context

_NULL = "Null"
_IF_EXISTS = "IfExists"
_ANY, _ALL = "ForAnyValue", "ForAllValues"
_BY_NAME = {name.lower(): name for name in (*OPERATORS, _NULL)}


@dataclass(frozen=True, slots=True)
class Condition:
    """An operator on one key. `absent` is what it is worth where the request has no such key."""

    key: str
    values: tuple[Comparison, ...]
    negated: bool
    every: bool
    absent: bool

    @property
    def keys(self) -> frozenset[str]:
        """Its key, and those that variables in its values ask for."""
        return frozenset({self.key}).union(*(value.keys for value in self.values))

    def holds(self, context: Context, *, allows: bool) -> bool:
        """Whether the request is as the condition says.

        A variable that stands for nothing matches nothing. Where nothing should match, that would be a way through:
        then the condition of an Allow does not hold, and that of a Deny does.
        """
        given = context.get(self.key, ())
        if not given:
            return self.absent
        answers = (self._compares(value, context, allows=allows) for value in given)
        return all(answers) if self.every else any(answers)

    def _compares(self, value: str, context: Context, *, allows: bool) -> bool:
        answers = [known.matches(value, context) for known in self.values]
        if not self.negated:
            return True in answers
        return True not in answers and not (allows and None in answers)


@dataclass(frozen=True, slots=True)
class Presence:
    """`Null`: whether the request has the key at all."""

    key: str
    wanted: frozenset[bool]

    @property
    def keys(self) -> frozenset[str]:
        """Its key."""
        return frozenset({self.key})

    def holds(self, context: Context, *, allows: bool) -> bool:  # noqa: ARG002 - asked like every condition
        """Whether the key is absent, or present, as the condition says."""
        return (not context.get(self.key)) in self.wanted


AnyCondition = Condition | Presence


@dataclass(frozen=True, slots=True)
class _Named:
    """The name of an operator, taken apart."""

    name: str
    quantifier: str | None
    if_exists: bool


def faults_of(name: str, element: Any) -> list[FieldError]:
    """Return what is wrong with a `Condition` element that stands at `name`."""
    if not isinstance(element, dict) or not element:
        return [FieldError(name, "must be an object with at least one operator")]
    faults: list[FieldError] = []
    for written, keys in element.items():
        named = _named(written)
        if named is None:
            faults.append(FieldError(f"{name}.{written}", "is not a condition operator"))
        elif not isinstance(keys, dict) or not keys:
            faults.append(FieldError(f"{name}.{written}", "must be an object with at least one condition key"))
        else:
            for key, values in keys.items():
                faults += [FieldError(f"{name}.{written}.{key}", fault) for fault in _faults(named, key, values)]
    return faults


def conditions_of(element: Any) -> Iterator[AnyCondition]:
    """Yield the conditions of an element without faults."""
    for written, keys in element.items():
        named = _named(written)
        assert named is not None
        for key, values in keys.items():
            yield _condition(named, key.lower(), [_as_text(value) for value in _listed(values)])


def _named(written: str) -> _Named | None:
    quantifier, colon, rest = written.partition(":")
    if not colon:
        quantifier, rest = "", written
    exists = rest.lower().endswith(_IF_EXISTS.lower())
    name = _BY_NAME.get((rest[: -len(_IF_EXISTS)] if exists else rest).lower())
    chosen = {_ANY.lower(): _ANY, _ALL.lower(): _ALL}.get(quantifier.lower())
    if name is None or (colon and chosen is None) or (name == _NULL and (exists or colon)):
        return None
    return _Named(name, chosen, exists)


def _faults(named: _Named, written: str, values: Any) -> Iterator[str]:
    key = KEYS.get(written.lower())
    if key is None:
        yield "is not a condition key that this gateway has"
        return
    if key.several and named.quantifier is None and named.name != _NULL:
        yield f"may have several values: say {_ANY}:{named.name} or {_ALL}:{named.name}"
    listed = _listed(values)
    if not listed:
        yield "must name at least one value"
    for value in listed:
        if (text := _as_text(value)) is None:
            yield "must be compared with texts, numbers or booleans"
            return
        try:
            _read(named, text)
        except ValueError as error:
            yield str(error)
            return


def _read(named: _Named, text: str) -> Comparison | None:
    if named.name != _NULL:
        return OPERATORS[named.name].reader(text)
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true (the key is absent) or false (it is present)")
    return None


def _condition(named: _Named, key: str, values: list[str | None]) -> AnyCondition:
    texts = [value for value in values if value is not None]
    if named.name == _NULL:
        return Presence(key, frozenset(text.lower() == "true" for text in texts))
    chosen: Operator = OPERATORS[named.name]
    return Condition(
        key,
        tuple(chosen.reader(text) for text in texts),
        chosen.negated,
        every=named.quantifier == _ALL,
        absent=_worth_if_absent(named, negated=chosen.negated),
    )


def _worth_if_absent(named: _Named, *, negated: bool) -> bool:
    if named.if_exists or named.quantifier == _ALL:
        return True
    return negated and named.quantifier is None


def _as_text(value: Any) -> str | None:
    """Return a value as policies mean it: IAM takes `true` for "true" and 1 for "1"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
