"""`identity-gateway vault`: the keys of the token vault."""

import json
import sys
from dataclasses import asdict
from typing import Any

import typer

from identity_gateway.cli.opened import AsJson, DataDir, with_gateway

vault = typer.Typer(help="The keys of the token vault.", no_args_is_help=True)


@vault.command("status", epilog="Example: identity-gateway vault status --json")
def vault_status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say which key wraps, whether it works, and what lies under which key."""
    found = with_gateway(data_dir, lambda gateway: gateway.stories.vaults.status())
    print(json.dumps(found) if as_json else "\n".join(f"{name:<18} {value}" for name, value in found.items()))
    sys.exit(0 if found["works"] else 1)


@vault.command("rotate", epilog="Example: identity-gateway vault rotate --json")
def vault_rotate(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Wrap every data key anew with the present keys, while the gateway runs."""

    def tell(counts: Any) -> None:
        if not as_json:
            print(f"{counts.values} seen, {counts.rewrapped} wrapped anew", file=sys.stderr)

    done = with_gateway(data_dir, lambda gateway: gateway.stories.vaults.rotate(tell))
    shown = asdict(done) | {"complete": done.complete}
    print(json.dumps(shown) if as_json else "\n".join(f"{name:<12} {value}" for name, value in shown.items()))
    sys.exit(0 if done.complete else 1)
