"""JSON Web Tokens: the form of a token, the keys of an issuer, the policy, and the claims."""

import base64
import dataclasses
import json
import math
from typing import Any

import pytest

from identity_gateway.errors import InsufficientScope, InvalidToken
from identity_gateway.protocol import jwt
from identity_gateway.protocol.jwt import (
    ClaimKind,
    ClaimOperator,
    CustomClaim,
    JwtPolicy,
    KeySet,
    Refusal,
    SignedClaims,
    UnknownKey,
    VerifiedPayload,
)
from tests.fakes.issuer import SigningKey, b64, number, rsa_private

NOW = 1_800_000_000.0
ISSUER = "https://login.example.com/tenant"
POLICY = JwtPolicy(issuer=ISSUER, audiences=("https://agents.example.com",))
KEY = SigningKey.make("ES256", "key-1")


def claims(**changes: Any) -> dict[str, Any]:
    """Return claims that POLICY lets in, with changes; None removes."""
    members = {"iss": ISSUER, "sub": "alice", "aud": "https://agents.example.com", "exp": NOW + 300, "iat": NOW}
    return {name: value for name, value in (members | changes).items() if value is not None}


def checked(policy: JwtPolicy = POLICY, **changes: Any) -> SignedClaims:
    payload = VerifiedPayload(json.dumps(claims(**changes)).encode(), "ES256", "key-1")
    return jwt.check_claims(payload, policy, now=NOW)


def refusal_of(policy: JwtPolicy = POLICY, **changes: Any) -> str:
    with pytest.raises(InvalidToken) as refusal:
        checked(policy, **changes)
    return refusal.value.reason.partition(":")[0]


def parse_refusal(token: str) -> str:
    with pytest.raises(InvalidToken) as refusal:
        jwt.parse(token)
    return refusal.value.reason.partition(":")[0]


def key_set(*entries: dict[str, Any]) -> KeySet:
    return KeySet.from_jwks({"keys": list(entries)})


# --- The form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a", "a.b", "a.b.", ".b.c", "a..c", "a.b.c.d", "a.b.c.d.e.f", "a." * 9000]
)
def test_a_text_that_is_not_three_parts_is_refused(token: str) -> None:
    assert parse_refusal(token) in {Refusal.NOT_COMPACT, Refusal.TOO_LARGE}


@pytest.mark.parametrize("damage", [" ", "\n", "=", "+", "/", "?", "\u00e9", "\uff21"])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_character_outside_the_alphabet_is_refused(damage: str, part: int) -> None:
    parts = KEY.token(claims()).split(".")
    parts[part] += damage
    assert parse_refusal(".".join(parts)) == Refusal.BAD_ENCODING


def test_a_long_token_is_refused_before_it_is_read() -> None:
    assert parse_refusal("." * (16 * 1024 + 1)) == Refusal.TOO_LARGE


def test_a_long_header_is_refused() -> None:
    assert parse_refusal(KEY.token(claims(), {"x5c": ["A" * 5000]})) == Refusal.TOO_LARGE


@pytest.mark.parametrize(
    "header",
    [b"[]", b'"ES256"', b"null", b"", b"{", b'{"alg":"ES256","alg":"none"}', b'{"alg":["ES256"]}', b'{"typ":"JWT"}'],
)
def test_a_header_that_is_not_an_object_with_an_algorithm_is_refused(header: bytes) -> None:
    assert parse_refusal(KEY.token(claims(), header)) in {Refusal.BAD_HEADER, Refusal.NOT_COMPACT}


@pytest.mark.parametrize("kid", ["", "a" * 257, "a\r\nb", "\x00", "sch\u00fcssel", 7, ["key-1"], {"a": 1}, True])
def test_a_key_id_that_is_not_a_short_printable_string_is_refused(kid: Any) -> None:
    assert parse_refusal(KEY.token(claims(), {"kid": kid})) == Refusal.BAD_HEADER


def test_a_key_id_of_null_is_refused() -> None:
    assert parse_refusal(KEY.token(claims(), b'{"alg":"ES256","kid":null}')) == Refusal.BAD_HEADER


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT", None])
def test_types_of_access_tokens_are_read(typ: str | None) -> None:
    assert jwt.parse(KEY.token(claims(), {"typ": typ})).kid == "key-1"


