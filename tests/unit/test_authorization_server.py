"""Vendors are asked once, by the rules of the way out; whatever happens becomes an answer or a refusal."""

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import pytest

from identity_gateway.authorization_server import AuthorizationServer, Revoked, SigningFailed, UserInfo
from identity_gateway.egress import Egress, EgressFailed, EgressRefused, Fetched
from identity_gateway.errors import ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import Answered, Client, Refused, Requested, Unsigned
from tests.fakes.descriptors import client

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
ACCESS, REFRESH, CODE = Secret("access-0123456789"), Secret("refresh-0123456789"), Secret("code-0123456789")
Step = Fetched | Exception | Callable[["Sent"], Fetched]


class Sent:
    """A request that reached the fake vendor."""

    def __init__(self, url: str, method: str, headers: Iterable[tuple[str, str]], content: bytes | None) -> None:
        self.url, self.method, self.headers, self.content = url, method, dict(headers), content

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl((self.content or b"").decode(), keep_blank_values=True))


class Vendor(Egress):
    """A way out at whose end a script answers, step by step."""

    def __init__(self, *script: Step) -> None:
        super().__init__()
        self.script, self.sent = list(script), list[Sent]()

    async def fetch(self, url: str, *, method: str = "GET", headers: Iterable[tuple[str, str]] = (), content: bytes | None = None, public_only: bool = False) -> Fetched:  # fmt: skip
        sent = Sent(url, method, headers, content)
        self.sent.append(sent)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Fetched) else step(sent)


class Signing:
    """Signs by writing down what it was asked to sign."""

    def __init__(self, failure: SigningFailed | None = None) -> None:
        self.asked, self._failure = list[Unsigned](), failure

    async def sign(self, client: Client, unsigned: Unsigned) -> Secret:
        if self._failure is not None:
            raise self._failure
        self.asked.append(unsigned)
        return Secret(f"signed.assertion.{len(self.asked)}")


def said(body: Any, status: int = 200, **headers: str) -> Fetched:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fetched(status, (("content-type", "application/json"), *named), sent)


def server(vendor: Vendor, signing: Signing | None = None) -> AuthorizationServer:
    return AuthorizationServer(vendor, clock=lambda: NOW, signing=signing or Signing())


async def refreshed(vendor: Vendor, ours: Client | None = None, **more: Any) -> Answered | Refused:
    asked = {"part": "default", "refresh_token": REFRESH, "access_token": ACCESS, "scopes": (), **more}
    return await server(vendor).refresh(ours or client(), **asked)


async def redeemed(vendor: Vendor, ours: Client | None = None, requested: Requested | None = None, signing: Signing | None = None) -> Answered | Refused:  # fmt: skip
    return await server(vendor, signing).exchange_code(
        ours or client(),
        code=CODE,
        redirect_uri="https://gateway.example/cb",
        code_verifier="v" * 43,
        requested=requested or Requested(),
    )


TOKEN = {"access_token": "t", "refresh_token": "r", "expires_in": 3600}
EVERYTHING = {
    "revoke": [
        {"url": "https://vendor.example/grant", "needs": "refresh_token", "params": {"token": "{token}"}},
        {"url": "https://vendor.example/token/revoke", "effect": "token", "params": {"token": "{token}"}},
    ],
    "introspect": {"url": "https://vendor.example/i", "params": {"token": "{access_token}"}, "active": [{"path": "active", "equals": True}]},
    "userinfo": {"url": "https://vendor.example/me", "subject": "id", "label": "name"},
}  # fmt: skip
INSTALLED = {
    "client": {"secrets": {"pem": "key"}},
    "machine": [
        {
            "name": "installed",
            "url": "https://vendor.example/mint",
            "auth": "bearer_assertion",
            "encoding": "json",
            "assertion": {"key": "pem", "claims": {"iss": "{client_id}"}, "backdate": 60, "lifetime": 540, "clock_skew": [{"path": "message", "matches": "claim"}]},
        }
    ],
}  # fmt: skip


