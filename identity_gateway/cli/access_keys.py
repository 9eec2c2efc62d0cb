"""`identity-gateway access-key`: SigV4 access keys."""

import json
from pathlib import Path
from typing import Annotated

import typer

from identity_gateway.cli.opened import AsJson, DataDir, policy_of, with_state

keys = typer.Typer(help="SigV4 access keys of this gateway.", no_args_is_help=True)


@keys.command("create", epilog="Example: identity-gateway access-key create --name ci --admin --json")
def create_key(
    name: Annotated[str, typer.Option(help="A name that no other key has.")],
    admin: Annotated[bool, typer.Option("--admin", help="May call everything.")] = False,
    policy: Annotated[Path | None, typer.Option(help="File with an IAM policy (JSON).")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an access key and show its secret, this once. Without --admin or --policy it may call nothing."""
    document = policy_of(policy) if policy else None
    made = with_state(data_dir, lambda state: state.access_keys.create(name, admin=admin, policy=document))
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
        }
        for key in found
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        rights = "admin" if row["admin"] else "policy" if row["policy"] else "nothing"
        print(f"{row['accessKeyId']}  {row['name']:<24} {rights:<8} {row['createdAt']}")


@keys.command("delete", epilog="Example: identity-gateway access-key delete IGAKABCDEFGHIJKLMNOP")
def delete_key(access_key_id: str, data_dir: DataDir = None) -> None:
    """Delete an access key: from then on it signs nothing."""
    with_state(data_dir, lambda state: state.access_keys.delete(access_key_id))
    print(f"deleted {access_key_id}")
