"""Threat: a token that some verifier let in, at the door of an agent behind a gateway that runs.

One test for each attack of `attack_list`, named for it. Each begins with a token that is let in. What the verifier makes
of every single byte has its own tests, `test_jwt_attacks`.
"""

import base64
import hashlib
import hmac
import json
import os
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import prod
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from identity_gateway.protocol.jwt import Refusal
from tests.agents import Agent
from tests.callers import AUDIENCE, guarded_by, post, running_issuer
from tests.fakes.issuer import DISCOVERY, JWKS, FakeIssuer, SigningKey, Vice, b64, number, rsa_private
from tests.gateways import RunningGateway, register
from tests.providers.inbound.entra import ENTRA_V2, OTHER_TENANT, TEMPLATE, TENANT, V2_ISSUER, of_tenants
from tests.security.attacked_doors import BearerDoor, fresh_url, public_renderings, reason_of

EC = SigningKey.make("ES256", "ec")
RSA = SigningKey.make("RS256", "rsa")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
EVIL = "https://attacker.example"


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    with running_issuer(EC, RSA) as running:
        yield running


@pytest.fixture(scope="module")
def runtime(gateway: RunningGateway, _agent_server: Agent, issuer: FakeIssuer) -> str:
    return BearerDoor.of(gateway, _agent_server, issuer).arn


@pytest.fixture
def door(gateway: RunningGateway, agent: Agent, issuer: FakeIssuer, runtime: str) -> BearerDoor:
    return BearerDoor(gateway, agent, issuer, runtime)


def written(header: Any, claims: Any, signature: bytes) -> str:
    """Return a token that nobody signed."""
    return ".".join(b64(part) for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature))


def raw_signature(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")


# --- Algorithms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None])
@pytest.mark.parametrize("kid", ["rsa", None])
def test_jwt_alg_none_is_refused(door: BearerDoor, alg: str | None, kid: str | None) -> None:
    claims = door.claims()
    header = {name: value for name, value in {"alg": alg, "kid": kid, "typ": "JWT"}.items() if value is not None}
    expected = Refusal.BAD_HEADER if alg is None else Refusal.WRONG_ALGORITHM
    assert door.refusal(RSA.token(claims), written(header, claims, raw_signature(RSA.token(claims)))) == expected


def test_jwt_alg_none_is_refused_without_any_signature(door: BearerDoor) -> None:
    claims = door.claims()
    assert door.refusal(RSA.token(claims), written({"alg": "none"}, claims, b"")) == Refusal.NOT_COMPACT


@pytest.mark.parametrize("rendering", public_renderings(RSA))
def test_jwt_hmac_with_public_key_is_refused(door: BearerDoor, rendering: str) -> None:
    claims = door.claims()
    signed = written({"alg": "HS256", "kid": "rsa", "typ": "JWT"}, claims, b"x").rpartition(".")[0]
    mac = hmac.digest(public_renderings(RSA)[rendering], signed.encode(), hashlib.sha256)
    assert door.refusal(RSA.token(claims), f"{signed}.{b64(mac)}") == Refusal.WRONG_ALGORITHM


@dataclass(frozen=True)
class SharedSecret:
    """A symmetric key that an issuer publishes by mistake."""

    kid: str = "shared"
    secret: bytes = b"s" * 32

    def jwk(self) -> dict[str, Any]:
        return {"kty": "oct", "kid": self.kid, "alg": "HS256", "use": "sig", "k": b64(self.secret)}

    def token(self, claims: dict[str, Any]) -> str:
        signed = written({"alg": "HS256", "kid": self.kid, "typ": "JWT"}, claims, b"x").rpartition(".")[0]
        return f"{signed}.{b64(hmac.digest(self.secret, signed.encode(), hashlib.sha256))}"


def test_jwt_oct_key_in_key_set_verifies_nothing(gateway: RunningGateway, agent: Agent) -> None:
    with running_issuer(EC) as issuer:
        door, shared = BearerDoor.of(gateway, agent, issuer), SharedSecret()
        good = EC.token(door.claims())
        assert door.shown(good).status_code == 200
        issuer.keys.append(shared)  # type: ignore[arg-type]
        assert door.refusal(good, shared.token(door.claims())) == Refusal.WRONG_ALGORITHM


def test_jwt_oct_key_in_key_set_makes_the_whole_set_unusable(gateway: RunningGateway, agent: Agent) -> None:
    with running_issuer(EC) as sound, running_issuer(EC) as leaking:
        leaking.keys.append(SharedSecret())  # type: ignore[arg-type]
        doors = [BearerDoor.of(gateway, agent, issuer) for issuer in (sound, leaking)]
        assert [door.shown(EC.token(door.claims())).status_code for door in doors] == [200, 503]


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "PS384", "PS512"])
def test_jwt_alg_switch_within_a_key_type_is_refused(door: BearerDoor, alg: str) -> None:
    claims = door.claims()
    assert door.refusal(RSA.token(claims), RSA.token(claims, {"alg": alg}, sign_as=alg)) == Refusal.WRONG_ALGORITHM


