"""The one place where the parts meet: from settings to an ASGI application. Nothing else builds a part."""

import asyncio
import signal
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_bytes
from types import FrameType

import structlog
from pydantic import SecretStr

from identity_gateway import telemetry
from identity_gateway.access_keys import AccessKeys
from identity_gateway.admission import Admission
from identity_gateway.api.exchange import Application, Receive, Scope, Send
from identity_gateway.api.front import Front
from identity_gateway.api.operations import Stories
from identity_gateway.api.public import Lifecycle, public
from identity_gateway.audit import Audit
from identity_gateway.egress import Egress
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.errors import GatewayError
from identity_gateway.idempotency import Idempotency
from identity_gateway.inbound import BearerTokens, Signatures, UserTokens
from identity_gateway.invocation import Callers, Discovery, Forwarding, Invocations, Timeouts
from identity_gateway.keysets import KeySets
from identity_gateway.model import KeyCheck, Realm, Secret
from identity_gateway.paging import Paging
from identity_gateway.protocol.aws import load_services
from identity_gateway.protocol.sigv4 import Scope as SignatureScope
from identity_gateway.records import AlreadyExists, Records
from identity_gateway.records.sql import open_records
from identity_gateway.runtimes import Routes, RuntimeEndpoints, Runtimes
from identity_gateway.sealing import Sealer, Unsealable, load_or_create_secret_file
from identity_gateway.settings import Settings, SettingsError, load
from identity_gateway.spool import Spool
from identity_gateway.tags import Tags
from identity_gateway.upstream import Upstream
from identity_gateway.workload import SEALING_PERIOD, Workloads, WorkloadTokens

Clock = Callable[[], float]
Stop = Callable[[int, FrameType | None], object]

SIGNING_NAME = "bedrock-agentcore"
ROOT_KEY_FILE = "root-access-key.json"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class State:
    """What the gateway keeps, opened: also what the command line works on."""

    records: Records
    access_keys: AccessKeys
    master_keys: tuple[bytes, ...] = field(repr=False)
    realm: Realm


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is ready to answer."""

    front: Front
    lifecycle: Lifecycle


@asynccontextmanager
async def open_state(settings: Settings, *, clock: Clock = time.time) -> AsyncIterator[State]:
    """Open the database (migrating it) and the keys. Raises SettingsError when the master key is another one's."""
    with _using(f"the data folder {settings.data_dir}"):
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        master_keys = settings.master_keys() or (
            load_or_create_secret_file(settings.data_dir / "master.key", token_bytes(32)),
        )
    if any(len(key) != 32 for key in master_keys):
        raise SettingsError(f"{settings.data_dir / 'master.key'} does not hold a master key of 32 bytes")
    url = settings.database_url.get_secret_value() if settings.database_url else _sqlite_url(settings.data_dir)
    realm = Realm(settings.account_id, settings.region)
    async with AsyncExitStack() as stack:
        with _using("DATABASE_URL"):
            records = await open_records(url)
        stack.push_async_callback(records.close)
        await _check_master_key(records, master_keys, realm.account)
        access_keys = AccessKeys(records, Sealer(master_keys, "access-keys"), realm.account, clock=clock)
        if len(master_keys) > 1:
            await access_keys.reseal()
        root_secret = _secret(settings.root_secret_access_key)
        if settings.root_access_key_id and root_secret:
            access_keys.use_root(settings.root_access_key_id, root_secret)
        with _using(f"the data folder {settings.data_dir}"):
            await access_keys.ensure_root(settings.data_dir / ROOT_KEY_FILE)
        yield State(records, access_keys, master_keys, realm)


@asynccontextmanager
async def open_gateway(settings: Settings, *, clock: Clock = time.time) -> AsyncIterator[Gateway]:
    """Build every part, and give each back in the opposite order."""
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(open_state(settings, clock=clock))
        records, realm = state.records, state.realm
        ephemeral = _ephemeral(settings)
        stack.push_async_callback(ephemeral.close)
        upstream = Upstream(
            ssl_context=_tls(settings.agent_ca_file),
            max_connections=settings.agent_max_connections,
            connect_timeout=settings.agent_connect_timeout,
        )
        stack.push_async_callback(upstream.aclose)
        keysets = _key_sets(stack, settings, ephemeral)
        # Whoever may call GetWorkloadAccessTokenForJWT names issuers of their choice: neither their number nor their
        # name servers may crowd out the key sets that guard the front door.
        visiting_keysets = _key_sets(stack, settings, ephemeral, visiting=True)
        audit = Audit(records, realm.account, clock=clock, retention=timedelta(days=settings.audit_retention_days))
        stack.push_async_callback(audit.close)
        audit.start()

        paging = Paging(Sealer(state.master_keys, "paging"), realm.account)
        idempotency = Idempotency(records, realm.account, clock=clock)
        tokens = WorkloadTokens(
            Sealer(state.master_keys, "workload-access-token", period_seconds=SEALING_PERIOD),
            realm.account,
            clock=clock,
        )
        signatures = Signatures(
            state.access_keys,
            SignatureScope(realm.region, SIGNING_NAME),
            clock=clock,
            max_skew=timedelta(seconds=settings.signature_max_skew),
        )
        stories = Stories(
            runtimes=Runtimes(records, idempotency, paging, realm, clock=clock),
            endpoints=RuntimeEndpoints(records, idempotency, paging, realm, clock=clock),
            workloads=Workloads(records, tokens, UserTokens(visiting_keysets, clock=clock), paging, realm, clock=clock),
            tags=Tags(records, realm),
        )
        routes, bearer_tokens = Routes(records, realm), BearerTokens(keysets, clock=clock)
        callers = Callers(
            signatures,
            bearer_tokens,
            Spool(settings.data_dir / "spool", limit=settings.spooled_bodies),
            realm,
            body_timeout=settings.agent_sync_timeout,
        )
        timeouts = Timeouts(settings.agent_sync_timeout, settings.agent_stream_timeout)
        forwarding = Forwarding(upstream, tokens, timeouts, clock=clock)
        invocations = Invocations(routes, callers, forwarding, audit)
        discovery = Discovery(routes, bearer_tokens, base_url=settings.base_url)
        lifecycle = Lifecycle({"records": records.ping, "ephemeral": ephemeral.ping})
        pages = public(lifecycle, metrics_token=_secret(settings.metrics_token), registry=telemetry.registry())
        front = Front(load_services(), stories, invocations, discovery, Admission(signatures, audit), realm, pages)
        yield Gateway(front, lifecycle)