def test_certificates_in_the_header_are_ignored() -> None:
    assert jwt.parse(KEY.token(claims(), {"x5c": ["AAAA"], "x5t": "BBBB"})).alg == "ES256"


def test_an_unverified_token_shows_no_claims() -> None:
    assert "alice" not in repr(jwt.parse(KEY.token(claims())))


def test_the_unverified_issuer_is_what_the_token_says() -> None:
    assert jwt.parse(KEY.token(claims())).unverified_issuer() == ISSUER


@pytest.mark.parametrize("issuer", [None, 7, [ISSUER]])
def test_an_issuer_that_is_not_a_string_is_none(issuer: Any) -> None:
    assert jwt.parse(KEY.token(claims(iss=issuer))).unverified_issuer() is None


# --- The keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": "x"}, {"keys": []}, {"keys": [None, 1, []]}])
def test_a_document_without_keys_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        KeySet.from_jwks(document)


def test_a_set_of_too_many_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="1001 keys"):
        KeySet.from_jwks({"keys": [KEY.jwk()] * 1001})


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "AAAA"},
        {"kty": "oct"},
        {"kty": "AKP", "priv": "AAAA"},
        *({"kty": "RSA", "use": "enc", name: "AAAA"} for name in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")),
    ],
)
def test_a_set_that_publishes_private_or_shared_keys_is_refused_whole(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="incident"):
        key_set(KEY.jwk(), entry)


def test_a_key_id_that_stands_for_two_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="two different keys"):
        key_set(SigningKey.make().jwk(), SigningKey.make().jwk())


def test_a_key_that_is_listed_twice_is_one_key() -> None:
    assert len(key_set(KEY.jwk(), KEY.jwk()).keys) == 1


