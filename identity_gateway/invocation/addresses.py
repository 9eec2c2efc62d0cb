"""Which of an agent's addresses a call goes to: the same one for the same session, and not one that is down.

Health is passive: an address that did not take a connection is passed by for a while, longer each time.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from identity_gateway.upstream import Origin

_FIRST, _LONGEST = 5.0, 60.0
"""Seconds for which an address is passed by after its first failure, and at most."""

_REMEMBERED = 4096


class Addresses:
    """What this process knows of the addresses of agents. `clock` counts seconds and never goes back."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._down: dict[Origin, tuple[float, float]] = {}  # until when, and for how long

    def in_order(self, origins: Sequence[Origin], session_id: str, *, first: str | None = None) -> list[Origin]:
        """Return the addresses in the order in which to try them; `first` is where the session has been so far.

        Rendezvous hashing: when an address comes or goes, only its own sessions move. Those that are down come last.
        """
        if len(origins) == 1:
            return list(origins)
        ranked = sorted(origins, key=lambda origin: _weight(origin, session_id), reverse=True)
        ranked.sort(key=lambda origin: str(origin) != first)
        return sorted(ranked, key=self._is_down)

    def failed(self, origin: Origin) -> None:
        """Note that nobody took a connection there."""
        if self._is_down(origin):
            return  # of many calls that fail at once, one counts
        lasted = self._down.get(origin, (0.0, 0.0))[1]
        self._down[origin] = (self._clock() + (longer := min(max(_FIRST, 2 * lasted), _LONGEST)), longer)
        if len(self._down) > _REMEMBERED:
            del self._down[next(iter(self._down))]

    def answered(self, origin: Origin) -> None:
        """Note that the agent answers there."""
        self._down.pop(origin, None)

    def _is_down(self, origin: Origin) -> bool:
        return origin in self._down and self._down[origin][0] > self._clock()


def _weight(origin: Origin, session_id: str) -> bytes:
    return sha256(f"{origin}\0{session_id}".encode(errors="surrogatepass")).digest()
