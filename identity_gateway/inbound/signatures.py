"""Requests that are signed with keys of the gateway's own, long-term or temporary (AWS Signature Version 4)."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from identity_gateway.access_keys import AccessKeys
from identity_gateway.errors import (
    ExpiredCredentials,
    InvalidSignature,
    MissingAuthentication,
    Unauthenticated,
    UselessCredentials,
)
from identity_gateway.inbound.scheme import Scheme, scheme_of
from identity_gateway.model import AccessKey, IamPrincipal, Secret
from identity_gateway.protocol import sigv4
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.roles import Roles, role_id
from identity_gateway.temporary_credentials import TemporaryCredentials, TemporaryKey

_PORT = re.compile(r":[0-9]*\Z")


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that was presented and exists: its secret, and whom it proves or why it proves nobody any more."""

    secret: Secret = field(repr=False)
    stands_for: IamPrincipal | Unauthenticated


class Signatures:
    """Authenticates requests that are signed for one scope (region and signing name) with keys of the gateway.

    `hosts` are the names, in lower case and without a port, that a request may be signed for; none stands for any: the
    same key may then be shown a request that its holder meant for another gateway with that key.
    """

    def __init__(
        self,
        access_keys: AccessKeys,
        temporary: TemporaryCredentials,
        roles: Roles,
        scope: sigv4.Scope,
        *,
        clock: Callable[[], float],
        max_skew: timedelta,
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._hosts = hosts
        self._access_keys = access_keys
        self._temporary = temporary
        self._roles = roles
        self._scope = scope
        self._clock = clock
        self._max_skew = max_skew

    def present(self, request: Request) -> sigv4.PresentedSignature:
        """Read the signature in the Authorization header and refuse whatever can be refused before the body was read.

        Raises ValidationFailed or Unauthenticated. Does not look the key up.
        """
        if scheme_of(request) not in {Scheme.SIGNATURE, Scheme.OTHER}:
            raise MissingAuthentication
        self._check_host(request)
        return sigv4.parse(request, scope=self._scope, now=self._now(), max_skew=self._max_skew)

    def present_query(self, request: Request) -> sigv4.PresentedSignature:
        """Read the signature of a presigned URL, for a door that takes one (WebSocket handshakes: GET, no body).

        Whether there is one to read, `sigv4.is_presigned` says. Raises ValidationFailed or Unauthenticated, also when
        an Authorization header stands beside it. Verify what it returns by `verify`, with `EMPTY_SHA256`.
        """
        self._check_host(request)
        return sigv4.parse_query(request, scope=self._scope, now=self._now(), max_skew=self._max_skew)

    def _check_host(self, request: Request) -> None:
        """Refuse a Host that is no name of this gateway. That it is signed, and once there, is checked elsewhere."""
        if not self._hosts:
            return
        named = (request.header(b"host") or b"").decode("latin-1").lower()
        if _PORT.sub("", named) not in self._hosts:
            raise InvalidSignature(reason="the Host is none of SIGNED_HOSTS")

    async def refuse_stranger(self, presented: sigv4.PresentedSignature, digest: Callable[[], Awaitable[str]]) -> None:
        """Refuse a key that proves nobody, after the same reading as a bad signature, but without keeping the body.

        Whoever invents a key id, or found an old one, must not fill the memory or the disk of those who have one.
        """
        key = await self._key_of(presented)
        if key is None or isinstance(key.stands_for, Unauthenticated):
            _verified(presented, key, await digest())

    async def verify(self, presented: sigv4.PresentedSignature, body_sha256: str) -> tuple[IamPrincipal, SignedRequest]:
        """Return who signed and what was signed.

        An unknown key, a session token of another key, and a bad signature answer alike (InvalidSignature). Whoever
        has the secret is told that the key has expired (ExpiredCredentials), or was disabled or has lost its role
        (UselessCredentials). `IamPrincipal.expires_at` says when the credentials end.
        """
        return _verified(presented, await self._key_of(presented), body_sha256)

    async def _key_of(self, presented: sigv4.PresentedSignature) -> _Key | None:
        if presented.security_token is None:
            found = await self._access_keys.find(presented.access_key_id)
            return None if found is None else _Key(found[1], self._whom(found[0]))
        key = self._temporary.open(presented.security_token)
        # A token without its own key would let a long-term key borrow a session, and a session another's secret.
        if key is None or key.access_key_id != presented.access_key_id:
            return None
        return _Key(key.secret, await self._session(key))

    def _whom(self, record: AccessKey) -> IamPrincipal | Unauthenticated:
        if record.disabled_at is not None:
            return UselessCredentials("The access key is disabled.", reason=f"access key {record.id} is disabled")
        if record.expires_at is not None and record.expires_at <= self._now():
            return ExpiredCredentials("The access key has expired.", reason=f"access key {record.id} has expired")
        until = None if record.expires_at is None else record.expires_at.timestamp()
        return IamPrincipal(
            record.account, record.id, record.name, admin=record.admin, policy=record.policy, expires_at=until
        )

    async def _session(self, key: TemporaryKey) -> IamPrincipal | Unauthenticated:
        if self._temporary.is_expired(key):
            why = f"session {key.session} of the role {key.role} has expired"
            return ExpiredCredentials("The security token included in the request is expired", reason=why)
        role = await self._roles.find(key.role)
        if role is None or not key.is_of(role):
            return UselessCredentials(
                "The role of these temporary credentials does not exist any more.", reason=f"role {key.role} is gone"
            )
        return IamPrincipal(
            role.account,
            key.access_key_id,
            role.name,
            admin=False,
            policy=role.policy,
            session=key.session,
            session_policies=key.session_policies,
            expires_at=key.expires_at,
            role_id=role_id(role),
            web_identity=None if key.source.startswith("arn:") else key.source,
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _verified(
    presented: sigv4.PresentedSignature, key: _Key | None, body_sha256: str
) -> tuple[IamPrincipal, SignedRequest]:
    """Return the principal and the proof. Only who signed with the secret hears that the key is of no use."""
    if key is None:
        sigv4.verify_unknown(presented, body_sha256)
    signed = sigv4.verify(presented, key.secret, body_sha256)
    if isinstance(key.stands_for, Unauthenticated):
        raise key.stands_for
    return key.stands_for, signed
