"""Temporary credentials: an access key of a session of a role, and the session token that carries it.

The token is sealed and self-contained (AES-256-GCM, key of the hour): it holds the key's id and secret, so that any
replica verifies what was signed with it and nothing is stored. It names its role, and the role is read at each use:
what a role may do now is what its sessions may do now, and with the role its sessions end.
This module decides nobody's right to credentials, and keeps no record of them: whoever issues does.
"""

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from identity_gateway.access_keys import key_id
from identity_gateway.errors import FieldError, ValidationFailed
from identity_gateway.model import Document, Role, Secret
from identity_gateway.protocol import policy as policies
from identity_gateway.sealing import Sealer, Unsealable, from_text, to_text

SEALING_PERIOD = 3600
PREFIX = "IGTK"
"""What the ids of temporary keys begin with. Those of long-term keys begin with IGAK."""

MAX_POLICIES = 2048
"""Characters of all session policies of one session together, as JSON without blanks (AWS: 2,048 of one policy)."""

_MAX_TOKEN = 8192
_SESSION = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Issued:
    """Credentials as they are shown once. `expires_at` is seconds since the epoch."""

    access_key_id: str
    secret: Secret
    session_token: Secret
    expires_at: float


@dataclass(frozen=True, slots=True)
class TemporaryKey:
    """What a session token of this gateway holds. It may be expired, and its role may be gone: the reader checks.

    `role_made_at` tells a role from a namesake that was made after it. `source` is whoever was given the credentials.
    Times in seconds since the epoch.
    """

    access_key_id: str
    secret: Secret
    role: str
    role_made_at: float
    session: str
    session_policies: tuple[Document, ...] = field(repr=False)
    source: str
    issued_at: float
    expires_at: float

    def is_of(self, role: Role) -> bool:
        """Say whether this is the very role that the credentials were issued for, not a namesake."""
        return role.name == self.role and role.created_at.timestamp() == self.role_made_at


class TemporaryCredentials:
    """Issues and opens the temporary credentials of one account."""

    def __init__(self, sealer: Sealer, account: str, *, clock: Callable[[], float]) -> None:
        self._sealer = sealer
        self._place = (account, "session-token")
        self._clock = clock

    def issue(
        self,
        role: Role,
        session: str,
        *,
        session_policies: tuple[Document, ...] = (),
        lifetime: float,
        source: str,
    ) -> Issued:
        """Return credentials of a new session of the role.

        `lifetime` is in seconds and must not exceed what the role allows; the caller has cut it to what proved the
        caller (a JWT's rest of life). `source` is for records: the ARN, or issuer and subject, of who asked. Raises
        ValidationFailed. Does not check that `source` is trusted by the role.
        """
        self._require_sound(role, session, session_policies, lifetime)
        now = self._clock()
        made, secret, expires_at = key_id(PREFIX), secrets.token_urlsafe(30), float(int(now + lifetime))
        content: Document = {
            "k": made,
            "s": secret,
            "r": role.name,
            "c": role.created_at.timestamp(),
            "n": session,
            "p": session_policies,
            "o": source,
            "i": now,
            "e": expires_at,
        }
        sealed = self._sealer.seal(_json(content).encode(), place=self._place, now=now)
        return Issued(made, Secret(secret), Secret(to_text(sealed, padded=False)), expires_at)

    def open(self, session_token: str) -> TemporaryKey | None:
        """Return what a session token holds, or None when this gateway did not make it for this account.

        Does not check expiry, the role, or that the token belongs to the key beside which it was shown.
        """
        if len(session_token) > _MAX_TOKEN:
            return None
        try:
            content = json.loads(self._sealer.open(from_text(session_token, padded=False), place=self._place))
        except (ValueError, Unsealable):
            return None
        return TemporaryKey(
            access_key_id=content["k"],
            secret=Secret(content["s"]),
            role=content["r"],
            role_made_at=content["c"],
            session=content["n"],
            session_policies=tuple(content["p"]),
            source=content["o"],
            issued_at=content["i"],
            expires_at=content["e"],
        )

    def is_expired(self, key: TemporaryKey) -> bool:
        """Say whether the credentials have come to their end."""
        return key.expires_at <= self._clock()

    def _require_sound(self, role: Role, session: str, session_policies: tuple[Document, ...], lifetime: float) -> None:
        if not _SESSION.fullmatch(session):
            raise ValidationFailed("The name of a session has 2 to 64 letters, digits or the characters _ + = , . @ -")
        if not 1 <= lifetime <= role.max_session_seconds:
            raise ValidationFailed(
                f"Credentials of the role {role.name} live 1 to {role.max_session_seconds} seconds.",
                reason=f"asked for {lifetime:.0f} seconds",
            )
        faults = [
            FieldError(f"sessionPolicies[{place}].{fault.name}", fault.message)
            for place, policy in enumerate(session_policies)
            for fault in policies.check(policy)
        ]
        if faults:
            raise ValidationFailed("A session policy is not served by this gateway.", fields=tuple(faults))
        if sum(len(_json(policy)) for policy in session_policies) > MAX_POLICIES:
            raise ValidationFailed(f"The session policies are longer than {MAX_POLICIES} characters together.")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