# --- When there is no answer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "outcome", "code"),
    [
        (EgressFailed("vendor.example did not answer", maybe_sent=False), "transient", "unreachable"),
        (EgressFailed("vendor.example took too long", maybe_sent=True), "ambiguous", "no_answer"),
        (EgressRefused("not public"), "operator_config", "egress_refused"),
    ],
)
async def test_a_request_without_an_answer_is_told_by_whether_it_left(failure: Exception, outcome: str, code: str):
    vendor = Vendor(failure)
    found = await refreshed(vendor)
    assert isinstance(found, Refused)
    assert (found.outcome, found.code, len(vendor.sent)) == (outcome, code, 1)


@pytest.mark.parametrize("step", [said(b"", 302, location="https://evil.example/"), said(b"", 307, location="/token"), said(b"", 503), said(b"<html>"), said({"error": "invalid_grant"}, 400)])  # fmt: skip
async def test_nothing_is_sent_twice_and_no_redirect_is_followed(step: Fetched):
    vendor = Vendor(step)
    assert isinstance(await refreshed(vendor), Refused)
    assert [sent.url for sent in vendor.sent] == ["https://vendor.example/token"]


async def test_a_configuration_that_makes_no_request_sends_none():
    vendor = Vendor()
    found = await refreshed(vendor, client(secret=None))
    assert isinstance(found, Refused)
    assert (found.outcome, found.code, vendor.sent) == ("operator_config", "incomplete_configuration", [])


@pytest.mark.parametrize(("transient", "outcome"), [(True, "transient"), (False, "operator_config")])
async def test_a_client_that_cannot_sign_sends_nothing(transient: bool, outcome: str):
    vendor = Vendor()
    found = await redeemed(vendor, client(auth="private_key_jwt"), signing=Signing(SigningFailed("no", transient=transient)))  # fmt: skip
    assert isinstance(found, Refused)
    assert (found.outcome, found.code, vendor.sent) == (outcome, "signing_failed", [])


async def test_a_refusal_holds_nothing_that_was_sent():
    def echo(sent: Sent) -> Fetched:
        return said({"error": "invalid_client", "error_description": f"{sent.form} {sent.headers}"}, 401)

    ours = client(
        {"client": {"auth": "post", "secrets": {"app_key": "k"}}}, secrets={"app_key": Secret("app-key-0123456789")}
    )
    for found in (
        await refreshed(Vendor(echo), ours),
        await redeemed(Vendor(echo), ours),
        await redeemed(Vendor(echo)),
    ):
        assert isinstance(found, Refused)
        told = f"{found.code} {found.description}"
        assert not any(secret in told for secret in ("s3cret-of-client", "0123456789", "v" * 12, "Basic Y"))


# --- Codes and refreshes ----------------------------------------------------------------------------------------------


async def test_a_code_is_exchanged_for_what_the_vendor_gives():
    vendor = Vendor(said(TOKEN))
    found = await redeemed(vendor)
    assert isinstance(found, Answered)
    assert (found.credentials[0].access.reveal(), found.credentials[0].lifetime) == ("t", 3600)
    assert vendor.sent[0].form["code_verifier"] == "v" * 43


async def test_the_callers_variables_come_back_to_be_kept():
    ours = client({"variables": {"site": {"source": "caller", "pattern": "[a-z]+", "description": "s"}}})
    found = await redeemed(Vendor(said(TOKEN)), ours, Requested(parameters={"site": "eu"}))
    assert isinstance(found, Answered)
    assert found.variables == {"site": "eu"}


async def test_a_caller_variable_out_of_form_sends_nothing():
    ours = client({"variables": {"site": {"source": "caller", "pattern": "[a-z]+", "description": "s"}}})
    vendor = Vendor()
    assert isinstance(await redeemed(vendor, ours, Requested(parameters={"site": "EU"})), Refused)
    assert vendor.sent == []


async def test_a_signed_client_names_the_token_endpoint():
    vendor, signing = Vendor(said(TOKEN)), Signing()
    await redeemed(vendor, client(auth="private_key_jwt"), signing=signing)
    assert signing.asked[0].claims["aud"] == "https://vendor.example/token"
    assert vendor.sent[0].form["client_assertion"] == "signed.assertion.1"


