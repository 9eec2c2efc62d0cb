"""An event loop with its own time: nobody waits, and which of the ready callbacks runs first is drawn from a seed."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any


class Deadlock(Exception):
    """Everybody waits, and nothing will ever happen."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Time goes on when nothing is ready, by exactly as much as the next timer needs."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._seconds = 0.0
        self._selector = self  # the base class asks it for events, with the time until the next timer

    def time(self) -> float:
        return self._seconds

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        self._seconds += timeout
        return []

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _run_once(self) -> None:
        if len(self._ready) > 1:
            ready = list(self._ready)
            self._rng.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        super()._run_once()


def run(story: Coroutine[Any, Any, Any], rng: random.Random) -> Any:
    """Run a story to its end, cut off what it left behind, and return what it returns."""
    loop = SimulatedLoop(rng)
    try:
        result = loop.run_until_complete(story)
        loop.run_until_complete(_cut_off())
    finally:
        loop.close()
    return result


async def _cut_off() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
