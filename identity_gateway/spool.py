"""A request body at rest: hashed while it arrives, in memory while small, in an unlinked file beyond.

AWS Signature Version 4 covers the whole body, so it must be here before anything may be decided. This module bounds
memory and size; it decides nothing.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import IO
from weakref import WeakSet

from identity_gateway.errors import Throttled, ValidationFailed

MEMORY_LIMIT = 1 << 20
_BLOCK = 1 << 18


class SpooledBody:
    """A body that was received whole. Iterate once or more; close when done."""

    def __init__(self, memory: bytes, file: IO[bytes] | None, length: int, digest: str) -> None:
        self._memory = memory
        self._file = file
        self.length = length
        self.sha256 = digest

    @property
    def in_memory(self) -> bytes | None:
        """The whole body, if it is small enough to be in memory."""
        return self._memory if self._file is None else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._file is None:
            yield self._memory
            return
        await asyncio.to_thread(self._file.seek, 0)
        while block := await asyncio.to_thread(self._file.read, _BLOCK):
            yield block

    def close(self) -> None:
        """Give the file back; it was unlinked when it was made, so nothing stays on disk."""
        if self._file is not None:
            self._file.close()


class Spool:
    """Receives bodies; at most `limit` of them lie on disk at once, so that strangers cannot fill it."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._on_disk: WeakSet[IO[bytes]] = WeakSet()

    async def receive(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> SpooledBody:
        """Read the whole body. Raises ValidationFailed above `max_bytes`, Throttled when too many are on disk."""
        digest = sha256()
        memory = bytearray()
        file: IO[bytes] | None = None
        length = 0
        try:
            async for chunk in chunks:
                length += len(chunk)
                if length > max_bytes:
                    raise _too_large(max_bytes)
                digest.update(chunk)
                memory += chunk
                if len(memory) > (MEMORY_LIMIT if file is None else _BLOCK):
                    file = file or self._open()
                    await asyncio.to_thread(file.write, memory)
                    memory = bytearray()
            if file is not None:
                await asyncio.to_thread(file.write, memory)
                memory = bytearray()
        except BaseException:
            if file is not None:
                file.close()
            raise
        return SpooledBody(bytes(memory), file, length, digest.hexdigest())

    @staticmethod
    async def digest(chunks: AsyncIterator[bytes], *, max_bytes: int) -> str:
        """Read the whole body, keep none of it, and return its SHA-256. Raises ValidationFailed above `max_bytes`."""
        digest, length = sha256(), 0
        async for chunk in chunks:
            length += len(chunk)
            if length > max_bytes:
                raise _too_large(max_bytes)
            digest.update(chunk)
        return digest.hexdigest()

    def _open(self) -> IO[bytes]:
        if sum(not file.closed for file in self._on_disk) >= self._limit:
            raise Throttled("Too many large request bodies at once. Try again.")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by SpooledBody
        self._on_disk.add(file)
        return file


def _too_large(max_bytes: int) -> ValidationFailed:
    return ValidationFailed(f"The request body is larger than {max_bytes} bytes.", kind="CannotParse")
