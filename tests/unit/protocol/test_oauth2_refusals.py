"""What refusals mean: an outage never ends a grant, a rule in a descriptor decides first, and no secret is quoted."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.protocol.oauth2 import Refused, read
from tests.fakes.descriptors import client

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
REUSABLE = {"refresh": {"policy": {"single_use": False}}}
SECRET = "s3cr3t-0f-th3-cl13nt"


def refused(body: Any, status: int = 400, changes: dict[str, Any] | None = None, *, purpose: Any = "refresh", headers: Any = (), secrets: Any = ()) -> Refused:  # fmt: skip
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = read(client(changes), purpose, status=status, headers=headers, body=sent, now=NOW, secrets=secrets)
    assert isinstance(found, Refused)
    return found


# --- By the standards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"<html>", {"message": "no"}, {"error": "something_new"}, {"error": 400}, {"error": {"code": 7}}]
)
@pytest.mark.parametrize("purpose", ["token", "refresh", "machine", "exchange", "revoke", "introspect", "userinfo"])
def test_an_unknown_refusal_is_the_operators_business(body: Any, purpose: str):
    statuses = (400, 401, 403, 404, 405, 410, 418, 422, 451)
    found = {status: refused(body, status, purpose=purpose).outcome for status in statuses}
    assert found == dict.fromkeys(statuses, "operator_config")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
@pytest.mark.parametrize("body", [b"", b"<html>", {"error": "invalid_grant"}, {"error": "invalid_client"}])
def test_a_vendor_that_is_down_may_have_spent_a_refresh_token(status: int, body: Any):
    assert [refused(body, status).outcome, refused(body, status, REUSABLE).outcome] == ["ambiguous", "transient"]


@pytest.mark.parametrize("status", [408, 425, 429])
@pytest.mark.parametrize("body", [b"", {"error": "invalid_grant"}])
def test_a_vendor_that_asks_to_come_back_spent_nothing(status: int, body: Any):
    assert refused(body, status).outcome == "transient"


@pytest.mark.parametrize(
    ("purpose", "outcome"),
    [
        ("token", "restart"),
        ("refresh", "dead_grant"),
        ("exchange", "restart"),
        ("machine", "operator_config"),
        ("revoke", "operator_config"),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_an_invalid_grant_is_dead_only_where_it_was_refreshed(purpose: str, outcome: str, status: int):
    assert refused({"error": "invalid_grant"}, status, purpose=purpose).outcome == outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("invalid_client", "operator_config"),
        ("unauthorized_client", "operator_config"),
        ("invalid_scope", "operator_config"),
        ("interaction_required", "step_up"),
        ("consent_required", "step_up"),
        ("insufficient_user_authentication", "step_up"),
        ("temporarily_unavailable", "transient"),
        ("server_error", "ambiguous"),
    ],
)
def test_the_standards_words_mean_what_they_say(code: str, outcome: str):
    assert refused({"error": code}).outcome == outcome


def test_a_refused_bearer_is_a_dead_token_where_it_was_asked_about():
    assert refused({"error": "invalid_token"}, 401, purpose="introspect").outcome == "dead_grant"


# --- By the descriptor ------------------------------------------------------------------------------------------------

RULES = {
    "errors": [
        {"on": ["refresh"], "when": [{"path": "error", "equals": "gone"}, {"path": "sub", "equals": 1}], "outcome": "admin_block", "advice": "Ask."},
        {"on": ["refresh"], "when": [{"path": "error", "equals": "gone"}], "outcome": "dead_grant"},
        {"status": [403], "when": [{"header": "X-Sso", "present": True}], "outcome": "step_up"},
        {"when": [{"path": "error", "equals": "missing"}], "outcome": "step_up", "needed": "needed"},
        {"status": [503], "outcome": "transient"},
        {"status": [500], "when": [{"path": "error", "equals": "dead"}], "outcome": "dead_grant"},
    ]
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "outcome", "advice"),
    [
        ({"error": "gone", "sub": 1}, "admin_block", "Ask."),
        ({"error": "gone", "sub": 2}, "dead_grant", ""),
        ({"error": "other"}, "operator_config", ""),
    ],
)
def test_the_first_rule_that_fits_decides(body: Any, outcome: str, advice: str):
    found = refused(body, changes=RULES)
    assert (found.outcome, found.advice) == (outcome, advice)


def test_a_rule_counts_for_its_purposes_only():
    assert refused({"error": "gone"}, changes=RULES, purpose="token").outcome == "operator_config"


def test_a_rule_may_look_at_a_header():
    assert refused(b"", 403, RULES, headers=[("x-sso", "required")]).outcome == "step_up"


def test_a_rule_may_say_where_the_missing_scopes_stand():
    assert refused({"error": "missing", "needed": "a b"}, changes=RULES).needed == ("a", "b")


def test_a_rule_about_a_status_does_not_make_a_spent_token_whole():
    assert refused(b"", 503, RULES).outcome == "ambiguous"
    assert refused(b"", 503, {**RULES, **REUSABLE}).outcome == "transient"


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_rule_about_words_does_not_count_for_a_vendor_that_is_down(status: int):
    assert refused({"error": "gone"}, status, RULES).outcome != "dead_grant"


def test_a_rule_that_names_the_status_counts_for_it():
    assert refused({"error": "dead"}, 500, RULES).outcome == "dead_grant"


# --- What is quoted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("a_word", "a_word"),
        (400, "400"),
        ({"code": 190, "type": "OAuthException"}, "190"),
        ({"type": "OAuthException"}, "OAuthException"),
        ({}, "object"),
        (["first", "second"], "first"),
        ("two\nlines \x1b[31m", "two lines [31m"),
        ("x" * 200, "x" * 100),
        (None, "http_400"),
        ("", "http_400"),
        (False, "http_400"),
        (0, "http_400"),
        ([], "http_400"),
    ],
)
def test_an_error_is_one_short_word_whatever_its_shape(error: object, code: str):
    assert refused({"error": error}).code == code


def test_a_success_without_a_token_and_without_an_error_is_malformed():
    assert refused({"hello": 1}, 200).code == "malformed_response"


@pytest.mark.parametrize(
    "text",
    [
        f"client {SECRET} unknown",
        f"client {SECRET[:14]}... unknown",
        f"...{SECRET[4:]}",
        quote(SECRET + "/+"),
        base64.b64encode(SECRET.encode()).decode(),
        SECRET * 3,
        "x" * 290 + SECRET,
        f"{SECRET[:10]}\n{SECRET}",
    ],
)
@pytest.mark.parametrize("member", ["error", "error_description"])
def test_a_refusal_quotes_no_secret_that_was_sent(text: str, member: str):
    found = refused({"error": "invalid_client", member: text}, secrets=[SECRET, SECRET + "/+"])
    shown = f"{found.code} {found.description}"
    assert not any(SECRET[at : at + 12] in shown for at in range(len(SECRET) - 11))
    assert base64.b64encode(SECRET.encode()).decode()[:16] not in shown


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    st.text(max_size=60),
    st.text(max_size=60),
)
def test_no_secret_is_ever_quoted(secret: str, before: str, after: str):
    found = refused({"error": "invalid_client", "error_description": before + secret + after}, secrets=[secret])
    assert secret not in found.description.replace("[secret]", "")


@pytest.mark.parametrize(
    "text",
    [
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln refused",
        "got plx-abcdef0123456789",
        "header was Bearer 0123456789abcdef0123456789",
    ],
)
def test_a_refusal_quotes_nothing_that_looks_like_a_token(text: str):
    shown = refused({"error": "x", "error_description": text}, changes={"token_prefixes": ["plx-"]}).description
    assert not any(part in shown for part in ("eyJ", "abcdef0123", "0123456789"))


def test_ordinary_words_stay():
    text = "Missing valid authorization header: Basic authentication failed"
    assert refused({"error": "invalid_client", "error_description": text}, secrets=[SECRET]).description == text


def test_a_description_is_one_printable_line_of_bounded_length():
    shown = refused({"error": "x", "error_description": "a\r\nb\x00" + "c" * 5000}).description
    assert (len(shown), shown.isprintable()) == (300, True)


def test_a_page_is_not_quoted():
    assert refused(b"<html>secret page</html>", 502).description == ""


# --- When to come back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("37", 37),
        (" 37 ", 37),
        ("0", 0),
        ("-5", 0),
        ("1.5", 1.5),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60),
        ("Tue, 14 Nov 2022 22:14:20 GMT", 0),
        ("1700000090", 90),
        ("999999999", 86400),
        ("soon", None),
        ("", None),
        ("Tue, 99 Nov 2023 22:14:20 GMT", None),
    ],
)
def test_a_wait_is_seconds_a_date_or_an_epoch(value: str, seconds: float | None):
    assert refused(b"", 429, headers=[("Retry-After", value)]).retry_after == seconds


def test_a_date_counts_from_the_vendors_own_clock():
    headers = [("retry-after", "Tue, 14 Nov 2023 23:00:30 GMT"), ("date", "Tue, 14 Nov 2023 23:00:00 GMT")]
    assert refused(b"", 503, headers=headers).retry_after == 30


def test_a_wait_may_stand_in_the_vendors_own_header():
    changes = {"token": {"response": {"retry_after": "X-Reset"}}}
    assert refused(b"", 429, changes, headers={"x-reset": "1700000012"}).retry_after == 12
