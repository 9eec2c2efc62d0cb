"""JSON Web Tokens at the door: `parse` what came, `verify` it against an issuer's keys and a policy.

    claims = verify(parse(text), keys, policy, now=now)

Every refusal is an InvalidToken whose `reason` starts with a `Refusal`. `explain` says of every check whether it
passed; it is for operators, and lets nobody in. This package fetches no keys (`keysets` does), and does not decide what
the subject may do.
"""

from identity_gateway.protocol.jwt.claims import SignedClaims, check_claims, verify
from identity_gateway.protocol.jwt.explanation import Check, explain
from identity_gateway.protocol.jwt.keys import ALGORITHMS, MAX_KEYS, KeySet, VerificationKey, verify_signature
from identity_gateway.protocol.jwt.likeness import Likeness, likeness_of
from identity_gateway.protocol.jwt.policy import ClaimKind, ClaimOperator, CustomClaim, JwtPolicy, check_authorizer
from identity_gateway.protocol.jwt.token import (
    MAX_TOKEN_LENGTH,
    KnownHeaders,
    Refusal,
    UnknownKey,
    UnverifiedToken,
    VerifiedPayload,
    parse,
    refused,
)
from identity_gateway.protocol.jwt.workloads import AllowedWorkloads, allowed_workloads

__all__ = [
    "ALGORITHMS",
    "MAX_KEYS",
    "MAX_TOKEN_LENGTH",
    "AllowedWorkloads",
    "Check",
    "ClaimKind",
    "ClaimOperator",
    "CustomClaim",
    "JwtPolicy",
    "KeySet",
    "KnownHeaders",
    "Likeness",
    "Refusal",
    "SignedClaims",
    "UnknownKey",
    "UnverifiedToken",
    "VerificationKey",
    "VerifiedPayload",
    "allowed_workloads",
    "check_authorizer",
    "check_claims",
    "explain",
    "likeness_of",
    "parse",
    "refused",
    "verify",
    "verify_signature",
]
