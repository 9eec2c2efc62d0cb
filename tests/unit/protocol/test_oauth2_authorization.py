"""The front channel: no caller replaces what the gateway sets, and no doubtful answer of a vendor is believed."""

import hashlib
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol.descriptor import RESERVED
from identity_gateway.protocol.oauth2 import Requested, authorization_url, check_callback, code_challenge
from tests.fakes.descriptors import client

VERIFIER = "v" * 43
REDIRECT = "https://gateway.example/identities/oauth2/callback/1"


def url(changes: dict[str, Any] | None = None, requested: Requested | None = None, **more: Any) -> str:
    return authorization_url(
        client(changes, **more), requested or Requested(), redirect_uri=REDIRECT, state="st", code_challenge="ch"
    )


def query(
    changes: dict[str, Any] | None = None, requested: Requested | None = None, **more: Any
) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url(changes, requested, **more)).query, keep_blank_values=True)


# --- What callers may not do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RESERVED | {"response_mode", "scope"}))
def test_a_caller_sets_no_reserved_parameter(name: str):
    with pytest.raises(ValidationFailed, match=f"^{name}: "):
        url(requested=Requested(parameters={name: "x"}))


@pytest.mark.parametrize(
    "name",
    [
        "Redirect_URI",
        "STATE",
        "redirect.uri",
        "redirect-uri",
        "client.id",
        "Code.Challenge",
        "SCOPE",
        "state[",
        "scope[]",
        "Client_Id[a][b]",
    ],
)
def test_another_spelling_of_a_reserved_parameter_is_refused(name: str):
    with pytest.raises(ValidationFailed):
        url(requested=Requested(parameters={name: "x"}))


@pytest.mark.parametrize(
    "name", ["", "a b", "redirect_uri[]", "state[0]", "a&b", "a=b", "[state]", "st\u0430te", "x" * 257, "a\n"]
)
def test_what_is_no_name_of_a_parameter_is_refused(name: str):
    with pytest.raises(ValidationFailed):
        url(requested=Requested(parameters={name: "x"}))


@pytest.mark.parametrize("value", ["a\nb", "\x00", "x" * 2049, "\ud800"])
def test_a_value_that_nobody_means_is_refused(value: str):
    with pytest.raises(ValidationFailed, match=r"^prompt: "):
        url(requested=Requested(parameters={"prompt": value}))


def test_a_parameter_that_the_vendor_does_not_take_is_refused_by_name():
    with pytest.raises(ValidationFailed, match=r"^team: ") as refused:
        url({"authorize": {"caller_params": ["prompt"]}}, Requested(parameters={"team": "x"}))
    assert refused.value.fields[0].name == "team"


@given(st.dictionaries(st.sampled_from(sorted(RESERVED)) | st.text(max_size=24), st.text(max_size=40), max_size=4))
def test_no_caller_ever_replaces_a_reserved_parameter(parameters: dict[str, str]):
    try:
        pairs = query(requested=Requested(parameters=parameters))
    except ValidationFailed:
        return
    found = {name.lower(): [value for each, value in pairs if each.lower() == name.lower()] for name in RESERVED}
    ours = {"response_type": "code", "client_id": "client-1", "redirect_uri": REDIRECT, "state": "st"}
    ours |= {"code_challenge": "ch", "code_challenge_method": "S256"}
    assert {name: values for name, values in found.items() if values} == {name: [value] for name, value in ours.items()}


@pytest.mark.parametrize("scope", ["", "a b", 'a"b', "a\\b", "a\n", "\u00e9"])
def test_a_scope_that_would_be_none_or_two_is_refused(scope: str):
    with pytest.raises(ValidationFailed, match=r"^scopes: "):
        url(requested=Requested(scopes=(scope,)))


def test_a_scope_does_not_hold_the_vendors_separator():
    with pytest.raises(ValidationFailed, match=r"^scopes: "):
        url({"scopes": {"separator": ","}}, Requested(scopes=("a,b",)))


