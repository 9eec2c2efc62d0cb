"""The nouns of the field as frozen dataclasses: what the gateway knows, and what it keeps.

Records (classes that end in no suffix and start with `account`) are the durable ones: every key carries its account.
Nothing here reads or writes anything.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Document = dict[str, Any]
"""A JSON object, in the member names of the AWS models."""


class Secret:
    """A value that must not be shown. Its `repr` is `<secret>`; compare with `hmac.compare_digest(a.reveal(), …)`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself. Every call site is a place to look at."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> str:
        message = "a secret cannot be pickled"
        raise TypeError(message)


@dataclass(frozen=True, slots=True)
class Realm:
    """Where every resource of this gateway lives: AWS partition, region and account (twelve digits)."""

    account: str
    region: str
    partition: str = "aws"

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource of this realm, for example `runtime/hello-AbCdEf1234`."""
        return f"arn:{self.partition}:bedrock-agentcore:{self.region}:{self.account}:{resource}"

    def runtime_arn(self, runtime_id: str) -> str:
        """Return the ARN of an agent runtime."""
        return self.arn(f"runtime/{runtime_id}")

    def endpoint_arn(self, runtime_id: str, name: str) -> str:
        """Return the ARN of an agent runtime endpoint."""
        return self.arn(f"runtime/{runtime_id}/runtime-endpoint/{name}")

    def workload_identity_arn(self, name: str) -> str:
        """Return the ARN of a workload identity in the one implicit directory."""
        return self.arn(f"workload-identity-directory/default/workload-identity/{name}")

    def token_vault_arn(self, vault: str = "default") -> str:
        """Return the ARN of a token vault; `default` is the one that every account has."""
        return self.arn(f"token-vault/{vault}")

    def grant_arn(self, grant_id: str) -> str:
        """Return the ARN of a grant: the gateway's own, AWS has none."""
        return self.arn(f"token-vault/default/grant/{grant_id}")

    def credential_provider_arn(self, kind: "CredentialKind", name: str) -> str:
        """Return the ARN of a credential provider in the default token vault."""
        return self.arn(f"token-vault/default/{kind.value}credentialprovider/{name}")


# --- Records: durable, keyed by account -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentRuntime:
    """An agent that stands behind the gateway. `version` is the newest version; DEFAULT follows it."""

    account: str
    id: str
    name: str
    version: int
    created_at: datetime
    updated_at: datetime
    revision: int = 1


@dataclass(frozen=True, slots=True)
class AgentRuntimeVersion:
    """One immutable version of a runtime: the configuration it was given, in AWS member names."""

    account: str
    runtime_id: str
    version: int
    configuration: Document
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AgentRuntimeEndpoint:
    """A name that callers use as `qualifier`. DEFAULT follows the newest version, the others stay where they are."""

    account: str
    runtime_id: str
    name: str
    id: str
    version: int
    description: str | None
    created_at: datetime
    updated_at: datetime
    revision: int = 1


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """Who an agent is when it asks for credentials. `managed_by` names the runtime that it was born with, if any."""

    account: str
    name: str
    return_urls: tuple[str, ...]
    managed_by: str | None
    created_at: datetime
    updated_at: datetime
    revision: int = 1


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A SigV4 key of the gateway's own. A key that is neither `admin` nor has a `policy` may call nothing.

    A key that was disabled, or has expired, signs nothing.
    """

    account: str
    id: str
    name: str
    sealed_secret: bytes = field(repr=False)
    admin: bool
    policy: Document | None
    created_at: datetime
    disabled_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """What a caller becomes with temporary credentials: `policy` says what they may do, `trust` who may become it."""

    account: str
    name: str
    policy: Document
    trust: Document
    max_session_seconds: int
    created_at: datetime
    updated_at: datetime
    revision: int = 1


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """The policy that stands at a resource, by its ARN: who may do what to it."""

    account: str
    resource: str
    document: Document
    created_at: datetime
    updated_at: datetime
    revision: int = 1


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key with which the gateway signs JWTs of its own. `public` is its JWK; retired keys sign no more."""

    account: str
    id: str
    algorithm: str
    sealed_private: bytes = field(repr=False)
    public: Document
    created_at: datetime
    retired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag of one resource."""

    account: str
    resource: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class IdempotentResult:
    """What a call with this `clientToken` answered the first time, and the digest of what it was asked."""

    account: str
    operation: str
    token: str
    digest: bytes
    result: Document
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One decision: who asked for what on which resource, what was decided and why. Never holds a credential."""

    account: str
    id: str
    at: datetime
    request_id: str
    principal: str
    action: str
    resource: str
    decision: str
    reason: str
    source: str
    details: Document


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """A sealed constant: it opens only under the master key that this database was last used with."""

    account: str
    name: str
    sealed: bytes = field(repr=False)


class CredentialKind(StrEnum):
    """What a credential provider gives. The value is the word that AWS uses in ARNs."""

    OAUTH2 = "oauth2"
    API_KEY = "apikey"


