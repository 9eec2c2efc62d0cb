"""May this principal do this action on this resource? IAM JSON policies that are attached to a principal.

Served: `Effect`, `Action` or `NotAction`, `Resource` or `NotResource`, with `*` and `?`; an explicit deny wins and the
default is deny (AWS IAM: policy evaluation logic). Not served: `Condition`, `Principal` and policy variables. A policy
that uses what is not served is refused when it is given, never half obeyed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from identity_gateway.errors import FieldError

_VERSION = "2012-10-17"
_MEMBERS = {"Version", "Id", "Statement"}
_STATEMENT_MEMBERS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"}


class Decision(StrEnum):
    """The answer of a policy."""

    ALLOWED = "allowed"
    EXPLICITLY_DENIED = "explicitly denied"
    NOT_ALLOWED = "not allowed by any statement"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, patterns compiled."""

    allows: bool
    actions: tuple[re.Pattern[str], ...]
    actions_inverted: bool
    resources: tuple[re.Pattern[str], ...]
    resources_inverted: bool

    def covers(self, action: str, resource: str) -> bool:
        """Whether the statement speaks of this action on this resource."""
        about_action = any(pattern.fullmatch(action) for pattern in self.actions) is not self.actions_inverted
        about_resource = any(pattern.fullmatch(resource) for pattern in self.resources) is not self.resources_inverted
        return about_action and about_resource


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was checked and compiled."""

    statements: tuple[Statement, ...]

    def decide(self, action: str, resource: str) -> Decision:
        """Decide one action (`bedrock-agentcore:InvokeAgentRuntime`) on one resource ARN."""
        decision = Decision.NOT_ALLOWED
        for statement in self.statements:
            if statement.covers(action, resource):
                if not statement.allows:
                    return Decision.EXPLICITLY_DENIED
                decision = Decision.ALLOWED
        return decision

    def decide_all(self, action: str, resources: Iterable[str]) -> Decision:
        """Decide one action that touches several resources: each must be allowed. No resource at all is a denial."""
        decisions = [self.decide(action, resource) for resource in resources] or [Decision.NOT_ALLOWED]
        return next((decision for decision in decisions if decision is not Decision.ALLOWED), Decision.ALLOWED)

    def decide_any(self, action: str, names: Iterable[str]) -> Decision:
        """Decide one action on one resource of several names: a denial of any counts, then an allowance of any."""
        decisions = {self.decide(action, name) for name in names}
        if Decision.EXPLICITLY_DENIED in decisions:
            return Decision.EXPLICITLY_DENIED
        return Decision.ALLOWED if Decision.ALLOWED in decisions else Decision.NOT_ALLOWED


def parse(document: Any) -> Policy:
    """Compile a policy document. Raises ValueError that names every fault."""
    faults = check(document)
    if faults:
        raise ValueError("; ".join(f"{fault.name}: {fault.message}" for fault in faults))
    return Policy(tuple(_compile_statement(statement) for statement in _listed(document["Statement"])))


def check(document: Any) -> list[FieldError]:
    """Return what is wrong with a policy document; an empty list means that `parse` will take it."""
    if not isinstance(document, dict):
        return [FieldError("policy", "must be a JSON object")]
    faults = [FieldError(name, "is not an element of a policy") for name in sorted(document.keys() - _MEMBERS)]
    if document.get("Version") != _VERSION:
        faults.append(FieldError("Version", f"must be {_VERSION}"))
    statements = _listed(document.get("Statement", []))
    if not statements:
        faults.append(FieldError("Statement", "must hold at least one statement"))
    for index, statement in enumerate(statements):
        faults += _check_statement(f"Statement[{index}]", statement)
    return faults


def _check_statement(name: str, statement: Any) -> list[FieldError]:
    if not isinstance(statement, dict):
        return [FieldError(name, "must be a JSON object")]
    faults = [
        FieldError(f"{name}.{member}", "is not served by this gateway")
        for member in sorted(statement.keys() - _STATEMENT_MEMBERS)
    ]
    if statement.get("Effect") not in ("Allow", "Deny"):  # not a set: what was given may not be hashable
        faults.append(FieldError(f"{name}.Effect", "must be Allow or Deny"))
    for positive, negative in (("Action", "NotAction"), ("Resource", "NotResource")):
        given = [member for member in (positive, negative) if member in statement]
        if len(given) != 1:
            faults.append(FieldError(name, f"must have exactly one of {positive} and {negative}"))
            continue
        values = _listed(statement[given[0]])
        if not values or not all(isinstance(value, str) and value for value in values):
            faults.append(FieldError(f"{name}.{given[0]}", "must be a string or a list of strings"))
        elif any("${" in value for value in values):
            faults.append(FieldError(f"{name}.{given[0]}", "policy variables are not served by this gateway"))
    return faults


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _compile_statement(statement: dict[str, Any]) -> Statement:
    def patterns(member: str, flags: int) -> tuple[re.Pattern[str], ...]:
        return tuple(_wildcard(value, flags) for value in _listed(statement.get(member, statement.get("Not" + member))))

    return Statement(
        allows=statement["Effect"] == "Allow",
        actions=patterns("Action", re.IGNORECASE),  # action names are compared without case, ARNs with it
        actions_inverted="NotAction" in statement,
        resources=patterns("Resource", 0),
        resources_inverted="NotResource" in statement,
    )


@lru_cache(maxsize=4096)
def _wildcard(pattern: str, flags: int) -> re.Pattern[str]:
    """Compile `*` and `?`. What stands between two stars is taken where it is found first, and not tried elsewhere.

    A later place could not match more, and trying every combination of places would take for ever.
    """
    first, *parts = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern))
    between = "".join(f"(?>.*?{part})" for part in parts[:-1])
    last = f".*{parts[-1]}" if parts else ""
    return re.compile(first + between + last, flags | re.DOTALL)
