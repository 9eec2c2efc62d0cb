"""Whom a resource policy speaks of: `Principal` and `NotPrincipal`.

Served: `"*"`, and under `AWS` the account, users, roles and sessions by their whole ARN. Services, federations and
canonical users do not call this gateway: a policy that names them is refused.
"""

import re
from dataclasses import dataclass
from typing import Any

_ARN = re.compile(
    r"arn:aws(?:-cn|-us-gov)?:(?:iam::[0-9]{12}:(?:(?P<root>root)|(?:user|role)/[A-Za-z0-9_+=,.@/-]{1,576})"
    r"|sts::[0-9]{12}:assumed-role/[A-Za-z0-9_+=,.@-]{1,64}/[A-Za-z0-9_+=,.@-]{2,64})",
    re.ASCII,
)
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
ANYBODY = "*"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: every ARN under which policies may name them, and their account. Without names, the bearer of a JWT."""

    names: tuple[str, ...] = ()
    account: str | None = None


ANONYMOUS = Caller()


@dataclass(frozen=True, slots=True)
class Principals:
    """Whom one statement names."""

    anybody: bool
    arns: frozenset[str]
    accounts: frozenset[str]
    inverted: bool

    def speaks_of(self, caller: Caller, *, allows: bool) -> bool:
        """Whether the statement is about this caller.

        To allow an account is to let the policies of its own identities decide, as in AWS: by itself it allows nobody
        of them anything. To deny an account is to deny all of them.
        """
        named = self.anybody or not self.arns.isdisjoint(caller.names)
        of_account = caller.account is not None and caller.account in self.accounts
        if self.inverted:
            return not (named or of_account)
        return named or (of_account and not allows)


def faults_of(value: Any) -> list[str]:
    """Return what is wrong with a `Principal` or `NotPrincipal`."""
    if value == ANYBODY:
        return []
    if not isinstance(value, dict) or not value:
        return ['must be "*" or an object with the member AWS']
    faults = [f"{kind} principals do not call this gateway" for kind in sorted(value.keys() - {"AWS"})]
    named = _listed(value.get("AWS", []))
    if "AWS" in value and not named:
        faults.append("must name somebody")
    for name in named:
        known = isinstance(name, str) and (name == ANYBODY or _ACCOUNT.fullmatch(name) or _ARN.fullmatch(name))
        if not known:
            faults.append("must name an account, or the whole ARN of a user, a role or a session; no wildcard but *")
            break
    return faults


def principals_of(value: Any, *, inverted: bool) -> Principals:
    """Return whom a value without faults names."""
    named = [ANYBODY] if value == ANYBODY else _listed(value["AWS"])
    accounts = {name for name in named if _ACCOUNT.fullmatch(name)}
    arns = set(named) - accounts - {ANYBODY}
    roots = {arn for arn in arns if (match := _ARN.fullmatch(arn)) and match["root"]}
    accounts |= {arn.split(":")[4] for arn in roots}
    return Principals(ANYBODY in named, frozenset(arns - roots), frozenset(accounts), inverted)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
