"""Secrets in a vendor's words: every piece of one that is long enough to be one is taken out, wherever it was cut."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.protocol.oauth2.redaction import clean

LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=65_536))


@pytest.mark.parametrize("begin", [*range(14), 30_000, 65_536 - 12])
def test_twelve_characters_of_a_long_secret_are_found_wherever_they_stood(begin: int):
    assert clean(f"no <{LONG[begin : begin + 12]}>", limit=300, secrets=[LONG]) == "no <[secret]>"


@pytest.mark.parametrize("length", [12, 13, 17, 18, 19, 24])
def test_a_whole_secret_is_found_however_long_it_is(length: int):
    assert clean(f"a{LONG[:length]}b", limit=300, secrets=[LONG[:length]]) == "a[secret]b"


def test_eleven_characters_in_a_row_are_words_that_happen_to_be_there():
    words = LONG[100:111]
    assert clean(f"no <{words}>", limit=300, secrets=[LONG]) == f"no <{words}>"


@given(st.text("ab", max_size=60), st.text("ab", min_size=12, max_size=40))
def test_nothing_is_left_of_a_secret_that_is_twelve_characters_long(text: str, secret: str):
    left = clean(text, limit=300, secrets=[secret])
    windows = {secret[at : at + 12] for at in range(len(secret) - 11)}
    assert not any(window in piece for window in windows for piece in left.split("[secret]"))
