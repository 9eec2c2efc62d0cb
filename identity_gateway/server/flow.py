"""Whether a connection takes what is written to it, and whether it is read: uvicorn's flow control, at less memory.

This module does not know what is written.
"""

import asyncio


class Flow:
    """The flow of one connection. Whoever writes much asks `drain`; most connections never wait, and hold no event."""

    __slots__ = ("_event", "_transport", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._event: asyncio.Event | None = None
        self.read_paused = False
        self.write_paused = False

    async def drain(self) -> None:
        """Return when more may be written."""
        while self.write_paused:
            if self._event is None:
                self._event = asyncio.Event()
            await self._event.wait()

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Note that the other side takes too little."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Note that the other side takes what is written; wake who waits for it."""
        self.write_paused = False
        event, self._event = self._event, None
        if event is not None:
            event.set()