PRIMORIAL = math.prod(p for p in range(2, 168) if all(p % q for q in range(2, p)))
ROCA = pow(65537, 12345, PRIMORIAL) + PRIMORIAL * (2**2047 // PRIMORIAL + 1)
UNUSABLE: dict[str, dict[str, Any]] = {
    "an unknown type": {"kty": "AKP", "pub": "AAAA", "alg": "ML-DSA-44"},
    "an unknown curve": KEY.jwk(crv="secp256k1", alg=None),
    "a curve that is a list": KEY.jwk(crv=["P-256"]),
    "another type's name": KEY.jwk(kty="RSA"),
    "a point that is not on the curve": KEY.jwk(y=KEY.jwk()["x"]),
    "a short coordinate": KEY.jwk(x="AAAA"),
    "a coordinate with a zero in front": KEY.jwk(x=b64(bytes(1) + base64.urlsafe_b64decode(KEY.jwk()["x"] + "="))),
    "a padded coordinate": KEY.jwk(x=KEY.jwk()["x"] + "="),
    "a missing coordinate": KEY.jwk(y=None),
    "a very long coordinate": KEY.jwk(x="A" * 100_000),
    "use enc": KEY.jwk(use="enc"),
    "use that is a list": KEY.jwk(use=["sig"]),
    "key_ops encrypt": KEY.jwk(key_ops=["encrypt"]),
    "key_ops that is text": KEY.jwk(key_ops="verify"),
    "an encryption algorithm": KEY.jwk(alg="ECDH-ES"),
    "a shared-key algorithm": KEY.jwk(alg="HS256"),
    "another curve's algorithm": KEY.jwk(alg="ES384"),
    "an algorithm that is a list": KEY.jwk(alg=["ES256"]),
    "a key id that is a number": KEY.jwk(kid=7),
    "an empty key id": KEY.jwk(kid=""),
    "RSA of 1024 bits": SigningKey("weak", "RS256", rsa_private(bits=1024)).jwk(),
    "RSA with exponent 1": SigningKey.make("RS256").jwk(e="AQ"),
    "RSA with an even exponent": SigningKey.make("RS256").jwk(e="AQAA"),
    "RSA with an exponent of 33 bits": SigningKey.make("RS256").jwk(e="AQAAAAE"),
    "RSA of 9000 bits": SigningKey.make("RS256").jwk(n=b64(b"\xff" * 1125)),
    "RSA with the marks of a weak generator (CVE-2017-15361)": SigningKey.make("RS256").jwk(n=number(ROCA)),
    "Ed448": {"kty": "OKP", "crv": "Ed448", "x": b64(bytes(57))},
    "X25519": {"kty": "OKP", "crv": "X25519", "x": b64(bytes(32))},
    "Ed25519 that is short": {"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(31))},
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_key_is_left_out_and_the_others_stay(entry: dict[str, Any]) -> None:
    good = SigningKey.make(kid="good")
    keys = key_set(entry, good.jwk())
    assert [key.kid for key in keys.keys] == ["good"]
    assert len(keys.skipped) == 1


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE)
def test_a_set_of_unusable_keys_is_an_error(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no usable key"):
        key_set(entry)


def test_sets_of_the_same_keys_are_equal_in_any_order() -> None:
    one, two = SigningKey.make(kid="1").jwk(), SigningKey.make(kid="2").jwk()
    assert key_set(one, two) == key_set(two, one)
    assert key_set(one, two).fingerprint() == key_set(two, one).fingerprint()


def test_sets_with_another_key_of_the_same_id_differ() -> None:
    one, two = key_set(SigningKey.make().jwk()), key_set(SigningKey.make().jwk())
    assert one != two
    assert one.fingerprint() != two.fingerprint()


# --- The signature ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", sorted(jwt.ALGORITHMS))
def test_every_algorithm_verifies(alg: str) -> None:
    key = SigningKey.make(alg)
    payload = jwt.verify_signature(jwt.parse(key.token(claims())), key_set(key.jwk()))
    assert json.loads(payload.payload)["sub"] == "alice"


@pytest.mark.parametrize("alg", sorted(jwt.ALGORITHMS))
def test_a_changed_payload_does_not_verify(alg: str) -> None:
    key = SigningKey.make(alg)
    header, _, signature = key.token(claims()).split(".")
    forged = jwt.parse(f"{header}.{b64(json.dumps(claims(sub='mallory')).encode())}.{signature}")
    with pytest.raises(InvalidToken, match="not valid") as refusal:
        jwt.verify_signature(forged, key_set(key.jwk()))
    assert refusal.value.reason.startswith(Refusal.BAD_SIGNATURE)


@pytest.mark.parametrize("alg", sorted(jwt.ALGORITHMS))
@pytest.mark.parametrize("change", [b"", b"\x00"])
def test_a_signature_of_another_length_does_not_verify(alg: str, change: bytes) -> None:
    key = SigningKey.make(alg)
    token = jwt.parse(key.token(claims()))
    longer = dataclasses.replace(token, signature=change + token.signature[: None if change else -1])
    with pytest.raises(InvalidToken):
        jwt.verify_signature(longer, key_set(key.jwk()))


def test_an_unknown_key_id_is_told_apart() -> None:
    with pytest.raises(UnknownKey) as refusal:
        jwt.verify_signature(jwt.parse(KEY.token(claims(), {"kid": "other"})), key_set(KEY.jwk()))
    assert refusal.value.kid == "other"


def test_a_token_without_key_id_is_verified_by_the_only_key_that_fits() -> None:
    token = jwt.parse(KEY.token(claims(), {"kid": None}))
    assert jwt.verify_signature(token, key_set(KEY.jwk(kid=None), SigningKey.make("EdDSA", "2").jwk())).kid is None


def test_a_token_without_key_id_is_refused_when_two_keys_fit() -> None:
    token = jwt.parse(KEY.token(claims(), {"kid": None}))
    with pytest.raises(InvalidToken) as refusal:
        jwt.verify_signature(token, key_set(KEY.jwk(), SigningKey.make(kid="2").jwk()))
    assert refusal.value.reason.startswith(Refusal.AMBIGUOUS_KEY)


def test_a_key_without_an_algorithm_serves_the_algorithms_of_its_type() -> None:
    key = SigningKey.make("RS256")
    token = jwt.parse(key.token(claims(), {"alg": "PS512"}, sign_as="PS512"))
    assert jwt.verify_signature(token, key_set(key.jwk(alg=None))).alg == "PS512"


def test_a_verified_payload_shows_no_claims() -> None:
    assert "alice" not in repr(jwt.verify_signature(jwt.parse(KEY.token(claims())), key_set(KEY.jwk())))


# --- The policy -------------------------------------------------------------------------------------------------------


def test_a_policy_that_checks_nothing_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least one"):
        JwtPolicy(issuer=ISSUER)


@pytest.mark.parametrize(
    "fields",
    [
        {"audiences": "https://agents.example.com"},
        {"audiences": ("",)},
        {"clients": ("a", "")},
        {"scopes": ["a"]},
        {"audiences": ("a",), "issuer": ""},
        {"audiences": ("a",), "leeway": 301.0},
        {"audiences": ("a",), "leeway": -1.0},
        {"audiences": ("a",), "max_lifetime": 0.0},
        {"audiences": ("a",), "subject_only": True},
    ],
)
def test_a_policy_that_means_something_else_cannot_be_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        JwtPolicy(**({"issuer": ISSUER} | fields))


def custom(name: str, kind: str, operator: str, **value: Any) -> dict[str, Any]:
    return {
        "inboundTokenClaimName": name,
        "inboundTokenClaimValueType": kind,
        "authorizingClaimMatchValue": {"claimMatchOperator": operator, "claimMatchValue": value},
    }


FIELD = "authorizerConfiguration.customJWTAuthorizer"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"allowedAudience": [], "allowedClients": [], "allowedScopes": [], "customClaims": []}, ""),
    ({"allowedAudience": "abc"}, ".allowedAudience"),
    ({"allowedAudience": [""]}, ".allowedAudience[0]"),
    ({"allowedClients": ["a", 7]}, ".allowedClients[1]"),
    ({"allowedScopes": ["read write"]}, ".allowedScopes[0]"),
    ({"allowedScopes": ["a"], "advertisedScopeMapping": {"b": "c"}}, ".advertisedScopeMapping.b"),
    ({"allowedScopes": ["a"], "advertisedScopeMapping": {"a": "c d"}}, ".advertisedScopeMapping.a"),
    ({"allowedScopes": ["a"], "advertisedScopeMapping": ["a"]}, ".advertisedScopeMapping"),
    ({"customClaims": {"a": 1}}, ".customClaims"),
    ({"customClaims": ["a"]}, ".customClaims[0]"),
    ({"customClaims": [{}]}, ".customClaims[0]"),
    ({"customClaims": [custom("scp", "STRING", "EQUALS", matchValueString="a")]}, ".customClaims[0].inboundTokenClaimName"),
    *(
        ({"customClaims": [claim]}, ".customClaims[0].authorizingClaimMatchValue")
        for claim in (
            custom("groups", "STRING", "CONTAINS", matchValueString="a"),
            custom("groups", "STRING", "EQUALS", matchValueStringList=["a"]),
            custom("groups", "STRING", "EQUALS", matchValueString=""),
            custom("groups", "STRING_ARRAY", "EQUALS", matchValueString="a"),
            custom("groups", "STRING_ARRAY", "CONTAINS", matchValueStringList=["a"]),
            custom("groups", "STRING_ARRAY", "CONTAINS_ANY", matchValueString="a"),
            custom("groups", "STRING_ARRAY", "CONTAINS_ANY", matchValueStringList=[]),
            custom("groups", "STRING_ARRAY", "CONTAINS_ANY", matchValueStringList="ab"),
            custom("groups", "STRING_ARRAY", "CONTAINS", matchValueString="a", matchValueStringList=["a"]),
            custom("groups", "NUMBER", "EQUALS", matchValueString="a"),
            custom("", "STRING", "EQUALS", matchValueString="a"),
        )
    ),
    *(
        ({"allowedAudience": ["a"], name: {}}, f".{name}")
        for name in (
            "privateEndpoint", "privateEndpointOverrides", "certificateConfigurations", "allowedWorkloadConfiguration",
            "somethingNew",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("authorizer", "field"), REFUSED)
def test_an_authorizer_that_cannot_be_enforced_is_refused_by_its_field(authorizer: dict[str, Any], field: str) -> None:
    problems = jwt.check_authorizer({"discoveryUrl": "https://a.example/.well-known/openid-configuration"} | authorizer)
    assert [problem.name for problem in problems] == [FIELD + field]


@pytest.mark.parametrize(("authorizer", "field"), REFUSED)
def test_a_policy_is_not_made_from_an_authorizer_that_is_refused(authorizer: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match="customJWTAuthorizer"):
        JwtPolicy.from_configuration(authorizer, ISSUER)


AUTHORIZER = {
    "discoveryUrl": "https://login.example.com/.well-known/openid-configuration",
    "allowedAudience": ["a1", "a2"],
    "allowedClients": ["c1"],
    "allowedScopes": ["s1", "s2"],
    "advertisedScopeMapping": {"s1": "api://agents/s1"},
    "customClaims": [
        custom("tenant", "STRING", "EQUALS", matchValueString="t1"),
        custom("groups", "STRING_ARRAY", "CONTAINS", matchValueString="g1"),
        custom("cognito:roles", "STRING_ARRAY", "CONTAINS_ANY", matchValueStringList=["r1", "r2"]),
    ],
}


def test_an_authorizer_that_can_be_enforced_has_no_problem() -> None:
    assert jwt.check_authorizer(AUTHORIZER) == []


def test_a_policy_holds_everything_that_the_authorizer_asks() -> None:
    assert JwtPolicy.from_configuration(AUTHORIZER, ISSUER) == JwtPolicy(
        issuer=ISSUER,
        audiences=("a1", "a2"),
        clients=("c1",),
        scopes=("s1", "s2"),
        custom_claims=(
            CustomClaim("tenant", ClaimKind.STRING, ClaimOperator.EQUALS, ("t1",)),
            CustomClaim("groups", ClaimKind.STRING_ARRAY, ClaimOperator.CONTAINS, ("g1",)),
            CustomClaim("cognito:roles", ClaimKind.STRING_ARRAY, ClaimOperator.CONTAINS_ANY, ("r1", "r2")),
        ),
    )


# --- The claims -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"[]", b"null", b'"x"', b"{", b'{"iss":1,"iss":2}', b"\xff"])
def test_a_payload_that_is_not_one_json_object_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidToken) as refusal:
        jwt.check_claims(VerifiedPayload(payload, "ES256", None), POLICY, now=NOW)
    assert refusal.value.reason.startswith(Refusal.BAD_PAYLOAD)


WRONG: list[tuple[dict[str, Any], Refusal]] = [
    ({"iss": None}, Refusal.WRONG_ISSUER),
    ({"iss": ISSUER + "/"}, Refusal.WRONG_ISSUER),
    ({"iss": ISSUER.upper()}, Refusal.WRONG_ISSUER),
    ({"iss": ISSUER[:-1]}, Refusal.WRONG_ISSUER),
    ({"iss": [ISSUER]}, Refusal.WRONG_ISSUER),
    ({"exp": None}, Refusal.BAD_TIME),
    ({"exp": str(int(NOW + 300))}, Refusal.BAD_TIME),
    ({"exp": True}, Refusal.BAD_TIME),
    ({"exp": [NOW + 300]}, Refusal.BAD_TIME),
    ({"exp": (NOW + 300) * 1000}, Refusal.BAD_TIME),
    ({"exp": NOW - 60}, Refusal.EXPIRED),
    ({"exp": -1}, Refusal.EXPIRED),
    ({"nbf": NOW + 61}, Refusal.NOT_YET_VALID),
    ({"iat": NOW + 61}, Refusal.NOT_YET_VALID),
    ({"nbf": str(NOW)}, Refusal.BAD_TIME),
    ({"iat": True}, Refusal.BAD_TIME),
    ({"iat": {}}, Refusal.BAD_TIME),
    ({"sub": ""}, Refusal.BAD_SUBJECT),
    ({"sub": 7}, Refusal.BAD_SUBJECT),
    ({"sub": ["alice"]}, Refusal.BAD_SUBJECT),
    ({"sub": "alice\r\nX-Admin: 1"}, Refusal.BAD_SUBJECT),
    ({"sub": "alice\x00"}, Refusal.BAD_SUBJECT),
    ({"sub": "a" * 256}, Refusal.BAD_SUBJECT),
    ({"sub": "\N{SNOWMAN}" * 86}, Refusal.BAD_SUBJECT),
    ({"sub": "alice\u2028"}, Refusal.BAD_SUBJECT),
    ({"sub": "alice\x85"}, Refusal.BAD_SUBJECT),
    ({"jti": 7}, Refusal.BAD_TOKEN_ID),
    ({"cnf": {"jkt": "x"}}, Refusal.PROOF_OF_POSSESSION),
    ({"cnf": {}}, Refusal.PROOF_OF_POSSESSION),
    ({"aud": None}, Refusal.WRONG_AUDIENCE),
    ({"aud": []}, Refusal.WRONG_AUDIENCE),
    ({"aud": "https://agents.example.com/"}, Refusal.WRONG_AUDIENCE),
    ({"aud": "https://agents.example.com https://other.example"}, Refusal.WRONG_AUDIENCE),
    ({"aud": ["https://agents.example.com", 7]}, Refusal.WRONG_AUDIENCE),
    ({"aud": {"https://agents.example.com": 1}}, Refusal.WRONG_AUDIENCE),
]


@pytest.mark.parametrize(("changes", "refusal"), WRONG)
def test_a_wrong_claim_is_refused(changes: dict[str, Any], refusal: Refusal) -> None:
    assert refusal_of(**changes) == refusal


@pytest.mark.parametrize("name", ["nbf", "iat", "sub", "jti", "aud", "cnf", "exp"])
def test_a_claim_that_is_null_is_not_an_absent_claim(name: str) -> None:
    payload = json.dumps(claims() | {name: None}).encode()
    with pytest.raises(InvalidToken):
        jwt.check_claims(VerifiedPayload(payload, "ES256", None), POLICY, now=NOW)


def test_times_are_compared_with_the_leeway() -> None:
    assert checked(exp=NOW - 59, nbf=NOW + 60, iat=NOW + 60).expires_at == NOW - 59


def test_an_audience_in_a_list_is_enough() -> None:
    assert checked(aud=["x", "https://agents.example.com"]).audiences == ("x", "https://agents.example.com")


def issued_by(issuer: str) -> jwt.SignedClaims:
    payload = VerifiedPayload(json.dumps(claims() | {"iss": issuer}).encode(), "ES256", None)
    return jwt.check_claims(payload, JwtPolicy(issuer=issuer, audiences=POLICY.audiences), now=NOW)


def test_an_issuer_of_more_than_512_bytes_is_refused() -> None:
    with pytest.raises(InvalidToken) as caught:
        issued_by("https://id.example/".ljust(513, "a"))
    assert caught.value.reason.startswith(Refusal.WRONG_ISSUER)


def test_an_issuer_may_have_512_bytes() -> None:
    assert len(issued_by("https://id.example/".ljust(512, "a")).issuer) == 512


def test_a_subject_may_have_255_characters() -> None:
    assert checked(sub="a" * 255).subject == "a" * 255


def test_a_token_may_say_nothing_about_its_subject() -> None:
    assert checked(sub=None).subject is None


@pytest.mark.parametrize("client", [None, "c", "c11", ["c1"], 7])
def test_another_client_is_refused(client: Any) -> None:
    assert refusal_of(JwtPolicy(issuer=ISSUER, clients=("c1",)), client_id=client) == Refusal.WRONG_CLIENT


@pytest.mark.parametrize("name", ["azp", "cid", "appid"])
def test_only_client_id_names_the_client(name: str) -> None:
    assert refusal_of(JwtPolicy(issuer=ISSUER, clients=("c1",)), **{name: "c1"}) == Refusal.WRONG_CLIENT


def test_an_allowed_client_needs_no_audience() -> None:
    assert checked(JwtPolicy(issuer=ISSUER, clients=("c1", "c2")), client_id="c2", aud=None).client_id == "c2"


def test_audience_and_client_must_both_hold() -> None:
    policy = JwtPolicy(issuer=ISSUER, audiences=("https://agents.example.com",), clients=("c1",))
    assert refusal_of(policy, client_id="c2") == Refusal.WRONG_CLIENT


STRING = CustomClaim("team", ClaimKind.STRING, ClaimOperator.EQUALS, ("red",))
ARRAY = CustomClaim("team", ClaimKind.STRING_ARRAY, ClaimOperator.CONTAINS, ("red",))
ANY = CustomClaim("team", ClaimKind.STRING_ARRAY, ClaimOperator.CONTAINS_ANY, ("red", "blue"))


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        *((STRING, value) for value in (None, "", "Red", "redder", ["red"], 7, True, {"red": 1})),
        *((ARRAY, value) for value in (None, "red", [], ["green"], ["redder"], ["red", 7], {"red": 1}, [["red"]])),
        *((ANY, value) for value in (None, "red", [], ["green"], ["red", None])),
    ],
)
def test_a_custom_claim_that_does_not_hold_is_refused(rule: CustomClaim, value: Any) -> None:
    assert refusal_of(JwtPolicy(issuer=ISSUER, custom_claims=(rule,)), team=value) == Refusal.WRONG_CLAIM


