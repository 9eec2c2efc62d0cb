"""Where vendors send their webhooks. Nothing is decided here: `signals` verifies and applies."""

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from identity_gateway.credential_providers import WEBHOOKS
from identity_gateway.errors import GatewayError, Unavailable, ValidationFailed
from identity_gateway.signals import Delivery, Signals

DOORS = {"/identities/webhooks/{provider_id}": "webhooks of vendors: signed by them"}

_MAX_BODY = 1 << 20


def opens(raw_path: bytes) -> bool:
    """Whether the application of `webhooks` serves this path (raw, without the query)."""
    return raw_path.startswith(WEBHOOKS.encode())


def webhooks(signals: Signals) -> FastAPI:
    """Return the application that receives `POST /identities/webhooks/{provider id}`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.post("/identities/webhooks/{provider_id}")
    async def receive(provider_id: str, request: Request) -> Response:
        try:
            body = await _body(request)
            source = request.client.host if request.client else ""
            delivery = Delivery(provider_id, dict(request.headers), body, source=source)
            return JSONResponse(await signals.receive(delivery))
        except GatewayError as error:
            return JSONResponse({"message": error.message}, error.status)
        except Exception:  # noqa: BLE001 - a stranger learns nothing; a vendor repeats it
            return JSONResponse({"message": Unavailable().message}, 503)

    return app


async def _body(request: Request) -> bytes:
    """Return the body as it arrived: its signature covers these bytes. Raises ValidationFailed above 1 MiB."""
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > _MAX_BODY:
            raise ValidationFailed("The body is too large.", kind="CannotParse")
    return bytes(taken)
