"""Requests that are signed with the gateway's own keys (AWS Signature Version 4)."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from identity_gateway.access_keys import AccessKeys
from identity_gateway.errors import MissingAuthentication
from identity_gateway.inbound.scheme import Scheme, scheme_of
from identity_gateway.model import IamPrincipal
from identity_gateway.protocol import sigv4
from identity_gateway.protocol.request import Request, SignedRequest


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
