"""A vendor that stamps every token with the client, the person and the authorization request that it came of.

Strict: codes are single-use and bound to redirect URI and PKCE challenge, refresh tokens are single-use, and a reused one
revokes its family. Whoever gets a token can ask what it stands for. Nothing in it comes from the product.
"""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from tests.fakes.json_server import Asked, JsonServer

Form = dict[str, str]


@dataclass(frozen=True)
class Stamp:
    """What a token stands for. `about` is whatever the test attached to the authorization request."""

    client: str
    person: object
    serial: int
    about: Any


@dataclass
class Family:
    """Everything that came of one consent. `refresh` is the refresh token that lives."""

    stamp: Stamp
    refresh: str = ""
    access: str = ""
    revoked: bool = False
    rotations: int = 0


@dataclass(frozen=True)
class Use:
    """One refresh token that was sent. Times of the monotonic clock: when it came, and when it had been answered."""

    token: str
    serial: int
    began: float
    ended: float
    rotated: bool


@dataclass(frozen=True)
class _Code:
    stamp: Stamp
    redirect_uri: str
    challenge: str


@dataclass(eq=False)
class StampingVendor(JsonServer):
    """`clients` are the secrets of the clients by id. `trouble` may answer a form of the token endpoint instead of it.
    `through` is the URL under which it is known, where that is not its own.

    `pause` gives the seconds that a refresh takes: half of them before and half of them after the token is spent.
    """

    lifetime: float = 3600.0
    through: str = ""
    pause: Callable[[], float] = lambda: 0.0
    trouble: Callable[[Form], tuple[int, Any] | None] = lambda _: None
    clients: dict[str, str] = field(default_factory=dict)
    families: dict[int, Family] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self._serve)
        self.stamps: dict[str, Stamp] = {}
        self._codes: dict[str, _Code] = {}
        self._of_refresh: dict[str, Family] = {}
        self._lock = threading.Lock()
        self._serial = 0

    @property
    def metadata(self) -> dict[str, Any]:
        """What a credential provider is told of it."""
        url = self.through or self.url
        return {
            "issuer": url,
            "authorizationEndpoint": f"{url}/authorize",
            "tokenEndpoint": f"{url}/token",
            "responseTypes": ["code"],
        }

    def configuration(self, client: str, **more: Any) -> dict[str, Any]:
        """Return the input of CreateOauth2CredentialProvider for a client, which is made if there is none."""
        secret = self.clients.setdefault(client, f"secret-of-{client}-{secrets.token_hex(8)}")
        custom = {
            "oauthDiscovery": {"authorizationServerMetadata": self.metadata},
            "clientId": client,
            "clientSecret": secret,
            **more,
        }
        return {
            "credentialProviderVendor": "CustomOauth2",
            "oauth2ProviderConfigInput": {"customOauth2ProviderConfig": custom},
        }

    def agree(self, url: str, person: object, about: Any = None) -> tuple[str, Form]:
        """Let a person agree to the authorization request of this URL; return the redirect URI and its parameters."""
        asked = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        with self._lock:
            assert asked["client_id"] in self.clients, "an unknown client"
            self._serial += 1
            stamp = Stamp(asked["client_id"], person, self._serial, about)
            code = f"code-{self._serial}-{secrets.token_hex(8)}"
            self._codes[code] = _Code(stamp, asked["redirect_uri"], asked["code_challenge"])
        return asked["redirect_uri"], {"code": code, "state": asked["state"]}

    def family(self, access: str) -> Family:
        """Return the family of an access token."""
        return self.families[self.stamps[access].serial]

    def _serve(self, asked: Asked) -> tuple[int, Any]:
        form = dict(parse_qsl(asked.body.decode(), keep_blank_values=True))
        self.forms.append(form)
        trouble = self.trouble(form)
        if trouble is not None:
            return trouble
        client = self._client(asked, form)
        if client is None:
            return 401, {"error": "invalid_client"}
        match form.get("grant_type"):
            case "authorization_code":
                return self._redeem(client, form)
            case "refresh_token":
                return self._renew(client, form["refresh_token"])
            case "client_credentials":
                with self._lock:
                    self._serial += 1
                    return 200, self._answer(Stamp(client, None, self._serial, None), "")
        return 400, {"error": "unsupported_grant_type"}

    def _client(self, asked: Asked, form: Form) -> str | None:
        scheme, _, value = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, _, secret = base64.b64decode(value).decode().partition(":")
            name, secret = unquote_plus(name), unquote_plus(secret)
        else:
            name, secret = form.get("client_id", ""), form.get("client_secret", "")
        return name if self.clients.get(name) == secret else None

    def _redeem(self, client: str, form: Form) -> tuple[int, Any]:
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        with self._lock:
            code = self._codes.pop(form.get("code", ""), None)
            if code is None or (code.stamp.client, code.redirect_uri, code.challenge) != (
                client, form.get("redirect_uri"), challenge
            ):  # fmt: skip
                return 400, {"error": "invalid_grant"}
            family = self.families[code.stamp.serial] = Family(code.stamp)
            return 200, self._pair(family)

    def _renew(self, client: str, token: str) -> tuple[int, Any]:
        began, pause = time.monotonic(), self.pause()
        time.sleep(pause / 2)
        with self._lock:
            family = self._of_refresh.get(token)
            good = family is not None and family.stamp.client == client
            if family is None or not good:
                return 400, {"error": "invalid_grant"}
            rotated = family.refresh == token and not family.revoked
            if rotated:
                answer: tuple[int, Any] = 200, self._pair(family)
                family.rotations += 1
            else:
                family.revoked = True
                answer = 400, {"error": "invalid_grant", "error_description": "reuse detected"}
        time.sleep(pause / 2)
        self.uses.append(Use(token, family.stamp.serial, began, time.monotonic(), rotated))
        return answer

    def _pair(self, family: Family) -> dict[str, Any]:
        family.refresh = f"refresh-{family.stamp.serial}-{secrets.token_hex(16)}"
        self._of_refresh[family.refresh] = family
        answer = self._answer(family.stamp, family.refresh)
        family.access = answer["access_token"]
        return answer

    def _answer(self, stamp: Stamp, refresh: str) -> dict[str, Any]:
        access = f"access-{stamp.serial}-{secrets.token_hex(16)}"
        self.stamps[access] = stamp
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": self.lifetime}
        return answer | ({"refresh_token": refresh} if refresh else {})


def returned_to(redirect_uri: str, parameters: Form) -> str:
    """Return the URL that the vendor sends a browser to."""
    return f"{redirect_uri}?{urlencode(parameters)}"
