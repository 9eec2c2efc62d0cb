"""Bearer tokens at the front door: verified by the authorizer of the runtime that they are shown to."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from identity_gateway import identity_providers, telemetry
from identity_gateway.errors import GatewayError, InvalidToken
from identity_gateway.identity_providers import IdentityProviders
from identity_gateway.keysets import IssuerKeys, KeySets
from identity_gateway.model import Document, Secret
from identity_gateway.protocol import jwt
from identity_gateway.protocol.identity_provider import issuer_at

_REMEMBERED_TOKENS = 10_000
_REMEMBERED_FOR = 300.0

_READY_RULES = 4096
"""Authorizers whose rules are kept ready, at most."""

_Key = tuple[bytes, str, int]
"""The digest of a token, and the version of the runtime that it was shown to."""

_HIT, _MISS = (telemetry.TOKEN_CACHE.labels(result) for result in ("hit", "miss"))


_MISSES = telemetry.Tally(_MISS)


class _Verified(NamedTuple):
    """A token that was verified, and until when that may be believed without looking again."""

    claims: jwt.SignedClaims
    generation: int
    until: float


class _Rules:
    """What tokens are held against by one authorizer, for as long as the issuer has these keys.

    `headers` are those of tokens that were verified: an issuer writes a few of them.
    """

    __slots__ = ("authorizer", "generation", "headers", "policy")

    def __init__(self, authorizer: Document, generation: int, policy: jwt.JwtPolicy) -> None:
        self.authorizer = authorizer
        self.generation = generation
        self.policy = policy
        self.headers = jwt.KnownHeaders()


@dataclass(frozen=True, slots=True)
class Likeness:
    """What tokens of one bearer have in common, and the rules by which one of them was let in."""

    tokens: jwt.Likeness
    rules: _Rules


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
        self._verified: OrderedDict[_Key, _Verified] = OrderedDict()
        self._rules: OrderedDict[tuple[str, int], _Rules] = OrderedDict()

    async def verify(self, token: Secret, authorizer: Document, *, runtime_id: str, version: int) -> jwt.SignedClaims:
        """Return the claims of a token that this version's authorizer accepts. Raises InvalidToken, InsufficientScope.

        Verified tokens are remembered by their digest until they expire, five minutes at most, and not beyond a change
        of the issuer's keys. Versions are immutable, so a changed authorizer is another entry.
        """
        url = authorizer["discoveryUrl"]
        key = (sha256(token.reveal().encode()).digest(), runtime_id, version)
        present = self._keysets.peek(url)
        if present is not None and (claims := self._remembered(key, present, self._clock())):
            _HIT.inc()
            return claims
        _MISS.inc()
        rules = self._rules.get(key[1:])
        unverified = jwt.parse(token.reveal(), known=None if rules is None else rules.headers)
        keys = present or await self._keysets.get(url)
        try:
            claims = self._checked(unverified, keys, self._rules_of(key, authorizer, keys), self._clock())
        except jwt.UnknownKey:
            if unverified.kid is None:
                raise
            keys = await self._keysets.refresh_for(url, unverified.kid)
            claims = self._checked(unverified, keys, self._rules_of(key, authorizer, keys), self._clock())
        self._remember(key, claims, keys.generation, self._clock())
        return claims

    def at_once(self, token: bytes, authorizer: Document, *, runtime_id: str, version: int) -> jwt.SignedClaims | None:
        """Return what `verify` would, with the keys that are in memory, or None: then it says why, or looks further.

        What was verified here is not remembered: most tokens that come once do not come again. Needs a running event
        loop, in which old keys may be renewed.
        """
        keys = self._keysets.peek(authorizer["discoveryUrl"])
        if keys is None:
            return None
        now = self._clock()
        key = (sha256(token).digest(), runtime_id, version)
        claims = self._remembered(key, keys, now)
        if claims is not None:
            _HIT.inc()
            return claims
        try:
            rules = self._rules_of(key, authorizer, keys)
            claims = self._checked(jwt.parse(token.decode("ascii"), known=rules.headers), keys, rules, now)
        except (GatewayError, ValueError):
            return None
        _MISS.inc()
        return claims

    def likeness(
        self, token: bytes, claims: jwt.SignedClaims, authorizer: Document, *, runtime_id: str, version: int
    ) -> Likeness | None:
        """Return what `at_once_like` verifies tokens by that are like this one, which `at_once` let in just now."""
        keys, rules = self._keysets.peek(authorizer["discoveryUrl"]), self._rules.get((runtime_id, version))
        if keys is None or rules is None or rules.generation != keys.generation:
            return None
        known = jwt.likeness_of(jwt.parse(token.decode("ascii"), known=rules.headers), rules.policy, claims)
        return None if known is None else Likeness(known, rules)

    def at_once_like(self, likeness: Likeness, token: bytes, keys: IssuerKeys) -> float | None:
        """Return until when a token is good that is like one that was let in, by the present keys of its issuer.

        In seconds since the epoch. None if it is not like it, or is refused: `at_once` lets in, or `verify` says why.
        """
        if likeness.rules.generation != keys.generation:
            return None
        expires_at = likeness.tokens.verify(token, keys.keys, now=self._clock())
        if expires_at is not None:
            _MISSES.add()
        return expires_at

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

    def _rules_of(self, key: _Key, authorizer: Document, keys: IssuerKeys) -> _Rules:
        """Return the rules of an authorizer for tokens of this issuer. Raises InvalidToken, where it can have none."""
        where = key[1:]
        known = self._rules.get(where)
        same = known is not None and (known.authorizer is authorizer or known.authorizer == authorizer)
        if known is not None and same and known.generation == keys.generation:
            return known
        made = _Rules(authorizer, keys.generation, self._providers.policy_of(authorizer, keys.issuer))
        self._rules[where] = made
        if len(self._rules) > _READY_RULES:
            self._rules.popitem(last=False)
        return made

    @staticmethod
    def _checked(token: jwt.UnverifiedToken, keys: IssuerKeys, rules: _Rules, now: float) -> jwt.SignedClaims:
        claims = jwt.verify(token, keys.keys, rules.policy, now=now)
        rules.headers.learn(token)
        return claims

    def _remembered(self, key: _Key, keys: IssuerKeys, now: float) -> jwt.SignedClaims | None:
        found = self._verified.get(key)
        if found is None:
            return None
        if found.generation != keys.generation or found.until <= now:
            del self._verified[key]
            return None
        return found.claims

    def _remember(self, key: _Key, claims: jwt.SignedClaims, generation: int, now: float) -> None:
        self._verified[key] = _Verified(claims, generation, min(claims.expires_at, now + _REMEMBERED_FOR))
        if len(self._verified) > _REMEMBERED_TOKENS:
            self._verified.popitem(last=False)
