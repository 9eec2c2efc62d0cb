"""The time that a caller may leave untaken what is sent to it, however its connection is spoken.

This module does not know what is sent.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from identity_gateway.settings import Settings

if sys.platform != "win32":
    import fcntl
    import termios

_PATIENCE = 30.0


def patience_of(application: Any) -> float:
    """Return how many seconds an application has for each step of its callers."""
    settings = getattr(application, "settings", None)
    return settings.request_head_timeout if isinstance(settings, Settings) else _PATIENCE


class Taking:
    """Cuts off a caller that has taken nothing since the last look, although the gateway waits for it.

    `holds_back` says whether the gateway holds back the rest of an answer. It also waits when the connection is to be
    closed, by whomever, which otherwise lasts until the caller took the last byte. At other times new bytes may make up
    for those taken.
    """

    def __init__(self, transport: asyncio.Transport, patience: float, holds_back: Callable[[], bool]) -> None:
        self._transport = transport
        self._patience = patience
        self._holds_back = holds_back
        self._untaken = 0  # bytes that waited for the caller at the last look; 0 when it need not have taken any
        self._loop = asyncio.get_running_loop()
        self._look_again()

    def progressed(self) -> None:
        """Note that the caller takes what it is sent."""
        self._untaken = 0

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(self._patience, self._look)

    def _look(self) -> None:
        untaken = _untaken(self._transport) if self._holds_back() or self._transport.is_closing() else 0
        if untaken and untaken == self._untaken:
            self._transport.abort()
            return
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
