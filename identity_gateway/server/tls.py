"""The protocol of `http` over TLS, at less memory traffic. How a request is read is not known here."""

import asyncio
from typing import Any, cast

from identity_gateway.server.http import BoundedProtocol

_ARRIVED = memoryview(bytearray(65_536))


class BoundedTlsProtocol(asyncio.BufferedProtocol):
    """`BoundedProtocol` over TLS. What is deciphered is put into one place: uvloop would allocate 256 KiB each time."""

    __slots__ = ("_protocol",)

    def __init__(self, **parts: Any) -> None:
        self._protocol = BoundedProtocol(**parts)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._protocol.connection_made(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what arrives. It is taken from there before anything else arrives, on any connection."""
        del sizehint
        return _ARRIVED

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has arrived."""
        self._protocol.data_received(bytes(_ARRIVED[:nbytes]))
