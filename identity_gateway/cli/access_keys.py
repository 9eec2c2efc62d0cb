"""`identity-gateway access-key`: SigV4 access keys."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from identity_gateway.cli.opened import AsJson, DataDir, fail, policy_of, with_state
from identity_gateway.model import AccessKey

keys = typer.Typer(help="SigV4 access keys of this gateway.", no_args_is_help=True)

_LIFETIME = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@keys.command("create", epilog="Example: identity-gateway access-key create --name ci --admin --json")
def create_key(
    name: Annotated[str, typer.Option(help="A name that no other key has.")],
    admin: Annotated[bool, typer.Option("--admin", help="May call everything.")] = False,
    policy: Annotated[Path | None, typer.Option(help="File with an IAM policy (JSON).")] = None,
    expires_in: Annotated[
        str | None, typer.Option(help="How long it may sign: 90m, 12h or 30d. Without it, until it is deleted.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an access key and show its secret, this once. Without --admin or --policy it may call nothing."""
    document = policy_of(policy) if policy else None
    lifetime = _lifetime(expires_in) if expires_in is not None else None
    made = with_state(
        data_dir, lambda state: state.access_keys.create(name, admin=admin, policy=document, lifetime=lifetime)
    )
    if as_json:
        print(json.dumps({"accessKeyId": made.id, "secretAccessKey": made.secret.reveal(), "name": made.name}))
    else:
        print(f"AWS_ACCESS_KEY_ID={made.id}\nAWS_SECRET_ACCESS_KEY={made.secret.reveal()}")


@keys.command("list", epilog="Example: identity-gateway access-key list --json")
def list_keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the access keys, without their secrets."""
    found = with_state(data_dir, lambda state: state.access_keys.list())
    rows = [
        {
            "accessKeyId": key.id,
            "name": key.name,
            "admin": key.admin,
            "policy": key.policy,
            "createdAt": key.created_at.isoformat(),
            "disabledAt": key.disabled_at.isoformat() if key.disabled_at else None,
            "expiresAt": key.expires_at.isoformat() if key.expires_at else None,
            "status": _status(key),
        }
        for key in found
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        rights = "admin" if row["admin"] else "policy" if row["policy"] else "nothing"
        print(f"{row['accessKeyId']}  {row['name']:<24} {rights:<8} {row['status']:<8} {row['createdAt']}")


@keys.command("delete", epilog="Example: identity-gateway access-key delete IGAKABCDEFGHIJKLMNOP")
def delete_key(access_key_id: str, data_dir: DataDir = None) -> None:
    """Delete an access key: from then on it signs nothing."""
    with_state(data_dir, lambda state: state.access_keys.delete(access_key_id))
    print(f"deleted {access_key_id}")


@keys.command("disable", epilog="Example: identity-gateway access-key disable IGAKABCDEFGHIJKLMNOP")
def disable_key(access_key_id: str, data_dir: DataDir = None) -> None:
    """Disable an access key: it signs nothing until it is enabled again."""
    with_state(data_dir, lambda state: state.access_keys.disable(access_key_id))
    print(f"disabled {access_key_id}")


@keys.command("enable", epilog="Example: identity-gateway access-key enable IGAKABCDEFGHIJKLMNOP")
def enable_key(access_key_id: str, data_dir: DataDir = None) -> None:
    """Enable an access key that was disabled. One that has expired stays expired."""
    with_state(data_dir, lambda state: state.access_keys.enable(access_key_id))
    print(f"enabled {access_key_id}")


def _status(key: AccessKey) -> str:
    if key.disabled_at is not None:
        return "disabled"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "active"


def _lifetime(value: str) -> timedelta:
    match = _LIFETIME.fullmatch(value)
    if match is None:
        fail("--expires-in is a number of minutes, hours or days: 90m, 12h or 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
