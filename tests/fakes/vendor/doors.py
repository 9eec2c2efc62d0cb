"""What one endpoint of a vendor takes, and the reading of a request with a vendor's eyes: no kinder than the real one."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from tests.fakes.vendor.answers import Answer


class Turned(Exception):
    """The vendor's no. `why` is for the reader of a failed test."""

    def __init__(self, answer: Answer, why: str) -> None:
        super().__init__(why)
        self.answer = answer
        self.why = why


@dataclass(frozen=True)
class Door:
    """An endpoint.

    `client`: accepted ways to say which client asks: `basic`, `post`, `none`, `token` (the token itself as Bearer),
    `jwt` (an assertion as Bearer). `body`: accepted encodings (`form`, `json`, `none`). `headers` must be there with
    that value (`*`: any). `asks_for`: what `Accept` must name, where the vendor would answer in another form. `scheme`
    is the vendor's word for Bearer.
    """

    url: str
    method: str = "POST"
    client: frozenset[str] = frozenset({"basic"})
    body: frozenset[str] = frozenset({"form"})
    headers: Mapping[str, str] = field(default_factory=dict)
    asks_for: str | None = None
    scheme: str = "Bearer"


def door(url: str, client: str = "basic", body: str = "form", method: str = "POST", **more: Any) -> Door:
    """Return a door; `client` and `body` are blank-separated choices."""
    return Door(url, method, frozenset(client.split()), frozenset(body.split()), **more)


@dataclass(frozen=True)
class UserInfo:
    """Where the vendor says whose account a token opens, what it says, and what the gateway must understand."""

    door: Door
    says: Mapping[str, Any]
    account: str | None = None
    subject: str = ""
    label: str | None = None
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Request:
    """One request as it came out of the gateway. Header names in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def address(self) -> str:
        return self.url.partition("?")[0]

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def query(self) -> dict[str, str]:
        return unique(
            parse_qsl(urlsplit(self.url).query, keep_blank_values=True, strict_parsing=bool(urlsplit(self.url).query))
        )

    @property
    def encoding(self) -> str:
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not self.body:
            return "none"
        return {"application/x-www-form-urlencoded": "form", "application/json": "json"}.get(kind, kind or "untyped")

    def params(self) -> dict[str, Any]:
        """Return what the body says. Raises ValueError for a body that is not what its type says."""
        if self.encoding == "form":
            return unique(parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True))
        if self.encoding == "json":
            document = json.loads(self.body)
            if not isinstance(document, dict):
                raise ValueError("not a JSON object")
            return document
        if self.encoding == "none":
            return {}
        raise ValueError(f"a body of type {self.encoding}")

    def bearer(self, wanted: str = "Bearer") -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == wanted.lower() and token else None

    def basic(self) -> tuple[str, str] | None:
        scheme, _, text = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return (user, password) if colon else None


def unique(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return pairs as a mapping; repeated names (RFC 8707 allows some) become lists."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def form_decoded(pair: tuple[str, str]) -> tuple[str, str]:
    """Return Basic credentials as RFC 6749 §2.3.1 writes them, read back."""
    return unquote_plus(pair[0]), unquote_plus(pair[1])
