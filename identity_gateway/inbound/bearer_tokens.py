"""Bearer tokens at the front door: verified by the authorizer of the runtime that they are shown to."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from identity_gateway import identity_providers, telemetry
from identity_gateway.errors import InvalidToken
from identity_gateway.identity_providers import IdentityProviders
from identity_gateway.keysets import IssuerKeys, KeySets
from identity_gateway.model import Document, Secret
from identity_gateway.protocol import jwt
from identity_gateway.protocol.identity_provider import issuer_at

_REMEMBERED_TOKENS = 10_000
_REMEMBERED_FOR = 300.0


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified, and until when that may be believed without looking again."""

    claims: jwt.SignedClaims
    generation: int
    until: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whose token was expected, and every check of the one that came."""

    provider: str
    issuer: str
    checks: tuple[jwt.Check, ...]

    @property
    def accepted(self) -> bool:
        """Tell whether the token would be let in now."""
        return all(check.passed for check in self.checks)


class BearerTokens:
    """Authenticates bearer tokens by the authorizer of a runtime version (`customJWTAuthorizer`).

    `providers` says whose tokens they are, and what those mean; by default those of the project alone.
    """

    def __init__(
        self, keysets: KeySets, providers: IdentityProviders | None = None, *, clock: Callable[[], float]
    ) -> None:
        self._keysets = keysets
        self._providers = providers or identity_providers.packaged()
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
        """Return the issuer that clients are to ask: the one that the authorizer's discovery document names.

        A document of many tenants names a template; then it is the issuer whose place the document stands at.
        """
        url = authorizer["discoveryUrl"]
        issuer = (await self._keysets.get(url)).issuer
        tenant = self._providers.recognise(url, issuer).issuer.tenant
        return issuer_at(url) or issuer if tenant is not None and tenant.placeholder in issuer else issuer

    async def explain(self, token: Secret, authorizer: Document) -> Explanation:
        """Say of every check of a token whether it passes. For operators: nothing is let in, nothing is remembered.

        An unknown key is looked for once more, as `verify` does. Raises Unavailable when the keys cannot be had.
        """
        url = authorizer["discoveryUrl"]
        keys = await self._keysets.get(url)
        try:
            kid = jwt.parse(token.reveal()).kid
        except InvalidToken:
            kid = None  # `jwt.explain` says why
        if kid is not None and kid not in keys.keys:
            keys = await self._keysets.refresh_for(url, kid)
        try:
            policy = self._providers.policy_of(authorizer, keys.issuer)
        except InvalidToken as error:  # no token of this discovery URL can be let in
            fault = jwt.Check("discovery document", passed=False, why=error.reason)
            return Explanation(self._providers.recognise(url, keys.issuer).name, keys.issuer, (fault,))
        found = jwt.explain(token.reveal(), keys.keys, policy, now=self._clock())
        return Explanation(policy.provider.name, keys.issuer, found)

    def _checked(self, token: jwt.UnverifiedToken, keys: IssuerKeys, authorizer: Document) -> jwt.SignedClaims:
        policy = self._providers.policy_of(authorizer, keys.issuer)
        return jwt.verify(token, keys.keys, policy, now=self._clock())

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
