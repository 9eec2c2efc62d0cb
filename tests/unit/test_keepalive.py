"""Grants that die of idleness are refreshed without being asked; the others are left alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from identity_gateway.keepalive import is_due
from identity_gateway.model import Grant, GrantState
from identity_gateway.protocol.descriptor import Refresh

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GRANT = Grant(
    "000000000000", "g", "l", "agent", '["id","ada"]', "mail", "p", "default", (), (), {}, GrantState.ACTIVE, "",
    "", "", "", 1, NOW + timedelta(hours=1), None, b"sealed", "", None, None, None, 0, None, NOW, NOW, NOW,
)  # fmt: skip


def rules(**said: object) -> Refresh:
    return Refresh.model_validate(said)


@pytest.mark.parametrize(("idle_for", "due"), [(0, False), (43_199, False), (43_200, True), (90_000, True)])
def test_a_grant_is_due_when_it_was_idle_for_as_long_as_the_vendor_allows(idle_for: int, due: bool):
    grant = replace(GRANT, updated_at=NOW - timedelta(seconds=idle_for))
    assert is_due(grant, rules(policy={"keepalive": 43_200}), NOW) is due


def test_a_grant_of_a_vendor_without_idleness_is_never_due():
    assert not is_due(replace(GRANT, updated_at=NOW - timedelta(days=3650)), rules(), NOW)


@pytest.mark.parametrize(("left", "due"), [(7200, False), (3600, True), (1, True), (-5, True)])
def test_a_token_that_is_exchanged_while_it_lives_is_due_before_it_ends(left: int, due: bool):
    grant = replace(GRANT, expires_at=NOW + timedelta(seconds=left))
    assert is_due(grant, rules(how="access_token", policy={"margin": 3600}), NOW) is due


def test_a_token_that_never_expires_needs_no_exchange():
    assert not is_due(replace(GRANT, expires_at=None), rules(how="access_token"), NOW)