def test_a_set_of_scopes_holds_scopes_only():
    sets = {"scopes": {"separator": ",", "sets": {"user_scope": "default"}}}
    with pytest.raises(ValidationFailed, match=r"^scopes: "):
        url(sets, Requested(parameters={"user_scope": "a b"}))


@pytest.mark.parametrize("value", ["evil.example/", "a@evil.example", "..", "A", "a.", "a\n"])
def test_a_variable_out_of_form_is_named_and_not_quoted(value: str):
    variables = {"tenant": {"source": "caller", "pattern": "[a-z]+", "description": "t"}}
    with pytest.raises(ValidationFailed, match=r"^tenant: ") as refused:
        url({"variables": variables, "authorize": {"url": "https://{tenant}.vendor.example/a"}}, Requested(parameters={"tenant": value}))  # fmt: skip
    assert value not in str(refused.value)


def test_a_careless_pattern_still_leads_nowhere_else():
    variables = {"tenant": {"source": "operator", "pattern": ".+", "description": "t"}}
    changes = {"variables": variables, "authorize": {"url": "https://{tenant}.vendor.example/a"}}
    for value in ("evil.example/", "evil.example#", "evil.example?", "x@evil.example/", "evil.example:443/", "[::1]/"):
        with pytest.raises(ValidationFailed, match=r"^url: "):
            url(changes, variables={"tenant": value})


@pytest.mark.parametrize("value", ["https://evil.example", "http://vendor.example", "https://vendor.example:8443", "https://vendor.example@evil.example"])  # fmt: skip
def test_a_variable_that_begins_a_url_leads_to_the_vendors_hosts_only(value: str):
    variables = {"base": {"source": "operator", "pattern": "https://.*", "description": "b"}}
    changes = {"variables": variables, "authorize": {"url": "{base}/a"}}
    if value == "http://vendor.example":
        variables["base"]["pattern"] = "https://.*|http://.*"
    with pytest.raises(ValidationFailed, match=r"^url: "):
        url(changes, variables={"base": value})


@pytest.mark.parametrize("value", ["..", "."])
def test_a_variable_never_climbs_a_path(value: str):
    variables = {"app": {"source": "operator", "pattern": ".+", "description": "a"}}
    with pytest.raises(ValidationFailed, match=r"^app: "):
        url({"variables": variables, "authorize": {"url": "https://vendor.example/{app}/a"}}, variables={"app": value})


def test_a_missing_variable_is_named():
    variables = {"tenant": {"source": "operator", "pattern": "[a-z]+", "description": "t"}}
    with pytest.raises(ValidationFailed, match=r"^tenant: "):
        url({"variables": variables, "authorize": {"url": "https://{tenant}.vendor.example/a"}})


def test_a_caller_does_not_replace_what_the_operator_set():
    variables = {"tenant": {"source": "caller", "pattern": "[a-z]+", "description": "t"}}
    with pytest.raises(ValidationFailed, match=r"^tenant: "):
        url({"variables": variables}, Requested(parameters={"tenant": "theirs"}), variables={"tenant": "ours"})


def test_a_callers_parameter_fills_no_variable_of_another_source():
    variables = {"tenant": {"source": "operator", "pattern": "[a-z]+", "default": "ours", "description": "t"}}
    changes = {"variables": variables, "authorize": {"url": "https://{tenant}.vendor.example/a", "caller_params": []}}
    with pytest.raises(ValidationFailed, match=r"^tenant: "):
        url(changes, Requested(parameters={"tenant": "theirs"}))


def test_an_endpoints_own_query_names_no_parameter_of_the_request():
    with pytest.raises(ValidationFailed, match=r"^redirect_uri: "):
        url(endpoints={"authorize": "https://own.example/a?redirect_uri=https://evil.example"})


