"""The operations on credential providers, on a real database: what is kept, shown, replaced and gone."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from identity_gateway.catalog import Catalog
from identity_gateway.credential_providers import CredentialProviders, place_of
from identity_gateway.envelope import Envelope
from identity_gateway.errors import Conflict, NotFound, Unavailable, ValidationFailed
from identity_gateway.model import CredentialProvider, Grant, Tag
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock
from tests.fakes.external_secrets import keep
from tests.unit.served import AWS

ACCOUNT = "000000000000"
OPERATIONS = AWS.operations
ARN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:token-vault/default/"
SECRET_ARN = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:"
REFERENCE = {"secretId": "team/vendor", "jsonKey": "secret"}


def slack(name: str = "slack", **members: Any) -> dict[str, Any]:
    """Return what Create and Update take for a vendor whose tokens have several parts and whose app has a secret more."""
    return {
        "name": name,
        "credentialProviderVendor": "SlackOauth2",
        "oauth2ProviderConfigInput": {
            "slackOauth2ProviderConfig": {"clientId": "id", "clientSecret": "hush"} | members
        },
    }


async def kept(records: SqlRecords, kind: type[Any] = CredentialProvider) -> list[Any]:
    async with records.read() as transaction:
        return await transaction.list(kind, account=ACCOUNT)


def grant(provider: CredentialProvider, number: int) -> Grant:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Grant(
        account=ACCOUNT, id=f"grant-{number}", lookup=f"lookup-{number}", workload="agent", user='["id","alice"]',
        provider=provider.name, provider_id=provider.id, part="default", scopes=(), granted_scopes=(), request={},
        state="active", reason="", vendor_account="", vendor_subject="", label="", generation=1, expires_at=None,
        refresh_expires_at=None, sealed=b"x", refresh_digest="", intent_owner=None, intent_at=None, intent_digest=None,
        failures=0, retry_at=None, obtained_at=now, created_at=now, updated_at=now,
    )  # fmt: skip


# --- Refusals ---


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
async def test_a_provider_that_does_not_exist_is_not_found(providers: CredentialProviders, operation: str):
    with pytest.raises(NotFound):
        await getattr(providers, f"{operation}_oauth2_credential_provider")(slack("nobody"))


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
async def test_an_api_key_provider_that_does_not_exist_is_not_found(providers: CredentialProviders, operation: str):
    with pytest.raises(NotFound):
        await getattr(providers, f"{operation}_api_key_credential_provider")({"name": "nobody", "apiKey": "k"})


async def test_a_name_is_given_once(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    with pytest.raises(Conflict):
        await providers.create_oauth2_credential_provider(slack())


async def test_a_vendor_that_is_not_in_the_catalog_is_refused(providers: CredentialProviders):
    with pytest.raises(ValidationFailed) as caught:
        await providers.create_oauth2_credential_provider(slack() | {"credentialProviderVendor": "NobodyOauth2"})
    assert caught.value.fields[0].name == "credentialProviderVendor"


async def test_a_provider_does_not_change_its_vendor(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    other = {"googleOauth2ProviderConfig": {"clientId": "id", "clientSecret": "hush"}}
    with pytest.raises(ValidationFailed) as caught:
        await providers.update_oauth2_credential_provider(
            {"name": "slack", "credentialProviderVendor": "GoogleOauth2", "oauth2ProviderConfigInput": other}
        )
    assert caught.value.fields[0].name == "credentialProviderVendor"


async def test_an_update_without_the_secret_is_refused(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    with pytest.raises(ValidationFailed):
        await providers.update_oauth2_credential_provider(slack(clientSecret=""))


@pytest.mark.parametrize(
    "asked", [{}, {"apiKey": ""}, {"apiKeySecretSource": "EXTERNAL"}, {"apiKeySecretConfig": REFERENCE}]
)
async def test_an_api_key_stands_in_one_place(providers: CredentialProviders, asked: dict[str, Any]):
    with pytest.raises(ValidationFailed):
        await providers.create_api_key_credential_provider({"name": "key"} | asked)


async def test_a_page_token_of_the_other_list_is_refused(providers: CredentialProviders):
    for name in ("a", "b"):
        await providers.create_oauth2_credential_provider(slack(name))
    token = (await providers.list_oauth2_credential_providers({"maxResults": 1}))["nextToken"]
    with pytest.raises(ValidationFailed):
        await providers.list_api_key_credential_providers({"nextToken": token})


# --- Answers ---


async def test_what_was_created_is_shown_without_its_secret(providers: CredentialProviders):
    made = await providers.create_oauth2_credential_provider(slack() | {"tags": {"team": "blue"}})
    assert made.pop("callbackUrl").startswith("https://gateway.example/identities/oauth2/callback/")
    assert made.pop("oauth2ProviderConfigOutput")["slackOauth2ProviderConfig"]["clientId"] == "id"
    assert made == {
        "name": "slack",
        "credentialProviderArn": ARN + "oauth2credentialprovider/slack",
        "clientSecretArn": {"secretArn": SECRET_ARN + "bedrock-agentcore-identity!default/oauth2/slack"},
        "clientSecretJsonKey": None,
        "clientSecretSource": "MANAGED",
        "status": "READY",
    }


async def test_no_answer_holds_a_secret(providers: CredentialProviders):
    answers = [
        await providers.create_oauth2_credential_provider(slack()),
        await providers.update_oauth2_credential_provider(slack()),
        await providers.get_oauth2_credential_provider({"name": "slack"}),
        await providers.list_oauth2_credential_providers({}),
        await providers.create_api_key_credential_provider({"name": "key", "apiKey": "hush"}),
        await providers.update_api_key_credential_provider({"name": "key", "apiKey": "hush"}),
        await providers.get_api_key_credential_provider({"name": "key"}),
        await providers.list_api_key_credential_providers({}),
    ]
    assert "hush" not in repr(answers)


async def test_every_answer_is_what_the_model_promises(providers: CredentialProviders):
    answers = {
        "CreateOauth2CredentialProvider": await providers.create_oauth2_credential_provider(slack()),
        "UpdateOauth2CredentialProvider": await providers.update_oauth2_credential_provider(slack()),
        "GetOauth2CredentialProvider": await providers.get_oauth2_credential_provider({"name": "slack"}),
        "ListOauth2CredentialProviders": await providers.list_oauth2_credential_providers({}),
        "CreateApiKeyCredentialProvider": await providers.create_api_key_credential_provider(
            {"name": "key", "apiKey": "k"}
        ),
        "UpdateApiKeyCredentialProvider": await providers.update_api_key_credential_provider(
            {"name": "key", "apiKey": "k"}
        ),
        "GetApiKeyCredentialProvider": await providers.get_api_key_credential_provider({"name": "key"}),
        "ListApiKeyCredentialProviders": await providers.list_api_key_credential_providers({}),
        "DeleteOauth2CredentialProvider": await providers.delete_oauth2_credential_provider({"name": "slack"}),
        "DeleteApiKeyCredentialProvider": await providers.delete_api_key_credential_provider({"name": "key"}),
    }
    statuses = [OPERATIONS[name].serialise_output(answer)[0] for name, answer in answers.items()]
    assert statuses == [201, 200, 200, 200, 201, 200, 200, 200, 204, 204]


async def test_a_secret_that_stands_elsewhere_is_shown_where_it_stands(providers: CredentialProviders):
    external = {"clientSecret": "", "clientSecretSource": "EXTERNAL", "clientSecretConfig": REFERENCE}
    made = await providers.create_oauth2_credential_provider(slack(**external))
    shown = made["clientSecretArn"], made["clientSecretJsonKey"], made["clientSecretSource"]
    assert shown == ({"secretArn": SECRET_ARN + "team/vendor"}, "secret", "EXTERNAL")


async def test_an_arn_is_shown_as_it_was_given(providers: CredentialProviders):
    reference = REFERENCE | {"secretId": "arn:aws:secretsmanager:eu-west-1:111111111111:secret:x-AbCdEf"}
    made = await providers.create_api_key_credential_provider(
        {"name": "key", "apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": reference}
    )
    assert made["apiKeySecretArn"] == {"secretArn": reference["secretId"]}


async def test_every_provider_has_a_callback_url_of_its_own(providers: CredentialProviders):
    made = [await providers.create_oauth2_credential_provider(slack(name)) for name in ("a", "b")]
    assert made[0]["callbackUrl"] != made[1]["callbackUrl"]


async def test_a_namesake_of_a_deleted_provider_is_another_one(providers: CredentialProviders):
    before = await providers.create_oauth2_credential_provider(slack())
    await providers.delete_oauth2_credential_provider({"name": "slack"})
    after = await providers.create_oauth2_credential_provider(slack())
    assert before["callbackUrl"] != after["callbackUrl"]


async def test_an_update_replaces_the_configuration_and_keeps_the_callback_url(
    providers: CredentialProviders, clock: Clock
):
    made = await providers.create_oauth2_credential_provider(slack())
    clock.now += 60
    changed = await providers.update_oauth2_credential_provider(slack(clientId="other", clientSecret="new"))
    assert changed["callbackUrl"] == made["callbackUrl"]
    assert changed["lastUpdatedTime"].timestamp() - changed["createdTime"].timestamp() == 60
    client = await providers.client_of(await providers.oauth2("slack"))
    assert (client.id, client.secret.reveal()) == ("other", "new")


async def test_updates_at_once_all_come_through(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    await asyncio.gather(
        *(providers.update_oauth2_credential_provider(slack(clientId=f"id-{number}")) for number in range(5))
    )
    assert (await providers.oauth2("slack")).revision == 6


async def test_a_list_is_in_the_order_of_the_names_and_in_pages(providers: CredentialProviders):
    for name in ("c", "a", "b", "B"):
        await providers.create_oauth2_credential_provider(slack(name))
    await providers.create_api_key_credential_provider({"name": "aa", "apiKey": "k"})
    first = await providers.list_oauth2_credential_providers({"maxResults": 3})
    rest = await providers.list_oauth2_credential_providers({"nextToken": first["nextToken"]})
    pages = [[row["name"] for row in page["credentialProviders"]] for page in (first, rest)]
    assert (pages, rest["nextToken"]) == ([["B", "a", "b"], ["c"]], None)


async def test_the_kinds_do_not_share_their_names(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack("both"))
    await providers.create_api_key_credential_provider({"name": "both", "apiKey": "k"})
    await providers.delete_api_key_credential_provider({"name": "both"})
    assert (await providers.oauth2("both")).vendor == "SlackOauth2"


# --- What goes with a provider ---


async def test_a_deleted_provider_takes_its_grants_and_tags_and_no_others(
    providers: CredentialProviders, records: SqlRecords
):
    for name in ("mine", "theirs"):
        await providers.create_oauth2_credential_provider(slack(name) | {"tags": {"team": name}})
    mine, theirs = [await providers.oauth2(name) for name in ("mine", "theirs")]
    async with records.write() as transaction:
        await transaction.create(grant(mine, 1), grant(mine, 2), grant(theirs, 3))
    await providers.delete_oauth2_credential_provider({"name": "mine"})
    assert [each.id for each in await kept(records, Grant)] == ["grant-3"]
    assert [each.value for each in await kept(records, Tag)] == ["theirs"]


async def test_a_provider_is_found_by_its_id_until_it_is_deleted(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    found = await providers.oauth2("slack")
    assert await providers.by_id(found.id) == found
    await providers.delete_oauth2_credential_provider({"name": "slack"})
    assert await providers.by_id(found.id) is None


# --- Secrets at rest ---


async def test_no_row_holds_a_secret(providers: CredentialProviders, records: SqlRecords):
    await providers.create_oauth2_credential_provider(slack(clientSecret="very-hush"))
    await providers.set_secrets("slack", {"signing_secret": "hush-too"})
    await providers.create_api_key_credential_provider({"name": "key", "apiKey": "hush-as-well"})
    rows = repr([(row, row.sealed_secrets) for row in await kept(records)])
    assert not any(secret in rows for secret in ("very-hush", "hush-too", "hush-as-well"))


async def test_the_secrets_of_one_record_do_not_open_in_another(providers: CredentialProviders, records: SqlRecords):
    for name in ("mine", "theirs"):
        await providers.create_oauth2_credential_provider(slack(name, clientSecret=name))
    mine, theirs = [await providers.oauth2(name) for name in ("mine", "theirs")]
    async with records.write() as transaction:
        await transaction.update(replace(mine, sealed_secrets=theirs.sealed_secrets))
    with pytest.raises(Unavailable):
        await providers.client_of(await providers.oauth2("mine"))


async def test_secrets_are_sealed_for_the_place_that_is_told(providers: CredentialProviders, envelope: Envelope):
    await providers.create_api_key_credential_provider({"name": "key", "apiKey": "hush"})
    found, _ = await providers.api_key("key")
    assert json.loads(await envelope.open(found.sealed_secrets, place=place_of(found))) == {"api_key": "hush"}


@pytest.fixture
async def lost(providers: CredentialProviders, records: SqlRecords) -> None:
    """Providers whose secrets went with the key of the token vault."""
    await providers.create_oauth2_credential_provider(slack())
    await providers.create_api_key_credential_provider({"name": "key", "apiKey": "hush"})
    for row in await kept(records):
        async with records.write() as transaction:
            await transaction.update(replace(row, sealed_secrets=b""))


async def test_lost_secrets_are_refused_in_plain_words(providers: CredentialProviders, lost: None):
    for use in (providers.client_of(await providers.oauth2("slack")), providers.api_key("key")):
        with pytest.raises(ValidationFailed, match="lost with the key of the token vault"):
            await use


async def test_an_update_heals_a_provider_whose_secrets_were_lost(providers: CredentialProviders, lost: None):
    await providers.update_oauth2_credential_provider(slack(clientSecret="new"))
    await providers.update_api_key_credential_provider({"name": "key", "apiKey": "other"})
    client = await providers.client_of(await providers.oauth2("slack"))
    assert (client.secret.reveal(), (await providers.api_key("key"))[1].reveal()) == ("new", "other")


async def test_an_update_heals_a_provider_whose_secrets_do_not_open(
    providers: CredentialProviders, records: SqlRecords
):
    await providers.create_oauth2_credential_provider(slack())
    found = await providers.oauth2("slack")
    async with records.write() as transaction:
        await transaction.update(replace(found, sealed_secrets=b"\x01damaged"))
    await providers.update_oauth2_credential_provider(slack(clientSecret="new"))
    assert (await providers.client_of(await providers.oauth2("slack"))).secret.reveal() == "new"


# --- Secrets that stay with their owner ---

EXTERNAL_KEY = {"name": "key", "apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": REFERENCE}


async def test_a_secret_that_its_owner_did_not_keep_is_refused_when_it_is_used(providers: CredentialProviders):
    await providers.create_api_key_credential_provider(EXTERNAL_KEY)
    with pytest.raises(ValidationFailed, match="does not exist in AWS Secrets Manager"):
        await providers.api_key("key")


async def test_a_secret_is_read_from_its_owner_when_it_is_used(providers: CredentialProviders, owner: Any):
    external = {"clientSecret": "", "clientSecretSource": "EXTERNAL", "clientSecretConfig": REFERENCE}
    await providers.create_oauth2_credential_provider(slack(**external))
    await providers.create_api_key_credential_provider(EXTERNAL_KEY)
    keep(owner, {"secret": "theirs"}, "team/vendor")
    client = await providers.client_of(await providers.oauth2("slack"))
    assert (client.secret.reveal(), (await providers.api_key("key"))[1].reveal()) == ("theirs", "theirs")


async def test_a_client_is_openable_while_its_secrets_are_remembered(
    providers: CredentialProviders, envelope: Envelope, owner: Any, clock: Clock
):
    keep(owner, {"secret": "theirs"}, "team/vendor")
    external = {"clientSecret": "", "clientSecretSource": "EXTERNAL", "clientSecretConfig": REFERENCE}
    await providers.create_oauth2_credential_provider(slack(**external))
    await providers.create_oauth2_credential_provider(slack("kept"))
    here, elsewhere = await providers.oauth2("kept"), await providers.oauth2("slack")
    openable = [providers.openable(here), providers.openable(elsewhere)]
    envelope.forget()
    said = [[each() for each in openable]]
    for provider in (here, elsewhere):
        await providers.client_of(provider)
    said.append([each() for each in openable])
    clock.now += 301
    said.append([each() for each in openable])
    assert said == [[False, False], [True, True], [False, False]]


async def test_a_secret_that_moved_to_its_owner_is_no_longer_kept(providers: CredentialProviders, records: SqlRecords):
    await providers.create_api_key_credential_provider({"name": "key", "apiKey": "hush"})
    await providers.update_api_key_credential_provider(EXTERNAL_KEY)
    (found,) = await kept(records)
    assert (found.sealed_secrets, found.settings["secrets"]) == (b"", [])


# --- Secrets and variables that AWS has no member for ---


@pytest.mark.parametrize("secrets", [{"client_secret": "x"}, {"private_key": "x"}, {"signing_secret": ""}])
async def test_a_secret_that_the_vendor_does_not_have_is_refused(
    providers: CredentialProviders, secrets: dict[str, str]
):
    await providers.create_oauth2_credential_provider(slack())
    with pytest.raises(ValidationFailed) as caught:
        await providers.set_secrets("slack", secrets)
    assert [field.name for field in caught.value.fields] == list(secrets)


async def test_a_key_that_cannot_sign_is_refused(providers: CredentialProviders, vendors: Catalog, ec_pem: str):
    github = {"githubOauth2ProviderConfig": {"clientId": "id", "clientSecret": "hush"}}
    await providers.create_oauth2_credential_provider(
        {"name": "github", "credentialProviderVendor": "GithubOauth2", "oauth2ProviderConfigInput": github}
    )
    for key in ("no key", ec_pem):
        with pytest.raises(ValidationFailed) as caught:
            await providers.set_secrets("github", {"app_private_key": key})
        assert key not in caught.value.message


async def test_secrets_beside_the_client_secret_outlive_an_update(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    await providers.set_secrets("slack", {"signing_secret": "signing"})
    await providers.update_oauth2_credential_provider(slack(clientSecret="new"))
    client = await providers.client_of(await providers.oauth2("slack"))
    assert (client.secret.reveal(), client.secrets["signing_secret"].reveal()) == ("new", "signing")


async def test_a_secret_can_be_taken_back(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    await providers.set_secrets("slack", {"signing_secret": "signing"})
    after = await providers.set_secrets("slack", {"signing_secret": None})
    assert after.settings["secrets"] == ["client_secret"]
    assert (await providers.client_of(after)).secret.reveal() == "hush"


async def test_setting_a_secret_is_a_new_revision(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    assert (await providers.set_secrets("slack", {"signing_secret": "signing"})).revision == 2


@pytest.mark.parametrize(
    "variables", [{"nobody": "x"}, {"domain": "evil.example"}, {"domain": ""}, {"domain": "slack.com\n"}]
)
async def test_a_variable_of_another_form_is_refused(providers: CredentialProviders, variables: dict[str, str]):
    await providers.create_oauth2_credential_provider(slack())
    with pytest.raises(ValidationFailed) as caught:
        await providers.set_variables("slack", variables)
    assert [field.name for field in caught.value.fields] == list(variables)


async def test_a_variable_outlives_an_update_and_is_known_to_the_client(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    await providers.set_variables("slack", {"domain": "slack-gov.com"})
    await providers.update_oauth2_credential_provider(slack())
    assert (await providers.client_of(await providers.oauth2("slack"))).variables["domain"] == "slack-gov.com"


async def test_a_variable_that_was_taken_back_has_its_default_again(providers: CredentialProviders):
    await providers.create_oauth2_credential_provider(slack())
    await providers.set_variables("slack", {"domain": "slack-gov.com"})
    after = await providers.set_variables("slack", {"domain": None})
    assert (await providers.client_of(after)).variables["domain"] == "slack.com"
