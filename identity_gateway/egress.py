"""The only way out to the network for everything that is not the data path: key sets, discovery, vendors, webhooks.

Where a URL came from is the caller's business: an administrator's URL can still point inwards (server-side request
forgery). Here every address is looked up once, checked, and then connected to as checked, so that a name cannot change
its address in between. The data path to agents is `upstream`'s.
"""

import asyncio
import contextlib
import functools
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import httpcore2

from identity_gateway.upstream.address import LookUps

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to the addresses it stands for, as text."""

_MAX_URL_LENGTH = 2048
_URL = re.compile(r"(https?)://([^/?#]*)((?:[/?][\x21-\x22\x24-\x5b\x5d-\x7e]*)?)", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_LOOKS_LIKE_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_NEVER = _networks(
    "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32", "100.100.100.200/32",
    "192.0.0.192/32", "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128",
)  # fmt: skip
"""This host, link-local, multicast, and the metadata services of clouds: no allow-list opens these.

Whoever answers there hands out the credentials of this very machine.
"""

_NOT_GLOBAL = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
"""The special-purpose address registries of IANA (RFC 6890), written out: Python's `is_global` changes over time."""

_GLOBAL_UNICAST = ip_network("2000::/3")
_TRANSLATED = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")

_OUR_HEADERS = (("Accept-Encoding", "identity"), ("Connection", "close"))
_NOT_THE_CALLERS = {"host", "accept-encoding", "connection", "content-length", "transfer-encoding"}
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*", re.ASCII)

_CONNECT_SECONDS = 2.0
_TOTAL_SECONDS = 5.0
_MAX_BYTES = 1024 * 1024
_LOOK_UPS = 4
_LOOK_UPS_WAITING = 16


class EgressRefused(Exception):
    """This URL or address may not be reached. Nothing was sent. The message holds no query and no credential."""


