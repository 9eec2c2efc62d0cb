"""`identity-gateway grants`: what users gave to agents."""

import json
import sys
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import typer

from identity_gateway.cli.opened import AsJson, DataDir, with_gateway

grants = typer.Typer(help="What users gave to agents.", no_args_is_help=True)


@grants.command("list", epilog="Example: identity-gateway grants list --user ada --json")
def list_grants(
    user: Annotated[str | None, typer.Option(help="Of a user that a caller named.")] = None,
    issuer: Annotated[str | None, typer.Option(help="With --subject: of a user that a JWT proved.")] = None,
    subject: Annotated[str | None, typer.Option(help="With --issuer.")] = None,
    agent: Annotated[str | None, typer.Option(help="Of an agent: the name of its workload identity.")] = None,
    provider: Annotated[str | None, typer.Option(help="Of a credential provider.")] = None,
    state: Annotated[str | None, typer.Option(help="active, needs_consent, needs_admin or revoked.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List grants, all of them or those that fit. Never shows a token."""
    wanted = {
        "userId": user,
        "userIssuer": issuer,
        "userSubject": subject,
        "workloadName": agent,
        "providerName": provider,
        "state": state.upper() if state else None,
    }
    asked = {name: value for name, value in wanted.items() if value is not None}

    async def every(gateway: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token = None
        while True:
            page = await gateway.stories.grants.list_grants(asked | ({"nextToken": token} if token else {}))
            found += page["grants"]
            token = page["nextToken"]
            if token is None:
                return found

    rows = with_gateway(data_dir, every)
    if as_json:
        print(json.dumps(rows, default=datetime.isoformat))
        return
    for row in rows:
        who = " ".join(row["user"].values())
        shown = [
            row["grantId"],
            f"{row['state']:<14}",
            row["workloadName"],
            who,
            row["providerName"],
            row["reason"] or "",
        ]
        print("  ".join(shown).rstrip())


@grants.command("revoke", epilog="Example: identity-gateway grants revoke 0123456789abcdef0123456789abcdef")
def revoke_grant(grant_id: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Take a grant back, at the vendor first. Asked again, it tries again what the vendor did not confirm."""

    async def revoke(gateway: Any) -> dict[str, Any]:
        from identity_gateway.audit import ALLOWED, Decided  # noqa: PLC0415 - slow to import

        decided = Decided("operator", "RevokeGrant", gateway.stories.grants.arn(grant_id), ALLOWED, "command line")
        await gateway.audit.record(decided)
        done = await gateway.stories.grants.revoke_grant({"grantId": grant_id})
        await gateway.audit.record(replace(decided, reason=done.reason, details=done.details))
        output: dict[str, Any] = done.output
        return output

    done = with_gateway(data_dir, revoke)
    at_vendor = {name: value for name, value in done["vendorRevocation"].items() if value is not None}
    if as_json:
        print(json.dumps(done, default=datetime.isoformat))
    else:
        said = "; ".join(f"{name} {value}" for name, value in at_vendor.items() if name != "status")
        print(f"{grant_id} {done['grant']['state']}; at the vendor: {at_vendor['status']}{said and f' ({said})'}")
    sys.exit(1 if at_vendor["status"] == "FAILED" else 0)