@dataclass(frozen=True, slots=True)
class CredentialProvider:
    """A client at a vendor, or an API key. `id` is unguessable and never used again: a namesake is another provider.

    `vendor` is AWS's word for the vendor ("" for an API key). `configuration` has AWS member names and no secret;
    `settings` are the gateway's own: variables of the descriptor, and the names of the secrets that were set.
    `sealed_secrets` is a sealed JSON object of secrets by name. With `secret_source` EXTERNAL, `external` says where
    the client secret or API key stands (`secretId`, `jsonKey`).
    """

    account: str
    kind: str
    name: str
    id: str
    vendor: str
    configuration: Document
    settings: Document
    secret_source: str
    external: Document | None
    sealed_secrets: bytes = field(repr=False)
    created_at: datetime
    updated_at: datetime
    revision: int = 1


class GrantState(StrEnum):
    """Whether a grant can be used. No failure deletes a grant: it changes its state."""

    ACTIVE = "active"
    NEEDS_CONSENT = "needs_consent"
    NEEDS_ADMIN = "needs_admin"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Grant:
    """What one user gave one agent at one provider: one credential of one consent.

    `lookup` is the digest of everything that a request must have in common with the consent: account, agent, user,
    provider, scopes, parameters, part. It is the key that keeps users apart; the columns beside it are for lists, and
    are compared again when a grant is found. `part` tells several credentials of one consent from one another.

    `generation` counts consents and rotations: whoever writes must have seen the present one. `intent_*` is the
    journal of a refresh under way: who began it, when, and the digest of the refresh token that was sent.
    `sealed` is empty once the grant was revoked.
    """

    account: str
    id: str
    lookup: str
    workload: str
    user: str
    provider: str
    provider_id: str
    part: str
    scopes: tuple[str, ...]
    granted_scopes: tuple[str, ...]
    request: Document
    state: str
    reason: str
    vendor_account: str
    vendor_subject: str
    label: str
    generation: int
    expires_at: datetime | None
    refresh_expires_at: datetime | None
    sealed: bytes = field(repr=False)
    refresh_digest: str
    intent_owner: str | None
    intent_at: datetime | None
    intent_digest: str | None
    failures: int
    retry_at: datetime | None
    obtained_at: datetime
    created_at: datetime
    updated_at: datetime
    revision: int = 1


@dataclass(frozen=True, slots=True)
class TokenVault:
    """Which key wraps the data keys of an account's vault. `key_type` and `kms_key_arn` are AWS's words."""

    account: str
    id: str
    key_type: str
    kms_key_arn: str | None
    modified_at: datetime
    revision: int = 1


# --- Who acts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JwtUser:
    """A user proven by a JWT: issuer and subject. Never equal to a `NamedUser`, whatever the subject says."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class NamedUser:
    """A user that a trusted caller named; nobody verified the name."""

    id: str


User = JwtUser | NamedUser


def user_words(user: User | None) -> list[str] | None:
    """Return the user as audit records name it: `["jwt", issuer, subject]`, `["id", name]`, or None for nobody."""
    match user:
        case JwtUser(issuer, subject):
            return ["jwt", issuer, subject]
        case NamedUser(id=named):
            return ["id", named]
    return None


def user_text(user: User | None) -> str:
    """Return the one way to write a user in keys, records and seals: a JSON array whose first word is the namespace."""
    return json.dumps(user_words(user) or [], separators=(",", ":"), ensure_ascii=False)


def user_from_text(text: str) -> User | None:
    """Return the user that `user_text` wrote. Raises ValueError for anything else."""
    match json.loads(text):
        case ["jwt", str(issuer), str(subject)]:
            return JwtUser(issuer, subject)
        case ["id", str(named)]:
            return NamedUser(named)
        case []:
            return None
    raise ValueError("not a user")


@dataclass(frozen=True, slots=True)
class WorkloadAccess:
    """What a workload access token stands for: an agent and the user it acts for, if any. Times in seconds."""

    account: str
    workload: str
    user: User | None
    inbound_token: Secret | None
    actors: tuple[str, ...]
    issued_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class IamPrincipal:
    """A caller that signed with an access key of the gateway, or with temporary credentials of a role.

    For a role, `name` is that of the role and `session` that of the session; `session_policies` narrow what the role's
    own policy allows. `expires_at` is seconds since the epoch.
    """

    account: str
    access_key_id: str
    name: str
    admin: bool
    policy: Document | None = field(repr=False)
    session: str | None = None
    session_policies: tuple[Document, ...] = field(default=(), repr=False)
    expires_at: float | None = None

    @property
    def arn(self) -> str:
        """The principal as audit records name it."""
        if self.session is not None:
            return f"arn:aws:sts::{self.account}:assumed-role/{self.name}/{self.session}"
        return f"arn:aws:iam::{self.account}:user/{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every ARN under which policies may name the principal: the account's root is not among them."""
        if self.session is not None:
            return (self.arn, f"arn:aws:iam::{self.account}:role/{self.name}")
        return (self.arn,)
