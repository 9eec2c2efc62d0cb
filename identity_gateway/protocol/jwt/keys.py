"""The public keys of an issuer, and the proof that one of them signed a token.

Keys are asymmetric or they are not keys: there is no way to give this module a shared secret. It fetches nothing.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from identity_gateway.protocol.jwt.token import (
    Header,
    Refusal,
    UnknownKey,
    UnverifiedToken,
    VerifiedPayload,
    base64url,
    refused,
)

MAX_KEYS = 1000
"""Entra ID publishes up to a thousand."""

Verifies = Callable[[bytes, bytes], bool]
"""Tells whether a signature is one of some bytes. Raises whatever a library makes of hostile ones."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class _Algorithm(NamedTuple):
    kty: str
    curve: str | None
    digest: hashes.HashAlgorithm | None


ALGORITHMS: Mapping[str, _Algorithm] = {
    "RS256": _Algorithm("RSA", None, hashes.SHA256()),
    "RS384": _Algorithm("RSA", None, hashes.SHA384()),
    "RS512": _Algorithm("RSA", None, hashes.SHA512()),
    "PS256": _Algorithm("RSA", None, hashes.SHA256()),
    "PS384": _Algorithm("RSA", None, hashes.SHA384()),
    "PS512": _Algorithm("RSA", None, hashes.SHA512()),
    "ES256": _Algorithm("EC", "P-256", hashes.SHA256()),
    "ES384": _Algorithm("EC", "P-384", hashes.SHA384()),
    "ES512": _Algorithm("EC", "P-521", hashes.SHA512()),
    "EdDSA": _Algorithm("OKP", "Ed25519", None),
}
"""Every algorithm that is accepted (RFC 7518 §3.1, RFC 8037 §3.1). What a discovery document lists never adds one."""