@pytest.mark.parametrize(
    "own", ["ftp://own.example/", "https://user@own.example/", "https://own.example/#f", "own.example", ""]
)
def test_an_own_endpoint_is_a_plain_url(own: str):
    with pytest.raises(ValidationFailed, match="authorize endpoint"):
        url(endpoints={"authorize": own})


def test_a_challenge_is_not_forgotten():
    with pytest.raises(ValidationFailed, match="code challenge"):
        authorization_url(client(), Requested(), redirect_uri=REDIRECT, state="st", code_challenge=None)


# --- What is sent -----------------------------------------------------------------------------------------------------


def test_a_request_holds_what_the_rfc_wants():
    assert query(requested=Requested(scopes=("read", "write", "read"))) == [
        ("response_type", "code"),
        ("client_id", "client-1"),
        ("redirect_uri", REDIRECT),
        ("state", "st"),
        ("code_challenge", "ch"),
        ("code_challenge_method", "S256"),
        ("scope", "read write"),
    ]


def test_a_vendor_without_pkce_gets_no_challenge():
    assert not {"code_challenge", "code_challenge_method"} & {name for name, _ in query({"authorize": {"pkce": "off"}})}


def test_scopes_are_written_the_vendors_way():
    rules = {"separator": ",", "parameter": "scopes", "always": ["offline"]}
    assert ("scopes", "offline,a,b") in query({"scopes": rules}, Requested(scopes=("a", "b")))


@pytest.mark.parametrize(("send", "count"), [(False, 0), (True, 1)])
def test_no_scope_is_sent_empty_only_where_the_vendor_needs_it(send: bool, count: int):
    assert sum(name == "scope" for name, _ in query({"scopes": {"send_empty": send}})) == count


def test_a_caller_may_replace_what_the_descriptor_only_suggests():
    pairs = query({"authorize": {"params": {"prompt": "consent"}}}, Requested(parameters={"prompt": "select_account"}))
    assert [value for name, value in pairs if name == "prompt"] == ["select_account"]


def test_a_value_cannot_become_a_second_parameter():
    pairs = query(requested=Requested(parameters={"login_hint": "a&state=x#y"}))
    assert (("login_hint", "a&state=x#y") in pairs, [v for n, v in pairs if n == "state"]) == (True, ["st"])


def test_resources_and_audiences_are_repeated():
    pairs = query(requested=Requested(resources=("https://a.example", "https://b.example"), audiences=("c",)))
    assert pairs[-3:] == [("resource", "https://a.example"), ("resource", "https://b.example"), ("audience", "c")]


def test_the_providers_own_endpoint_keeps_its_query():
    assert url(endpoints={"authorize": "http://own.example:8080/a?tenant=1"}).startswith(
        "http://own.example:8080/a?tenant=1&response_type=code&"
    )


def test_an_issuer_with_a_slash_at_its_end_makes_the_same_urls():
    variables = {"issuer": {"source": "issuer", "pattern": "https://[a-z.]+/?", "description": "i"}}
    changes = {
        "hosts": ["{issuer}"],
        "variables": variables,
        "authorize": {"url": "{issuer}/authorize"},
        "token": {"url": "{issuer}/token"},
    }
    assert url(changes, issuer="https://tenant.example/").startswith("https://tenant.example/authorize?")


def test_a_challenge_is_that_of_the_rfc():
    # RFC 7636 Appendix B.
    assert (
        code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_a_challenge_is_the_digest_of_its_verifier():
    digest = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
    assert code_challenge(VERIFIER) == digest


@pytest.mark.parametrize("verifier", ["", "v" * 42, "v" * 129, "v" * 42 + " ", "v" * 42 + "\n", "\u00e9" * 43])
def test_a_verifier_out_of_form_makes_no_challenge(verifier: str):
    with pytest.raises(ValueError, match="code verifier"):
        code_challenge(verifier)


# --- What comes back --------------------------------------------------------------------------------------------------

ISSUER = "https://vendor.example"


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("state", "st")],
        [("code", "")],
        [("code", "c"), ("error", "access_denied")],
        [("code", "c"), ("code", "c")],
        [("code", "c"), ("state", "a"), ("state", "b")],
        [("code", "c"), ("iss", ISSUER), ("iss", "https://evil.example")],
        [("code", "c" * 8193)],
        [("code", "c"), *((str(at), "") for at in range(40))],
    ],
)
def test_a_doubtful_answer_is_refused(pairs: list[tuple[str, str]]):
    with pytest.raises(ValidationFailed):
        check_callback(client(issuer=ISSUER), pairs)


