"""GetResourceOauth2Token, with real boto3: for a user by consent, for the agent itself, and on behalf of a user.

The vendor is npm's oidc-provider, a CustomOauth2 provider by discovery. What CompleteResourceTokenAuth refuses has its
own file; the SDK's decorators and a browser are in tests/integration/test_sdk_credentials.py.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from tests.callers import token_of, walk, workload_token
from tests.conformance.control_plane import DATA, faults, refusal, refused, status
from tests.conformance.test_access_keys_cli import PREFIX, Run, allow, commands, policy_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name
from tests.issuers import OidcProvider

DENIED = (403, "AccessDeniedException")
INVALID = (400, "ValidationException")
NOT_FOUND = (404, "ResourceNotFoundException")
BACK = "https://app.example/oauth/Return?tab=2"
RESOURCE = "https://agents.example/rs256"
USER_FLOW, MACHINE_FLOW, ON_BEHALF = "USER_FEDERATION", "M2M", "ON_BEHALF_OF_TOKEN_EXCHANGE"

Asked = dict[str, Any]


@pytest.fixture(scope="module")
def connected() -> dict[str, Any]:
    """Providers that tests share, by gateway."""
    return {}


@pytest.fixture
def client(each_gateway: RunningGateway, control: Any, oidc_provider: OidcProvider, connected: dict[str, Any]) -> Any:
    """The gateway's registration at the vendor; `client_name` is the name of the credential provider."""
    if each_gateway.url not in connected:
        connected[each_gateway.url] = oidc_provider.connect(control, name=fresh_name("vendor"))
    return connected[each_gateway.url]


@pytest.fixture
def vendor(client: Any) -> str:
    return str(client["client_name"])


@pytest.fixture
def agent_name(control: Any) -> str:
    """A workload identity of the test's own, whose users may come back to BACK alone."""
    made = control.create_workload_identity(name=fresh_name("agent"), allowedResourceOauth2ReturnUrls=[BACK])
    return str(made["name"])


def for_user(data: Any, workload: str, user: str = "ada") -> str:
    answer = data.get_workload_access_token_for_user_id(workloadName=workload, userId=user)
    return str(answer["workloadAccessToken"])


def for_jwt(data: Any, workload: str, token: str) -> str:
    answer = data.get_workload_access_token_for_jwt(workloadName=workload, userToken=token)
    return str(answer["workloadAccessToken"])


def for_itself(data: Any, workload: str) -> str:
    return str(data.get_workload_access_token(workloadName=workload)["workloadAccessToken"])


