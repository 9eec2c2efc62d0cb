"""The nouns of the field as frozen dataclasses: what the gateway knows, and what it keeps.

Records (classes that end in no suffix and start with `account`) are the durable ones: every key carries its account.
Nothing here reads or writes anything.
"""

from dataclasses import dataclass, field
from datetime import datetime
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
    """A SigV4 key of the gateway's own. A key that is neither `admin` nor has a `policy` may call nothing."""

    account: str
    id: str
    name: str
    sealed_secret: bytes = field(repr=False)
    admin: bool
    policy: Document | None
    created_at: datetime


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
    """A caller that signed with an access key of the gateway."""

    account: str
    access_key_id: str
    name: str
    admin: bool
    policy: Document | None = field(repr=False)

    @property
    def arn(self) -> str:
        """The principal as audit records name it."""
        return f"arn:aws:iam::{self.account}:user/{self.name}"
