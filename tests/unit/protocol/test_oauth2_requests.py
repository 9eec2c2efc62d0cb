"""The back channel: each request says what its RFC wants, proves the client the vendor's way, and no URL holds a secret."""

import base64
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
    PrivateKeyJwt,
    Requested,
    client_assertion,
    code_request,
    exchange_request,
    introspect_request,
    needs_client_assertion,
    refresh_request,
    revoke_request,
    userinfo_request,
)
from tests.fakes.descriptors import client

CODE, ACCESS, REFRESH = Secret("the-code"), Secret("the-access"), Secret("the-refresh")


def form(outgoing: Outgoing) -> list[tuple[str, str]]:
    assert outgoing.body is not None
    return parse_qsl(outgoing.body.decode(), keep_blank_values=True, strict_parsing=True)


def header(outgoing: Outgoing, name: str) -> str | None:
    found = [value for each, value in outgoing.headers if each.lower() == name.lower()]
    assert len(found) < 2
    return found[0] if found else None


def basic(outgoing: Outgoing) -> str:
    return base64.b64decode((header(outgoing, "Authorization") or "").removeprefix("Basic ")).decode()


def code(ours: Client, **more: Any) -> Outgoing:
    asked: dict[str, Any] = {"code_verifier": None, "requested": Requested(), "assertion": None, **more}
    return code_request(ours, code=CODE, redirect_uri="https://gateway.example/cb", **asked)


def refresh(ours: Client, **more: Any) -> Outgoing:
    asked: dict[str, Any] = {"refresh_token": REFRESH, "access_token": None, "scopes": (), "assertion": None, **more}
    return refresh_request(ours, **asked)


def exchange(ours: Client, grant: str = "token_exchange", **more: Any) -> Outgoing:
    asked: dict[str, Any] = {"requested": Requested(), "params": {}, "assertion": None, **more}
    return exchange_request(ours, grant=grant, subject_token=Secret("the-subject"), **asked)


# --- Client authentication --------------------------------------------------------------------------------------------


def test_a_client_without_its_secret_asks_nothing():
    with pytest.raises(ValidationFailed, match=r"^client_secret: "):
        code(client(secret=None))


def test_an_id_with_a_colon_is_not_sent_by_basic():
    with pytest.raises(ValidationFailed, match=r"^client_id: "):
        code(client(id="https://client.example"))


def test_a_missing_assertion_is_not_sent_empty():
    with pytest.raises(ValidationFailed, match=r"^client assertion: "):
        code(client(auth="private_key_jwt"))


def test_basic_sends_id_and_secret_as_they_are():
    outgoing = code(client(id="a+b%", secret=Secret("c:d &é")))
    assert (basic(outgoing), [name for name, _ in form(outgoing)]) == (
        "a+b%:c:d &é",
        ["grant_type", "code", "redirect_uri"],
    )


def test_basic_by_the_rfc_encodes_both_first():
    outgoing = code(client({"client": {"basic_encoding": "rfc6749"}}, id="a:b", secret=Secret("c d+&")))
    assert basic(outgoing) == "a%3Ab:c+d%2B%26"


def test_basic_has_templates():
    outgoing = code(client({"client": {"basic_user": "{client_secret}", "basic_password": ""}}))
    assert basic(outgoing) == "s3cret-of-client:"


def test_post_sends_both_in_the_body_and_nothing_in_a_header():
    outgoing = code(client({"client": {"auth": "post"}}))
    assert form(outgoing)[-2:] == [("client_id", "client-1"), ("client_secret", "s3cret-of-client")]
    assert header(outgoing, "Authorization") is None


def test_a_public_client_says_its_id_only():
    outgoing = code(client({"client": {"auth": "none"}}, secret=None))
    assert [name for name, _ in form(outgoing)] == ["grant_type", "code", "redirect_uri", "client_id"]


