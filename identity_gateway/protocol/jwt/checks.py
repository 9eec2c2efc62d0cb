"""The checks that a token passes, each with its name: of its header, and of its claims against a policy.

`CLAIM_CHECKS` is their order (RFC 7519 §4, RFC 8725 §3, RFC 9068 §4). Each raises InvalidToken or InsufficientScope, or
returns what it found, in words for operators, or what says it in words: they are put only where somebody reads them.
One that lacks nothing says nothing about another: the signature is `jwt.keys`, and whether all of them passed is
`jwt.claims`.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from identity_gateway.errors import InsufficientScope
from identity_gateway.protocol.identity_provider import IdentityProvider
from identity_gateway.protocol.jwt.policy import JwtPolicy
from identity_gateway.protocol.jwt.token import Refusal, UnverifiedToken, refused, shown

_FARTHEST_EXPIRY = 10 * 366 * 86400.0
"""Seconds. Nobody issues access tokens for ten years: such an `exp` counts milliseconds."""

_MOST_SUBJECT, _MOST_ISSUER = 255, 512
"""Bytes in UTF-8: OpenID Connect Core §2 allows a `sub` 255 ASCII characters. Both become part of keys of records."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


Finding = str | Callable[[], str]
"""What a check found, in words for operators, or what puts it into words."""

_NUMBER = (int, float)


class Presented:
    """What the checks of claims look at. `now` is seconds since the epoch, `key_issuers` whom the key signs for.

    What the checks make of the claims is kept in `issuer`, `audiences`, `client` and `scopes`, by the check of each.
    """

    __slots__ = ("audiences", "claims", "client", "issuer", "key_issuers", "now", "policy", "provider", "scopes")

    def __init__(
        self, claims: Mapping[str, Any], policy: JwtPolicy, now: float, key_issuers: tuple[str, ...] = ()
    ) -> None:
        self.claims = claims
        self.policy = policy
        self.now = now
        self.key_issuers = key_issuers
        self.provider = policy.provider
        self.issuer = ""
        self.audiences: tuple[str, ...] = ()
        self.client: str | None = None
        self.scopes: tuple[str, ...] = ()


def check_header(token: UnverifiedToken, provider: IdentityProvider) -> Finding:
    """Refuse a header that this provider's access tokens do not have. `jwt.parse` refused what nobody's have."""
    for each in provider.header.refused:
        if each.name in token.header.members:
            raise refused(Refusal.WRONG_KIND, f"the header has {each.name}: {each.reason}")
    typ = token.header.typ
    if typ not in provider.header.types:
        raise refused(Refusal.WRONG_TYPE, f"typ {shown(typ)} is not that of this provider's access tokens")
    return lambda: f"alg {token.alg}, typ {typ or 'absent'}"


def check_issuer(given: Presented) -> Finding:
    """Compare `iss` with the document's issuer, whose template the token's tenant fills."""
    issuer, found = issuer_of(given), given.claims.get("iss")
    if found != issuer and not (isinstance(found, str) and found in given.provider.issuer.aliases):
        raise refused(Refusal.WRONG_ISSUER, f"iss is {shown(found)}, expected {shown(issuer)}")
    if _bytes(issuer) > _MOST_ISSUER:
        raise refused(Refusal.WRONG_ISSUER, f"iss is longer than {_MOST_ISSUER} bytes")
    given.issuer = issuer
    return lambda: f"iss is {shown(found)}"


def issuer_of(given: Presented) -> str:
    """Return the issuer that the token must name. Raises InvalidToken for a tenant that nobody allowed."""
    tenant = given.provider.issuer.tenant
    if tenant is None or tenant.placeholder not in given.policy.issuer:
        return given.policy.issuer
    value = given.claims.get(tenant.claim)
    if not isinstance(value, str) or re.fullmatch(tenant.pattern, value, re.ASCII) is None:
        raise refused(Refusal.WRONG_TENANT, f"{tenant.claim} is {shown(value)}, which is no tenant's id")
    if not (given.policy.subject_only or any(rule.name == tenant.claim for rule in given.policy.custom_claims)):
        raise refused(Refusal.WRONG_TENANT, f"no custom claim {tenant.claim} says which tenants may come")
    return given.policy.issuer.replace(tenant.placeholder, value)


