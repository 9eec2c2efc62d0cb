"""Grants that users gave through the pages of the gateway: listed, shown and revoked by boto3 with the own model."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from identity_gateway.protocol.aws.model import OUR_MODELS
from tests.conformance.control_plane import CONTROL, DATA, refusal, refused, status
from tests.fakes.consenting_vendor import ConsentingVendor, consented
from tests.gateways import RunningGateway, fresh_name

SERVICE = "identity-gateway"


@pytest.fixture(scope="module", autouse=True)
def _our_model() -> Iterator[None]:
    """Let boto3 find the model, as the environment variable AWS_DATA_PATH does for its users."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_DATA_PATH", OUR_MODELS)
        yield


@pytest.fixture
def control(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> Any:
    """A client of the gateway's own operations. (What belongs to AWS is `aws`.)"""
    return client_of(each_gateway, SERVICE)


@pytest.fixture
def aws(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> tuple[Any, Any]:
    return client_of(each_gateway, CONTROL), client_of(each_gateway, DATA)


@pytest.fixture
def vendor() -> Iterator[ConsentingVendor]:
    with ConsentingVendor() as running:
        yield running


Consent = Callable[..., dict[str, Any]]


@pytest.fixture
def consent(control: Any, aws: tuple[Any, Any], vendor: ConsentingVendor) -> Consent:
    """Have a user of an agent consent, and return the grant. The provider and the agent are this test's alone."""
    provider, workload = fresh_name("provider"), fresh_name("workload")
    aws[0].create_oauth2_credential_provider(
        name=provider, credentialProviderVendor="CustomOauth2", oauth2ProviderConfigInput=vendor.configuration
    )

    def make(user: str = "ada", agent: str = "") -> dict[str, Any]:
        name = workload + agent
        consented(*aws, vendor, workload=name, provider=provider, user=user)
        (found,) = control.list_grants(workloadName=name, userId=user)["grants"]
        return dict(found)

    return make


# --- Refused ---


def test_a_grant_that_there_is_not_is_not_found(control: Any):
    for call in (control.get_grant, control.revoke_grant):
        assert refused(call, grantId="0" * 32) == (404, "ResourceNotFoundException")


def test_half_a_user_is_refused_with_the_field_that_is_missing(control: Any):
    response = refusal(control.list_grants, userIssuer="https://issuer.example")
    assert response["Error"]["Code"] == "ValidationException"
    assert [each["name"] for each in response["fieldList"]] == ["userSubject"]


def test_a_provider_that_there_is_not_has_no_grants(control: Any):
    assert refused(control.list_grants, providerName="nowhere") == (404, "ResourceNotFoundException")


def test_a_key_without_rights_may_neither_look_nor_revoke(each_gateway: RunningGateway):
    made = each_gateway.command("access-key", "create", "--name", fresh_name("key"), "--json")
    key = json.loads(made.stdout)
    client = each_gateway.client(SERVICE, key=(key["accessKeyId"], key["secretAccessKey"]))
    for call in (client.list_grants, lambda: client.revoke_grant(grantId="0" * 32)):
        assert refused(call) == (403, "AccessDeniedException")


# --- Served ---


def test_a_grant_says_whose_it_is_and_shows_no_token(control: Any, consent: Consent, vendor: ConsentingVendor):
    grant = consent()
    shown = control.get_grant(grantId=grant["grantId"])["grant"]
    assert shown == grant
    assert (shown["user"], shown["state"], shown["scopes"]) == ({"userId": "ada"}, "ACTIVE", ["parcels"])
    assert not any(token in repr(shown) for token in vendor.living)


def test_pages_and_filters_find_every_grant_once(control: Any, consent: Consent):
    made = [consent(user) for user in ("ada", "bob", "eve")]
    found: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = control.list_grants(providerName=made[0]["providerName"], maxResults=2, **more)
        found += [each["grantId"] for each in page["grants"]]
        if "nextToken" not in page:
            break
        more = {"nextToken": page["nextToken"]}
    assert sorted(found) == sorted(each["grantId"] for each in made)
    assert control.list_grants(providerName=made[0]["providerName"], state="REVOKED")["grants"] == []


def test_a_revoked_grant_is_dead_at_the_vendor_and_here(control: Any, consent: Consent, vendor: ConsentingVendor):
    grant = consent()
    answer = control.revoke_grant(grantId=grant["grantId"])
    assert status(answer) == 200
    assert answer["vendorRevocation"] == {"status": "VERIFIED", "effect": "grant"}
    assert (answer["grant"]["state"], answer["grant"]["reason"]) == ("REVOKED", "revoked_verified")
    assert vendor.living == set()


def test_an_agent_whose_grant_was_revoked_is_sent_to_the_user_again(
    control: Any, aws: tuple[Any, Any], consent: Consent, vendor: ConsentingVendor
):
    grant = consent()
    control.revoke_grant(grantId=grant["grantId"])
    access = aws[1].get_workload_access_token_for_user_id(workloadName=grant["workloadName"], userId="ada")
    answer = aws[1].get_resource_oauth2_token(
        workloadIdentityToken=access["workloadAccessToken"],
        resourceCredentialProviderName=grant["providerName"],
        scopes=["parcels"],
        oauth2Flow="USER_FEDERATION",
        resourceOauth2ReturnUrl=f"{vendor.url}/return",
    )
    assert "authorizationUrl" in answer
    assert "accessToken" not in answer


def test_a_vendor_that_is_down_is_told_again_by_a_second_revocation(
    control: Any, consent: Consent, vendor: ConsentingVendor
):
    grant, vendor.down = consent(), True
    said = control.revoke_grant(grantId=grant["grantId"])
    assert said["grant"]["state"] == "REVOKED"
    outcome = said["vendorRevocation"]
    assert (outcome["status"], outcome["errorCode"], outcome["errorDescription"]) == (
        "FAILED",
        "temporarily_unavailable",
        "maintenance until noon",
    )
    vendor.down = False
    assert control.revoke_grant(grantId=grant["grantId"])["vendorRevocation"]["status"] == "VERIFIED"
    assert vendor.living == set()


def test_grants_of_other_users_outlive_a_revocation(control: Any, consent: Consent):
    mine, other = consent("ada"), consent("bob")
    control.revoke_grant(grantId=mine["grantId"])
    assert control.get_grant(grantId=other["grantId"])["grant"]["state"] == "ACTIVE"


def test_answers_hold_what_the_model_promises(control: Any, consent: Consent):
    grant = consent()
    shape = control.meta.service_model.shape_for("Grant")
    assert set(shape.required_members) <= set(grant) <= set(shape.members)
