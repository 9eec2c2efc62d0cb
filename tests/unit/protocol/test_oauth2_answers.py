"""Answers of vendors: no success without a token, no lifetime without an end, whatever the vendor calls things."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.protocol.oauth2 import Answered, Client, Credential, Refused, read
from tests.fakes.descriptors import client

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
JSON = {"Content-Type": "application/json"}
TWO_PARTS = {
    "token": {
        "response": {
            "issued": [
                {"name": "bot", "subject": "bot_user_id"},
                {"name": "user", "access": "user.access_token", "refresh": "user.refresh_token", "expires": "user.expires_in", "scope": "user.scope", "kind": "user.token_type", "subject": "user.id"},
            ],
        }
    },
    "refresh": {"issued": [{"name": "bot", "kind_is": "bot"}, {"name": "user", "kind_is": "user"}, {"name": "user", "access": "user.access_token"}]},
}  # fmt: skip
ASKED = {
    "introspect": {"url": "https://vendor.example/i", "active": [{"path": "active", "equals": True}]},
    "userinfo": {"url": "https://vendor.example/me", "subject": "id", "account": "team.id", "label": "name"},
}


def answered(body: Any, changes: dict[str, Any] | None = None, *, purpose: Any = "token", status: int = 200, headers: Any = JSON, ours: Client | None = None, **more: Any) -> Answered | Refused:  # fmt: skip
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(ours or client(changes), purpose, status=status, headers=headers, body=sent, now=NOW, **more)


def refusal(*args: Any, **more: Any) -> Refused:
    found = answered(*args, **more)
    assert isinstance(found, Refused)
    return found


def success(*args: Any, **more: Any) -> Answered:
    found = answered(*args, **more)
    assert isinstance(found, Answered), found
    return found


def credential(*args: Any, **more: Any) -> Credential:
    return success(*args, **more).credentials[0]


# --- What is no success -----------------------------------------------------------------------------------------------

PAGES = [
    b"<html><title>Sign in</title></html>",
    b"<!DOCTYPE html>access_token=t",
    b"[]",
    b'["access_token"]',
    b'"access_token"',
    b"null",
    b"{",
    b'{"access_token": "t", "access_token": "u"}',
    b'{"access_token": "t"} trailing',
    b"\xff\xfe{\x00",
    b"access_token=t&access_token=u",
    b"access_token=t;%",
    b"OK",
    b"",
    b"   ",
    b'{"access_token": "t", "pad": "' + b"x" * 600_000 + b'"}',
    b'{"a":' * 100 + b'"access_token"' + b"}" * 100,
    b"&".join(b"f%d=1" % at for at in range(300)) + b"&access_token=t",
]


@pytest.mark.parametrize("body", PAGES)
@pytest.mark.parametrize("purpose", ["token", "refresh"])
def test_what_is_no_document_may_have_spent_what_was_sent(body: bytes, purpose: str):
    kinds = ("application/json", "text/html", "application/x-www-form-urlencoded", "")
    found = {kind: refusal(body, purpose=purpose, headers={"content-type": kind}).outcome for kind in kinds}
    assert found == dict.fromkeys(kinds, "ambiguous")


@pytest.mark.parametrize("purpose", ["machine", "exchange", "userinfo", "introspect"])
def test_what_is_no_document_may_be_asked_for_again_where_nothing_is_spent(purpose: str):
    assert refusal(PAGES[0], ASKED, purpose=purpose).outcome == "transient"


@pytest.mark.parametrize(
    "token",
    ["", None, 0, 1, True, False, [], ["t"], {}, {"value": "t"}, "a b", "a\nb", "a\x00", "\u00e9", " ", "t" * 65_537],
)
@pytest.mark.parametrize("purpose", ["token", "refresh", "machine", "exchange"])
def test_an_unusable_access_token_is_never_a_success(token: object, purpose: str):
    assert refusal({"access_token": token}, purpose=purpose).outcome in {"ambiguous", "transient"}


@pytest.mark.parametrize("status", [100, 301, 302, 303, 307, 400, 401, 403, 404, 418, 500, 503, 600])
def test_a_token_in_an_answer_that_is_no_success_is_not_taken(status: int):
    assert isinstance(answered({"access_token": "t"}, status=status), Refused)


def test_a_redirect_is_the_operators_business():
    assert refusal(b"", purpose="refresh", status=302, headers={"location": "/login"}).outcome == "operator_config"


def test_a_token_beside_an_error_is_not_taken():
    assert refusal({"access_token": "t", "error": "bad_refresh_token"}, purpose="refresh").code == "bad_refresh_token"


def test_a_token_beside_a_failed_condition_is_not_taken():
    changes = {"token": {"success": [{"path": "ok", "equals": True}]}}
    assert refusal({"ok": False, "access_token": "t"}, changes).outcome == "ambiguous"


def test_a_token_of_another_kind_is_thrown_away():
    found = refusal({"access_token": "t", "token_type": "user"}, TWO_PARTS, purpose="refresh", part="bot")
    assert (found.outcome, found.code) == ("ambiguous", "unexpected_credential")


def test_a_refresh_token_that_cannot_be_one_spoils_the_answer():
    assert refusal({"access_token": "t", "refresh_token": {"a": 1}}).code == "malformed_token"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text(max_size=3))
MEMBERS = st.sampled_from(["access_token", "refresh_token", "expires_in", "scope", "token_type", "error", "user", "id"])
OBJECTS = st.dictionaries(MEMBERS, VALUES | st.dictionaries(MEMBERS, VALUES, max_size=3), max_size=6)
FORMS = st.dictionaries(MEMBERS | st.text(max_size=8), st.text(max_size=8), max_size=4)
BODIES = (
    st.binary(max_size=300)
    | OBJECTS.map(lambda value: json.dumps(value).encode())
    | FORMS.map(lambda value: urlencode(value, errors="replace").encode())
)


@given(
    BODIES,
    st.integers(-1, 999),
    st.lists(
        st.tuples(st.sampled_from(["content-type", "Retry-After", "date", "x"]), st.text(max_size=40)), max_size=4
    ),
    st.sampled_from(["token", "refresh", "machine", "exchange", "revoke", "introspect", "userinfo"]),
    st.sampled_from([None, "bot", "user", "other"]),
)
def test_no_answer_raises_and_none_without_a_token_is_a_success(
    body: bytes, status: int, headers: Any, purpose: Any, part: str | None
):
    found = read(client({**TWO_PARTS, **ASKED}), purpose, status=status, headers=headers, body=body, part=part, now=NOW)
    if isinstance(found, Answered) and purpose in {"token", "refresh", "machine", "exchange"}:
        assert found.credentials
        assert all(each.access.reveal() for each in found.credentials)
        assert all(each.lifetime is None or 0 <= each.lifetime < 4e8 for each in found.credentials)
    if isinstance(found, Answered):
        assert 200 <= status < 300


# --- Bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"access_token": "t"}', "application/json; charset=utf-8"),
        (b'{"access_token": "t"}', "text/html"),
        (b'{"access_token": "t"}', ""),
        (b'\xef\xbb\xbf{"access_token": "t"}', "application/json"),
        (b'\n {"access_token": "t"}\n', "text/javascript"),
        (b"access_token=t&scope=a%2Cb", "application/x-www-form-urlencoded; charset=utf-8"),
        (b"access_token=t&scope=", "text/plain"),
        (b"access_token=t", ""),
    ],
)
def test_a_token_is_found_whatever_the_vendor_calls_the_body(body: bytes, kind: str):
    assert credential(body, headers={"Content-Type": kind}).access.reveal() == "t"


def test_a_form_is_none_where_the_vendor_always_sends_json():
    changes = {"token": {"response": {"format": "json"}}}
    assert refusal(b"access_token=t", changes, headers={}).outcome == "ambiguous"


def test_a_created_token_is_a_token():
    assert credential({"access_token": "t"}, status=201).access.reveal() == "t"


# --- Credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_no_refresh_token_means_that_the_old_one_stays(body: dict[str, Any]):
    assert credential({"access_token": "t", **body}, purpose="refresh").refresh is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, 3600),
        ("28800", 28800),
        ("3599.0", 3599),
        (3599.5, 3599.5),
        (" 60 ", 60),
        (0, 0),
        ("0", 0),
        (-1, 0),
        (10**15, 10 * 366 * 86400),
        (None, None),
        ("", None),
        ("never", None),
        ("1e9", None),
        ("nan", None),
        (True, None),
        ([3600], None),
        ({"seconds": 1}, None),
        ("9" * 19, None),
        ("\u0663\u0660", None),
    ],
)
def test_a_lifetime_is_read_or_was_never_said(value: object, seconds: float | None):
    assert credential({"access_token": "t", "expires_in": value}).lifetime == seconds


@pytest.mark.parametrize("value", [None, "", "soon"])
def test_a_lifetime_that_was_never_said_is_the_descriptors(value: object):
    changes = {"token": {"response": {"default_lifetime": 1800}}}
    assert credential({"access_token": "t", "expires_in": value}, changes).lifetime == 1800


@pytest.mark.parametrize(
    ("unit", "value", "seconds"),
    [
        ("milliseconds", 60_000, 60),
        ("milliseconds", "60000", 60),
        ("epoch", 1_700_000_600, 600),
        ("epoch", 1_600_000_000, 0),
        ("epoch_milliseconds", 1_700_000_600_000, 600),
        ("iso8601", "2023-11-14T22:23:20Z", 600),
        ("iso8601", "2023-11-14T23:23:20+01:00", 600),
        ("iso8601", "2023-11-14T22:23:20", 600),
        ("iso8601", "2020-01-01T00:00:00Z", 0),
        ("iso8601", "9999-12-31T23:59:59Z", 10 * 366 * 86400),
        ("iso8601", "tomorrow", None),
        ("iso8601", 600, None),
        ("iso8601", "0001-01-01T00:00:00+23:59", None),
    ],
)
def test_a_lifetime_has_the_vendors_unit(unit: str, value: object, seconds: float | None):
    changes = {"token": {"response": {"expires_unit": unit}}}
    found = credential({"access_token": "t", "expires_in": value}, changes).lifetime
    assert found == seconds or (seconds is None and found == 0)


def test_a_refresh_token_has_its_own_lifetime():
    found = credential({"access_token": "t", "refresh_token": "r", "refresh_token_expires_in": "15897600"})
    assert found.refresh_lifetime == 15_897_600


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("a,b c", ("a", "b", "c")),
        ("a, b", ("a", "b")),
        (["a", "b"], ("a", "b")),
        ("a a", ("a",)),
        ("", ()),
        ([], ()),
        (None, None),
        (7, None),
        (["a", 1], None),
        ({"a": 1}, None),
    ],
)
def test_scopes_are_read_however_they_are_written(value: object, scopes: tuple[str, ...] | None):
    changes = {"scopes": {"response_separators": ", "}}
    assert credential({"access_token": "t", "scope": value}, changes).scopes == scopes


@pytest.mark.parametrize(
    ("kind", "read_as"),
    [("bot", "bot"), ("Bearer", "Bearer"), (None, "bearer"), (7, "bearer"), ("", "bearer"), ("a\n", "bearer")],
)
def test_a_kind_is_kept_as_the_vendor_says_it(kind: object, read_as: str):
    assert credential({"access_token": "t", "token_type": kind}).kind == read_as


def test_one_consent_may_give_two_credentials():
    body = {"access_token": "b", "bot_user_id": "B1", "user": {"id": "U1", "access_token": "u", "scope": "x"}}
    found = success(body, TWO_PARTS).credentials
    assert [(each.part, each.access.reveal(), each.subject) for each in found] == [
        ("bot", "b", "B1"),
        ("user", "u", "U1"),
    ]


def test_one_consent_may_give_the_second_credential_only():
    found = success({"user": {"id": "U1", "access_token": "u"}}, TWO_PARTS).credentials
    assert [each.part for each in found] == ["user"]


@pytest.mark.parametrize("body", [{"access_token": "u", "token_type": "User"}, {"user": {"access_token": "u"}}])
def test_a_refreshed_part_is_found_flat_or_nested(body: dict[str, Any]):
    assert credential(body, TWO_PARTS, purpose="refresh", part="user").part == "user"


# --- Whose it is, and what is kept with it ----------------------------------------------------------------------------


def test_an_account_is_the_first_that_is_there():
    changes = {
        "token": {"response": {"account": ["enterprise.id", "team.id"], "subject": ["user"], "label": ["team.name"]}}
    }
    found = success({"access_token": "t", "enterprise": None, "team": {"id": 42, "name": "A\nB"}, "user": "u"}, changes)
    assert (found.account, found.subject, found.label) == ("42", "u", "A B")


@pytest.mark.parametrize("value", ["x" * 257, "a\n", True, 1.5, ["a"], {}])
def test_an_account_is_never_cut_into_another(value: object):
    changes = {"token": {"response": {"account": ["team"]}}}
    assert success({"access_token": "t", "team": value}, changes).account == ""


VARIABLES = {
    "variables": {
        "api": {
            "source": "response",
            "from": "instance_url",
            "pattern": r"https://[a-z]+\.vendor\.example",
            "description": "a",
        },
        "server": {"source": "callback", "from": "s", "pattern": "[a-z]+", "description": "s"},
    }
}


@pytest.mark.parametrize(
    "value", ["https://evil.example", "https://a.vendor.example/", 7, True, ["https://a.vendor.example"], {}]
)
@pytest.mark.parametrize("purpose", ["token", "machine", "exchange"])
def test_a_variable_out_of_form_refuses_the_answer(value: object, purpose: str):
    found = refusal({"access_token": "t", "instance_url": value}, VARIABLES, purpose=purpose)
    assert (found.outcome, found.code) == ("operator_config", "unexpected_variable")


def test_a_refresh_keeps_the_old_value_rather_than_lose_its_tokens():
    found = success({"access_token": "t", "instance_url": "https://evil.example"}, VARIABLES, purpose="refresh")
    assert found.variables == {}


def test_variables_of_callback_and_response_come_with_the_answer():
    ours = client(VARIABLES, variables={"server": "eu"})
    found = success({"access_token": "t", "instance_url": "https://a.vendor.example"}, ours=ours)
    assert found.variables == {"api": "https://a.vendor.example", "server": "eu"}


@pytest.mark.parametrize("value", [None, "", 7, ["x"], "x" * 65_537])
def test_a_further_secret_is_a_text(value: object):
    changes = {"token": {"response": {"secrets": {"hook": "webhook.url"}}}}
    assert success({"access_token": "t", "webhook": {"url": value}}, changes).secrets == {}


def test_a_further_secret_is_kept_and_not_shown():
    changes = {"token": {"response": {"secrets": {"hook": "webhook.url"}}}}
    found = success({"access_token": "t", "webhook": {"url": "https://hook.example/T0"}}, changes)
    assert (found.secrets["hook"].reveal(), "T0" in repr(found)) == ("https://hook.example/T0", False)


# --- Other purposes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"active": False}, "dead_grant"),
        ({"active": "true"}, "dead_grant"),
        ({}, "transient"),
        ({"message": "hello"}, "transient"),
        ({"error": "whatever"}, "operator_config"),
    ],
)
def test_a_token_is_dead_only_where_the_vendor_speaks_of_it(body: dict[str, Any], outcome: str):
    assert refusal(body, ASKED, purpose="introspect").outcome == outcome


def test_a_token_lives_where_the_vendor_says_so():
    assert success({"active": True}, ASKED, purpose="introspect").credentials == ()


@pytest.mark.parametrize("body", [{}, {"id": ""}, {"id": None}, {"id": {"x": 1}}, {"id": "a\n"}])
def test_user_information_without_a_user_is_none(body: dict[str, Any]):
    assert refusal(body, ASKED, purpose="userinfo").outcome == "transient"


def test_user_information_says_whose_token_it_is():
    found = success({"id": 7, "team": {"id": "T"}, "name": "Ann"}, ASKED, purpose="userinfo")
    assert (found.account, found.subject, found.label) == ("T", "7", "Ann")


@pytest.mark.parametrize("body", [b"", b"OK", b"<html>", b"{}"])
def test_a_revocation_needs_no_body(body: bytes):
    assert isinstance(answered(body, purpose="revoke"), Answered)


def test_a_revocation_that_says_it_failed_did():
    assert refusal({"error": "invalid_client"}, purpose="revoke").outcome == "operator_config"


def test_a_revocation_has_conditions_of_its_own():
    conditions = client({"revoke": [{"url": "https://vendor.example/r", "success": [{"path": "revoked", "equals": True}]}]}).descriptor.revoke[0].success  # fmt: skip
    assert isinstance(answered({"revoked": False}, purpose="revoke", success=conditions), Refused)
