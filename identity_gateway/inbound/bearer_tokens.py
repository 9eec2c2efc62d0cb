"""Bearer tokens at the front door: verified by the authorizer of the runtime that they are shown to."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from identity_gateway import telemetry
from identity_gateway.keysets import IssuerKeys, KeySets
from identity_gateway.model import Document, Secret
from identity_gateway.protocol import jwt

_REMEMBERED_TOKENS = 10_000
_REMEMBERED_FOR = 300.0


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