async def test_no_two_assertions_have_one_id():
    signing = Signing()
    for _ in range(2):
        await redeemed(Vendor(said(TOKEN)), client(auth="private_key_jwt"), signing=signing)
    assert signing.asked[0].claims["jti"] != signing.asked[1].claims["jti"]


async def test_a_refresh_gives_what_the_vendor_gives():
    found = await refreshed(Vendor(said(TOKEN)))
    assert isinstance(found, Answered)
    assert found.credentials[0].refresh is not None


# --- Machines ---------------------------------------------------------------------------------------------------------

SKEWED = said({"message": "'exp' claim is too far in the future"}, 401, date="Tue, 14 Nov 2023 22:03:20 GMT")
MINTED = said({"access_token": "t"}, 201)


async def test_a_vendor_without_machine_credentials_says_so():
    with pytest.raises(ValidationFailed):
        await server(Vendor()).machine_token(client(), Requested())


async def test_an_assertion_is_signed_again_by_the_vendors_clock():
    vendor, signing = Vendor(SKEWED, MINTED), Signing()
    found = await server(vendor, signing).machine_token(client(INSTALLED), Requested())
    assert isinstance(found, Answered)
    assert [each.claims["exp"] - NOW for each in signing.asked] == [540, -60]
    assert vendor.sent[1].headers["Authorization"] == "Bearer signed.assertion.2"


async def test_an_assertion_is_signed_again_once_only():
    vendor = Vendor(SKEWED, SKEWED)
    found = await server(vendor).machine_token(client(INSTALLED), Requested())
    assert isinstance(found, Refused)
    assert len(vendor.sent) == 2


@pytest.mark.parametrize("step", [said({"message": "Bad credentials"}, 401, date="Tue, 14 Nov 2023 22:03:20 GMT"), said({"message": "claim"}, 401), said(b"", 500)])  # fmt: skip
async def test_another_refusal_is_no_reason_to_sign_again(step: Fetched):
    vendor = Vendor(step)
    assert isinstance(await server(vendor).machine_token(client(INSTALLED), Requested()), Refused)
    assert len(vendor.sent) == 1


async def test_a_machine_asks_with_the_clients_secret():
    entry = {"name": "m", "url": "https://vendor.example/token", "params": {"grant_type": "client_credentials"}}
    vendor = Vendor(said(TOKEN))
    await server(vendor).machine_token(client({"machine": [entry]}), Requested(scopes=("a",)))
    assert (vendor.sent[0].form["scope"], vendor.sent[0].headers["Authorization"][:6]) == ("a", "Basic ")


# --- On behalf of -----------------------------------------------------------------------------------------------------


async def exchanged(vendor: Vendor, **more: Any) -> Answered | Refused:
    asked: dict[str, Any] = {"grant": "token_exchange", "subject_token": Secret("the-subject-token"), "subject_token_type": "urn:jwt", "actor_token": None, "actor_token_type": None, "requested": Requested(), "params": {}}  # fmt: skip
    return await server(vendor).exchange_token(client(), **{**asked, **more})


async def test_a_callers_wrong_parameter_is_the_callers_to_hear():
    vendor = Vendor()
    with pytest.raises(ValidationFailed, match=r"^subject_token: "):
        await exchanged(vendor, params={"subject_token": "x"})
    assert vendor.sent == []


async def test_a_token_is_exchanged():
    vendor = Vendor(said(TOKEN))
    assert isinstance(await exchanged(vendor), Answered)
    assert vendor.sent[0].form["subject_token"] == "the-subject-token"


async def test_an_exchange_without_client_sends_no_credential():
    vendor = Vendor(said(TOKEN))
    await exchanged(vendor, authenticate=False)
    assert "Authorization" not in vendor.sent[0].headers


async def test_a_refused_exchange_may_come_again_with_another_token():
    found = await exchanged(Vendor(said({"error": "invalid_grant"}, 400)))
    assert isinstance(found, Refused)
    assert found.outcome == "restart"