def asking(token: str, vendor: str, flow: str = USER_FLOW, **changes: Any) -> Asked:
    """Return what GetResourceOauth2Token is asked. A change to None leaves a member out."""
    whole = {
        "workloadIdentityToken": token,
        "resourceCredentialProviderName": vendor,
        "scopes": ["openid"],
        "oauth2Flow": flow,
        "resourceOauth2ReturnUrl": BACK if flow == USER_FLOW else None,
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def consented(data: Any, asked: Asked, *, user: Any = None, person: str = "ada") -> list[str]:
    """Have a person consent to what is asked, and the application complete it. Returns the URLs on the way."""
    started = data.get_resource_oauth2_token(**asked)
    visited = walk(started["authorizationUrl"], until="https://app.example/", person=person)
    data.complete_resource_token_auth(sessionUri=started["sessionUri"], userIdentifier=user or {"userId": "ada"})
    return visited


def asks_the_user(answer: dict[str, Any]) -> bool:
    return "accessToken" not in answer and answer["sessionStatus"] == "IN_PROGRESS"


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


# --- Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", [USER_FLOW, MACHINE_FLOW, ON_BEHALF])
def test_a_provider_that_does_not_exist_is_not_found(data: Any, agent_name: str, flow: str):
    assert refused(data.get_resource_oauth2_token, **asking(for_user(data, agent_name), "nobody", flow)) == NOT_FOUND


def test_a_token_without_a_user_gives_no_users_token(data: Any, agent_name: str, vendor: str):
    response = refusal(data.get_resource_oauth2_token, **asking(for_itself(data, agent_name), vendor))
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert "stands for no user" in response["Error"]["Message"]


@pytest.mark.parametrize(
    "url",
    [
        None,
        "https://app.example/oauth/",
        "https://app.example/oauth/Return",
        "https://app.example/oauth/Return?tab=2&tab=3",
        "https://app.example/oauth/Return?tab=2#here",
        "https://app.example/oauth/Return?tab=2/",
        "https://app.example/oauth/Return/?tab=2",
        "https://app.example/oauth/return?tab=2",
        "https://APP.example/oauth/Return?tab=2",
        "HTTPS://app.example/oauth/Return?tab=2",
        "http://app.example/oauth/Return?tab=2",
        "https://app.example:443/oauth/Return?tab=2",
        "https://app.example/x/../oauth/Return?tab=2",
        "https://app.example/oauth%2FReturn?tab=2",
        "https://app.example.attacker.example/oauth/Return?tab=2",
        "https://app.example@attacker.example/oauth/Return?tab=2",
    ],
)
def test_users_come_back_to_a_url_that_is_registered_letter_for_letter(
    data: Any, agent_name: str, vendor: str, url: str | None
):
    asked = asking(for_user(data, agent_name), vendor, resourceOauth2ReturnUrl=url)
    response = refusal(data.get_resource_oauth2_token, **asked)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert response["fieldList"][0]["name"] == "resourceOauth2ReturnUrl"


def test_a_url_that_another_agent_registered_is_refused(control: Any, data: Any, vendor: str, agent_name: str):
    other = control.create_workload_identity(name=fresh_name("agent"))["name"]
    assert refused(data.get_resource_oauth2_token, **asking(for_user(data, other), vendor)) == INVALID


def test_a_token_of_another_gateway_is_refused(data: Any, agent_name: str, vendor: str):
    asked = asking(workload_token(agent_name, None), vendor)
    assert refused(data.get_resource_oauth2_token, **asked) == DENIED


def test_a_token_of_another_account_is_refused(data: Any, each_gateway: RunningGateway, agent_name: str, vendor: str):
    asked = asking(workload_token(agent_name, each_gateway, account="111111111111"), vendor)
    assert refused(data.get_resource_oauth2_token, **asked) == DENIED


def test_a_token_is_good_for_fifteen_minutes(data: Any, each_gateway: RunningGateway, agent_name: str, vendor: str):
    young, old = (asking(workload_token(agent_name, each_gateway, age=age), vendor) for age in (0, 901))
    assert asks_the_user(data.get_resource_oauth2_token(**young))
    response = refusal(data.get_resource_oauth2_token, **old)
    assert (status(response), response["Error"]["Code"]) == DENIED
    assert "Token has expired" in response["Error"]["Message"]


@pytest.mark.parametrize("place", [0, 40, -2])
def test_a_token_that_was_changed_is_refused(data: Any, agent_name: str, vendor: str, place: int):
    letters = list(for_user(data, agent_name))
    letters[place] = "A" if letters[place] != "A" else "B"
    assert refused(data.get_resource_oauth2_token, **asking("".join(letters), vendor)) == DENIED


@pytest.mark.parametrize("token", ["x", "e30.e30.e30", "AAAA"])
def test_what_was_never_a_token_is_refused(data: Any, vendor: str, token: str):
    assert refused(data.get_resource_oauth2_token, **asking(token, vendor)) == DENIED


@pytest.mark.parametrize(
    "name",
    [
        "state", "State", "redirect_uri", "client_id", "client_secret", "response_type", "response_mode", "code_challenge",
        "code_challenge_method", "code_verifier", "request", "request_uri", "nonce", "scope",
        "identity-gateway.anything",
    ],
)  # fmt: skip
def test_what_the_gateway_sets_itself_nobody_else_sets(data: Any, agent_name: str, vendor: str, name: str):
    asked = asking(for_user(data, agent_name), vendor, customParameters={name: "mine"})
    response = refusal(data.get_resource_oauth2_token, **asked)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert name in response["Error"]["Message"]


@pytest.mark.parametrize("name", ["grant_type", "client_id", "client_secret", "client_assertion", "refresh_token"])
def test_what_the_gateway_sets_itself_nobody_else_sets_for_a_machine(
    data: Any, agent_name: str, vendor: str, name: str
):
    asked = asking(for_itself(data, agent_name), vendor, MACHINE_FLOW, customParameters={name: "mine"})
    assert refused(data.get_resource_oauth2_token, **asked) == INVALID


def test_a_session_that_nobody_began_is_refused(data: Any, agent_name: str, vendor: str):
    uri = "urn:ietf:params:oauth:request_uri:" + "x" * 43
    response = refusal(data.get_resource_oauth2_token, **asking(for_user(data, agent_name), vendor, sessionUri=uri))
    assert (status(response), response["Error"]["Code"]) == DENIED
    assert response["Error"]["Message"] == "Invalid or expired session"


def test_a_session_is_nobodys_but_of_the_user_who_began(data: Any, agent_name: str, vendor: str):
    session = data.get_resource_oauth2_token(**asking(for_user(data, agent_name), vendor))["sessionUri"]
    asked = asking(for_user(data, agent_name, "grace"), vendor, sessionUri=session)
    assert refused(data.get_resource_oauth2_token, **asked) == DENIED


def test_a_session_is_nobodys_but_of_the_agent_that_began(control: Any, data: Any, agent_name: str, vendor: str):
    session = data.get_resource_oauth2_token(**asking(for_user(data, agent_name), vendor))["sessionUri"]
    other = control.create_workload_identity(name=fresh_name("agent"), allowedResourceOauth2ReturnUrls=[BACK])["name"]
    asked = asking(for_user(data, other), vendor, sessionUri=session)
    assert refused(data.get_resource_oauth2_token, **asked) == DENIED


def test_a_session_gives_nothing_but_what_it_began_with(data: Any, agent_name: str, vendor: str):
    token = for_user(data, agent_name)
    session = data.get_resource_oauth2_token(**asking(token, vendor))["sessionUri"]
    asked = asking(token, vendor, sessionUri=session, scopes=["openid", "extra"])
    assert refused(data.get_resource_oauth2_token, **asked) == DENIED


@pytest.mark.parametrize("flow", [USER_FLOW, MACHINE_FLOW])
def test_a_token_of_an_identity_that_was_deleted_is_refused(
    control: Any, data: Any, agent_name: str, vendor: str, flow: str
):
    token = for_user(data, agent_name)
    control.delete_workload_identity(name=agent_name)
    assert refused(data.get_resource_oauth2_token, **asking(token, vendor, flow)) == DENIED


# --- For a user, by consent -----------------------------------------------------------------------------------------------


def test_who_consented_is_not_asked_again(data: Any, agent_name: str, vendor: str, oidc_provider: OidcProvider):
    asked = asking(for_user(data, agent_name), vendor)
    consented(data, asked, person="ada-at-the-vendor")
    answer = data.get_resource_oauth2_token(**asked)
    assert (status(answer), faults(DATA, "GetResourceOauth2Token", answer)) == (200, [])
    assert "authorizationUrl" not in answer
    assert oidc_provider.whose(answer["accessToken"]) == "ada-at-the-vendor"
    assert data.get_resource_oauth2_token(**asked)["accessToken"] == answer["accessToken"]


def test_a_poller_hears_that_the_consent_is_awaited_until_it_is_there(data: Any, agent_name: str, vendor: str):
    asked = asking(for_user(data, agent_name), vendor)
    started = data.get_resource_oauth2_token(**asked)
    assert faults(DATA, "GetResourceOauth2Token", started) == []
    polled = asked | {"sessionUri": started["sessionUri"], "forceAuthentication": False}
    waiting = data.get_resource_oauth2_token(**polled)
    assert (waiting["sessionUri"], waiting["sessionStatus"]) == (started["sessionUri"], "IN_PROGRESS")
    walk(started["authorizationUrl"], until="https://app.example/")
    assert asks_the_user(data.get_resource_oauth2_token(**polled))  # the application has not said who it was
    data.complete_resource_token_auth(sessionUri=started["sessionUri"], userIdentifier={"userId": "ada"})
    assert data.get_resource_oauth2_token(**polled)["accessToken"]


def test_the_application_gets_back_what_it_gave_the_agent(data: Any, agent_name: str, vendor: str):
    state = "a state: with = + / & signs"
    visited = consented(data, asking(for_user(data, agent_name), vendor, customState=state))
    back = query(visited[-1])
    assert (back["state"], back["custom_state"], back["tab"]) == ([state], [state], ["2"])
    assert back["session_id"][0].startswith("urn:ietf:params:oauth:request_uri:")


def test_the_vendor_is_asked_with_what_the_agent_adds_and_nothing_that_tells_of_the_session(
    data: Any, agent_name: str, vendor: str, client: Any, oidc_provider: OidcProvider
):
    more: Asked = {
        "customParameters": {"login_hint": "ada@example.com", "prompt": "consent"},
        "scopes": ["openid", "extra"],
        "resources": [RESOURCE],
        "audiences": ["somebody"],
    }
    visited = consented(data, asking(for_user(data, agent_name), vendor, **more))
    (asked,) = (query(url) for url in visited if url.startswith(f"{oidc_provider.issuer}/auth?"))
    assert {name: asked[name] for name in ("login_hint", "prompt", "scope", "resource", "audience")} == {
        "login_hint": ["ada@example.com"],
        "prompt": ["consent"],
        "scope": ["openid extra"],
        "resource": [RESOURCE],
        "audience": ["somebody"],
    }
    assert (asked["client_id"], asked["code_challenge_method"]) == ([client["client_id"]], ["S256"])
    assert "request_uri" not in asked


def test_scopes_are_a_set(data: Any, agent_name: str, vendor: str):
    token = for_user(data, agent_name)
    consented(data, asking(token, vendor, scopes=["openid", "extra"]))
    answer = data.get_resource_oauth2_token(**asking(token, vendor, scopes=["extra", "openid", "extra"]))
    assert answer["accessToken"]


@pytest.mark.parametrize(
    "changes",
    [
        {"scopes": ["openid", "extra", "brief"]},
        {"scopes": ["openid"]},
        {"resources": [RESOURCE]},
        {"audiences": ["somebody"]},
        {"customParameters": {"login_hint": "ada"}},
        {"forceAuthentication": True},
    ],
    ids=str,
)
def test_who_consented_to_something_else_is_asked(data: Any, agent_name: str, vendor: str, changes: Asked):
    asked = asking(for_user(data, agent_name), vendor, scopes=["openid", "extra"])
    consented(data, asked)
    assert asks_the_user(data.get_resource_oauth2_token(**asked | changes))


def test_one_agents_consent_is_not_anothers(control: Any, data: Any, agent_name: str, vendor: str):
    consented(data, asking(for_user(data, agent_name), vendor))
    other = control.create_workload_identity(name=fresh_name("agent"), allowedResourceOauth2ReturnUrls=[BACK])["name"]
    assert asks_the_user(data.get_resource_oauth2_token(**asking(for_user(data, other), vendor)))


def test_a_consent_of_today_replaces_yesterdays(data: Any, agent_name: str, vendor: str, oidc_provider: OidcProvider):
    asked = asking(for_user(data, agent_name), vendor)
    consented(data, asked, person="ada")
    consented(data, asked | {"forceAuthentication": True}, person="ada-too")
    assert oidc_provider.whose(data.get_resource_oauth2_token(**asked)["accessToken"]) == "ada-too"


def test_a_user_whom_a_caller_names_is_not_the_one_whom_a_jwt_proves(
    data: Any, agent_name: str, vendor: str, jwt_issuer: FakeIssuer
):
    token = token_of(jwt_issuer, sub="alice")
    consented(data, asking(for_user(data, agent_name, "alice"), vendor), user={"userId": "alice"})
    assert asks_the_user(data.get_resource_oauth2_token(**asking(for_jwt(data, agent_name, token), vendor)))


def test_nobody_gets_a_jwts_consent_by_naming_its_user(data: Any, agent_name: str, vendor: str, jwt_issuer: FakeIssuer):
    token = token_of(jwt_issuer, sub="alice")
    asked = asking(for_jwt(data, agent_name, token), vendor)
    consented(data, asked, user={"userToken": token})
    assert data.get_resource_oauth2_token(**asked)["accessToken"]
    for name in ("alice", f"{jwt_issuer.issuer}alice", json.dumps(["jwt", jwt_issuer.issuer, "alice"])):
        assert asks_the_user(data.get_resource_oauth2_token(**asking(for_user(data, agent_name, name), vendor)))


def test_an_identity_that_is_made_again_has_nothing_of_its_namesake(
    control: Any, data: Any, agent_name: str, vendor: str
):
    consented(data, asking(for_user(data, agent_name), vendor))
    control.delete_workload_identity(name=agent_name)
    control.create_workload_identity(name=agent_name, allowedResourceOauth2ReturnUrls=[BACK])
    assert asks_the_user(data.get_resource_oauth2_token(**asking(for_user(data, agent_name), vendor)))


def test_a_provider_that_is_made_again_has_nothing_of_its_namesake(
    control: Any, data: Any, agent_name: str, oidc_provider: OidcProvider
):
    name = fresh_name("vendor")
    oidc_provider.connect(control, name=name)
    asked = asking(for_user(data, agent_name), name)
    consented(data, asked)
    control.delete_oauth2_credential_provider(name=name)
    oidc_provider.connect(control, name=name)
    assert asks_the_user(data.get_resource_oauth2_token(**asked))


def test_a_refusal_at_the_vendor_is_told_once_as_a_state_and_then_as_an_error(data: Any, agent_name: str, vendor: str):
    asked = asking(for_user(data, agent_name), vendor)
    started = data.get_resource_oauth2_token(**asked)
    back = query(walk(started["authorizationUrl"], until="https://app.example/", refuse=True)[-1])
    assert (back["error"], back["session_id"]) == (["access_denied"], [started["sessionUri"]])
    polled = asked | {"sessionUri": started["sessionUri"]}
    assert data.get_resource_oauth2_token(**polled)["sessionStatus"] == "FAILED"
    response = refusal(data.get_resource_oauth2_token, **polled)
    assert (status(response), response["Error"]["Code"]) == DENIED
    assert "refused the consent: access_denied" in response["Error"]["Message"]
    assert asks_the_user(data.get_resource_oauth2_token(**asked))


# --- For the agent itself ---------------------------------------------------------------------------------------------------


def test_what_the_vendor_refuses_a_machine_is_told_in_its_words(data: Any, agent_name: str, vendor: str):
    asked = asking(for_itself(data, agent_name), vendor, MACHINE_FLOW, resources=["https://elsewhere.example/"])
    response = refusal(data.get_resource_oauth2_token, **asked)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert "invalid_target" in response["Error"]["Message"]


def test_an_agent_gets_a_token_of_its_own_for_a_resource(
    data: Any, agent_name: str, client: Any, oidc_provider: OidcProvider
):
    oidc_provider.heard()
    asked = asking(
        for_itself(data, agent_name),
        client["client_name"],
        MACHINE_FLOW,
        scopes=["agents.read"],
        resources=[RESOURCE],
        audiences=["one", "two"],
        customParameters={"tenant": "blue"},
    )
    answer = data.get_resource_oauth2_token(**asked)
    claims = jwt.decode(answer["accessToken"], options={"verify_signature": False})
    assert (claims["client_id"], claims["aud"], claims["scope"]) == (client["client_id"], RESOURCE, "agents.read")
    assert faults(DATA, "GetResourceOauth2Token", answer) == []
    assert oidc_provider.heard() == [
        {
            "grant_type": "client_credentials",
            "scope": "agents.read",
            "resource": RESOURCE,
            "audience": ["one", "two"],
            "tenant": "blue",
        }
    ]


def test_an_agents_own_token_is_kept_for_it_alone(control: Any, data: Any, agent_name: str, vendor: str):
    other = control.create_workload_identity(name=fresh_name("agent"))["name"]
    tokens = [
        data.get_resource_oauth2_token(**asking(for_itself(data, name), vendor, MACHINE_FLOW))["accessToken"]
        for name in (agent_name, agent_name, other)
    ]
    assert tokens[0] == tokens[1] != tokens[2]


# --- On behalf of a user ----------------------------------------------------------------------------------------------------


def exchanging(control: Any, oidc_provider: OidcProvider, grant: str, **config: Any) -> Any:
    """Return a client that exchanges tokens of users so."""
    rules = {"grantType": grant, **config}
    return oidc_provider.connect(control, name=fresh_name("vendor"), onBehalfOfTokenExchangeConfig=rules)


def actor(content: str, *scopes: str) -> Asked:
    return {"tokenExchangeGrantTypeConfig": {"actorTokenContent": content, "actorTokenScopes": list(scopes)}}


NO_ACTOR = {"tokenExchangeGrantTypeConfig": {"actorTokenContent": "NONE"}}


def test_a_user_whom_a_caller_names_has_no_token_to_exchange(
    control: Any, data: Any, agent_name: str, oidc_provider: OidcProvider
):
    name = exchanging(control, oidc_provider, "TOKEN_EXCHANGE", **NO_ACTOR)["client_name"]
    response = refusal(data.get_resource_oauth2_token, **asking(for_user(data, agent_name), name, ON_BEHALF))
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert "carries no token of a user" in response["Error"]["Message"]


def test_a_provider_that_was_not_registered_for_it_exchanges_nothing(
    data: Any, agent_name: str, vendor: str, jwt_issuer: FakeIssuer
):
    asked = asking(for_jwt(data, agent_name, token_of(jwt_issuer)), vendor, ON_BEHALF)
    response = refusal(data.get_resource_oauth2_token, **asked)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert "onBehalfOfTokenExchangeConfig" in response["Error"]["Message"]


def test_a_users_token_is_exchanged_for_one_of_the_vendors(
    control: Any, data: Any, agent_name: str, jwt_issuer: FakeIssuer, oidc_provider: OidcProvider
):
    name = exchanging(control, oidc_provider, "TOKEN_EXCHANGE", **NO_ACTOR)["client_name"]
    token = token_of(jwt_issuer, sub="ada-at-work")
    oidc_provider.heard()
    asked = asking(
        for_jwt(data, agent_name, token), name, ON_BEHALF, audiences=["one"], resources=["https://api.example/"]
    )
    answer = data.get_resource_oauth2_token(**asked)
    assert oidc_provider.whose(answer["accessToken"]) == "ada-at-work"
    assert oidc_provider.heard() == [
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "scope": "openid",
            "resource": "https://api.example/",
            "audience": "one",
        }
    ]


