"""The JOSE vectors of Project Wycheproof, at the layer of signatures: their payloads are no claim sets.

The vectors are read from `../shared/vectors` beside the project, or from the folder that IDENTITY_GATEWAY_VECTORS names.
Every key set is used as the vector gives it. Where we differ from a label, the table says why.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol import jwt

VECTORS = Path(os.environ.get("IDENTITY_GATEWAY_VECTORS") or Path(__file__).parents[3] / "shared" / "vectors")
FOLDER = VECTORS / "jose-wycheproof"

pytestmark = pytest.mark.skipif(
    not FOLDER.exists(),
    reason="the published vectors are not here: export IDENTITY_GATEWAY_VECTORS=<folder with jose-wycheproof/>",
)

REFUSED_THOUGH_LABELLED_VALID = {
    **dict.fromkeys(
        (259, 264, 268, 272, 320, 325), "an empty payload is never a token: RFC 7519 §7.2 asks for an object"
    ),
    **dict.fromkeys((346, 350), "the key says PS256 and the header PS384: one key, one algorithm (RFC 8725 §3.1)"),
    **dict.fromkeys((347, 351), "the key says ES521, which is no algorithm (RFC 7518 §3.1)"),
}
SAME_TEXT_AS_A_VALID_TOKEN = {367, 370}
"""Labelled invalid, but byte for byte the valid 357: a defect of the file."""
REFUSED_FORMS = {360, 361, 362, 363, 364, 365, 366, 368, 369, 371, 372, 373, 374, 375}
"""Blanks, foreign characters or unused bits in the base64url text. 372 and 373 are labelled valid, but hold a '?'."""
ACCEPTED_FORMS = {357, 358, 359, 376, 377, *SAME_TEXT_AS_A_VALID_TOKEN}


def cases(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    path = FOLDER / f"json_web_{name}_test.json"
    groups = json.loads(path.read_text())["testGroups"] if path.exists() else []
    return [(group, test) for group in groups for test in group["tests"]]


def key_set(group: dict[str, Any]) -> dict[str, Any]:
    key = group.get("public") or group["private"]
    return key if "keys" in key else {"keys": [key]}


def is_shared_secret(group: dict[str, Any]) -> bool:
    return any(key["kty"] == "oct" for key in key_set(group)["keys"])


def text(test: dict[str, Any]) -> str:
    """Return the token; some are in the JSON serialization, some are encrypted."""
    token = test.get("jws", test.get("jwe"))
    return token if isinstance(token, str) else json.dumps(token)


def is_good_signature(group: dict[str, Any], test: dict[str, Any]) -> bool:
    return test["result"] == "valid" and "jws" in test and not is_shared_secret(group)


def params(chosen: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[Any]:
    return [pytest.param(group, test, id=f"{test['tcId']}-{test['comment']}") for group, test in chosen]


SIGNATURES = cases("signature")
KEYS = cases("key")
CRYPTO = cases("crypto")
ASYMMETRIC = [(group, test) for group, test in SIGNATURES + KEYS if not is_shared_secret(group)]
GOOD = [(g, t) for g, t in ASYMMETRIC if t["result"] == "valid" and t["tcId"] not in REFUSED_THOUGH_LABELLED_VALID]
BAD = [(g, t) for g, t in ASYMMETRIC if t["result"] != "valid" or t["tcId"] in REFUSED_THOUGH_LABELLED_VALID]


def test_the_vectors_are_all_read() -> None:
    assert (len(SIGNATURES), len(KEYS), len(cases("encryption")), len(CRYPTO)) == (401, 26, 139, 83)


@pytest.mark.parametrize(("group", "test"), params(BAD))
def test_a_bad_signature_or_key_is_refused(group: dict[str, Any], test: dict[str, Any]) -> None:
    with pytest.raises((InvalidToken, ValueError)):
        jwt.verify_signature(jwt.parse(text(test)), jwt.KeySet.from_jwks(key_set(group)))


@pytest.mark.parametrize(("group", "test"), params(GOOD))
def test_a_good_signature_is_accepted(group: dict[str, Any], test: dict[str, Any]) -> None:
    assert jwt.verify_signature(jwt.parse(text(test)), jwt.KeySet.from_jwks(key_set(group))).payload


@pytest.mark.parametrize(("group", "test"), params([(g, t) for g, t in SIGNATURES + KEYS if is_shared_secret(g)]))
def test_a_set_with_a_shared_secret_is_refused_even_where_the_token_is_good(
    group: dict[str, Any], test: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="incident"):
        jwt.KeySet.from_jwks(key_set(group))


@pytest.mark.parametrize(("_group", "test"), params([(g, t) for g, t in SIGNATURES if t["tcId"] in REFUSED_FORMS]))
def test_a_text_with_foreign_characters_or_unused_bits_is_refused(_group: Any, test: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken, check=lambda error: error.reason.startswith(jwt.Refusal.BAD_ENCODING)):
        jwt.parse(text(test))


@pytest.mark.parametrize(("_group", "test"), params([(g, t) for g, t in SIGNATURES if t["tcId"] in ACCEPTED_FORMS]))
def test_a_text_of_the_right_form_is_read(_group: Any, test: dict[str, Any]) -> None:
    assert jwt.parse(text(test)).alg == "HS256"


@pytest.mark.parametrize(("_group", "test"), params(cases("encryption")))
def test_an_encrypted_token_is_refused_before_anything_is_decoded(_group: Any, test: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken, check=lambda error: error.reason.split(":")[0] in {"encrypted", "not_compact"}):
        jwt.parse(test["jwe"])


@pytest.mark.parametrize(("group", "test"), params([(g, t) for g, t in CRYPTO if not is_good_signature(g, t)]))
def test_a_key_of_another_use_verifies_nothing(group: dict[str, Any], test: dict[str, Any]) -> None:
    with pytest.raises((InvalidToken, ValueError)):
        jwt.verify_signature(jwt.parse(text(test)), jwt.KeySet.from_jwks(key_set(group)))


@pytest.mark.parametrize(("group", "test"), params([(g, t) for g, t in CRYPTO if is_good_signature(g, t)]))
def test_a_key_of_the_right_use_verifies(group: dict[str, Any], test: dict[str, Any]) -> None:
    assert jwt.verify_signature(jwt.parse(text(test)), jwt.KeySet.from_jwks(key_set(group))).payload
