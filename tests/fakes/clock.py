"""A clock that stands still until it is moved."""

from tests.fakes.sigv4_client import NOW


class Clock:
    """Seconds since the epoch, as `time.time` tells them. It starts when the fake client signs its requests."""

    def __init__(self, now: float = NOW.timestamp()) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
