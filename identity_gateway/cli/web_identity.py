"""`identity-gateway web-identity`: the keys with which the gateway signs JWTs of its own."""

import json
import time
from typing import Any

import typer

from identity_gateway.cli.opened import AsJson, DataDir, with_state
from identity_gateway.model import SigningKey

web_identity = typer.Typer(help="The keys with which this gateway signs JWTs.", no_args_is_help=True)


@web_identity.command("rotate", epilog="Example: identity-gateway web-identity rotate --json")
def rotate(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Make new signing keys. Those before sign no more, and stay in the key set until their tokens have ended."""
    made = with_state(data_dir, lambda state: _signer(state).rotate())
    _show(made, as_json=as_json)


def _signer(state: Any) -> Any:
    from identity_gateway.sealing import Sealer  # noqa: PLC0415 - slow to import, and not needed for --help
    from identity_gateway.web_identity import PURPOSE, WebIdentity  # noqa: PLC0415

    sealer = Sealer(state.master_keys, PURPOSE)
    return WebIdentity(state.records, sealer, state.realm.account, issuer="", clock=time.time)


def _show(keys: list[SigningKey], *, as_json: bool) -> None:
    rows = [{"id": key.id, "algorithm": key.algorithm, "createdAt": key.created_at.isoformat()} for key in keys]
    print(json.dumps(rows) if as_json else "\n".join(" ".join(row.values()) for row in rows))
