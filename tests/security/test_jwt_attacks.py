"""Threat: a token that a library, or a quick verifier, lets in. One test per trick, against the one door that we have."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import utils

from identity_gateway.errors import InsufficientScope, InvalidToken
from identity_gateway.protocol import jwt
from identity_gateway.protocol.jwt import JwtPolicy, KeySet, Refusal, SignedClaims
from tests.fakes.issuer import SigningKey, b64, rsa_private
from tests.security.attacked_doors import public_renderings

NOW = 1_800_000_000.0
ISSUER = "https://login.example.com/tenant"
AUDIENCE = "https://agents.example.com"
POLICY = JwtPolicy(issuer=ISSUER, audiences=(AUDIENCE,))
CLAIMS: dict[str, Any] = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": NOW + 300, "iat": NOW}
EC = SigningKey.make("ES256", "ec")
RSA = SigningKey.make("RS256", "rsa")
KEYS = KeySet.from_jwks({"keys": [EC.jwk(), RSA.jwk()]})


def enter(token: str, keys: KeySet = KEYS, policy: JwtPolicy = POLICY) -> SignedClaims:
    """Do everything that the door does with a token."""
    return jwt.verify(jwt.parse(token), keys, policy, now=NOW)


def refusal_of(token: str, keys: KeySet = KEYS) -> str:
    with pytest.raises(InvalidToken) as refusal:
        enter(token, keys)
    return refusal.value.reason.partition(":")[0]


def unsigned(header: dict[str, Any], claims: Any = CLAIMS, signature: bytes = b"x") -> str:
    return ".".join(b64(part) for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature))


@pytest.mark.parametrize("key", [EC, RSA], ids=["ec", "rsa"])
def test_the_honest_token_gets_in(key: SigningKey) -> None:
    assert enter(key.token(CLAIMS)).subject == "alice"


# --- Algorithms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", " none", "none\x00", "rs256", "RS256 ", "ES256K", "RSA1_5"]
)
@pytest.mark.parametrize("kid", ["rsa", None])
def test_an_algorithm_of_none_or_of_another_spelling(alg: str, kid: str | None) -> None:
    header = {"alg": alg} | ({"kid": kid} if kid else {})
    assert refusal_of(unsigned(header)) == Refusal.WRONG_ALGORITHM


@pytest.mark.parametrize(
    "header", [{"kid": "rsa"}, {"alg": None}, {"alg": ["RS256"]}, {"alg": {"RS256": 1}}, {"alg": 256}]
)
def test_an_algorithm_that_is_missing_or_no_string(header: dict[str, Any]) -> None:
    assert refusal_of(unsigned(header)) == Refusal.BAD_HEADER


def test_a_token_without_a_signature() -> None:
    assert refusal_of(EC.token(CLAIMS).rpartition(".")[0] + ".") == Refusal.NOT_COMPACT


@pytest.mark.parametrize("secret", public_renderings(RSA).values(), ids=public_renderings(RSA))
@pytest.mark.parametrize("alg", ["HS256", "HS512"])
def test_a_public_key_used_as_a_shared_secret(secret: bytes, alg: str) -> None:
    signed = unsigned({"alg": alg, "kid": "rsa"}).rpartition(".")[0]
    mac = hmac.digest(secret, signed.encode(), getattr(hashlib, f"sha{alg[2:]}"))
    assert refusal_of(f"{signed}.{b64(mac)}") == Refusal.WRONG_ALGORITHM


def test_a_shared_secret_published_in_the_key_set() -> None:
    with pytest.raises(ValueError, match="incident"):
        KeySet.from_jwks({"keys": [RSA.jwk(), {"kty": "oct", "kid": "x", "k": "AAAA", "alg": "HS256"}]})


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "PS384", "PS512"])
def test_another_algorithm_of_the_same_key_type(alg: str) -> None:
    assert refusal_of(RSA.token(CLAIMS, {"alg": alg}, sign_as=alg)) == Refusal.WRONG_ALGORITHM


@pytest.mark.parametrize(
    ("kid", "alg"), [("rsa", "ES256"), ("ec", "RS256"), ("ec", "ES384"), ("rsa", "EdDSA"), ("ec", "EdDSA")]
)
def test_an_algorithm_of_another_key_type(kid: str, alg: str) -> None:
    keys = KeySet.from_jwks({"keys": [EC.jwk(alg=None), RSA.jwk(alg=None)]})
    assert refusal_of(unsigned({"alg": alg, "kid": kid}, signature=bytes(64)), keys) == Refusal.WRONG_ALGORITHM


# --- Signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0, 1])
@pytest.mark.parametrize("s", [0, 1])
def test_a_psychic_signature(r: int, s: int) -> None:
    signature = r.to_bytes(32) + s.to_bytes(32)
    assert refusal_of(unsigned({"alg": "ES256", "kid": "ec"}, signature=signature)) == Refusal.BAD_SIGNATURE


def test_an_ecdsa_signature_in_der() -> None:
    head, _, signature = EC.token(CLAIMS).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    assert refusal_of(f"{head}.{b64(der)}") == Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("key", [EC, RSA], ids=["ec", "rsa"])
def test_a_signature_with_zeros_before_or_after(key: SigningKey) -> None:
    head, _, signature = key.token(CLAIMS).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert refusal_of(f"{head}.{b64(bytes(1) + raw)}") == Refusal.BAD_SIGNATURE
    assert refusal_of(f"{head}.{b64(raw + bytes(1))}") == Refusal.BAD_SIGNATURE


def test_an_ecdsa_signature_with_a_zero_between_its_halves() -> None:
    head, _, signature = EC.token(CLAIMS).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert refusal_of(f"{head}.{b64(raw[:32] + bytes(1) + raw[32:])}") == Refusal.BAD_SIGNATURE


def test_a_signature_of_the_attackers_own_key_under_a_known_id() -> None:
    assert refusal_of(SigningKey.make("ES256", "ec").token(CLAIMS)) == Refusal.BAD_SIGNATURE


def test_a_signature_over_another_header() -> None:
    _, payload, signature = EC.token(CLAIMS).split(".")
    header = b64(b'{"alg":"ES256","kid":"ec"}')
    assert refusal_of(f"{header}.{payload}.{signature}") == Refusal.BAD_SIGNATURE


# --- Key ids and keys in the header -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kid",
    [
        "../../../dev/null",
        "/etc/passwd",
        "' OR 1=1 --",
        "*)(uid=*",
        "ec\\u0000",
        "EC",
        "ec ",
        " ec",
        "__class__",
        "%65%63",
    ],
)
def test_a_key_id_that_means_something_to_a_file_system_or_database(kid: str) -> None:
    assert refusal_of(EC.token(CLAIMS, {"kid": kid})) == Refusal.UNKNOWN_KEY


@pytest.mark.parametrize("kid", ["ec\r\nX: y", "\x00", ["ec"], {"ec": 1}, 0, False, ""])
def test_a_key_id_with_control_characters_or_of_another_type(kid: Any) -> None:
    assert refusal_of(EC.token(CLAIMS, {"kid": kid})) == Refusal.BAD_HEADER


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u"])
def test_a_key_that_the_token_brings_along(name: str) -> None:
    own = SigningKey.make("ES256", "own")
    value = own.jwk() if name == "jwk" else "https://attacker.example/keys"
    assert refusal_of(own.token(CLAIMS, {name: value})) == Refusal.KEY_IN_HEADER


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u"])
@pytest.mark.parametrize("value", [None, "", {}, []])
def test_a_key_member_that_is_empty(name: str, value: Any) -> None:
    header = json.dumps({"alg": "ES256", "kid": "ec", name: value}).encode()
    assert refusal_of(EC.token(CLAIMS, header)) == Refusal.KEY_IN_HEADER


def test_a_certificate_chain_that_the_token_brings_along_is_not_used() -> None:
    assert (
        refusal_of(SigningKey.make("ES256", "own").token(CLAIMS, {"x5c": ["AAAA"], "x5t": "B"})) == Refusal.UNKNOWN_KEY
    )


# --- Headers that change the meaning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("crit", [["x"], [], ["alg"], ["exp", "exp"], ["b64"], None, [1], "x", {}])
def test_critical_headers_of_every_kind(crit: Any) -> None:
    header = json.dumps({"alg": "ES256", "kid": "ec", "crit": crit, "x": 1, "exp": 1}).encode()
    assert refusal_of(EC.token(CLAIMS, header)) == Refusal.HEADER_NOT_UNDERSTOOD


@pytest.mark.parametrize("b64_value", [False, True, "false", None])
def test_an_unencoded_payload(b64_value: Any) -> None:
    header = json.dumps({"alg": "ES256", "kid": "ec", "b64": b64_value}).encode()
    assert refusal_of(EC.token(CLAIMS, header)) == Refusal.HEADER_NOT_UNDERSTOOD


@pytest.mark.parametrize("name", ["zip", "enc"])
def test_compression_and_encryption(name: str) -> None:
    assert refusal_of(EC.token(CLAIMS, {name: "DEF"})) == Refusal.HEADER_NOT_UNDERSTOOD


@pytest.mark.parametrize("header", [b'["ES256"]', b'"ES256"', b"1", b"null"])
def test_a_header_that_is_no_object(header: bytes) -> None:
    assert refusal_of(EC.token(CLAIMS, header)) == Refusal.BAD_HEADER


def test_a_header_with_two_algorithms() -> None:
    assert refusal_of(EC.token(CLAIMS, b'{"alg":"none","kid":"ec","alg":"ES256"}')) == Refusal.BAD_HEADER


@pytest.mark.parametrize("bomb", [b"[" * 3000, b'{"a":' * 700])
def test_a_header_that_is_nested_without_end(bomb: bytes) -> None:
    assert refusal_of(EC.token(CLAIMS, bomb)) == Refusal.BAD_HEADER


@pytest.mark.parametrize("typ", [1, None, ["JWT"], True])
def test_a_type_that_is_no_string(typ: Any) -> None:
    header = json.dumps({"alg": "ES256", "kid": "ec", "typ": typ}).encode()
    assert refusal_of(EC.token(CLAIMS, header)) == Refusal.WRONG_TYPE


@pytest.mark.parametrize(
    "typ",
    [
        "id+jwt", "dpop+jwt", "logout+jwt", "client-authentication+jwt", "token-introspection+jwt", "secevent+jwt",
        "oauth-authz-req+jwt", "entity-statement+jwt", "vc+sd-jwt", "dc+sd-jwt", "kb+jwt", "rt+jwt", "JOSE", "JWE", "",
        "application/", "application/application/jwt", "at+jwt ", "text/jwt",
    ],
)  # fmt: skip
def test_another_kind_of_jwt_as_an_access_token(typ: str) -> None:
    assert refusal_of(EC.token(CLAIMS, {"typ": typ})) == Refusal.WRONG_TYPE


# --- The text of the token --------------------------------------------------------------------------------------------


def test_an_encrypted_token() -> None:
    header = b64(json.dumps({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "rsa"}).encode())
    assert refusal_of(f"{header}.AAAA.AAAA.AAAA.AAAA") == Refusal.ENCRYPTED


def test_a_token_inside_a_token() -> None:
    assert refusal_of(EC.token(EC.token(CLAIMS).encode(), {"cty": "JWT"})) == Refusal.BAD_PAYLOAD


def test_a_token_in_the_json_serialization() -> None:
    header, payload, signature = EC.token(CLAIMS).split(".")
    text = json.dumps({"payload": payload, "protected": header, "signature": signature})
    assert refusal_of(text) in {Refusal.NOT_COMPACT, Refusal.BAD_ENCODING}


def test_a_token_of_many_megabytes() -> None:
    assert refusal_of("a." * 5_000_000) == Refusal.TOO_LARGE


def test_a_second_spelling_of_the_same_signature() -> None:
    token = EC.token(CLAIMS)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")) == 64
    twin = token[:-1] + alphabet[alphabet.index(token[-1]) | 1]
    assert refusal_of(twin) == Refusal.BAD_ENCODING


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("extra", ["=", "==", "\n", " ", "\t", "."])
def test_padding_and_blanks_in_the_text(part: int, extra: str) -> None:
    parts = EC.token(CLAIMS).split(".")
    parts[part] += extra
    assert refusal_of(".".join(parts)) in {Refusal.BAD_ENCODING, Refusal.NOT_COMPACT}


def test_the_other_base64_alphabet() -> None:
    header, payload, signature = EC.token({**CLAIMS, "x": "\u07ff" * 20}).split(".")
    token = f"{header}.{payload.translate(str.maketrans('-_', '+/'))}.{signature.replace('-', '+').replace('_', '/')}"
    assert refusal_of(token + "+") == Refusal.BAD_ENCODING


# --- The text of the claims -------------------------------------------------------------------------------------------


def raw_claims(members: str) -> bytes:
    """Return the honest claims with other members before them."""
    return f"{{{members},{json.dumps(CLAIMS)[1:]}".encode()


@pytest.mark.parametrize(
    "payload",
    [
        raw_claims('"sub":"admin"'),
        raw_claims('"s\\u0075b":"admin"'),
        raw_claims('"x":NaN'),
        raw_claims('"x":1e400'),
        raw_claims('"x":-Infinity'),
        raw_claims('"x":"\\ud800"'),
        raw_claims('"x":' + "9" * 5000),
        raw_claims('"x":' + "[" * 40 + "]" * 40),
        b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode(),
        json.dumps(CLAIMS).encode("utf-16"),
        json.dumps(CLAIMS).encode() + b"{}",
        json.dumps([CLAIMS]).encode(),
        b"[" * 10_000,
    ],
    ids=[
        "two subjects", "two subjects, one escaped", "NaN", "1e400", "Infinity", "lone surrogate", "long integer", "deep",
        "byte order mark", "UTF-16", "two documents", "a list", "a bomb of brackets",
    ],
)  # fmt: skip
def test_claims_that_two_parsers_would_read_differently(payload: bytes) -> None:
    assert refusal_of(EC.token(payload)) == Refusal.BAD_PAYLOAD


# --- The claims -------------------------------------------------------------------------------------------------------


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (CLAIMS | changes).items() if name not in names}


@pytest.mark.parametrize(
    ("claims", "refusal"),
    [
        (without("exp"), Refusal.BAD_TIME),
        (without(exp=str(NOW + 300)), Refusal.BAD_TIME),
        (without(exp=True), Refusal.BAD_TIME),
        (without(exp=(NOW + 300) * 1000), Refusal.BAD_TIME),
        (without(exp=2**62), Refusal.BAD_TIME),
        (without(exp=NOW - 61), Refusal.EXPIRED),
        (without(iat=True), Refusal.BAD_TIME),
        (without(iat=NOW + 3600), Refusal.NOT_YET_VALID),
        (without(nbf=NOW + 3600), Refusal.NOT_YET_VALID),
        (without("iss"), Refusal.WRONG_ISSUER),
        (without(iss=ISSUER + ".attacker.example"), Refusal.WRONG_ISSUER),
        (without(iss=ISSUER[:10]), Refusal.WRONG_ISSUER),
        (without(iss=[ISSUER, "https://attacker.example"]), Refusal.WRONG_ISSUER),
        (without(iss=ISSUER + "/"), Refusal.WRONG_ISSUER),
        (without(iss=ISSUER.replace("login", "LOGIN")), Refusal.WRONG_ISSUER),
        (without("aud"), Refusal.WRONG_AUDIENCE),
        (without(aud=AUDIENCE + ".attacker.example"), Refusal.WRONG_AUDIENCE),
        (without(aud=AUDIENCE[:8]), Refusal.WRONG_AUDIENCE),
        (without(aud=[AUDIENCE, 1]), Refusal.WRONG_AUDIENCE),
        (without(aud=[[AUDIENCE]]), Refusal.WRONG_AUDIENCE),
        (without(aud={"value": AUDIENCE}), Refusal.WRONG_AUDIENCE),
        (without(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), Refusal.PROOF_OF_POSSESSION),
        (without(cnf={"x5t#S256": "x"}), Refusal.PROOF_OF_POSSESSION),
        (without(sub=["alice", "admin"]), Refusal.BAD_SUBJECT),
        (without(sub={"id": "alice"}), Refusal.BAD_SUBJECT),
        (without(sub="alice\r\nx-user: admin"), Refusal.BAD_SUBJECT),
        (without(jti={"a": 1}), Refusal.BAD_TOKEN_ID),
    ],
)
def test_a_claim_that_is_wrong_or_of_another_type(claims: dict[str, Any], refusal: Refusal) -> None:
    assert refusal_of(EC.token(claims)) == refusal


def test_a_scope_that_contains_a_needed_one_as_text() -> None:
    policy = JwtPolicy(issuer=ISSUER, audiences=(AUDIENCE,), scopes=("agents.invoke",))
    with pytest.raises(InsufficientScope):
        enter(EC.token(CLAIMS | {"scp": "not.agents.invoke.really"}), policy=policy)


# --- Keys of the issuer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"use": "enc", "alg": "RSA-OAEP"},
        {"key_ops": ["encrypt"]},
        {"key_ops": []},
        {"key_ops": None, "use": "x"},
    ],
)
def test_a_key_that_is_for_something_else(members: dict[str, Any]) -> None:
    keys = KeySet.from_jwks({"keys": [EC.jwk(), RSA.jwk(**members)]})
    assert refusal_of(RSA.token(CLAIMS), keys) == Refusal.UNKNOWN_KEY


def test_a_key_of_1024_bits() -> None:
    weak = SigningKey("weak", "RS256", rsa_private(bits=1024))
    keys = KeySet.from_jwks({"keys": [EC.jwk(), weak.jwk()]})
    assert refusal_of(weak.token(CLAIMS), keys) == Refusal.UNKNOWN_KEY


def test_a_key_set_with_a_private_key() -> None:
    with pytest.raises(ValueError, match="incident"):
        KeySet.from_jwks({"keys": [RSA.jwk(d="AQAB")]})


def test_two_keys_of_one_id_where_the_first_would_win() -> None:
    with pytest.raises(ValueError, match="two different keys"):
        KeySet.from_jwks({"keys": [SigningKey.make("ES256", "ec").jwk(), EC.jwk()]})


def test_a_key_of_another_issuer_with_the_same_id() -> None:
    other = SigningKey.make("ES256", "ec")
    assert refusal_of(other.token(CLAIMS)) == Refusal.BAD_SIGNATURE


def test_a_token_of_another_tenant_that_shares_the_keys() -> None:
    assert refusal_of(EC.token(CLAIMS | {"iss": "https://login.example.com/other"})) == Refusal.WRONG_ISSUER


def test_a_token_without_key_id_where_several_keys_fit() -> None:
    keys = KeySet.from_jwks({"keys": [EC.jwk(), SigningKey.make("ES256", "2").jwk()]})
    assert refusal_of(EC.token(CLAIMS, {"kid": None}), keys) == Refusal.AMBIGUOUS_KEY
