"""The command line: serve, demo, access keys, grants, vault, doctor; they work on the data folder while servers run."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Annotated

import structlog
import typer

from identity_gateway import __version__, settings
from identity_gateway.cli.access_keys import keys
from identity_gateway.cli.credentials import credentials
from identity_gateway.cli.doctor import doctors
from identity_gateway.cli.grants import grants
from identity_gateway.cli.opened import DataDir, fail, loaded
from identity_gateway.cli.policy import policies
from identity_gateway.cli.roles import roles
from identity_gateway.cli.vault import vault
from identity_gateway.cli.web_identity import web_identity

cli = typer.Typer(
    help="A self-hosted identity and authentication gateway for AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(keys, name="access-key")
cli.add_typer(roles, name="role")
cli.add_typer(policies, name="policy")
cli.add_typer(vault, name="vault")
cli.add_typer(grants, name="grants")
cli.add_typer(doctors, name="doctor")
cli.add_typer(web_identity, name="web-identity")
cli.command(
    epilog="Example: identity-gateway credentials --url https://gateway.example --role ROLE_ARN --token-file token"
)(credentials)


@cli.command(epilog="Example: identity-gateway serve --port 8080 --data-dir ./data")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the socket.")] = 1,
) -> None:
    """Run the gateway until a signal."""
    if workers == 1:
        gc.disable()  # a start makes what stays, and looking through it again and again is a tenth of it
    given = {"host": host, "port": port, "data_dir": data_dir.absolute() if data_dir else None}
    os.environ.update(settings.to_environment(**given))  # workers are processes of their own: they read it there
    chosen = loaded()
    with _shared_metrics() if workers > 1 else nullcontext():
        from identity_gateway import server  # noqa: PLC0415 - the metrics are made, shared or not, when it is imported

        try:
            server.serve(chosen, workers=workers)
        except settings.SettingsError as error:
            fail(str(error))


@cli.command(epilog="Example: identity-gateway demo --once")
def demo(
    once: Annotated[bool, typer.Option("--once", help="Walk through and exit: 0 only if every step held.")] = False,
) -> None:
    """Start a gateway, an agent and an issuer on this machine, and show what they do together."""
    from identity_gateway.demo import walk  # noqa: PLC0415 - needs packages that the gateway itself does not

    sys.exit(walk(once=once))


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


def main() -> None:
    """Run the command line."""
    # What a script reads on standard output is the answer alone. `serve` sets up more than that.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    with suppress(KeyboardInterrupt):
        cli()
