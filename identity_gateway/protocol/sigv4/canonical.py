"""The calculation of AWS Signature Version 4, step by step, in the specification's names.

Does not judge a request: it transcribes the specification, and also normalises what `parse` refuses.
"""

import hashlib
import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_from_bytes

from identity_gateway.model import Secret
from identity_gateway.protocol.request import Request, query_pairs

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"

_BLANKS = re.compile(rb"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature must be made for: the configured region and signing name, never those of a request."""

    region: str
    service: str

    def on(self, date: str) -> str:
        """Return the credential scope of a day (`YYYYMMDD`): date, region, service and terminator."""
        return f"{date}/{self.region}/{self.service}/{TERMINATOR}"


def canonical_request(request: Request, signed_headers: Collection[bytes], payload_hash: str) -> bytes:
    """Return the canonical request. `signed_headers` are lower-case names in signed order.

    A signed header that the request does not have becomes an empty value: `parse` has refused it before.
    """
    values: dict[bytes, list[bytes]] = {name: [] for name in signed_headers}
    for name, value in request.headers:
        if name in values:
            values[name].append(canonical_value(value))
    lines = [
        request.method.encode(),
        canonical_uri(request.raw_path),
        canonical_query_string(request.raw_query),
        *(name + b":" + b",".join(found) for name, found in values.items()),
        b"",
        b";".join(signed_headers),
        payload_hash.encode(),
    ]
    return b"\n".join(lines)


def canonical_value(value: bytes) -> bytes:
    """Return a header value as it is signed: no blanks around it, and one space for a run of blanks or a line fold."""
    return _BLANKS.sub(b" ", value).strip(b" ")


def canonical_uri(raw_path: bytes) -> bytes:
    """Return the path of the wire without dot and empty segments, and every byte but unreserved ones and `/` encoded.

    Nothing is decoded first, so `%3A` becomes `%253A`. A trailing dot segment leaves no slash behind, as in botocore.
    """
    kept: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(segment)
    trailing = b"/" if kept and raw_path.endswith(b"/") else b""
    return quote_from_bytes(b"/" + b"/".join(kept) + trailing, safe="/-_.~").encode()


def canonical_query_string(raw_query: bytes) -> bytes:
    """Return the parameters decoded once, encoded again, and sorted by encoded name, then by encoded value."""
    pairs = [
        (quote_from_bytes(name, safe="-_.~"), quote_from_bytes(value, safe="-_.~"))
        for name, value in query_pairs(raw_query)
    ]
    # Pairs are compared, never joined text: "-" sorts before "=", and `Param` stands before `Param-3`.
    return "&".join(f"{name}={value}" for name, value in sorted(pairs)).encode()


def string_to_sign(timestamp: str, credential_scope: str, canonical: bytes) -> bytes:
    """Return the string to sign of a canonical request. `timestamp` is `YYYYMMDDTHHMMSSZ`."""
    digest = hashlib.sha256(canonical).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{credential_scope}\n{digest}".encode()


def signing_key(secret: Secret, date: str, region: str, service: str) -> bytes:
    """Return the key derived for a day (`YYYYMMDD`), region and service: as secret as the secret for that day.

    The last ones are kept, by the secret itself.
    """
    return _signing_key(secret.reveal(), date, region, service)


@lru_cache(maxsize=1024)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for step in (date, region, service, TERMINATOR):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def signature(scope: Scope, timestamp: str, canonical: bytes, secret: Secret) -> str:
    """Return the lower-case hexadecimal signature of a canonical request. `timestamp` is `YYYYMMDDTHHMMSSZ`."""
    date = timestamp[:8]
    key = signing_key(secret, date, scope.region, scope.service)
    return hmac.digest(key, string_to_sign(timestamp, scope.on(date), canonical), "sha256").hex()
