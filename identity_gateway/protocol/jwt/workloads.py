"""Which agents may call on behalf of a token's bearer: AWS's `allowedWorkloadConfiguration` as a value.

It compares nothing: who the calling workload is, its workload access token proves to the invocation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from identity_gateway.errors import FieldError

_MOST = 10
_MEMBERS = ("hostingEnvironments", "workloadIdentities")


@dataclass(frozen=True, slots=True)
class AllowedWorkloads:
    """The workloads that may call: hosted by one of these environments (ARNs), or of one of these names.

    Either is enough, and one of the two is never empty.
    """

    hosting_environments: frozenset[str]
    workload_identities: frozenset[str]


def allowed_workloads(authorizer: Mapping[str, Any]) -> AllowedWorkloads | None:
    """Return the workloads that an authorizer asks for, None where it asks for none.

    Raises ValueError where the configuration is not one: a rule that cannot be read is not a rule that is absent.
    """
    if "allowedWorkloadConfiguration" not in authorizer:
        return None
    configuration = authorizer["allowedWorkloadConfiguration"]
    problems = list(workload_problems("allowedWorkloadConfiguration", configuration))
    if problems or configuration is None:
        raise ValueError("; ".join(f"{each.name} {each.message}" for each in problems) or "it is null")
    environments = configuration.get("hostingEnvironments") or ()
    return AllowedWorkloads(
        frozenset(each["arn"] for each in environments), frozenset(configuration.get("workloadIdentities") or ())
    )


def workload_problems(field: str, configuration: Any) -> Iterator[FieldError]:
    """Say what is wrong with the value of `allowedWorkloadConfiguration`; None is a configuration without it."""
    if configuration is None:
        return
    if not isinstance(configuration, Mapping) or not any(configuration.get(name) for name in _MEMBERS):
        yield FieldError(field, f"must have {' or '.join(_MEMBERS)}; empty lists count as nothing")
        return
    for name in configuration:
        if name not in _MEMBERS:
            yield FieldError(f"{field}.{name}", "is not a member that this gateway enforces")
    for name in _MEMBERS:
        values = configuration.get(name) or ()
        if not isinstance(values, list | tuple) or len(values) > _MOST:
            yield FieldError(f"{field}.{name}", f"must be a list of 1 to {_MOST}")
            return
    environments, names = (configuration.get(name) or () for name in _MEMBERS)
    if not all(isinstance(each, Mapping) and set(each) == {"arn"} and _is_name(each["arn"]) for each in environments):
        yield FieldError(f"{field}.hostingEnvironments", "must hold objects with an arn")
    if not all(_is_name(each) for each in names):
        yield FieldError(f"{field}.workloadIdentities", "must hold names that are not empty")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
