"""Page tokens: good for their own question, closed to everybody, and not to be forged."""

import base64
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.errors import ValidationFailed
from identity_gateway.paging import Paging
from identity_gateway.sealing import Sealer

ACCOUNT = "000000000000"
SEALER = Sealer([b"k" * 32], "paging")
PAGING = Paging(SEALER, ACCOUNT)
QUESTION = ("ListAgentRuntimeVersions", "hello-AbCdEf1234")


@dataclass(frozen=True)
class Row:
    id: str
    version: int


ROWS = [Row("hello", number) for number in range(1, 4)]


def token(*question: str, paging: Paging = PAGING) -> str:
    _, found = paging.page(ROWS, 2, ("id", "version"), *question)
    assert found is not None
    return found


# --- Refused ---


@pytest.mark.parametrize(
    "question",
    [
        ("ListAgentRuntimeVersions", "other-AbCdEf1234"),
        ("ListAgentRuntimeEndpoints", "hello-AbCdEf1234"),
        ("ListAgentRuntimeVersions",),
        (*QUESTION, ""),
        ("ListAgentRuntimeVersionshello-AbCdEf1234",),
        (),
    ],
)
def test_a_token_is_not_good_for_another_question(question: tuple[str, ...]):
    with pytest.raises(ValidationFailed):
        PAGING.after(token(*QUESTION), *question)


def test_a_token_is_not_good_for_another_account():
    with pytest.raises(ValidationFailed):
        Paging(SEALER, "111111111111").after(token(*QUESTION), *QUESTION)


def test_a_token_is_not_good_under_another_key():
    with pytest.raises(ValidationFailed):
        Paging(Sealer([b"o" * 32], "paging"), ACCOUNT).after(token(*QUESTION), *QUESTION)


@pytest.mark.parametrize(
    "value",
    ["", "x", "====", "AAAA", "é", "a b", "\x00", base64.urlsafe_b64encode(b'["hello",2]').decode(), "A" * 4000],
)
def test_a_token_that_this_gateway_did_not_give_is_refused(value: str):
    with pytest.raises(ValidationFailed) as caught:
        PAGING.after(value, *QUESTION)
    assert caught.value.message == "nextToken is not one that this operation gave."


GOOD = token(*QUESTION)  # one for all examples: what is drawn depends on it, and no two tokens are alike


@given(st.data())
def test_a_token_that_was_changed_is_refused(data: st.DataObject):
    place = data.draw(st.integers(0, len(GOOD) - 1))
    letter = data.draw(st.sampled_from("ABCDwxyz0189-_=+/ ").filter(lambda letter: letter != GOOD[place]))
    try:
        found = PAGING.after(GOOD[:place] + letter + GOOD[place + 1 :], *QUESTION)
    except ValidationFailed:
        return
    assert found == ("hello", 2)  # only the bits that base64 drops at its end were changed


# --- Pages ---


def test_a_list_that_fits_has_no_next_page():
    assert PAGING.page(ROWS, 3, ("id", "version"), *QUESTION) == (ROWS, None)
    assert PAGING.page([], 1, ("id", "version"), *QUESTION) == ([], None)


def test_a_longer_list_is_cut_and_the_next_page_begins_after_its_last_row():
    rows, found = PAGING.page(ROWS, 2, ("id", "version"), *QUESTION)
    assert rows == ROWS[:2]
    assert PAGING.after(found, *QUESTION) == ("hello", 2)


def test_no_token_is_the_first_page():
    assert PAGING.after(None, *QUESTION) is None


def test_a_token_is_opaque():
    assert b"hello" not in base64.urlsafe_b64decode(token(*QUESTION))
