"""Inbound authentication: from a request to a principal that was proven, and whether it may do what it asks.

An agent runtime accepts one scheme only, so there is no chain to walk: the runtime says which of the classes here is
asked. Nothing but a matching signature or a verified token yields a principal.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from identity_gateway import telemetry
from identity_gateway.access_keys import AccessKeys
from identity_gateway.errors import AccessDenied, InvalidToken, MissingAuthentication
from identity_gateway.keysets import IssuerKeys, KeySets, discovery_url_of
from identity_gateway.model import Document, IamPrincipal, JwtUser, Secret
from identity_gateway.protocol import bearer, jwt, policy, sigv4
from identity_gateway.protocol.request import Request, SignedRequest

_REMEMBERED_TOKENS = 10_000
_REMEMBERED_FOR = 300.0


class Scheme(StrEnum):
    """What kind of credentials a request shows."""

    NONE = "none"
    SIGNATURE = "sigv4"
    BEARER = "jwt"
    OTHER = "other"


def scheme_of(request: Request) -> Scheme:
    """Say what credentials a request shows, without believing them."""
    authorization = request.header(b"authorization")
    if authorization is None:
        return Scheme.NONE
    if authorization.startswith((b"AWS4-", b"AWS ")):
        return Scheme.SIGNATURE
    return Scheme.BEARER if bearer.is_bearer(authorization) else Scheme.OTHER


class Signatures:
    """Authenticates requests that are signed with the gateway's own access keys (AWS Signature Version 4)."""

    def __init__(
        self, access_keys: AccessKeys, scope: sigv4.Scope, *, clock: Callable[[], float], max_skew: timedelta
    ) -> None:
        self._access_keys = access_keys
        self._scope = scope
        self._clock = clock
        self._max_skew = max_skew

    def present(self, request: Request) -> sigv4.PresentedSignature:
        """Read the signature and refuse whatever can be refused before the body was read."""
        if scheme_of(request) not in {Scheme.SIGNATURE, Scheme.OTHER}:
            raise MissingAuthentication
        now = datetime.fromtimestamp(self._clock(), UTC)
        presented = sigv4.parse(request, scope=self._scope, now=now, max_skew=self._max_skew)
        if presented.security_token is not None:
            raise sigv4.invalid_signature("a session token beside a long-term key")
        return presented

    async def refuse_stranger(self, presented: sigv4.PresentedSignature, digest: Callable[[], Awaitable[str]]) -> None:
        """Refuse an unknown key as a bad signature is refused, after the same reading, but without keeping the body.

        Whoever invents a key id must not fill the memory or the disk of those who have one.
        """
        if await self._access_keys.find(presented.access_key_id) is None:
            sigv4.verify_unknown(presented, await digest())

    async def verify(self, presented: sigv4.PresentedSignature, body_sha256: str) -> tuple[IamPrincipal, SignedRequest]:
        """Return who signed and what was signed. An unknown key and a bad signature answer alike."""
        found = await self._access_keys.find(presented.access_key_id)
        if found is None:
            sigv4.verify_unknown(presented, body_sha256)
        record, secret = found
        signed = sigv4.verify(presented, secret, body_sha256)
        principal = IamPrincipal(record.account, record.id, record.name, admin=record.admin, policy=record.policy)
        return principal, signed


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified, and until when that may be believed without looking again."""

    claims: jwt.SignedClaims
    generation: int
    until: float


class BearerTokens:
    """Authenticates bearer tokens by the authorizer of a runtime version (`customJWTAuthorizer`)."""

    def __init__(self, keysets: KeySets, *, clock: Callable[[], float]) -> None:
        self._keysets = keysets
        self._clock = clock
        self._verified: OrderedDict[tuple[bytes, str, int], _Verified] = OrderedDict()

    async def verify(self, token: Secret, authorizer: Document, *, runtime_id: str, version: int) -> jwt.SignedClaims:
        """Return the claims of a token that this version's authorizer accepts. Raises InvalidToken, InsufficientScope.

        Verified tokens are remembered by their digest until they expire, five minutes at most, and not beyond a change
        of the issuer's keys. Versions are immutable, so a changed authorizer is another entry.
        """
        url = authorizer["discoveryUrl"]
        key = (sha256(token.reveal().encode()).digest(), runtime_id, version)
        present = self._keysets.peek(url)
        if present is not None and (claims := self._remembered(key, present)):
            telemetry.TOKEN_CACHE.labels("hit").inc()
            return claims
        telemetry.TOKEN_CACHE.labels("miss").inc()
        unverified = jwt.parse(token.reveal())
        keys = present or await self._keysets.get(url)
        try:
            claims = self._checked(unverified, keys, authorizer)
        except jwt.UnknownKey:
            if unverified.kid is None:
                raise
            keys = await self._keysets.refresh_for(url, unverified.kid)
            claims = self._checked(unverified, keys, authorizer)
        self._remember(key, claims, keys.generation)
        return claims

    async def issuer_of(self, authorizer: Document) -> str:
        """Return the issuer that the authorizer's discovery document names."""
        return (await self._keysets.get(authorizer["discoveryUrl"])).issuer

    def _checked(self, token: jwt.UnverifiedToken, keys: IssuerKeys, authorizer: Document) -> jwt.SignedClaims:
        rules = jwt.JwtPolicy.from_configuration(authorizer, keys.issuer)
        return jwt.verify(token, keys.keys, rules, now=self._clock())

    def _remembered(self, key: tuple[bytes, str, int], keys: IssuerKeys) -> jwt.SignedClaims | None:
        found = self._verified.get(key)
        if found is None:
            return None
        if found.generation != keys.generation or found.until <= self._clock():
            del self._verified[key]
            return None
        return found.claims

    def _remember(self, key: tuple[bytes, str, int], claims: jwt.SignedClaims, generation: int) -> None:
        until = min(claims.expires_at, self._clock() + _REMEMBERED_FOR)
        self._verified[key] = _Verified(claims, generation, until)
        if len(self._verified) > _REMEMBERED_TOKENS:
            self._verified.popitem(last=False)