# --- Keys that the token names or brings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kid", "refusal"),
    [
        ("../../../../dev/null", Refusal.UNKNOWN_KEY),
        ("file:///etc/passwd", Refusal.UNKNOWN_KEY),
        ("ec' OR '1'='1", Refusal.UNKNOWN_KEY),
        ("ec' UNION SELECT 'c2VjcmV0' --", Refusal.UNKNOWN_KEY),
        ("*)(kid=*", Refusal.UNKNOWN_KEY),
        ("$(id)", Refusal.UNKNOWN_KEY),
        ("ec\r\nx-admin: 1", Refusal.BAD_HEADER),
        ("ec\x00", Refusal.BAD_HEADER),
        (["ec"], Refusal.BAD_HEADER),
        ({"ec": 1}, Refusal.BAD_HEADER),
        (0, Refusal.BAD_HEADER),
        ("", Refusal.BAD_HEADER),
    ],
    ids=ascii,
)
def test_jwt_kid_injection_finds_no_key(door: BearerDoor, kid: Any, refusal: Refusal) -> None:
    claims = door.claims()
    assert door.refusal(EC.token(claims), EC.token(claims, {"kid": kid})) == refusal


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk"])
@pytest.mark.parametrize("kid", ["own", "ec"])
def test_jwt_key_in_header_is_neither_used_nor_fetched(door: BearerDoor, member: str, kid: str) -> None:
    own = SigningKey.make("ES256", kid)
    with running_issuer(own) as attacker:
        value = own.jwk() if member == "jwk" else attacker.issuer + JWKS
        assert door.refusal(EC.token(door.claims()), own.token(door.claims(), {member: value})) == Refusal.KEY_IN_HEADER
        assert attacker.requests.total() == 0


