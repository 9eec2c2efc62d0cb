"""The one place where the parts meet: from settings to an ASGI application. Nothing else builds a part.

`state` opens what is kept, `gateway` the front door, `credentials` what agents get from third parties.
"""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType

import structlog

from identity_gateway import telemetry
from identity_gateway.api.exchange import Application, Receive, Scope, Send
from identity_gateway.api.public import Lifecycle
from identity_gateway.app.gateway import Gateway, open_gateway
from identity_gateway.app.state import State, open_state
from identity_gateway.errors import GatewayError
from identity_gateway.server.lane import Lane
from identity_gateway.settings import Settings, SettingsError, load

__all__ = ["Gateway", "Served", "State", "create", "open_gateway", "open_state"]

Stop = Callable[[int, FrameType | None], object]

_log = structlog.get_logger()

_TURN = 0.0005
"""Seconds after which the event loop lets a thread go on that has read or flushed something: callers wait for it, and a
busy loop would keep each of its steps waiting for ten times as long."""


class Served:
    """The ASGI application that a server runs: opens the gateway at start, drains and closes it at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._gateway: Gateway | None = None

    @property
    def lane(self) -> Lane | None:
        """The short way of calls that repeat others, while the gateway is open."""
        return None if self._gateway is None else self._gateway.lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] in {"http", "websocket"} and self._gateway is not None:
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
            gc.collect()
            sys.setswitchinterval(_TURN)
            gc.freeze()  # what stands by now stays: looking through it again and again would cost every call
            gc.enable()  # `cli.serve` may have disabled it until now
            _drain_on_signals(gateway.lifecycle, self.settings.drain_delay)
            await send({"type": "lifespan.startup.complete"})
            _log.info("serving", url=self.settings.base_url, account=self.settings.account_id)
            await receive()
        telemetry.pour()  # a worker's last counts, which others will show
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
