"""`identity-gateway doctor`: what is wrong with the gateway, or with a token that a runtime refuses."""

import asyncio
import json
import sys
import termios
import time
import tty
from pathlib import Path
from typing import Annotated, Any

import typer

from identity_gateway import settings
from identity_gateway.cli.opened import AsJson, DataDir, fail, loaded, with_state
from identity_gateway.errors import GatewayError, NotFound, ValidationFailed

_MOST_READ = 64 * 1024
"""Characters: far more than any token that is let in."""

doctors = typer.Typer(
    help="Say what is wrong: with the gateway, or with a token.",
    epilog="Example: identity-gateway doctor --data-dir ./data",
    invoke_without_command=True,
)


@doctors.callback(epilog="Example: identity-gateway doctor --data-dir ./data")
def doctor(context: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check the settings, the state and the keys, and say what is wrong."""
    if context.invoked_subcommand is not None:
        return
    found: list[tuple[str, str]] = []
    try:
        chosen = settings.load(data_dir=data_dir)
        found.append(("settings", "ok"))
        found += asyncio.run(_examine(chosen))
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


@doctors.command("token", epilog="Example: identity-gateway doctor token --runtime hello-AbCdEf1234 < token.txt")
def token(
    runtime: Annotated[str, typer.Option(help="Id or ARN of the agent runtime that the token was shown to.")],
    qualifier: Annotated[str | None, typer.Option(help="Endpoint of the runtime; DEFAULT if not given.")] = None,
    file: Annotated[Path | None, typer.Option(help="File with the token; standard input if not given.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say of every check of a token whether it passes, and why. Exit code 0: the runtime would let it in.

    The token is never printed, and never an argument: those are seen by everybody on the machine. Values of claims that
    were compared are shown. Policies, and a workload that the authorizer asks for, are not looked at.
    """
    given = _read(file)
    chosen = loaded(data_dir=data_dir)
    found = with_state(data_dir, lambda state: _explained(state, chosen, given, runtime, qualifier))
    if as_json:
        print(json.dumps(found))
    else:
        _print(found)
    sys.exit(0 if found["accepted"] else 1)


def _print(found: dict[str, Any]) -> None:
    print(f"runtime   {found['runtime']}, version {found['version']}")
    print(f"issuer    {found['issuer']} ({found['provider']})")
    for check in found["checks"]:
        print(f"{'passed' if check['passed'] else 'FAILED':<9} {check['name']:<20} {check['why']}")
    print("Not looked at: policies at the runtime, and a workload that the authorizer asks for.")
    print("The token would be let in." if found["accepted"] else "The token would be refused.")


async def _explained(
    state: Any, chosen: settings.Settings, token: str, runtime: str, qualifier: str | None
) -> dict[str, Any]:
    # Slow to import, and not needed for --help.
    from identity_gateway import identity_providers  # noqa: PLC0415
    from identity_gateway.app.state import tls_of, using  # noqa: PLC0415
    from identity_gateway.egress import Egress  # noqa: PLC0415
    from identity_gateway.inbound import BearerTokens  # noqa: PLC0415
    from identity_gateway.keysets import KeySets  # noqa: PLC0415
    from identity_gateway.model import Secret  # noqa: PLC0415
    from identity_gateway.runtimes import Routes  # noqa: PLC0415

    routes = Routes(state.records, state.realm)
    account = None if runtime.startswith("arn:") else state.realm.account
    name = routes.name(runtime, account=account, qualifier=qualifier)
    route = await routes.find(name) if name else None
    if route is None:
        raise NotFound("There is no such agent runtime, or no such endpoint.")
    authorizer = route.configuration.authorizer
    if authorizer is None:
        raise ValidationFailed("The agent runtime has no JWT authorizer: it is called with signatures.")
    own = chosen.providers_dir
    with using("a file of an identity provider"):
        providers = identity_providers.load(*([own / "inbound"] if own else []))
    egress = Egress(chosen.egress_allow, ssl_context=tls_of(chosen.egress_ca_file))
    keysets = KeySets(egress, clock=time.monotonic)
    try:
        tokens = BearerTokens(keysets, providers, clock=time.time)
        explanation = await tokens.explain(Secret(token), authorizer)
    finally:
        await keysets.aclose()
        await egress.aclose()
    checks = [{"name": each.name, "passed": each.passed, "why": each.why} for each in explanation.checks]
    return {
        "accepted": explanation.accepted,
        "runtime": route.endpoint_arn,
        "version": route.version,
        "provider": explanation.provider,
        "issuer": explanation.issuer,
        "checks": checks,
    }


def _read(file: Path | None) -> str:
    """Return the token: alone, or as the value of an Authorization header, with blanks around it."""
    try:
        if file is not None:
            with file.open(encoding="ascii") as opened:
                text = opened.read(_MOST_READ)
        else:
            text = _typed() if sys.stdin.isatty() else sys.stdin.read(_MOST_READ)
    except (OSError, UnicodeError) as error:
        fail(f"the token cannot be read: {error.__class__.__name__}")
    text = text.strip()
    scheme, blank, rest = text.partition(" ")
    return rest.strip() if blank and scheme.lower() == "bearer" else text


def _typed() -> str:
    """Read a line from the terminal without showing it, however long: a terminal's own line ends after 4,095 bytes."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)  # before anybody is asked: it throws away what was typed so far
        print("Paste the token, then press Enter. It is not shown.", file=sys.stderr)
        text = ""
        while len(text) < _MOST_READ and (character := sys.stdin.read(1)) not in {"", "\n", "\r", "\x04"}:
            text += character
        return text
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