def test_a_signed_client_sends_its_assertion():
    outgoing = code(client(auth="private_key_jwt"), assertion=Assertion(client=Secret("a.b.c")))
    assert form(outgoing)[3:] == [
        ("client_id", "client-1"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", "a.b.c"),
    ]


def test_the_providers_own_way_replaces_the_vendors():
    assert header(code(client({"token": {"auth": "post"}}, auth="basic")), "Authorization") is not None


def test_the_providers_own_way_does_not_replace_a_token():
    ours = client({"userinfo": {"url": "https://vendor.example/me", "subject": "id"}}, auth="post")
    assert header(userinfo_request(ours, ours.descriptor.userinfo, ACCESS), "Authorization") == "Bearer the-access"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("described", "needed"), [(None, True), ("post", True), ("none", False), ("bearer_token", False)]
)
def test_an_assertion_is_signed_where_it_is_sent(described: Any, needed: bool):
    assert needs_client_assertion(client(auth="private_key_jwt"), described) is needed


def test_a_token_with_a_line_break_becomes_no_header():
    ours = client({"userinfo": {"url": "https://vendor.example/me", "subject": "id"}})
    with pytest.raises(ValidationFailed):
        userinfo_request(ours, ours.descriptor.userinfo, Secret("a\r\nX: y"))  # type: ignore[arg-type]


# --- Code -------------------------------------------------------------------------------------------------------------


def test_a_code_is_exchanged_with_its_verifier():
    outgoing = code(client(), code_verifier="v" * 43)
    assert form(outgoing) == [
        ("grant_type", "authorization_code"),
        ("code", "the-code"),
        ("redirect_uri", "https://gateway.example/cb"),
        ("code_verifier", "v" * 43),
    ]
    assert (outgoing.method, outgoing.url) == ("POST", "https://vendor.example/token")


def test_an_answer_in_json_is_asked_for():
    assert header(code(client()), "Accept") == "application/json"


def test_the_descriptors_own_accept_is_the_only_one():
    assert header(code(client({"token": {"headers": {"accept": "application/x"}}})), "Accept") == "application/x"


def test_a_json_body_is_json():
    outgoing = code(
        client({"token": {"encoding": "json"}}),
        requested=Requested(resources=("https://a.example", "https://b.example")),
    )
    assert json.loads(outgoing.body or b"")["resource"] == ["https://a.example", "https://b.example"]
    assert header(outgoing, "Content-Type") == "application/json"


def test_a_query_carries_no_verifier():
    ours = client({"token": {"encoding": "query", "auth": "basic"}, "refresh": {"how": "never"}})
    with pytest.raises(ValidationFailed, match=r"^code_verifier: "):
        code(ours, code_verifier="v" * 43)


def test_a_providers_own_way_puts_no_secret_into_a_query():
    with pytest.raises(ValidationFailed, match=r"^client_secret: "):
        code(client({"token": {"encoding": "query", "auth": "basic"}, "refresh": {"how": "never"}}, auth="post"))


def test_a_callbacks_variable_says_where_the_code_goes():
    variables = {
        "server": {"source": "callback", "from": "s", "pattern": r"https://[a-z]+\.vendor\.example", "description": "s"}
    }
    ours = client(
        {"variables": variables, "token": {"url": "{server}/token"}}, variables={"server": "https://eu.vendor.example"}
    )
    assert code(ours).url == "https://eu.vendor.example/token"


def test_the_providers_own_endpoint_gets_the_code():
    assert code(client(endpoints={"token": "http://localhost:9/t"})).url == "http://localhost:9/t"


def test_secrets_of_the_operator_may_stand_in_headers():
    ours = client(
        {"client": {"secrets": {"app_key": "k"}}, "token": {"headers": {"X-Key": "{app_key}"}}},
        secrets={"app_key": Secret("k3y")},
    )
    assert header(code(ours), "X-Key") == "k3y"


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "\x7f", "é"])
def test_no_secret_breaks_out_of_a_header(value: str):
    ours = client(
        {"client": {"secrets": {"app_key": "k"}}, "token": {"headers": {"X-Key": "{app_key}"}}},
        secrets={"app_key": Secret(value)},
    )
    with pytest.raises(ValidationFailed, match=r"^X-Key: "):
        code(ours)


def test_a_request_shows_no_secret_in_its_repr():
    assert "s3cret" not in repr(code(client({"client": {"auth": "post"}})))


# --- Refresh ----------------------------------------------------------------------------------------------------------


def test_a_vendor_without_refresh_is_not_asked():
    with pytest.raises(ValidationFailed):
        refresh(client({"refresh": {"how": "never"}}))


def test_a_missing_refresh_token_is_named():
    with pytest.raises(ValidationFailed, match=r"^refresh_token: "):
        refresh(client(), refresh_token=None)


