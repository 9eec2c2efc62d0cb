"""`identity-gateway policy`: what policies decide, and by which statement, before anybody is given one.

Looks at files, or at the keys, roles and resource policies that are kept. Changes nothing.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from identity_gateway.cli.opened import AsJson, DataDir, fail, loaded, policy_of, with_state

policies = typer.Typer(help="Try policies out: who may do what, and which statement says so.", no_args_is_help=True)

_ANONYMOUS = "anonymous"
_ARN = re.compile(r"arn:aws:(?:iam::[0-9]{12}:user/([^/]+)|sts::[0-9]{12}:assumed-role/([^/]+)/([^/]+))")


@policies.command("check", epilog="Example: identity-gateway policy check web.json")
def check(
    file: Annotated[Path, typer.Argument(help="File with a policy (JSON).")],
    resource: Annotated[
        str | None, typer.Option(help="ARN of the runtime or endpoint at which it shall stand: a resource policy.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say every fault of a policy that the gateway would not take. Exit code 0: it takes it."""
    from identity_gateway.protocol import policy  # noqa: PLC0415 - not needed for --help

    kind = policy.Kind.IDENTITY if resource is None else policy.Kind.RESOURCE
    faults = policy.check(policy_of(file), kind=kind, resource=resource)
    if as_json:
        rows = [{"name": fault.name, "message": fault.message} for fault in faults]
        print(json.dumps({"accepted": not faults, "faults": rows}))
    else:
        for fault in faults:
            print(f"{fault.name}: {fault.message}")
        print("The gateway would not take this policy." if faults else "The gateway takes this policy.")
    sys.exit(1 if faults else 0)


@dataclass(frozen=True)
class _Simulation:
    """What was asked on the command line: whose policies, and what about."""

    action: str
    resources: Sequence[str]
    policy: Path | None
    session_policy: Path | None
    access_key: str | None
    role: str | None
    principal: str | None
    context: Mapping[str, tuple[str, ...]]
    standing: Mapping[str, Any]


