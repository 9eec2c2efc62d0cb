"""What files in providers/inbound may say, and what their words do to claims; keys that say for whom they sign."""

from datetime import date
from typing import Any

import pytest

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol import jwt
from identity_gateway.protocol.descriptor import DescriptorError
from identity_gateway.protocol.identity_provider import ClaimTest, ScopeClaim, issuer_at, parse
from identity_gateway.protocol.jwt import KeySet, Refusal
from tests.fakes.issuer import SigningKey

MINIMAL: dict[str, Any] = {
    "schema": 1,
    "id": "own",
    "name": "Own",
    "verified": date(2026, 11, 23),
    "sources": ["https://docs.example.com"],
}
KEY = SigningKey.make("ES256", "key-1")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema": 2}, "schema"),
        ({"id": "Own"}, "id"),
        ({"sources": []}, "sources"),
        ({"clients": [""]}, "clients.0"),
        ({"clients": "azp"}, "clients"),
        ({"audience": "maybe"}, "audience"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": "60"}, "leeway"),
        ({"scopes": [{"claim": "scp", "form": "text"}]}, "scopes.0.form"),
        ({"header": {"types": []}}, "header.types"),
        ({"header": {"types": ["dpop+jwt"]}}, "header.types.0"),
        ({"kinds": [{"name": "a", "accepted": "never"}]}, "kinds.0.accepted"),
        ({"refused": [{"claim": "aud", "equals": "a"}]}, "refused.0.reason"),
        ({"refused": [{"claim": "aud", "equals": "a", "present": True, "reason": "x"}]}, "refused.0"),
        ({"issuer": {"patterns": ["("]}}, "issuer"),
        (
            {"issuer": {"tenant": {"claim": "t", "placeholder": "t", "pattern": "a", "discovery_urls": ["b"]}}},
            "issuer.tenant",
        ),
        ({"secret": "x"}, "secret"),
    ],
)
def test_a_word_that_means_nothing_is_an_error_with_its_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(DescriptorError, match=rf"own\.toml: {key}"):
        parse(MINIMAL | changes, file="own.toml")


@pytest.mark.parametrize(
    ("test", "claims"),
    [
        ({"equals": "a"}, {}),
        ({"equals": "a"}, {"c": "A"}),
        ({"equals": "a"}, {"c": ["a"]}),
        ({"equals": "1"}, {"c": 1}),
        ({"one_of": ["a", "b"]}, {"c": ["a"]}),
        ({"contains_any": ["a"]}, {"c": ["b", 1, None]}),
        ({"contains_any": ["a"]}, {"c": {"a": 1}}),
        ({"present": True}, {}),
        ({"present": False}, {"c": None}),
        ({"same_as": "d"}, {}),
        ({"same_as": "d"}, {"c": None, "d": None}),
        ({"same_as": "d"}, {"c": "", "d": ""}),
        ({"same_as": "d"}, {"c": "x", "d": ["x"]}),
    ],
)
def test_a_claim_that_is_not_the_wanted_one_fails(test: dict[str, Any], claims: dict[str, Any]) -> None:
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in test.items()}
    assert not ClaimTest(claim="c", **lists).holds(claims)


@pytest.mark.parametrize(
    ("test", "claims"),
    [
        ({"equals": "a"}, {"c": "a"}),
        ({"one_of": ("a", "b")}, {"c": "b"}),
        ({"contains_any": ("a",)}, {"c": "a"}),
        ({"contains_any": ("a",)}, {"c": ["b", "a"]}),
        ({"present": True}, {"c": None}),
        ({"present": False}, {}),
        ({"same_as": "d"}, {"c": "x", "d": "x"}),
    ],
)
def test_a_claim_that_is_the_wanted_one_passes(test: dict[str, Any], claims: dict[str, Any]) -> None:
    assert ClaimTest(claim="c", **test).holds(claims)


@pytest.mark.parametrize(
    ("form", "value"),
    [("string", ["a"]), ("list", "a"), ("list", ["a", 1]), ("either", None), ("either", {"a": 1}), ("string", " ")],
)
def test_a_scope_claim_of_another_form_holds_no_scopes(form: Any, value: Any) -> None:
    assert ScopeClaim(claim="scp", form=form).read(value) == ()


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("https://a.example/.well-known/openid-configuration", "https://a.example"),
        ("https://a.example/x/.well-known/openid-configuration", "https://a.example/x"),
        ("https://a.example/.well-known/oauth-authorization-server/x/y", "https://a.example/x/y"),
        ("https://a.example/x", None),
    ],
)
def test_a_discovery_url_stands_for_an_issuer(url: str, issuer: str | None) -> None:
    assert issuer_at(url) == issuer


# --- Keys that say for whom they sign ---


@pytest.mark.parametrize("issuer", ["", 7, ["https://a.example"], "a" * 3000])
def test_a_key_whose_issuer_cannot_be_read_is_left_out(issuer: Any) -> None:
    keys = KeySet.from_jwks({"keys": [KEY.jwk(issuer=issuer), SigningKey.make("ES256", "key-2").jwk()]})
    assert "key-1" not in keys


def test_a_key_for_another_issuer_is_another_key_set() -> None:
    first, second = (KeySet.from_jwks({"keys": [KEY.jwk(issuer=name)]}) for name in ("https://a", "https://b"))
    assert first != second
    assert first.fingerprint() != second.fingerprint()


def test_a_key_that_is_published_for_two_issuers_signs_for_both() -> None:
    keys = KeySet.from_jwks({"keys": [KEY.jwk(issuer="https://a"), KEY.jwk(issuer="https://b")]})
    assert jwt.verify_signature(jwt.parse(KEY.token({})), keys).key_issuers == ("https://a", "https://b")


def test_a_token_of_a_kind_without_a_name_is_refused_even_to_identify() -> None:
    provider = parse(
        MINIMAL | {"kinds": [{"name": "a", "when": [{"claim": "typ", "equals": "Bearer"}]}]}, file="own.toml"
    )
    policy = jwt.JwtPolicy.identity_only("https://a", provider)
    payload = jwt.VerifiedPayload(b'{"iss":"https://a","sub":"ada","exp":100}', "ES256", None)
    with pytest.raises(InvalidToken) as caught:
        jwt.check_claims(payload, policy, now=0.0)
    assert caught.value.reason.startswith(Refusal.WRONG_KIND)