def test_an_agent_shows_itself_as_the_actor(
    control: Any, data: Any, agent_name: str, jwt_issuer: FakeIssuer, oidc_provider: OidcProvider
):
    client = exchanging(control, oidc_provider, "TOKEN_EXCHANGE", **actor("M2M", "extra"))
    asked = asking(for_jwt(data, agent_name, token_of(jwt_issuer)), client["client_name"], ON_BEHALF)
    token = data.get_resource_oauth2_token(**asked)["accessToken"]
    acting = oidc_provider.introspect(token, client["client_id"])["act"]
    assert (oidc_provider.whose(token), acting) == ("ada", {"client_id": client["client_id"], "scope": "extra"})


def test_a_users_token_is_taken_as_an_authorization_grant(
    control: Any, data: Any, agent_name: str, jwt_issuer: FakeIssuer, oidc_provider: OidcProvider
):
    name = exchanging(control, oidc_provider, "JWT_AUTHORIZATION_GRANT")["client_name"]
    token = token_of(jwt_issuer, sub="ada-at-work")
    oidc_provider.heard()
    answer = data.get_resource_oauth2_token(**asking(for_jwt(data, agent_name, token), name, ON_BEHALF))
    assert oidc_provider.whose(answer["accessToken"]) == "ada-at-work"
    assert oidc_provider.heard() == [
        {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": token, "scope": "openid"}
    ]


def test_what_was_exchanged_is_kept_for_this_user_alone(
    control: Any, data: Any, agent_name: str, jwt_issuer: FakeIssuer, oidc_provider: OidcProvider
):
    name = exchanging(control, oidc_provider, "TOKEN_EXCHANGE", **NO_ACTOR)["client_name"]
    shown = {user: token_of(jwt_issuer, sub=user) for user in ("ada", "grace")}
    tokens = [
        data.get_resource_oauth2_token(**asking(for_jwt(data, agent_name, shown[user]), name, ON_BEHALF))["accessToken"]
        for user in ("ada", "ada", "grace")
    ]
    assert tokens[0] == tokens[1]
    assert oidc_provider.whose(tokens[2]) == "grace"


# --- Who may ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data_under(
    each_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client_of: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a function that gives a data client whose key may call GetResourceOauth2Token on these resources alone."""
    client = partial(client_of, each_gateway, DATA)
    return partial(limited, commands(each_gateway, monkeypatch), client, tmp_path, "GetResourceOauth2Token")


def limited(run: Run, client: Callable[..., Any], folder: Path, action: str, *resources: str) -> Any:
    """Return a client whose key may call one operation, on these resources alone."""
    policy = folder / "policy.json"
    policy.write_text(json.dumps(policy_of(allow(action, on=list(resources)))))
    made = run("access-key", "create", "--name", fresh_name("key"), "--json", "--policy", str(policy))
    key = json.loads(made.stdout)
    return client(key=(key["accessKeyId"], key["secretAccessKey"]))


def needed(workload: str, vendor: str) -> list[str]:
    """Return the four ARNs that a caller needs."""
    return [
        PREFIX + "workload-identity-directory/default",
        PREFIX + f"workload-identity-directory/default/workload-identity/{workload}",
        PREFIX + "token-vault/default",
        PREFIX + f"token-vault/default/oauth2credentialprovider/{vendor}",
    ]


def test_a_caller_needs_all_four_resources(data_under: Callable[..., Any], data: Any, agent_name: str, vendor: str):
    asked = asking(for_itself(data, agent_name), vendor, MACHINE_FLOW)
    arns = needed(agent_name, vendor)
    for missing in arns:
        few = data_under(*(arn for arn in arns if arn != missing))
        assert refused(few.get_resource_oauth2_token, **asked) == DENIED
    assert data_under(*arns).get_resource_oauth2_token(**asked)["accessToken"]


def test_a_caller_gets_nothing_of_another_provider_or_identity(
    control: Any, data_under: Callable[..., Any], data: Any, agent_name: str, vendor: str
):
    other = control.create_workload_identity(name=fresh_name("agent"))["name"]
    allowed = data_under(*needed(agent_name, vendor))
    for token, name in ((for_itself(data, other), vendor), (for_itself(data, agent_name), vendor + "x")):
        assert refused(allowed.get_resource_oauth2_token, **asking(token, name, MACHINE_FLOW)) == DENIED