@pytest.mark.parametrize(
    "issuer", ["https://evil.example", "https://vendor.example/", "HTTPS://VENDOR.EXAMPLE", "", "\ud800"]
)
@pytest.mark.parametrize("outcome", [("code", "c"), ("error", "access_denied")])
def test_an_answer_of_another_issuer_is_a_mix_up(issuer: str, outcome: tuple[str, str]):
    with pytest.raises(ValidationFailed):
        check_callback(client(issuer=ISSUER), [outcome, ("iss", issuer)])


def test_an_answer_without_issuer_is_refused_where_the_vendor_always_sends_one():
    with pytest.raises(ValidationFailed) as refused:
        check_callback(client({"authorize": {"issuer_required": True}}, issuer=ISSUER), [("code", "c")])
    assert refused.value.reason == "iss missing (RFC 9207)"


def test_a_required_issuer_that_nobody_knows_is_refused():
    with pytest.raises(ValidationFailed):
        check_callback(client({"authorize": {"issuer_required": True}}), [("code", "c"), ("iss", ISSUER)])


def test_the_descriptors_issuer_counts_where_the_provider_has_none():
    ours = client({"authorize": {"issuer": "https://vendor.example"}})
    assert check_callback(ours, [("code", "c"), ("iss", ISSUER)]).code is not None
    with pytest.raises(ValidationFailed):
        check_callback(ours, [("code", "c"), ("iss", "https://evil.example")])


def test_the_descriptors_issuer_does_not_count_for_another_server():
    own = client({"authorize": {"issuer": ISSUER}}, endpoints={"authorize": "https://own.example/a"})
    assert check_callback(own, [("code", "c"), ("iss", "https://own.example")]).code is not None


@pytest.mark.parametrize(
    "value", ["https://evil.example", "https://eu.vendor.example.evil.example", "https://eu.vendor.example\n", ""]
)
def test_a_callback_variable_out_of_form_is_refused(value: str):
    variables = {"server": {"source": "callback", "from": "accounts-server", "pattern": r"https://[a-z]+\.vendor\.example", "description": "s"}}  # fmt: skip
    with pytest.raises(ValidationFailed):
        check_callback(client({"variables": variables}), [("code", "c"), ("accounts-server", value)])


def test_a_code_comes_back_with_its_variables():
    variables = {"server": {"source": "callback", "from": "accounts-server", "pattern": r"https://[a-z]+\.vendor\.example", "description": "s"}}  # fmt: skip
    pairs = [("code", "c"), ("state", "st"), ("iss", ISSUER), ("accounts-server", "https://eu.vendor.example")]
    callback = check_callback(client({"variables": variables}, issuer=ISSUER), pairs)
    assert (callback.code and callback.code.reveal(), callback.variables) == (
        "c",
        {"server": "https://eu.vendor.example"},
    )


def test_an_error_comes_back_in_one_printable_line():
    callback = check_callback(client(), [("error", "access_denied"), ("error_description", "no\n\x1b[31m" + "x" * 400)])
    assert (callback.code, callback.error, len(callback.error_description) <= 300, callback.error_description.isprintable()) == (None, "access_denied", True, True)  # fmt: skip


def test_a_code_stays_out_of_the_repr():
    assert "c0de" not in repr(check_callback(client(), [("code", "c0de")]))
