"""Whether a presented signature was made with a secret: one comparison, one refusal.

Does not look keys up and does not read the body: the caller brings the secret and the body's SHA-256.
"""

import hashlib
import hmac
import re
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

from identity_gateway.errors import InvalidSignature
from identity_gateway.model import Secret
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.protocol.sigv4.canonical import canonical_request, signature
from identity_gateway.protocol.sigv4.elements import PresentedSignature

_PORT = re.compile(rb"(?:(?P<name>[^\[\]:]+)|\[(?P<address>[0-9A-Fa-f:.]+)\]):[0-9]{1,5}")

DUMMY_SECRET = Secret("no access key has this secret")
"""Worked with when the access key is unknown. It authenticates nobody: `verify_unknown` refuses in any case."""


def verify(presented: PresentedSignature, secret: Secret, body_sha256: str) -> SignedRequest:
    """Return what the signature proves, or raise InvalidSignature.

    `body_sha256` is the lower-case hexadecimal SHA-256 of all bytes of the body, computed by the caller. `secret` is
    that of `presented.access_key_id`: the id itself is not signed, so two keys must never have the same secret. Does
    not check that the key is active, that it belongs to `presented.security_token`, or that it may do anything.
    """
    readings = [
        (request, canonical_request(request, presented.signed_headers, body_sha256))
        for request in _as_signed(presented)
    ]
    # Every reading is calculated and compared, also after one has matched.
    matches = [
        hmac.compare_digest(
            signature(presented.scope, presented.timestamp, canonical, secret).encode(), presented.signature.encode()
        )
        for _, canonical in readings
    ]
    declared = body_sha256 if presented.content_sha256 is None else presented.content_sha256
    if not hmac.compare_digest(declared.encode(), body_sha256.encode()):
        raise invalid_signature("the body is not the one that X-Amz-Content-Sha256 declares")
    if not any(matches):
        digest = hashlib.sha256(readings[0][1]).hexdigest()
        raise invalid_signature(f"the signature does not match; the canonical request here has SHA-256 {digest}")
    request = readings[matches.index(True)][0]
    names = frozenset(presented.signed_headers)
    return SignedRequest(
        access_key_id=presented.access_key_id,
        method=request.method,
        raw_path=request.raw_path,
        raw_query=request.raw_query,
        signed_headers=tuple((name, value.strip(b" \t")) for name, value in request.headers if name in names),
    )


def _as_signed(presented: PresentedSignature) -> tuple[Request, ...]:
    """Return the request as its signer may have seen it: without the signature in its query, if it stands there.

    Clients presign a URL for the bare host name and then call its port, which says less than the Host header they
    send, and nothing else: both readings are tried. In a header the signer has seen the Host that it sends.
    """
    if not presented.in_query:
        return (presented.request,)
    elements = presented.request.raw_query.split(b"&")
    unsigned = b"&".join(element for element in elements if element.partition(b"=")[0] != b"X-Amz-Signature")
    request = replace(presented.request, raw_query=unsigned)
    host = _PORT.fullmatch((request.header(b"host") or b"").strip(b" \t"))
    if host is None:
        return (request,)
    bare = (host["name"] or host["address"]).lower()
    return request, replace(request, headers=tuple((k, bare if k == b"host" else v) for k, v in request.headers))


def verify_unknown(presented: PresentedSignature, body_sha256: str) -> NoReturn:
    """Refuse a request whose access key does not exist: the work, the class and the message of a wrong signature."""
    with suppress(InvalidSignature):
        verify(presented, DUMMY_SECRET, body_sha256)
    raise invalid_signature("the access key is unknown")


def invalid_signature(reason: str) -> InvalidSignature:
    """Return the one error for an unknown key, a wrong secret and a changed request. `reason` is for the log."""
    return InvalidSignature(
        "The access key is unknown or the signature does not match. Check the access key and its secret, and that "
        "nothing on the way changes the method, path, query, signed headers or body of the request.",
        reason=reason,
    )
