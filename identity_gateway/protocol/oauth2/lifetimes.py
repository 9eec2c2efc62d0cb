"""How long a credential lives and when to ask again, from whatever the vendor wrote: never raises, never immortal."""

import math
import re
from datetime import UTC, datetime
from typing import Any

from identity_gateway.protocol.descriptor import ExpiresUnit
from identity_gateway.protocol.oauth2.documents import http_date

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,9})?", re.ASCII)
_LONGEST = 10 * 366 * 86400.0
_LONGEST_WAIT = 86400.0
_EPOCHS_BEGIN = 1e9


def lifetime(value: Any, unit: ExpiresUnit, *, now: float) -> float | None:
    """Return the seconds from `now` that a lifetime or a point in time means, or None when it means nothing.

    Never below 0 and never above ten years: 0 and the past are expired, not endless.
    """
    if unit == "iso8601":
        until = _iso(value)
        seconds = None if until is None else until - now
    else:
        seconds = _number(value)
        if seconds is not None and unit.endswith("milliseconds"):
            seconds /= 1000
        if seconds is not None and unit.startswith("epoch"):
            seconds -= now
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST)


def retry_after(text: str | None, date: str | None, *, now: float) -> float | None:
    """Return the seconds to wait that a header says: seconds, an HTTP date (RFC 9110 §10.2.3), or an epoch.

    A date counts from the answer's own `Date` where it has one, so that clocks need not agree. A day at most.
    """
    if text is None:
        return None
    seconds = _number(text.strip())
    here = http_date(date)
    here = now if here is None else here
    if seconds is None:
        until = http_date(text)
        seconds = None if until is None else until - here
    elif seconds > _EPOCHS_BEGIN:
        seconds -= here
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_WAIT)


def _number(value: Any) -> float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _iso(value: Any) -> float | None:
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
