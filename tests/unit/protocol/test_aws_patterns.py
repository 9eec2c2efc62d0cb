"""Patterns of the models mean in Python what they mean to AWS."""

import sys
import unicodedata
import warnings

import pytest

from identity_gateway.protocol.aws.model import reachable
from identity_gateway.protocol.aws.patterns import compile_pattern
from tests.unit.served import AWS


def patterns() -> set[str]:
    shapes = (
        shape
        for operation in AWS.operations.values()
        for root in (operation.input, operation.output)
        for shape in reachable(root)
    )
    return {shape.pattern for shape in shapes if shape.pattern is not None}


def matches(pattern: str, text: str) -> bool:
    compiled = compile_pattern(pattern)
    assert compiled is not None
    return compiled.fullmatch(text) is not None


def test_no_pattern_of_the_installed_models_is_left_unchecked():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [pattern for pattern in patterns() if compile_pattern(pattern) is None] == []


@pytest.mark.parametrize("pattern", [r"\p{Greek}+", r"\P{C}", "(", "a{2,1}", "[z-a]"])
def test_a_pattern_that_cannot_be_translated_is_none_and_not_an_exception(pattern: str):
    assert compile_pattern(pattern) is None


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\u2029"])
def test_a_dot_stops_at_every_line_end(end: str):
    assert not matches("arn:.+", f"arn:a{end}b")


def test_a_dollar_does_not_stand_before_a_last_newline():
    assert not matches("a+$\n", "a\n")


def test_an_empty_alternative_before_a_dollar_accepts_the_empty_string_only():
    assert [matches("$|^[a-z]+", text) for text in ("", "abc", "abc\n", "\n")] == [True, True, False, False]


@pytest.mark.parametrize(("pattern", "text"), [(r"\d+", "٣"), (r"\w+", "é"), ("[0-9]+", "３")])
def test_digits_and_letters_of_other_scripts_do_not_pass_for_ascii(pattern: str, text: str):
    assert not matches(pattern, text)


def test_a_doubled_bracket_in_a_class_compiles_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert matches("[[a&&b]+", "[a&b")


def test_a_dot_in_a_class_is_a_dot():
    assert [matches("[.$]+", text) for text in (".$", "a")] == [True, False]


def test_the_property_c_covers_every_assigned_control_format_surrogate_and_private_character():
    compiled = compile_pattern(r"[\p{C}]")
    assert compiled is not None
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    covered = set(compiled.findall(everything))
    assigned = {each for each in everything if unicodedata.category(each) != "Cn"}
    assert covered & assigned == {each for each in assigned if unicodedata.category(each)[0] == "C"}
