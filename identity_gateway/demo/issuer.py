"""The demo's OIDC issuer: discovery document, key set, and a token endpoint for the client credentials grant.

Small but real: RS256 keys made at start, RFC 9068 access tokens. Not an identity provider for anything but the demo:
there are no users, and its one client's secret comes from the environment.
"""

import argparse
import hmac
import os
import secrets
import time
from typing import Any
from urllib.parse import parse_qsl

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

CLIENT_ID = "demo-client"
AUDIENCE = "demo-agents"
LIFETIME = 3600


def issuer(url: str, client_secret: str) -> FastAPI:
    """Return the application of an issuer that stands at `url`."""
    app = FastAPI(openapi_url=None)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = secrets.token_hex(4)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    basic = HTTPBasic()

    @app.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return {
            "issuer": url,
            "jwks_uri": f"{url}/keys",
            "token_endpoint": f"{url}/token",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "grant_types_supported": ["client_credentials"],
        }

    @app.get("/keys")
    async def keys() -> dict[str, Any]:
        return {"keys": [public | {"kid": kid, "use": "sig", "alg": "RS256"}]}

    @app.post("/token")
    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        given: HTTPBasicCredentials | None = await basic(request)
        known = given is not None and hmac.compare_digest(given.username, CLIENT_ID)
        if given is None or not (known and hmac.compare_digest(given.password, client_secret)):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        now, scope = int(time.time()), form.get("scope", "invoke")
        claims = {
            "iss": url,
            "sub": CLIENT_ID,
            "aud": AUDIENCE,
            "client_id": CLIENT_ID,
            "scope": scope,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_hex(8),
        }
        signed = jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid, "typ": "at+jwt"})
        return JSONResponse({"access_token": signed, "token_type": "Bearer", "expires_in": LIFETIME, "scope": scope})

    return app


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(description="The demo's issuer.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    app = issuer(f"http://127.0.0.1:{port}", os.environ["DEMO_CLIENT_SECRET"])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
