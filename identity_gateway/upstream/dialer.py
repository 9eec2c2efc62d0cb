"""Opens connections to agents: finds the addresses, connects to the very address that was checked, speaks TLS.

It keeps no connection and counts none.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

from identity_gateway.upstream.address import AddressBook, Origin
from identity_gateway.upstream.connection import Connection
from identity_gateway.upstream.failure import FailureKind, UpstreamError

Spoken = TypeVar("Spoken", bound=asyncio.BaseProtocol)
"""What is spoken on a connection."""


class Dialer:
    """Connects to origins, each time within `timeout` seconds for name, connection and TLS together."""

    def __init__(self, addresses: AddressBook, context: ssl.SSLContext | None, timeout: float) -> None:
        if context is not None and not (context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED):
            raise ValueError("the TLS context must verify certificates and host names")
        self._addresses = addresses
        self._context = context
        self._timeout = timeout

    async def dial(self, origin: Origin) -> Connection:
        """Return an open connection. Raises UpstreamError; the next address is tried unless TLS has failed."""
        loop = asyncio.get_running_loop()
        return await self.open(origin, lambda: Connection(str(origin), loop))

    async def open(self, origin: Origin, protocol: Callable[[], Spoken]) -> Spoken:
        """Return what speaks on an open connection: `protocol` makes a new one for every address that is tried.

        Raises UpstreamError, as `dial` does.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        slow = f"{origin}: not resolved within {self._timeout:g} s"
        failure = UpstreamError(FailureKind.TIMEOUT, slow, unsent=True)
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._addresses.find(origin.host, origin.port)
        except TimeoutError:
            raise failure from None
        for index, address in enumerate(addresses):
            # An address that swallows packets must leave time for those behind it.
            share = (deadline - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(share):
                    return await self._connect(loop, origin, address, protocol)
            except OSError as error:
                failure = _failure(origin, address, error)
                if failure.kind is FailureKind.TLS:
                    break
        raise failure

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, address: str, protocol: Callable[[], Spoken]
    ) -> Spoken:
        # A new one for every try: an old one may still hear that its transport was lost.
        if origin.scheme == "http":
            _, connection = await loop.create_connection(protocol, address, origin.port)
        else:
            _, connection = await loop.create_connection(
                protocol,
                address,
                origin.port,
                ssl=self._trust(),
                server_hostname=origin.host,
                ssl_handshake_timeout=self._timeout,
            )
        return connection

    def _trust(self) -> ssl.SSLContext:
        """Return the context for TLS, made at the first need of one: reading the system's authorities takes a while."""
        if self._context is None:
            self._context = ssl.create_default_context()
        self._context.set_alpn_protocols(["http/1.1"])
        return self._context


def _failure(origin: Origin, address: str, error: OSError) -> UpstreamError:
    match error:
        case ssl.SSLCertVerificationError():
            kind, why = FailureKind.TLS, f"the certificate was not accepted: {error.verify_message}"
        case ssl.SSLError():
            kind, why = FailureKind.TLS, "no TLS connection came about"
        case TimeoutError():
            kind, why = FailureKind.TIMEOUT, "no connection in time"
        case ConnectionRefusedError():
            kind, why = FailureKind.REFUSED, "the connection was refused"
        case ConnectionError() if origin.scheme == "https":
            kind, why = FailureKind.TLS, "the connection was closed during the TLS handshake"
        case _:
            kind, why = FailureKind.UNREACHABLE, "cannot be reached"
    return UpstreamError(kind, f"{origin} ({address}): {why}", unsent=True)
