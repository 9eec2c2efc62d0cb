"""Records: what is durable. Every key carries its account."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from identity_gateway.model.values import Document


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
    id: int
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
class AuditRepeat:
    """A decision that was taken again, for another request: all else stands in the record that it `repeats`.

    Both are an `AuditRecord` to whoever reads.
    """

    account: str
    id: int
    at: datetime
    request_id: str
    source: str
    repeats: int


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """A sealed constant: it opens only under the master key that this database was last used with."""

    account: str
    name: str
    sealed: bytes = field(repr=False)


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