def _check_key_issuer(given: Presented) -> Finding:
    if not given.provider.issuer.per_key or not given.key_issuers:
        return "the key set does not say for whom the key signs"
    issuer, tenant = issuer_of(given), given.provider.issuer.tenant
    for named in given.key_issuers:
        filled = named.replace(tenant.placeholder, str(given.claims.get(tenant.claim))) if tenant else named
        if filled == issuer:
            return f"the key signs for {shown(named)}"
    raise refused(Refusal.WRONG_ISSUER, f"the key signs for {shown(given.key_issuers)}, not for {shown(issuer)}")


def _check_times(given: Presented) -> Finding:
    expires_at, not_before, issued_at = (time_of(given.claims, name) for name in ("exp", "nbf", "iat"))
    return check_times(expires_at, not_before, issued_at, given.policy, given.now)


def check_times(
    expires_at: float | None, not_before: float | None, issued_at: float | None, policy: JwtPolicy, now: float
) -> Finding:
    """Hold `exp`, `nbf` and `iat`, where they are there, against a policy. All are in seconds since the epoch."""
    leeway = policy.leeway
    if expires_at is None:
        raise refused(Refusal.BAD_TIME, "exp is missing")
    if expires_at <= now - leeway:
        raise refused(Refusal.EXPIRED, f"exp was {now - expires_at:.0f} s ago")
    if expires_at > now + _FARTHEST_EXPIRY:
        raise refused(Refusal.BAD_TIME, "exp is more than ten years away: seconds are expected, not milliseconds")
    for name, begin in (("nbf", not_before), ("iat", issued_at)):
        if begin is not None and begin > now + leeway:
            raise refused(Refusal.NOT_YET_VALID, f"{name} is {begin - now:.0f} s ahead")
    longest = policy.max_lifetime
    if longest is not None and (issued_at is None or expires_at - issued_at > longest):
        raise refused(Refusal.TOO_LONG_LIVED, f"no iat, or more than {longest:.0f} s from iat to exp")
    if expires_at <= now:
        return "exp is past, within the leeway"
    return lambda: f"exp is {expires_at - now:.0f} s ahead"


