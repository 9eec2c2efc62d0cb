"""`identity-gateway role`: what callers become with temporary credentials."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from identity_gateway.cli.opened import AsJson, DataDir, policy_of, with_state
from identity_gateway.model import Role

roles = typer.Typer(help="Roles, which callers assume for temporary credentials.", no_args_is_help=True)


@roles.command("create", epilog="Example: identity-gateway role create --name ci --policy ci.json --trust trust.json")
def create_role(
    name: Annotated[str, typer.Option(help="A name that no other role has.")],
    policy: Annotated[Path, typer.Option(help="File with an IAM policy (JSON): what the role may do.")],
    trust: Annotated[Path, typer.Option(help="File that says who may assume the role (JSON).")],
    max_session_seconds: Annotated[int, typer.Option(help="Longest life of its credentials, 900 to 43200.")] = 3600,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a role."""
    document, trusted = policy_of(policy), policy_of(trust)
    made = with_state(
        data_dir,
        lambda state: _roles(state).create(name, document, trusted, max_session_seconds=max_session_seconds),
    )
    _show(made, as_json=as_json)


@roles.command("list", epilog="Example: identity-gateway role list --json")
def list_roles(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the roles."""
    found = with_state(data_dir, lambda state: _roles(state).list())
    if as_json:
        print(json.dumps([_row(role) for role in found]))
        return
    for role in found:
        print(f"{role.name:<32} {', '.join(sorted(role.trust)):<40} {role.created_at.isoformat()}")


@roles.command("show", epilog="Example: identity-gateway role show ci")
def show_role(name: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a role: its policy, and who may assume it."""
    _show(with_state(data_dir, lambda state: _roles(state).get(name)), as_json=as_json)


@roles.command("update", epilog="Example: identity-gateway role update ci --policy ci.json")
def update_role(
    name: str,
    policy: Annotated[Path | None, typer.Option(help="File with the policy that replaces the present one.")] = None,
    trust: Annotated[Path | None, typer.Option(help="File with the trust that replaces the present one.")] = None,
    max_session_seconds: Annotated[int | None, typer.Option(help="Longest life of new credentials.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change a role. A new policy binds the credentials that are out already, from their next call."""
    changes = {
        "policy": policy_of(policy) if policy else None,
        "trust": policy_of(trust) if trust else None,
        "max_session_seconds": max_session_seconds,
    }
    _show(with_state(data_dir, lambda state: _roles(state).update(name, **changes)), as_json=as_json)


@roles.command("delete", epilog="Example: identity-gateway role delete ci")
def delete_role(name: str, data_dir: DataDir = None) -> None:
    """Delete a role: its credentials end at once, wherever they are."""
    with_state(data_dir, lambda state: _roles(state).delete(name))
    print(f"deleted {name}")


def _roles(state: Any) -> Any:
    from identity_gateway.roles import Roles  # noqa: PLC0415 - slow to import, and not needed for --help

    return Roles(state.records, state.realm, state.identity_providers, clock=time.time)


def _row(role: Role) -> dict[str, Any]:
    return {
        "name": role.name,
        "arn": f"arn:aws:iam::{role.account}:role/{role.name}",
        "policy": role.policy,
        "trust": role.trust,
        "maxSessionSeconds": role.max_session_seconds,
        "createdAt": role.created_at.isoformat(),
        "updatedAt": role.updated_at.isoformat(),
    }


def _show(role: Role, *, as_json: bool) -> None:
    row = _row(role)
    if as_json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:<18} {json.dumps(value) if isinstance(value, dict) else value}")
