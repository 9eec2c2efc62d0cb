"""May this principal do this action on this resource? IAM JSON policies: of identities, of sessions, of resources.

Served: `Effect`, `Action` or `NotAction`, `Resource` or `NotResource`, `Condition` with every operator of IAM, policy
variables, and in resource policies `Principal` or `NotPrincipal`. An explicit deny wins and the default is deny (AWS
IAM: policy evaluation logic). A policy that uses what is not served is refused when it is given, never half obeyed.

`rulings` says how the policies of several places decide together. Nothing here reads a clock or a record.
"""

from identity_gateway.protocol.policy.documents import MOST, Kind, check, parse
from identity_gateway.protocol.policy.evaluation import Decision, Policy, Question, Statement, Verdict
from identity_gateway.protocol.policy.keys import CLAIMS, KEYS, Key
from identity_gateway.protocol.policy.patterns import Context, wildcard
from identity_gateway.protocol.policy.principals import ANONYMOUS, Caller
from identity_gateway.protocol.policy.rulings import NO_POLICY, Cause, Held, Ruling, rule

__all__ = [
    "ANONYMOUS",
    "CLAIMS",
    "KEYS",
    "MOST",
    "NO_POLICY",
    "Caller",
    "Cause",
    "Context",
    "Decision",
    "Held",
    "Key",
    "Kind",
    "Policy",
    "Question",
    "Ruling",
    "Statement",
    "Verdict",
    "check",
    "parse",
    "rule",
    "wildcard",
]
