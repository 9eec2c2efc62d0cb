"""How the policies of an identity, of its session and of resources decide together, in one account.

An explicit denial of any of them wins. Otherwise each resource must be allowed, by the policy of the identity or by the
one that stands at the resource, and session policies must allow all of it, too (AWS IAM: policy evaluation within a
single account). Two callers differ: the account's administrator, whom only a denial at the resource binds, and the
bearer of a token that an authorizer accepted, who has no policy and whom a policy at the resource must allow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from identity_gateway.protocol.policy.evaluation import Decision, Policy, Question, Verdict
from identity_gateway.protocol.policy.patterns import Context
from identity_gateway.protocol.policy.principals import ANONYMOUS, Caller

ADMIN, TOKEN = "admin key", "token accepted by the authorizer"
NO_POLICY = "the key has no policy"

_UNLOCKING = frozenset(f"bedrock-agentcore:{verb}ResourcePolicy".lower() for verb in ("Put", "Get", "Delete"))
"""What no policy at a resource takes from the administrator: nobody locks the account out."""


@dataclass(frozen=True, slots=True)
class Held:
    """What decides about one caller: the policies that they bring, and those that stand at resources, by ARN."""

    caller: Caller = ANONYMOUS
    admin: bool = False
    identity: Policy | None = None
    sessions: tuple[Policy, ...] = ()
    standing: Mapping[str, Policy] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str]:
        """The condition keys that any of these policies looks at."""
        brought = () if self.identity is None else (self.identity,)
        return frozenset[str]().union(*(each.keys for each in (*brought, *self.sessions, *self.standing.values())))


@dataclass(frozen=True, slots=True)
class Cause:
    """One policy that decided about one resource, and by which of its statements."""

    policy: str
    resource: str
    verdict: Verdict

    @property
    def words(self) -> str:
        """The policy and the statement, without the resource."""
        return f"{self.policy}, {self.verdict.statement}" if self.verdict.statement else self.policy


@dataclass(frozen=True, slots=True)
class Ruling:
    """What all policies decided together. `words` is the reason where no statement is one."""

    decision: Decision
    causes: tuple[Cause, ...] = ()
    words: str = ""

    @property
    def reason(self) -> str:
        """Why, for records: never shown to the caller."""
        causes = "; ".join(dict.fromkeys(cause.words for cause in self.causes))
        if self.decision is Decision.ALLOWED:
            return ", ".join(filter(None, (self.words, causes)))
        return ": ".join(filter(None, (self.words or self.decision.value, causes)))


_EVERYBODY_SAYS_NO = Ruling(Decision.NOT_ALLOWED)


def rule(
    held: Held, action: str, resources: Sequence[str], context: Context, *, unknown: frozenset[str] = frozenset()
) -> Ruling:
    """Decide one action, with its prefix, on all of the resources. No resource at all is not allowed."""
    rulings = [_about(held, Question(action, each, context, held.caller, unknown)) for each in resources]
    for decision in (Decision.EXPLICITLY_DENIED, Decision.NOT_ALLOWED):
        if found := [ruling for ruling in rulings if ruling.decision is decision]:
            return found[0]
    if not rulings:
        return _EVERYBODY_SAYS_NO
    return Ruling(Decision.ALLOWED, tuple(cause for each in rulings for cause in each.causes), rulings[0].words)


def _about(held: Held, asked: Question) -> Ruling:
    """Decide about one resource."""
    standing = held.standing.get(asked.resource)
    at_resource = None if standing is None else Cause("resource policy", asked.resource, standing.judge(asked))
    if held.admin:
        return _for_admin(asked, at_resource)
    if at_resource is not None and at_resource.verdict.decision is Decision.EXPLICITLY_DENIED:
        return Ruling(Decision.EXPLICITLY_DENIED, (at_resource,))
    if held.caller == ANONYMOUS:
        return _for_bearer(at_resource)
    return _for_identity(held, asked, at_resource)


def _for_admin(asked: Question, at_resource: Cause | None) -> Ruling:
    denied = at_resource is not None and at_resource.verdict.decision is Decision.EXPLICITLY_DENIED
    if at_resource is not None and denied and asked.action.lower() not in _UNLOCKING:
        return Ruling(Decision.EXPLICITLY_DENIED, (at_resource,))
    return Ruling(Decision.ALLOWED, words=ADMIN)


def _for_bearer(at_resource: Cause | None) -> Ruling:
    if at_resource is None:
        return Ruling(Decision.ALLOWED, words=TOKEN)
    decision = at_resource.verdict.decision
    return Ruling(decision, (at_resource,), TOKEN if decision is Decision.ALLOWED else "")


def _for_identity(held: Held, asked: Question, at_resource: Cause | None) -> Ruling:
    brought = [Cause("session policy", asked.resource, policy.judge(asked)) for policy in held.sessions]
    own = None
    if held.identity is not None:
        own = Cause("identity policy", asked.resource, held.identity.judge(asked))
        brought.insert(0, own)
    for cause in brought:
        if cause.verdict.decision is Decision.EXPLICITLY_DENIED:
            return Ruling(Decision.EXPLICITLY_DENIED, (cause,))
    allowing = [
        cause for cause in (own, at_resource) if cause is not None and cause.verdict.decision is Decision.ALLOWED
    ]
    if not allowing:
        return Ruling(Decision.NOT_ALLOWED, words=NO_POLICY if held.identity is None else "")
    for cause in brought:
        if cause is not own and cause.verdict.decision is not Decision.ALLOWED:
            return Ruling(Decision.NOT_ALLOWED, (cause,))
    return Ruling(Decision.ALLOWED, (allowing[0],))
