"""The published keys of issuers: fetched through `egress`, kept, renewed before they age, not lost to a bad answer.

One process holds one `KeySets`. It verifies no token (`protocol.jwt` does), and trusts no key that it did not fetch
from the issuer itself: shared state only says that a fetch may be worth it.
"""

import asyncio
import hashlib
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog

from identity_gateway.egress import Egress, EgressFailed, EgressRefused, Fetched, check_url, same_origin
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import InvalidToken, Unavailable
from identity_gateway.protocol import strictjson
from identity_gateway.protocol.jwt import KeySet, Refusal

_DEFAULT_TTL = 3600.0
"""Seconds that a key set is fresh when its issuer does not say."""

_EARLY = 0.1
"""The last tenth of its life is when a key set is renewed in the background."""

_UNKNOWN_FOR = 4
"""Cool-downs for which a key id that the issuer does not publish is not asked for again."""

_MAX_UNKNOWN = 256
_MAX_KID_LENGTH = 256
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=\"?([0-9]{1,10})\"?(?:$|[,\s;])", re.ASCII | re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s;=])", re.ASCII | re.IGNORECASE)

_NOT_PLAIN = "2[EF5]|3F|5C|[01]|7F"  # as escapes: dot, slash, percent sign, question mark, backslash, controls
_ISSUER = re.compile(
    r"https?://[^/?#@\\\s]+"
    rf"(?:/(?!\.\.?(?:[;/]|\Z))(?:[A-Z0-9._~!$&'()*+,;=:@-]|%(?!{_NOT_PLAIN})[0-9A-F]{{2}})*)*",
    re.ASCII | re.IGNORECASE,
)
"""An issuer that can be called only at its own well-known place: no query, fragment, user info or dot segment."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IssuerKeys:
    """What a discovery document led to. `generation` is another number whenever the issuer or a key is another.

    Numbers only grow and are never used twice by one `KeySets`: a cache of verified tokens may be keyed by them.
    """

    issuer: str
    keys: KeySet
    generation: int


@dataclass(slots=True)
class _Entry:
    """What is known of one discovery URL. All times are those of the clock that `KeySets` was given."""

    url: str
    value: IssuerKeys | None = None
    renew_at: float = 0.0
    fresh_until: float = 0.0
    usable_until: float = 0.0
    failed_until: float = 0.0
    failure: str = ""
    refused: bool = False
    forced_until: float = 0.0
    fetching: asyncio.Task[None] | None = None
    forcing: asyncio.Task[None] | None = None
    unknown: OrderedDict[str, float] = field(default_factory=OrderedDict)


class KeySets:
    """The key sets of all issuers that administrators named; or, `visiting`, of those that callers name in tokens.

    All durations are seconds. `cooldown`: between two fetches that a failure or an unknown key id asks for.
    `min_ttl`, `max_ttl`: bounds of what Cache-Control may ask. `stale_for`: how long the last good set outlives its
    freshness while the issuer does not answer. `max_issuers`: beyond them, one goes that gave no keys, or else the one
    that was not used for longest.

    An administrator may send the gateway to any URL that `egress` allows. A visiting issuer may not, or its document
    would choose path and query of requests to inner servers: it is called at its own well-known place, which may stand
    in an allowed network; its key set is fetched only when the document names this issuer, and from another origin only
    at public addresses. What that refuses is InvalidToken, because to try again is no use.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        clock: Callable[[], float],
        shared: Ephemeral | None = None,
        cooldown: float = 30.0,
        min_ttl: float = 300.0,
        max_ttl: float = 86400.0,
        stale_for: float = 86400.0,
        max_issuers: int = 1000,
        visiting: bool = False,
    ) -> None:
        self._egress = egress
        self._clock = clock
        self._shared = shared
        self._cooldown = cooldown
        self._min_ttl = min_ttl
        self._max_ttl = max_ttl
        self._stale_for = stale_for
        self._max_issuers = max_issuers
        self._visiting = visiting
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._generations = itertools.count(1)
        self._closed = False

    def peek(self, discovery_url: str) -> IssuerKeys | None:
        """Return the keys if they are here and fresh, without waiting; renew them in the background when they age.

        None says: call `get`. Needs a running event loop.
        """
        entry = self._entries.get(discovery_url)
        now = self._clock()
        if entry is None or entry.value is None or now >= entry.fresh_until:
            return None
        self._entries.move_to_end(discovery_url)
        if now >= entry.renew_at and now >= entry.failed_until and not self._closed:
            self._fetching(entry)
        return entry.value

    async def get(self, discovery_url: str) -> IssuerKeys:
        """Return the keys that this discovery document leads to. Many callers at once make one fetch.

        The administrator named the URL, so the issuer is what the document says, even where it differs from the URL:
        some identity providers publish documents for an issuer on another host, and emulators keep the name of what
        they emulate. (OIDC Discovery §4.3 asks for equality because there the issuer was named; see `for_issuer`.)

        While the issuer fails, the last good set is returned without waiting, for as long as it is usable. Raises
        Unavailable when there is none, or, of a visiting issuer, InvalidToken when the reason is that its document or
        key set may not be fetched; the issuer is not asked again before the cool-down ends.
        """
        fresh = self.peek(discovery_url)
        if fresh is not None:
            return fresh
        entry = self._entry(discovery_url)
        if not self._closed and (entry.fetching is not None or self._clock() >= entry.failed_until):
            fetching = self._fetching(entry)
            if not (entry.failure and self._is_usable(entry)):
                await asyncio.wait({fetching})
        if entry.value is None or not self._is_usable(entry):
            error = InvalidToken if entry.refused else Unavailable
            raise error(reason=f"no usable key set of {_host(discovery_url)}: {entry.failure}")
        return entry.value

    async def for_issuer(self, issuer: str) -> IssuerKeys:
        """Return the keys of an issuer that was named by itself, at its own discovery URL (OIDC Discovery §4).

        The issuer must be an http(s) URL without query and fragment (OIDC Discovery §3, RFC 8414 §2), and here also
        without user information, dot segments and backslashes, in escapes or not; otherwise InvalidToken, and nothing
        is looked up or sent. The document must name exactly this issuer (RFC 8414 §3.3), otherwise InvalidToken:
        anybody's document could stand there. Raises Unavailable as `get` does. An issuer that a token names is its
        bearer's choice: such ones belong in a visiting `KeySets`, with an `Egress` of its own, and only where an
        authorised caller may bring any issuer.
        """
        url = discovery_url_of(issuer)
        try:
            check_url(url)
        except EgressRefused as refusal:
            raise InvalidToken(reason=f"{Refusal.WRONG_ISSUER}: {refusal}") from None
        if _ISSUER.fullmatch(issuer) is None:
            raise InvalidToken(reason=f"{Refusal.WRONG_ISSUER}: not a plain URL")
        found = await self.get(url)
        if found.issuer != issuer:
            raise InvalidToken(reason=f"{Refusal.WRONG_ISSUER}: the discovery document names another issuer")
        return found

    async def refresh_for(self, discovery_url: str, kid: str) -> IssuerKeys:
        """Return the keys after a token named a key id that was not among them; perhaps with it, perhaps without.

        The issuer is asked at most once per cool-down, by all replicas together where they share state, and not for an
        id that it did not know a moment ago. Whatever it answers, a good set is only replaced by a good set. Raises
        Unavailable as `get` does.
        """
        current = await self.get(discovery_url)
        entry = self._entry(discovery_url)
        if kid in current.keys or len(kid) > _MAX_KID_LENGTH or self._is_known_unknown(entry, kid):
            return current
        now = self._clock()
        if entry.forcing is None and now >= max(entry.forced_until, entry.failed_until) and not self._closed:
            # Set before anything is awaited, so that one of many callers goes.
            entry.forced_until = now + self._cooldown
            entry.forcing = self._start(self._force(entry, kid))
        if entry.forcing is not None:
            await asyncio.wait({entry.forcing})
        return entry.value or current

    def purge(self, discovery_url: str) -> None:
        """Forget the keys of an issuer at once: for keys that must stop working before their time."""
        self._entries.pop(discovery_url, None)

    async def aclose(self) -> None:
        """End background work. Cached keys stay readable; nothing is fetched any more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _entry(self, url: str) -> _Entry:
        entry = self._entries.get(url)
        if entry is None:
            while len(self._entries) >= self._max_issuers:
                # Of those that are worth the same the first one goes: they stand in the order of their last use.
                del self._entries[min(self._entries.values(), key=_worth).url]
            entry = self._entries[url] = _Entry(url)
        self._entries.move_to_end(url)
        return entry

    def _fetching(self, entry: _Entry) -> asyncio.Task[None]:
        if entry.fetching is None:
            entry.fetching = self._start(self._fetch(entry))
        return entry.fetching

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _fetch(self, entry: _Entry) -> None:
        """Replace the entry's value by what the issuer publishes now, or note why that failed. Raises nothing."""
        try:
            issuer, keys, ttl = await self._published(entry.url)
        except (EgressRefused, EgressFailed, ValueError) as error:
            entry.failure = str(error)
            entry.refused = self._visiting and isinstance(error, EgressRefused)
            entry.failed_until = self._clock() + self._cooldown
            _log.warning("keyset.fetch_failed", discovery_url=entry.url, reason=entry.failure)
            return
        finally:
            entry.fetching = None
        if entry.value is None or (issuer, keys) != (entry.value.issuer, entry.value.keys):
            entry.value = IssuerKeys(issuer, keys, next(self._generations))
            if self._shared is not None:
                self._start(self._announce(self._shared, entry.url, keys.fingerprint()))
        now = self._clock()
        entry.fresh_until = now + ttl
        entry.renew_at = now + ttl * (1 - _EARLY)
        entry.usable_until = entry.fresh_until + self._stale_for
        entry.failed_until, entry.failure, entry.refused = 0.0, "", False

    async def _published(self, url: str) -> tuple[str, KeySet, float]:
        document = _json(await self._egress.fetch(url, headers=_ACCEPT), "discovery document")
        issuer, jwks_uri = (document.get(name) if isinstance(document, dict) else None for name in _NEEDED)
        if not (isinstance(issuer, str) and issuer and isinstance(jwks_uri, str)):
            message = "the discovery document does not name an issuer and a jwks_uri"
            raise ValueError(message)
        if self._visiting and discovery_url_of(issuer) != url:
            message = "the discovery document names another issuer"
            raise EgressRefused(message)
        elsewhere = self._visiting and not same_origin(jwks_uri, url)
        answer = await self._egress.fetch(jwks_uri, headers=_ACCEPT, public_only=elsewhere)
        keys = KeySet.from_jwks(_json(answer, "key set"))
        if keys.skipped:
            _log.warning("keyset.keys_skipped", discovery_url=url, skipped=keys.skipped[:10])
        return issuer, keys, min(max(_max_age(answer), self._min_ttl), self._max_ttl)

    async def _force(self, entry: _Entry, kid: str) -> None:
        """Ask the issuer because of an unknown key id, unless another replica just did and saw nothing new."""
        try:
            if entry.fetching is not None:
                # It may have begun before the key was published: its answer counts only if it has the key.
                await asyncio.wait({entry.fetching})
                if entry.value is not None and kid in entry.value.keys:
                    return
            if not await self._may_force(entry):
                return
            await asyncio.wait({self._fetching(entry)})
            if entry.value is not None and not entry.failure and kid not in entry.value.keys:
                self._remember_unknown(entry, kid)
        finally:
            entry.forcing = None

    async def _may_force(self, entry: _Entry) -> bool:
        if self._shared is None:
            return True
        try:
            if await self._shared.add(_shared_key(entry.url, "forced"), b"1", ttl=self._cooldown):
                return True
            # Another replica went. If keys other than ours were found, ours are old, and a flood elsewhere that always
            # comes first must not keep them so.
            found = await self._shared.get(_shared_key(entry.url, "found"))
        except Unavailable:
            return True
        return found is not None and (entry.value is None or found != entry.value.keys.fingerprint().encode())

    async def _announce(self, shared: Ephemeral, url: str, fingerprint: str) -> None:
        try:
            await shared.put(_shared_key(url, "found"), fingerprint.encode(), ttl=self._max_ttl)
        except Unavailable:
            _log.warning("keyset.announce_failed", discovery_url=url)

    def _is_usable(self, entry: _Entry) -> bool:
        return entry.value is not None and self._clock() < entry.usable_until

    def _is_known_unknown(self, entry: _Entry, kid: str) -> bool:
        until = entry.unknown.get(kid)
        return until is not None and self._clock() < until

    def _remember_unknown(self, entry: _Entry, kid: str) -> None:
        entry.unknown[kid] = self._clock() + self._cooldown * _UNKNOWN_FOR
        entry.unknown.move_to_end(kid)
        while len(entry.unknown) > _MAX_UNKNOWN:
            entry.unknown.popitem(last=False)


