"""What a request presents in its Authorization header, read strictly: everything is checked but the signature itself.

Does not read the body, does not know any key, and does not accept signatures in the query string.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from identity_gateway.errors import IncompleteSignature, InvalidSignature, MissingAuthentication
from identity_gateway.protocol.request import Request, query_pairs
from identity_gateway.protocol.sigv4.canonical import ALGORITHM, TERMINATOR, Scope
from identity_gateway.protocol.sigv4.wellformed import (
    NAMES_A_USER,
    is_header_name,
    require_headers,
    require_request_line,
)

MAX_AUTHORIZATION = 4096
"""Longest Authorization header that is read, in bytes."""

_PARAMETERS = ("Credential", "SignedHeaders", "Signature")
_QUERY_CREDENTIALS = frozenset({b"awsaccesskeyid", b"signature", b"signaturemethod", b"signatureversion"})
_OTHER_VERSIONS = {
    "AWS4-ECDSA-P256-SHA256": "Signature Version 4A (AWS4-ECDSA-P256-SHA256) is not supported.",
    "AWS": "Signature Version 2 is not supported.",
}

_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_-]{3,128}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BASIC_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE = re.compile(
    rf"({'|'.join(_DAYS)}), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) (?:GMT|[+-]0000)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class PresentedSignature:
    """A well-formed, timely signature for our scope. It proves nothing before `verify`.

    `timestamp` is `YYYYMMDDTHHMMSSZ`. `signed_headers` are lower-case names in signed order. `content_sha256` is the
    hash of the body that the request declares, if it does. `security_token` comes with temporary credentials alone:
    the caller must refuse it with a long-term key, and refuse a temporary key without it.
    """

    request: Request
    scope: Scope
    access_key_id: str
    timestamp: str
    signed_headers: tuple[bytes, ...]
    content_sha256: str | None
    signature: str = field(repr=False)
    security_token: str | None = field(repr=False)


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
    signed_headers = _signed_headers(parameters["SignedHeaders"])
    _require_coverage(request, signed_headers)
    timestamp = _timestamp(request)
    _require_timely(timestamp, now, max_skew)
    return PresentedSignature(
        request=request,
        scope=scope,
        access_key_id=_access_key_id(parameters["Credential"], scope, timestamp[:8]),
        timestamp=timestamp,
        signed_headers=signed_headers,
        content_sha256=_content_sha256(request),
        signature=_hexadecimal("Signature", parameters["Signature"]),
        security_token=_security_token(request),
    )


# --- The Authorization header ----------------------------------------------------------------------------------------


def _authorization(request: Request) -> str:
    count = request.count(b"authorization")
    names = [name.lower() for name, _ in query_pairs(request.raw_query)]
    if any(name.startswith(b"x-amz-") or name in _QUERY_CREDENTIALS for name in names):
        where = "in the Authorization header and in the query string" if count else "in the query string"
        raise IncompleteSignature(f"Credentials are accepted in the Authorization header only; these stand {where}.")
    if count > 1:
        raise IncompleteSignature("The Authorization header must not be repeated.")
    value = _text(request, b"authorization")
    if not value:
        raise MissingAuthentication
    if len(value) > MAX_AUTHORIZATION:
        raise IncompleteSignature(f"The Authorization header is longer than {MAX_AUTHORIZATION} bytes.")
    return value


def _parameters(authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        why = _OTHER_VERSIONS.get(algorithm, "The scheme of the Authorization header is not supported.")
        raise IncompleteSignature(f"{why} Sign with {ALGORITHM}.")
    found: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.lstrip(" \t").partition("=")
        if not equals or name not in _PARAMETERS:
            raise IncompleteSignature(
                f"The Authorization header may hold {', '.join(_PARAMETERS)} and nothing else, separated by commas.",
                reason=f"unknown part in the Authorization header: {name[:64]!r}",
            )
        if name in found:
            raise IncompleteSignature(f"The Authorization header holds {name} more than once.")
        found[name] = value
    missing = [name for name in _PARAMETERS if name not in found]
    if missing:
        raise IncompleteSignature(f"The Authorization header lacks {' and '.join(missing)}.")
    return found


def _signed_headers(value: str) -> tuple[bytes, ...]:
    names = tuple(value.encode("ascii").split(b";"))
    if not all(is_header_name(name) for name in names) or list(names) != sorted(set(names)):
        raise IncompleteSignature("SignedHeaders must be lower-case header names, sorted, unique, separated by ';'.")
    return names


def _access_key_id(credential: str, scope: Scope, day: str) -> str:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5:
        raise IncompleteSignature("Credential must be an access key id, date, region, service and aws4_request.")
    access_key_id, date, region, service, terminator = parts
    if not _ACCESS_KEY_ID.fullmatch(access_key_id):
        raise IncompleteSignature("The access key id in Credential is not well-formed.")
    wrong = []
    if region != scope.region:
        wrong.append(f"Credential should be scoped to the region '{scope.region}'.")
    if service != scope.service:
        wrong.append(f"Credential should be scoped to the service '{scope.service}'.")
    if terminator != TERMINATOR:
        wrong.append(f"Credential should end in '{TERMINATOR}'.")
    if date != day:
        wrong.append(f"The date in Credential should be that of the request, '{day}'.")
    if wrong:
        raise InvalidSignature(" ".join(wrong), reason=f"signed for another scope: {credential[-256:]!r}")
    return access_key_id


def _hexadecimal(name: str, value: str) -> str:
    if not _SHA256.fullmatch(value):
        raise IncompleteSignature(f"{name} must be 64 lower-case hexadecimal digits.")
    return value


# --- What the signature must cover -----------------------------------------------------------------------------------


def _require_coverage(request: Request, signed_headers: Collection[bytes]) -> None:
    present = {name for name, _ in request.headers}
    date = b"x-amz-date" if b"x-amz-date" in present else b"date"
    if date not in present:
        raise IncompleteSignature("The request has neither an X-Amz-Date nor a Date header.")
    absent = set(signed_headers) - present
    if absent:
        raise IncompleteSignature(f"SignedHeaders names headers that the request does not have: {_listed(absent)}.")
    # Anyone on the way could add these unsigned, and something behind would believe them.
    demanded = {name for name in present if name.startswith(b"x-amz-") or name in NAMES_A_USER} | {b"host", date}
    uncovered = demanded.difference(signed_headers)
    if uncovered:
        raise IncompleteSignature(f"Headers that must be signed are not in SignedHeaders: {_listed(uncovered)}.")


def _listed(names: Collection[bytes]) -> str:
    return ", ".join(sorted(name.decode() for name in names))


def _content_sha256(request: Request) -> str | None:
    value = _text(request, b"x-amz-content-sha256")
    if value is None:
        return None
    if value == "UNSIGNED-PAYLOAD" or value.startswith("STREAMING-"):
        raise IncompleteSignature("Unsigned and chunk-signed payloads are not supported: sign the whole body's hash.")
    return _hexadecimal("X-Amz-Content-Sha256", value)


def _security_token(request: Request) -> str | None:
    value = _text(request, b"x-amz-security-token")
    if value is not None and not value:
        raise IncompleteSignature("The X-Amz-Security-Token header is empty.")
    return value


def _text(request: Request, name: bytes) -> str | None:
    value = request.header(name)
    if value is None:
        return None
    if not value.isascii():
        raise IncompleteSignature(f"The {name.decode()} header holds characters other than ASCII.")
    return value.decode("ascii").strip(" \t")


# --- Time ------------------------------------------------------------------------------------------------------------


def _timestamp(request: Request) -> str:
    value = _text(request, b"x-amz-date")
    if value is None:
        return _from_http_date(_text(request, b"date") or "")
    if not _BASIC_DATE.fullmatch(value):
        raise IncompleteSignature("X-Amz-Date must have the form YYYYMMDDTHHMMSSZ.")
    return value


def _from_http_date(value: str) -> str:
    """Read a date of RFC 9110 §5.6.7, or one with the numeric zone that botocore writes (RFC 5322)."""
    match = _HTTP_DATE.fullmatch(value)
    if match:
        weekday, day, month, year, *clock = match.groups()
        timestamp = f"{year}{_MONTHS.index(month) + 1:02}{day}T{''.join(clock)}Z"
        if _DAYS[_moment(timestamp).weekday()] == weekday:
            return timestamp
    raise IncompleteSignature("Date must have the form 'Sun, 30 Aug 2015 12:36:00 GMT'; better send X-Amz-Date.")


def _moment(timestamp: str) -> datetime:
    year, month, day = int(timestamp[:4]), int(timestamp[4:6]), int(timestamp[6:8])
    hour, minute, second = int(timestamp[9:11]), int(timestamp[11:13]), int(timestamp[13:15])
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise IncompleteSignature("The date of the request is not in the calendar.") from None


def _require_timely(timestamp: str, now: datetime, max_skew: timedelta) -> None:
    age = now - _moment(timestamp)
    if abs(age) <= max_skew:
        return
    complaint = "Signature expired" if age > max_skew else "Signature not yet current"
    here = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    minutes = max_skew.total_seconds() / 60
    raise InvalidSignature(f"{complaint}: signed at {timestamp}, it is {here} here, and {minutes:g} min. may differ.")
