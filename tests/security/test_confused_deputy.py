"""Nobody uses another team's secret or key through the gateway, whose own AWS role reads and signs with all of them."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from identity_gateway.access_keys import AccessKeys
from identity_gateway.admission import Admission, Attempt
from identity_gateway.api.operations import SERVED
from identity_gateway.audit import Audit
from identity_gateway.errors import AccessDenied
from identity_gateway.model import AuditRecord, Document, IamPrincipal, Realm
from identity_gateway.protocol.policy import check
from identity_gateway.records.sql import SqlRecords, open_records
from identity_gateway.sealing import Sealer
from tests.fakes.clock import Clock
from tests.fakes.policies import authorization_of
from tests.fakes.signing_keys import signatures_of
from tests.gateways import RunningGateway, fresh_name

REALM = Realm("000000000000", "us-east-1")
OURS = "arn:aws:secretsmanager:us-east-1:000000000000:secret:team-b/"
THEIRS = "arn:aws:secretsmanager:us-east-1:000000000000:secret:team-a/production"
OUR_KEY = "arn:aws:kms:us-east-1:000000000000:key/bbbbbbbb-0000-0000-0000-000000000000"
THEIR_KEY = "arn:aws:kms:us-east-1:000000000000:key/aaaaaaaa-0000-0000-0000-000000000000"
OWN = {"Effect": "Allow", "Action": "bedrock-agentcore:*", "Resource": "*"}
READS_OURS = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": f"{OURS}*"}
SIGNS_WITH_OURS = {"Effect": "Allow", "Action": ["kms:Sign", "kms:Encrypt", "kms:Decrypt"], "Resource": OUR_KEY}
TEAM_B = (OWN, READS_OURS, SIGNS_WITH_OURS)


def key_of(*statements: Document, admin: bool = False) -> IamPrincipal:
    policy = {"Version": "2012-10-17", "Statement": list(statements)}
    return IamPrincipal(REALM.account, "AKIA", "team-b", admin, policy if statements else None)


def api_key(secret_id: str) -> Document:
    where = {"secretId": secret_id, "jsonKey": "password"}
    return {"name": "team-b-x", "apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": where}


def oauth2(**members: Any) -> Document:
    return {"name": "team-b-y", "oauth2ProviderConfigInput": {"customOauth2ProviderConfig": members}}


def external(secret_id: str) -> Document:
    where = {"secretId": secret_id, "jsonKey": "secret"}
    return oauth2(clientId="c", clientSecretSource="EXTERNAL", clientSecretConfig=where)


def signed_with(arn: str) -> Document:
    return oauth2(clientId="c", privateKeyJwtConfig={"privateKeySource": {"kmsKeySource": {"kmsKeyArn": arn}}})


def encrypted_with(arn: str) -> Document:
    return {"kmsConfiguration": {"keyType": "CustomerManagedKey", "kmsKeyArn": arn}}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[SqlRecords]:
    opened = await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    yield opened
    await opened.close()


@pytest.fixture
async def admission(records: SqlRecords, clock: Clock) -> AsyncIterator[Admission]:
    audit = Audit(records, REALM.account, clock=clock, retention=timedelta(days=7))
    keys = AccessKeys(records, Sealer([b"k" * 32], "access-keys"), REALM.account, clock=clock)
    yield Admission(signatures_of(keys, records, clock), authorization_of(records, clock), audit, clock=clock)
    await audit.close()


async def admit(admission: Admission, principal: IamPrincipal, operation: str, asked: Document) -> str:
    """Do what the front door does once it knows who asks."""
    served, attempt = SERVED[operation], Attempt(operation, "id-1", "203.0.113.7")
    resources = served.resources(None)  # type: ignore[arg-type]  # those of these operations need no story
    return await admission.authorize(attempt, principal, lambda: resources(REALM, asked), served.demands(REALM, asked))


async def kept(records: SqlRecords) -> list[AuditRecord]:
    async with records.read() as transaction:
        return await transaction.list(AuditRecord, account=REALM.account)


ATTACKS = {
    "an API key by name": ("ApiKeyCredentialProvider", api_key("team-a/production")),
    "an API key by ARN": ("ApiKeyCredentialProvider", api_key(f"{THEIRS}-AbCdEf")),
    "an API key of another account": (
        "ApiKeyCredentialProvider",
        api_key("arn:aws:secretsmanager:us-east-1:999999999999:secret:team-b/x-AbCdEf"),
    ),
    "a client secret by name": ("Oauth2CredentialProvider", external("team-a/production")),
    "a client secret by ARN": ("Oauth2CredentialProvider", external(f"{THEIRS}-AbCdEf")),
    "a signing key": ("Oauth2CredentialProvider", signed_with(THEIR_KEY)),
    "one key of two": (
        "Oauth2CredentialProvider",
        oauth2(
            clientSecretConfig={"secretId": "team-b/x", "jsonKey": "k"},
            privateKeyJwtConfig={"privateKeySource": {"kmsKeySource": {"kmsKeyArn": THEIR_KEY}}},
        ),
    ),
    "a reference that its source does not announce": (
        "ApiKeyCredentialProvider",
        {"name": "team-b-x", "apiKey": "k", "apiKeySecretConfig": {"secretId": "team-a/production", "jsonKey": "k"}},
    ),
}


@pytest.mark.parametrize("verb", ["Create", "Update"])
@pytest.mark.parametrize(("what", "asked"), ATTACKS.values(), ids=ATTACKS)
async def test_a_provider_does_not_borrow_what_its_maker_may_not_use(
    admission: Admission, verb: str, what: str, asked: Document
):
    with pytest.raises(AccessDenied):
        await admit(admission, key_of(*TEAM_B), verb + what, asked)


@pytest.mark.parametrize("allowed", [(), ("kms:Encrypt",), ("kms:Decrypt",)])
async def test_a_vault_is_not_encrypted_with_a_key_that_its_owner_may_not_use(
    admission: Admission, allowed: tuple[str, ...]
):
    statements = [{"Effect": "Allow", "Action": list(allowed), "Resource": THEIR_KEY}] if allowed else []
    with pytest.raises(AccessDenied, match=f"is not authorized to perform kms:.* on {THEIR_KEY}"):
        await admit(admission, key_of(OWN, *statements), "SetTokenVaultCMK", encrypted_with(THEIR_KEY))


async def test_a_key_without_a_policy_borrows_nothing(admission: Admission):
    with pytest.raises(AccessDenied):
        await admit(admission, key_of(), "CreateApiKeyCredentialProvider", api_key("team-b/x"))


@pytest.mark.parametrize("denied", [THEIRS, f"{THEIRS}-??????", f"{THEIRS}*"])
async def test_a_secret_that_is_denied_by_any_of_its_names_is_denied(admission: Admission, denied: str):
    deny = {"Effect": "Deny", "Action": "secretsmanager:*", "Resource": denied}
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    with pytest.raises(AccessDenied) as caught:
        await admit(admission, key_of(everything, deny), "CreateApiKeyCredentialProvider", api_key("team-a/production"))
    assert caught.value.reason == "explicitly denied: identity policy, Statement[1]"


async def test_what_was_demanded_in_vain_is_on_record(admission: Admission, records: SqlRecords):
    with pytest.raises(AccessDenied):
        await admit(admission, key_of(*TEAM_B), "CreateApiKeyCredentialProvider", api_key("team-a/production"))
    (record,) = await kept(records)
    assert (record.decision, record.action) == ("denied", "CreateApiKeyCredentialProvider")
    assert record.details == {"demanded": {"action": "secretsmanager:GetSecretValue", "resource": THEIRS}}


async def test_what_was_demanded_and_allowed_is_on_record(admission: Admission, records: SqlRecords):
    await admit(admission, key_of(*TEAM_B), "SetTokenVaultCMK", encrypted_with(OUR_KEY))
    (record,) = await kept(records)
    assert record.decision == "allowed"
    assert record.details == {
        "demanded": [{"action": f"kms:{action}", "resource": OUR_KEY} for action in ("Encrypt", "Decrypt")]
    }


OWN_THINGS = {
    "an API key by name": ("CreateApiKeyCredentialProvider", api_key("team-b/x")),
    "an API key by ARN": ("UpdateApiKeyCredentialProvider", api_key(f"{OURS}x-AbCdEf")),
    "a client secret": ("CreateOauth2CredentialProvider", external("team-b/x")),
    "a signing key": ("UpdateOauth2CredentialProvider", signed_with(OUR_KEY)),
    "a value that the gateway keeps": ("CreateApiKeyCredentialProvider", {"name": "team-b-x", "apiKey": "k"}),
    "a key of the gateway": ("SetTokenVaultCMK", {"kmsConfiguration": {"keyType": "ServiceManagedKey"}}),
}


@pytest.mark.parametrize(("operation", "asked"), OWN_THINGS.values(), ids=OWN_THINGS)
async def test_who_may_use_it_may_have_the_gateway_use_it(admission: Admission, operation: str, asked: Document):
    assert await admit(admission, key_of(*TEAM_B), operation, asked)


@pytest.mark.parametrize("written", [f"{OURS}x", f"{OURS}x-??????", f"{OURS}*"])
async def test_a_secret_may_be_allowed_by_any_of_its_names(admission: Admission, written: str):
    reads = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": written}
    assert await admit(admission, key_of(OWN, reads), "CreateApiKeyCredentialProvider", api_key("team-b/x"))


async def test_an_administrator_of_the_gateway_is_asked_for_nothing_more(admission: Admission):
    assert await admit(admission, key_of(admin=True), "CreateOauth2CredentialProvider", signed_with(THEIR_KEY))


def test_policies_may_speak_of_the_services_that_are_demanded():
    assert check({"Version": "2012-10-17", "Statement": list(TEAM_B)}) == []


def test_the_front_door_asks_for_the_demands(gateway: RunningGateway, tmp_path: Path):
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [OWN]}))
    made = gateway.command("access-key", "create", "--name", fresh_name("key"), "--policy", str(file), "--json")
    key = json.loads(made.stdout)
    control = gateway.client("bedrock-agentcore-control", key=(key["accessKeyId"], key["secretAccessKey"]))
    with pytest.raises(ClientError) as caught:
        control.create_api_key_credential_provider(**{**api_key("team-a/production"), "name": fresh_name("provider")})
    error = caught.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert error["Message"].endswith(f"is not authorized to perform secretsmanager:GetSecretValue on {THEIRS}.")
