"""What a place keeps of the headers of its last call."""

import pytest

from identity_gateway.invocation.known import Place
from identity_gateway.upstream import Upstream


@pytest.fixture
def place() -> Place:
    """One of which nothing else is known: its headers hang on nothing else."""
    made = object.__new__(Place)
    made.last_passed, made.last_lines = [], b""
    return made


@pytest.mark.parametrize(("length", "kept"), [(1, True), (1000, True), (1024, False), (65_536, False)])
def test_headers_are_kept_for_the_next_call_where_they_are_short(place: Place, length: int, kept: bool):
    passed = [(b"x-colour", b"b" * length)]
    assert place.lines(passed) == Upstream.lines(passed)
    assert (place.last_passed == passed, place.last_lines != b"") == (kept, kept)


def test_each_call_has_its_own_headers_whatever_was_kept_before(place: Place):
    calls = [[(b"x-colour", b"b" * length)] for length in (5, 2000, 5, 6, 2000)] + [[]]
    assert [place.lines(passed) for passed in calls] == [Upstream.lines(passed) for passed in calls]
