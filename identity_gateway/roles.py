"""Roles: what callers become with temporary credentials. `policy` says what they may do, `trust` who may become it.

A trust document is the gateway's own form, because it names three kinds of callers that IAM's mixes:
`principals` (ARN patterns of this gateway's own keys and sessions), `webIdentity` (a `customJWTAuthorizer`: whose JWTs
are exchanged) and `awsPrincipals` (ARN patterns of real AWS principals who prove themselves by GetCallerIdentity).
This module makes no credentials and verifies nobody: `security_tokens` and `caller_identity` do.
"""

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from identity_gateway.egress import EgressRefused, check_url
from identity_gateway.errors import Conflict, FieldError, NotFound, ValidationFailed
from identity_gateway.identity_providers import IdentityProviders
from identity_gateway.model import Document, Realm, Role
from identity_gateway.protocol import policy as policies
from identity_gateway.records import AlreadyExists, Records, Transaction
from identity_gateway.records.changes import Watch
from identity_gateway.records.races import settled

SHORTEST_SESSION = 900
LONGEST_SESSION = 43_200
DEFAULT_SESSION = 3600
"""Seconds that a role may let its credentials live (AWS: MaxSessionDuration, and 15 minutes at least)."""

PRINCIPALS = "principals"
WEB_IDENTITY = "webIdentity"
AWS_PRINCIPALS = "awsPrincipals"

_WORKLOADS = "allowedWorkloadConfiguration"
"""The one rule of an authorizer that is about the call, not about the token."""

_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}", re.ASCII)
_MOST_PATTERNS = 100
# The account is always spelt out: a pattern for any account would trust whoever opens one.
_PRINCIPAL = re.compile(
    r"arn:aws:(?:iam::(?P<iam>[0-9]{12}):(?:user|role)|sts::(?P<sts>[0-9]{12}):assumed-role)/[A-Za-z0-9_+=,.@/*?-]+",
    re.ASCII,
)
_AWS_PRINCIPAL = re.compile(
    r"arn:aws(?:-cn|-us-gov)?:(?:iam::[0-9]{12}:(?:user|role)|sts::[0-9]{12}:(?:assumed-role|federated-user))"
    r"/[A-Za-z0-9_+=,.@/*?-]+",
    re.ASCII,
)


class Roles:
    """All roles of one account."""

    def __init__(
        self, records: Records, realm: Realm, providers: IdentityProviders, *, clock: Callable[[], float]
    ) -> None:
        self._records = records
        self._realm = realm
        self._providers = providers
        self._clock = clock

    async def create(
        self, name: str, policy: Document, trust: Document, *, max_session_seconds: int = DEFAULT_SESSION
    ) -> Role:
        """Make a role. Raises ValidationFailed with every fault, and Conflict when there is one of this name."""
        if not _NAME.fullmatch(name):
            raise ValidationFailed("The name of a role has 1 to 64 letters, digits or the characters _ + = , . @ -")
        now = self._now()
        made = Role(self._realm.account, name, policy, trust, max_session_seconds, created_at=now, updated_at=now)
        self._require_sound(made)
        try:
            async with self._records.write() as transaction:
                await transaction.create(made)
        except AlreadyExists:
            raise Conflict(f"A role named {name} exists already.") from None
        return made

    async def find(self, name: str) -> Role | None:
        """Return the role as it is now, or None."""
        return await self._records.current(Role, account=self._realm.account, name=name)

    def peek(self, name: str) -> tuple[Role, Watch] | None:
        """Return what `find` would, and what holds as long as it would again, where there is such a role in memory."""
        known = self._records.current_at_once(Role, account=self._realm.account, name=name)
        return None if known is None or known[1] is None else (known[1], known[0])

    async def get(self, name: str) -> Role:
        """Return the role as it is now. Raises NotFound: do not tell strangers which."""
        found = await self.find(name)
        if found is None:
            raise _unknown(name)
        return found

    async def list(self) -> list[Role]:
        """Return all roles, in the order of their names."""
        async with self._records.read() as transaction:
            return await transaction.list(Role, account=self._realm.account)

    async def update(
        self,
        name: str,
        *,
        policy: Document | None = None,
        trust: Document | None = None,
        max_session_seconds: int | None = None,
    ) -> Role:
        """Replace what is given. A new policy binds credentials that were issued before, too, from their next call."""

        async def effect(transaction: Transaction) -> Role:
            found = await transaction.get(Role, account=self._realm.account, name=name)
            if found is None:
                raise _unknown(name)
            changed = replace(
                found,
                policy=found.policy if policy is None else policy,
                trust=found.trust if trust is None else trust,
                max_session_seconds=found.max_session_seconds if max_session_seconds is None else max_session_seconds,
                updated_at=self._now(),
            )
            self._require_sound(changed)
            return await transaction.update(changed)

        return await settled(self._records, effect)

    async def delete(self, name: str) -> None:
        """Delete a role. Credentials that were issued for it stop working at once, also if a namesake is made."""
        async with self._records.write() as transaction:
            if not await transaction.delete(Role, account=self._realm.account, name=name):
                raise _unknown(name)

    def arn(self, name: str) -> str:
        """Return the ARN of a role of this account, whether there is one or not."""
        return f"arn:aws:iam::{self._realm.account}:role/{name}"

    def name_of(self, arn: str) -> str | None:
        """Return the name that an ARN gives to a role of this account, or None for any other ARN."""
        prefix = self.arn("")
        name = arn.removeprefix(prefix)
        return name if arn.startswith(prefix) and _NAME.fullmatch(name) else None

    def _require_sound(self, role: Role) -> None:
        faults = [FieldError(f"policy.{fault.name}", fault.message) for fault in policies.check(role.policy)]
        faults += _trust_faults(role.trust, self._realm.account, self._providers)
        if not SHORTEST_SESSION <= role.max_session_seconds <= LONGEST_SESSION:
            fault = f"must be {SHORTEST_SESSION} to {LONGEST_SESSION} seconds"
            faults.append(FieldError("maxSessionSeconds", fault))
        if faults:
            raise ValidationFailed("The role is not served by this gateway.", fields=tuple(faults))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def role_id(role: Role) -> str:
    """Return an id that a namesake, made later, does not have: it stands where AWS has AROA and letters."""
    digest = sha256(f"{role.account}/{role.name}/{role.created_at.timestamp()}".encode()).digest()
    return "IGRO" + base64.b32encode(digest).decode()[:16]