def test_a_refresh_sends_no_scope_unless_the_vendor_wants_one():
    assert form(refresh(client(), scopes=("a",))) == [("grant_type", "refresh_token"), ("refresh_token", "the-refresh")]
    assert ("scope", "a b") in form(refresh(client({"refresh": {"send_scope": True}}), scopes=("a", "b")))


def test_a_refresh_has_the_token_endpoints_words_where_it_has_none():
    outgoing = refresh(client({"token": {"headers": {"X-Version": "1"}, "auth": "post"}}))
    assert (outgoing.url, header(outgoing, "X-Version"), form(outgoing)[-1][0]) == (
        "https://vendor.example/token",
        "1",
        "client_secret",
    )


def test_a_refresh_may_have_its_own_endpoint():
    assert (
        refresh(client({"refresh": {"url": "https://vendor.example/refresh"}})).url == "https://vendor.example/refresh"
    )


def test_a_living_access_token_may_be_exchanged_for_a_longer_one():
    rules = {"how": "access_token", "params": {"grant_type": "longer", "token": "{access_token}"}}
    outgoing = refresh(client({"refresh": rules}), refresh_token=None, access_token=ACCESS)
    assert form(outgoing) == [("grant_type", "longer"), ("token", "the-access")]


# --- Exchange ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["grant_type", "subject_token", "assertion", "client_id", "actor_token", "scope", "Subject.Token"]
)
def test_an_exchange_takes_no_reserved_parameter(name: str):
    with pytest.raises(ValidationFailed):
        exchange(client(), params={name: "x"})


def test_an_unknown_exchange_is_refused():
    with pytest.raises(ValidationFailed, match=r"^grant: "):
        exchange(client(), "password")


def test_an_actor_has_a_type():
    with pytest.raises(ValidationFailed, match=r"^actor_token_type: "):
        exchange(client(), actor_token=Secret("actor"))


def test_a_subject_token_never_stands_in_a_url():
    with pytest.raises(ValidationFailed):
        exchange(client({"token": {"encoding": "query", "auth": "basic"}, "refresh": {"how": "never"}}))


def test_a_token_exchange_says_what_the_rfc_wants():
    requested = Requested(scopes=("a", "b"), resources=("https://r.example",), audiences=("x", "y"))
    outgoing = exchange(client(), requested=requested, actor_token=Secret("the-actor"), actor_token_type="urn:t", params={"requested_token_type": "urn:r"})  # fmt: skip
    assert form(outgoing) == [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "the-subject"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("actor_token", "the-actor"),
        ("actor_token_type", "urn:t"),
        ("scope", "a b"),
        ("resource", "https://r.example"),
        ("audience", "x"),
        ("audience", "y"),
        ("requested_token_type", "urn:r"),
    ]


def test_a_jwt_grant_says_what_the_vendor_adds():
    ours = client({"exchange": {"grant": "jwt_bearer", "params": {"requested_token_use": "on_behalf_of"}}})
    assert form(exchange(ours, "jwt_bearer")) == [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", "the-subject"),
        ("requested_token_use", "on_behalf_of"),
    ]


def test_an_exchange_without_client_names_none():
    outgoing = exchange(client({"client": {"auth": "post"}}), authenticate=False)
    assert (header(outgoing, "Authorization"), [name for name, _ in form(outgoing) if name.startswith("client")]) == (
        None,
        [],
    )


# --- Revoke, introspect, user information -----------------------------------------------------------------------------


def revoke(entry: dict[str, Any], **tokens: Secret | None) -> Outgoing:
    ours = client({"revoke": [{"url": "https://vendor.example/revoke", **entry}]})
    return revoke_request(ours, ours.descriptor.revoke[0], **{"access": ACCESS, "refresh": REFRESH, **tokens})


def test_a_revocation_without_its_token_is_named():
    with pytest.raises(ValidationFailed, match=r"^refresh_token: "):
        revoke({"needs": "refresh_token"}, refresh=None)


def test_a_revocation_sends_the_token_that_it_needs():
    assert form(revoke({"needs": "refresh_token", "params": {"token": "{token}"}})) == [("token", "the-refresh")]


