"""Both targets, one after the other: the gateway in this process, then one that is sent raw bytes."""

import asyncio

from tests.fuzz import run, wire
from tests.fuzz.run import Report
from tests.fuzz.world import open_world

_RAW = 0.15
"""The part of the time that raw bytes get: most of it is spent waiting for the server to give up on them."""


def campaign(seed: int, seconds: float, first: int = 0) -> Report:
    """Fuzz for so many seconds, beginning with this case, and return what was found."""
    report = Report(seed, first)
    asyncio.run(in_process(report, seconds * (1 - _RAW)))
    with wire.open_wire() as wired:
        asyncio.run(wire.fuzz(wired, report, seconds * _RAW))
    return report


async def in_process(report: Report, seconds: float, *, enough: int = 50) -> None:
    """Fuzz a gateway in this process until the time is up, or enough was found."""
    with run.watched_logs() as elsewhere:
        async with open_world() as world:
            await run.fuzz(world, report, seconds, enough=enough)
    for error in elsewhere.errors:
        report.found(-1, "any", "logged an error", error[:300])
