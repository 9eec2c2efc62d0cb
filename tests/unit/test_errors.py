"""The error tree: drawn as it is, with AWS's codes, and with one message for each of its two audiences."""

import inspect
import re

import pytest

from identity_gateway import errors
from identity_gateway.errors import GatewayError
from tests.unit.served import AWS

CODES_OF_MODELS = AWS.error_statuses
COMMON_CODES = {
    "UnknownOperationException": 404,
    "UnsupportedOperationException": 501,
    "MissingAuthenticationTokenException": 403,
    "IncompleteSignatureException": 403,
    "InvalidSignatureException": 403,
    "ExpiredTokenException": 403,
    "UnrecognizedClientException": 403,
}
"""Codes that every AWS service answers with and no model lists, and one of EC2's for what it does not serve."""

CLASSES = {
    kind.__name__: kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)
}
LINE = re.compile(
    r"(?P<indent>[│ ]*)(?:[├└]─ )?(?P<name>[A-Z]\w+) +(?P<status>[0-9]{3})? *(?P<code>[A-Z]\w+(?:Exception|Error))?"
)
INSTANCES = [
    errors.InsufficientScope(("read",), reason="precise")
    if kind is errors.InsufficientScope
    else kind("public", reason="precise")
    for kind in CLASSES.values()
]


def drawing() -> list[re.Match[str]]:
    lines = inspect.getdoc(errors).split("\n\n")[1].splitlines()
    matches = [LINE.match(line) for line in lines]
    assert all(matches)
    return [match for match in matches if match]


def drawn_parents() -> dict[str, str | None]:
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for match in drawing():
        connected = match[0].lstrip("│ ")[:1] in "├└"
        depth = len(match["indent"]) // 3 + connected
        path = [*path[:depth], match["name"]]
        parents[match["name"]] = path[-2] if depth else None
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    actual = {name: kind.__base__.__name__ for name, kind in CLASSES.items() if kind is not GatewayError}
    assert drawn_parents() == actual | {"GatewayError": None}


def test_the_codes_and_statuses_in_the_docstring_are_those_of_the_classes():
    drawn = {match["name"]: (int(match["status"]), match["code"]) for match in drawing() if match["status"]}
    assert drawn == {name: (CLASSES[name].status, CLASSES[name].code) for name in drawn}
    assert CLASSES.keys() - drawn.keys() == {"Unauthenticated"}


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_a_code_is_one_of_the_models_or_one_that_every_service_has(kind: type[GatewayError]):
    assert (CODES_OF_MODELS | COMMON_CODES)[kind.code] == kind.status


@pytest.mark.parametrize("error", INSTANCES, ids=CLASSES)
def test_the_reason_is_not_in_what_the_caller_is_told(error: GatewayError):
    assert error.reason == "precise"
    assert "precise" not in (error.message + str(error) + repr(error))
    assert str(error) == error.message


@pytest.mark.parametrize("kind", [errors.Conflict, errors.ValidationFailed, errors.AccessDenied])
def test_without_a_reason_the_operator_reads_what_the_caller_reads(kind: type[GatewayError]):
    assert kind("public").reason == "public"


@pytest.mark.parametrize(
    "error", [GatewayError(), errors.InvalidToken(), errors.MissingAuthentication(), errors.Unavailable()]
)
def test_an_error_that_says_nothing_precise_has_a_sentence_for_the_caller(error: GatewayError):
    assert len(error.message) > 10
    assert error.reason


def test_a_validation_error_names_its_fields():
    fault = errors.FieldError("a.b[0]", "is too long")
    error = errors.ValidationFailed("1 fault", fields=(fault,), kind="CannotParse")
    assert (error.fields, error.kind) == ((fault,), "CannotParse")


def test_a_missing_scope_is_told_with_the_scopes_that_would_do():
    assert errors.InsufficientScope(("read", "write")).scopes == ("read", "write")
