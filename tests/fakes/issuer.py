"""A token issuer on loopback that can misbehave: its keys, its discovery document, and tokens of any header and payload.

Nothing in it comes from the product: signatures are made with `cryptography` directly, so that the product is judged by
someone else's arithmetic.
"""

import asyncio
import base64
import contextlib
import functools
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/keys"
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
DIGESTS = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8))


@functools.cache
def rsa_private(index: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return one of a few RSA keys, each made once per test run: making them is slow."""
    del index
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True)
class SigningKey:
    """A private key, and the id and algorithm under which it is published."""

    kid: str | None
    alg: str
    private: Any = field(repr=False)

    @classmethod
    def make(cls, alg: str = "ES256", kid: str | None = "key-1", *, index: int = 0) -> Self:
        if alg in CURVES:
            return cls(kid, alg, ec.generate_private_key(CURVES[alg]))
        return cls(kid, alg, ed25519.Ed25519PrivateKey.generate() if alg == "EdDSA" else rsa_private(index))

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public JWK; a change to None removes the member."""
        public = self.private.public_key()
        members: dict[str, Any] = {"kid": self.kid, "alg": self.alg, "use": "sig"}
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            members |= {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        elif isinstance(public, ec.EllipticCurvePublicKey):
            point, size = public.public_numbers(), (public.key_size + 7) // 8
            members |= {
                "kty": "EC",
                "crv": f"P-{public.key_size}",
                "x": number(point.x, size),
                "y": number(point.y, size),
            }
        else:
            members |= {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
        return {name: value for name, value in (members | changes).items() if value is not None}

    def sign(self, data: bytes, alg: str | None = None) -> bytes:
        alg = alg or self.alg
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(data)
        digest = DIGESTS[alg[-3:]]
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            size = (self.private.key_size + 7) // 8
            r, s = utils.decode_dss_signature(self.private.sign(data, ec.ECDSA(digest)))
            return r.to_bytes(size) + s.to_bytes(size)
        if alg.startswith("PS"):
            return self.private.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return self.private.sign(data, padding.PKCS1v15(), digest)

    def token(
        self,
        claims: Mapping[str, Any] | bytes,
        header: Mapping[str, Any] | bytes | None = None,
        *,
        sign_as: str | None = None,
    ) -> str:
        """Return a token. A header is what replaces the members of the usual one (None removes), or the bytes to use."""
        if not isinstance(header, bytes):
            members = {"alg": self.alg, "kid": self.kid, "typ": "JWT"} | dict(header or {})
            header = json.dumps({name: value for name, value in members.items() if value is not None}).encode()
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{b64(header)}.{b64(payload)}"
        return f"{signed}.{b64(self.sign(signed.encode(), sign_as))}"


class Vice(Enum):
    """Ways in which an issuer's answer can be bad."""

    DOWN = auto()
    HANG = auto()
    ERROR = auto()
    REDIRECT = auto()
    GARBAGE = auto()
    EMPTY_SET = auto()
    DEEP = auto()
    PRIVATE_KEY = auto()
    SLOW_DRIP = auto()
    ENDLESS = auto()
    COMPRESSED = auto()


class FakeIssuer:
    """An HTTP server with a discovery document and a key set. `async with FakeIssuer() as issuer:` runs it.

    `vices` maps a path to what is wrong with it now. An answer whose path is in `gates` is made at once, and held back until
    that event is set.
    """

    def __init__(self, *keys: SigningKey, tls: ssl.SSLContext | None = None) -> None:
        self.keys = list(keys) or [SigningKey.make()]
        self.vices: dict[str, Vice] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.document_changes: dict[str, Any] = {}
        self.jwks_headers: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.heads: list[bytes] = []
        self._tls = tls
        self._heard = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def issuer(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def discovery_url(self) -> str:
        return self.issuer + DISCOVERY

    def rotate(self, *keys: SigningKey) -> SigningKey:
        """Publish other keys from now on, by default one new one, and return the first."""
        self.keys = list(keys) or [SigningKey.make(kid=f"key-{self.requests.total()}-new")]
        return self.keys[0]

    def fail(self, vice: Vice) -> None:
        """Be bad at everything."""
        self.vices = dict.fromkeys((DISCOVERY, JWKS), vice)

    def recover(self) -> None:
        self.vices = {}

    async def heard(self, path: str, times: int = 1) -> None:
        """Wait until this path was asked for so many times, whether or not it was answered."""
        async with self._heard:
            await self._heard.wait_for(lambda: self.requests[path] >= times)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            path = head.split(b" ")[1].decode().partition("?")[0]
            async with self._heard:
                self.requests[path] += 1
                self._heard.notify_all()
            async for part in self._answer(path):
                writer.write(part)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _answer(self, path: str) -> AsyncIterator[bytes]:
        vice = self.vices.get(path)
        if vice is Vice.HANG:
            await asyncio.Event().wait()
        if vice is Vice.SLOW_DRIP:
            yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
            while True:
                yield b" "
                await asyncio.sleep(0.01)
        if vice is Vice.ENDLESS:
            yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
            while True:
                yield b" " * 65536
        if vice is not Vice.DOWN:
            answer = self._whole_answer(path, vice)
            if path in self.gates:
                await self.gates[path].wait()
            yield answer

    def _whole_answer(self, path: str, vice: Vice | None) -> bytes:
        bodies = {
            Vice.GARBAGE: b"\xff<html>",
            Vice.EMPTY_SET: b'{"keys": []}',
            Vice.DEEP: b"[" * 100_000,
            Vice.PRIVATE_KEY: json.dumps({"keys": [self.keys[0].jwk(d="AQAB")]}).encode(),
            Vice.REDIRECT: b"",
        }
        status = {Vice.REDIRECT: "302 Found", Vice.ERROR: "500 Oops"}.get(vice, "200 OK")
        headers = dict(self.jwks_headers) if path == JWKS else {}
        if vice is Vice.REDIRECT:
            headers["location"] = self.issuer + "/elsewhere"
        if vice is Vice.COMPRESSED:
            headers["content-encoding"] = "gzip"
        body = bodies.get(vice) if vice in bodies else self._document(path)
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _document(self, path: str) -> bytes:
        if path == JWKS:
            return json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()
        return json.dumps({"issuer": self.issuer, "jwks_uri": self.issuer + JWKS} | self.document_changes).encode()
