"""What a vendor may be told beyond AWS's configuration: set whole or not at all, and never shown when it is secret."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from identity_gateway.protocol.aws.model import OUR_MODELS
from tests.conformance.control_plane import CONTROL, refusal, refused
from tests.gateways import RunningGateway, fresh_name


@pytest.fixture(scope="module", autouse=True)
def _our_model() -> Iterator[None]:
    """Let boto3 find the model, as the environment variable AWS_DATA_PATH does for its users."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_DATA_PATH", OUR_MODELS)
        yield


@pytest.fixture
def control(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> Any:
    return client_of(each_gateway, "identity-gateway")


@pytest.fixture
def name(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> str:
    made = fresh_name("slack")
    client_of(each_gateway, CONTROL).create_oauth2_credential_provider(
        name=made,
        credentialProviderVendor="SlackOauth2",
        oauth2ProviderConfigInput={"slackOauth2ProviderConfig": {"clientId": "c", "clientSecret": "s" * 20}},
    )
    return made


def test_a_provider_that_there_is_not_has_no_settings(control: Any):
    assert refused(control.get_provider_settings, name="nowhere") == (404, "ResourceNotFoundException")
    assert refused(control.put_provider_settings, name="nowhere", secrets={"signing_secret": "x"}) == (
        404,
        "ResourceNotFoundException",
    )


def test_every_wrong_name_and_value_is_told_at_once(control: Any, name: str):
    response = refusal(
        control.put_provider_settings,
        name=name,
        variables={"domain": "evil.example", "color": "red"},
        secrets={"signing": "x"},
    )
    assert response["Error"]["Code"] == "ValidationException"
    assert sorted(each["name"] for each in response["fieldList"]) == ["color", "domain", "signing"]


@pytest.mark.parametrize(
    "asked",
    [
        {"variables": {"domain": "slack-gov.com"}, "secrets": {"signing": "x"}},
        {"variables": {"domain": "evil.example"}, "secrets": {"signing_secret": "x"}},
    ],
)
def test_settings_of_which_one_is_wrong_change_nothing(control: Any, name: str, asked: dict[str, Any]):
    before = control.get_provider_settings(name=name)
    assert refused(control.put_provider_settings, name=name, **asked) == (400, "ValidationException")
    after = control.get_provider_settings(name=name)
    assert [after[each] for each in ("variables", "secretsSet")] == [
        before[each] for each in ("variables", "secretsSet")
    ]


def test_settings_are_set_together_and_a_secret_is_never_shown(control: Any, name: str):
    answer = control.put_provider_settings(
        name=name, variables={"domain": "slack-gov.com"}, secrets={"signing_secret": "hush-hush"}
    )
    assert (answer["variables"], answer["secretsSet"], answer["secretsUnset"]) == (
        {"domain": "slack-gov.com"},
        ["signing_secret"],
        [],
    )
    assert "hush-hush" not in repr((answer, control.get_provider_settings(name=name)))


def test_what_is_not_named_stays(control: Any, name: str):
    control.put_provider_settings(name=name, secrets={"signing_secret": "hush-hush"})
    answer = control.put_provider_settings(name=name, variables={"domain": "slack-gov.com"})
    assert answer["secretsSet"] == ["signing_secret"]


def test_the_urls_to_give_to_the_vendor_are_told(control: Any, each_gateway: RunningGateway, name: str):
    answer = control.get_provider_settings(name=name)
    provider_id = answer["callbackUrl"].rpartition("/")[2]
    assert answer["callbackUrl"] == f"{each_gateway.url}/identities/oauth2/callback/{provider_id}"
    assert answer["webhookUrl"] == f"{each_gateway.url}/identities/webhooks/{provider_id}"
