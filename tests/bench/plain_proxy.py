"""The peer: an authenticating proxy as people write it with FastAPI, httpx and PyJWT.

It checks signature, issuer, audience and expiry, and forwards. It has no signatures of AWS, no audit record, no workload
token, no sessions, no limits; what it leaves out makes it cheaper, not dearer.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.background import BackgroundTask


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=os.environ["BENCH_AGENT"], timeout=60) as client:
        app.state.client = client
        app.state.keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(os.environ["BENCH_KEYS"])["keys"]}
        yield


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


def claims(request: Request, credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> dict[str, Any]:
    token = credentials.credentials
    try:
        key = request.app.state.keys[jwt.get_unverified_header(token)["kid"]]
        return jwt.decode(
            token, key, algorithms=["RS256"], audience=os.environ["BENCH_AUDIENCE"], issuer=os.environ["BENCH_ISSUER"]
        )
    except (jwt.PyJWTError, KeyError):
        raise HTTPException(401, "invalid token") from None


@app.post("/invocations")
async def invoke(request: Request, claims: Annotated[dict[str, Any], Depends(claims)]) -> StreamingResponse:
    client = request.app.state.client
    upstream = client.build_request(
        "POST", "/invocations", content=await request.body(), headers={"x-user": claims["sub"]}
    )
    response = await client.send(upstream, stream=True)
    return StreamingResponse(
        response.aiter_raw(),
        response.status_code,
        media_type=response.headers["content-type"],
        background=BackgroundTask(response.aclose),
    )
