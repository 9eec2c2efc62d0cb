"""Where agents stand: origins, the addresses behind their names, and the addresses where no agent may stand.

Private and loopback addresses are allowed, because agents run next to the gateway. Link-local ones and the metadata
services of clouds are not: they hand credentials to whoever can reach them. This module connects to nothing.
"""

import asyncio
import re
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from identity_gateway.upstream.failure import FailureKind, UpstreamError

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?:\[(?P<ipv6>[0-9a-f:.]{{2,45}})\]|(?P<name>{_LABEL}(?:\.{_LABEL})*))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/(?:[a-z0-9._~!$&'()*+,;=:@-]|%[0-9a-f]{2})*)*)",
    re.ASCII | re.IGNORECASE,
)
_NUMERIC_NAME = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}

_FORBIDDEN = [
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::/128", "unspecified"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
        # Not link-local, but services that give credentials to every neighbour: instance metadata, the credential
        # agents of containers, and platform endpoints of several clouds.
        ("fd00:ec2::/32", "a cloud metadata service"),
        ("fd20:ce::254/128", "a cloud metadata service"),
        ("100.100.100.200/32", "a cloud metadata service"),
        ("168.63.129.16/32", "a cloud metadata service"),
        ("192.0.0.192/32", "a cloud metadata service"),
    )
]
_TRANSLATED = [IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::ffff:0:0:0/96")]
_COMPATIBLE = IPv6Network("::/96")

_CACHE_SECONDS = 30.0
_CACHE_NAMES = 4096

_THREADS = 8
_WAITING = 256

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port in, addresses as text out. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A place that speaks HTTP/1.1: scheme, host (a lower-case name or an IP address without brackets), port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def from_url(cls, url: str) -> "tuple[Origin, bytes]":
        """Return the origin of an absolute URL and its path, without the slashes at its end.

        Raises ValueError for anything but http or https, for user information, query and fragment, for names that are
        not ASCII, and for IPv4 addresses in other spellings than four decimal numbers. Does NOT check whether an agent
        may stand there: the address behind a name is only known when it is connected to.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise ValueError("must be http(s)://host[:port][/path] without user information, query and fragment")
        scheme = match["scheme"].lower()
        port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
        if not 1 <= port <= 65535:
            raise ValueError("the port must be from 1 to 65535")
        return cls(scheme, _host(match["ipv6"], match["name"]), port), match["path"].rstrip("/").encode()

    @property
    def authority(self) -> str:
        """What stands in the `host` field: the port only where it is not the default of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def _host(ipv6: str | None, name: str) -> str:
    if ipv6 is not None:
        return str(IPv6Address(ipv6))
    if len(name) > 253:
        raise ValueError("the host name is longer than 253 characters")
    host = name.lower()
    # The C library reads 0177.1, 2130706433 and 0x7f000001 as addresses; people and logs read them as names.
    return str(IPv4Address(host)) if _NUMERIC_NAME.fullmatch(host) else host


def why_forbidden(address: str) -> str | None:
    """Return why no agent may stand on this IP address, or None if one may. Raises ValueError if it is not one.

    IPv6 addresses that carry an IPv4 address (mapped, translated, tunnelled) are judged by that one as well.
    """
    parsed = ip_address(address)
    for candidate in (parsed, *_embedded(parsed)):
        for network, reason in _FORBIDDEN:
            if candidate.version == network.version and candidate in network:
                return reason
    return None


def _embedded(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    if isinstance(address, IPv4Address):
        return
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped or any(address in network for network in _TRANSLATED):
        yield last
    if address in _TRANSLATED[1]:  # RFC 6052 §2.2: behind a /48 the IPv4 address stands around the ninth byte
        packed = address.packed
        yield IPv4Address(packed[6:8] + packed[9:11])
    if address in _COMPATIBLE and not (address.is_loopback or address.is_unspecified):
        yield last
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo


def resolve(host: str, port: int) -> list[str]:
    """Wait for the system's resolver for as long as it takes. Raises OSError, or ValueError for a bad name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # with a type, or every address comes three times
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class LookUpsBusy(OSError):
    """Every thread waits for a name server, and as many questions as may wait for a thread do so."""


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    host: str
    port: int
    answer: Future[list[str]]


class LookUps:
    """A `Resolver` that asks the system in threads of its own: whose names are slow slows only those who share it.

    The system's look-up cannot be interrupted: a caller that gives up leaves its thread waiting. Hence a bounded number
    of `threads`, a bounded number of questions `waiting` for one, and no use of the event loop's own threads. They are
    daemons, because the process must be able to end while a name server does not answer.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._threads = threads
        self._max_waiting = waiting
        self._lock = threading.Lock()  # guards what follows
        self._waiting: deque[_Question] = deque()
        self._running = 0
        self._closed = False

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a name, each once. Raises OSError (LookUpsBusy at once), and ValueError."""
        question = _Question(host, port, Future())
        self._put(question)
        try:
            return await asyncio.wrap_future(question.answer)
        finally:
            with self._lock, suppress(ValueError):
                self._waiting.remove(question)

    def close(self) -> None:
        """Answer nothing any more: questions that wait fail, those that are being asked are left to their threads."""
        with self._lock:
            self._closed = True
            given_up = list(self._waiting)
            self._waiting.clear()
        for question in given_up:
            if question.answer.set_running_or_notify_cancel():
                question.answer.set_exception(OSError("look-ups have ended"))

    def _put(self, question: _Question) -> None:
        with self._lock:
            if self._closed:
                raise OSError("look-ups have ended")
            if self._running < self._threads:
                try:
                    threading.Thread(target=self._work, args=(question,), name=self._name, daemon=True).start()
                except RuntimeError:
                    raise LookUpsBusy("the system has no thread left") from None
                self._running += 1
            elif len(self._waiting) < self._max_waiting:
                self._waiting.append(question)
            else:
                raise LookUpsBusy("too many names are being looked up")

    def _work(self, question: _Question | None) -> None:
        while question is not None:
            if question.answer.set_running_or_notify_cancel():
                try:
                    question.answer.set_result(resolve(question.host, question.port))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's answer
                    question.answer.set_exception(error)
            with self._lock:
                question = self._waiting.popleft() if self._waiting else None
                if question is None:
                    self._running -= 1


class AddressBook:
    """The addresses behind names: checked, kept for 30 seconds, one question at a time per name."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._look_ups = LookUps("agent-look-up", _THREADS, _WAITING)
        self._resolver = resolver or self._look_ups
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._flights: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def find(self, host: str, port: int) -> tuple[str, ...]:
        """Return the addresses of a host that may be connected to, in the resolver's order; at least one.

        Raises UpstreamError (`unreachable`, `forbidden_address`). Failures are not kept.
        """
        loop = asyncio.get_running_loop()
        until, addresses = self._known.get(host, (0.0, ()))
        if loop.time() < until:
            return addresses
        flight = self._flights.get(host)
        if flight is None:
            flight = self._flights[host] = loop.create_task(self._ask(host, port))
            flight.add_done_callback(partial(self._landed, host))
        # Shielded: one caller that gives up must not take the answer from the others.
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if flight.cancelled():
                raise UpstreamError(FailureKind.CLOSED, f"{host}: the pool is closed") from None
            raise

    def close(self) -> None:
        """Give up the questions that are under way."""
        for flight in self._flights.values():
            flight.cancel()
        self._look_ups.close()

    async def _ask(self, host: str, port: int) -> tuple[str, ...]:
        try:
            found = [str(ip_address(host))]
        except ValueError:
            found = await self._look_up(host, port)
        reasons = {address: why_forbidden(address) for address in found}
        allowed = tuple(address for address, reason in reasons.items() if reason is None)
        if not allowed:
            address, reason = next(iter(reasons.items()))
            raise UpstreamError(FailureKind.FORBIDDEN_ADDRESS, f"{host} stands on {address}, which is {reason}")
        if len(self._known) >= _CACHE_NAMES:
            self._known.clear()
        self._known[host] = (asyncio.get_running_loop().time() + _CACHE_SECONDS, allowed)
        return allowed

    async def _look_up(self, host: str, port: int) -> list[str]:
        try:
            # A zone (`%eth0`) belongs to link-local addresses; without it they are recognised as what they are.
            found = [str(ip_address(address.partition("%")[0])) for address in await self._resolver(host, port)]
        except (OSError, ValueError) as error:  # ValueError: labels that IDNA refuses, answers that are no addresses
            raise UpstreamError(FailureKind.UNREACHABLE, f"{host} cannot be resolved") from error
        if not found:
            raise UpstreamError(FailureKind.UNREACHABLE, f"{host} has no address")
        return found

    def _landed(self, host: str, flight: asyncio.Task[tuple[str, ...]]) -> None:
        del self._flights[host]
        if not flight.cancelled():
            flight.exception()  # taken note of, even if nobody waits for it any more
