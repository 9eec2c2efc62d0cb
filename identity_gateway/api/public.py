"""What anybody may ask: is the gateway alive, is it ready, what is it. And the metrics, for who holds their token.

`OPEN_DOORS` is THE list of unauthenticated doors, those of `pages` and `webhooks` included; the protected resource
metadata of a runtime (RFC 9728) is the one other, because it hangs below each runtime's own path.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry

from identity_gateway import __version__
from identity_gateway.api import pages, sts, webhooks
from identity_gateway.model import Secret

_DOORS = {
    "/": "name and version",
    "/healthz": "alive",
    "/readyz": "ready to serve",
    "/metrics": "Prometheus metrics; asks for their token",
}

OPEN_DOORS = {**_DOORS, **pages.DOORS, **webhooks.DOORS, **sts.DOORS}

_RAW = frozenset(path.encode() for path in _DOORS)

Check = Callable[[], Awaitable[None]]


@dataclass
class Lifecycle:
    """Whether the gateway should be given traffic: not while it drains, and not while a part it needs is down."""

    checks: Mapping[str, Check] = field(default_factory=dict)
    draining: bool = False

    async def faults(self) -> list[str]:
        """Return the names of the parts that are not ready."""
        names = ["draining"] if self.draining else []
        for name, check in self.checks.items():
            try:
                await check()
            except Exception:  # noqa: BLE001 - whatever it is, the part is not ready
                names.append(name)
        return names


def opens(raw_path: bytes) -> bool:
    """Whether the application of `public` serves this path (raw, without the query)."""
    return raw_path in _RAW


def public(lifecycle: Lifecycle, *, metrics_token: Secret | None, registry: CollectorRegistry) -> FastAPI:
    """Return the application of the public pages."""
    app = FastAPI(title="Identity Gateway", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.get("/")
    async def name_and_version() -> Response:
        return JSONResponse({"name": "identity-gateway", "version": __version__})

    @app.get("/healthz")
    async def alive() -> Response:
        return JSONResponse({"status": "alive"})

    @app.get("/readyz")
    async def ready() -> Response:
        faults = await lifecycle.faults()
        return JSONResponse({"status": "not ready" if faults else "ready", "faults": faults}, 503 if faults else 200)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        if metrics_token is None:
            return PlainTextResponse("Metrics have their own listener, or a token: see METRICS_PORT.\n", 404)
        expected = f"Bearer {metrics_token.reveal()}".encode()
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return PlainTextResponse("Unauthorized\n", 401, {"www-authenticate": "Bearer"})
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