@policies.command(
    "simulate",
    epilog="Example: identity-gateway policy simulate --policy web.json --action bedrock-agentcore:InvokeAgentRuntime "
    "--resource RUNTIME_ARN --resource ENDPOINT_ARN --context aws:SourceIp=203.0.113.7",
)
def simulate(
    action: Annotated[str, typer.Option(help="Action with its prefix: bedrock-agentcore:InvokeAgentRuntime.")],
    resource: Annotated[list[str], typer.Option(help="ARN that the action touches; again for each of them.")],
    policy_file: Annotated[Path | None, typer.Option("--policy", help="File with the caller's policy (JSON).")] = None,
    session_policy: Annotated[Path | None, typer.Option(help="File with the policy of the caller's session.")] = None,
    resource_policy: Annotated[
        list[Path] | None, typer.Option(help="File with a resource policy: it stands at the ARN that it names.")
    ] = None,
    access_key: Annotated[str | None, typer.Option(help="Name or id of a key: its policy is the caller's.")] = None,
    role: Annotated[str | None, typer.Option(help="Name of a role: its policy is the caller's.")] = None,
    principal: Annotated[
        str | None, typer.Option(help="ARN of the caller; or `anonymous`, the bearer of a token that was accepted.")
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="Condition key as KEY=VALUE; again for several values.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a caller would be allowed, and which statement decides. Exit code 0: allowed.

    With --access-key or --role, the resource policies that are kept count, too. The time is the present one, and
    nothing else about the request is known but what --context says.
    """
    if sum(each is not None for each in (policy_file, access_key, role)) > 1:
        fail("say one of --policy, --access-key and --role")
    asked = _Simulation(
        action,
        resource,
        policy_file,
        session_policy,
        access_key,
        role,
        principal,
        _values(context or []),
        _at_resources(resource_policy or []),
    )
    if access_key is not None or role is not None:
        ruling = with_state(data_dir, lambda state: _ruled_by_state(state, asked))
    else:
        ruling = asyncio.run(_ruled_by_files(loaded(data_dir=data_dir), asked))
    _show(ruling, as_json=as_json)
    sys.exit(0 if ruling.decision.value == "allowed" else 1)


def _values(given: list[str]) -> dict[str, tuple[str, ...]]:
    from identity_gateway.protocol.policy import KEYS  # noqa: PLC0415 - not needed for --help

    values: dict[str, tuple[str, ...]] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or key.lower() not in KEYS:
            fail(f"--context {each}: KEY=VALUE with one of {', '.join(known.name for known in KEYS.values())}")
        values[key.lower()] = (*values.get(key.lower(), ()), value)
    return values


def _at_resources(files: list[Path]) -> dict[str, Any]:
    from identity_gateway.protocol.policy import Kind  # noqa: PLC0415 - not needed for --help

    standing = {}
    for file in files:
        read = _read(file, Kind.RESOURCE)
        statements = policy_of(file)["Statement"]
        first = (statements[0] if isinstance(statements, list) else statements).get("Resource")
        if not isinstance(first, str):
            fail(f"{file}: a resource policy names its one resource as a string")
        standing[first] = read
    return standing


def _read(file: Path, kind: Any) -> Any:
    from identity_gateway.protocol import policy  # noqa: PLC0415 - not needed for --help

    try:
        return policy.parse(policy_of(file), kind=kind)
    except ValueError as error:
        fail(f"{file}: {error}")


async def _ruled_by_files(settings: Any, asked: _Simulation) -> Any:
    from identity_gateway.model import IamPrincipal  # noqa: PLC0415 - slow to import, and not needed for --help
    from identity_gateway.protocol.policy import Kind  # noqa: PLC0415

    if asked.principal == _ANONYMOUS:
        return await _ruled(asked, None, settings.region)
    document = policy_of(asked.policy) if asked.policy else None
    if asked.policy:
        _read(asked.policy, Kind.IDENTITY)
    named = _ARN.fullmatch(asked.principal or f"arn:aws:iam::{settings.account_id}:user/simulated")
    if named is None:
        fail("--principal is the ARN of a user (arn:aws:iam::ACCOUNT:user/NAME) or session, or `anonymous`")
    caller = IamPrincipal(
        settings.account_id,
        "IGAKSIMULATED",
        named[1] or named[2],
        admin=False,
        policy=document,
        session=named[3],
        session_policies=_session_policies(asked),
    )
    return await _ruled(asked, caller, settings.region)


async def _ruled_by_state(state: Any, asked: _Simulation) -> Any:
    # Slow to import, and not needed for --help.
    from identity_gateway.errors import NotFound  # noqa: PLC0415
    from identity_gateway.model import IamPrincipal  # noqa: PLC0415
    from identity_gateway.resource_policies import ResourcePolicies  # noqa: PLC0415
    from identity_gateway.roles import Roles, role_id  # noqa: PLC0415

    account, narrowed = state.realm.account, _session_policies(asked)
    if asked.role is not None:
        role = await Roles(state.records, state.realm, state.identity_providers, clock=time.time).get(asked.role)
        caller = IamPrincipal(
            account, "IGTKSIMULATED", role.name, False, role.policy, "simulated", narrowed, role_id=role_id(role)
        )
    else:
        keys = [key for key in await state.access_keys.list() if asked.access_key in {key.id, key.name}]
        if not keys:
            raise NotFound(f"There is no access key {asked.access_key}.")
        caller = IamPrincipal(account, keys[0].id, keys[0].name, keys[0].admin, keys[0].policy, None, narrowed)
    kept = await ResourcePolicies(state.records, state.realm, clock=time.time).standing_at(asked.resources)
    return await _ruled(asked, caller, state.realm.region, kept)


def _session_policies(asked: _Simulation) -> tuple[dict[str, Any], ...]:
    from identity_gateway.protocol.policy import Kind  # noqa: PLC0415 - not needed for --help

    if asked.session_policy is None:
        return ()
    _read(asked.session_policy, Kind.IDENTITY)
    return (policy_of(asked.session_policy),)


class _Standing:
    """Resource policies of files, before those that are kept."""

    def __init__(self, policies: Mapping[str, Any]) -> None:
        self._policies = policies

    async def standing_at(self, resources: Sequence[str]) -> Mapping[str, Any]:
        return {arn: found for arn, found in self._policies.items() if arn in resources}


async def _ruled(asked: _Simulation, caller: Any, region: str, kept: Mapping[str, Any] | None = None) -> Any:
    from identity_gateway.authorization import Asked, Authorization, request_context  # noqa: PLC0415 - as above

    service, colon, action = asked.action.partition(":")
    if not colon:
        fail("--action has its prefix: bedrock-agentcore:InvokeAgentRuntime")
    now = request_context("", time.time())
    known = {key: values for key, values in now.items() if key in {"aws:currenttime", "aws:epochtime"}}
    question = Asked(action, tuple(asked.resources), {**known, **asked.context}, service)
    authorization = Authorization(_Standing({**(kept or {}), **asked.standing}), region=region)
    return await authorization.rule(caller, question)


def _show(ruling: Any, *, as_json: bool) -> None:
    if as_json:
        statements = [
            {
                "policy": cause.policy,
                "resource": cause.resource,
                "statement": cause.verdict.index,
                "sid": cause.verdict.sid,
            }
            for cause in ruling.causes
        ]
        print(json.dumps({"decision": ruling.decision.value, "reason": ruling.reason, "statements": statements}))
        return
    said = ruling.reason
    print(said if said.startswith(ruling.decision.value) else f"{ruling.decision.value}: {said}")
    for cause in ruling.causes:
        print(f"  {cause.words:<40} {cause.resource}")
