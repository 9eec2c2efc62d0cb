"""Whether a presented signature was made with a secret: one comparison, one refusal.

Does not look keys up and does not read the body: the caller brings the secret and the body's SHA-256.
"""

import hashlib
import hmac
from contextlib import suppress
from typing import NoReturn

from identity_gateway.errors import InvalidSignature
from identity_gateway.model import Secret
from identity_gateway.protocol.request import SignedRequest
from identity_gateway.protocol.sigv4.canonical import canonical_request, signature
from identity_gateway.protocol.sigv4.presented import PresentedSignature

DUMMY_SECRET = Secret("no access key has this secret")
"""Worked with when the access key is unknown. It authenticates nobody: `verify_unknown` refuses in any case."""


def verify(presented: PresentedSignature, secret: Secret, body_sha256: str) -> SignedRequest:
    """Return what the signature proves, or raise InvalidSignature.

    `body_sha256` is the lower-case hexadecimal SHA-256 of all bytes of the body, computed by the caller. `secret` is
    that of `presented.access_key_id`: the id itself is not signed, so two keys must never have the same secret. Does
    not check that the key is active, that it belongs to `presented.security_token`, or that it may do anything.
    """
    request = presented.request
    canonical = canonical_request(request, presented.signed_headers, body_sha256)
    expected = signature(presented.scope, presented.timestamp, canonical, secret)
    signed = hmac.compare_digest(expected.encode(), presented.signature.encode())
    declared = body_sha256 if presented.content_sha256 is None else presented.content_sha256
    if not hmac.compare_digest(declared.encode(), body_sha256.encode()):
        raise invalid_signature("the body is not the one that X-Amz-Content-Sha256 declares")
    if not signed:
        digest = hashlib.sha256(canonical).hexdigest()
        raise invalid_signature(f"the signature does not match; the canonical request here has SHA-256 {digest}")
    names = frozenset(presented.signed_headers)
    return SignedRequest(
        access_key_id=presented.access_key_id,
        method=request.method,
        raw_path=request.raw_path,
        raw_query=request.raw_query,
        signed_headers=tuple((name, value.strip(b" \t")) for name, value in request.headers if name in names),
    )


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