class UserTokens:
    """Identifies the user that a JWT proves, whoever its issuer is (GetWorkloadAccessTokenForJWT).

    Checks the signature by the issuer's own discovery document, issuer, expiry and subject. Does not check an audience:
    the caller of the operation was authorised to bring any user's token.
    """

    def __init__(self, keysets: KeySets, *, clock: Callable[[], float]) -> None:
        self._keysets = keysets
        self._clock = clock

    async def user_of(self, token: Secret) -> JwtUser:
        """Return issuer and subject of the token. Raises InvalidToken."""
        unverified = jwt.parse(token.reveal())
        unverified_issuer = unverified.unverified_issuer()
        if unverified_issuer is None:
            raise InvalidToken(reason="the token names no issuer")
        keys = await self._keysets.for_issuer(unverified_issuer)
        rules = jwt.JwtPolicy.identity_only(keys.issuer)
        try:
            claims = jwt.verify(unverified, keys.keys, rules, now=self._clock())
        except jwt.UnknownKey:
            if unverified.kid is None:
                raise
            keys = await self._keysets.refresh_for(discovery_url_of(keys.issuer), unverified.kid)
            claims = jwt.verify(unverified, keys.keys, rules, now=self._clock())
        if claims.subject is None:
            raise InvalidToken(reason="the token names no subject")
        return JwtUser(claims.issuer, claims.subject)


def authorize(
    principal: IamPrincipal, action: str, resources: tuple[str, ...], *, service: str = "bedrock-agentcore"
) -> str:
    """Return why the principal may do the action on all of the resources, or raise AccessDenied.

    A key that is neither admin nor has a policy may call nothing. `service` is what stands before the colon.
    """
    action = f"{service}:{action}"
    if principal.admin:
        return "admin key"
    if principal.policy is None:
        raise _denied(principal, action, "the key has no policy")
    decision = policy.parse(principal.policy).decide_all(action, resources)
    if decision is not policy.Decision.ALLOWED:
        raise _denied(principal, action, decision.value)
    return "identity policy"


def authorize_elsewhere(principal: IamPrincipal, action: str, names: tuple[str, ...]) -> None:
    """Raise AccessDenied unless the principal may have the gateway do this action of another service for them.

    `names` are those that policies may write for the one resource.
    """
    if principal.admin:
        return
    decision = policy.parse(principal.policy).decide_any(action, names) if principal.policy is not None else None
    if decision is not policy.Decision.ALLOWED:
        raise _denied(principal, action, decision.value if decision else "the key has no policy", names[0])


def _denied(principal: IamPrincipal, action: str, reason: str, resource: str = "this resource") -> AccessDenied:
    return AccessDenied(f"{principal.arn} is not authorized to perform {action} on {resource}.", reason=reason)
