"""When what was read of the database may be used again: until somebody, in any process, changed it.

Every process that shares a database on this machine maps one small file. Whoever commits a change marks the places of
the records in it before anybody hears of the commit; whoever keeps a record compares the marks, which costs less than
asking the database by a factor of hundreds. What was changed on another machine is noticed when `longest` is over. The
file holds nothing of the records. This module does not read or write the database.
"""

import mmap
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

_PLACES = 8192
_BYTES = 8 * _PLACES

SHARED_LONGEST, OWN_LONGEST = 1.0, 10.0
"""Seconds that a record is used without asking again: where other machines may change it, and where none can."""

Changed = tuple[str, ...]
"""What was changed: a table, and the column and value by which one record of it is known; the table alone for any."""


class Changes:
    """The marks of one database. `longest` is in seconds: no record is used for longer without asking again.

    Places are shared by the hash of what they stand for: records may seem changed that are not, never the other way.
    """

    def __init__(self, path: Path | None, *, longest: float) -> None:
        """Map the file, which is made where there is none. Without a path the marks are this process's own."""
        self.longest = longest
        if path is None:
            self._map = mmap.mmap(-1, _BYTES)
        else:
            self._map = _shared(path)
        self._marks = memoryview(self._map).cast("Q")  # aligned: a mark is read and written as one

    def watch(self, *names: Changed) -> "Watch":
        """Return what holds until one of these is changed. Take it before the database is asked."""
        places = tuple(_place(name) for name in names)
        return Watch(self._marks, places, time.monotonic() + self.longest)

    def note(self, changed: Iterable[Changed]) -> None:
        """Mark what was changed. To be called between the commit and its acknowledgement."""
        for name in changed:
            self._marks[_place(name)] = secrets.randbits(64)

    def close(self) -> None:
        """Give the file back."""
        self._marks.release()
        self._map.close()


class Watch:
    """Holds as long as nothing was changed that it was taken for, and no longer than the file is believed."""

    __slots__ = ("_marks", "_places", "_seen", "_until")

    def __init__(self, marks: memoryview, places: tuple[int, ...], until: float) -> None:
        self._marks = marks
        self._places = places
        self._seen = [marks[place] for place in places]
        self._until = until

    def holds(self) -> bool:
        """Say whether what was read since may still be used."""
        marks = self._marks
        return time.monotonic() < self._until and [marks[place] for place in self._places] == self._seen


def _place(name: Changed) -> int:
    return crc32("\0".join(name).encode(errors="surrogatepass")) % _PLACES


def _shared(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < _BYTES:
            os.ftruncate(descriptor, _BYTES)
        return mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)
