"""Machine credentials: the entry whose needs are met, narrowed exactly as the caller says or not at all."""

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import (
    Assertion,
    Client,
    Outgoing,
    Requested,
    clock_offset,
    grant_assertion,
    machine_entry,
    machine_request,
)
from tests.fakes.descriptors import client

PLAIN = {"name": "plain", "url": "https://vendor.example/token", "params": {"grant_type": "client_credentials"}}
INSTALLED = {
    "name": "installed",
    "url": "https://vendor.example/installations/{installation}/tokens",
    "auth": "bearer_assertion",
    "encoding": "json",
    "needs": ["installation"],
    "send_scope": False,
    "narrow": {"names": "strings", "ids": "integers", "permissions": "object"},
    "assertion": {
        "key": "pem",
        "claims": {"iss": "{client_id}"},
        "headers": {"kid": "1"},
        "backdate": 60,
        "lifetime": 540,
        "clock_skew": [{"path": "message", "matches": "claim .*(future|past)"}],
    },
}
APP = {
    "client": {"secrets": {"pem": "key of the app"}},
    "variables": {
        "installation": {"source": "caller", "from": "installation_id", "pattern": "[0-9]+", "description": "i"}
    },
    "machine": [INSTALLED, PLAIN],
}
SIGNED = Assertion(grant=Secret("a.b.c"))


def installed(**parameters: str) -> Outgoing:
    ours, requested = client(APP), Requested(parameters={"installation_id": "7", **parameters})
    entry = machine_entry(ours, requested)
    assert entry is not None
    return machine_request(ours, entry, requested, assertion=SIGNED)


def plain(requested: Requested, **changes: Any) -> list[tuple[str, str]]:
    ours = client({"machine": [{**PLAIN, **changes}]})
    outgoing = machine_request(ours, ours.descriptor.machine[0], requested, assertion=None)
    return parse_qsl((outgoing.body or b"").decode(), keep_blank_values=True)


def chosen(ours: Client, **parameters: str) -> str | None:
    entry = machine_entry(ours, Requested(parameters=parameters))
    return entry.name if entry else None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", ""),
        ("names", "a,,b"),
        ("names", "[]"),
        ("names", '["a", 1]'),
        ("names", '["a"'),
        ("names", '[["a"]]'),
        ("names", ",".join("n" * 501)),
        ("ids", "1,two"),
        ("ids", "1.5"),
        ("ids", "-1"),
        ("ids", "[true]"),
        ("ids", "[1.0]"),
        ("ids", "\u0661"),
        ("ids", "9" * 19),
        ("permissions", "contents"),
        ("permissions", "{}"),
        ("permissions", "[]"),
        ("permissions", '{"contents": {"deep": "read"}}'),
        ("permissions", '{"contents": ""}'),
        ("permissions", '{"contents": "read", "contents": "write"}'),
        ("permission", '{"contents": "read"}'),
        ("repositories", "a"),
        ("grant_type", "password"),
        ("scope", "a"),
    ],
)
def test_narrowing_that_is_not_understood_widens_nothing(name: str, value: str):
    with pytest.raises(ValidationFailed, match=f"^{name}: "):
        installed(**{name: value})


@pytest.mark.parametrize(
    "requested", [Requested(scopes=("a",)), Requested(resources=("https://r.example",)), Requested(audiences=("a",))]
)
def test_asking_for_less_another_way_is_refused_rather_than_ignored(requested: Requested):
    ours = client(APP)
    with pytest.raises(ValidationFailed):
        machine_request(ours, ours.descriptor.machine[0], Requested(requested.scopes, {"installation_id": "7"}, requested.resources, requested.audiences), assertion=SIGNED)  # fmt: skip


@pytest.mark.parametrize("value", ["7/../8", "", "x", "7?x=1"])
def test_an_installation_out_of_form_is_refused(value: str):
    with pytest.raises(ValidationFailed, match=r"^installation_id: "):
        installed(installation_id=value)


def test_needs_that_nobody_met_are_named():
    with pytest.raises(ValidationFailed, match=r"^installation_id: "):
        machine_entry(client({**APP, "machine": [INSTALLED]}), Requested())


def test_a_vendor_without_machine_credentials_has_no_entry():
    assert machine_entry(client(), Requested()) is None


def test_the_first_entry_whose_needs_are_met_is_taken():
    assert [chosen(client(APP), installation_id="7"), chosen(client(APP))] == ["installed", "plain"]


