"""`identity-gateway grants`: what a person and a script see, beside a gateway that runs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.consenting_vendor import ConsentingVendor, consented
from tests.gateways import RunningGateway, fresh_name


@pytest.fixture
def vendor() -> Iterator[ConsentingVendor]:
    with ConsentingVendor() as running:
        yield running


@pytest.fixture
def provider(gateway: RunningGateway, vendor: ConsentingVendor) -> str:
    name = fresh_name("provider")
    gateway.control.create_oauth2_credential_provider(
        name=name, credentialProviderVendor="CustomOauth2", oauth2ProviderConfigInput=vendor.configuration
    )
    return name


def consent(gateway: RunningGateway, vendor: ConsentingVendor, provider: str, user: str = "ada") -> tuple[str, str]:
    """Return the name of the agent and the access token that it was given."""
    workload = fresh_name("workload")
    token = consented(gateway.control, gateway.data, vendor, workload=workload, provider=provider, user=user)
    return workload, token


def listed(gateway: RunningGateway, *filters: str) -> list[dict[str, Any]]:
    done = gateway.command("grants", "list", *filters, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke", "0" * 32], "There is no grant"),
        (["list", "--provider", "nowhere"], "nowhere"),
        (["list", "--state", "bogus"], "state is none of"),
        (["list", "--issuer", "https://issuer.example"], "userSubject goes with userIssuer"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_code_1(gateway: RunningGateway, arguments: list[str], said: str):
    done = gateway.command("grants", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_grants_are_listed_by_user_agent_provider_and_state(
    gateway: RunningGateway, vendor: ConsentingVendor, provider: str
):
    mine, token = consent(gateway, vendor, provider)
    consent(gateway, vendor, provider, user="bob")
    assert len(listed(gateway, "--provider", provider)) == 2
    (found,) = listed(gateway, "--provider", provider, "--user", "ada", "--state", "active")
    assert (found["workloadName"], found["createdTime"][10]) == (mine, "T")
    assert [each["grantId"] for each in listed(gateway, "--agent", mine)] == [found["grantId"]]
    assert listed(gateway, "--agent", mine, "--issuer", "https://issuer.example", "--subject", "ada") == []
    shown = gateway.command("grants", "list", "--provider", provider).stdout
    assert found["grantId"] in shown
    assert token not in shown + json.dumps(found)


def test_a_grant_is_revoked_at_the_vendor_first(gateway: RunningGateway, vendor: ConsentingVendor, provider: str):
    consent(gateway, vendor, provider)
    (grant,) = listed(gateway, "--provider", provider)
    done = gateway.command("grants", "revoke", grant["grantId"])
    assert (done.returncode, done.stdout) == (
        0,
        f"{grant['grantId']} REVOKED; at the vendor: VERIFIED (effect grant)\n",
    )
    assert vendor.living == set()


def test_a_vendor_that_is_down_is_exit_code_1_until_it_is_told(
    gateway: RunningGateway, vendor: ConsentingVendor, provider: str
):
    consent(gateway, vendor, provider)
    (grant,) = listed(gateway, "--provider", provider)
    vendor.down = True
    failed = gateway.command("grants", "revoke", grant["grantId"], "--json")
    said = json.loads(failed.stdout)
    assert (failed.returncode, said["grant"]["state"]) == (1, "REVOKED")
    assert said["vendorRevocation"]["errorDescription"] == "maintenance until noon"
    vendor.down = False
    assert gateway.command("grants", "revoke", grant["grantId"]).returncode == 0
    assert vendor.living == set()
