"""Which user a JWT proves, for callers who were authorised by other means."""

from collections.abc import Callable

from identity_gateway import identity_providers
from identity_gateway.errors import InvalidToken
from identity_gateway.identity_providers import IdentityProviders
from identity_gateway.keysets import KeySets, discovery_url_of
from identity_gateway.model import JwtUser, Secret
from identity_gateway.protocol import jwt


class UserTokens:
    """Identifies the user that a JWT proves, whoever its issuer is (GetWorkloadAccessTokenForJWT).

    Checks the signature by the issuer's own discovery document, issuer, expiry and subject, and that the provider's
    tokens of this kind may say who their user is. Does not check an audience: the caller of the operation was
    authorised to bring any user's token.
    """

    def __init__(
        self, keysets: KeySets, providers: IdentityProviders | None = None, *, clock: Callable[[], float]
    ) -> None:
        self._keysets = keysets
        self._providers = providers or identity_providers.packaged()
        self._clock = clock

    async def user_of(self, token: Secret) -> JwtUser:
        """Return issuer and subject of the token. Raises InvalidToken."""
        claims = await self.claims_of(token)
        if claims.subject is None:
            raise InvalidToken(reason="the token names no subject")
        return JwtUser(claims.issuer, claims.subject)

    async def claims_of(self, token: Secret) -> jwt.SignedClaims:
        """Return what the issuer signed. Raises InvalidToken. Unlike `user_of`, takes a token without a subject."""
        unverified = jwt.parse(token.reveal())
        unverified_issuer = unverified.unverified_issuer()
        if unverified_issuer is None:
            raise InvalidToken(reason="the token names no issuer")
        keys = await self._keysets.for_issuer(unverified_issuer)
        rules = jwt.JwtPolicy.identity_only(
            keys.issuer, self._providers.recognise(discovery_url_of(keys.issuer), keys.issuer)
        )
        try:
            return jwt.verify(unverified, keys.keys, rules, now=self._clock())
        except jwt.UnknownKey:
            if unverified.kid is None:
                raise
            keys = await self._keysets.refresh_for(discovery_url_of(keys.issuer), unverified.kid)
            return jwt.verify(unverified, keys.keys, rules, now=self._clock())
