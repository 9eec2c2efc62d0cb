"""Policy documents: what one may say, every fault of one that says something else, and how one is read."""

import json
from enum import Enum
from typing import Any

from identity_gateway.errors import FieldError
from identity_gateway.protocol.policy import conditions, principals
from identity_gateway.protocol.policy.evaluation import Policy, Statement
from identity_gateway.protocol.policy.patterns import read, wildcard

MOST = 20_480
"""Characters of a document, as JSON without blanks (AWS: a resource policy of AgentCore)."""

_VERSION = "2012-10-17"
_MEMBERS = {"Version", "Id", "Statement"}
_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
_PRINCIPALS = {"Principal", "NotPrincipal"}


class Kind(Enum):
    """Where a policy stands: at an identity or session, or at a resource."""

    IDENTITY = "identity"
    RESOURCE = "resource"


def parse(document: Any, *, kind: Kind = Kind.IDENTITY) -> Policy:
    """Read a policy document. Raises ValueError that names every fault."""
    if faults := check(document, kind=kind):
        raise ValueError("; ".join(f"{fault.name}: {fault.message}" for fault in faults))
    statements = tuple(_statement(each, kind) for each in _listed(document["Statement"]))
    return Policy(statements, frozenset[str]().union(*(statement.keys for statement in statements)))


def check(document: Any, *, kind: Kind = Kind.IDENTITY, resource: str | None = None) -> list[FieldError]:
    """Return what is wrong with a policy document; an empty list means that `parse` will take it.

    With `resource`, every statement must name that ARN and nothing else, as AWS asks of policies at resources.
    """
    if not isinstance(document, dict):
        return [FieldError("policy", "must be a JSON object")]
    if len(json.dumps(document, separators=(",", ":"), ensure_ascii=False)) > MOST:
        return [FieldError("policy", f"must not be longer than {MOST} characters")]
    faults = [FieldError(name, "is not an element of a policy") for name in sorted(document.keys() - _MEMBERS)]
    if document.get("Version") != _VERSION:
        faults.append(FieldError("Version", f"must be {_VERSION}"))
    statements = _listed(document.get("Statement", []))
    if not statements:
        faults.append(FieldError("Statement", "must hold at least one statement"))
    for index, statement in enumerate(statements):
        name = f"Statement[{index}]"
        if not isinstance(statement, dict):
            faults.append(FieldError(name, "must be a JSON object"))
            continue
        faults += _faults(name, statement, kind)
        if resource is not None and not _is_about(statement, resource):
            faults.append(FieldError(f"{name}.Resource", f"must be {resource}"))
    return faults


def _faults(name: str, statement: dict[str, Any], kind: Kind) -> list[FieldError]:
    known = _ELEMENTS | (_PRINCIPALS if kind is Kind.RESOURCE else set())
    faults = [
        FieldError(f"{name}.{member}", "is not served by this gateway") for member in sorted(statement.keys() - known)
    ]
    if statement.get("Effect") not in ("Allow", "Deny"):  # not a set: what was given may not be hashable
        faults.append(FieldError(f"{name}.Effect", "must be Allow or Deny"))
    faults += _faults_of_texts(name, statement, "Action")
    faults += _faults_of_texts(name, statement, "Resource")
    if kind is Kind.RESOURCE:
        faults += _faults_of_principals(name, statement)
    if "Condition" in statement:
        faults += conditions.faults_of(f"{name}.Condition", statement["Condition"])
    return faults


def _faults_of_texts(name: str, statement: dict[str, Any], positive: str) -> list[FieldError]:
    given = [member for member in (positive, "Not" + positive) if member in statement]
    if len(given) != 1:
        return [FieldError(name, f"must have exactly one of {positive} and Not{positive}")]
    at, values = f"{name}.{given[0]}", _listed(statement[given[0]])
    if not values or not all(isinstance(value, str) and value for value in values):
        return [FieldError(at, "must be a string or a list of strings")]
    for value in values:
        if positive == "Action" and "${" in value:
            return [FieldError(at, "must not have variables")]
        try:
            read(value, wild=True)
        except ValueError as error:
            return [FieldError(at, str(error))]
    return []


def _faults_of_principals(name: str, statement: dict[str, Any]) -> list[FieldError]:
    given = sorted(_PRINCIPALS & statement.keys(), reverse=True)
    if len(given) != 1:
        return [FieldError(name, "must have exactly one of Principal and NotPrincipal")]
    faults = principals.faults_of(statement[given[0]])
    if given[0] == "NotPrincipal" and statement.get("Effect") == "Allow":
        faults.append("must not allow: it would allow everybody else, also who is not known")
    return [FieldError(f"{name}.{given[0]}", fault) for fault in faults]


def _is_about(statement: dict[str, Any], resource: str) -> bool:
    return all(each == resource for each in _listed(statement.get("Resource", "")))


def _statement(statement: dict[str, Any], kind: Kind) -> Statement:
    actions = _listed(statement.get("Action", statement.get("NotAction")))
    resources = _listed(statement.get("Resource", statement.get("NotResource")))
    named = statement.get("Principal", statement.get("NotPrincipal"))
    inverted = "NotPrincipal" in statement
    sid = statement.get("Sid")
    return Statement(
        sid=sid if isinstance(sid, str) else None,
        allows=statement["Effect"] == "Allow",
        # Action names are compared without case, ARNs with it.
        actions=tuple(wildcard(value, ignore_case=True) for value in actions),
        actions_inverted="NotAction" in statement,
        resources=tuple(read(value, wild=True) for value in resources),
        resources_inverted="NotResource" in statement,
        conditions=tuple(conditions.conditions_of(statement.get("Condition", {}))),
        principals=principals.principals_of(named, inverted=inverted) if kind is Kind.RESOURCE else None,
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