class EgressFailed(Exception):
    """The exchange did not succeed: no connection, no certificate, too slow, too large, not HTTP.

    `maybe_sent` is false when the request certainly never left: only then a call that must happen once may be repeated.
    """

    def __init__(self, message: str, *, maybe_sent: bool) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whatever its status: redirects are answers too. Header names are lower-case, in wire order.

    `inside`: only the allowed networks made it possible, for no address of the host is public, or it is plain http.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    inside: bool = field(default=False, repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of a header (lower-case name), or None."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    host: str
    port: int
    path_and_query: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def check_url(url: str) -> None:
    """Raise EgressRefused when no server at this URL could ever be asked. For registration: asks no name server.

    Checks the spelling (http or https, no user info, no fragment, a plain host name or address, a port) and, for an
    address, that it is none of those that nobody may reach. Whether plain http or a private address is allowed depends
    on the allow-list, and is decided by `Egress.fetch`.
    """
    target = _parse(url)
    literal = _literal(target.host)
    if literal is not None and _is_in(_embedded(literal), _NEVER):
        message = "this address may not be reached"
        raise EgressRefused(message)


def same_origin(one: str, other: str) -> bool:
    """Say whether two URLs have scheme, host and port in common (RFC 6454 §4). Raises EgressRefused for a bad one."""
    first, second = _parse(one), _parse(other)
    return (first.scheme, first.host, first.port) == (second.scheme, second.host, second.port)


class Egress:
    """A way out with rules. `allow` are the networks that may be reached though they are not public.

    Plain http is for those networks only. There are no redirects, cookies, proxies, credentials from files, compressed
    bodies, or kept connections: each exchange is looked up, checked and connected anew, so that a request for which a
    repetition is dangerous never meets a connection that the other side has just closed.

    `total` (seconds) is the whole time of an exchange, from the look-up to the last byte; `connect` is that of one
    connection attempt; `max_bytes` bounds the body.

    Names are looked up in a few threads that belong to this way out alone: where strangers choose the names, give them
    a way out of their own, and nobody else waits behind their name servers. Close it with `aclose`.
    """

    def __init__(
        self,
        allow: Sequence[Network] = (),
        *,
        connect: float = _CONNECT_SECONDS,
        total: float = _TOTAL_SECONDS,
        max_bytes: int = _MAX_BYTES,
        ssl_context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        for network in allow:
            if any(network.version == never.version and network.subnet_of(never) for never in _NEVER):  # type: ignore[arg-type]
                message = f"{network} cannot be allowed: link-local, multicast and metadata addresses are never reached"
                raise ValueError(message)
        if ssl_context is not None and not (
            ssl_context.verify_mode is ssl.CERT_REQUIRED and ssl_context.check_hostname
        ):
            message = "a TLS context that does not verify certificates and host names cannot be used"
            raise ValueError(message)
        self._allow = tuple(allow)
        self._connect = connect
        self._total = total
        self._max_bytes = max_bytes
        self._ssl_context = ssl_context
        self._look_ups = LookUps("egress-look-up", _LOOK_UPS, _LOOK_UPS_WAITING)
        self._resolver = resolver or self._look_ups

    async def aclose(self) -> None:
        """Look up no name any more. Exchanges under way go on to their end."""
        self._look_ups.close()

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        content: bytes | None = None,
        public_only: bool = False,
    ) -> Fetched:
        """Make one HTTP/1.1 exchange, once: nothing is repeated. Raises EgressRefused or EgressFailed.

        Any status is a success; what it means is the caller's to say. `headers` may not name Host or framing. With
        `public_only` the allowed networks count for nothing: for a URL that a stranger chose, down to path and query.
        """
        target = _parse(url)
        sent = _Sent()
        request = httpcore2.Request(
            method,
            httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path_and_query),
            headers=_request_headers(target, headers, content),
            content=content,
            extensions={"timeout": {"connect": self._connect}, "trace": sent.trace},
        )
        try:
            async with asyncio.timeout(self._total):
                addresses = await self._addresses(target, public_only)
                inside = target.scheme == "http" or not any(_is_public(address) for address in addresses)
                return replace(await self._exchange(target, addresses, request), inside=inside)
        except (EgressRefused, EgressFailed):
            raise
        except TimeoutError:
            message = f"{target.host} took longer than {self._total:g} s"
            raise EgressFailed(message, maybe_sent=sent.begun) from None
        except Exception as error:  # noqa: BLE001 - libraries raise a dozen kinds; their texts may quote the request
            message = f"{target.host} did not answer: {_cause(error)}"
            raise EgressFailed(message, maybe_sent=sent.begun) from None

    async def _addresses(self, target: _Target, public_only: bool) -> list[Address]:
        literal = _literal(target.host)
        if literal is not None:
            found = [literal]
        else:
            try:
                found = [ip_address(text) for text in await self._resolver(target.host, target.port)]
            except (OSError, ValueError) as error:
                message = f"{target.host} could not be looked up: {type(error).__name__}"
                raise EgressFailed(message, maybe_sent=False) from None
        if not found:
            message = f"{target.host} has no address"
            raise EgressFailed(message, maybe_sent=False)
        # One bad address refuses the whole answer: a mixture is what a rebinding attack looks like.
        for address in found:
            inside = not public_only and self._is_allowed(address)
            if not inside and not _is_public(address):
                what = "not public" if public_only else "neither public nor allowed"
                message = f"{target.host} stands for an address that is {what}"
                raise EgressRefused(message)
            if not inside and target.scheme != "https":
                message = f"plain http to {target.host} is refused: its address is not in the allowed networks"
                raise EgressRefused(message)
        return found

    def _is_allowed(self, address: Address) -> bool:
        every = _embedded(address)
        return not _is_in(every, _NEVER) and all(_is_in((one,), self._allow) for one in every)

    async def _exchange(self, target: _Target, addresses: list[Address], request: httpcore2.Request) -> Fetched:
        connection = httpcore2.AsyncHTTPConnection(
            request.url.origin,
            ssl_context=(self._ssl_context or _public_trust()) if target.scheme == "https" else None,
            network_backend=_CheckedAddresses(addresses),
        )
        async with connection:
            response = await connection.handle_async_request(request)
            try:
                return await self._read(target, response)
            finally:
                await response.aclose()

    async def _read(self, target: _Target, response: httpcore2.Response) -> Fetched:
        headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers)
        encodings = {value.lower() for name, value in headers if name == "content-encoding"}
        if encodings - {"identity"}:
            message = f"{target.host} answered in an encoding that was not asked for"
            raise EgressFailed(message, maybe_sent=True)
        body = bytearray()
        async with contextlib.aclosing(response.aiter_stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > self._max_bytes:
                    message = f"{target.host} answered more than {self._max_bytes} bytes"
                    raise EgressFailed(message, maybe_sent=True)
        return Fetched(response.status, headers, bytes(body))


class _CheckedAddresses(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were checked, whatever the name stands for by now."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Try the addresses in their order until one accepts. `host` is not looked up again."""
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in self._addresses:
            try:
                return await self._sockets.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class _Sent:
    """Remembers whether a byte of the request may have left."""

    def __init__(self) -> None:
        self.begun = False

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of an event of the connection (an httpcore2 `trace` extension)."""
        del info
        if event == "http11.send_request_headers.started":
            self.begun = True


@functools.cache
def _public_trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _parse(url: str) -> _Target:
    whole = _URL.fullmatch(url) if len(url) <= _MAX_URL_LENGTH else None
    authority = _AUTHORITY.fullmatch(whole[2]) if whole else None
    if whole is None or authority is None:
        message = "not an http(s) URL of a host: no user info, no fragment, no blanks, at most 2048 characters"
        raise EgressRefused(message)
    scheme, host = whole[1].lower(), authority[1].lower()
    if host.startswith("["):
        host = host[1:-1]
        plain = isinstance(_literal(host), IPv6Address)
    else:
        plain = isinstance(_literal(host), IPv4Address) or (
            _HOST_NAME.fullmatch(host) is not None and not _LOOKS_LIKE_A_NUMBER.fullmatch(host)
        )
    if not plain:
        message = "the host is neither a name nor a plainly written address"
        raise EgressRefused(message)
    port = int(authority[2] or (443 if scheme == "https" else 80))
    if not 1 <= port <= 65535:
        message = "the port is not from 1 to 65535"
        raise EgressRefused(message)
    rest = whole[3]
    return _Target(scheme, host, port, rest if rest.startswith("/") else f"/{rest}")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _embedded(address: Address) -> tuple[Address, ...]:
    """Return the address and the IPv4 address that hides in it: mapped, compatible, or translated (RFC 6052)."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        return (address, IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    return (address,)


def _is_in(addresses: Iterable[Address], networks: Iterable[Network]) -> bool:
    return any(address in network for address in addresses for network in networks)


def _is_public(address: Address) -> bool:
    every = _embedded(address)
    if _is_in(every, _NEVER) or _is_in(every, _NOT_GLOBAL):
        return False
    return all(one.is_global and (one.version == 4 or one in _GLOBAL_UNICAST or one in _TRANSLATED) for one in every)


def _request_headers(target: _Target, given: Iterable[tuple[str, str]], content: bytes | None) -> list[tuple[str, str]]:
    given = list(given)
    headers = [("Host", target.authority), *_OUR_HEADERS]
    if not any(name.lower() == "user-agent" for name, _ in given):
        headers.append(("User-Agent", "identity-gateway"))
    if content is not None:
        headers.append(("Content-Length", str(len(content))))
    for name, value in given:
        if name.lower() in _NOT_THE_CALLERS or not _HEADER_VALUE.fullmatch(value):
            message = f"the header {name!r} may not be set, or has a value that cannot be sent"
            raise EgressRefused(message)
        headers.append((name, value))
    return headers


def _cause(error: BaseException) -> str:
    """Say what went wrong without the library's own text, which may quote what was sent."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate was refused: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
