"""What is remembered of calls (`invocation.recall`): those of one caller in one session, and each by its credential."""

from collections.abc import Callable
from dataclasses import dataclass, field

from identity_gateway.audit import Entry
from identity_gateway.inbound import Scheme, bearer_tokens
from identity_gateway.invocation.placement import Placed
from identity_gateway.invocation.proof import Proven
from identity_gateway.model import IamPrincipal, Secret
from identity_gateway.records.changes import Watch
from identity_gateway.runtimes import Route
from identity_gateway.upstream import Origin, Upstream

Where = tuple[bytes, bytes, bytes, bytes, bytes]
"""Path, query, session, and by whom: a key's id, with a digest of its session token, and the user that it names."""

Signer = tuple[bytes, bytes]
"""The last two of these, of a signer."""

Fields = dict[bytes, bytes]

_SHORT_LINES = 1024
"""Bytes of headers for the agent that are kept for the next call: there are many places."""


@dataclass(slots=True)
class Place:
    """What was found out about the calls of one caller in one session. `due` is in seconds since the epoch.

    `passed` names the headers for the agent, `trail` is the record of such a call, and `signer` is None for bearers.
    The head of a call at the agent begins with `start`, and with the token that `mint` makes for the caller's own.
    When the watch has aged, one call goes the long way, to find out anew; it is `renewed` then. It is `over` when a
    call there was refused. `likeness` is what the caller's tokens have in common, found out `likenesses` times.
    """

    route: Route
    placed: Placed
    proven: Proven = field(repr=False)
    watch: Watch
    due: float
    passed: frozenset[bytes]
    trail: Entry = field(repr=False)
    session_id: bytes
    origin: Origin
    scheme: Scheme
    signer: IamPrincipal | None
    start: bytes = field(repr=False)
    mint: Callable[[Secret | None], bytes] = field(repr=False)
    renewed: bool = False
    likeness: bearer_tokens.Likeness | None = field(default=None, repr=False)
    likenesses: int = 0
    over: bool = False
    last_passed: list[tuple[bytes, bytes]] = field(default_factory=list, repr=False)
    last_lines: bytes = field(default=b"", repr=False)

    def lines(self, passed: list[tuple[bytes, bytes]]) -> bytes:
        """Return headers for the agent as lines of a head. Raises ValueError for what cannot be sent."""
        if passed == self.last_passed:
            return self.last_lines
        lines = Upstream.lines(passed)
        if len(lines) <= _SHORT_LINES:
            self.last_passed, self.last_lines = passed, lines
        return lines


@dataclass(slots=True)
class Known:
    """A call that is let in at its place: until the token ends that it came with, or if its signature is good.

    `keys` are those of the issuer by which the token was proven.
    """

    place: Place
    keys: int = 0
    until: float = 0.0
    token: Secret | None = None
    size: int = 0
    start: bytes = field(default=b"", repr=False)
    start_until: float = 0.0

    @property
    def bytes(self) -> int:
        """How much of memory this holds, about: the token is also what it is found by, and twice in the beginning."""
        return 5 * self.size + 1024
