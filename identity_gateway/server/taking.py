"""The time that a caller may leave untaken what is sent to it, however its connection is spoken.

This module does not know what is sent.
"""

import asyncio
import sys
from contextlib import suppress
from typing import Any, Protocol

from identity_gateway.settings import Settings

if sys.platform != "win32":
    import fcntl
    import termios

_PATIENCE = 30.0


def patience_of(application: Any) -> float:
    """Return how many seconds an application has for each step of its callers."""
    settings = getattr(application, "settings", None)
    return settings.request_head_timeout if isinstance(settings, Settings) else _PATIENCE


class Subject(Protocol):
    """A connection that is looked after."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    @property
    def holds_back(self) -> bool:
        """Whether the gateway holds back the rest of an answer."""

    @property
    def idle_until(self) -> float | None:
        """Until when, by the loop's clock, the caller may say nothing; None while that is not looked after here."""


class Taking:
    """Cuts off a caller that has taken nothing since the last look, although the gateway waits for it.

    The gateway also waits when the connection is to be closed, by whomever, which otherwise lasts until the caller took
    the last byte. At other times new bytes may make up for those taken. A connection on which nothing was asked for too
    long is closed, no later than one look after it is due: a clock for each request would cost more.
    """

    __slots__ = ("_patience", "_subject", "_timer", "_untaken")

    def __init__(self, subject: Subject, patience: float) -> None:
        self._subject = subject
        self._patience = patience
        self._untaken = 0  # bytes that waited for the caller at the last look; 0 when it need not have taken any
        self._look_again()

    def progressed(self) -> None:
        """Note that the caller takes what it is sent."""
        self._untaken = 0

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look_again(self) -> None:
        self._timer = self._subject.loop.call_later(self._patience, self._look)

    def _look(self) -> None:
        subject = self._subject
        transport, idle_until = subject.transport, subject.idle_until
        untaken = _untaken(transport) if subject.holds_back or transport.is_closing() else 0
        if untaken and untaken == self._untaken:
            transport.abort()
            return
        if idle_until is not None and idle_until <= subject.loop.time() and not transport.is_closing():
            transport.close()
        self._untaken = untaken
        self._look_again()


def _untaken(transport: asyncio.Transport) -> int:
    """Return how many bytes wait for the caller; 0 when all of them are the system's to deliver."""
    held = transport.get_write_buffer_size()
    if held and sys.platform != "win32":
        # A slow reader is seen here only: the system takes more from us when a third of its own, large buffer is free.
        with suppress(OSError):
            queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            held += int.from_bytes(queued, sys.byteorder)
    return held