def time_of(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a claim that is a time (RFC 7519 §2: a number), None where it is absent. Raises InvalidToken."""
    if name not in claims:
        return None
    value = claims[name]
    # True is a number to Python, not to RFC 7519 §2.
    if isinstance(value, bool) or not isinstance(value, _NUMBER) or not math.isfinite(value):
        raise refused(Refusal.BAD_TIME, f"{name} is not a number")
    return float(value)


def _check_subject(given: Presented) -> Finding:
    if "sub" not in given.claims:
        if given.policy.subject_only:
            raise refused(Refusal.BAD_SUBJECT, "sub is missing")
        return "the token names no user"
    subject = given.claims["sub"]
    if not isinstance(subject, str) or not subject:
        raise refused(Refusal.BAD_SUBJECT, "sub is not a string, or empty")
    if _CONTROL.search(subject):
        raise refused(Refusal.BAD_SUBJECT, "sub has a control character")
    if _bytes(subject) > _MOST_SUBJECT:
        raise refused(Refusal.BAD_SUBJECT, f"sub is longer than {_MOST_SUBJECT} bytes")
    return "the token names its user"


def _bytes(text: str) -> int:
    return len(text.encode())


def _check_token_id(given: Presented) -> Finding:
    if "jti" in given.claims and not isinstance(given.claims["jti"], str):
        raise refused(Refusal.BAD_TOKEN_ID, "jti is not a string")
    return "jti is a string" if "jti" in given.claims else "the token has no jti"


def _check_possession(given: Presented) -> Finding:
    if "cnf" in given.claims:
        # RFC 7800: the token is worth nothing without the proof, and no proof is read here.
        raise refused(Refusal.PROOF_OF_POSSESSION, "the token is bound to a key (cnf), which is not supported")
    return "the token is bound to no key"


def _check_kind(given: Presented) -> Finding:
    provider, policy = given.provider, given.policy
    for each in provider.refused:
        if each.holds(given.claims):
            raise refused(Refusal.WRONG_KIND, each.reason)
    if not provider.kinds:
        return "tokens of this issuer do not say their kind"
    kind = provider.kind_of(given.claims)
    if kind is None:
        names = ", ".join(dict.fromkeys(kind.name for kind in provider.kinds))
        raise refused(Refusal.WRONG_KIND, f"the token is none of: {names}")
    if kind.accepted == "with_audience" and not (policy.audiences or policy.subject_only):
        raise refused(
            Refusal.WRONG_KIND, f"the token is an {kind.name}; it needs allowedAudience, which names its client"
        )
    if kind.accepted == "to_identify" and not policy.subject_only:
        raise refused(Refusal.WRONG_KIND, f"the token is no access token: {kind.name}")
    return lambda: f"kind: {kind.name}"


def _check_audience(given: Presented) -> Finding:
    policy, value = given.policy, given.claims.get("aud", [])
    given.audiences = audiences = _audiences_of(value)
    if not policy.audiences:
        if given.provider.audience == "required" and not policy.subject_only:
            raise refused(Refusal.WRONG_AUDIENCE, "no audience is configured, and the issuer's tokens for any API fit")
        return "no audience is asked for"
    if set(policy.audiences).isdisjoint(audiences):
        raise refused(Refusal.WRONG_AUDIENCE, f"aud is {shown(value)}, expected one of {shown(policy.audiences)}")
    return lambda: f"aud is {shown(value)}"


def _audiences_of(value: Any) -> tuple[str, ...]:
    """Return `aud` as a list (RFC 7519 §4.1.3). Raises InvalidToken where it is neither a string nor strings."""
    if isinstance(value, str):
        return (value,)
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise refused(Refusal.WRONG_AUDIENCE, "aud is neither a string nor a list of strings")
    return tuple(value)


def _check_client(given: Presented) -> Finding:
    wanted, names = given.policy.clients, given.provider.clients
    given.client = _client_of(given.claims, names)
    if not wanted:
        return "no client is asked for"

    def found() -> str:
        return shown({name: given.claims[name] for name in names if name in given.claims})

    if given.client not in wanted:
        raise refused(Refusal.WRONG_CLIENT, f"{' or '.join(names)}: {found()}, expected one of {shown(wanted)}")
    return lambda: f"the client is {found()}"


def _client_of(claims: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Return the client that the token names, in a claim that this provider has for it. None where it names two."""
    agreed: Any = None
    for name in names:
        if name in claims:
            value = claims[name]
            # Of two claims that name two clients, one is wrong, and nobody knows which.
            if not isinstance(value, str) or agreed not in {None, value}:
                return None
            agreed = value
    return str(agreed) if agreed is not None else None


def _check_custom_claims(given: Presented) -> Finding:
    tenant = given.provider.issuer.tenant
    for rule in given.policy.custom_claims:
        value = given.claims.get(rule.name)
        if tenant is not None and rule.name == tenant.claim and isinstance(value, str) and not rule.compares_one:
            # So that several tenants can be listed: AWS compares lists with CONTAINS_ANY, and a tenant is a text.
            value = [value]
        if not rule.holds(value):
            raise refused(Refusal.WRONG_CLAIM, f"{shown(rule.name)} does not satisfy {rule.kind} {rule.operator}")
    if not given.policy.custom_claims:
        return "no custom claim is asked for"
    return lambda: f"{', '.join(shown(rule.name) for rule in given.policy.custom_claims)} as configured"


def _check_scopes(given: Presented) -> Finding:
    wanted = given.policy.scopes
    given.scopes = scopes = _scopes_of(given.claims, given.provider)
    if not wanted:
        return "no scope is asked for"
    if set(wanted).isdisjoint(scopes):
        roles = given.provider.roles
        hint = f"; it has {roles}, which customClaims compare" if roles and roles in given.claims else ""
        raise InsufficientScope(wanted, reason=f"{Refusal.MISSING_SCOPE}: none of {shown(wanted)}{hint}")
    return lambda: f"the token has {shown(tuple(sorted(set(wanted) & set(scopes))))}"


def _scopes_of(claims: Mapping[str, Any], provider: IdentityProvider) -> tuple[str, ...]:
    """Return the scopes of the token: those of the first claim that holds scopes at this provider."""
    for each in provider.scopes:
        if each.claim in claims:
            return each.read(claims[each.claim])
    return ()


CLAIM_CHECKS: tuple[tuple[str, Callable[[Presented], Finding]], ...] = (
    ("issuer", check_issuer),
    ("issuer of the key", _check_key_issuer),
    ("times", _check_times),
    ("subject", _check_subject),
    ("token id", _check_token_id),
    ("proof of possession", _check_possession),
    ("kind of token", _check_kind),
    ("audience", _check_audience),
    ("client", _check_client),
    ("custom claims", _check_custom_claims),
    ("scopes", _check_scopes),
)
"""Scopes come last: whoever is told which scope is missing has a token that is good in every other way."""