def trusts_principal(role: Role, names: Iterable[str]) -> bool:
    """Say whether the trust names one of the ARNs of a principal of this gateway (`IamPrincipal.names`)."""
    return _named(role.trust.get(PRINCIPALS), names)


def trusts_aws_principal(role: Role, names: Iterable[str]) -> bool:
    """Say whether the trust names one of the ARNs of a real AWS principal, who was proven before."""
    return _named(role.trust.get(AWS_PRINCIPALS), names)


def web_identity_of(role: Role) -> Document | None:
    """Return the authorizer whose JWTs may become the role, or None when no JWT may.

    One that asks for a calling workload lets nobody in: no workload shows itself at an exchange.
    """
    authorizer: Document | None = role.trust.get(WEB_IDENTITY)
    return None if authorizer is None or _WORKLOADS in authorizer else authorizer


def _named(patterns: Iterable[str] | None, names: Iterable[str]) -> bool:
    compiled = [policies.wildcard(pattern) for pattern in patterns or ()]
    return any(pattern.fullmatch(name) for name in names for pattern in compiled)


def _trust_faults(trust: Any, account: str, providers: IdentityProviders) -> list[FieldError]:
    if not isinstance(trust, dict):
        return [FieldError("trust", "must be a JSON object")]
    known = (PRINCIPALS, WEB_IDENTITY, AWS_PRINCIPALS)
    faults = [FieldError(f"trust.{name}", "is not an element of a trust") for name in sorted(trust.keys() - set(known))]
    if not any(trust.get(name) for name in known):
        faults.append(FieldError("trust", f"must name somebody: one of {', '.join(known)}"))
    faults += _pattern_faults(PRINCIPALS, trust.get(PRINCIPALS), _PRINCIPAL, account)
    faults += _pattern_faults(AWS_PRINCIPALS, trust.get(AWS_PRINCIPALS), _AWS_PRINCIPAL)
    if WEB_IDENTITY in trust:
        faults += _web_identity_faults(trust[WEB_IDENTITY], providers)
    return faults


def _pattern_faults(name: str, patterns: Any, form: re.Pattern[str], account: str | None = None) -> list[FieldError]:
    if patterns is None:
        return []
    if not isinstance(patterns, list) or len(patterns) > _MOST_PATTERNS:
        return [FieldError(f"trust.{name}", f"must be a list of at most {_MOST_PATTERNS} ARN patterns")]
    faults = []
    for place, pattern in enumerate(patterns):
        match = form.fullmatch(pattern) if isinstance(pattern, str) else None
        if match is None:
            why = "must be the ARN of a user, role or session, its account spelt out; * and ? may stand after the slash"
            faults.append(FieldError(f"trust.{name}[{place}]", why))
        elif account is not None and account not in match.groupdict().values():
            faults.append(FieldError(f"trust.{name}[{place}]", f"must be of the account of this gateway, {account}"))
    return faults


def _web_identity_faults(authorizer: Any, providers: IdentityProviders) -> list[FieldError]:
    name = f"trust.{WEB_IDENTITY}"
    if not isinstance(authorizer, dict) or not isinstance(authorizer.get("discoveryUrl"), str):
        return [FieldError(name, "must be the value of a customJWTAuthorizer, with a discoveryUrl")]
    faults = [FieldError(f"{name}: {fault.name}", fault.message) for fault in providers.check_authorizer(authorizer)]
    if _WORKLOADS in authorizer:
        faults.append(FieldError(f"{name}.{_WORKLOADS}", "cannot be asked of a role: no workload shows itself there"))
    try:
        check_url(authorizer["discoveryUrl"])
    except EgressRefused as error:
        faults.append(FieldError(f"{name}.discoveryUrl", str(error)))
    return faults


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no role named {name}.")
