"""What the gateway keeps, opened: database, keys, ephemeral store. The command line works on it, too."""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from secrets import token_bytes

from pydantic import SecretStr

from identity_gateway import identity_providers
from identity_gateway.access_keys import AccessKeys
from identity_gateway.audit import Audit
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.identity_providers import IdentityProviders
from identity_gateway.inbound import UserTokens
from identity_gateway.model import KeyCheck, Realm, Secret
from identity_gateway.outbound.repeats import RepeatedVends
from identity_gateway.paging import Paging
from identity_gateway.records import AlreadyExists, Records
from identity_gateway.records.sql import open_records
from identity_gateway.sealing import Sealer, Unsealable, load_or_create_secret_file
from identity_gateway.settings import Settings, SettingsError
from identity_gateway.workload import WorkloadTokens

Clock = Callable[[], float]

ROOT_KEY_FILE = "root-access-key.json"


@dataclass(frozen=True, slots=True)
class State:
    """What the gateway keeps, opened: also what the command line works on."""

    records: Records
    access_keys: AccessKeys
    master_keys: tuple[bytes, ...] = field(repr=False)
    realm: Realm
    identity_providers: IdentityProviders


@dataclass(frozen=True, slots=True)
class Parts:
    """What several stories of a gateway share."""

    settings: Settings
    state: State
    ephemeral: Ephemeral
    audit: Audit
    paging: Paging
    tokens: WorkloadTokens
    user_tokens: UserTokens
    vends: RepeatedVends
    clock: Clock


@asynccontextmanager
async def open_state(settings: Settings, *, clock: Clock = time.time) -> AsyncIterator[State]:
    """Open the database (migrating it) and the keys. Raises SettingsError when the master key is another one's."""
    with using(f"the data folder {settings.data_dir}"):
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        master_keys = settings.master_keys() or (
            load_or_create_secret_file(settings.data_dir / "master.key", token_bytes(32)),
        )
    if any(len(key) != 32 for key in master_keys):
        raise SettingsError(f"{settings.data_dir / 'master.key'} does not hold a master key of 32 bytes")
    url = settings.database_url.get_secret_value() if settings.database_url else _sqlite_url(settings.data_dir)
    realm = Realm(settings.account_id, settings.region)
    async with AsyncExitStack() as stack:
        with using("DATABASE_URL"):
            records = await open_records(url, folder=settings.data_dir)
        stack.push_async_callback(records.close)
        await _check_master_key(records, master_keys, realm.account)
        access_keys = AccessKeys(records, Sealer(master_keys, "access-keys"), realm.account, clock=clock)
        if len(master_keys) > 1:
            await access_keys.reseal()
        root_secret = secret_of(settings.root_secret_access_key)
        if settings.root_access_key_id and root_secret:
            access_keys.use_root(settings.root_access_key_id, root_secret)
        with using(f"the data folder {settings.data_dir}"):
            await access_keys.ensure_root(settings.data_dir / ROOT_KEY_FILE)
        own = settings.providers_dir
        with using("a file of an identity provider"):
            providers = identity_providers.load(*([own / "inbound"] if own else []))
        yield State(records, access_keys, master_keys, realm, providers)


def ephemeral_of(settings: Settings) -> Ephemeral:
    """Return the store that the settings name."""
    if settings.redis_url is not None:
        from identity_gateway.ephemeral.redis import RedisEphemeral  # noqa: PLC0415 - slow to import, and seldom needed

        with using("REDIS_URL"):
            return RedisEphemeral(settings.redis_url.get_secret_value())
    return LocalEphemeral(settings.data_dir / "ephemeral.sqlite")


@contextmanager
def using(what: str) -> Iterator[None]:
    """Turn the failure to use what an operator named into a sentence. Nothing of the value is repeated."""
    try:
        yield
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or error
        raise SettingsError(f"{what} cannot be used: {fault}") from None


@cache
def tls_of(ca_file: Path | None) -> ssl.SSLContext:
    """Trust the system's authorities, or exactly those of the file.

    They are read once: clients that trust the same ones share what was read. All of them speak HTTP/1.1.
    """
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        message = f"the file of certificate authorities cannot be used: {error.__class__.__name__}"
        raise SettingsError(message) from None


def secret_of(value: SecretStr | None) -> Secret | None:
    """Return a setting as the secret that it is."""
    return None if value is None else Secret(value.get_secret_value())


async def _check_master_key(records: Records, master_keys: tuple[bytes, ...], account: str) -> None:
    """Refuse to start with a master key that does not open what this database holds; seal the check anew if it ages."""
    sealer, name = Sealer(master_keys, "key-check"), "master-key"
    place = (account, "key_check", name, "sealed")
    async with records.read() as transaction:
        kept = await transaction.get(KeyCheck, account=account, name=name)
    if kept is None:
        try:
            async with records.write() as transaction:
                await transaction.create(KeyCheck(account, name, sealer.seal(b"identity-gateway", place=place)))
        except AlreadyExists:  # another process was quicker: then its key must be ours
            await _check_master_key(records, master_keys, account)
        return
    try:
        sealer.open(kept.sealed, place=place)
    except Unsealable:
        message = "the master key is not the one that this database was last used with (MASTER_KEY, or master.key)"
        raise SettingsError(message) from None
    if not sealer.is_current(kept.sealed):
        async with records.write() as transaction:
            await transaction.delete(KeyCheck, account=account, name=name)
            await transaction.create(KeyCheck(account, name, sealer.seal(b"identity-gateway", place=place)))


def _sqlite_url(data_dir: Path) -> str:
    return f"sqlite:///{(data_dir / 'gateway.sqlite').absolute()}"
