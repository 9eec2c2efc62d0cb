"""The JSON Web Token as it arrived: its three parts, its header rules, and every way in which one is refused.

Nothing here is proven. Signatures are `jwt.keys`, claims are `jwt.claims`.
"""

import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol import strictjson

MAX_TOKEN_LENGTH = 16 * 1024
"""Characters. Entra ID tokens with groups reach 10 KiB."""

_MAX_HEADER_LENGTH = 4 * 1024
_HEADERS = 16
"""Headers of tokens that are known, at most: an issuer writes one for each of its keys, and each type of its tokens."""

_PADDING = (b"", b"", b"==", b"=")
_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
"""From the alphabet of base64url to that of base64, in which an exclamation mark has no place."""
_LAST: tuple[Collection[int], ...] = (range(256), (), frozenset(b"AQgw"), frozenset(b"AEIMQUYcgkosw048"))
"""The last characters of texts, by their length modulo 4, whose unused bits are zero."""

_SEGMENT = re.compile(rb"[A-Za-z0-9_-]+")
_KEY_ID = re.compile(r"[\x20-\x7e]{1,256}", re.ASCII)
_TYPES = frozenset({"jwt", "at+jwt"})
_CHANGES_MEANING = ("crit", "b64", "zip", "enc")
_CARRIES_A_KEY = ("jku", "x5u", "jwk")


class Refusal(StrEnum):
    """Why a token was refused: the first word of the `reason` of every error that `protocol.jwt` raises."""

    TOO_LARGE = "too_large"
    NOT_COMPACT = "not_compact"
    ENCRYPTED = "encrypted"
    BAD_ENCODING = "bad_encoding"
    BAD_HEADER = "bad_header"
    HEADER_NOT_UNDERSTOOD = "header_not_understood"
    KEY_IN_HEADER = "key_in_header"
    WRONG_TYPE = "wrong_type"
    WRONG_ALGORITHM = "wrong_algorithm"
    UNKNOWN_KEY = "unknown_key"
    AMBIGUOUS_KEY = "ambiguous_key"
    BAD_SIGNATURE = "bad_signature"
    BAD_PAYLOAD = "bad_payload"
    WRONG_ISSUER = "wrong_issuer"
    BAD_TIME = "bad_time"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    TOO_LONG_LIVED = "too_long_lived"
    BAD_SUBJECT = "bad_subject"
    BAD_TOKEN_ID = "bad_token_id"  # noqa: S105 - the name of a refusal
    PROOF_OF_POSSESSION = "proof_of_possession"
    WRONG_KIND = "wrong_kind"
    WRONG_TENANT = "wrong_tenant"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_CLIENT = "wrong_client"
    WRONG_CLAIM = "wrong_claim"
    MISSING_SCOPE = "missing_scope"