# --- Revoking ---------------------------------------------------------------------------------------------------------


async def revoked(*script: Step, access: Secret | None = ACCESS, refresh: Secret | None = REFRESH, **more: Any) -> tuple[Revoked, list[str]]:  # fmt: skip
    vendor = Vendor(*script)
    found = await server(vendor).revoke(client(EVERYTHING), access=access, refresh=refresh, **more)
    return found, [sent.url.removeprefix("https://vendor.example/") for sent in vendor.sent]


async def test_a_grant_that_no_way_takes_back_stays():
    found, asked = await revoked(said(b"", 503), EgressFailed("no", maybe_sent=True))
    assert (found.effect, found.verified, [each.outcome for each in found.failures]) == (
        None,
        False,
        ["transient", "ambiguous"],
    )
    assert asked == ["grant", "token/revoke"]


async def test_every_way_is_gone_in_order_and_then_looked_at():
    found, asked = await revoked(said(b""), said(b""), said({"active": False}))
    assert (found, asked) == (Revoked("grant", verified=True), ["grant", "token/revoke", "i"])


async def test_a_way_whose_token_is_missing_is_left_out():
    found, asked = await revoked(said(b""), said({"active": True}), refresh=None)
    assert (found, asked) == (Revoked("token", verified=False), ["token/revoke", "i"])


async def test_a_way_that_would_end_too_much_is_left_out():
    found, asked = await revoked(said(b""), said(b""), effects={"token"})
    assert (found.effect, asked) == ("token", ["token/revoke", "i"])


async def test_what_is_dead_already_counts_as_taken_back():
    rules = {"errors": [{"on": ["revoke"], "status": [404], "outcome": "dead_grant"}]}
    vendor = Vendor(said(b"", 404), said(b"", 404), said({"active": False}))
    found = await server(vendor).revoke(client({**EVERYTHING, **rules}), access=ACCESS, refresh=REFRESH)
    assert found == Revoked("grant", verified=True)


async def test_a_vendor_that_describes_no_way_is_not_asked():
    vendor = Vendor()
    assert await server(vendor).revoke(client(), access=ACCESS, refresh=REFRESH) == Revoked(None, verified=False)


# --- Looking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "lives"),
    [
        (said({"active": True}), True),
        (said({"active": False}), False),
        (said({"active": False}, 500), None),
        (said(b"<html>"), None),
        (said({"error": "invalid_client"}, 401), None),
        (EgressFailed("no", maybe_sent=True), None),
    ],
)
async def test_a_token_lives_or_is_dead_or_nobody_knows(step: Step, lives: bool | None):
    assert await server(Vendor(step)).introspect(client(EVERYTHING), ACCESS) is lives


async def test_a_vendor_that_cannot_be_asked_does_not_say():
    own = {"introspect": {**EVERYTHING["introspect"], "url": "{introspection_endpoint}"}}
    assert [await server(Vendor()).introspect(each, ACCESS) for each in (client(), client(own))] == [None, None]


async def test_the_providers_metadata_may_say_where_to_ask():
    own = {"introspect": {**EVERYTHING["introspect"], "url": "{introspection_endpoint}"}}
    vendor = Vendor(said({"active": True}))
    assert await server(vendor).introspect(client(own, endpoints={"introspect": "https://own.example/i"}), ACCESS)
    assert vendor.sent[0].url == "https://own.example/i"


async def test_a_vendor_that_names_nobody_is_a_gap_in_the_descriptor():
    found = await server(Vendor()).userinfo(client(), ACCESS)
    assert isinstance(found, Refused)
    assert (found.outcome, found.code) == ("operator_config", "not_described")


async def test_user_information_says_whose_token_it_is():
    vendor = Vendor(said({"id": 7, "name": "Ann"}))
    assert await server(vendor).userinfo(client(EVERYTHING), ACCESS) == UserInfo("", "7", "Ann")
    assert vendor.sent[0].headers["Authorization"] == f"Bearer {ACCESS.reveal()}"
