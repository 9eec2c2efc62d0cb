"""What a token must say to be let in: AWS's CustomJWTAuthorizerConfiguration as a value, and its registration rules.

It verifies nothing, and does not check `discoveryUrl`: its form is the AWS model's rule, its address is `egress`'s.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from identity_gateway.errors import FieldError
from identity_gateway.protocol.identity_provider import UNRECOGNISED, IdentityProvider
from identity_gateway.protocol.jwt.workloads import workload_problems

DEFAULT_LEEWAY = 60.0
"""Seconds that two clocks may differ."""

_MAX_LEEWAY = 300.0
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}", re.ASCII)
_FIELD = "authorizerConfiguration.customJWTAuthorizer"
_WORKLOAD_FIELD = f"{_FIELD}.allowedWorkloadConfiguration"
_LISTS = ("allowedAudience", "allowedClients", "allowedScopes")
_CHECKS = (*_LISTS, "customClaims")
_NOT_ENFORCED = {
    "privateEndpoint": "reaches identity providers through its own network only; see EGRESS_ALLOW",
    "privateEndpointOverrides": "reaches identity providers through its own network only",
    "certificateConfigurations": "trusts the certificate authorities of its host only",
}
_WORKLOADS = "allowedWorkloadConfiguration"
_KNOWN = frozenset({"discoveryUrl", "advertisedScopeMapping", _WORKLOADS, *_CHECKS, *_NOT_ENFORCED})


class ClaimKind(StrEnum):
    """The type that a custom claim must have in the token (AWS: inboundTokenClaimValueType)."""

    STRING = "STRING"
    STRING_ARRAY = "STRING_ARRAY"


class ClaimOperator(StrEnum):
    """How a custom claim is compared (AWS: claimMatchOperator)."""

    EQUALS = "EQUALS"
    CONTAINS = "CONTAINS"
    CONTAINS_ANY = "CONTAINS_ANY"


_OPERATORS = {
    ClaimKind.STRING: (ClaimOperator.EQUALS,),
    ClaimKind.STRING_ARRAY: (ClaimOperator.CONTAINS, ClaimOperator.CONTAINS_ANY),
}


@dataclass(frozen=True, slots=True)
class CustomClaim:
    """One claim that the token must carry. `values` has one entry, except for CONTAINS_ANY; dots are letters."""

    name: str
    kind: ClaimKind
    operator: ClaimOperator
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        many = self.operator is ClaimOperator.CONTAINS_ANY
        if self.operator not in _OPERATORS[self.kind] or not (self.values if many else len(self.values) == 1):
            message = f"{self.kind} with {self.operator} and {len(self.values)} values is not a rule"
            raise ValueError(message)

    @property
    def compares_one(self) -> bool:
        """Tell whether the claim must be one text, not a list of them."""
        return self.kind is ClaimKind.STRING

    def holds(self, claim: Any) -> bool:
        """Tell whether a claim's value satisfies this rule. A value of another type never does."""
        if self.kind is ClaimKind.STRING:
            return isinstance(claim, str) and claim == self.values[0]
        if not (isinstance(claim, list) and all(isinstance(item, str) for item in claim)):
            return False
        return not set(self.values).isdisjoint(claim)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtPolicy:
    """What the claims of a token are held against. All kinds that are set must hold; within a kind any value will do.

    `leeway` and `max_lifetime` (of the token, from `iat` to `exp`) are seconds. `provider` says which claims are meant,
    and which tokens are none of those that may be let in. A policy that asks for no audience, client, scope or claim
    would let in every token of the issuer, whoever it was made for: it cannot be made, except as
    `JwtPolicy.identity_only(issuer)`.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    custom_claims: tuple[CustomClaim, ...] = ()
    leeway: float = DEFAULT_LEEWAY
    max_lifetime: float | None = None
    subject_only: bool = False
    provider: IdentityProvider = UNRECOGNISED

    def __post_init__(self) -> None:
        checks = (self.audiences, self.clients, self.scopes, self.custom_claims)
        if not all(isinstance(check, tuple) for check in checks):
            message = "audiences, clients, scopes and claims are tuples: a text is not a list of its letters"
            raise ValueError(message)
        if not self.issuer or any(not value for check in checks[:3] for value in check):
            message = "an empty issuer, audience, client or scope matches nothing"
            raise ValueError(message)
        if any(checks) == self.subject_only:
            message = "a policy checks at least one of audience, client, scope or claim"
            raise ValueError(message)
        if not 0 <= self.leeway <= _MAX_LEEWAY or not (self.max_lifetime is None or self.max_lifetime > 0):
            message = f"leeway is 0 to {_MAX_LEEWAY:.0f} s, a lifetime is positive"
            raise ValueError(message)

    @classmethod
    def identity_only(cls, issuer: str, provider: IdentityProvider = UNRECOGNISED) -> Self:
        """Ask who the token is about, not what it is for: signature, issuer, times, and a subject.

        For GetWorkloadAccessTokenForJWT, whose caller was authorised by other means. Never for a front door.
        """
        return cls(issuer=issuer, leeway=provider.leeway, subject_only=True, provider=provider)

    @classmethod
    def from_configuration(
        cls,
        authorizer: Mapping[str, Any],
        issuer: str,
        provider: IdentityProvider = UNRECOGNISED,
        *,
        max_lifetime: float | None = None,
    ) -> Self:
        """Read the value of `customJWTAuthorizer` (AWS member names). Raises ValueError where it is not one.

        `issuer` is what the discovery document says; it is not in the configuration. What the provider asks of a
        configuration is not asked again here: tokens are refused where it is missing.
        """
        problems = check_authorizer(authorizer)
        if problems:
            raise ValueError("; ".join(f"{problem.name}: {problem.message}" for problem in problems))
        return cls(
            issuer=issuer,
            audiences=tuple(authorizer.get("allowedAudience") or ()),
            clients=tuple(authorizer.get("allowedClients") or ()),
            scopes=tuple(authorizer.get("allowedScopes") or ()),
            custom_claims=tuple(_custom_claim(claim) for claim in authorizer.get("customClaims") or ()),
            leeway=provider.leeway,
            max_lifetime=max_lifetime,
            provider=provider,
        )


def check_authorizer(authorizer: Mapping[str, Any], provider: IdentityProvider = UNRECOGNISED) -> list[FieldError]:
    """Say what is wrong with the value of `customJWTAuthorizer` when a runtime is registered. Empty means nothing.

    Beyond the AWS model: an authorizer that checks nothing is refused, where empty lists count as nothing; so is every
    member that this gateway would not enforce, because a rule that is silently dropped is an open door; and so is what
    no token of the provider could satisfy, or tokens for others would.
    """
    return [*_problems(authorizer), *_provider_problems(authorizer, provider)]


def _problems(authorizer: Mapping[str, Any]) -> Iterator[FieldError]:
    if not any(authorizer.get(name) for name in _CHECKS):
        yield FieldError(_FIELD, f"must check at least one of {', '.join(_CHECKS)}; empty lists count as nothing")
    for name in authorizer:
        if name in _NOT_ENFORCED:
            yield FieldError(f"{_FIELD}.{name}", f"is not enforced by this gateway: it {_NOT_ENFORCED[name]}")
        elif name not in _KNOWN:
            yield FieldError(f"{_FIELD}.{name}", "is not a member that this gateway enforces")
    for name in _LISTS:
        yield from _list_problems(name, authorizer.get(name))
    yield from _mapping_problems(authorizer)
    yield from workload_problems(_WORKLOAD_FIELD, authorizer.get(_WORKLOADS))
    claims = authorizer.get("customClaims") or ()
    if not isinstance(claims, list | tuple):
        yield FieldError(f"{_FIELD}.customClaims", "must be a list")
        return
    for place, claim in enumerate(claims):
        yield from _claim_problems(f"{_FIELD}.customClaims[{place}]", claim)


def _provider_problems(authorizer: Mapping[str, Any], provider: IdentityProvider) -> Iterator[FieldError]:
    url = str(authorizer.get("discoveryUrl"))
    refusal = provider.refusal_of(url)
    if refusal is not None:
        yield FieldError(f"{_FIELD}.discoveryUrl", f"cannot be used: {refusal}")
        return
    audience_only = bool(provider.kinds) and all(kind.accepted != "always" for kind in provider.kinds)
    if (provider.audience == "required" or audience_only) and not authorizer.get("allowedAudience"):
        message = f"must be given for {provider.name}: its tokens for other audiences have the same issuer and clients"
        yield FieldError(f"{_FIELD}.allowedAudience", message)
    for name, claims in (("allowedClients", provider.clients), ("allowedScopes", provider.scopes)):
        if authorizer.get(name) and not claims:
            yield FieldError(f"{_FIELD}.{name}", f"can be satisfied by no token of {provider.name}")
    tenant = provider.issuer.tenant
    if tenant is not None and provider.serves_tenants(url) and tenant.claim not in _claim_names(authorizer):
        message = f"must compare {tenant.claim}: this discovery URL serves every tenant; list those that may come"
        yield FieldError(f"{_FIELD}.customClaims", message)


def _claim_names(authorizer: Mapping[str, Any]) -> set[Any]:
    claims = authorizer.get("customClaims")
    entries = claims if isinstance(claims, list | tuple) else ()
    return {str(entry.get("inboundTokenClaimName")) for entry in entries if isinstance(entry, Mapping)}


def _list_problems(name: str, values: Any) -> Iterator[FieldError]:
    if values is None:
        return
    if not isinstance(values, list | tuple):
        yield FieldError(f"{_FIELD}.{name}", "must be a list")
        return
    for place, value in enumerate(values):
        if not isinstance(value, str) or not value:
            yield FieldError(f"{_FIELD}.{name}[{place}]", "must be a string that is not empty")
        elif name == "allowedScopes" and not _SCOPE.fullmatch(value):
            yield FieldError(
                f"{_FIELD}.{name}[{place}]", 'must be one scope: 1 to 255 characters without blank, " and \\'
            )


def _mapping_problems(authorizer: Mapping[str, Any]) -> Iterator[FieldError]:
    mapping = authorizer.get("advertisedScopeMapping")
    if mapping is None:
        return
    if not isinstance(mapping, Mapping):
        yield FieldError(f"{_FIELD}.advertisedScopeMapping", "must be a map of scopes")
        return
    allowed = authorizer.get("allowedScopes") or ()
    for scope, advertised in mapping.items():
        if scope not in allowed:
            yield FieldError(f"{_FIELD}.advertisedScopeMapping.{scope}", "must be one of allowedScopes")
        if not (isinstance(advertised, str) and _SCOPE.fullmatch(advertised)):
            yield FieldError(f"{_FIELD}.advertisedScopeMapping.{scope}", "must be mapped to one scope")


def _claim_problems(field: str, claim: Any) -> Iterator[FieldError]:
    try:
        rule = _custom_claim(claim)
    except (KeyError, TypeError, AttributeError):
        yield FieldError(field, "must have a name, a value type, an operator and a value to match")
        return
    except ValueError as error:
        yield FieldError(f"{field}.authorizingClaimMatchValue", str(error))
        return
    # As AWS does. `scope` stays possible: compared as one whole string it is a narrower rule, never a wider one.
    if rule.name == "scp":
        yield FieldError(f"{field}.inboundTokenClaimName", "cannot be 'scp': use allowedScopes")


def _custom_claim(claim: Mapping[str, Any]) -> CustomClaim:
    match = claim["authorizingClaimMatchValue"]
    value, operator = match["claimMatchValue"], ClaimOperator(match["claimMatchOperator"])
    kind = ClaimKind(claim["inboundTokenClaimValueType"])
    name = claim["inboundTokenClaimName"]
    many = operator is ClaimOperator.CONTAINS_ANY
    wanted = "matchValueStringList" if many else "matchValueString"
    if operator not in _OPERATORS[kind]:
        allowed = " or ".join(_OPERATORS[kind])
        message = f"a {kind} claim is compared with {allowed}"
        raise ValueError(message)
    if set(value) != {wanted}:
        message = f"{operator} needs {wanted} and nothing else"
        raise ValueError(message)
    values = value[wanted] if many else [value[wanted]]
    if not (isinstance(name, str) and name and isinstance(values, list) and values):
        message = "a claim has a name and at least one value"
        raise ValueError(message)
    if not all(isinstance(item, str) and item for item in values):
        message = "values are strings that are not empty"
        raise ValueError(message)
    return CustomClaim(name, kind, operator, tuple(values))
