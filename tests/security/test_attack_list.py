"""The table of attacks tells the truth: every test that it names is there and runs, and no attack stands in it twice."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.security.attack_list import ATTACKS, Attack

HERE = Path(__file__).parent
WRITTEN_FOR_THE_LIST = ("test_bearer_attacks.py", "test_signature_attacks.py")
LEFT_OUT = {"skip", "skipif", "xfail"}


def written_tests(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the tests of a file, in order; what stands in classes is none of them."""
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def left_out(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Name every mark or call that leaves a test out and gives no reason."""
    for top in nodes:
        found = list(ast.walk(top))
        calls = {id(node.func): node for node in found if isinstance(node, ast.Call)}
        for node in found:
            if not (isinstance(node, ast.Attribute) and node.attr in LEFT_OUT and _is_of_pytest(node)):
                continue
            call = calls.get(id(node))
            given = (
                [] if call is None else [*call.args, *(word.value for word in call.keywords if word.arg == "reason")]
            )
            if not any(
                isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.strip() for each in given
            ):
                yield node.attr


def _is_of_pytest(node: ast.Attribute) -> bool:
    return ast.unparse(node).startswith("pytest.")


def faults(attacks: Iterable[Attack], sources: dict[str, str]) -> list[str]:
    """Return what is wrong with these rows, given the text of every file by its name."""
    rows, found = list(attacks), []
    trees = {name: ast.parse(text) for name, text in sources.items()}
    tests = {f"{name}::{test.name}": test for name, tree in trees.items() for test in written_tests(tree)}
    for what, times in (Counter(row.id for row in rows) + Counter(row.tries for row in rows)).items():
        found += [f"stands in the table {times} times: {what}"] if times > 1 else []
    for row in rows:
        found += [f"{row.id}: no test"] if not row.tests else []
        found += [f"{row.id}: named twice: {test}" for test, times in Counter(row.tests).items() if times > 1]
        found += [f"{row.id}: no such test: {test}" for test in row.tests if test not in tests]
        if not (row.tests and row.tests[0].partition("::")[2].startswith(row.named_test)):
            found.append(f"{row.id}: its first test is not named for it ({row.named_test}…)")
        for test in set(row.tests) & tests.keys():
            marks = [node for node in trees[test.partition("::")[0]].body if _is_a_mark_of_all(node)]
            found += [f"{row.id}: {mark} without a reason: {test}" for mark in left_out([tests[test], *marks])]
    return found


def _is_a_mark_of_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(ast.unparse(target) == "pytestmark" for target in node.targets)


SOURCES = {path.name: path.read_text() for path in HERE.glob("test_*.py")}


# --- What would be found ----------------------------------------------------------------------------------------------


ROW = Attack("a-b", "tries", ("test_x.py::test_a_b_is_refused",))
GOOD = "import pytest\n\ndef test_a_b_is_refused(): ...\n"
MARKED = "import pytest\n@pytest.mark.{}\ndef test_a_b_is_refused(): ...\n"


def test_a_table_without_a_fault_has_none() -> None:
    assert faults([ROW], {"test_x.py": GOOD}) == []


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([ROW], "def test_another(): ...\n"),
        ([ROW], "def helper():\n    def test_a_b_is_refused(): ...\n"),
        ([ROW], MARKED.format("skip")),
        ([ROW], MARKED.format("skip()")),
        ([ROW], MARKED.format("skip(reason='')")),
        ([ROW], MARKED.format("skipif(True)")),
        ([ROW], MARKED.format("xfail(strict=True)")),
        ([ROW], GOOD + "pytestmark = pytest.mark.skip\n"),
        ([ROW], "import pytest\ndef test_a_b_is_refused():\n    pytest.skip()\n"),
        ([ROW, ROW], GOOD),
        ([ROW, Attack("a-b", "other", ROW.tests)], GOOD),
        ([Attack("a-b", "tries", ())], GOOD),
        ([Attack("a-b", "tries", ROW.tests * 2)], GOOD),
        ([Attack("a-b", "tries", ("test_y.py::test_a_b_is_refused",))], GOOD),
        ([Attack("b", "tries", ROW.tests)], GOOD),
    ],
)
def test_a_fault_in_the_table_is_found(rows: list[Attack], source: str) -> None:
    assert len(faults(rows, {"test_x.py": source})) >= 1


@pytest.mark.parametrize("mark", ["skip(reason='make install')", "skip('make install')", "skipif(True, reason='why')"])
def test_a_test_may_be_left_out_for_a_reason(mark: str) -> None:
    assert faults([ROW], {"test_x.py": MARKED.format(mark)}) == []


# --- The table --------------------------------------------------------------------------------------------------------


def test_every_attack_has_the_tests_that_the_table_names() -> None:
    assert faults(ATTACKS, SOURCES) == []


def test_every_test_that_was_written_for_an_attack_stands_in_the_table() -> None:
    written = {
        f"{name}::{test.name}" for name in WRITTEN_FOR_THE_LIST for test in written_tests(ast.parse(SOURCES[name]))
    }
    assert written - {test for attack in ATTACKS for test in attack.tests} == set()


@pytest.mark.parametrize("name", WRITTEN_FOR_THE_LIST)
def test_no_test_of_an_attack_hides_another_of_its_name(name: str) -> None:
    counted = Counter(test.name for test in written_tests(ast.parse(SOURCES[name])))
    assert max(counted.values()) == 1