def test_jwt_key_in_header_is_not_used_as_a_certificate(door: BearerDoor) -> None:
    own = SigningKey.make("ES256", "ec")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, own.private.public_key(), 1, now, now + timedelta(days=1))
        .sign(own.private, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    header = {"x5c": [base64.b64encode(certificate).decode()], "x5t": b64(hashlib.sha1(certificate).digest())}
    assert door.refusal(EC.token(door.claims()), own.token(door.claims(), header)) == Refusal.BAD_SIGNATURE


# --- Headers that change the meaning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("crit", [["x"], [], ["alg"], ["exp", "exp"], ["b64"], None, [1], "x"], ids=str)
def test_jwt_crit_header_is_refused_whatever_it_says(door: BearerDoor, crit: Any) -> None:
    claims, header = door.claims(), {"alg": "ES256", "kid": "ec", "typ": "JWT", "x": 1, "exp": 1}
    good, bad = (EC.token(claims, json.dumps(each).encode()) for each in (header, header | {"crit": crit}))
    assert door.refusal(good, bad) == Refusal.HEADER_NOT_UNDERSTOOD


@pytest.mark.parametrize("value", [False, "false", True, None], ids=str)
def test_jwt_unencoded_payload_is_refused(door: BearerDoor, value: Any) -> None:
    header = json.dumps({"alg": "ES256", "kid": "ec", "typ": "JWT", "b64": value}).encode()
    assert door.refusal(EC.token(door.claims()), EC.token(door.claims(), header)) == Refusal.HEADER_NOT_UNDERSTOOD


@pytest.mark.parametrize(
    ("header", "claims", "refusal"),
    [
        ('{"alg":"none",%s', "{%s", Refusal.BAD_HEADER),
        ('{"kid":"x",%s', "{%s", Refusal.BAD_HEADER),
        ("{%s", '{"sub":"admin",%s', Refusal.BAD_PAYLOAD),
        ("{%s", '{"s\\u0075b":"admin",%s', Refusal.BAD_PAYLOAD),
        ("{%s", '{"exp":9999999999,%s', Refusal.BAD_PAYLOAD),
    ],
)
def test_jwt_duplicate_names_are_refused(door: BearerDoor, header: str, claims: str, refusal: Refusal) -> None:
    good = [json.dumps(part)[1:] for part in ({"alg": "ES256", "kid": "ec", "typ": "JWT"}, door.claims())]
    plain, doubled = (
        EC.token((said % good[1]).encode(), (head % good[0]).encode())
        for head, said in (("{%s", "{%s"), (header, claims))
    )
    assert door.refusal(plain, doubled) == refusal


# --- What is no plain signed token ------------------------------------------------------------------------------------


def encrypted(plaintext: bytes, **header: Any) -> str:
    """Return a JWE that anybody can make: encrypted to the issuer's public key (RFC 7516 §7.1)."""
    key, iv = os.urandom(32), os.urandom(12)
    protected = b64(json.dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "rsa", "typ": "JWT"} | header).encode())
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    sealed = AESGCM(key).encrypt(iv, plaintext, protected.encode())
    wrapped = RSA.private.public_key().encrypt(key, oaep)
    return ".".join([protected, *(b64(part) for part in (wrapped, iv, sealed[:-16], sealed[-16:]))])


def test_jwt_nested_or_encrypted_is_refused_when_only_encrypted(door: BearerDoor) -> None:
    claims = door.claims()
    assert door.refusal(RSA.token(claims), encrypted(json.dumps(claims).encode())) == Refusal.ENCRYPTED


def test_jwt_nested_or_encrypted_is_refused_when_signed_inside(door: BearerDoor) -> None:
    good = RSA.token(door.claims())
    assert door.refusal(good, encrypted(good.encode(), cty="JWT")) == Refusal.ENCRYPTED


def test_jwt_nested_or_encrypted_is_refused_when_signed_twice(door: BearerDoor) -> None:
    good = EC.token(door.claims())
    assert door.refusal(good, EC.token(good.encode(), {"cty": "JWT"})) == Refusal.BAD_PAYLOAD


def test_jwt_decompression_bomb_is_not_unpacked(door: BearerDoor) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(b" " * 5_000_000) + deflate.flush()
    assert len(bomb) < 6_000
    assert door.refusal(RSA.token(door.claims()), encrypted(bomb, zip="DEF")) == Refusal.ENCRYPTED


def test_jwt_decompression_bomb_is_not_unpacked_out_of_a_signed_token(door: BearerDoor) -> None:
    claims = json.dumps(door.claims()).encode()
    bad = EC.token(zlib.compress(claims), {"zip": "DEF"})
    assert door.refusal(EC.token(claims), bad) == Refusal.HEADER_NOT_UNDERSTOOD


def test_jwt_endless_key_derivation_is_not_begun(door: BearerDoor) -> None:
    claims = json.dumps(door.claims()).encode()
    bad = encrypted(claims, alg="PBES2-HS512+A256KW", p2c=2**31 - 1, p2s="AAAAAAAAAAA")
    assert door.refusal(EC.token(claims), bad) == Refusal.ENCRYPTED


# --- Signatures and keys that prove nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0, 1])
@pytest.mark.parametrize("s", [0, 1])
def test_jwt_zero_or_der_ecdsa_is_refused_as_numbers_that_prove_nothing(door: BearerDoor, r: int, s: int) -> None:
    good = EC.token(door.claims())
    bad = f"{good.rpartition('.')[0]}.{b64(r.to_bytes(32) + s.to_bytes(32))}"
    assert door.refusal(good, bad) == Refusal.BAD_SIGNATURE


