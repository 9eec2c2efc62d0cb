"""Metadata of authorization servers (RFC 8414, OpenID Connect Discovery): fetched through `egress` and kept a while.

It sends nothing to the endpoints that it finds, and reads no keys (`keysets` does).
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import structlog

from identity_gateway.egress import Egress, EgressFailed, EgressRefused, check_url
from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.protocol import strictjson

FRESH_FOR = 300.0
"""Seconds for which a document is used without a look at the server."""

USABLE_FOR = 3600.0
"""Seconds for which a document is used while the server fails."""

_COOLDOWN = 10.0
_MAX_SERVERS = 1000
_ACCEPT = (("Accept", "application/json"),)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a client needs to know of an authorization server. The endpoints are http(s) URLs that `egress` may reach.

    `iss_parameter_supported`: every authorization response carries `iss` (RFC 9207 §3), so one without it is forged.
    `public_only`: the endpoints must be called at public addresses, because the document stands at one.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str | None = None
    introspection_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    iss_parameter_supported: bool = False
    public_only: bool = True


@dataclass(slots=True)
class _Entry:
    value: Metadata | None = None
    fetched_at: float = 0.0
    failed_until: float = 0.0
    failure: Unavailable | ValidationFailed | None = field(default=None, repr=False)


class ServerMetadata:
    """The metadata documents that administrators named. Belongs to one event loop."""

    def __init__(self, egress: Egress, *, clock: Callable[[], float]) -> None:
        self._egress = egress
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._flights: dict[str, asyncio.Task[None]] = {}

    async def get(self, discovery_url: str) -> Metadata:
        """Return the metadata at this URL, five minutes old at most, or an hour while the server fails.

        The administrator named the document, so its issuer is what it says, even where that differs from the URL
        (RFC 8414 §3.3 asks for equality because there the issuer was named): whoever controls the URL decides about
        the endpoints anyway, and every provider has a callback URL of its own, at which no other server's code arrives.
        They decide about their own network, that is: a document from the internet leads into no allowed network, or it
        would choose where the gateway sends its credentials, and whose answers it repeats.

        Many callers at once make one fetch. Without a usable document: raises Unavailable when the server does not
        answer, ValidationFailed when it may not be asked or its document cannot be used. Until ten seconds after such
        a failure the server is not asked again.
        """
        entry = self._entries.get(discovery_url)
        if entry is None:
            while len(self._entries) >= _MAX_SERVERS:
                self._entries.popitem(last=False)
            entry = self._entries[discovery_url] = _Entry()
        self._entries.move_to_end(discovery_url)
        if not self._is_younger(entry, FRESH_FOR) and self._clock() >= entry.failed_until:
            flight = self._flights.get(discovery_url)
            if flight is None:
                flight = asyncio.get_running_loop().create_task(self._fetch(discovery_url, entry))
                self._flights[discovery_url] = flight
                flight.add_done_callback(functools.partial(self._landed, discovery_url))
            # Not awaited itself: one caller that gives up must not take the answer from the others.
            await asyncio.wait({flight})
        if entry.value is not None and self._is_younger(entry, USABLE_FOR):
            return entry.value
        if entry.failure is None:  # the fetch was cancelled: the gateway ends
            raise Unavailable(reason="the authorization server's metadata was not fetched")
        raise type(entry.failure)(entry.failure.message, reason=entry.failure.reason)

    async def aclose(self) -> None:
        """End the fetches under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _is_younger(self, entry: _Entry, seconds: float) -> bool:
        return entry.value is not None and self._clock() - entry.fetched_at < seconds

    async def _fetch(self, url: str, entry: _Entry) -> None:
        """Replace the entry's value by what the server publishes now, or note why that failed. Raises nothing."""
        began = self._clock()
        try:
            entry.value = await self._published(url)
        except (Unavailable, ValidationFailed) as error:
            entry.failure = error
            entry.failed_until = self._clock() + _COOLDOWN
            _log.warning("server_metadata.fetch_failed", discovery_url=url, reason=error.reason)
            return
        entry.fetched_at = began
        entry.failure = None
        entry.failed_until = 0.0

    async def _published(self, url: str) -> Metadata:
        try:
            answer = await self._egress.fetch(url, headers=_ACCEPT)
        except EgressFailed as error:
            raise _silent(str(error)) from None
        except EgressRefused as error:
            raise _unusable("may not be fetched", str(error)) from None
        if answer.status >= 500 or answer.status == 429:
            raise _silent(f"status {answer.status}")
        if answer.status != 200:
            raise _unusable("is not there", f"status {answer.status}")
        try:
            return replace(read(strictjson.loads(answer.body), url), public_only=not answer.inside)
        except ValueError as error:
            raise _unusable("cannot be used", str(error)) from None

    def _landed(self, url: str, _flight: asyncio.Task[None]) -> None:
        del self._flights[url]


def read(document: Any, url: str) -> Metadata:
    """Return what a metadata document that was found at this URL says. Raises ValueError, naming the member.

    An optional endpoint that cannot be used is as good as none. Not checked: `response_types_supported`, `grant_types_
    supported` and what else a server lists: it answers for itself.
    """
    document = document if isinstance(document, dict) else {}
    return Metadata(
        issuer=_url(document, "issuer", url),
        authorization_endpoint=_url(document, "authorization_endpoint", url),
        token_endpoint=_url(document, "token_endpoint", url),
        revocation_endpoint=_optional(document, "revocation_endpoint", url),
        introspection_endpoint=_optional(document, "introspection_endpoint", url),
        userinfo_endpoint=_optional(document, "userinfo_endpoint", url),
        iss_parameter_supported=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _url(document: dict[str, Any], member: str, found_at: str) -> str:
    value = document.get(member)
    if not (isinstance(value, str) and value):
        message = f"{member} is missing"
        raise ValueError(message)
    try:
        check_url(value)
    except EgressRefused as error:
        message = f"{member}: {error}"
        raise ValueError(message) from None
    if _scheme(value) == "http" and _scheme(found_at) == "https":
        # A document that came over plain http came from a network that the operator allowed.
        message = f"{member} is plain http, and the document that names it is not"
        raise ValueError(message)
    return value


def _optional(document: dict[str, Any], member: str, found_at: str) -> str | None:
    try:
        return _url(document, member, found_at)
    except ValueError:
        return None


def _scheme(url: str) -> str:
    return urlsplit(url).scheme


def _silent(reason: str) -> Unavailable:
    return Unavailable(
        "The authorization server of the credential provider does not answer. Try again.",
        reason=f"authorization server metadata: {reason}",
    )


def _unusable(problem: str, reason: str) -> ValidationFailed:
    return ValidationFailed(
        f"The discovery document of the credential provider {problem}.",
        reason=f"authorization server metadata: {reason}",
    )
