"""Strict JSON: one text, one meaning, a known cost."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.protocol import strictjson

BAD = {
    "empty": b"",
    "not UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\x80"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "two members of one name": b'{"a": 1, "a": 1}',
    "two members of one name, one escaped": b'{"a": 1, "\\u0061": 2}',
    "two members of one name, deep inside": b'[{"x": {"a": 1, "a": 2}}]',
    "NaN": b"[NaN]",
    "Infinity": b"[-Infinity]",
    "a float beyond the range": b"[1e400]",
    "an integer beyond 64 bits": b"[9223372036854775808]",
    "an integer of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "a lone surrogate": b'{"a": ["\\ud800"]}',
    "a lone surrogate in a name": b'{"\\udc00": 1}',
    "a control character in a string": b'"\x00"',
    "a trailing comma": b"[1,]",
    "trailing text": b"{} {}",
    "a comment": b"{} // x",
    "single quotes": b"{'a': 1}",
    "an unterminated string": b'{"a": "b',
    "a string that ends in a backslash": b'"\\',
    "one level too deep": b"[" * 33 + b"]" * 33,
    "a bomb of brackets": b"[" * 1_000_000,
    "a bomb of objects": b'{"a":' * 200_000,
    "a bomb behind a quote": b'["\\"", ' + b"[" * 200_000,
    "a bomb of escaped quotes without an end": b"[" * 40 + b'"' + b'\\"' * 300_000,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_strictjson_refuses(text: bytes) -> None:
    with pytest.raises(ValueError) as refusal:
        strictjson.loads(text)
    assert type(refusal.value) is ValueError


def test_a_refusal_does_not_quote_the_document() -> None:
    with pytest.raises(ValueError) as refusal:
        strictjson.loads(b'{"password": "hunter2",}')
    assert "hunter2" not in repr(refusal.value.__dict__) + str(refusal.value)


def test_a_refusal_does_not_lead_to_the_document() -> None:
    with pytest.raises(ValueError) as refusal:
        strictjson.loads(b'{"password": "hunter2",}')
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize("text", [b"[" * 32 + b"]" * 32, b'["' + b"[" * 500 + b'"]', b"[" + b"[]," * 500 + b"[]]"])
def test_depth_is_what_counts_not_brackets(text: bytes) -> None:
    assert strictjson.loads(text) == json.loads(text)


def test_the_depth_that_is_allowed_is_the_callers() -> None:
    with pytest.raises(ValueError, match="deeper than 1"):
        strictjson.loads(b"[[]]", max_depth=1)


def test_a_surrogate_pair_is_one_character() -> None:
    assert strictjson.loads(b'"\\ud83d\\ude00"') == "\U0001f600"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63) + 1, 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    ),
    st.booleans(),
)
def test_strictjson_reads_what_json_wrote(value: object, ascii_only: bool) -> None:
    assert strictjson.loads(json.dumps(value, ensure_ascii=ascii_only).encode(), max_depth=64) == value


@given(st.binary(max_size=200))
def test_strictjson_raises_nothing_but_value_errors(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        strictjson.loads(data)