_ACCEPT = (("Accept", "application/json"),)
_NEEDED = ("issuer", "jwks_uri")


def discovery_url_of(issuer: str) -> str:
    """Return where an issuer publishes its configuration; a final slash of the issuer goes (OIDC Discovery §4)."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def _worth(entry: _Entry) -> int:
    """Rank entries for eviction: those that failed go before those that are being asked, and both before keys."""
    if entry.value is not None:
        return 2
    return 0 if entry.fetching is None else 1


def _json(answer: Fetched, name: str) -> Any:
    if answer.status != 200:
        message = f"the {name} was answered with status {answer.status}"
        raise ValueError(message)
    try:
        return strictjson.loads(answer.body)
    except ValueError as error:
        message = f"the {name} is not acceptable JSON: {error}"
        raise ValueError(message) from None


def _max_age(answer: Fetched) -> float:
    control = answer.header("cache-control") or ""
    if _NOT_KEPT.search(control):
        return 0.0
    found = _MAX_AGE.search(control)
    return float(found[1]) if found else _DEFAULT_TTL


def _shared_key(url: str, what: str) -> str:
    return f"keysets:{hashlib.sha256(url.encode()).hexdigest()}:{what}"


def _host(url: str) -> str:
    return urlsplit(url).hostname or "an unnamed host"
