"""Keys in the transit engine of HashiCorp Vault or OpenBao: POST /v1/{mount}/encrypt/{key} and …/decrypt/{key}.

The place is sent both as `context`, from which a derived key is made, and as `associated_data`, which an AEAD key
authenticates: each kind of key ignores what it does not use. This module makes no key, renews no token, and follows no
redirect.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from identity_gateway.egress import Egress, EgressFailed, EgressRefused, Fetched, check_url
from identity_gateway.key_encryption.service import KeyLost, KeyRefused, KeyUnavailable
from identity_gateway.model import Secret
from identity_gateway.protocol import strictjson
from identity_gateway.sealing import Unsealable

SCHEME = "transit"

_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.-]{1,64}"
_NAME = re.compile(rf"(?=.{{1,200}}\Z)(?P<mount>{_SEGMENT}(?:/{_SEGMENT})*)/(?P<key>{_SEGMENT})", re.ASCII)
_CIPHERTEXT = re.compile(r"vault:v[0-9]{1,9}:[A-Za-z0-9+/]{16,4096}={0,2}", re.ASCII)
_NAMESPACE = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*/?", re.ASCII)
_MAX_TOKEN_BYTES = 16 * 1024

# Texts of the engine, in lower case. A missing key is an invalid request (400) like any other; only its text tells.
_NO_KEY = ("encryption key not found",)
_DOES_NOT_OPEN = ("invalid ciphertext", "unable to decrypt", "message authentication failed")


def token_file(path: Path) -> Callable[[], Secret]:
    """Return a function that reads the token anew each time: an agent beside the gateway may renew it in this file."""

    def read() -> Secret:
        try:
            with path.open("rb") as file:
                return Secret(file.read(_MAX_TOKEN_BYTES).decode("ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise KeyRefused(reason=f"the file of the transit token cannot be read: {type(error).__name__}") from None

    return read


@dataclass(frozen=True, slots=True)
class _Key:
    mount: str
    name: str
    service: "Transit" = field(repr=False)

    @property
    def reference(self) -> str:
        return f"{SCHEME}:{self.mount}/{self.name}"

    async def wrap(self, data_key: bytes, context: str) -> bytes:
        members = {"plaintext": base64.b64encode(data_key).decode()}
        found = await self.service.ask(self.mount, "encrypt", self.name, context, members)
        ciphertext = found.get("ciphertext")
        if not isinstance(ciphertext, str) or not _CIPHERTEXT.fullmatch(ciphertext):
            raise KeyUnavailable(reason="transit answered without a ciphertext")
        return ciphertext.encode()

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        try:
            ciphertext = wrapped.decode("ascii")
        except UnicodeDecodeError:
            raise Unsealable from None
        if not _CIPHERTEXT.fullmatch(ciphertext):
            raise Unsealable
        found = await self.service.ask(self.mount, "decrypt", self.name, context, {"ciphertext": ciphertext})
        try:
            data_key = base64.b64decode(found.get("plaintext") or "", validate=True)
        except (binascii.Error, ValueError, TypeError):
            data_key = b""
        if not data_key:
            raise KeyUnavailable(reason="transit answered without a plaintext")
        return data_key


class Transit:
    """One server, or one cluster behind one address.

    `address` is its URL without `/v1`. `token` is asked for each time. The time limit is that of `egress`, which should
    be this service's own: then nobody else waits behind its name server.
    """

    def __init__(
        self, egress: Egress, address: str, token: Callable[[], Secret], vault_arn: str, *, namespace: str = ""
    ) -> None:
        try:
            check_url(address)
        except EgressRefused as error:
            message = f"the address of the transit engine: {error}"
            raise ValueError(message) from None
        if "?" in address or (namespace and not _NAMESPACE.fullmatch(namespace)):
            raise ValueError("the address of the transit engine has no query, and its namespace is a path")
        self._egress = egress
        self._address = address.rstrip("/")
        self._token = token
        self._vault_arn = vault_arn
        self._namespace = namespace

    def key(self, name: str) -> _Key:
        """Return the key `mount/name`; a mount may have several segments. Raises ValueError for anything else."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError("not a transit key: mount/name")
        return _Key(match["mount"], match["key"], self)

    async def aclose(self) -> None:
        """Look up no name any more."""
        await self._egress.aclose()

    async def ask(
        self, mount: str, operation: str, name: str, context: str, members: Mapping[str, str]
    ) -> dict[str, Any]:
        """Make one call, once, and return its `data`. Raises KeyUnavailable, KeyRefused, KeyLost and Unsealable."""
        bound = base64.b64encode(f"{self._vault_arn} {context}".encode()).decode()
        content = json.dumps({**members, "context": bound, "associated_data": bound}).encode()
        url = f"{self._address}/v1/{mount}/{operation}/{name}"
        try:
            answer = await self._egress.fetch(url, method="POST", headers=self._headers(), content=content)
        except EgressRefused as error:
            raise KeyRefused(reason=f"transit was not asked: {error}") from None
        except EgressFailed as error:
            raise KeyUnavailable(reason=f"transit: {error}") from None
        document = _document(answer)
        if answer.status != 200:
            raise _named(answer.status, document)
        data = document.get("data")
        return data if isinstance(data, dict) else {}

    def _headers(self) -> list[tuple[str, str]]:
        headers = [("Content-Type", "application/json"), ("X-Vault-Token", self._token().reveal())]
        headers.append(("X-Vault-Request", "true"))  # an agent that listens for us may insist on it
        if self._namespace:
            headers.append(("X-Vault-Namespace", self._namespace))
        return headers


def _document(answer: Fetched) -> dict[str, Any]:
    try:
        document = strictjson.loads(answer.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _named(status: int, document: dict[str, Any]) -> Exception:
    """Return what an error answer means: 429, 5xx (503 is a sealed server) and redirects of a standby pass over."""
    listed = document.get("errors")
    said = " ".join(str(text) for text in listed).lower() if isinstance(listed, list) else ""
    if status in {400, 404} and any(text in said for text in _NO_KEY):
        return KeyLost(reason="transit has no such key")
    if status in {400, 500} and any(text in said for text in _DOES_NOT_OPEN):
        return Unsealable()
    reason = f"transit answered {status}"
    if status in {400, 401, 403, 404, 405}:
        return KeyRefused(reason=reason)
    return KeyUnavailable(reason=reason)