def test_the_operator_may_meet_a_need():
    assert chosen(client(APP, variables={"installation": "7"})) == "installed"


def test_a_narrowed_request_says_what_the_caller_said():
    outgoing = installed(names=" a, b", ids="[1, 2]", permissions='{"contents": "read"}')
    assert json.loads(outgoing.body or b"") == {"names": ["a", "b"], "ids": [1, 2], "permissions": {"contents": "read"}}
    assert ("Authorization", "Bearer a.b.c") in outgoing.headers
    assert outgoing.url == "https://vendor.example/installations/7/tokens"


def test_a_request_that_narrows_nothing_has_an_empty_body():
    assert installed().body == b""


@pytest.mark.parametrize("name", ["grant_type", "client_id", "client_secret", "assertion", "scope", "Grant.Type"])
def test_a_caller_replaces_nothing_of_the_request(name: str):
    with pytest.raises(ValidationFailed):
        plain(Requested(parameters={name: "x"}))


def test_a_caller_adds_only_what_the_entry_lets_it():
    with pytest.raises(ValidationFailed, match=r"^audience: "):
        plain(Requested(parameters={"audience": "x"}), caller_params=["organization"])


def test_a_caller_replaces_no_parameter_of_the_entry():
    with pytest.raises(ValidationFailed, match=r"^audience: "):
        plain(Requested(parameters={"audience": "x"}), params={"audience": "ours"})


def test_a_plain_request_says_what_the_rfc_wants():
    requested = Requested(scopes=("a", "b"), parameters={"audience": "x"}, resources=("https://r.example",))
    assert plain(requested) == [
        ("grant_type", "client_credentials"),
        ("scope", "a b"),
        ("resource", "https://r.example"),
        ("audience", "x"),
    ]


def test_an_assertion_begins_early_and_ends_in_time():
    ours = client(APP)
    unsigned = grant_assertion(ours, ours.descriptor.machine[0], Requested(), now=10_000.9, jti="j")
    assert (dict(unsigned.claims), dict(unsigned.header)) == (
        {"iss": "client-1", "iat": 9940, "exp": 10540},
        {"kid": "1"},
    )


def test_an_assertion_may_be_a_grant_of_its_own():
    claims = {"iss": "{client_id}", "scope": "{scope}", "jti": "{jti}"}
    entry = {**PLAIN, "auth": "none", "params": {"grant_type": "jwt", "assertion": "{assertion}"}, "assertion": {"key": "pem", "claims": claims}}  # fmt: skip
    ours = client({"client": {"secrets": {"pem": "k"}}, "machine": [{**entry, "send_scope": False}]})
    requested = Requested(scopes=("a", "b"))
    unsigned = grant_assertion(ours, ours.descriptor.machine[0], requested, now=0, jti="j")
    outgoing = machine_request(ours, ours.descriptor.machine[0], requested, assertion=SIGNED)
    assert (unsigned.claims["scope"], unsigned.claims["jti"], outgoing.body) == (
        "a b",
        "j",
        b"grant_type=jwt&assertion=a.b.c",
    )


NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
SKEWED = b'{"message": "claim is too far in the future"}'


@pytest.mark.parametrize(
    ("body", "date", "offset"),
    [
        (SKEWED, "Tue, 14 Nov 2023 22:23:20 GMT", 600),
        (SKEWED, "Tue, 14 Nov 2023 22:03:20 GMT", -600),
        (SKEWED, "Tue, 14 Nov 2023 22:13:20 GMT", None),
        (SKEWED, "Tue, 14 Nov 2033 22:13:20 GMT", None),
        (SKEWED, "yesterday", None),
        (SKEWED, None, None),
        (b'{"message": "Bad credentials"}', "Tue, 14 Nov 2023 22:23:20 GMT", None),
        (b"<html>claim is too far in the future", "Tue, 14 Nov 2023 22:23:20 GMT", None),
    ],
)
def test_the_vendors_clock_counts_only_where_it_complains(body: bytes, date: str | None, offset: float | None):
    headers = {"Date": date} if date else {}
    assert clock_offset(client(APP).descriptor.machine[0], headers=headers, body=body, now=NOW) == offset


def test_no_clock_is_read_where_the_descriptor_declares_no_skew():
    headers = {"Date": "Tue, 14 Nov 2023 22:23:20 GMT"}
    assert clock_offset(client(APP).descriptor.machine[1], headers=headers, body=SKEWED, now=NOW) is None
