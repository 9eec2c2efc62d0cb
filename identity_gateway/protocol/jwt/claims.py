"""The claims of a token whose signature was verified, held against a policy (RFC 7519 §4, RFC 8725 §3, RFC 9068 §4).

It decides about claims only: the signature is `jwt.keys`, and what the subject may do is `protocol.policy`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from identity_gateway.errors import InsufficientScope
from identity_gateway.protocol.jwt.keys import KeySet, verify_signature
from identity_gateway.protocol.jwt.policy import JwtPolicy
from identity_gateway.protocol.jwt.token import (
    Refusal,
    UnverifiedToken,
    VerifiedPayload,
    payload_object,
    refused,
    shown,
)

_FARTHEST_EXPIRY = 10 * 366 * 86400.0
"""Seconds. Nobody issues access tokens for ten years: such an `exp` counts milliseconds."""

_MOST_SUBJECT, _MOST_ISSUER = 255, 512
"""Bytes in UTF-8: OpenID Connect Core §2 allows a `sub` 255 ASCII characters. Both become part of keys of records."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, repr=False)
class SignedClaims:
    """Claims that an issuer signed and a policy let in. Made by `check_claims` alone.

    `expires_at` is seconds since the epoch, without the leeway. `scopes` are those of the token, not the needed ones.
    `claims` is the whole payload, read-only at its top level. `repr` shows none of it.
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
    """Verify the signature, then the claims. `now` is seconds since the epoch. Raises as its two halves do.

    The caller vouches that `keys` are those of `policy.issuer`.
    """
    return check_claims(verify_signature(token, keys), policy, now=now)


def check_claims(payload: VerifiedPayload, policy: JwtPolicy, *, now: float) -> SignedClaims:
    """Hold the signed claims against the policy. `now` is seconds since the epoch.

    Raises InvalidToken with its precise reason, and InsufficientScope last: whoever is told which scope is missing has
    a token that is good in every other way. Does not check revocation, nor the kind of token beyond its `typ`.
    """
    claims = payload_object(payload.payload)
    if not isinstance(claims.get("iss"), str) or claims["iss"] != policy.issuer:
        raise refused(Refusal.WRONG_ISSUER, f"iss is {shown(claims.get('iss'))}, expected {shown(policy.issuer)}")
    if _bytes(policy.issuer) > _MOST_ISSUER:
        raise refused(Refusal.WRONG_ISSUER, f"iss is longer than {_MOST_ISSUER} bytes")
    expires_at = _check_times(claims, policy, now)
    subject = _subject(claims, required=policy.subject_only)
    if "jti" in claims and not isinstance(claims["jti"], str):
        raise refused(Refusal.BAD_TOKEN_ID, "jti is not a string")
    if "cnf" in claims:
        # RFC 7800: the token is worth nothing without the proof, and no proof is read here.
        raise refused(Refusal.PROOF_OF_POSSESSION, "the token is bound to a key (cnf), which is not supported")
    audiences = _audiences(claims, policy)
    client_id = _client(claims, policy)
    for rule in policy.custom_claims:
        if not rule.holds(claims.get(rule.name)):
            raise refused(Refusal.WRONG_CLAIM, f"{shown(rule.name)} does not satisfy {rule.kind} {rule.operator}")
    scopes = _scopes(claims)
    if policy.scopes and set(policy.scopes).isdisjoint(scopes):
        reason = f"{Refusal.MISSING_SCOPE}: none of {shown(policy.scopes)}"
        raise InsufficientScope(policy.scopes, reason=reason)
    return SignedClaims(policy.issuer, subject, expires_at, client_id, scopes, audiences, MappingProxyType(claims))


def _check_times(claims: Mapping[str, Any], policy: JwtPolicy, now: float) -> float:
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise refused(Refusal.BAD_TIME, "exp is missing")
    if expires_at <= now - policy.leeway:
        raise refused(Refusal.EXPIRED, f"exp was {now - expires_at:.0f} s ago")
    if expires_at > now + _FARTHEST_EXPIRY:
        raise refused(Refusal.BAD_TIME, "exp is more than ten years away: seconds are expected, not milliseconds")
    for name in ("nbf", "iat"):
        begin = _time(claims, name)
        if begin is not None and begin > now + policy.leeway:
            raise refused(Refusal.NOT_YET_VALID, f"{name} is {begin - now:.0f} s ahead")
    if policy.max_lifetime is not None:
        issued_at = _time(claims, "iat")
        if issued_at is None or expires_at - issued_at > policy.max_lifetime:
            raise refused(Refusal.TOO_LONG_LIVED, f"no iat, or more than {policy.max_lifetime:.0f} s from iat to exp")
    return expires_at


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # True is a number to Python, not to RFC 7519 §2.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused(Refusal.BAD_TIME, f"{name} is not a number")
    return float(value)


def _subject(claims: Mapping[str, Any], *, required: bool) -> str | None:
    if "sub" not in claims:
        if required:
            raise refused(Refusal.BAD_SUBJECT, "sub is missing")
        return None
    subject = claims["sub"]
    if not isinstance(subject, str) or not subject:
        raise refused(Refusal.BAD_SUBJECT, "sub is not a string, or empty")
    if _CONTROL.search(subject):
        raise refused(Refusal.BAD_SUBJECT, "sub has a control character")
    if _bytes(subject) > _MOST_SUBJECT:
        raise refused(Refusal.BAD_SUBJECT, f"sub is longer than {_MOST_SUBJECT} bytes")
    return subject


def _bytes(text: str) -> int:
    return len(text.encode())


def _audiences(claims: Mapping[str, Any], policy: JwtPolicy) -> tuple[str, ...]:
    value = claims.get("aud", [])
    audiences = [value] if isinstance(value, str) else value
    if not _all_strings(audiences):
        raise refused(Refusal.WRONG_AUDIENCE, "aud is neither a string nor a list of strings")
    if policy.audiences and set(policy.audiences).isdisjoint(audiences):
        raise refused(Refusal.WRONG_AUDIENCE, f"aud is {shown(value)}, expected one of {shown(policy.audiences)}")
    return tuple(audiences)


def _client(claims: Mapping[str, Any], policy: JwtPolicy) -> str | None:
    # AWS compares allowedClients with this claim alone: azp, appid and cid are other words with other meanings.
    value = claims.get("client_id")
    client_id = value if isinstance(value, str) else None
    if policy.clients and client_id not in policy.clients:
        raise refused(Refusal.WRONG_CLIENT, f"client_id is {shown(value)}, expected one of {shown(policy.clients)}")
    return client_id


def _scopes(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the scopes of the token: `scope` (RFC 8693 §4.2), or `scp` where there is no `scope`.

    How AWS reads an `scp` that is a string, as Entra ID writes it, is not documented. Here it is a list separated by
    blanks, like `scope`: matching whole scopes is never wider than the text. A claim of another type holds no scopes.
    """
    value = claims["scope"] if "scope" in claims else claims.get("scp")
    if isinstance(value, list) and "scope" not in claims and _all_strings(value):
        return tuple(value)
    if isinstance(value, str):
        # split() would also cut at tabs and no-break spaces, which RFC 6749 §3.3 does not know.
        return tuple(scope for scope in value.split(" ") if scope)
    return ()


def _all_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