class UnknownKey(InvalidToken):
    """The key set has no key of this id. The caller may look for newer keys, once, and verify again."""

    def __init__(self, kid: str | None) -> None:
        super().__init__(reason=f"{Refusal.UNKNOWN_KEY}: the issuer publishes no key {shown(kid)}")
        self.kid = kid


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a token, read and found well-formed.

    `typ` is in lower case without `application/`, and "" where there is none. `members` are the names in the header.
    """

    alg: str
    kid: str | None
    typ: str
    members: frozenset[str]


@dataclass(slots=True, repr=False, eq=False)
class UnverifiedToken:
    """A well-formed compact JWS (RFC 7515 §7.1) that anybody may have written. Made by `parse`."""

    header: Header
    signing_input: bytes
    signature: bytes
    unverified_payload: bytes

    def __repr__(self) -> str:
        return f"UnverifiedToken(alg={self.alg!r}, kid={self.kid!r})"

    @property
    def alg(self) -> str:
        """Return the algorithm that the header names."""
        return self.header.alg

    @property
    def kid(self) -> str | None:
        """Return the key id that the header names."""
        return self.header.kid

    def unverified_issuer(self) -> str | None:
        """Return what the token says of its issuer, or None. Good for a look-up among configured issuers, for no more.

        Raises InvalidToken when the payload is not a JSON object.
        """
        issuer = payload_object(self.unverified_payload).get("iss")
        return issuer if isinstance(issuer, str) else None


@dataclass(slots=True)
class VerifiedPayload:
    """The bytes that an issuer signed. Made by `jwt.keys.verify_signature` alone. Says nothing about the claims.

    `key_issuers` are whom the key set says that the key signs for; empty where it does not say.
    """

    payload: bytes = field(repr=False)
    alg: str
    kid: str | None
    key_issuers: tuple[str, ...] = ()


class KnownHeaders:
    """The headers of tokens of one issuer, as they were spelt: what was read of one need not be read again."""

    __slots__ = ("_known", "_last")

    def __init__(self) -> None:
        self._known: dict[str, Header] = {}
        self._last: Header | None = None

    def get(self, part: str) -> Header | None:
        """Return what is known of the first part of a token."""
        return self._known.get(part)

    def learn(self, token: UnverifiedToken) -> None:
        """Remember the header of a token. To be called when it was verified, or anybody could fill the memory."""
        if token.header is self._last:
            return
        part = token.signing_input.partition(b".")[0].decode("ascii")
        if part in self._known or len(self._known) < _HEADERS:
            self._known[part] = self._last = token.header


def parse(token: str, *, max_length: int = MAX_TOKEN_LENGTH, known: KnownHeaders | None = None) -> UnverifiedToken:
    """Read a compact JWS, or raise InvalidToken. What is `known` of its header is not found out again.

    Refused: anything but three non-empty parts of canonical base64url (RFC 7515 §2: no padding, unused bits zero, so
    that one token has one spelling); `crit`, `b64`, `zip` and `enc`, whatever they say, because none is implemented
    (RFC 7515 §4.1.11); `jku`, `x5u` and `jwk`, because a key in the token proves nothing (RFC 8725 §3.10); a `typ`
    other than JWT and at+jwt (RFC 8725 §3.11, RFC 9068 §4). `x5c` and `x5t` are ignored and never used.

    Does not look at the algorithm's name beyond its type, nor at the payload.
    """
    if len(token) > max_length:
        raise refused(Refusal.TOO_LARGE, f"{len(token)} characters, {max_length} are allowed")
    # A comma-joined or many-part text must not become a list of thousands.
    parts = token.split(".", 5)
    if len(parts) == 5:
        raise refused(Refusal.ENCRYPTED, "five parts: encrypted tokens are not supported")
    if len(parts) != 3 or not all(parts):
        raise refused(Refusal.NOT_COMPACT, "not three parts separated by dots")
    header_part, payload_part, signature_part = parts
    if len(header_part) > _MAX_HEADER_LENGTH * 4 // 3:
        raise refused(Refusal.TOO_LARGE, f"the header is longer than {_MAX_HEADER_LENGTH} bytes")
    header = known.get(header_part) if known is not None else None
    if header is None:
        header = _header(_decoded(header_part, "header"))
    payload = _decoded(payload_part, "payload")
    signing_input = token[: len(header_part) + 1 + len(payload_part)].encode("ascii")
    return UnverifiedToken(header, signing_input, _decoded(signature_part, "signature"), payload)


def base64url(text: bytes) -> bytes:
    """Decode canonical base64url without padding (RFC 7515 §2). Raises ValueError."""
    past = len(text) & 3
    if text and text[-1] in _LAST[past]:
        try:
            return binascii.a2b_base64(text.translate(_STANDARD) + _PADDING[past], strict_mode=True)
        except ValueError:
            pass
    raise ValueError(_fault(text))


def _fault(text: bytes) -> str:
    """Return why a text is no canonical base64url."""
    if not _SEGMENT.fullmatch(text):
        return "characters outside the base64url alphabet"
    return "not a base64url length" if len(text) % 4 == 1 else "unused bits are not zero"


def payload_object(payload: bytes) -> dict[str, Any]:
    """Return the claims of a payload. Raises InvalidToken unless it is one JSON object (RFC 7519 §7.2)."""
    try:
        claims = strictjson.loads(payload)
    except ValueError as error:
        raise refused(Refusal.BAD_PAYLOAD, str(error)) from None
    if not isinstance(claims, dict):
        raise refused(Refusal.BAD_PAYLOAD, "not a JSON object")
    return claims


def refused(refusal: Refusal, detail: str) -> InvalidToken:
    """Return the error for one refusal: one public message, one precise reason."""
    return InvalidToken(reason=f"{refusal}: {detail}")


def shown(value: Any) -> str:
    """Return a value as it may stand in a log line: short, and without a control character."""
    text = ascii(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _decoded(part: str, name: str) -> bytes:
    try:
        return base64url(part.encode("ascii", "replace"))
    except ValueError as error:
        raise refused(Refusal.BAD_ENCODING, f"{name}: {error}") from None


def _header(data: bytes) -> Header:
    try:
        header = strictjson.loads(data)
    except ValueError as error:
        raise refused(Refusal.BAD_HEADER, str(error)) from None
    if not isinstance(header, dict):
        raise refused(Refusal.BAD_HEADER, "not a JSON object")
    for name in _CHANGES_MEANING:
        if name in header:
            raise refused(Refusal.HEADER_NOT_UNDERSTOOD, f"the header member {name}")
    for name in _CARRIES_A_KEY:
        if name in header:
            raise refused(Refusal.KEY_IN_HEADER, f"the header member {name}")
    if not isinstance(header.get("alg"), str):
        raise refused(Refusal.BAD_HEADER, "alg is not a string")
    if "kid" in header and not (isinstance(header["kid"], str) and _KEY_ID.fullmatch(header["kid"])):
        raise refused(Refusal.BAD_HEADER, "kid is not a string of 1 to 256 printable characters")
    if "typ" in header:
        _check_type(header["typ"])
    return Header(header["alg"], header.get("kid"), _plain_type(header.get("typ", "")), frozenset(header))


def _check_type(typ: Any) -> None:
    if not isinstance(typ, str):
        raise refused(Refusal.WRONG_TYPE, "typ is not a string")
    if _plain_type(typ) not in _TYPES:
        raise refused(Refusal.WRONG_TYPE, f"typ {shown(typ)} is not an access token's")


def _plain_type(typ: str) -> str:
    # RFC 7515 §4.1.9: media type names compare without case, and "application/" may be left out.
    return typ.lower().removeprefix("application/")