@pytest.mark.parametrize(("rule", "value"), [(STRING, "red"), (ARRAY, ["green", "red"]), (ANY, ["blue"])])
def test_a_custom_claim_that_holds_is_enough(rule: CustomClaim, value: Any) -> None:
    assert checked(JwtPolicy(issuer=ISSUER, custom_claims=(rule,)), team=value).subject == "alice"


def test_every_custom_claim_must_hold() -> None:
    other = CustomClaim("tenant", ClaimKind.STRING, ClaimOperator.EQUALS, ("t1",))
    assert refusal_of(JwtPolicy(issuer=ISSUER, custom_claims=(STRING, other)), team="red") == Refusal.WRONG_CLAIM


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"scope": ""},
        {"scope": "agents.invokes agents"},
        {"scope": "agents\tagents.invoke"},
        {"scope": "agents\u00a0agents.invoke"},
        {"scope": ["agents.invoke"]},
        {"scope": "other", "scp": ["agents.invoke"]},
        {"scp": ["agents.invoke", 7]},
        {"scp": "agents.invoker"},
        {"scp": {"agents.invoke": True}},
    ],
)
def test_a_token_without_a_needed_scope_is_told_which(found: dict[str, Any]) -> None:
    with pytest.raises(InsufficientScope) as refusal:
        checked(JwtPolicy(issuer=ISSUER, scopes=("agents.invoke", "admin")), **found)
    assert refusal.value.scopes == ("agents.invoke", "admin")


