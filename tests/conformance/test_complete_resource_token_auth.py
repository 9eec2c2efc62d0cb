"""CompleteResourceTokenAuth, with real boto3: only the user who began ends a consent, once.

The vendor is npm's oidc-provider. That a session ends after ten minutes is in the unit tests, which own a clock.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.callers import running_issuer, token_of, walk
from tests.conformance.control_plane import DATA, faults, outcomes, refusal, refused, status
from tests.conformance.test_resource_oauth2_token import BACK, asking, asks_the_user, for_jwt, for_user
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name
from tests.issuers import OidcProvider

DENIED = (403, "AccessDeniedException")
ADA = {"userId": "ada"}


@dataclass
class Awaited:
    """A consent that an agent waits for."""

    asked: dict[str, Any]
    session: str
    link: str

    def returned(self) -> "Awaited":
        """Have a person go to the vendor, consent, and come back."""
        walk(self.link, until="https://app.example/")
        return self

    def by(self, **user: str) -> dict[str, Any]:
        """Return what CompleteResourceTokenAuth is asked."""
        return {"sessionUri": self.session, "userIdentifier": user}


@pytest.fixture(scope="module")
def connected() -> dict[str, str]:
    """The provider that tests share, by gateway."""
    return {}


@pytest.fixture
def vendor(each_gateway: RunningGateway, control: Any, oidc_provider: OidcProvider, connected: dict[str, str]) -> str:
    if each_gateway.url not in connected:
        connected[each_gateway.url] = oidc_provider.connect(control, name=fresh_name("vendor"))["client_name"]
    return connected[each_gateway.url]


@pytest.fixture
def agent_name(control: Any) -> str:
    made = control.create_workload_identity(name=fresh_name("agent"), allowedResourceOauth2ReturnUrls=[BACK])
    return str(made["name"])


def begun(data: Any, vendor: str, token: str) -> Awaited:
    asked = asking(token, vendor)
    started = data.get_resource_oauth2_token(**asked)
    return Awaited(asked, started["sessionUri"], started["authorizationUrl"])


@pytest.fixture
def awaited(data: Any, vendor: str, agent_name: str) -> Awaited:
    """A consent of the user `ada`, whom a caller named."""
    return begun(data, vendor, for_user(data, agent_name))


@pytest.fixture
def awaited_by_jwt(data: Any, vendor: str, agent_name: str, jwt_issuer: FakeIssuer) -> Awaited:
    """A consent of the user `ada` of an issuer."""
    return begun(data, vendor, for_jwt(data, agent_name, token_of(jwt_issuer)))


def is_over(data: Any, awaited: Awaited, **user: str) -> bool:
    """Whether nothing comes of a consent any more, whoever completes it."""
    refusals = refused(data.complete_resource_token_auth, **awaited.by(**user))
    return refusals == DENIED and asks_the_user(data.get_resource_oauth2_token(**awaited.asked))


# --- Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["x" * 43, "x", "MWQ4", "~._-", "x" * 900])
def test_a_session_that_nobody_began_is_refused(data: Any, suffix: str):
    asked = {"sessionUri": f"urn:ietf:params:oauth:request_uri:{suffix}", "userIdentifier": ADA}
    response = refusal(data.complete_resource_token_auth, **asked)
    assert (status(response), response["Error"]["Code"]) == DENIED
    assert response["Error"]["Message"] == "Invalid or expired session"


def test_a_session_of_another_gateway_is_refused(
    data: Any, awaited: Awaited, gateway: RunningGateway, gateway_on_postgresql: RunningGateway
):
    elsewhere = gateway_on_postgresql if data.meta.endpoint_url == gateway.url else gateway
    assert refused(elsewhere.data.complete_resource_token_auth, **awaited.returned().by(userId="ada")) == DENIED


def test_a_consent_that_the_user_has_not_given_is_not_completed(data: Any, awaited: Awaited):
    assert refused(data.complete_resource_token_auth, **awaited.by(userId="ada")) == DENIED
    data.complete_resource_token_auth(**awaited.returned().by(userId="ada"))
    assert data.get_resource_oauth2_token(**awaited.asked)["accessToken"]


@pytest.mark.parametrize("user", ["grace", "Ada", "ada ", "ad"])
def test_another_user_ends_the_consent_for_everybody(data: Any, awaited: Awaited, user: str):
    assert refused(data.complete_resource_token_auth, **awaited.returned().by(userId=user)) == DENIED
    assert is_over(data, awaited, userId="ada")


def test_the_same_subject_of_another_issuer_is_another_user(data: Any, awaited_by_jwt: Awaited, jwt_issuer: FakeIssuer):
    with running_issuer() as other:
        asked = awaited_by_jwt.returned().by(userToken=token_of(other))
        assert refused(data.complete_resource_token_auth, **asked) == DENIED
    assert is_over(data, awaited_by_jwt, userToken=token_of(jwt_issuer))


def test_a_user_whom_a_jwt_proves_is_not_completed_by_name(data: Any, awaited_by_jwt: Awaited, jwt_issuer: FakeIssuer):
    assert refused(data.complete_resource_token_auth, **awaited_by_jwt.returned().by(userId="ada")) == DENIED
    assert is_over(data, awaited_by_jwt, userToken=token_of(jwt_issuer))


def test_a_user_who_was_named_is_not_completed_by_a_jwt(data: Any, awaited: Awaited, jwt_issuer: FakeIssuer):
    asked = awaited.returned().by(userToken=token_of(jwt_issuer, sub="ada"))
    assert refused(data.complete_resource_token_auth, **asked) == DENIED


@pytest.mark.parametrize("claims", [{"exp": 1}, {"sub": None}, {"iss": None}], ids=str)
def test_a_jwt_that_proves_nobody_completes_nothing_and_ends_nothing(
    data: Any, awaited_by_jwt: Awaited, jwt_issuer: FakeIssuer, claims: dict[str, Any]
):
    asked = awaited_by_jwt.returned().by(userToken=token_of(jwt_issuer, **claims))
    assert refused(data.complete_resource_token_auth, **asked) == DENIED
    data.complete_resource_token_auth(**awaited_by_jwt.by(userToken=token_of(jwt_issuer)))


def test_a_consent_is_completed_once(data: Any, awaited: Awaited):
    data.complete_resource_token_auth(**awaited.returned().by(userId="ada"))
    assert refused(data.complete_resource_token_auth, **awaited.by(userId="ada")) == DENIED


def test_of_many_who_complete_at_once_one_succeeds(data: Any, awaited: Awaited, oidc_provider: OidcProvider):
    awaited.returned()
    oidc_provider.heard()
    got = outcomes(lambda _: status(data.complete_resource_token_auth(**awaited.by(userId="ada"))), times=5)
    assert sorted(map(str, got)) == ["200"] + ["AccessDeniedException"] * 4
    assert [each["grant_type"] for each in oidc_provider.heard()] == ["authorization_code"]


def test_a_consent_that_was_refused_at_the_vendor_is_not_completed(data: Any, awaited: Awaited):
    walk(awaited.link, until="https://app.example/", refuse=True)
    assert is_over(data, awaited, userId="ada")


def test_a_consent_to_a_provider_that_was_deleted_is_not_completed(
    control: Any, data: Any, agent_name: str, oidc_provider: OidcProvider
):
    name = fresh_name("vendor")
    oidc_provider.connect(control, name=name)
    awaited = begun(data, name, for_user(data, agent_name)).returned()
    control.delete_oauth2_credential_provider(name=name)
    assert refused(data.complete_resource_token_auth, **awaited.by(userId="ada")) == (404, "ResourceNotFoundException")


# --- Answers ------------------------------------------------------------------------------------------------------------


def test_the_user_who_began_completes(data: Any, awaited: Awaited, oidc_provider: OidcProvider):
    answer = data.complete_resource_token_auth(**awaited.returned().by(userId="ada"))
    assert (status(answer), faults(DATA, "CompleteResourceTokenAuth", answer)) == (200, [])
    assert oidc_provider.whose(data.get_resource_oauth2_token(**awaited.asked)["accessToken"]) == "ada"


def test_a_newer_jwt_of_the_user_who_began_completes(data: Any, awaited_by_jwt: Awaited, jwt_issuer: FakeIssuer):
    data.complete_resource_token_auth(**awaited_by_jwt.returned().by(userToken=token_of(jwt_issuer, aud="elsewhere")))
    assert data.get_resource_oauth2_token(**awaited_by_jwt.asked)["accessToken"]