class Served:
    """The ASGI application that a server runs: opens the gateway at start, drains and closes it at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and self._gateway is not None:
            await self._gateway.front(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                gateway = await stack.enter_async_context(open_gateway(self.settings))
            except Exception as error:  # noqa: BLE001 - the server must hear of it, whatever it is
                _log.error("the gateway cannot start", reason=_why(error))
                await send({"type": "lifespan.startup.failed"})
                return
            self._gateway = gateway
            _drain_on_signals(gateway.lifecycle, self.settings.drain_delay)
            await send({"type": "lifespan.startup.complete"})
            _log.info("serving", url=self.settings.base_url, account=self.settings.account_id)
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def create() -> Application:
    """Return the application for the settings of the environment (an ASGI factory)."""
    settings = load()
    telemetry.configure_logging(settings.log_level, settings.log_format)
    return Served(settings)


def _drain_on_signals(lifecycle: Lifecycle, delay: float) -> None:
    """At SIGTERM and SIGINT say «not ready» at once, and let the server stop after `delay` seconds.

    Load balancers need that time to notice. The server then stops accepting and finishes what is in flight. Only a
    second SIGINT is impatience: a second SIGTERM comes from a supervisor that tells every process, and its parent too.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.TimerHandle] = []

    def stop_later(stop: Stop, number: int) -> None:
        waiting.append(loop.call_later(delay, stop, number, None))

    def drain(stop: Stop, number: int, _frame: FrameType | None) -> None:
        again, lifecycle.draining = lifecycle.draining, True
        if not again and delay:
            loop.call_soon_threadsafe(stop_later, stop, number)
        elif not again or number == signal.SIGINT:
            for timer in waiting:
                timer.cancel()
            stop(number, None)

    for number in (signal.SIGTERM, signal.SIGINT):
        stop = signal.getsignal(number)
        if callable(stop):
            signal.signal(number, partial(drain, stop))


def _why(error: Exception) -> str:
    """Say why the gateway cannot start. The text of an unforeseen error may quote what it should not."""
    if isinstance(error, SettingsError):
        return str(error)
    return error.reason if isinstance(error, GatewayError) else error.__class__.__name__


@contextmanager
def _using(what: str) -> Iterator[None]:
    """Turn the failure to use what an operator named into a sentence. Nothing of the value is repeated."""
    try:
        yield
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or error
        raise SettingsError(f"{what} cannot be used: {fault}") from None


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


def _ephemeral(settings: Settings) -> Ephemeral:
    if settings.redis_url is not None:
        from identity_gateway.ephemeral.redis import RedisEphemeral  # noqa: PLC0415 - slow to import, and seldom needed

        with _using("REDIS_URL"):
            return RedisEphemeral(settings.redis_url.get_secret_value())
    return LocalEphemeral(settings.data_dir / "ephemeral.sqlite")


def _key_sets(stack: AsyncExitStack, settings: Settings, ephemeral: Ephemeral, *, visiting: bool = False) -> KeySets:
    """Make key sets with a way out of their own, which ends after them."""
    egress = Egress(settings.egress_allow, ssl_context=_tls(settings.egress_ca_file))
    stack.push_async_callback(egress.aclose)
    keysets = KeySets(
        egress, clock=time.monotonic, shared=ephemeral, max_issuers=100 if visiting else 1000, visiting=visiting
    )
    stack.push_async_callback(keysets.aclose)
    return keysets


def _secret(value: SecretStr | None) -> Secret | None:
    return None if value is None else Secret(value.get_secret_value())


def _sqlite_url(data_dir: Path) -> str:
    return f"sqlite:///{(data_dir / 'gateway.sqlite').absolute()}"


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """Trust the system's authorities, or exactly those of the file."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        message = f"the file of certificate authorities cannot be used: {error.__class__.__name__}"
        raise SettingsError(message) from None