_CURVES: Mapping[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
_COORDINATE_BYTES = {"P-256": 32, "P-384": 48, "P-521": 66}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_SMALLEST_MODULUS_BITS = 2048
# OpenSSL verifies far larger ones, at a cost that the sender of a token would choose.
_LARGEST_MODULUS_BITS = 8192
_LONGEST_MEMBER = 2048


def _fingerprint_primes() -> dict[int, frozenset[int]]:
    """Return, for small primes p, the powers of 65537 modulo p where they are few (CVE-2017-15361, ROCA)."""
    primes = [p for p in range(3, 168) if all(p % q for q in range(2, int(p**0.5) + 1))]
    groups = {p: frozenset(pow(65537, i, p) for i in range(p - 1)) for p in primes}
    return {p: group for p, group in groups.items() if len(group) < p - 1}


_ROCA = _fingerprint_primes()


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key that may verify: its id, its kind, the one algorithm it names (if it does), and its material.

    `issuer` is for whom it signs, where the set says so: one set may be that of many tenants.
    """

    kid: str | None
    kty: str
    curve: str | None
    alg: str | None
    spki: bytes = field(repr=False)
    public: PublicKey = field(repr=False, compare=False)
    issuer: str | None = None

    def fits(self, alg: str) -> bool:
        """Tell whether this key may verify signatures of this algorithm (RFC 8725 §3.1: one key, one algorithm)."""
        rule = ALGORITHMS.get(alg)
        return rule is not None and (self.kty, self.curve) == rule[:2] and self.alg in (None, alg)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer. Two sets are equal when they hold the same keys, in whatever order they came.

    `skipped` says why other members of the document are not here; it is for the log.
    """

    keys: tuple[VerificationKey, ...]
    skipped: tuple[str, ...] = field(default=(), compare=False)
    _by_id: Mapping[str | None, tuple[VerificationKey, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    _proofs: dict[tuple[str, str | None], tuple[Verifies, tuple[str, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        by_id: dict[str | None, tuple[VerificationKey, ...]] = {}
        for key in self.keys:
            by_id[key.kid] = (*by_id.get(key.kid, ()), key)
        object.__setattr__(self, "_by_id", by_id)

    @classmethod
    def from_jwks(cls, document: Any) -> Self:
        """Read a JWK Set (RFC 7517 §5) that `strictjson` parsed. Raises ValueError with the reason.

        The whole set is refused when it publishes private or symmetric key material (somebody must be told), when one
        key id stands for two keys, and when no key in it is usable. Unknown key types, encryption keys, and keys that
        are weak or malformed are left out: other keys of the issuer keep working.
        """
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            message = "not a JWK Set: no list of keys"
            raise ValueError(message)  # noqa: TRY004 - documents are values, not types
        if len(entries) > MAX_KEYS:
            message = f"{len(entries)} keys, {MAX_KEYS} are allowed"
            raise ValueError(message)
        _check_public(entries)
        keys: set[VerificationKey] = set()
        skipped = []
        for place, entry in enumerate(entries):
            try:
                keys.add(_verification_key(entry))
            except ValueError as error:
                skipped.append(f"key {place}: {error}")
            except Exception as error:  # noqa: BLE001 - whatever a library makes of a hostile key, it is not usable
                skipped.append(f"key {place}: {type(error).__name__}")
        if not keys:
            message = "no usable key: " + ("; ".join(skipped[:5]) or "the set is empty")
            raise ValueError(message)
        _check_ids(keys)
        order = sorted(keys, key=lambda key: (key.kid or "", key.spki, key.alg or "", key.issuer or ""))
        return cls(tuple(order), tuple(skipped))

    def __contains__(self, kid: object) -> bool:
        return kid in self._by_id

    def find(self, alg: str, kid: str | None) -> VerificationKey:
        """Return the key that a token's header points to. Raises InvalidToken, and UnknownKey for an unknown `kid`.

        Without a `kid` there must be exactly one key that fits the algorithm.
        """
        if alg not in ALGORITHMS:
            raise refused(Refusal.WRONG_ALGORITHM, "the header's algorithm is not accepted")
        if kid is not None and kid not in self._by_id:
            raise UnknownKey(kid)
        fitting = [key for key in (self.keys if kid is None else self._by_id[kid]) if key.fits(alg)]
        if kid is None and len(fitting) != 1:
            raise refused(Refusal.AMBIGUOUS_KEY, f"no kid, and {len(fitting)} keys fit {alg}")
        if not fitting:
            raise refused(Refusal.WRONG_ALGORITHM, f"the key is not one for {alg}")
        return fitting[0]

    def issuers_of(self, key: VerificationKey) -> tuple[str, ...]:
        """Return for whom a key of the set signs, or nothing where the set does not say."""
        return tuple(each.issuer for each in self._by_id[key.kid] if each.issuer is not None and each.spki == key.spki)

    def proof(self, alg: str, kid: str | None) -> tuple[Verifies, tuple[str, ...]]:
        """Return what verifies signatures with the key that `find` returns, and for whom it signs. Raises as `find`.

        It is kept: there are no more of them than keys, each with its algorithms.
        """
        known = self._proofs.get((alg, kid))
        if known is None:
            key = self.find(alg, kid)
            known = self._proofs[(alg, kid)] = _verifier(key, alg), self.issuers_of(key)
        return known

    def fingerprint(self) -> str:
        """Return a digest of the keys, the same in every process that holds the same ones."""
        digest = hashlib.sha256()
        for key in self.keys:
            digest.update(f"{len(key.kid or '')}:{key.kid}:{key.alg}:{len(key.spki)}:".encode() + key.spki)
            if key.issuer is not None:
                digest.update(f"{len(key.issuer)}:{key.issuer}".encode())
        return digest.hexdigest()


def verify_signature(token: UnverifiedToken, keys: KeySet) -> VerifiedPayload:
    """Prove that a key of the set signed the token (RFC 7515 §5.2). Raises InvalidToken, or UnknownKey.

    The key decides the algorithm: a header that names another one is refused before any cryptography. Does not check
    a single claim; the caller knows whose keys these are.
    """
    header = token.header
    issuers = check_signature(header, token.signing_input, token.signature, keys)
    return VerifiedPayload(token.unverified_payload, header.alg, header.kid, issuers)


def check_signature(header: Header, signing_input: bytes, signature: bytes, keys: KeySet) -> tuple[str, ...]:
    """Do what `verify_signature` does, of a token's parts, and return for whom its key signs (`KeySet.issuers_of`)."""
    verifies, issuers = keys.proof(header.alg, header.kid)
    try:
        good = verifies(signature, signing_input)
    except Exception as error:  # noqa: BLE001 - whatever a library makes of hostile bytes, it is not a proof
        raise refused(Refusal.BAD_SIGNATURE, f"verification failed with {type(error).__name__}") from None
    if not good:
        raise refused(Refusal.BAD_SIGNATURE, "the signature does not verify")
    return issuers


def _verifier(key: VerificationKey, alg: str) -> Verifies:
    digest = ALGORITHMS[alg].digest
    match key.public:
        case rsa.RSAPublicKey() as public if digest is not None:
            return _rsa_verifier(public, _rsa_padding(alg, digest), digest)
        case ec.EllipticCurvePublicKey() as public if digest is not None and key.curve is not None:
            return _ec_verifier(public, _COORDINATE_BYTES[key.curve], digest)
        case ed25519.Ed25519PublicKey() as public:
            return _ed25519_verifier(public)
        case _:
            return lambda _signature, _data: False


def _rsa_verifier(public: rsa.RSAPublicKey, form: padding.AsymmetricPadding, digest: hashes.HashAlgorithm) -> Verifies:
    size, verify = (public.key_size + 7) // 8, public.verify

    def verifies(signature: bytes, data: bytes) -> bool:
        if len(signature) != size:
            return False
        try:
            verify(signature, data, form, digest)
        except InvalidSignature:
            return False
        return True

    return verifies


def _ec_verifier(public: ec.EllipticCurvePublicKey, size: int, digest: hashes.HashAlgorithm) -> Verifies:
    """Return what verifies signatures of r and s at full length, never DER (RFC 7518 §3.4). `size` is that of one."""
    rule = ec.ECDSA(digest)

    def verifies(signature: bytes, data: bytes) -> bool:
        if len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
        try:
            public.verify(utils.encode_dss_signature(r, s), data, rule)
        except InvalidSignature:
            return False
        return True

    return verifies


def _ed25519_verifier(public: ed25519.Ed25519PublicKey) -> Verifies:
    def verifies(signature: bytes, data: bytes) -> bool:
        try:
            public.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return verifies


def _rsa_padding(alg: str, digest: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if alg.startswith("RS"):
        return padding.PKCS1v15()
    # RFC 7518 §3.5: the salt is as long as the digest.
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


def _check_public(entries: list[Any]) -> None:
    for place, entry in enumerate(entries):
        if isinstance(entry, dict) and (entry.get("kty") == "oct" or not _PRIVATE_MEMBERS.isdisjoint(entry)):
            message = f"incident: key {place} of the set publishes private or symmetric key material"
            raise ValueError(message)


def _check_ids(keys: set[VerificationKey]) -> None:
    material: dict[str, bytes] = {}
    for key in keys:
        if key.kid is not None and material.setdefault(key.kid, key.spki) != key.spki:
            message = "one key id stands for two different keys"
            raise ValueError(message)


def _verification_key(entry: Any) -> VerificationKey:
    if not isinstance(entry, dict):
        message = "not a JSON object"
        raise ValueError(message)  # noqa: TRY004 - documents are values, not types
    kid, alg = entry.get("kid"), entry.get("alg")
    if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= 256)):
        message = "kid is not a string of 1 to 256 characters"
        raise ValueError(message)
    if not (alg is None or (isinstance(alg, str) and alg in ALGORITHMS)):
        message = "alg is not an accepted signature algorithm"
        raise ValueError(message)
    if entry.get("use", "sig") != "sig":
        message = "its use is not sig"
        raise ValueError(message)
    operations = entry.get("key_ops", ["verify"])
    if not (isinstance(operations, list) and "verify" in operations):
        message = "its key_ops do not name verify"
        raise ValueError(message)
    kty, curve, public = _public_key(entry)
    if alg is not None and ALGORITHMS[alg][:2] != (kty, curve):
        message = f"alg {alg} is not one for this type of key"
        raise ValueError(message)
    issuer = entry.get("issuer")
    if not (issuer is None or (isinstance(issuer, str) and 0 < len(issuer) <= _LONGEST_MEMBER)):
        message = "its issuer is not a short string"
        raise ValueError(message)
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return VerificationKey(kid=kid, kty=kty, curve=curve, alg=alg, spki=spki, public=public, issuer=issuer)


def _public_key(entry: Mapping[str, Any]) -> tuple[str, str | None, PublicKey]:
    kty, curve = entry.get("kty"), str(entry.get("crv"))
    if kty == "RSA":
        return "RSA", None, _rsa_key(_number(entry, "n"), _number(entry, "e"))
    if kty == "EC" and curve in _CURVES:
        size = _COORDINATE_BYTES[curve]
        numbers = ec.EllipticCurvePublicNumbers(
            _number(entry, "x", size=size), _number(entry, "y", size=size), _CURVES[curve]
        )
        return "EC", curve, numbers.public_key()
    if kty == "OKP" and curve == "Ed25519":
        return "OKP", curve, ed25519.Ed25519PublicKey.from_public_bytes(_octets(entry, "x"))
    message = "an unknown key type or curve"
    raise ValueError(message)


def _rsa_key(n: int, e: int) -> rsa.RSAPublicKey:
    if not _SMALLEST_MODULUS_BITS <= n.bit_length() <= _LARGEST_MODULUS_BITS:
        message = f"an RSA modulus of {n.bit_length()} bits"
        raise ValueError(message)
    if not (3 <= e < 2**32 and e % 2 == 1):
        message = "an RSA exponent that is even, or not from 3 to 2**32 - 1"
        raise ValueError(message)
    if all(n % p in group for p, group in _ROCA.items()):
        message = "an RSA modulus with the marks of CVE-2017-15361"
        raise ValueError(message)
    return rsa.RSAPublicNumbers(e, n).public_key()


def _number(entry: Mapping[str, Any], name: str, *, size: int | None = None) -> int:
    octets = _octets(entry, name)
    if size is not None and len(octets) != size:
        message = f"{name} is not {size} bytes long"
        raise ValueError(message)
    return int.from_bytes(octets)


def _octets(entry: Mapping[str, Any], name: str) -> bytes:
    text = entry.get(name)
    if not isinstance(text, str) or len(text) > _LONGEST_MEMBER:
        message = f"{name} is missing or too long"
        raise ValueError(message)
    return base64url(text.encode("ascii", "replace"))
