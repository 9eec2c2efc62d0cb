"""The explanation of a token names every check, stops at nothing, and shows neither token nor user."""

from typing import Any

import pytest

from identity_gateway.protocol import jwt
from identity_gateway.protocol.jwt import Check, JwtPolicy, KeySet
from tests.fakes.issuer import SigningKey

NOW = 1_800_000_000.0
ISSUER = "https://login.example.com"
KEY = SigningKey.make("ES256", "key-1")
KEYS = KeySet.from_jwks({"keys": [KEY.jwk()]})
POLICY = JwtPolicy(issuer=ISSUER, audiences=("agents",), clients=("web",), scopes=("agents.invoke",))
CLAIMS = {
    "iss": ISSUER,
    "sub": "alice@example.com",
    "aud": "agents",
    "client_id": "web",
    "scope": "agents.invoke",
    "exp": NOW + 300,
}


def explained(token: str | None = None, **changes: Any) -> tuple[Check, ...]:
    return jwt.explain(token or KEY.token(CLAIMS | changes), KEYS, POLICY, now=NOW)


def failed(checks: tuple[Check, ...]) -> list[str]:
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize("text", ["", "opaque", "a.b.c.d.e", "a.b.c", "x" * 20_000])
def test_a_text_that_is_no_token_fails_at_its_form_alone(text: str) -> None:
    assert failed(jwt.explain(text, KEYS, POLICY, now=NOW)) == ["form"]


def test_a_token_of_a_strangers_key_fails_at_its_signature_and_is_read_on() -> None:
    checks = explained(SigningKey.make("ES256", "key-1").token(CLAIMS | {"aud": "other"}))
    assert failed(checks) == ["signature", "audience"]


def test_a_token_of_an_unknown_key_fails_at_its_signature() -> None:
    (check,) = [each for each in explained(SigningKey.make("ES256", "key-2").token(CLAIMS)) if not each.passed]
    assert (check.name, check.why.partition(":")[0]) == ("signature", "unknown_key")


def test_a_payload_that_is_no_object_is_read_no_further() -> None:
    assert failed(explained(KEY.token(b"[]"))) == ["payload"]


def test_every_fault_is_found_at_once() -> None:
    checks = explained(exp=NOW - 3600, aud="other", client_id="other", scope="other")
    assert failed(checks) == ["times", "audience", "client", "scopes"]


def test_a_good_token_passes_every_check() -> None:
    checks = explained()
    assert failed(checks) == []
    assert [check.name for check in checks] == [
        "form", "header", "signature", "payload", "issuer", "issuer of the key", "times", "subject", "token id",
        "proof of possession", "kind of token", "audience", "client", "custom claims", "scopes",
    ]  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"aud": "other"}, {"exp": 1}, {"scope": ""}, {"iss": "https://evil.example"}])
def test_an_explanation_shows_neither_the_token_nor_its_user(changes: dict[str, Any]) -> None:
    token = KEY.token(CLAIMS | changes)
    shown = " ".join(f"{check.name} {check.why}" for check in explained(token))
    assert not any(part in shown for part in [*token.split("."), "alice"])


def test_a_long_claim_is_shown_shortened_and_on_one_line() -> None:
    assert all(len(check.why) < 600 and check.why.isprintable() for check in explained(aud="\r\n" * 3000))
