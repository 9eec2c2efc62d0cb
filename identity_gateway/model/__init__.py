"""The nouns of the field as frozen dataclasses: what the gateway knows, and what it keeps.

Nothing here reads or writes anything.
"""

from identity_gateway.model.principals import (
    IamPrincipal,
    JwtUser,
    NamedUser,
    User,
    WorkloadAccess,
    user_from_text,
    user_text,
    user_words,
)
from identity_gateway.model.realm import (
    CredentialKind,
    Realm,
)
from identity_gateway.model.records import (
    AccessKey,
    AgentRuntime,
    AgentRuntimeEndpoint,
    AgentRuntimeVersion,
    AuditRecord,
    AuditRepeat,
    CredentialProvider,
    Grant,
    GrantState,
    IdempotentResult,
    KeyCheck,
    ResourcePolicy,
    Role,
    SigningKey,
    Tag,
    TokenVault,
    WorkloadIdentity,
)
from identity_gateway.model.values import (
    Document,
    Secret,
)

__all__ = [
    "AccessKey",
    "AgentRuntime",
    "AgentRuntimeEndpoint",
    "AgentRuntimeVersion",
    "AuditRecord",
    "AuditRepeat",
    "CredentialKind",
    "CredentialProvider",
    "Document",
    "Grant",
    "GrantState",
    "IamPrincipal",
    "IdempotentResult",
    "JwtUser",
    "KeyCheck",
    "NamedUser",
    "Realm",
    "ResourcePolicy",
    "Role",
    "Secret",
    "SigningKey",
    "Tag",
    "TokenVault",
    "User",
    "WorkloadAccess",
    "WorkloadIdentity",
    "user_from_text",
    "user_text",
    "user_words",
]
