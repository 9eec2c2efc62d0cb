"""Requests that are signed with keys of the gateway's own, long-term or temporary (AWS Signature Version 4)."""

import math
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from identity_gateway.access_keys import AccessKeys
from identity_gateway.errors import (
    ExpiredCredentials,
    InvalidSignature,
    MissingAuthentication,
    Unauthenticated,
    UselessCredentials,
)
from identity_gateway.inbound.scheme import Scheme, scheme_of
from identity_gateway.model import AccessKey, IamPrincipal, Role, Secret
from identity_gateway.protocol import sigv4
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.records.changes import Watch
from identity_gateway.roles import Roles, role_id
from identity_gateway.temporary_credentials import TemporaryCredentials, TemporaryKey

_READY = 10_000
"""Keys that are kept ready to verify at once, at most."""

_MARGIN = 1e-6
"""Seconds: what is as close to its end as that may have ended for who counts in whole microseconds."""

_PORT = re.compile(r":[0-9]*\Z")


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that was presented and exists: its secret, and whom it proves or why it proves nobody any more."""

    secret: Secret = field(repr=False)
    stands_for: IamPrincipal | Unauthenticated


class _Ready:
    """A key that proves somebody for as long as the watch holds, which None does always, and until it expires."""

    __slots__ = ("access_key_id", "expires_at", "principal", "secret", "signing", "watch")

    def __init__(self, principal: IamPrincipal, secret: Secret, watch: Watch | None) -> None:
        self.access_key_id = principal.access_key_id
        self.expires_at = math.inf if principal.expires_at is None else principal.expires_at
        self.principal = principal
        self.secret = secret
        self.signing: sigv4.SigningKey | None = None
        self.watch = watch

    def signing_key(self, day: str, scope: sigv4.Scope) -> sigv4.SigningKey:
        """Return the key of the day: the last one is kept."""
        if self.signing is None or self.signing.day != day:
            self.signing = sigv4.SigningKey(self.secret, day, scope)
        return self.signing


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
        self._most_seconds = max_skew.total_seconds()
        self._forms = sigv4.Forms()
        self._ready: OrderedDict[str | bytes, _Ready] = OrderedDict()

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
        proven = _verified(presented, await self._key_of(presented), body_sha256)
        if not presented.in_query:
            self._forms.learn(presented)
        return proven

    def at_once(self, request: Request, body_sha256: str) -> tuple[IamPrincipal, SignedRequest] | None:
        """Return what `present` and `verify` would, without waiting, or None: then they say why, or find what is new.

        Known without waiting are keys and roles that are in memory as they are now, and requests of the form of one
        that was verified before. Nothing is believed that they would not believe.
        """
        reading = self._forms.read(request, body_sha256)
        principal = None if reading is None else self._prover(reading)
        return None if reading is None or principal is None else (principal, reading.proven(request))

    def likeness(self, request: Request, body_sha256: str, places: Mapping[bytes, int]) -> sigv4.Likeness | None:
        """Return what `at_once_like` reads requests by that are like this one, which `at_once` has let in."""
        return self._forms.likeness(request, body_sha256, places)

    def at_once_like(
        self, likeness: sigv4.Likeness, target: tuple[str, bytes, bytes], values: Sequence[bytes], body_sha256: str
    ) -> IamPrincipal | None:
        """Return whom `at_once` would, of a request like one that it has let in; see `sigv4.Forms.read_like`."""
        reading = self._forms.read_like(likeness, target, values, body_sha256)
        return None if reading is None else self._prover(reading)

    def _prover(self, reading: sigv4.Reading) -> IamPrincipal | None:
        """Return whose key made a signature in time, if that can be said without waiting."""
        now = self._clock()
        if abs(now - reading.signed_at) > self._most_seconds:
            return None
        token = reading.security_token
        name = reading.access_key_id if token is None else sha256(token).digest()
        ready = self._ready.get(name)
        if ready is None or not (ready.watch is None or ready.watch.holds()):
            ready = self._made_ready(name, reading)
        if ready is None or ready.access_key_id != reading.access_key_id or ready.expires_at <= now + _MARGIN:
            return None
        return ready.principal if reading.is_by(ready.signing_key(reading.day, self._scope)) else None

    def _made_ready(self, name: str | bytes, reading: sigv4.Reading) -> _Ready | None:
        """Keep the key of a request ready, under this name, if it is in memory and proves somebody."""
        self._ready.pop(name, None)
        made = self._ready_of(reading)
        if made is not None:
            self._ready[name] = made
            if len(self._ready) > _READY:
                self._ready.popitem(last=False)
        return made

    def _ready_of(self, reading: sigv4.Reading) -> _Ready | None:
        if reading.security_token is None:
            found = self._access_keys.peek(reading.access_key_id)
            whom = None if found is None else self._whom(found[0])
            return _Ready(whom, *found[1:]) if found is not None and isinstance(whom, IamPrincipal) else None
        key = self._temporary.open(reading.security_token.decode("latin-1"))
        role = None if key is None else self._roles.peek(key.role)
        if key is None or role is None:
            return None
        whom = self._in_role(key, role[0])
        return _Ready(whom, key.secret, role[1]) if isinstance(whom, IamPrincipal) else None

    async def _key_of(self, presented: sigv4.PresentedSignature) -> _Key | None:
        if presented.security_token is None:
            found = await self._access_keys.find(presented.access_key_id)
            return None if found is None else _Key(found[1], self._whom(found[0]))
        key = self._temporary.open(presented.security_token)
        # A token without its own key would let a long-term key borrow a session, and a session another's secret.
        if key is None or key.access_key_id != presented.access_key_id:
            return None
        role = None if self._temporary.is_expired(key) else await self._roles.find(key.role)
        return _Key(key.secret, self._in_role(key, role))

    def _whom(self, record: AccessKey) -> IamPrincipal | Unauthenticated:
        if record.disabled_at is not None:
            return UselessCredentials("The access key is disabled.", reason=f"access key {record.id} is disabled")
        if record.expires_at is not None and record.expires_at <= self._now():
            return ExpiredCredentials("The access key has expired.", reason=f"access key {record.id} has expired")
        until = None if record.expires_at is None else record.expires_at.timestamp()
        return IamPrincipal(
            record.account, record.id, record.name, admin=record.admin, policy=record.policy, expires_at=until
        )

    def _in_role(self, key: TemporaryKey, role: Role | None) -> IamPrincipal | Unauthenticated:
        if self._temporary.is_expired(key):
            why = f"session {key.session} of the role {key.role} has expired"
            return ExpiredCredentials("The security token included in the request is expired", reason=why)
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
