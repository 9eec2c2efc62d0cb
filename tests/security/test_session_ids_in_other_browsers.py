"""Threat: whoever is sent the vendor's answer to somebody else's consent learns the id that completes the session."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from identity_gateway.consent import LIFETIME, Problem, ProblemKind
from identity_gateway.records.sql import open_records
from tests.fakes.clock import Clock
from tests.fakes.consent import OTHER_ID, PROVIDER_ID, World, world


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def here(tmp_path: Path, clock: Clock) -> AsyncIterator[World]:
    records = await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    async with world(records, clock) as opened:
        yield opened
    await records.close()


async def test_an_answer_in_another_browser_shows_no_way_back(here: World):
    started = await here.begin(state="custom")
    state = await here.browser().state(started)
    reached = await here.browser().come_back(state=state, code="code-1")
    assert reached == Problem(ProblemKind.OTHER_BROWSER, "Sample Drive", "expense-agent")


async def test_an_answer_in_another_browser_at_another_providers_address_shows_no_way_back(here: World):
    state = await here.browser().state(await here.begin())
    reached = await here.browser().come_back(provider_id=OTHER_ID, state=state, code="code-1")
    assert reached == Problem(ProblemKind.WRONG_PROVIDER, "Sample Drive", "expense-agent")


async def test_a_late_answer_in_another_browser_shows_no_way_back(here: World, clock: Clock):
    state = await here.browser().state(await here.begin())
    clock.now += LIFETIME
    reached = await here.browser().come_back(state=state, code="code-1")
    assert reached == Problem(ProblemKind.EXPIRED, "Sample Drive", "expense-agent")


async def test_another_browser_does_not_learn_how_the_session_ended_before(here: World):
    started, owner = await here.begin(), here.browser()
    first, second = await owner.state(started), await owner.state(started)
    await owner.come_back(state=first, error="access_denied", error_description="between the two of us")
    reached = await here.browser().come_back(state=second, code="code-1")
    assert reached == Problem(ProblemKind.OTHER_BROWSER, "Sample Drive", "expense-agent")


@pytest.mark.parametrize("provider_id", [PROVIDER_ID, OTHER_ID])
async def test_the_browser_that_opened_the_session_is_still_shown_the_way_back(here: World, provider_id: str):
    started, owner = await here.begin(), here.browser()
    reached = await owner.come_back(provider_id=provider_id, state=await owner.state(started), error="access_denied")
    assert isinstance(reached, Problem)
    assert "session_id" in (reached.back or "")
