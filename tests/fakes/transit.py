"""The transit engine of HashiCorp Vault and OpenBao, as far as a client that wraps keys meets it.

Real HTTP, real AES-256-GCM, key versions, derived keys, associated data, and the status codes and texts of the real
engine. What a token may do is one of two policies: `update` (use keys) or `create` (an unknown key is made when
something is encrypted with it, as the real engine does). Nothing in it comes from the product.
"""

import base64
import binascii
import json
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.fakes.json_server import Asked, JsonServer

TOKEN = "s.transit-token"
NO_CONTEXT = "missing 'context' for key derivation; the key was created using a derived key"


@dataclass
class Key:
    derived: bool = False
    versions: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    min_decryption_version: int = 1

    def cipher(self, version: int, context: bytes) -> AESGCM:
        key = self.versions[version - 1]
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=context).derive(key) if self.derived else key)


class Refused(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        self.status = status
        self.errors = list(errors)


class FakeTransit(JsonServer):
    """A server with one mount. `fault` is answered instead of anything else."""

    def __init__(self, mount: str = "transit", *, policy: str = "update", namespace: str = "") -> None:
        super().__init__(self._answer)
        self.mount = mount
        self.namespace = namespace
        self.policy = policy
        self.token = TOKEN
        self.keys = {"vault": Key()}
        self.fault: tuple[int, Any] | None = None

    def seal(self) -> None:
        """Seal the server: it answers nothing else until it is unsealed."""
        self.fault = (503, {"errors": ["Vault is sealed"]})

    def _answer(self, asked: Asked) -> tuple[int, Any]:
        if self.fault is not None:
            return self.fault
        try:
            return 200, {"request_id": "1", "lease_id": "", "renewable": False, "data": self._serve(asked)}
        except Refused as refused:
            return refused.status, {"errors": refused.errors}

    def _serve(self, asked: Asked) -> dict[str, Any]:
        if asked.headers.get("x-vault-token") != self.token:
            raise Refused(403, "permission denied")
        if asked.headers.get("x-vault-namespace", "") != self.namespace:
            raise Refused(404, "no handler for route. route entry not found.")
        operation, _, name = asked.path.removeprefix(f"/v1/{self.mount}/").partition("/")
        if not asked.path.startswith(f"/v1/{self.mount}/") or operation not in {"encrypt", "decrypt"}:
            raise Refused(404, "no handler for route. route entry not found.")
        members = json.loads(asked.body)
        context, associated = _decoded(members, "context"), _decoded(members, "associated_data")
        if operation == "encrypt" and name not in self.keys:
            if self.policy != "create":
                raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")
            self.keys[name] = Key(derived=bool(context))
        if name not in self.keys:
            raise Refused(400, "encryption key not found")
        if self.keys[name].derived and not context:
            raise Refused(400, NO_CONTEXT)
        act = self._encrypt if operation == "encrypt" else self._decrypt
        return act(self.keys[name], members, context, associated)

    def _encrypt(self, key: Key, members: dict[str, Any], context: bytes, associated: bytes) -> dict[str, Any]:
        version, nonce = len(key.versions), os.urandom(12)
        sealed = nonce + key.cipher(version, context).encrypt(nonce, _decoded(members, "plaintext"), associated)
        return {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}

    def _decrypt(self, key: Key, members: dict[str, Any], context: bytes, associated: bytes) -> dict[str, Any]:
        vault, version, encoded = str(members["ciphertext"]).split(":")
        if vault != "vault":
            raise Refused(400, "invalid ciphertext: no prefix")
        number = int(version.removeprefix("v"))
        if number > len(key.versions):
            raise Refused(400, "invalid ciphertext: version is too new")
        if number < key.min_decryption_version:
            raise Refused(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            sealed = base64.b64decode(encoded, validate=True)
            plaintext = key.cipher(number, context).decrypt(sealed[:12], sealed[12:], associated)
        except (InvalidTag, binascii.Error):
            raise Refused(400, "invalid ciphertext: unable to decrypt") from None
        return {"plaintext": base64.b64encode(plaintext).decode()}


def _decoded(members: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(members.get(name, ""), validate=True)
    except binascii.Error:
        raise Refused(400, f"failed to base64-decode {name}") from None
