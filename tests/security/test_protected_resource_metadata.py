"""Threat: the documents that lead clients to an issuer lead them elsewhere, say too much, or can be made to.

They are open to anybody, browsers included. What a stranger writes into a URL comes back in them at most as a URL.
"""

import re
from urllib.parse import quote, unquote

import httpx2
import pytest

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, REGION, RunningGateway, register, running_gateway

WELL_KNOWN = "/.well-known/oauth-protected-resource"
UNKNOWN = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/nobody-AbCdEf1234"


@pytest.fixture(scope="module")
def guarded(gateway: RunningGateway, _agent_server: Agent, jwt_issuer: FakeIssuer) -> str:
    return register(gateway, _agent_server.url, **guarded_by(jwt_issuer.discovery_url))


@pytest.fixture(scope="module")
def signed(gateway: RunningGateway, _agent_server: Agent) -> str:
    return register(gateway, _agent_server.url)


def path_of(arn: str) -> str:
    return f"/runtimes/{quote(arn, safe='')}/invocations"


def appended(path: str) -> str:
    return path + WELL_KNOWN


def inserted(path: str) -> str:
    return WELL_KNOWN + path


PLACES = pytest.mark.parametrize("place", [appended, inserted])


def get(url: str, **headers: str) -> httpx2.Response:
    return httpx2.get(url, headers=headers, trust_env=False)


def raw(gateway: RunningGateway, method: str, target: bytes) -> httpx2.Response:
    """Send a request line as it is: clients of libraries would normalise it."""
    with httpx2.Client(trust_env=False) as http:
        request = http.build_request(method, gateway.url)
        request.extensions["target"] = target
        return http.send(request)


# --- Which runtimes there are --------------------------------------------------------------------------------------------


@PLACES
def test_a_runtime_that_asks_for_a_signature_cannot_be_told_from_none(gateway: RunningGateway, signed: str, place):
    told = [get(gateway.url + place(path_of(arn))) for arn in (signed, UNKNOWN)]
    assert [response.status_code for response in told] == [404, 404]
    assert told[0].json() == told[1].json()


def test_the_gateway_itself_is_no_resource(gateway: RunningGateway):
    assert get(gateway.url + WELL_KNOWN).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        WELL_KNOWN + "/",
        WELL_KNOWN + "/runtimes/",
        WELL_KNOWN + "/identities/oauth2/token",
        WELL_KNOWN + "/healthz",
        WELL_KNOWN + WELL_KNOWN,
        WELL_KNOWN + "//runtimes/x/invocations",
        WELL_KNOWN + "/../runtimes/x/invocations",
        "/healthz" + WELL_KNOWN,
    ],
)
def test_nothing_but_invocations_has_a_document(gateway: RunningGateway, path: str):
    response = raw(gateway, "GET", path.encode())
    assert response.status_code in {400, 404}
    assert "authorization_servers" not in response.text


@PLACES
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_a_document_is_only_read(gateway: RunningGateway, guarded: str, place, method: str):
    response = httpx2.request(method, gateway.url + place(path_of(guarded)), trust_env=False)
    assert response.status_code == 404


# --- What stands in them -------------------------------------------------------------------------------------------------


@PLACES
def test_both_places_hold_the_same_document(gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer, place):
    document = get(gateway.url + place(path_of(guarded))).json()
    assert document == {
        "resource": gateway.url + path_of(guarded),
        "authorization_servers": [jwt_issuer.issuer],
        "bearer_methods_supported": ["header"],
    }


SPELLINGS = {
    "as SDKs write it": lambda arn: quote(arn, safe=""),
    "with plain colons": lambda arn: quote(arn, safe=":"),
    "in lower-case escapes": lambda arn: re.sub("%..", lambda found: found[0].lower(), quote(arn, safe="")),
    "with an escaped letter": lambda arn: quote(arn, safe="").replace("runtime", "%72untime"),
}


