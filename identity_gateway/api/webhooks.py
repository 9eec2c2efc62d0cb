"""Where vendors send their webhooks. Nothing is decided here: `signals` verifies and applies."""

import asyncio
import uuid

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from identity_gateway import telemetry
from identity_gateway.api import render
from identity_gateway.credential_providers import WEBHOOKS
from identity_gateway.errors import GatewayError, ValidationFailed
from identity_gateway.signals import Delivery, Signals

DOORS = {"/identities/webhooks/{provider_id}": "webhooks of vendors: signed by them"}

_PREFIX = WEBHOOKS.encode()
_OPERATION = "ReceiveVendorSignal"
_MAX_BODY = 1 << 20
_BODY_PATIENCE = 15.0

_log = structlog.get_logger()


class _TooLarge(ValidationFailed):
    status = 413


class _TooSlow(ValidationFailed):
    status = 408


def opens(raw_path: bytes) -> bool:
    """Whether the application of `webhooks` serves this path (raw, without the query)."""
    return raw_path.startswith(_PREFIX)


def webhooks(signals: Signals) -> FastAPI:
    """Return the application that receives `POST /identities/webhooks/{provider id}`.

    Errors are `{"message": …}`; an internal one says nothing, and its status makes the vendor send again.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.post("/identities/webhooks/{provider_id}")
    async def receive(provider_id: str, request: Request) -> Response:
        request_id, source = str(uuid.uuid4()), request.client.host if request.client else ""
        fault: GatewayError | None = None
        try:
            body = await _body(request)
            delivery = Delivery(provider_id, dict(request.headers), body, request_id=request_id, source=source)
            answer = JSONResponse(await signals.receive(delivery))
        except ClientDisconnect:
            return Response(None, 400)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - the last resort: a stranger learns nothing
            fault = render.safe(error)
            answer = JSONResponse({"message": fault.message}, fault.status)
        answer.headers["x-amzn-requestid"] = request_id
        answer.headers["cache-control"] = "no-store"
        telemetry.REQUESTS.labels(_OPERATION, str(answer.status_code)).inc()
        _log.info(
            "request",
            request_id=request_id,
            operation=_OPERATION,
            status=answer.status_code,
            source=source,
            error=fault.__class__.__name__ if fault else None,
            reason=fault.reason if fault else None,
        )
        return answer

    return app


async def _body(request: Request) -> bytes:
    """Return the body as it arrived: its signature covers these bytes. Raises ValidationFailed when it is too much."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > _MAX_BODY:
        raise _TooLarge("The body is larger than 1 MiB.", kind="CannotParse")
    taken = bytearray()
    try:
        async with asyncio.timeout(_BODY_PATIENCE):
            async for chunk in request.stream():
                taken += chunk
                if len(taken) > _MAX_BODY:
                    raise _TooLarge("The body is larger than 1 MiB.", kind="CannotParse")
    except TimeoutError:
        raise _TooSlow("The body did not arrive in time.", kind="CannotParse") from None
    return bytes(taken)
