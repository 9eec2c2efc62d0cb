"""Which stories are told: a blow at every step of a refresh, and thousands of random ones."""

import random
from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.loop import run
from tests.simulation.vendor import KINDS, Kind
from tests.simulation.world import Result, Story, World

BLOWS = ("crash", "consent", "wipe", "ephemeral down", "records down", "both down")
"""What may happen at a step of the first replica."""

_TROUBLES = ("lost_before", "lost_after", "500_before", "500_after", "503", "unreachable")


def tell(story: Story) -> Result:
    """Tell a story in a loop of its own. The same story always ends the same way."""
    return run(World(story).tell(), random.Random(f"{story.name}/{story.seed}"))


def small(kind: Kind, seed: int = 0) -> Story:
    """One grant, two replicas, and callers who come at once: a single refresh, seen step by step."""
    return Story("one refresh", kind, seed, seconds=150.0, patience=(0.2, 12.0))


def blows(kind: Kind, *, every: int = 1, only: tuple[str, ...] = BLOWS) -> Iterator[Story]:
    """Yield the small story with each blow at every step that the calm one has."""
    calm = small(kind)
    steps = tell(calm).steps
    for blow in only:
        for number in range(1, steps + 1, every):
            yield replace(calm, name=f"{blow} at step {number}", at_step=(number, blow))


def random_story(kind: Kind, seed: int) -> Story:
    """Draw a large story: replicas, callers, grants, and whatever goes wrong."""
    rng = random.Random(f"{kind.name}/{seed}")

    def times(most: int) -> tuple[float, ...]:
        return tuple(rng.uniform(0.0, 700.0) for _ in range(rng.randint(0, most)))

    def spans(chance: float) -> tuple[tuple[float, float], ...]:
        if rng.random() >= chance:
            return ()
        start = rng.uniform(0.0, 600.0)
        return ((start, start + rng.choice((1.0, 10.0, 120.0))),)

    replicas = rng.randint(1, 3)
    share = rng.choice((0.0, 0.0, 0.02, 0.07))
    return Story(
        "random",
        kind,
        seed,
        replicas=replicas,
        grants=rng.randint(1, 3),
        callers=rng.randint(2, 6),
        seconds=rng.choice((120.0, 900.0, 1500.0)),
        patience=rng.choice(((0.5, 10.0), (1.0, 60.0), (10.0, 200.0))),
        latency=rng.choice(((0.05, 0.5), (0.1, 4.0), (5.0, 14.0))),
        trouble={trouble: share * 2 * rng.random() for trouble in _TROUBLES} if share else {},
        crashes=tuple((at, rng.randrange(replicas)) for at in times(rng.choice((0, 0, 2, 6)))),
        consents=times(rng.choice((0, 0, 2))),
        wipes=times(rng.choice((0, 0, 2))),
        ephemeral_down=spans(0.25),
        records_down=spans(0.2),
        writes_down=spans(0.2),
        stalls=rng.choice((0.0, 0.0, 0.0, 0.01, 0.1)),
        rejects=rng.choice((0.0, 0.0, 0.05)),
    )


def stories(schedules: int, *, every: int = 1, first: int = 0) -> Iterator[Story]:
    """Yield the calm story, every blow, and that many random stories, for each kind of vendor."""
    for kind in KINDS.values():
        yield small(kind)
        yield from blows(kind, every=every)
        for seed in range(first, first + schedules):
            yield random_story(kind, seed)
