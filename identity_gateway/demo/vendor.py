"""The demo's vendor: an authorization server with a consent page, and an API that its access tokens open.

Small but real: exact redirect URIs, PKCE (S256) required, single-use codes, rotating refresh tokens, the client
credentials grant. One person is always signed in to it. It stands for Slack, Zoom or GitHub, which a demo cannot reach.
"""

import argparse
import base64
import hashlib
import hmac
import html
import os
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

CLIENT_ID = "demo-gateway"
PERSON = "Ada"
LIFETIME = 60
CODE_LIFETIME = 300


@dataclass(frozen=True, slots=True)
class _Given:
    """What a code or a token stands for."""

    owner: str
    scope: str
    until: float
    redirect_uri: str = ""
    challenge: str = ""


class _Vendor:
    def __init__(self, url: str, callback_prefix: str, client_secret: str) -> None:
        self.url = url
        self.callback_prefix = callback_prefix
        self.client_secret = client_secret
        self.codes: dict[str, _Given] = {}
        self.access: dict[str, _Given] = {}
        self.refresh: dict[str, _Given] = {}

    def asked(self, query: dict[str, str]) -> str | None:
        """Return what is wrong with an authorization request, if anything is."""
        if query.get("client_id") != CLIENT_ID:
            return "This client is not registered."
        if not query.get("redirect_uri", "").startswith(self.callback_prefix):
            return "This redirect URI is not registered."
        if query.get("response_type") != "code" or query.get("code_challenge_method") != "S256":
            return "Only the code flow with PKCE (S256) is served."
        return None

    def knows(self, request: Request) -> bool:
        """Whether HTTP Basic carries the client's credentials."""
        try:
            scheme, _, value = request.headers.get("authorization", "").partition(" ")
            user, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:
            return False
        right = hmac.compare_digest(unquote_plus(password), self.client_secret)
        return scheme.lower() == "basic" and user == CLIENT_ID and right

    def issued(self, owner: str, scope: str, *, refresh: bool) -> Response:
        made, now = secrets.token_urlsafe(24), time.time()
        self.access[made] = _Given(owner, scope, now + LIFETIME)
        answer = {"access_token": made, "token_type": "Bearer", "expires_in": LIFETIME, "scope": scope}
        if refresh:
            answer["refresh_token"] = secrets.token_urlsafe(24)
            self.refresh[str(answer["refresh_token"])] = _Given(owner, scope, now + 86400)
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    def exchange(self, form: dict[str, str]) -> Response:
        """Answer the token endpoint to a client that is known."""
        match form.get("grant_type"):
            case "client_credentials":
                return self.issued("the agent itself", form.get("scope", ""), refresh=False)
            case "refresh_token":
                given = self.refresh.pop(form.get("refresh_token", ""), None)
            case "authorization_code":
                given = self.codes.pop(form.get("code", ""), None)
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                if given and (given.challenge != challenge or given.redirect_uri != form.get("redirect_uri")):
                    given = None
            case _:
                return JSONResponse({"error": "unsupported_grant_type"}, 400)
        if given is None or given.until < time.time():
            return JSONResponse({"error": "invalid_grant", "error_description": "used, expired or unknown"}, 400)
        return self.issued(given.owner, given.scope, refresh=True)


def vendor(url: str, callback_prefix: str, client_secret: str) -> FastAPI:
    """Return the application of a vendor at `url` that sends browsers back to `callback_prefix` alone."""
    app, known = FastAPI(openapi_url=None), _Vendor(url, callback_prefix, client_secret)

    @app.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return {
            "issuer": url,
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    @app.get("/authorize")
    async def consent(request: Request) -> Response:
        query = dict(request.query_params)
        if wrong := known.asked(query):
            return HTMLResponse(_PAGE.format(body=f"<p>{wrong}</p>"), 400)
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in query.items()
        )
        scope = html.escape(query.get("scope", "") or "nothing in particular")
        return HTMLResponse(_PAGE.format(body=_CONSENT.format(person=PERSON, hidden=hidden, scope=scope)))

    @app.post("/authorize")
    async def decided(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        if wrong := known.asked(form):
            return HTMLResponse(_PAGE.format(body=f"<p>{wrong}</p>"), 400)
        answer = {"state": form.get("state", ""), "iss": url}
        if form.get("decision") == "allow":
            answer["code"] = secrets.token_urlsafe(24)
            known.codes[answer["code"]] = _Given(
                PERSON,
                form.get("scope", ""),
                time.time() + CODE_LIFETIME,
                form["redirect_uri"],
                form.get("code_challenge", ""),
            )
        else:
            answer["error"] = "access_denied"
        return RedirectResponse(f"{form['redirect_uri']}?{urlencode(answer)}", 303)

    @app.post("/token")
    async def token(request: Request) -> Response:
        if not known.knows(request):
            return JSONResponse({"error": "invalid_client"}, 401, {"www-authenticate": "Basic"})
        return known.exchange(dict(parse_qsl((await request.body()).decode())))

    @app.get("/parcels")
    async def parcels(request: Request) -> Response:
        given = known.access.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if given is None or given.until < time.time():
            return JSONResponse({"error": "invalid_token"}, 401)
        return JSONResponse({"parcelsOf": given.owner, "parcels": ["a book", "two pens"], "scope": given.scope})

    return app


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Demo Parcels</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:1.1rem system-ui;max-width:30rem;margin:4rem auto;padding:0 1rem}}
button{{font:inherit;padding:.5rem 1rem}}</style><h1>Demo Parcels</h1>{body}</html>"""

_CONSENT = """<p>You are signed in as <b>{person}</b>. The demo's gateway asks for: <b>{scope}</b>.</p>
<form method="post" action="/authorize">{hidden}<button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></form>"""


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(description="The demo's vendor.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gateway", required=True, help="URL of the gateway")
    given = parser.parse_args()
    prefix = f"{given.gateway}/identities/oauth2/callback/"
    app = vendor(f"http://127.0.0.1:{given.port}", prefix, os.environ["DEMO_VENDOR_SECRET"])
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
