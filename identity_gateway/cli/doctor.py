"""`identity-gateway doctor`: what is wrong."""

import asyncio
import json
import sys

from identity_gateway import settings
from identity_gateway.cli.opened import AsJson, DataDir
from identity_gateway.errors import GatewayError


def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check the settings, the state and the keys, and say what is wrong."""
    found: list[tuple[str, str]] = []
    try:
        loaded = settings.load(data_dir=data_dir)
        found.append(("settings", "ok"))
        found += asyncio.run(_examine(loaded))
    except settings.SettingsError as error:
        found.append(("settings", str(error)))
    except GatewayError as error:
        found.append(("state", error.reason))
    if as_json:
        print(json.dumps(dict(found)))
    else:
        for part, verdict in found:
            print(f"{part:<12} {verdict}")
    sys.exit(0 if all(verdict.startswith("ok") for _, verdict in found) else 1)


async def _examine(loaded: settings.Settings) -> list[tuple[str, str]]:
    from identity_gateway.app import open_gateway  # noqa: PLC0415 - slow to import, and not needed for --help

    async with open_gateway(loaded) as gateway:
        faults = await gateway.lifecycle.faults()
        parts = [(name, "does not answer" if name in faults else "ok") for name in gateway.lifecycle.checks]
    return [*parts, ("master key", "ok"), ("url", f"ok: {loaded.base_url}")]
