"""Every operation that is served is called by a test of this folder, on SQLite and on PostgreSQL.

The tests are read, not run: so this holds for any selection and order of them.
"""

import ast
from pathlib import Path

from botocore import xform_name

from identity_gateway.api.operations import INVOKE, SERVED

FOLDER = Path(__file__).parent
CLIENTS = {"control", "data"}
"""The fixtures of `conftest` that give a client of each gateway."""


def called_on_both(source: str) -> set[str]:
    """Return the methods that tests call themselves on a client of each gateway."""
    return {
        node.func.attr
        for test in ast.walk(ast.parse(source))
        if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_")
        for node in ast.walk(test)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in CLIENTS & {argument.arg for argument in test.args.args}
    }


def test_a_method_that_no_test_calls_is_noticed():
    source = (
        "def test_one(control): control.a()\ndef test_two(gateway): gateway.control.b()\ndef c(control): control.c()"
    )
    assert called_on_both(source) == {"a"}


def test_every_operation_that_is_served_is_called_on_both_databases():
    called = set().union(*(called_on_both(path.read_text()) for path in FOLDER.glob("test_*.py")))
    missing = sorted(name for name in {*SERVED, INVOKE} if xform_name(name) not in called)
    assert not missing, f"no conformance test calls: {', '.join(missing)}"