def test_a_revocation_may_be_a_delete_with_a_json_body():
    outgoing = revoke({"url": "https://vendor.example/apps/{client_id}/grant", "method": "DELETE", "encoding": "json", "params": {"access_token": "{access_token}"}})  # fmt: skip
    assert (outgoing.method, outgoing.url, outgoing.body) == (
        "DELETE",
        "https://vendor.example/apps/client-1/grant",
        b'{"access_token":"the-access"}',
    )


def test_a_revocation_by_the_token_itself_has_an_empty_body():
    outgoing = revoke({"auth": "bearer_token"})
    assert (header(outgoing, "Authorization"), outgoing.body, header(outgoing, "Content-Type")) == (
        "Bearer the-access",
        b"",
        None,
    )


def test_nobody_is_authenticated_where_the_vendor_asks_nobody():
    assert form(revoke({"auth": "none", "params": {"token": "{token}"}})) == [("token", "the-access")]


def test_an_id_in_a_path_is_one_segment():
    ours = client({"revoke": [{"url": "https://vendor.example/apps/{client_id}/grant"}]}, id="a/../b?c#d")
    url = revoke_request(ours, ours.descriptor.revoke[0], access=ACCESS, refresh=None).url
    assert url == "https://vendor.example/apps/a%2F..%2Fb%3Fc%23d/grant"


def test_an_introspection_asks_about_the_token():
    ours = client({"introspect": {"url": "https://vendor.example/i", "params": {"token": "{access_token}"}, "active": [{"path": "active", "equals": True}]}})  # fmt: skip
    outgoing = introspect_request(ours, ours.descriptor.introspect, ACCESS)  # type: ignore[arg-type]
    assert (form(outgoing), basic(outgoing)) == ([("token", "the-access")], "client-1:s3cret-of-client")


def test_user_information_is_asked_by_get_with_the_token_in_a_header():
    ours = client({"userinfo": {"url": "https://vendor.example/me", "subject": "id"}})
    outgoing = userinfo_request(ours, ours.descriptor.userinfo, ACCESS)  # type: ignore[arg-type]
    assert (outgoing.method, outgoing.url, outgoing.body, header(outgoing, "Authorization")) == ("GET", "https://vendor.example/me", None, "Bearer the-access")  # fmt: skip


def test_an_endpoint_that_only_metadata_could_name_is_missed_by_name():
    ours = client({"userinfo": {"url": "{userinfo_endpoint}", "subject": "sub"}})
    with pytest.raises(ValidationFailed, match=r"^userinfo endpoint: "):
        userinfo_request(ours, ours.descriptor.userinfo, ACCESS)  # type: ignore[arg-type]


# --- What a client signs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iss", "sub", "jti", "iat", "nbf", "exp"])
def test_a_provider_replaces_no_claim_that_the_gateway_sets(name: str):
    with pytest.raises(ValidationFailed, match=f"additionalPayloadClaims.{name}"):
        client_assertion(client(private_key_jwt=PrivateKeyJwt(claims={name: "x"})), now=1000.5, jti="j")


@pytest.mark.parametrize("name", ["alg", "typ", "crit", "b64"])
def test_a_provider_replaces_no_header_that_the_gateway_sets(name: str):
    with pytest.raises(ValidationFailed, match=f"additionalHeaderClaims.{name}"):
        client_assertion(client(private_key_jwt=PrivateKeyJwt(headers={name: "x"})), now=1000.5, jti="j")


def test_a_client_assertion_lives_five_minutes_and_names_the_token_endpoint():
    unsigned = client_assertion(client(), now=1000.5, jti="j")
    assert unsigned.claims == {
        "iss": "client-1",
        "sub": "client-1",
        "aud": "https://vendor.example/token",
        "jti": "j",
        "iat": 1000,
        "nbf": 1000,
        "exp": 1300,
    }
    assert (unsigned.algorithm, unsigned.secret, unsigned.kms_key) == ("RS256", "private_key", None)


def test_a_provider_may_name_audience_key_and_algorithm():
    how = PrivateKeyJwt("ES256", kms_key="arn:k", headers={"kid": "1"}, claims={"aud": "https://as.example", "x": 1})
    unsigned = client_assertion(client(private_key_jwt=how), now=0, jti="j")
    assert (unsigned.claims["aud"], unsigned.claims["x"], unsigned.header, unsigned.kms_key, unsigned.algorithm) == ("https://as.example", 1, {"kid": "1"}, "arn:k", "ES256")  # fmt: skip