SECOND_FORMS: dict[str, Any] = {
    "DER": lambda r, s: utils.encode_dss_signature(int.from_bytes(r), int.from_bytes(s)),
    "a zero before": lambda r, s: bytes(1) + r + s,
    "a zero between": lambda r, s: r + bytes(1) + s,
    "a zero after": lambda r, s: r + s + bytes(1),
}


@pytest.mark.parametrize("form", SECOND_FORMS)
def test_jwt_zero_or_der_ecdsa_is_refused_as_a_second_form(door: BearerDoor, form: str) -> None:
    good = EC.token(door.claims())
    raw = raw_signature(good)
    bad = SECOND_FORMS[form](raw[:32], raw[32:])
    assert door.refusal(good, f"{good.rpartition('.')[0]}.{b64(bad)}") == Refusal.BAD_SIGNATURE


@dataclass(frozen=True)
class TrivialExponent:
    """An RSA key with e = 1: every signature is the encoded digest itself, and anybody can write that."""

    kid: str = "trivial"

    def jwk(self) -> dict[str, Any]:
        return RSA.jwk(kid=self.kid, e=number(1))

    def token(self, claims: dict[str, Any]) -> str:
        signed = written({"alg": "RS256", "kid": self.kid, "typ": "JWT"}, claims, b"x").rpartition(".")[0]
        digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(signed.encode()).digest()
        encoded = b"\x00\x01" + b"\xff" * (256 - 3 - len(digest)) + b"\x00" + digest
        return f"{signed}.{b64(encoded)}"


