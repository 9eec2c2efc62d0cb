"""The protocol of `http` over TLS, at less memory traffic. How a request is read is not known here."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

from uvicorn import Config

from identity_gateway.server.http import BoundedProtocol

_ARRIVED = memoryview(bytearray(65_536))


class _Session(ssl.SSLObject):
    """One side of TLS that knows without asking OpenSSL when all that has arrived was read.

    Whoever reads asks until there is nothing left, and OpenSSL's own way of saying so costs as much as deciphering.
    """

    incoming: ssl.MemoryBIO

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the base class's name
        """Read as the base class does. Raises SSLWantReadError, and more."""
        incoming = self.incoming
        if not incoming.pending and not self.pending() and not incoming.eof:
            raise ssl.SSLWantReadError
        return super().read(len, buffer)


class TlsContext(ssl.SSLContext):
    """The standard library's context, for the server's side of TLS."""

    sslobject_class = _Session

    def wrap_bio(self, incoming: ssl.MemoryBIO, *parts: Any, **named: Any) -> ssl.SSLObject:
        """Wrap as the base class does."""
        session = super().wrap_bio(incoming, *parts, **named)
        cast(_Session, session).incoming = incoming
        return session


def context(certificate: Path, key: Path | None) -> TlsContext:
    """Return what a server with this certificate and this key, both PEM files, does TLS with.

    Raises OSError and ssl.SSLError. An encrypted key is refused: OpenSSL would ask for its password on the terminal.
    """
    made = TlsContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key, "")
    return made


def context_of(config: Config, _default: Any) -> TlsContext:
    """Do as `context` for uvicorn, in each of its processes."""
    return context(cast(Path, config.ssl_certfile), cast(Path | None, config.ssl_keyfile))


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
