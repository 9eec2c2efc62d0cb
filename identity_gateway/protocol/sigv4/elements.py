"""The elements of a signature, each read strictly, wherever they stand: in the Authorization header or in the query.

Does not know which elements a request must have, and does not verify anything.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from identity_gateway.errors import IncompleteSignature, InvalidSignature
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4.canonical import ALGORITHM, TERMINATOR, Scope
from identity_gateway.protocol.sigv4.wellformed import NAMES_A_USER, is_header_name

VERSION_2 = frozenset({b"awsaccesskeyid", b"signature", b"signaturemethod", b"signatureversion"})
"""Parameters of the query, in lower case, that carry credentials of Signature Version 2."""

_OTHER_VERSIONS = {
    "AWS4-ECDSA-P256-SHA256": "Signature Version 4A (AWS4-ECDSA-P256-SHA256) is not supported.",
    "AWS": "Signature Version 2 is not supported.",
}
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_-]{3,128}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BASIC_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class PresentedSignature:
    """A well-formed, timely signature for our scope. It proves nothing before `verify`.

    `timestamp` is `YYYYMMDDTHHMMSSZ`. `signed_headers` are lower-case names in signed order. `content_sha256` is the
    hash of the body that the request declares, if it does. `security_token` comes with temporary credentials alone:
    the caller must refuse it with a long-term key, and refuse a temporary key without it. `in_query` tells a presigned
    URL, whose body is empty, from a signature in the Authorization header.
    """

    request: Request
    scope: Scope
    access_key_id: str
    timestamp: str
    signed_headers: tuple[bytes, ...]
    content_sha256: str | None
    signature: str = field(repr=False)
    security_token: str | None = field(repr=False)
    in_query: bool = False


def require_algorithm(value: str, where: str) -> None:
    """Raise IncompleteSignature unless `value` is the one algorithm that is served. `where` says what held it."""
    if value != ALGORITHM:
        why = _OTHER_VERSIONS.get(value, f"The {where} is not supported.")
        raise IncompleteSignature(f"{why} Sign with {ALGORITHM}.")


def signed_headers_of(value: str) -> tuple[bytes, ...]:
    """Return the names in SignedHeaders. Raises IncompleteSignature unless they are lower-case, sorted and unique."""
    names = tuple(value.encode("ascii").split(b";"))
    if not all(is_header_name(name) for name in names) or list(names) != sorted(set(names)):
        raise IncompleteSignature("SignedHeaders must be lower-case header names, sorted, unique, separated by ';'.")
    return names


def access_key_id_of(credential: str, scope: Scope, day: str) -> str:
    """Return the access key id of a Credential for our scope on this day (`YYYYMMDD`). Does not look it up.

    Raises IncompleteSignature when it is malformed, InvalidSignature when it is for another scope.
    """
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


def hexadecimal(name: str, value: str) -> str:
    """Return a SHA-256 or signature as it is, or raise IncompleteSignature: only checked digits are ever compared."""
    if not _SHA256.fullmatch(value):
        raise IncompleteSignature(f"{name} must be 64 lower-case hexadecimal digits.")
    return value


def basic_date(value: str) -> str:
    """Return a date of the form `YYYYMMDDTHHMMSSZ` as it is. Does not check that it is in the calendar."""
    if not _BASIC_DATE.fullmatch(value):
        raise IncompleteSignature("X-Amz-Date must have the form YYYYMMDDTHHMMSSZ.")
    return value


def moment(timestamp: str) -> datetime:
    """Return the time of a `YYYYMMDDTHHMMSSZ`. Raises IncompleteSignature when there is no such day or hour."""
    year, month, day = int(timestamp[:4]), int(timestamp[4:6]), int(timestamp[6:8])
    hour, minute, second = int(timestamp[9:11]), int(timestamp[11:13]), int(timestamp[13:15])
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise IncompleteSignature("The date of the request is not in the calendar.") from None


def basic(at: datetime) -> str:
    """Return a time as `YYYYMMDDTHHMMSSZ`."""
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def require_coverage(request: Request, signed_headers: Collection[bytes], demanded: Collection[bytes]) -> None:
    """Raise IncompleteSignature unless every signed header is there, and every one that matters is signed.

    Demanded are those that the caller names, all `x-amz-*`, and those that name a user: anyone on the way could add
    them unsigned, and something behind would believe them.
    """
    present = {name for name, _ in request.headers}
    absent = set(signed_headers) - present
    if absent:
        raise IncompleteSignature(f"SignedHeaders names headers that the request does not have: {_listed(absent)}.")
    sensitive = {name for name in present if name.startswith(b"x-amz-") or name in NAMES_A_USER}
    uncovered = (sensitive | set(demanded)).difference(signed_headers)
    if uncovered:
        raise IncompleteSignature(f"Headers that must be signed are not in SignedHeaders: {_listed(uncovered)}.")


def content_sha256_of(request: Request) -> str | None:
    """Return the hash of the body that the X-Amz-Content-Sha256 header declares, or None without one."""
    value = text(request, b"x-amz-content-sha256")
    if value is None:
        return None
    if value == "UNSIGNED-PAYLOAD" or value.startswith("STREAMING-"):
        raise IncompleteSignature("Unsigned and chunk-signed payloads are not supported: sign the whole body's hash.")
    return hexadecimal("X-Amz-Content-Sha256", value)


def text(request: Request, name: bytes) -> str | None:
    """Return a header without the blanks around it, or None. Raises IncompleteSignature for other than ASCII."""
    value = request.header(name)
    if value is None:
        return None
    if not value.isascii():
        raise IncompleteSignature(f"The {name.decode()} header holds characters other than ASCII.")
    return value.decode("ascii").strip(" \t")


def _listed(names: Collection[bytes]) -> str:
    return ", ".join(sorted(name.decode() for name in names))
