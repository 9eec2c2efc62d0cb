"""Calls that repeat one which was let in: the same door, token and session, and nothing changed since.

What the long way found out about such a call holds again until a record, a key of the issuer or the session changes,
the token expires, or the session is due to be kept. Only calls whose decision rests on nothing else are remembered:
bearers of tokens at runtimes of the protocol HTTP at which no policy stands, in sessions that they name. Nothing is
decided here.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256

from identity_gateway.audit import ALLOWED, Audit, Decided, Row
from identity_gateway.inbound import Scheme
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.placement import Placed, Placement
from identity_gateway.invocation.proof import Call, Proven
from identity_gateway.keysets import KeySets
from identity_gateway.model import Document
from identity_gateway.protocol import headers
from identity_gateway.records.changes import Changes, Watch
from identity_gateway.resource_policies import ResourcePolicies
from identity_gateway.runtimes import Route, Routes
from identity_gateway.upstream import Upstream
from identity_gateway.workload import WorkloadTokens

_REMEMBERED = 20_000
"""Calls that are remembered, at most."""

_MOST_BYTES = 16 << 20
"""Bytes of their credentials, at most: what is remembered of a call is several times as long as its token."""

_TOKEN_FRESH = 60.0
"""Seconds for which an agent is given the same workload access token again; it lives for fifteen minutes."""

_DECIDES = frozenset({headers.IDENTITY_WAT, headers.USER_ID, headers.MCP_SESSION_ID, b"expect", b"transfer-encoding"})
"""Headers on which more than the remembered depends: a call that has one goes the long way."""

_MODELLED = (
    *(b"accept", b"content-type", b"mcp-protocol-version", b"mcp-method", b"mcp-name"),
    *(headers.TRACE_ID, b"traceparent", b"tracestate", b"baggage"),
)
_SHORT = 128
"""Bytes that each modelled header may have whatever the model says; a longer or empty one is left to the model."""

Key = tuple[bytes, bytes, bytes, bytes]


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


_NOTHING = _pieces()


@dataclass(slots=True)
class Remembered:
    """What was found out about a call.

    `until` is in seconds since the epoch, `passed` names the headers for the agent, and `trail` is the record of it.
    """

    route: Route
    placed: Placed
    proven: Proven = field(repr=False)
    watch: Watch
    keys: int
    until: float
    passed: frozenset[bytes]
    trail: Row = field(repr=False)
    session_id: bytes
    size: int
    start: bytes = field(default=b"", repr=False)
    start_until: float = 0.0


class Recall:
    """What this process remembers of calls."""

    def __init__(
        self,
        routes: Routes,
        policies: ResourcePolicies,
        changes: Changes,
        keysets: KeySets,
        tokens: WorkloadTokens,
        placement: Placement,
        audit: Audit,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._routes = routes
        self._policies = policies
        self._changes = changes
        self._keysets = keysets
        self._tokens = tokens
        self._placement = placement
        self._audit = audit
        self._clock = clock
        self._known: dict[Key, Remembered] = {}
        self._bytes = 0

    def watch(self, call: Call) -> Watch | None:
        """Return what holds until something changes on which a decision about this call rests.

        Take it before the decision. None if it cannot be remembered anyway.
        """
        session_id = call.asked.get("runtimeSessionId")
        if call.door is not Door.INVOKE or call.method != b"POST" or session_id is None:
            return None
        name = self._routes.named(call.asked)
        if name is None:
            return None
        return self._changes.watch(*self._routes.watched(name), self._placement.watched(name, session_id))

    def keys(self, route: Route | None) -> int | None:
        """Return which keys of its issuer a bearer of this runtime is proven by at this moment; None if by none."""
        if route is None or route.configuration.authorizer is None:
            return None
        found = self._keysets.peek(route.configuration.authorizer["discoveryUrl"])
        return None if found is None else found.generation

    async def remember(
        self,
        call: Call,
        route: Route,
        proven: Proven,
        placed: Placed,
        reason: str,
        watch: Watch | None,
        keys: int | None,
    ) -> None:
        """Remember an invocation that was let in and is on record, if it is one that can be.

        `keys` is what `keys` said when the caller was proven.
        """
        session, configuration = placed.session, route.configuration
        authorization, named = (call.request.header(name) for name in (b"authorization", headers.SESSION_ID))
        if watch is None or session is None or authorization is None or named is None or proven.expires_at is None:
            return
        if configuration.authorizer is None or configuration.protocol != "HTTP" or proven.signer or proven.actors:
            return
        if placed.version != route.version or str(placed.origins[0]) != session.address:
            return
        if keys is None or await self._policies.standing_at((route.arn, route.endpoint_arn)):
            return
        details: Document = {"scheme": Scheme.BEARER.value, "version": placed.version}
        decided = Decided(proven.principal, call.door.value, route.endpoint_arn, ALLOWED, reason, details=details)
        where = _where(call.request.raw_path, call.request.raw_query, authorization, named)
        self._forget(where)
        self._known[where] = Remembered(
            route,
            placed,
            replace(proven, headers=(), body=_NOTHING, length=0, claims={}),  # the request itself is not kept
            watch,
            keys,
            min(proven.expires_at, self._placement.due(route, session)),
            (headers.ALWAYS_FORWARDED | configuration.allowlist) - {headers.TRACE_ID},
            self._audit.written(decided),
            placed.session_id.encode(),
            len(authorization),
        )
        self._bytes += len(authorization)
        while len(self._known) > _REMEMBERED or self._bytes > _MOST_BYTES:
            self._forget(next(iter(self._known)))

    def find(self, raw_path: bytes, raw_query: bytes, fields: dict[bytes, bytes]) -> Remembered | None:
        """Return what is remembered of a call like this one, if all of it holds. `fields` has no name twice."""
        authorization, named = fields.get(b"authorization"), fields.get(headers.SESSION_ID)
        if authorization is None or named is None or not _DECIDES.isdisjoint(fields):
            return None
        where = _where(raw_path, raw_query, authorization, named)
        known = self._known.get(where)
        if known is None:
            return None
        if not self.holds(known):
            self._forget(where)
            return None
        for name in _MODELLED:
            value = fields.get(name)
            if value is not None and not (0 < len(value) <= _SHORT and value.isascii()):
                return None
        return known

    def holds(self, known: Remembered) -> bool:
        """Say whether nothing has changed on which this rests."""
        authorizer = known.route.configuration.authorizer
        assert authorizer is not None
        keys = self._keysets.peek(authorizer["discoveryUrl"])
        return (
            known.watch.holds() and keys is not None and keys.generation == known.keys and self._clock() < known.until
        )

    def _forget(self, where: Key) -> None:
        known = self._known.pop(where, None)
        if known is not None:
            self._bytes -= known.size

    def start(self, known: Remembered) -> bytes:
        """Return what the head of each such request to the agent begins with: session and workload access token too.

        The token is minted anew when the last one is a minute old. Raises ValueError for what cannot be sent.
        """
        now = self._clock()
        if known.start_until <= now:
            minted = self._tokens.mint(
                known.route.workload, known.proven.user, known.proven.inbound_token, known.proven.actors, hosted=True
            )
            token = minted.reveal().encode()
            own = [(headers.SESSION_ID, known.session_id), *((name, token) for name in headers.WORKLOAD_ACCESS_TOKEN)]
            known.start = Upstream.start(known.placed.origins[0], known.placed.configuration.target, own)
            known.start_until = now + _TOKEN_FRESH
        return known.start


def _where(raw_path: bytes, raw_query: bytes, authorization: bytes, session_id: bytes) -> Key:
    return raw_path, raw_query, sha256(authorization).digest(), session_id
