"""What an agent is given when it asks for a third party's credential, and what it is told when it is given none."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from identity_gateway.admission import Vended
from identity_gateway.errors import AccessDenied, NotFound, Throttled, Unavailable, ValidationFailed
from identity_gateway.model import CredentialKind, GrantState, JwtUser, NamedUser
from identity_gateway.outbound.asking import CREDENTIAL, REJECTED
from tests.unit.outbound.conftest import ADA, AGENT, INBOUND, NAMED, REALM, RETURN_URL, World, at

JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
BOTH = {"person": {"access_token": "person-1", "refresh_token": "person-r"}}
M2M, OBO = "M2M", "ON_BEHALF_OF_TOKEN_EXCHANGE"
EXCHANGED = {"onBehalfOfTokenExchangeConfig": {"grantType": "TOKEN_EXCHANGE"}}


def fingerprint(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def ours(**named: str) -> dict[str, Any]:
    return {"customParameters": {{"credential": CREDENTIAL, "rejected": REJECTED}[name]: named[name] for name in named}}


async def grants(here: World) -> list[Any]:
    return await here.vault.list(limit=10)


# --- Who asks ---


async def test_a_token_that_does_not_open_is_refused(here: World):
    await here.register("drive", "DriveOauth2")
    with pytest.raises(AccessDenied, match="not valid"):
        await here.ask("drive", M2M, workloadIdentityToken="AAAA")


async def test_an_agent_whose_identity_is_gone_is_refused(here: World):
    token = here.token()
    await here.register("drive", "DriveOauth2")
    await here.workloads.delete_workload_identity({"name": AGENT})
    with pytest.raises(AccessDenied, match="no longer exists"):
        await here.ask("drive", M2M, workloadIdentityToken=token)


async def test_a_token_that_is_older_than_its_identity_is_a_namesakes_and_refused(here: World):
    token = here.token()
    await here.register("drive", "DriveOauth2")
    await here.workloads.delete_workload_identity({"name": AGENT})
    here.clock.now += 60
    await here.workloads.create_workload_identity({"name": AGENT})
    with pytest.raises(AccessDenied) as raised:
        await here.ask("drive", M2M, workloadIdentityToken=token)
    assert raised.value.reason == "token older than its identity"


async def test_a_token_of_a_replica_whose_clock_is_a_little_behind_is_not_refused(here: World):
    await here.register("drive", "DriveOauth2")
    here.clock.now -= 4
    assert await here.given("drive", M2M) == "token-1"


async def test_a_provider_that_is_not_there_is_not_found(here: World):
    with pytest.raises(NotFound):
        await here.ask("nowhere", M2M)


async def test_the_resources_of_a_call_are_the_agents_and_the_providers(here: World):
    asked = {"workloadIdentityToken": here.token(), "resourceCredentialProviderName": "drive"}
    assert here.outbound.resources(CredentialKind.OAUTH2)(REALM, asked) == (
        REALM.arn("workload-identity-directory/default"),
        REALM.workload_identity_arn(AGENT),
        REALM.token_vault_arn(),
        REALM.credential_provider_arn(CredentialKind.OAUTH2, "drive"),
    )


async def test_the_resources_of_a_call_with_a_bad_token_are_nobodys(here: World):
    asked = {"workloadIdentityToken": "AAAA", "resourceCredentialProviderName": "drive"}
    with pytest.raises(AccessDenied):
        here.outbound.resources(CredentialKind.API_KEY)(REALM, asked)


# --- Parameters that speak to the gateway ---


@pytest.mark.parametrize("name", ["identity-gateway.", "identity-gateway.part", "identity-gateway.credentials"])
@pytest.mark.parametrize("flow", ["USER_FEDERATION", M2M, OBO])
async def test_a_parameter_of_ours_that_nobody_knows_is_refused(here: World, flow: str, name: str):
    await here.register("drive", "DriveOauth2")
    with pytest.raises(ValidationFailed, match="is not a parameter of this gateway"):
        await here.ask("drive", flow, customParameters={name: "x"})


@pytest.mark.parametrize("value", ["", "x", "a" * 63, "g" * 64, "a" * 65, "é" * 64, "a" * 64 + "\n"])
async def test_a_rejected_token_that_is_no_sha256_is_refused(here: World, value: str):
    await here.register("drive", "DriveOauth2")
    with pytest.raises(ValidationFailed, match="must be a SHA-256 in hexadecimal"):
        await here.ask("drive", M2M, **ours(rejected=value))


@pytest.mark.parametrize(
    "many",
    [
        {"scopes": [f"s{number}" for number in range(101)]},
        {"resources": [f"https://r{number}.example" for number in range(101)]},
        {"audiences": [f"a{number}" for number in range(101)]},
        {"customParameters": {f"p{number}": "x" for number in range(101)}},
    ],
)
async def test_more_than_a_hundred_of_anything_is_refused_before_it_is_recorded(here: World, many: dict[str, Any]):
    await here.register("drive", "DriveOauth2")
    with pytest.raises(ValidationFailed, match="more than 100"):
        await here.ask("drive", M2M, **many)


async def test_parameters_of_ours_go_to_no_vendor(here: World):
    await here.register("drive", "DriveOauth2")
    await here.ask("drive", M2M, customParameters={REJECTED: "a" * 64, "audience": "https://api.example"})
    assert here.vendor.asked == [{"grant_type": "client_credentials", "audience": "https://api.example"}]


async def test_parameters_of_ours_are_no_part_of_what_a_grant_is_found_by(here: World):
    await here.register("chat", "ChatOauth2")
    here.vendor.answer = BOTH
    await here.consent("chat", scopes=["post"])
    assert await here.given("chat", scopes=["post"], **ours(rejected="a" * 64)) == "token-1"


# --- For a user ---


async def test_a_token_for_no_user_gets_no_users_credential(here: World):
    await here.register("drive", "DriveOauth2")
    with pytest.raises(ValidationFailed, match="stands for no user"):
        await here.ask("drive", workloadIdentityToken=here.token(None))


@pytest.mark.parametrize("url", [None, RETURN_URL + "/", RETURN_URL.upper(), "https://evil.example/back"])
async def test_a_user_comes_back_only_to_where_the_agent_may_send_users(here: World, url: str | None):
    await here.register("drive", "DriveOauth2")
    with pytest.raises(ValidationFailed, match="resourceOauth2ReturnUrl"):
        await here.ask("drive", resourceOauth2ReturnUrl=url)


async def test_without_a_grant_the_agent_gets_a_link(here: World):
    await here.register("drive", "DriveOauth2")
    answered = await here.ask("drive")
    assert isinstance(answered, dict)
    assert answered["authorizationUrl"].startswith("https://gateway.example/identities/oauth2/authorize?")
    assert answered["sessionStatus"] == "IN_PROGRESS"


async def test_a_session_in_progress_answers_with_its_own_link(here: World):
    await here.register("drive", "DriveOauth2")
    waiting = await here.ask("drive")
    assert await here.ask("drive", sessionUri=waiting["sessionUri"]) == waiting


async def test_a_completed_session_gives_the_token(here: World):
    await here.register("drive", "DriveOauth2")
    waiting = await here.consent("drive")
    assert await here.given("drive", sessionUri=waiting["sessionUri"]) == "token-1"


async def test_a_consent_is_asked_for_again_only_by_force(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    assert await here.given("drive") == "token-1"
    assert (await here.ask("drive", forceAuthentication=True))["sessionStatus"] == "IN_PROGRESS"


@pytest.mark.parametrize("other", [NAMED, JwtUser(ADA.issuer, "bob"), JwtUser("https://login.example/other", "ada")])
async def test_a_grant_is_not_another_users(here: World, other: JwtUser | NamedUser):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    assert "authorizationUrl" in await here.ask("drive", workloadIdentityToken=here.token(other))


async def test_a_grant_is_not_another_agents(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    await here.workloads.create_workload_identity({"name": "other", "allowedResourceOauth2ReturnUrls": [RETURN_URL]})
    assert "authorizationUrl" in await here.ask("drive", workloadIdentityToken=here.token(agent="other"))


async def test_scopes_are_a_set(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive", scopes=["b", "a", "b"])
    assert await here.given("drive", scopes=["a", "b"]) == "token-1"


async def test_a_grant_that_was_taken_back_is_asked_for_anew(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    (grant,) = await grants(here)
    await here.vault.shred(grant, "revoked")
    assert "authorizationUrl" in await here.ask("drive")


async def test_an_administrator_at_the_vendor_is_named_as_the_one_who_must_act(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    (grant,) = await grants(here)
    await here.vault.change_state(grant, GrantState.NEEDS_ADMIN, "suspended", retry_at=here.clock.now + 900)
    with pytest.raises(AccessDenied, match="An administrator of Sample Drive must act"):
        await here.ask("drive")


async def test_a_client_that_the_vendor_refuses_is_told_in_its_words(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    here.clock.now += 3600
    here.vendor.status, here.vendor.answer = 401, {"error": "invalid_client", "error_description": "no such client"}
    with pytest.raises(ValidationFailed, match=r"Sample Drive refused the request: invalid_client \(no such client\)"):
        await here.ask("drive")


async def test_a_token_that_the_agent_saw_refused_is_refreshed(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    here.clock.now += 60
    assert await here.given("drive", **ours(rejected=fingerprint("token-1").upper())) == "token-2"


async def test_a_token_that_was_refreshed_since_is_no_reason_for_another_refresh(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    here.clock.now += 60
    for _ in range(2):
        assert await here.given("drive", **ours(rejected=fingerprint("token-1"))) == "token-2"


async def test_a_token_that_is_seconds_old_is_not_refreshed_on_the_agents_word(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive")
    with pytest.raises(Unavailable, match=r"Try again in \d+ s\."):
        await here.ask("drive", **ours(rejected=fingerprint("token-1")))


async def test_the_record_of_a_users_token_says_for_whom_and_which(here: World):
    await here.register("drive", "DriveOauth2")
    await here.consent("drive", scopes=["read"], customParameters={"hint": "x"}, resources=["https://api.example"])
    vended = await here.ask("drive", scopes=["read"], customParameters={"hint": "x"}, resources=["https://api.example"])
    (grant,) = await grants(here)
    assert isinstance(vended, Vended)
    assert "token-1" not in repr(vended)
    assert vended.details == {
        "workload": AGENT,
        "user": ["jwt", ADA.issuer, "ada"],
        "provider": "drive",
        "providerId": grant.provider_id,
        "flow": "USER_FEDERATION",
        "scopes": ["read"],
        "parameters": ["hint"],
        "resources": ["https://api.example"],
        "grant": grant.id,
        "credential": "default",
        "granted": ["read"],
        "fingerprint": here.vault.fingerprints.of((await here.vault.open(grant)).access),
        "expiresAt": at(here.clock.now + 3600),
    }


# --- Several credentials of one consent ---


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"scopes": ["post"]}, "token-1"),
        ({"scopes": ["post"], "customParameters": {"user_scope": "read"}}, "token-1"),
        ({"customParameters": {"user_scope": "read"}}, "person-1"),
        ({}, "token-1"),
        ({"scopes": ["post"], "customParameters": {CREDENTIAL: "person"}}, "person-1"),
        ({"customParameters": {"user_scope": "read", CREDENTIAL: "bot"}}, "token-1"),
    ],
)
async def test_a_credential_is_chosen_by_the_scopes_or_by_its_name(here: World, asked: dict[str, Any], expected: str):
    await here.register("chat", "ChatOauth2")
    here.vendor.answer = BOTH
    await here.consent("chat", **asked)
    assert await here.given("chat", **asked) == expected


@pytest.mark.parametrize("name", ["", "default", "Bot"])
async def test_a_credential_that_the_vendor_does_not_know_is_refused(here: World, name: str):
    await here.register("chat", "ChatOauth2")
    with pytest.raises(ValidationFailed, match=r"must be one of: bot, person\.$"):
        await here.ask("chat", **ours(credential=name))


async def test_a_consent_that_gave_no_such_credential_is_not_asked_for_for_ever(here: World):
    await here.register("chat", "ChatOauth2")
    asked = {"scopes": ["post"], **ours(credential="person")}
    waiting = await here.consent("chat", **asked)
    with pytest.raises(ValidationFailed, match="The consent gave no credential person"):
        await here.ask("chat", sessionUri=waiting["sessionUri"], **asked)


# --- For the agent itself ---


async def test_a_machine_token_needs_no_user_and_is_shared_by_the_agents_users(here: World):
    await here.register("drive", "DriveOauth2")
    tokens = [here.token(user) for user in (None, ADA, NAMED)]
    given = [await here.given("drive", M2M, workloadIdentityToken=token) for token in tokens]
    assert given == ["token-1"] * 3


async def test_a_machine_token_is_not_another_agents_nor_for_other_scopes(here: World):
    await here.register("drive", "DriveOauth2")
    await here.workloads.create_workload_identity({"name": "other"})
    given = [
        await here.given("drive", M2M),
        await here.given("drive", M2M, scopes=["a"]),
        await here.given("drive", M2M, workloadIdentityToken=here.token(agent="other")),
    ]
    assert given == ["token-1", "token-2", "token-3"]


async def test_what_was_asked_in_another_order_is_the_same(here: World):
    await here.register("drive", "DriveOauth2")
    one = {"scopes": ["a", "b"], "resources": ["https://a.example", "https://b.example"]}
    other = {"scopes": ["b", "a", "b"], "resources": ["https://b.example", "https://a.example"]}
    assert await here.given("drive", M2M, **one) == await here.given("drive", M2M, **other)


async def test_a_vendor_without_machine_tokens_says_so(here: World):
    await here.register("chat", "ChatOauth2")
    with pytest.raises(ValidationFailed, match="gives no credentials to agents themselves"):
        await here.ask("chat", M2M)


async def test_a_vendor_that_is_asked_too_often_is_throttling(here: World):
    await here.register("drive", "DriveOauth2")
    here.vendor.status, here.vendor.headers = 429, (("Retry-After", "7"),)
    with pytest.raises(Throttled, match=r"Sample Drive .* Try again in 7 s\."):
        await here.ask("drive", M2M)


async def test_where_a_token_kills_its_predecessor_all_agents_and_providers_of_a_client_share_one(here: World):
    await here.workloads.create_workload_identity({"name": "other"})
    given = [
        await here.given(await here.register("one", "CallsOauth2"), M2M),
        await here.given(await here.register("two", "CallsOauth2"), M2M),
        await here.given("one", M2M, workloadIdentityToken=here.token(agent="other")),
        await here.given("two", M2M, scopes=["not:sent"]),
    ]
    assert given == ["token-1"] * 4


async def test_whoever_names_somebodys_client_id_without_the_secret_gets_none_of_its_tokens(here: World):
    await here.register("one", "CallsOauth2")
    await here.register("copy", "CallsOauth2", secret="guessed")
    assert await here.given("one", M2M) != await here.given("copy", M2M)


async def test_a_provider_that_was_changed_gets_new_machine_tokens(here: World):
    await here.register("drive", "DriveOauth2")
    before = await here.given("drive", M2M)
    changed = {"includedOauth2ProviderConfig": {"clientId": "client-2", "clientSecret": "s"}}
    await here.providers.update_oauth2_credential_provider(
        {"name": "drive", "credentialProviderVendor": "DriveOauth2", "oauth2ProviderConfigInput": changed}
    )
    assert await here.given("drive", M2M) != before


async def test_the_record_of_a_machine_token_names_no_grant(here: World):
    await here.register("drive", "DriveOauth2")
    here.vendor.answer = {"scope": "read"}
    vended = await here.ask("drive", M2M, scopes=["read", "write"], workloadIdentityToken=here.token(None))
    assert isinstance(vended, Vended)
    assert (vended.details["user"], vended.details["flow"]) == (None, M2M)
    assert (vended.details["scopes"], vended.details["granted"]) == (["read", "write"], ["read"])
    assert vended.details["expiresAt"] == at(here.clock.now + 3600)
    assert "grant" not in vended.details


# --- On behalf of the user who called ---


async def test_an_exchange_needs_a_token_of_the_user(here: World):
    await here.register("drive", "DriveOauth2")
    with pytest.raises(ValidationFailed, match="carries no token of a user"):
        await here.ask("drive", OBO)


async def test_a_provider_that_says_nothing_of_exchanges_has_none(here: World):
    await here.register("other", "CustomOauth2")
    with pytest.raises(ValidationFailed, match="needs onBehalfOfTokenExchangeConfig, which other has not"):
        await here.on_behalf("other")


async def test_an_exchange_is_done_as_the_vendor_is_known_to(here: World):
    await here.register("drive", "DriveOauth2")
    assert await here.on_behalf("drive", scopes=["read"]) == "token-1"
    assert here.vendor.asked == [
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": INBOUND,
            "scope": "read",
            "requested_token_use": "on_behalf_of",
        }
    ]


async def test_an_exchange_is_done_as_it_was_registered(here: World):
    await here.register("other", "CustomOauth2", **EXCHANGED)
    await here.on_behalf("other", audiences=["https://api.example"], customParameters={"hint": "x"})
    assert here.vendor.asked == [
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": INBOUND,
            "subject_token_type": JWT_TYPE,
            "audience": "https://api.example",
            "hint": "x",
        }
    ]
    assert (here.vendor.authorizations[0] or "").startswith("Basic ")


async def test_the_type_of_the_users_token_may_be_named(here: World):
    await here.register("other", "CustomOauth2", **EXCHANGED)
    kind = "urn:ietf:params:oauth:token-type:access_token"
    await here.on_behalf("other", customParameters={"subject_token_type": kind})
    assert here.vendor.asked[0]["subject_token_type"] == kind


async def test_an_exchange_with_no_client_does_not_authenticate(here: World):
    asked = {
        "grantType": "TOKEN_EXCHANGE",
        "onBehalfOfAuthenticationConfig": {"clientAuthenticationMethod": "NO_CLIENT"},
    }
    await here.register("other", "CustomOauth2", onBehalfOfTokenExchangeConfig=asked)
    await here.on_behalf("other")
    assert here.vendor.authorizations == [None]
    assert "client_id" not in here.vendor.asked[0]


async def test_the_agents_own_token_is_the_actor_where_it_was_registered_so(here: World):
    actor = {"actorTokenContent": "M2M", "actorTokenScopes": ["act"]}
    asked = {"grantType": "TOKEN_EXCHANGE", "tokenExchangeGrantTypeConfig": actor}
    await here.register("other", "CustomOauth2", onBehalfOfTokenExchangeConfig=asked)
    assert await here.on_behalf("other") == "token-2"
    machine, exchange = here.vendor.asked
    assert (machine["grant_type"], machine["scope"]) == ("client_credentials", "act")
    assert exchange["actor_token"] == "token-1"
    assert exchange["actor_token_type"] == "urn:ietf:params:oauth:token-type:access_token"


async def test_an_exchanged_token_is_kept_for_this_user_token_only(here: World):
    await here.register("drive", "DriveOauth2")
    given = [await here.on_behalf("drive") for _ in range(2)]
    given.append(await here.on_behalf("drive", workloadIdentityToken=here.token(inbound="a.newer.jwt")))
    bob = here.token(replace(ADA, subject="bob"), inbound=INBOUND)
    given.append(await here.on_behalf("drive", workloadIdentityToken=bob))
    assert given == ["token-1", "token-1", "token-2", "token-3"]


async def test_an_exchange_that_the_vendor_refuses_is_told_in_its_words(here: World):
    await here.register("drive", "DriveOauth2")
    here.vendor.status, here.vendor.answer = 400, {"error": "invalid_grant", "error_description": f"expired: {INBOUND}"}
    with pytest.raises(ValidationFailed, match="Sample Drive refused the request: invalid_grant") as raised:
        await here.on_behalf("drive")
    assert INBOUND not in raised.value.message


# --- API keys, and the end of a consent ---


async def test_an_api_key_is_the_providers_whoever_the_user_is(here: World):
    await here.providers.create_api_key_credential_provider({"name": "weather", "apiKey": "key-1"})
    asked = {"workloadIdentityToken": here.token(NAMED), "resourceCredentialProviderName": "weather"}
    vended = await here.outbound.get_resource_api_key(asked)
    assert vended.output == {"apiKey": "key-1"}
    assert (vended.details["user"], vended.details["flow"]) == (["id", "ada"], "API_KEY")
    assert "key-1" not in repr(vended)


async def test_an_oauth2_provider_has_no_api_key(here: World):
    await here.register("drive", "DriveOauth2")
    asked = {"workloadIdentityToken": here.token(), "resourceCredentialProviderName": "drive"}
    with pytest.raises(NotFound):
        await here.outbound.get_resource_api_key(asked)


@pytest.mark.parametrize("who", [{"userToken": "forged"}, {"userToken": "user:bob"}, {"userId": "ada"}])
async def test_a_consent_is_not_completed_for_somebody_else(here: World, who: dict[str, str]):
    await here.register("drive", "DriveOauth2")
    waiting = await here.ask("drive")
    await here.agree(waiting)
    with pytest.raises(AccessDenied, match=r"^Invalid or expired session$"):
        await here.outbound.complete_resource_token_auth({"sessionUri": waiting["sessionUri"], "userIdentifier": who})
    assert (await grants(here), here.vendor.asked) == ([], [])


async def test_a_named_users_consent_is_completed_by_the_name(here: World):
    await here.register("drive", "DriveOauth2")
    token = here.token(NAMED)
    waiting = await here.ask("drive", workloadIdentityToken=token)
    await here.agree(waiting)
    await here.outbound.complete_resource_token_auth(
        {"sessionUri": waiting["sessionUri"], "userIdentifier": {"userId": "ada"}}
    )
    assert await here.given("drive", workloadIdentityToken=token) == "token-1"


async def test_who_completes_a_consent_is_recorded_with_whose_it_is_and_what_for(here: World):
    await here.register("drive", "DriveOauth2")
    waiting = await here.ask("drive", workloadIdentityToken=here.token(NAMED))
    await here.agree(waiting)
    found = await here.outbound.complete_resource_token_auth(
        {"sessionUri": waiting["sessionUri"], "userIdentifier": {"userId": "ada"}}
    )
    assert (found.output, found.reason, found.details["user"]) == ({}, "completed", ["id", "ada"])
    assert found.details.keys() == {"user", "workload", "provider", "providerId", "scopes", "session"}
    assert waiting["sessionUri"] not in repr(found.details)
