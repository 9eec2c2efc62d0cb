"""The command line: serve, demo, access keys, grants, vault, doctor; they work on the data folder while servers run."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import structlog
import typer

from identity_gateway import __version__, settings
from identity_gateway.errors import GatewayError, Unavailable
from identity_gateway.protocol import strictjson

T = TypeVar("T")

cli = typer.Typer(
    help="A self-hosted identity and authentication gateway for AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(help="SigV4 access keys of this gateway.", no_args_is_help=True)
cli.add_typer(keys, name="access-key")
vault = typer.Typer(help="The keys of the token vault.", no_args_is_help=True)
cli.add_typer(vault, name="vault")
grants = typer.Typer(help="What users gave to agents.", no_args_is_help=True)
cli.add_typer(grants, name="grants")

DataDir = Annotated[Path | None, typer.Option(help="Folder with the database and the keys.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@cli.command(epilog="Example: identity-gateway serve --port 8080 --data-dir ./data")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the socket.")] = 1,
) -> None:
    """Run the gateway until a signal."""
    given = {"host": host, "port": port, "data_dir": data_dir.absolute() if data_dir else None}
    os.environ.update(settings.to_environment(**given))  # workers are processes of their own: they read it there
    loaded = _loaded()
    with _shared_metrics() if workers > 1 else nullcontext():
        from identity_gateway import server  # noqa: PLC0415 - the metrics are made, shared or not, when it is imported

        try:
            server.serve(loaded, workers=workers)
        except settings.SettingsError as error:
            _fail(str(error))


@cli.command(epilog="Example: identity-gateway demo --once")
def demo(
    once: Annotated[bool, typer.Option("--once", help="Walk through and exit: 0 only if every step held.")] = False,
) -> None:
    """Start a gateway, an agent and an issuer on this machine, and show what they do together."""
    from identity_gateway.demo import walk  # noqa: PLC0415 - needs packages that the gateway itself does not

    sys.exit(walk(once=once))


@keys.command("create", epilog="Example: identity-gateway access-key create --name ci --admin --json")
def create_key(
    name: Annotated[str, typer.Option(help="A name that no other key has.")],
    admin: Annotated[bool, typer.Option("--admin", help="May call everything.")] = False,
    policy: Annotated[Path | None, typer.Option(help="File with an IAM policy (JSON).")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an access key and show its secret, this once. Without --admin or --policy it may call nothing."""
    document = _policy(policy) if policy else None
    made = _with_state(data_dir, lambda state: state.access_keys.create(name, admin=admin, policy=document))
    if as_json:
        print(json.dumps({"accessKeyId": made.id, "secretAccessKey": made.secret.reveal(), "name": made.name}))
    else:
        print(f"AWS_ACCESS_KEY_ID={made.id}\nAWS_SECRET_ACCESS_KEY={made.secret.reveal()}")


@keys.command("list", epilog="Example: identity-gateway access-key list --json")
def list_keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the access keys, without their secrets."""
    found = _with_state(data_dir, lambda state: state.access_keys.list())
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
    _with_state(data_dir, lambda state: state.access_keys.delete(access_key_id))
    print(f"deleted {access_key_id}")


@vault.command("status", epilog="Example: identity-gateway vault status --json")
def vault_status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say which key wraps, whether it works, and what lies under which key."""
    found = _with_gateway(data_dir, lambda gateway: gateway.stories.vaults.status())
    print(json.dumps(found) if as_json else "\n".join(f"{name:<18} {value}" for name, value in found.items()))
    sys.exit(0 if found["works"] else 1)


@vault.command("rotate", epilog="Example: identity-gateway vault rotate --json")
def vault_rotate(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Wrap every data key anew with the present keys, while the gateway runs."""

    def tell(counts: Any) -> None:
        if not as_json:
            print(f"{counts.values} seen, {counts.rewrapped} wrapped anew", file=sys.stderr)

    done = _with_gateway(data_dir, lambda gateway: gateway.stories.vaults.rotate(tell))
    shown = asdict(done) | {"complete": done.complete}
    print(json.dumps(shown) if as_json else "\n".join(f"{name:<12} {value}" for name, value in shown.items()))
    sys.exit(0 if done.complete else 1)


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

    rows = _with_gateway(data_dir, every)
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

    done = _with_gateway(data_dir, revoke)
    at_vendor = {name: value for name, value in done["vendorRevocation"].items() if value is not None}
    if as_json:
        print(json.dumps(done, default=datetime.isoformat))
    else:
        said = "; ".join(f"{name} {value}" for name, value in at_vendor.items() if name != "status")
        print(f"{grant_id} {done['grant']['state']}; at the vendor: {at_vendor['status']}{said and f' ({said})'}")
    sys.exit(1 if at_vendor["status"] == "FAILED" else 0)


@cli.command(epilog="Example: identity-gateway doctor --data-dir ./data")
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


@cli.command(epilog="Example: identity-gateway version")
def version() -> None:
    """Print the version."""
    print(__version__)


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """Give several workers a folder for the numbers that they add up."""
    with tempfile.TemporaryDirectory(prefix="identity-gateway-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


async def _examine(loaded: settings.Settings) -> list[tuple[str, str]]:
    from identity_gateway.app import open_gateway  # noqa: PLC0415 - slow to import, and not needed for --help

    async with open_gateway(loaded) as gateway:
        faults = await gateway.lifecycle.faults()
        parts = [(name, "does not answer" if name in faults else "ok") for name in gateway.lifecycle.checks]
    return [*parts, ("master key", "ok"), ("url", f"ok: {loaded.base_url}")]


def _loaded(**given: Any) -> settings.Settings:
    try:
        return settings.load(**given)
    except settings.SettingsError as error:
        _fail(str(error))


def _with_state(data_dir: Path | None, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Open the state, do the work, and turn refusals into a sentence and exit code 1."""
    from identity_gateway.app import open_state  # noqa: PLC0415 - slow to import, and not needed for --help

    return _with(open_state, data_dir, work)


def _with_gateway(data_dir: Path | None, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Do the work on a whole gateway that listens nowhere."""
    from identity_gateway.app import open_gateway  # noqa: PLC0415 - slow to import, and not needed for --help

    return _with(open_gateway, data_dir, work)


def _with(
    opened: Callable[[settings.Settings], AbstractAsyncContextManager[Any]],
    data_dir: Path | None,
    work: Callable[[Any], Coroutine[Any, Any, T]],
) -> T:
    async def run() -> T:
        async with opened(_loaded(data_dir=data_dir)) as state:
            return await work(state)

    try:
        return asyncio.run(run())
    except settings.SettingsError as error:
        _fail(str(error))
    except GatewayError as error:
        said = error.reason if isinstance(error, Unavailable) else error.message
        faults = "; ".join(f"{fault.name} {fault.message}" for fault in getattr(error, "fields", ()))
        _fail(f"{said} {faults}".strip())


def _policy(path: Path) -> dict[str, Any]:
    try:
        document = strictjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        _fail(f"{path} is not a JSON file: {error.__class__.__name__}")
    if not isinstance(document, dict):
        _fail(f"{path} does not hold a JSON object")
    return document


def _fail(message: str) -> NoReturn:
    print(f"identity-gateway: {message}", file=sys.stderr)
    sys.exit(1)


def main() -> None:
    """Run the command line."""
    # What a script reads on standard output is the answer alone. `serve` sets up more than that.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    with suppress(KeyboardInterrupt):
        cli()