def weakly_generated() -> SigningKey:
    """Return an RSA key of 2048 bits whose primes have the form that CVE-2017-15361 is about."""
    primorial, dice = prod(p for p in range(2, 702) if all(p % q for q in range(2, p))), random.Random(15361)
    generator = rsa_private().public_key().public_numbers().e

    def prime() -> int:
        while True:
            top = (3 << 1022) // primorial
            found = (top + dice.randrange(top // 4)) * primorial + pow(generator, dice.randrange(1 << 60), primorial)
            if all(pow(base, found - 1, found) == 1 for base in (2, 3, 5, 7)):
                return found

    p, q = prime(), prime()
    d = pow(generator, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(generator, p * q)
    halves = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return SigningKey("marked", "RS256", rsa.RSAPrivateNumbers(p, q, d, *halves, public).private_key())


WEAK: dict[str, Any] = {
    "1024 bits": lambda: SigningKey("small", "RS256", rsa_private(bits=1024)),
    "e = 1": TrivialExponent,
    "the marks of a weak generator": weakly_generated,
}


@pytest.mark.parametrize("kind", WEAK)
def test_jwt_weak_rsa_key_verifies_nothing(gateway: RunningGateway, agent: Agent, kind: str) -> None:
    weak = WEAK[kind]()
    with running_issuer(RSA, weak) as issuer:
        door = BearerDoor.of(gateway, agent, issuer)
        assert door.refusal(RSA.token(door.claims()), weak.token(door.claims())) == Refusal.UNKNOWN_KEY


# --- Sizes ------------------------------------------------------------------------------------------------------------


def test_jwt_oversized_token_is_refused(door: BearerDoor) -> None:
    good, bad = (EC.token(door.claims(pad="x" * size)) for size in (11_000, 13_000))
    assert len(good) < 16_384 < len(bad)
    assert door.refusal(good, bad) == Refusal.TOO_LARGE


def test_jwt_oversized_header_is_refused(door: BearerDoor) -> None:
    good, bad = (EC.token(door.claims(), {"pad": "x" * size}) for size in (3_900, 4_100))
    assert door.refusal(good, bad) == Refusal.TOO_LARGE


@pytest.mark.parametrize("depth", [100, 3_000])
def test_jwt_deep_nesting_is_refused(door: BearerDoor, depth: int) -> None:
    good, bad = (
        EC.token(f'{json.dumps(door.claims())[:-1]}, "x": {"[" * levels}{"]" * levels}}}'.encode())
        for levels in (20, depth)
    )
    assert door.refusal(good, bad) == Refusal.BAD_PAYLOAD


def test_jwt_deep_nesting_is_refused_in_the_header(door: BearerDoor) -> None:
    good, bad = (
        b'{"alg":"ES256","kid":"ec","typ":"JWT","x":%s%s}' % (b"[" * levels, b"]" * levels) for levels in (20, 1_900)
    )
    assert door.refusal(EC.token(door.claims(), good), EC.token(door.claims(), bad)) == Refusal.BAD_HEADER


# --- Claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forge",
    [
        lambda name: f"{name}.attacker.example",
        lambda name: name[:-1],
        lambda name: f"{EVIL}/{name}",
        lambda name: [name],
        lambda name: [EVIL, name],
        lambda name: {name: 1},
        lambda name: name.replace("http", "HTTP"),
        lambda name: f"{name}/",
        lambda _: None,
    ],
    ids=["longer", "shorter", "inside", "list", "list with it", "object", "case", "slash", "missing"],
)
def test_jwt_issuer_lookalike_is_refused(door: BearerDoor, issuer: FakeIssuer, forge: Any) -> None:
    bad = EC.token(door.claims(iss=forge(issuer.issuer)))
    assert door.refusal(EC.token(door.claims()), bad) == Refusal.WRONG_ISSUER


@pytest.mark.parametrize(
    "audience",
    [
        f"{AUDIENCE}.attacker.example", AUDIENCE[:-1], AUDIENCE.upper(), f"x {AUDIENCE}", "", None, True,
        [], [1, AUDIENCE], [[AUDIENCE]], [f"{AUDIENCE}x"], {AUDIENCE: 1},
    ],
    ids=str,
)  # fmt: skip
def test_jwt_audience_lookalike_is_refused(door: BearerDoor, audience: Any) -> None:
    bad = EC.token(door.claims(aud=audience))
    assert door.refusal(EC.token(door.claims(aud=[AUDIENCE, "other"])), bad) == Refusal.WRONG_AUDIENCE


@pytest.mark.parametrize(
    "typ",
    [
        "id+jwt", "logout+jwt", "dpop+jwt", "client-authentication+jwt", "token-introspection+jwt", "secevent+jwt",
        "oauth-authz-req+jwt", "vc+sd-jwt", "rt+jwt", "application/logout+jwt", "Logout+JWT",
    ],
)  # fmt: skip
def test_jwt_of_another_kind_is_refused_by_its_type(door: BearerDoor, typ: str) -> None:
    good = EC.token(door.claims(), {"typ": "at+jwt"})
    assert door.refusal(good, EC.token(door.claims(), {"typ": typ})) == Refusal.WRONG_TYPE


@pytest.mark.parametrize(
    ("names", "good", "bad"),
    [
        ("http://127.0.0.1/realms/agents", {"typ": "Bearer"}, {"typ": "ID"}),
        ("http://127.0.0.1/realms/agents", {"typ": "Bearer"}, {"typ": "Refresh"}),
        ("http://127.0.0.1/realms/agents", {"typ": "Bearer"}, {"typ": "Offline"}),
        ("http://127.0.0.1/realms/agents", {"typ": "Bearer"}, {"typ": "Logout"}),
        ("http://127.0.0.1/realms/agents", {"typ": "Bearer"}, {}),
        ("https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Abc123", {"token_use": "access"}, {"token_use": "id"}),
        ("https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Abc123", {"token_use": "access"}, {}),
    ],
    ids=str,
)
def test_jwt_of_another_kind_is_refused_by_its_claims(
    gateway: RunningGateway, agent: Agent, names: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    with running_issuer(SigningKey.make("RS256")) as issuer:
        issuer.document_changes = {"issuer": names}
        door, key = BearerDoor.of(gateway, agent, issuer, allowedClients=["caller"]), issuer.keys[0]
        first, second = (
            key.token(door.claims(iss=names, azp="caller", client_id="caller", aud=None) | kind, {"typ": None})
            for kind in (good, bad)
        )
        assert door.refusal(first, second) == Refusal.WRONG_KIND


def test_jwt_bound_to_a_key_is_refused_without_the_proof(door: BearerDoor) -> None:
    bound = {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}
    bad = EC.token(door.claims(cnf=bound))
    assert door.refusal(EC.token(door.claims()), bad) == Refusal.PROOF_OF_POSSESSION


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"tid": OTHER_TENANT, "iss": V2_ISSUER.replace(TENANT, OTHER_TENANT)}, Refusal.WRONG_CLAIM),
        ({"tid": OTHER_TENANT}, Refusal.WRONG_ISSUER),
        ({"iss": V2_ISSUER.replace(TENANT, OTHER_TENANT)}, Refusal.WRONG_ISSUER),
        ({"iss": TEMPLATE}, Refusal.WRONG_ISSUER),
        ({"tid": "{tenantid}", "iss": TEMPLATE}, Refusal.WRONG_TENANT),
    ],
    ids=["another tenant", "its id alone", "its issuer alone", "template", "placeholder"],
)
def test_jwt_cross_tenant_is_refused_though_tenants_share_keys(
    gateway: RunningGateway, agent: Agent, changes: dict[str, str], refusal: Refusal
) -> None:
    with running_issuer(RSA) as issuer:
        issuer.document_changes = {"issuer": TEMPLATE}
        door = BearerDoor.of(gateway, agent, issuer, **of_tenants(TENANT))
        good = {name: door.claims()[name] for name in ("iat", "exp")}
        good = ENTRA_V2 | good | {"nbf": good["iat"]}
        assert door.refusal(RSA.token(good), RSA.token(good | changes)) == refusal


