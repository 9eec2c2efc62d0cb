"""One policy decides one question, and names the statement that decided it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from identity_gateway.protocol.policy.conditions import AnyCondition
from identity_gateway.protocol.policy.patterns import Context, Pattern
from identity_gateway.protocol.policy.principals import ANONYMOUS, Caller, Principals


class Decision(StrEnum):
    """The answer of a policy."""

    ALLOWED = "allowed"
    EXPLICITLY_DENIED = "explicitly denied"
    NOT_ALLOWED = "not allowed by any statement"


@dataclass(frozen=True, slots=True)
class Question:
    """One action (`bedrock-agentcore:InvokeAgentRuntime`) on one resource ARN, by somebody, in a context.

    `unknown` are condition keys whose values will be known later. Asked with them, a policy answers whether it could
    still allow: what an Allow makes depend on them is taken to hold, what a Deny does is taken not to.
    """

    action: str
    resource: str
    context: Context = field(default_factory=dict)
    caller: Caller = ANONYMOUS
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy decided, and by which of its statements: `index` counts from 0, None where no statement did."""

    decision: Decision
    index: int | None = None
    sid: str | None = None

    @property
    def statement(self) -> str:
        """The statement in words: `Statement[1] (DenyOthers)`; empty where none decided."""
        if self.index is None:
            return ""
        return f"Statement[{self.index}] ({self.sid})" if self.sid else f"Statement[{self.index}]"


_NOTHING = Verdict(Decision.NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, read. `principals` is None in the policies of identities and sessions."""

    sid: str | None
    allows: bool
    actions: tuple[re.Pattern[str], ...]
    actions_inverted: bool
    resources: tuple[Pattern, ...]
    resources_inverted: bool
    conditions: tuple[AnyCondition, ...]
    principals: Principals | None

    @property
    def keys(self) -> frozenset[str]:
        """The condition keys that it looks at, by name or in a variable."""
        return frozenset[str]().union(*(each.keys for each in (*self.resources, *self.conditions)))

    def applies(self, asked: Question) -> bool:
        """Whether the statement speaks of this question."""
        return (
            any(pattern.fullmatch(asked.action) for pattern in self.actions) is not self.actions_inverted
            and (self.principals is None or self.principals.speaks_of(asked.caller, allows=self.allows))
            and self._covers(asked)
            and all(self._holds(condition, asked) for condition in self.conditions)
        )

    def _covers(self, asked: Question) -> bool:
        if any(not asked.unknown.isdisjoint(pattern.keys) for pattern in self.resources):
            return self.allows
        answers = [pattern.matches(asked.resource, asked.context) for pattern in self.resources]
        if not self.resources_inverted:
            return True in answers
        return True not in answers and not (self.allows and None in answers)  # as `Condition.holds` has it

    def _holds(self, condition: AnyCondition, asked: Question) -> bool:
        if not asked.unknown.isdisjoint(condition.keys):
            return self.allows
        return condition.holds(asked.context, allows=self.allows)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was checked and read. `keys` are the condition keys that it looks at."""

    statements: tuple[Statement, ...]
    keys: frozenset[str]

    def judge(self, asked: Question) -> Verdict:
        """Decide, and say by which statement: the first that denies, or else the first that allows."""
        allowed = _NOTHING
        for index, statement in enumerate(self.statements):
            if (statement.allows and allowed is not _NOTHING) or not statement.applies(asked):
                continue
            if not statement.allows:
                return Verdict(Decision.EXPLICITLY_DENIED, index, statement.sid)
            allowed = Verdict(Decision.ALLOWED, index, statement.sid)
        return allowed

    def judge_any(self, questions: Iterable[Question]) -> Verdict:
        """Decide about one thing of several names: a denial of any counts, then an allowance of any."""
        verdicts = [self.judge(question) for question in questions]
        for decision in (Decision.EXPLICITLY_DENIED, Decision.ALLOWED):
            if found := [verdict for verdict in verdicts if verdict.decision is decision]:
                return found[0]
        return _NOTHING

    def decide(self, action: str, resource: str, context: Context | None = None) -> Decision:
        """Decide one action on one resource ARN."""
        return self.judge(Question(action, resource, context or {})).decision

    def decide_all(self, action: str, resources: Iterable[str], context: Context | None = None) -> Decision:
        """Decide one action that touches several resources: each must be allowed. No resource at all is a denial."""
        decisions = [self.decide(action, resource, context) for resource in resources] or [Decision.NOT_ALLOWED]
        return next((decision for decision in decisions if decision is not Decision.ALLOWED), Decision.ALLOWED)

    def decide_any(self, action: str, names: Iterable[str], context: Context | None = None) -> Decision:
        """Decide one action on one resource of several names: a denial of any counts, then an allowance of any."""
        return self.judge_any([Question(action, name, context or {}) for name in names]).decision