@pytest.mark.parametrize(
    "found", [{"scope": "a agents.invoke b"}, {"scp": ["agents.invoke"]}, {"scp": "a  agents.invoke"}]
)
def test_one_needed_scope_is_enough(found: dict[str, Any]) -> None:
    assert "agents.invoke" in checked(JwtPolicy(issuer=ISSUER, scopes=("agents.invoke", "admin")), **found).scopes


def test_scopes_are_judged_after_everything_else() -> None:
    policy = JwtPolicy(issuer=ISSUER, scopes=("admin",), custom_claims=(STRING,))
    assert refusal_of(policy, team="blue") == Refusal.WRONG_CLAIM


@pytest.mark.parametrize(("exp", "iat"), [(NOW + 3601, NOW), (NOW + 10, None)])
def test_a_token_that_lives_longer_than_allowed_is_refused(exp: float, iat: float | None) -> None:
    policy = JwtPolicy(issuer=ISSUER, audiences=POLICY.audiences, max_lifetime=3600)
    assert refusal_of(policy, exp=exp, iat=iat) == Refusal.TOO_LONG_LIVED


def test_an_identity_needs_a_subject() -> None:
    assert refusal_of(JwtPolicy.identity_only(ISSUER), sub=None) == Refusal.BAD_SUBJECT


def test_an_identity_needs_no_audience() -> None:
    assert checked(JwtPolicy.identity_only(ISSUER), aud=None).subject == "alice"


def test_verify_is_signature_and_claims() -> None:
    found = jwt.verify(jwt.parse(KEY.token(claims(tenant="t1"))), key_set(KEY.jwk()), POLICY, now=NOW)
    assert (found.issuer, found.subject, found.claims["tenant"]) == (ISSUER, "alice", "t1")


def test_signed_claims_show_nothing_of_the_user() -> None:
    assert repr(checked(email="alice@example.com")) == f"SignedClaims(issuer={ISSUER!r})"


def test_signed_claims_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        checked().claims["sub"] = "mallory"  # type: ignore[index]


def test_the_caller_is_told_nothing_but_that_the_token_is_not_valid() -> None:
    with pytest.raises(InvalidToken) as refusal:
        checked(aud="elsewhere")
    assert str(refusal.value) == "The bearer token is missing or not valid."


def test_a_reason_fits_on_one_short_line() -> None:
    with pytest.raises(InvalidToken) as refusal:
        checked(aud="\r\n\u2028" * 3000)
    assert refusal.value.reason.isprintable()
    assert len(refusal.value.reason) < 600
