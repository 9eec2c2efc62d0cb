"""Who acts: users, agents that act for them, and callers that signed."""

import json
from dataclasses import dataclass, field

from identity_gateway.model.values import Document, Secret


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
    """What a workload access token stands for: an agent and the user it acts for, if any. Times in seconds.

    `hosted` says that the agent received it from its runtime, with a call, instead of asking for it.
    """

    account: str
    workload: str
    user: User | None
    inbound_token: Secret | None
    actors: tuple[str, ...]
    issued_at: float
    expires_at: float
    hosted: bool = False


@dataclass(frozen=True, slots=True)
class IamPrincipal:
    """A caller that signed with an access key of the gateway, or with temporary credentials of a role.

    For a role, `name` is that of the role, `role_id` what no namesake of it has, and `session` the name of the session;
    `session_policies` narrow what the role's own policy allows. The name of a session anybody may choose: who was given
    its credentials for a JWT, `web_identity` says, by issuer and subject. `expires_at` is seconds since the epoch.
    """

    account: str
    access_key_id: str
    name: str
    admin: bool
    policy: Document | None = field(repr=False)
    session: str | None = None
    session_policies: tuple[Document, ...] = field(default=(), repr=False)
    expires_at: float | None = None
    role_id: str | None = None
    web_identity: str | None = None

    @property
    def user_id(self) -> str | None:
        """What policies call `aws:userid`: the id of the key; of a session the role's id, a colon, and its name.

        None for a session whose role has no id: one that is only supposed.
        """
        if self.session is None:
            return self.access_key_id
        return None if self.role_id is None else f"{self.role_id}:{self.session}"

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
