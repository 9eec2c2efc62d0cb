"""What commands work on: the state or a whole gateway, opened; refusals become a sentence and exit code 1."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from identity_gateway import settings
from identity_gateway.errors import GatewayError, Unavailable
from identity_gateway.protocol import strictjson

T = TypeVar("T")

DataDir = Annotated[Path | None, typer.Option(help="Folder with the database and the keys.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def loaded(**given: Any) -> settings.Settings:
    """Return the settings, or say what is wrong with them and exit."""
    try:
        return settings.load(**given)
    except settings.SettingsError as error:
        fail(str(error))


def with_state(data_dir: Path | None, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Open the state, do the work, and turn refusals into a sentence and exit code 1."""
    from identity_gateway.app import open_state  # noqa: PLC0415 - slow to import, and not needed for --help

    return _with(open_state, data_dir, work)


def with_gateway(data_dir: Path | None, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Do the work on a whole gateway that listens nowhere."""
    from identity_gateway.app import open_gateway  # noqa: PLC0415 - slow to import, and not needed for --help

    return _with(open_gateway, data_dir, work)


def _with(
    opened: Callable[[settings.Settings], AbstractAsyncContextManager[Any]],
    data_dir: Path | None,
    work: Callable[[Any], Coroutine[Any, Any, T]],
) -> T:
    async def run() -> T:
        async with opened(loaded(data_dir=data_dir)) as state:
            return await work(state)

    try:
        return asyncio.run(run())
    except settings.SettingsError as error:
        fail(str(error))
    except GatewayError as error:
        said = error.reason if isinstance(error, Unavailable) else error.message
        faults = "; ".join(f"{fault.name} {fault.message}" for fault in getattr(error, "fields", ()))
        fail(f"{said} {faults}".strip())


def policy_of(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or say why there is none and exit."""
    try:
        document = strictjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        fail(f"{path} is not a JSON file: {error.__class__.__name__}")
    if not isinstance(document, dict):
        fail(f"{path} does not hold a JSON object")
    return document


def fail(message: str) -> NoReturn:
    """Say what went wrong, and exit with 1."""
    print(f"identity-gateway: {message}", file=sys.stderr)
    sys.exit(1)
