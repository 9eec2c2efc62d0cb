"""A descriptor that is wrong is refused at load, with the file and the key; one that is right says what it says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.protocol.descriptor import Condition, DescriptorError, ErrorRule, Variable, parse, value_at
from tests.fakes.descriptors import described, document

MACHINE = {"name": "m", "url": "https://vendor.example/token", "params": {"grant_type": "client_credentials"}}
VARIABLE = {"pattern": "[a-z]+", "description": "for the test"}
CODE = {"code": "{code}"}


def faults(changes: dict[str, Any]) -> str:
    with pytest.raises(DescriptorError) as refused:
        parse(document(changes), file="plain.toml")
    return str(refused.value)


# --- What is refused, and how it is named -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"tokne": {}}, "tokne"),
        ({"token": {"urll": "https://vendor.example/"}}, "token.urll"),
        ({"hosts": []}, "hosts"),
        ({"hosts": ["https://vendor.example"]}, "hosts.0"),
        ({"schema": 2}, "schema"),
        ({"token": {"method": "PUT"}}, "token.method"),
        ({"refresh": {"policy": {"single_use": "yes"}}}, "refresh.policy.single_use"),
        ({"errors": [{"outcome": "dead_grant"}]}, "errors.0"),
        ({"errors": [{"outcome": "dead", "status": [400]}]}, "errors.0.outcome"),
        ({"token": {"success": [{"path": "ok", "equals": True, "present": True}]}}, "token.success.0"),
        ({"token": {"success": [{"equals": True}]}}, "token.success.0"),
        ({"token": {"success": [{"path": "ok", "matches": "("}]}}, "token.success.0"),
        ({"variables": {"x": {**VARIABLE, "source": "operator", "pattern": "["}}}, "variables.x"),
        ({"variables": {"x": {**VARIABLE, "source": "operator", "default": "UPPER"}}}, "variables.x"),
        ({"variables": {"x": {**VARIABLE, "source": "callback"}}}, "variables.x"),
        ({"variables": {"client_id": {**VARIABLE, "source": "operator"}}}, "variables.client_id"),
        ({"variables": {"access_token": {**VARIABLE, "source": "operator"}}}, "variables.access_token"),
        ({"authorize": {"params": {"state": "x"}}}, "authorize"),
        ({"authorize": {"caller_params": ["redirect_uri"]}}, "authorize"),
        ({"scopes": {"sets": {"user_scope": "user"}}}, "scopes.sets.user_scope"),
        ({"refresh": {"issued": [{"name": "user"}]}}, "refresh.issued.0.name"),
        ({"machine": [{**MACHINE, "caller_params": ["grant_type"]}]}, "machine.0"),
        ({"machine": [{**MACHINE, "narrow": {"repos": "strings"}}]}, "machine.0"),
        ({"machine": [{**MACHINE, "needs": ["account"]}]}, "machine.0.needs"),
        ({"machine": [{**MACHINE, "assertion": {"key": "pem"}}]}, "machine.0.assertion.key"),
        (
            {"signals": {"deduplicate": "X-Id", "effects": [], "signature": {"header": "X", "secret": "s"}}},
            "signals.effects",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(changes: dict[str, Any], key: str):
    assert f"plain.toml: {key}" in faults(changes)


def test_every_fault_is_named_at_once():
    found = faults({"token": {"params": {"code": "{code}", "a": "{one}", "b": "{two}"}}})
    assert found.splitlines() == [
        "plain.toml: token.params.a: no variable declares one",
        "plain.toml: token.params.b: no variable declares two",
    ]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"token": {"url": "https://vendor.example/{client_secret}"}}, "token.url"),
        ({"refresh": {"url": "https://vendor.example/r?t={refresh_token}"}}, "refresh.url"),
        ({"introspect": {"url": "https://vendor.example/{access_token}", "active": [{"path": "a", "present": True}]}}, "introspect.url"),
        ({"revoke": [{"url": "https://vendor.example/r/{token}"}]}, "revoke.0.url"),
        ({"token": {"url": "https://vendor.example/{app_key}"}, "client": {"secrets": {"app_key": "a"}}}, "token.url"),
        ({"token": {"encoding": "query", "auth": "basic", "params": {**CODE, "x": "{client_secret}"}}}, "token.params.x"),
        ({"token": {"encoding": "query", "auth": "basic", "params": {**CODE, "x": "{code_verifier}"}}}, "token.params.x"),
        ({"refresh": {"encoding": "query", "auth": "basic"}}, "refresh.params.refresh_token"),
        ({"revoke": [{"url": "https://vendor.example/r", "encoding": "query", "params": {"t": "{token}"}}]}, "revoke.0.params.t"),
        ({"revoke": [{"url": "https://vendor.example/r", "encoding": "query", "params": {"t": "{access_token}"}}]}, "revoke.0.params.t"),
        ({"token": {"encoding": "query", "auth": "post"}}, "token.auth"),
        ({"token": {"encoding": "query"}, "client": {"auth": "post"}}, "token.auth"),
        ({"authorize": {"params": {"x": "{client_secret}"}}}, "authorize.params.x"),
        ({"authorize": {"params": {"x": "{app_key}"}}, "client": {"secrets": {"app_key": "a"}}}, "authorize.params.x"),
    ],
)  # fmt: skip
def test_no_secret_may_stand_in_a_url(changes: dict[str, Any], key: str):
    assert f"plain.toml: {key}:" in faults(changes)


def test_an_assertion_may_not_stand_in_a_url():
    machine = {
        **MACHINE,
        "encoding": "query",
        "auth": "none",
        "params": {"a": "{assertion}"},
        "assertion": {"key": "pem"},
    }
    assert "machine.0.params.a: assertion is a secret" in faults(
        {"machine": [machine], "client": {"secrets": {"pem": "a"}}}
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://vendor.example/token",
        "https://evil.example/token",
        "https://vendor.example.evil.example/token",
        "https://user@vendor.example/token",
        "https://vendor.example/token#there",
        "https://notvendor.example/token",
        "https://{tenant}.vendor.example/token",
        "https://vendor.example/{",
        "{issuer}/token",
        "/token",
        "",
    ],
)
def test_a_url_leads_to_a_host_of_the_vendor(url: str):
    assert "plain.toml: token.url:" in faults({"token": {"url": url}})


def test_a_variable_that_is_no_url_cannot_begin_one():
    variable = {**VARIABLE, "source": "operator"}
    assert "token.url: begins with base" in faults({"variables": {"base": variable}, "token": {"url": "{base}/token"}})


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("authorize.params.x", {"authorize": {"params": {"x": "{code}"}}}),
        ("token.params.x", {"token": {"params": {**CODE, "x": "{refresh_token}"}}}),
        ("refresh.params.x", {"refresh": {"params": {"refresh_token": "{refresh_token}", "x": "{code}"}}}),
        ("machine.0.params.x", {"machine": [{**MACHINE, "params": {"x": "{access_token}"}}]}),
        ("machine.0.params.x", {"machine": [{**MACHINE, "params": {"x": "{assertion}"}}]}),
        ("exchange.params.x", {"exchange": {"grant": "jwt_bearer", "params": {"x": "{access_token}"}}}),
        ("revoke.0.headers.X", {"revoke": [{"url": "https://vendor.example/r", "headers": {"X": "{code}"}}]}),
        ("userinfo.params.x", {"userinfo": {"url": "https://vendor.example/u", "method": "POST", "subject": "id", "params": {"x": "{code}"}}}),
        ("client.basic_user", {"client": {"basic_user": "{access_token}"}}),
        ("api_key.headers.X", {"api_key": {"headers": {"X": "{access_token}"}}}),
    ],
)  # fmt: skip
def test_a_purpose_knows_only_what_it_brings(section: str, changes: dict[str, Any]):
    assert f"plain.toml: {section}: no variable declares" in faults(changes)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("callback", {"authorize": {"params": {"x": "{late}"}}}),
        ("response", {"token": {"params": {**CODE, "x": "{late}"}}}),
        ("response", {"machine": [{**MACHINE, "params": {"x": "{late}"}}]}),
        ("caller", {"client": {"basic_user": "{late}"}}),
    ],
)
def test_a_variable_that_comes_later_needs_a_default(source: str, changes: dict[str, Any]):
    late = {**VARIABLE, "source": source, "from": "late"}
    assert f"late comes from the {source}" in faults({"variables": {"late": late}, **changes})
    described({"variables": {"late": {**late, "default": "there"}}, **changes})


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("token.auth", {"token": {"auth": "bearer_assertion"}}),
        ("token.auth", {"token": {"auth": "bearer_token"}}),
        ("machine.0.auth", {"machine": [{**MACHINE, "auth": "bearer_assertion"}]}),
        ("token.auth", {"client": {"auth": "private_key_jwt"}}),
        ("token.encoding", {"token": {"method": "GET"}}),
        ("token.params", {"token": {"params": {"grant_type": "authorization_code"}}}),
        ("refresh.params", {"refresh": {"params": {"grant_type": "refresh_token"}}}),
        ("refresh.params", {"refresh": {"how": "access_token"}}),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused(key: str, changes: dict[str, Any]):
    assert f"plain.toml: {key}:" in faults(changes)


@pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
def test_an_assertion_takes_its_times_from_the_clock(name: str):
    machine = {**MACHINE, "assertion": {"key": "pem", "claims": {name: "0"}}}
    assert f"{name} is set by the gateway" in faults({"machine": [machine], "client": {"secrets": {"pem": "a"}}})


def test_a_claim_never_holds_a_secret():
    machine = {**MACHINE, "assertion": {"key": "pem", "claims": {"sub": "{pem}"}}}
    assert "machine.0.assertion.sub: pem is a secret" in faults(
        {"machine": [machine], "client": {"secrets": {"pem": "a"}}}
    )


@pytest.mark.parametrize(
    "signature",
    [
        {"base": "{timestamp}", "timestamp_header": "T"},
        {"base": "{timestamp}:{body}"},
        {"base": "{body}", "timestamp_header": "T"},
    ],
)
def test_a_signature_covers_the_body_and_the_time_it_is_judged_by(signature: dict[str, str]):
    signals = {"deduplicate": "X-Id", "signature": {"header": "X", "secret": "s", **signature}, "effects": [{"when": [{"path": "a", "present": True}], "action": "flush"}]}  # fmt: skip
    assert "signals.signature" in faults({"signals": signals, "client": {"secrets": {"s": "signs"}}})


def test_an_error_never_quotes_what_stands_in_the_file():
    assert "hunter2" not in faults({"client": {"auth": "hunter2"}})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3), max_leaves=8))  # fmt: skip
def test_nothing_in_a_table_raises_anything_but_a_descriptor_error(value: Any):
    try:
        parse(document({"token": value, "variables": value}), file="plain.toml")
    except DescriptorError as error:
        assert str(error).startswith("plain.toml: ")  # noqa: PT017 - both ends are allowed, this one has a form


# --- What is right ----------------------------------------------------------------------------------------------------


def test_an_endpoint_may_be_the_providers_own():
    descriptor = described(
        {"hosts": ["{issuer}"], "authorize": {"url": "{authorization_endpoint}"}, "token": {"url": "{token_endpoint}"}}
    )
    assert descriptor.token.url == "{token_endpoint}"


def test_a_subdomain_is_a_host_and_a_namesake_is_not():
    descriptor = described()
    assert [
        descriptor.may_receive(host)
        for host in ("vendor.example", "a.b.vendor.example", "evilvendor.example", "example")
    ] == [True, True, False, False]


def test_the_token_endpoint_sends_a_code_unless_told_otherwise():
    assert described().token.params == {
        "grant_type": "authorization_code",
        "code": "{code}",
        "redirect_uri": "{redirect_uri}",
    }


# --- Paths, conditions, variables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b", 1),
        ("a.c", None),
        ("list.1.x", 2),
        ("list.9.x", None),
        ("list.x", None),
        ("a.b.c", None),
        ("list.99999", None),
    ],
)
def test_a_path_leads_to_a_value_or_to_none(path: str, value: object):
    assert value_at({"a": {"b": 1}, "list": [{}, {"x": 2}]}, path) == value


@pytest.mark.parametrize(
    ("test", "value", "holds"),
    [
        ({"equals": True}, True, True),
        ({"equals": True}, 1, False),
        ({"equals": True}, "true", False),
        ({"equals": 1}, True, False),
        ({"equals": 190}, "190", True),
        ({"equals": "190"}, 190, True),
        ({"equals": "a"}, ["b", "a"], True),
        ({"equals": "a"}, {"a": "a"}, False),
        ({"one_of": ["a", 4]}, 4, True),
        ({"one_of": ["a", "b"]}, "c", False),
        ({"one_of": ["None"]}, None, False),
        ({"matches": "ab+c"}, "xxabbcxx", True),
        ({"matches": "ab+c"}, "ac", False),
        ({"matches": "x"}, None, False),
        ({"present": True}, "", True),
        ({"present": True}, None, False),
        ({"present": False}, None, True),
        ({"present": False}, 0, False),
    ],
)
def test_a_condition_holds_for_what_it_names(test: dict[str, Any], value: object, holds: bool):
    condition = Condition(
        path="v", **{key: tuple(each) if isinstance(each, list) else each for key, each in test.items()}
    )
    assert condition.holds({"v": value}, {}) is holds


def test_a_condition_finds_a_header_in_any_case():
    assert Condition(header="X-Event", equals="gone").holds(None, {"x-event": "gone"})


def test_a_rule_speaks_of_its_purposes_and_statuses_only():
    rule = ErrorRule(on=("refresh",), status=(400,), outcome="dead_grant")
    assert [rule.fits("refresh", 400, {}, {}), rule.fits("token", 400, {}, {}), rule.fits("refresh", 401, {}, {})] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("value", ["", "abc\n", "ABC", "abc def", "a" * 2001, "\u0430bc"])
def test_a_variable_takes_only_what_matches_in_full(value: str):
    assert not Variable(source="operator", pattern="[a-z]+", description="d").accepts(value)