def test_jwt_key_of_another_issuer_verifies_nothing_though_it_has_the_same_id(
    gateway: RunningGateway, agent: Agent
) -> None:
    with running_issuer(SigningKey.make(kid="1")) as ours, running_issuer(SigningKey.make(kid="1")) as theirs:
        door, other = (BearerDoor.of(gateway, agent, each) for each in (ours, theirs))
        assert other.shown(theirs.keys[0].token(other.claims())).status_code == 200
        good = ours.keys[0].token(door.claims())
        assert door.refusal(good, theirs.keys[0].token(door.claims())) == Refusal.BAD_SIGNATURE
        assert door.refusal(good, theirs.keys[0].token(other.claims())) == Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("member", "value", "refusal"),
    [
        ("exp", '"9999999999"', Refusal.BAD_TIME),
        ("exp", "true", Refusal.BAD_TIME),
        ("exp", "NaN", Refusal.BAD_PAYLOAD),
        ("exp", "Infinity", Refusal.BAD_PAYLOAD),
        ("exp", "1e400", Refusal.BAD_PAYLOAD),
        ("exp", "9999999999000", Refusal.BAD_TIME),
        ("exp", "[9999999999]", Refusal.BAD_TIME),
        ("exp", "null", Refusal.BAD_TIME),
        ("nbf", '"0"', Refusal.BAD_TIME),
        ("iat", "true", Refusal.BAD_TIME),
    ],
)
def test_jwt_time_of_another_type_is_refused(door: BearerDoor, member: str, value: str, refusal: Refusal) -> None:
    rest = json.dumps(door.claims(**{member: None}))[:-1]
    good = f'{rest}, "{member}": {door.claims(nbf=1)[member]}}}'
    assert door.refusal(EC.token(good.encode()), EC.token(f'{rest}, "{member}": {value}}}'.encode())) == refusal


def test_jwt_second_spelling_is_not_taken_for_the_token_that_was_let_in(door: BearerDoor) -> None:
    good = EC.token(door.claims())
    twin = good[:-1] + ALPHABET[ALPHABET.index(good[-1]) | 1]
    assert raw_signature(twin) == raw_signature(good)
    assert twin != good
    assert door.refusal(good, twin) == Refusal.BAD_ENCODING


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("extra", ["=", "=="])
def test_jwt_second_spelling_is_refused_with_padding(door: BearerDoor, part: int, extra: str) -> None:
    good = EC.token(door.claims())
    parts = good.split(".")
    parts[part] += extra
    assert door.refusal(good, ".".join(parts)) == Refusal.BAD_ENCODING


@pytest.mark.parametrize("sub", ["ada\r\nx-admin: 1", "ada\n", "\x00", "ada\x7f", "ada\u2028", "ada\x9b31m"], ids=ascii)
def test_jwt_control_characters_in_subject_are_refused(door: BearerDoor, sub: str) -> None:
    assert door.refusal(EC.token(door.claims(sub="ada x")), EC.token(door.claims(sub=sub))) == Refusal.BAD_SUBJECT


