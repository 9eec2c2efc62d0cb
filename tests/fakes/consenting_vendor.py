"""A vendor on loopback at which everybody consents at once, and a user's way through a consent over real HTTP.

It knows discovery, codes, refreshing, revocation (RFC 7009) and introspection (RFC 7662). `down` makes it answer 503
to revocations, in its own words.
"""

import contextlib
import json
import re
import secrets
import threading
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import httpx2

CLIENT_ID, CLIENT_SECRET = "gateway-1", "secret-of-the-client"
WORDS = {"error": "temporarily_unavailable", "error_description": "maintenance until noon"}
_FIELD = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)"')


class ConsentingVendor:
    """`living` are the tokens that are good."""

    def __init__(self) -> None:
        self.living: set[str] = set()
        self.codes: set[str] = set()
        self.asked: list[str] = []
        self.down = False

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _door(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def configuration(self) -> dict[str, Any]:
        """Return the provider configuration for CreateOauth2CredentialProvider."""
        return {
            "customOauth2ProviderConfig": {
                "oauthDiscovery": {"discoveryUrl": f"{self.url}/.well-known/openid-configuration"},
                "clientId": CLIENT_ID,
                "clientSecret": CLIENT_SECRET,
            }
        }

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        """Answer a POST of the client."""
        self.asked.append(path)
        if path == "/token":
            spent = form.get("code") or form.get("refresh_token", "")
            if spent not in self.codes | self.living:
                return 400, {"error": "invalid_grant"}
            self.codes.discard(spent)
            self.living.discard(spent)
            made = [secrets.token_hex(16) for _ in range(2)]
            self.living |= set(made)
            return 200, {"access_token": made[0], "refresh_token": made[1], "token_type": "Bearer", "expires_in": 3600}
        if path == "/introspect":
            return 200, {"active": form.get("token") in self.living}
        if path == "/revoke":
            if self.down:
                return 503, WORDS
            self.living.discard(form.get("token", ""))
            return 200, {}
        return 404, {}

    def discovery(self) -> dict[str, Any]:
        ends = {"authorization": "authorize", "token": "token", "revocation": "revoke", "introspection": "introspect"}
        named = {f"{name}_endpoint": f"{self.url}/{path}" for name, path in ends.items()}
        return {
            "issuer": self.url,
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            **named,
        }


def _door(vendor: ConsentingVendor) -> type[BaseHTTPRequestHandler]:
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/authorize":
                asked = dict(parse_qsl(parts.query))
                code = secrets.token_hex(16)
                vendor.codes.add(code)
                self._say(303, {}, f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
            else:
                self._say(200, vendor.discovery())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            self._say(*vendor.answer(self.path, dict(parse_qsl(body))))

        def _say(self, status: int, body: Any, location: str = "") -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if location:
                self.send_header("location", location)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Door


def consented(control: Any, data: Any, vendor: ConsentingVendor, *, workload: str, provider: str, user: str) -> str:
    """Have a user consent through the pages of the gateway, and return the access token that the agent is given."""
    back = f"{vendor.url}/return"
    access = _workload_access(control, data, workload, back, user)
    asked = {
        "workloadIdentityToken": access,
        "resourceCredentialProviderName": provider,
        "scopes": ["parcels"],
        "oauth2Flow": "USER_FEDERATION",
        "resourceOauth2ReturnUrl": back,
    }
    link = data.get_resource_oauth2_token(**asked)["authorizationUrl"]
    session = _walked(link, back)
    data.complete_resource_token_auth(sessionUri=session, userIdentifier={"userId": user})
    return str(data.get_resource_oauth2_token(**asked)["accessToken"])


def _workload_access(control: Any, data: Any, workload: str, back: str, user: str) -> str:
    with contextlib.suppress(control.exceptions.ConflictException):
        control.create_workload_identity(name=workload, allowedResourceOauth2ReturnUrls=[back])
    found = data.get_workload_access_token_for_user_id(workloadName=workload, userId=user)
    return str(found["workloadAccessToken"])


def _walked(link: str, back: str) -> str:
    """Click through the pages, and return the session with which the browser comes back to the application."""
    with httpx2.Client(trust_env=False, follow_redirects=False) as browser:
        response = browser.get(link)
        for _ in range(8):
            url = str(response.url)
            if response.is_redirect:
                url = urljoin(url, response.headers["location"])
                if url.startswith(back):
                    return parse_qs(urlsplit(url).query)["session_id"][0]
                response = browser.get(url)
            else:
                form = {unescape(name): unescape(value) for name, value in _FIELD.findall(response.text)}
                target = re.search(r'<form[^>]*action="([^"]*)"', response.text)
                assert target, response.text
                origin = f"{response.url.scheme}://{response.url.netloc.decode()}"
                response = browser.post(urljoin(url, unescape(target[1])), data=form, headers={"origin": origin})
    raise AssertionError("the walk through the pages does not end")