@PLACES
@pytest.mark.parametrize("query", ["", "?qualifier=DEFAULT", f"?qualifier=DEFAULT&accountId={ACCOUNT}"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_a_resource_is_named_as_the_client_wrote_it(
    gateway: RunningGateway, guarded: str, place, query: str, name: str
):
    path = f"/runtimes/{SPELLINGS[name](guarded)}/invocations"
    assert get(gateway.url + place(path) + query).json()["resource"] == gateway.url + path + query


@pytest.mark.parametrize("query", ["?access_token=secret", "?qualifier=DEFAULT&access_token=secret&x=1", "?x=secret"])
def test_a_credential_in_a_query_string_is_not_repeated(gateway: RunningGateway, guarded: str, query: str):
    url = f"{gateway.url}/runtimes/{quote(guarded, safe='')}/invocations"
    challenged = httpx2.post(url + query, trust_env=False)
    assert challenged.status_code == 401
    described = get(f"{url}/.well-known/oauth-protected-resource{query}")
    assert described.json()["resource"].startswith(url)
    assert "secret" not in f"{challenged.headers} {challenged.text} {described.text}"


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_challenge_leads_to_the_document_of_the_url_that_the_client_wrote(
    gateway: RunningGateway, guarded: str, name: str
):
    url = f"{gateway.url}/runtimes/{SPELLINGS[name](guarded)}/invocations"
    challenge = httpx2.post(url, trust_env=False).headers["www-authenticate"]
    metadata = re.search(r'resource_metadata="([^"]*)"', challenge)
    assert metadata is not None
    assert get(metadata[1]).json()["resource"] == url


INJECTIONS = [
    b'x",error="x',
    b"x\\",
    b"x%22y",
    b"x'y",
    b"<script>",
    b"x%0d%0aset-cookie:a=b",
]


@pytest.mark.parametrize("query", INJECTIONS)
def test_a_query_cannot_leave_its_place_in_the_challenge(gateway: RunningGateway, guarded: str, query: bytes):
    response = raw(gateway, "POST", f"{path_of(guarded)}?a=".encode() + query)
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    assert re.fullmatch(r'Bearer resource_metadata="[^"\\<>\s]*"', challenge)
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("query", INJECTIONS)
def test_a_query_cannot_leave_its_place_in_the_document(gateway: RunningGateway, guarded: str, query: bytes):
    document = raw(gateway, "GET", f"{appended(path_of(guarded))}?a=".encode() + query).json()
    assert re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]+", document["resource"])
    assert unquote(document["resource"]).startswith(gateway.url + unquote(path_of(guarded)))


@pytest.mark.parametrize("header", ["host", "x-forwarded-host", "forwarded", "x-original-url"])
def test_no_header_moves_the_resource_when_the_gateway_knows_its_address(
    agent: Agent, jwt_issuer: FakeIssuer, header: str, addressed: RunningGateway
):
    arn = register(addressed, agent.url, **guarded_by(jwt_issuer.discovery_url))
    response = get(addressed.url + appended(path_of(arn)), **{header: "evil.example"})
    assert response.json()["resource"] == "https://agents.example" + path_of(arn)


@pytest.fixture(scope="module")
def addressed():
    with running_gateway(public_url="https://agents.example") as running:
        yield running


def test_a_refused_token_is_not_in_the_challenge(gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer):
    token = token_of(jwt_issuer, aud="somebody-else")
    response = post(gateway, guarded, token)
    assert response.status_code == 401
    assert token not in response.headers["www-authenticate"]
    assert "somebody-else" not in response.text + response.headers["www-authenticate"]


def test_offline_access_is_not_advertised(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer):
    rules = guarded_by(jwt_issuer.discovery_url, allowedScopes=["invoke", "offline_access"])
    arn = register(gateway, agent.url, **rules)
    assert get(gateway.url + appended(path_of(arn))).json()["scopes_supported"] == ["invoke"]


# --- Browsers ------------------------------------------------------------------------------------------------------------


@PLACES
def test_scripts_of_any_origin_may_read_the_documents(gateway: RunningGateway, guarded: str, place):
    asked = {"origin": "https://inspector.example", "access-control-request-method": "GET"}
    url = gateway.url + place(path_of(guarded))
    before = httpx2.request("OPTIONS", url, headers=asked, trust_env=False)
    assert (before.status_code, before.headers["access-control-allow-headers"]) == (204, "*")
    assert get(url, origin="https://inspector.example").headers["access-control-allow-origin"] == "*"


def test_scripts_of_other_origins_may_not_call_agents(gateway: RunningGateway, guarded: str):
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    before = httpx2.request("OPTIONS", gateway.url + path_of(guarded), headers=asked, trust_env=False)
    assert "access-control-allow-origin" not in before.headers
