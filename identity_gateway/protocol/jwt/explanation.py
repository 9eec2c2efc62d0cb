"""Every check of a token, and why it passed or failed: for whoever runs the gateway, never for a caller.

It lets nobody in. The checks are those of `jwt.claims`, which alone makes SignedClaims.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from identity_gateway.errors import AccessDenied, InvalidToken
from identity_gateway.protocol.jwt import checks
from identity_gateway.protocol.jwt.keys import KeySet, verify_signature
from identity_gateway.protocol.jwt.policy import JwtPolicy
from identity_gateway.protocol.jwt.token import UnverifiedToken, parse, payload_object, shown


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, whether it passed, and why. `why` may show claims that were compared, shortened."""

    name: str
    passed: bool
    why: str


def explain(token: str, keys: KeySet, policy: JwtPolicy, *, now: float) -> tuple[Check, ...]:
    """Return every check of a token. It would be let in if, and only if, all of them passed.

    `now` is seconds since the epoch; the caller vouches that `keys` are those of `policy.issuer`. Checks of claims are
    made although the signature does not verify, so that somebody learns of all faults at once; nothing is made of a
    token that cannot be read. Raises nothing.
    """
    found: list[Check] = []
    unverified: list[UnverifiedToken] = []
    issuers: list[tuple[str, ...]] = []
    claims: list[Mapping[str, Any]] = []

    def read() -> str:
        unverified.append(parse(token))
        return "three parts, and a header of the known members"

    def signature() -> str:
        payload = verify_signature(unverified[0], keys)
        issuers.append(payload.key_issuers)
        return f"made with the key {shown(payload.kid)} of the issuer"

    def payload() -> str:
        claims.append(payload_object(unverified[0].unverified_payload))
        return "a JSON object"

    found.append(_checked("form", read))
    if unverified:
        found.append(_checked("header", lambda: checks.check_header(unverified[0], policy.provider)))
        found.append(_checked("signature", signature))
        found.append(_checked("payload", payload))
    if claims:
        given = checks.Presented(claims[0], policy, now, issuers[0] if issuers else ())
        found += [_checked(name, lambda check=check: check(given)) for name, check in checks.CLAIM_CHECKS]  # type: ignore[misc]
    return tuple(found)


def _checked(name: str, check: Callable[[], checks.Finding]) -> Check:
    try:
        found = check()
        return Check(name, passed=True, why=found if isinstance(found, str) else found())
    except (InvalidToken, AccessDenied) as error:
        return Check(name, passed=False, why=error.reason)
