"""When what was read of the database may be used again: until somebody, in any process, changed it.

Every process that shares a database on this machine maps one small file. Whoever commits a change marks the places of
the records in it before anybody hears of the commit; whoever keeps a record compares the marks, which costs less than
asking the database by a factor of hundreds. What was changed on another machine is noticed when `longest` is over. The
file holds nothing of the records. This module does not read or write the database.

One more mark, the common one, changes with every change: while it stands, no other need be looked at. Who changes
something writes the places first and the common mark after them; who looks reads the common mark first and the places
after it. Say somebody was told of a change: its common mark stands by then, or a later one. A watch that has seen an
earlier one finds that it differs, and compares its places. A watch that has seen this one or a later one read its
places after that, thus after they were changed, and found it out then. No two marks are alike (64 random bits): one
that is still the same was not written meanwhile. The steps are kept in order also for processors that would not.
"""

import mmap
import os
import secrets
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

_PLACES = 8192
_COMMON = _PLACES
_BYTES = 8 * (_PLACES + 1)

_SPREAD = 0.618034
"""Of the golden section: its multiples are spread evenly over a whole, however many there are."""

SHARED_LONGEST, OWN_LONGEST = 1.0, 60.0
"""Seconds after which an unmarked change is noticed: where other machines may make one, and where none can."""

Changed = tuple[str, ...]
"""What was changed: a table, and the column and value by which one record of it is known; the table alone for any."""


class Changes:
    """The marks of one database. `longest` is in seconds: nothing rests on what was read longer ago.

    A watch ends after half of that: a decision may be taken by records that are so old, and be used again for as long.
    Some age after half of their time: what was read in one moment shall not be asked for again in one.
    Places are shared by the hash of what they stand for: records may seem changed that are not, never the other way.
    """

    def __init__(self, path: Path | None, *, longest: float) -> None:
        """Map the file, which is made where there is none. Without a path the marks are this process's own."""
        self.longest = longest
        self._turn = 0.0
        if path is None:
            self._map = mmap.mmap(-1, _BYTES)
        else:
            self._map = _shared(path)
        self._marks = memoryview(self._map).cast("Q")  # aligned: a mark is read and written as one

    def watch(self, *names: Changed) -> "Watch":
        """Return what holds until one of these is changed. Take it before the database is asked."""
        places = tuple(_place(name) for name in names)
        self._turn = (self._turn + _SPREAD) % 1
        now, half = time.monotonic(), self.longest / 2
        return Watch(self._marks, places, now + half * (1 - self._turn / 2), now + half)

    def note(self, changed: Iterable[Changed]) -> None:
        """Mark what was changed. To be called between the commit and its acknowledgement."""
        places = [_place(name) for name in changed]
        for place in places:
            self._marks[place] = secrets.randbits(64)
        if places:
            _in_order()
            self._marks[_COMMON] = secrets.randbits(64)

    def close(self) -> None:
        """Give the file back."""
        self._marks.release()
        self._map.close()


class Watch:
    """Holds as long as nothing was changed that it was taken for, and no longer than the file is believed.

    `aged_at`, by the clock of `time.monotonic`, is when it is time to ask again: it still holds then.
    """

    __slots__ = ("_common", "_marks", "_places", "_seen", "_until", "aged_at")

    def __init__(self, marks: memoryview, places: tuple[int, ...], aged_at: float, until: float) -> None:
        self._marks = marks
        self._places = places
        self._common = marks[_COMMON]
        _in_order()
        self._seen = [marks[place] for place in places]
        self.aged_at = aged_at
        self._until = until

    def is_fresh(self, now: float) -> bool:
        """Say whether this holds, and need not be asked for again."""
        return now < self.aged_at and self.holds(now)

    def holds(self, now: float | None = None) -> bool:
        """Say whether what was read since may still be used. `now` is what `time.monotonic` says, if that is known.

        The time of an event loop will do: it is of the same clock, as of the beginning of the loop's round.
        """
        if (time.monotonic() if now is None else now) >= self._until:
            return False
        common = self._marks[_COMMON]
        return common == self._common or self._unchanged(common)

    def _unchanged(self, common: int) -> bool:
        """Look at the places themselves, because something was changed somewhere."""
        marks = self._marks
        _in_order()
        if [marks[place] for place in self._places] != self._seen:
            return False
        self._common = common
        return True


_fence = threading.Lock()


def _in_order() -> None:
    """Let nothing that stands before this in the program happen after what stands behind it.

    A lock that is given back and taken again is a barrier in both directions, on processors that need one.
    """
    with _fence:
        pass
    with _fence:
        pass


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