# --- The way to the keys ----------------------------------------------------------------------------------------------


def test_jwt_unknown_kid_flood_costs_the_issuer_one_question(gateway: RunningGateway, agent: Agent) -> None:
    with running_issuer(EC) as issuer:
        door = BearerDoor.of(gateway, agent, issuer)
        good = EC.token(door.claims())
        found = {door.refusal(good, EC.token(door.claims(), {"kid": f"invented-{number}"})) for number in range(40)}
        assert found == {Refusal.UNKNOWN_KEY}
        assert issuer.requests[JWKS] == 2  # at the first token, and at the first invented id


@pytest.mark.parametrize("vice", [Vice.EMPTY_SET, Vice.GARBAGE, Vice.ERROR, Vice.DEEP, Vice.PRIVATE_KEY])
def test_jwt_unknown_kid_flood_does_not_wipe_good_keys(gateway: RunningGateway, agent: Agent, vice: Vice) -> None:
    with running_issuer(EC) as issuer:
        door = BearerDoor.of(gateway, agent, issuer)
        assert door.shown(EC.token(door.claims())).status_code == 200
        issuer.vices = {JWKS: vice}
        assert door.shown(EC.token(door.claims(), {"kid": "invented"})).status_code == 401
        assert door.shown(EC.token(door.claims(sub="eve"))).status_code == 200
        assert issuer.requests[JWKS] == 2


def at(url: str, door: BearerDoor, token: str) -> tuple[int, str]:
    """Show the token to a runtime of this discovery URL; return the status and the reason."""
    answer = post(door.gateway, register(door.gateway, door.agent.url, **guarded_by(url)), token)
    return answer.status_code, reason_of(door.gateway, answer.headers["x-amzn-requestid"])


@pytest.mark.parametrize(
    "keys_at",
    [
        "file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]/",
        "http://0xa9fea9fe/", "http://10.0.0.1/keys", "gopher://127.0.0.1:70/", "http://user@127.0.0.1/keys", "//keys",
    ],
)  # fmt: skip
def test_jwt_keys_from_inside_are_not_fetched(gateway: RunningGateway, agent: Agent, keys_at: str) -> None:
    with running_issuer(EC) as issuer:
        door = BearerDoor.of(gateway, agent, issuer)
        good = EC.token(door.claims())
        assert at(fresh_url(issuer), door, good)[0] == 200
        issuer.document_changes = {"jwks_uri": keys_at}
        status, reason = at(fresh_url(issuer), door, good)
        assert status == 503
        assert re.search("neither public nor allowed|not an http|neither a name", reason)
        assert issuer.requests[JWKS] == 1


@pytest.mark.parametrize("which", ["document", "key set"])
def test_jwt_keys_from_inside_are_not_fetched_through_a_redirect(
    gateway: RunningGateway, agent: Agent, which: str
) -> None:
    with running_issuer(EC) as issuer:
        door = BearerDoor.of(gateway, agent, issuer)
        good = EC.token(door.claims())
        assert at(fresh_url(issuer), door, good)[0] == 200
        url = fresh_url(issuer)
        issuer.vices = {url.removeprefix(issuer.issuer) if which == "document" else JWKS: Vice.REDIRECT}
        assert at(url, door, good)[0] == 503
        assert issuer.requests["/elsewhere"] == 0


@pytest.mark.parametrize(
    "url",
    [
        f"file:///etc/passwd{DISCOVERY}", f"ftp://127.0.0.1{DISCOVERY}", f"http://user:pass@127.0.0.1{DISCOVERY}",
        f"http://169.254.169.254{DISCOVERY}", f"http://[fe80::1]{DISCOVERY}", f"https://issuer.example{DISCOVERY}#x",
    ],
)  # fmt: skip
def test_jwt_keys_from_inside_cannot_be_registered(
    gateway: RunningGateway, agent: Agent, issuer: FakeIssuer, url: str
) -> None:
    assert register(gateway, agent.url, **guarded_by(fresh_url(issuer))).startswith("arn:")
    with pytest.raises(ClientError) as caught:
        register(gateway, agent.url, **guarded_by(url))
    assert caught.value.response["Error"]["Code"] == "ValidationException"
