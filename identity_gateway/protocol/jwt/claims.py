"""A token that an issuer signed and a policy let in: all checks together, and what is left of the token then.

It decides about the token only: what the subject may do is `protocol.policy`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from identity_gateway.protocol.jwt import checks
from identity_gateway.protocol.jwt.keys import KeySet, verify_signature
from identity_gateway.protocol.jwt.policy import JwtPolicy
from identity_gateway.protocol.jwt.token import UnverifiedToken, VerifiedPayload, payload_object


@dataclass(frozen=True, slots=True, repr=False)
class SignedClaims:
    """Claims that an issuer signed and a policy let in. Made by `check_claims` alone.

    `expires_at` is seconds since the epoch, without the leeway. `client_id` is what the provider's claim for it said.
    `scopes` are those of the token, not the needed ones. `claims` is the whole payload, read-only at its top level.
    `repr` shows none of it.
    """

    issuer: str
    subject: str | None
    expires_at: float
    client_id: str | None
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]
    claims: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"SignedClaims(issuer={self.issuer!r})"


def verify(token: UnverifiedToken, keys: KeySet, policy: JwtPolicy, *, now: float) -> SignedClaims:
    """Check the header, verify the signature, check the claims. `now` is seconds since the epoch. Raises as they do.

    The caller vouches that `keys` are those of `policy.issuer`.
    """
    checks.check_header(token, policy.provider)
    return check_claims(verify_signature(token, keys), policy, now=now)


def check_claims(payload: VerifiedPayload, policy: JwtPolicy, *, now: float) -> SignedClaims:
    """Hold the signed claims against the policy. `now` is seconds since the epoch.

    Raises InvalidToken with its precise reason, and InsufficientScope last. Does not check revocation.
    """
    claims = payload_object(payload.payload)
    given = checks.Presented(claims, policy, now, payload.key_issuers)
    for _, check in checks.CLAIM_CHECKS:
        check(given)
    return SignedClaims(
        given.issuer,
        claims.get("sub"),
        float(claims["exp"]),
        given.client,
        given.scopes,
        given.audiences,
        MappingProxyType(claims),
    )
