"""What a request presents in its Authorization header, read strictly: everything is checked but the signature itself.

Does not read the body, does not know any key, and does not accept signatures in the query string: `presented_url` does.
"""

import re
from datetime import datetime, timedelta

from identity_gateway.errors import IncompleteSignature, InvalidSignature, MissingAuthentication
from identity_gateway.protocol.request import Request, query_pairs
from identity_gateway.protocol.sigv4.canonical import Scope
from identity_gateway.protocol.sigv4.elements import (
    VERSION_2,
    PresentedSignature,
    access_key_id_of,
    basic,
    basic_date,
    content_sha256_of,
    hexadecimal,
    moment,
    require_algorithm,
    require_coverage,
    signed_headers_of,
    text,
)
from identity_gateway.protocol.sigv4.wellformed import require_headers, require_request_line

MAX_AUTHORIZATION = 4096
"""Longest Authorization header that is read, in bytes."""

_PARAMETERS = ("Credential", "SignedHeaders", "Signature")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE = re.compile(
    rf"({'|'.join(_DAYS)}), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) (?:GMT|[+-]0000)",
    re.ASCII,
)


def parse(
    request: Request, *, scope: Scope, now: datetime, max_skew: timedelta = timedelta(minutes=5)
) -> PresentedSignature:
    """Read the signature of a request head; `now` must know its time zone.

    Raises ValidationFailed for a request line or header that no signer sends, MissingAuthentication without an
    Authorization header, IncompleteSignature for a malformed or partial signature, InvalidSignature for another scope
    or time. Does not check that the access key exists, nor anything about the body.
    """
    require_request_line(request)
    require_headers(request)
    parameters = _parameters(_authorization(request))
    signed_headers = signed_headers_of(parameters["SignedHeaders"])
    require_coverage(request, signed_headers, {b"host", _date_header(request)})
    timestamp = _timestamp(request)
    _require_timely(timestamp, now, max_skew)
    return PresentedSignature(
        request=request,
        scope=scope,
        access_key_id=access_key_id_of(parameters["Credential"], scope, timestamp[:8]),
        timestamp=timestamp,
        signed_headers=signed_headers,
        content_sha256=content_sha256_of(request),
        signature=hexadecimal("Signature", parameters["Signature"]),
        security_token=_security_token(request),
    )


# --- The Authorization header ----------------------------------------------------------------------------------------


def _authorization(request: Request) -> str:
    count = request.count(b"authorization")
    names = [name.lower() for name, _ in query_pairs(request.raw_query)]
    if any(name.startswith(b"x-amz-") or name in VERSION_2 for name in names):
        where = "in the Authorization header and in the query string" if count else "in the query string"
        raise IncompleteSignature(f"Credentials are accepted in the Authorization header only; these stand {where}.")
    if count > 1:
        raise IncompleteSignature("The Authorization header must not be repeated.")
    value = text(request, b"authorization")
    if not value:
        raise MissingAuthentication
    if len(value) > MAX_AUTHORIZATION:
        raise IncompleteSignature(f"The Authorization header is longer than {MAX_AUTHORIZATION} bytes.")
    return value


def _parameters(authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    require_algorithm(algorithm, "scheme of the Authorization header")
    found: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.lstrip(" \t").partition("=")
        if not equals or name not in _PARAMETERS:
            raise IncompleteSignature(
                f"The Authorization header may hold {', '.join(_PARAMETERS)} and nothing else, separated by commas.",
                reason=f"unknown part in the Authorization header: {name[:16]!r}",
            )
        if name in found:
            raise IncompleteSignature(f"The Authorization header holds {name} more than once.")
        found[name] = value
    missing = [name for name in _PARAMETERS if name not in found]
    if missing:
        raise IncompleteSignature(f"The Authorization header lacks {' and '.join(missing)}.")
    return found


def _security_token(request: Request) -> str | None:
    value = text(request, b"x-amz-security-token")
    if value is not None and not value:
        raise IncompleteSignature("The X-Amz-Security-Token header is empty.")
    return value


# --- Time ------------------------------------------------------------------------------------------------------------


def _date_header(request: Request) -> bytes:
    name = b"x-amz-date" if request.count(b"x-amz-date") else b"date"
    if not request.count(name):
        raise IncompleteSignature("The request has neither an X-Amz-Date nor a Date header.")
    return name


def _timestamp(request: Request) -> str:
    value = text(request, b"x-amz-date")
    if value is None:
        return _from_http_date(text(request, b"date") or "")
    return basic_date(value)


def _from_http_date(value: str) -> str:
    """Read a date of RFC 9110 §5.6.7, or one with the numeric zone that botocore writes (RFC 5322)."""
    match = _HTTP_DATE.fullmatch(value)
    if match:
        weekday, day, month, year, *clock = match.groups()
        timestamp = f"{year}{_MONTHS.index(month) + 1:02}{day}T{''.join(clock)}Z"
        if _DAYS[moment(timestamp).weekday()] == weekday:
            return timestamp
    raise IncompleteSignature("Date must have the form 'Sun, 30 Aug 2015 12:36:00 GMT'; better send X-Amz-Date.")


def _require_timely(timestamp: str, now: datetime, max_skew: timedelta) -> None:
    age = now - moment(timestamp)
    if abs(age) <= max_skew:
        return
    complaint = "Signature expired" if age > max_skew else "Signature not yet current"
    minutes = max_skew.total_seconds() / 60
    raise InvalidSignature(
        f"{complaint}: signed at {timestamp}, it is {basic(now)} here, and {minutes:g} min. may differ."
    )
