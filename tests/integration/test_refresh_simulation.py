"""Refresh under fire: whatever fails at whatever step, no grant is lost that a client could have saved.

`python -m tests.simulation --schedules 1000` runs thousands of schedules and prints what came of them.
"""

from collections import Counter
from dataclasses import replace

import pytest

from tests.simulation.report import Report, run_all
from tests.simulation.stories import BLOWS, blows, random_story, small, stories, tell
from tests.simulation.vendor import KINDS, Kind

EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@pytest.fixture(scope="module")
def report() -> Report:
    """A few hundred schedules: a blow at every eleventh step for each kind of vendor, and random ones."""
    return run_all(stories(10, every=11))


def test_no_promise_is_broken_in_any_schedule(report: Report):
    assert report.wrong == []


def test_vendors_that_keep_the_old_token_good_lose_no_grant(report: Report):
    kept = [name for name, kind in KINDS.items() if not kind.rotates or kind.old_survives or kind.leeway >= 600]
    assert {name: report.rows[name].sums["lost"] for name in kept} == dict.fromkeys(kept, 0)


def test_in_calm_weather_a_rotation_costs_one_call(report: Report):
    calls = {name: row.sums["calm_calls"] / row.sums["calm_rotations"] for name, row in report.rows.items()}
    assert calls == dict.fromkeys(KINDS, 1.0)


@pytest.mark.parametrize("name", ["single-use", "family-revoking"])
def test_a_crash_at_any_step_loses_an_answer_only_before_it_could_be_kept(name: str):
    report = run_all(blows(KINDS[name], only=("crash",)))
    assert (report.wrong, 1 <= report.rows[name].sums["lost"] <= 6) == ([], True)


@pytest.mark.parametrize("blow", BLOWS)
@EVERY_KIND
def test_every_blow_is_struck(kind: Kind, blow: str):
    assert tell(replace(small(kind), at_step=(12, blow))).struck != ()


@EVERY_KIND
def test_an_answer_that_is_lost_on_the_wire_is_asked_for_again_where_the_vendor_has_leeway(kind: Kind):
    results = [tell(replace(small(kind, seed), trouble={"lost_after": 0.5}, seconds=700.0)) for seed in range(4)]
    lost = sum((result.lost for result in results), Counter[str]())
    assert lost.total() == 0 or (
        kind.leeway < 600 and set(lost) <= {"lost on the wire"} | {"lost on the wire at every try inside the leeway"}
    )


@EVERY_KIND
def test_the_same_seed_tells_the_same_story(kind: Kind):
    first, second = tell(random_story(kind, 7)), tell(random_story(kind, 7))
    assert (first.steps, first.calls, first.verdicts) == (second.steps, second.calls, second.verdicts)
