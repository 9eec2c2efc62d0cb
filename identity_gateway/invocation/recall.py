"""Calls like one that was let in: at the same door, in the same session of the same user, and nothing changed since.

What the long way found out about such a call holds again until a record, a key of the issuer or the session changes,
or the session is due to be kept. Who calls is proven as on the long way: a token that was seen before by its text, a
new one by its issuer's keys, a signature by the key that made it, each time. Only calls whose decision rests on nothing
else are remembered: at runtimes of the protocol HTTP at which no policy stands, in sessions that they name, by bearers
of tokens or by signers whose own policies ask nothing about the request. Nothing is decided here.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import TypeVar

from identity_gateway.audit import ALLOWED, Audit, Decided
from identity_gateway.authorization import Authorization
from identity_gateway.errors import InvalidToken
from identity_gateway.inbound import BearerTokens, Scheme, Signatures
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.known import Fields, Known, Place, Signer, Where
from identity_gateway.invocation.placement import Placed, Placement
from identity_gateway.invocation.proof import Call, Proven, bearer_of, details_of
from identity_gateway.keysets import IssuerKeys, KeySets
from identity_gateway.model import Secret
from identity_gateway.protocol import bearer, headers
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import Likeness
from identity_gateway.records.changes import Changes, Watch
from identity_gateway.resource_policies import ResourcePolicies
from identity_gateway.runtimes import Route, Routes
from identity_gateway.upstream import Upstream
from identity_gateway.workload import WorkloadTokens

_REMEMBERED = 20_000
"""Calls that are remembered, at most; and as many of their places."""

_MOST_BYTES = 32 << 20
"""Bytes of memory that they may take, at most: tokens are long, and what is remembered of a call longer."""

_LONGEST_TARGET = 2048
"""Bytes of path and query of a call that is remembered: a caller may add to a query what it likes."""

_TOKEN_FRESH = 60.0
"""Seconds for which an agent is given the same workload access token again; it lives for fifteen minutes."""

_LIKENESSES = 8
"""Tokens of a place of which is found out what they have in common with others, at most."""

_LIKE_BYTES = 4096
"""Bytes of a token of which that is found out, at most: each place keeps it."""

_DECIDES = frozenset({headers.IDENTITY_WAT, headers.MCP_SESSION_ID, b"expect", b"transfer-encoding"})
"""Headers on which more than the remembered depends: a call that has one goes the long way."""

_MODELLED = (
    *(b"accept", b"content-type", b"mcp-protocol-version", b"mcp-method", b"mcp-name"),
    *(headers.TRACE_ID, b"traceparent", b"tracestate", b"baggage"),
)
_SHORT = 128
"""Bytes that each modelled header may have whatever the model says; a longer or empty one is left to the model."""

_SIGNED = b"AWS4-HMAC-SHA256 Credential="
_TOKEN = b"x-amz-security-token"
_NOBODY = b""
_BEARER = b"Bearer "
_SHOWN = b"%b\r\n" + b": %b\r\n".join(headers.WORKLOAD_ACCESS_TOKEN) + b": %b"
"""The beginning of a head and the token, under each of the names that agents read it by."""

K = TypeVar("K")
V = TypeVar("V")


class Recall:
    """What this process remembers of calls."""

    def __init__(
        self,
        routes: Routes,
        policies: ResourcePolicies,
        changes: Changes,
        keysets: KeySets,
        bearer_tokens: BearerTokens,
        signatures: Signatures,
        authorization: Authorization,
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
        self._bearer_tokens = bearer_tokens
        self._signatures = signatures
        self._authorization = authorization
        self._tokens = tokens
        self._placement = placement
        self._audit = audit
        self._clock = clock
        self._known: OrderedDict[tuple[bytes, ...], Known] = OrderedDict()
        self._signed: OrderedDict[Where, Known] = OrderedDict()
        self._bearers: OrderedDict[tuple[bytes, ...], Place] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._bytes = 0

    # --- What the long way tells ---

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
        session, configuration, received = placed.session, route.configuration, dict(call.request.headers)
        if len(call.request.raw_path) + len(call.request.raw_query) > _LONGEST_TARGET:
            return
        authorization, named = received.get(b"authorization"), received.get(headers.SESSION_ID)
        if watch is None or session is None or authorization is None or named is None:
            return
        if configuration.protocol != "HTTP" or proven.actors or not _DECIDES.isdisjoint(received):
            return
        if placed.version != route.version or str(placed.origins[0]) != session.address:
            return
        if await self._policies.standing_at((route.arn, route.endpoint_arn)):
            return
        try:
            start = Upstream.start(
                placed.origins[0], placed.configuration.target, [(headers.SESSION_ID, placed.session_id.encode())]
            )
        except ValueError:  # the long way says so
            return
        scheme = Scheme.BEARER if proven.signer is None else Scheme.SIGNATURE
        details = details_of(scheme, placed.version, proven)
        decided = Decided(proven.principal, call.door.value, route.endpoint_arn, ALLOWED, reason, details=details)
        place = Place(
            route,
            placed,
            proven.alone(),
            watch,
            self._placement.due(route, session),
            _passed(configuration.allowlist),
            self._audit.written(decided),
            placed.session_id.encode(),
            placed.origins[0],
            scheme,
            proven.signer,
            start,
            self._tokens.minting(route.workload, proven.user, hosted=True),
        )
        path, query = call.request.raw_path, call.request.raw_query
        if proven.signer is not None:
            if self._authorization.asks_nothing(proven.signer):
                _keep(self._signed, (path, query, named, *signer_of(received)), Known(place))
        elif keys is not None and proven.expires_at is not None and headers.USER_ID not in received:
            _keep(self._bearers, (path, query, named), place)
            known = Known(place, keys, proven.expires_at, proven.inbound_token, len(authorization))
            self._remember((path, query, named, authorization), known)

    def forget(self, call: Call, proven: Proven) -> None:
        """Forget what was remembered of calls like this one, which was refused: of this caller's, not of others'."""
        received = dict(call.request.headers)
        authorization, named = received.get(b"authorization"), received.get(headers.SESSION_ID)
        if authorization is None or named is None:
            return
        where = (call.request.raw_path, call.request.raw_query, named)
        if proven.signer is not None:
            known = self._signed.get((*where, *signer_of(received)))
            place = None if known is None else known.place
        else:
            place = self._bearers.get(where)
        if place is not None and place.proven.holder == proven.holder:
            place.over = True

    def _remember(self, where: tuple[bytes, ...], known: Known) -> None:
        self._forget(where)
        self._known[where] = known
        self._bytes += known.bytes
        while len(self._known) > _REMEMBERED or self._bytes > _MOST_BYTES:
            self._bytes -= self._known.popitem(last=False)[1].bytes

    def _forget(self, where: tuple[bytes, ...]) -> None:
        known = self._known.pop(where, None)
        if known is not None:
            self._bytes -= known.bytes

    # --- What the short way asks ---

    def find(self, raw_path: bytes, raw_query: bytes, fields: Fields) -> Known | None:
        """Return what is known of a call with this head, which has no field twice, if all of it holds.

        A token has been proven then; a signature has not: `proves` does it when the body is there.
        """
        authorization, named = fields.get(b"authorization"), fields.get(headers.SESSION_ID)
        if authorization is None or named is None or not _DECIDES.isdisjoint(fields):
            return None
        if authorization.startswith(_SIGNED):
            known = self.signed(raw_path, raw_query, named, signer_of(fields))
        elif headers.USER_ID in fields:
            return None
        else:
            known = self.borne(raw_path, raw_query, named, authorization)
        if known is None:
            return None
        if known.place.signer is None and self.is_to_ask(known):
            return None
        for name in _MODELLED:
            value = fields.get(name)
            if value is not None and not (0 < len(value) <= _SHORT and value.isascii()):
                return None
        return known

    def borne(self, raw_path: bytes, raw_query: bytes, named: bytes, authorization: bytes) -> Known | None:
        """Return what is known of a call at this target in the session that it names, if its bearer token is good."""
        where = (raw_path, raw_query, named, authorization)
        known = self._known.get(where)
        return known if known is not None and self.holds(known) else self._let_in(where)

    def signed(self, raw_path: bytes, raw_query: bytes, named: bytes, signer: Signer) -> Known | None:
        """Return what is known of a call that says to be by this signer, if all of it holds but for the signature."""
        known = self._signed.get((raw_path, raw_query, named, *signer))
        return known if known is not None and self.holds(known) else None

    def holds(self, known: Known) -> bool:
        """Say whether nothing has changed on which this rests."""
        place, now = known.place, self._clock()
        if place.over or now >= place.due or not place.watch.holds():
            return False
        if place.signer is not None:
            return True
        keys = self._keys_of(place)
        return now < known.until and keys is not None and keys.generation == known.keys

    def has_aged(self, known: Known) -> bool:
        """Say whether it is time that a call like this one finds out anew, although all of it still holds."""
        place = known.place
        return not place.renewed and time.monotonic() >= place.watch.aged_at

    def is_to_ask(self, known: Known) -> bool:
        """Say whether this call, which is proven, is the one that finds out anew: no other is told so."""
        if not self.has_aged(known):
            return False
        known.place.renewed = True  # were it all of them, they would crowd the long way
        return True

    def _keys_of(self, place: Place) -> IssuerKeys | None:
        authorizer = place.route.configuration.authorizer
        assert authorizer is not None
        return self._keysets.peek(authorizer["discoveryUrl"])

    def _let_in(self, where: tuple[bytes, bytes, bytes, bytes]) -> Known | None:
        """Let in a token that was not seen before, if it is proven to be the same caller's as the one before it."""
        place, authorization = self._bearers.get(where[:3]), where[3]
        if place is None or place.over or self._clock() >= place.due or not place.watch.holds():
            return None
        keys = self._keys_of(place)
        if keys is None:
            return None
        token, until = authorization.removeprefix(_BEARER), None
        if place.likeness is not None and len(token) != len(authorization):
            until = self._bearer_tokens.at_once_like(place.likeness, token, keys)
        if until is None:
            try:
                token = bearer.token_in(authorization).encode()
            except InvalidToken:
                return None
            until = self._until(place, token)
        if until is None:
            return None
        known = Known(place, keys.generation, until, Secret(token.decode()), len(authorization))
        seen = hash(authorization)  # another one with the same would only be remembered the first time that it comes
        if seen in self._seen:
            self._remember(where, known)
        else:  # most tokens that come once do not come again
            _keep(self._seen, seen, None)
        return known

    def _until(self, place: Place, token: bytes) -> float | None:
        """Return until when a token is good that is like none before; None if it is not, or is another caller's."""
        route = place.route
        authorizer = route.configuration.authorizer
        assert authorizer is not None
        claims = self._bearer_tokens.at_once(token, authorizer, runtime_id=route.name.runtime_id, version=route.version)
        if claims is None or bearer_of(claims) != (place.proven.principal, place.proven.user):
            return None
        if place.likenesses < _LIKENESSES and len(token) <= _LIKE_BYTES:  # an issuer may write something else into each
            place.likenesses += 1
            place.likeness = self._bearer_tokens.likeness(
                token, claims, authorizer, runtime_id=route.name.runtime_id, version=route.version
            )
        return claims.expires_at

    def proves(self, known: Known, request: Request, body: bytes) -> bool:
        """Say whether the request is signed by whom this is known of, together with all of it that the agent sees."""
        place = known.place
        found = self._signatures.at_once(request, sha256(body).hexdigest())
        if found is None:
            return False
        principal, signed = found
        if principal is not place.signer and principal != place.signer:
            return False
        allowlist = place.route.configuration.allowlist
        if allowlist:
            for name, _ in request.headers:
                if name in allowlist and name not in headers.ALWAYS_FORWARDED and signed.header(name) is None:
                    return False
        return True

    def likeness(self, request: Request, body: bytes, places: Mapping[bytes, int]) -> Likeness | None:
        """Return what `proves_like` reads calls by that are like this one, which `proves` has just let in."""
        return self._signatures.likeness(request, sha256(body).hexdigest(), places)

    def proves_like(
        self, known: Known, likeness: Likeness, target: tuple[str, bytes, bytes], values: Sequence[bytes], body: bytes
    ) -> bool:
        """Do as `proves`, for a call like one that was let in with the same allowlist."""
        signer, principal = (
            known.place.signer,
            self._signatures.at_once_like(likeness, target, values, sha256(body).hexdigest()),
        )
        if principal is not signer and principal is not None and principal == signer:
            known.place.signer = signer = principal  # the next comparison is one of identity
        return principal is not None and principal is signer

    def start(self, known: Known) -> bytes:
        """Return what the head of each such request to the agent begins with: session and workload access token too.

        The token is minted anew when the last one is a minute old.
        """
        now = self._clock()
        if known.start_until <= now:
            token = known.place.mint(known.token)
            known.start = _SHOWN % (known.place.start, token, token)
            known.start_until = now + _TOKEN_FRESH
        return known.start


def signer_of(fields: Fields) -> Signer:
    """Return by whom a call says to be signed, and for whom. Nothing is believed: `proves` looks."""
    token, authorization = fields.get(_TOKEN), fields[b"authorization"]
    key_id = authorization[len(_SIGNED) : authorization.find(b"/")]
    by = key_id if token is None else key_id + sha256(token).digest()
    return by, fields.get(headers.USER_ID, _NOBODY)


@lru_cache(maxsize=1024)
def _passed(allowlist: frozenset[bytes]) -> frozenset[bytes]:
    """Return which headers pass to the agent as they came: one and the same object for all places with this list."""
    return (headers.ALWAYS_FORWARDED | allowlist) - {headers.TRACE_ID}


def _keep(kept: OrderedDict[K, V], where: K, value: V) -> None:
    kept.pop(where, None)
    kept[where] = value
    if len(kept) > _REMEMBERED:
        kept.popitem(last=False)  # of a plain dict, the first entry is the longer to find the more have gone
