"""What of an A2A agent's card its clients may see: no address but the gateway's, no security but the runtime's."""

import json
from typing import Any

import pytest

from identity_gateway.errors import AgentFailed
from identity_gateway.invocation.cards import rewritten
from identity_gateway.invocation.discovery import Guard

URL = "https://gateway.test/runtimes/a/invocations"
ISSUER = "https://issuer.test/.well-known/openid-configuration"
GUARD = Guard(URL, ISSUER, ("agents.invoke",))
AGENT = "http://agent.internal:9000"
OLDER: dict[str, Any] = {"name": "a", "url": AGENT, "protocolVersion": "0.3.0", "capabilities": {}, "skills": []}
NEWER: dict[str, Any] = {
    "name": "a",
    "supportedInterfaces": [{"url": AGENT, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
}


def shown(card: Any, guard: Guard = GUARD) -> dict[str, Any]:
    return rewritten(json.dumps(card).encode(), guard)


BAD_CARDS = {
    "nothing": b"",
    "not JSON": b"<html>",
    "a list": b"[]",
    "NaN": b'{"version": NaN}',
    "deep": b"[" * 100_000,
    "capabilities that are a list": json.dumps(OLDER | {"capabilities": []}).encode(),
    "skills that are an object": json.dumps(OLDER | {"skills": {}}).encode(),
    "a skill that is a text": json.dumps(OLDER | {"skills": ["shout"]}).encode(),
    "interfaces that are a text": json.dumps(NEWER | {"supportedInterfaces": AGENT}).encode(),
    "an interface that is a text": json.dumps(NEWER | {"supportedInterfaces": [AGENT]}).encode(),
    "no interface": json.dumps(NEWER | {"supportedInterfaces": []}).encode(),
    "gRPC alone": json.dumps(OLDER | {"preferredTransport": "GRPC"}).encode(),
    "REST alone": json.dumps(
        {"supportedInterfaces": [{"url": AGENT, "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"}]}
    ).encode(),
}


@pytest.mark.parametrize("name", BAD_CARDS)
def test_a_card_that_cannot_be_served_is_the_agents_failure(name: str):
    with pytest.raises(AgentFailed):
        rewritten(BAD_CARDS[name], GUARD)


ADDRESSES = {
    "the url": OLDER,
    "further interfaces": OLDER | {"additionalInterfaces": [{"url": AGENT, "transport": "JSONRPC"}]},
    "further interfaces that are null": OLDER | {"additionalInterfaces": None},
    "interfaces of 1.0": NEWER,
    "both": OLDER | NEWER,
    "a member of tomorrow": NEWER | {"tokenEndpoint": AGENT},
    "a capability of tomorrow": NEWER | {"capabilities": {"callback": AGENT}},
    "an extension's parameters": NEWER | {"capabilities": {"extensions": [{"uri": "urn:x", "params": {"to": AGENT}}]}},
    "a skill's member": NEWER | {"skills": [{"id": "s", "endpoint": AGENT}]},
    "an interface's member": {
        "supportedInterfaces": [
            {"url": AGENT, "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": AGENT, "other": AGENT}
        ]
    },
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_no_address_of_the_agent_is_left_in_a_card(name: str):
    assert AGENT not in json.dumps(shown(ADDRESSES[name]))


SECURITY = {
    "of 0.3": OLDER | {"securitySchemes": {"evil": {"type": "http", "scheme": "basic"}}, "security": [{"evil": []}]},
    "of 1.0": NEWER
    | {
        "securitySchemes": {"evil": {"httpAuthSecurityScheme": {"scheme": "basic"}}},
        "securityRequirements": [{"schemes": {"evil": {}}}],
    },
    "of a skill": NEWER | {"skills": [{"id": "s", "security": [{"evil": []}]}]},
    "of a signature": NEWER | {"signatures": [{"protected": "evil", "signature": "evil"}]},
}


@pytest.mark.parametrize("name", SECURITY)
def test_nothing_of_the_agents_own_security_is_left_in_a_card(name: str):
    assert "evil" not in json.dumps(shown(SECURITY[name]))


@pytest.mark.parametrize(
    "card",
    [OLDER | {"supportsAuthenticatedExtendedCard": True}, NEWER | {"capabilities": {"extendedAgentCard": True}}],
)
def test_an_extended_card_is_not_promised(card: dict[str, Any]):
    assert "xtended" not in json.dumps(shown(card))


def test_a_card_of_0_3_leads_to_the_gateway_in_the_words_of_0_3():
    card = shown(OLDER)
    assert (card["url"], card["preferredTransport"]) == (URL, "JSONRPC")
    assert card["securitySchemes"] == {"gateway": {"type": "openIdConnect", "openIdConnectUrl": ISSUER}}
    assert card["security"] == [{"gateway": ["agents.invoke"]}]
    assert card.keys().isdisjoint({"supportedInterfaces", "securityRequirements"})


def test_a_card_of_1_0_leads_to_the_gateway_in_the_words_of_1_0():
    card = shown(NEWER)
    assert card["supportedInterfaces"] == [{"url": URL, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]
    assert card["securitySchemes"] == {"gateway": {"openIdConnectSecurityScheme": {"openIdConnectUrl": ISSUER}}}
    assert card["securityRequirements"] == [{"schemes": {"gateway": {"list": ["agents.invoke"]}}}]
    assert card.keys().isdisjoint({"url", "security"})


def test_interfaces_that_lead_to_the_same_place_are_one():
    twice = {"supportedInterfaces": NEWER["supportedInterfaces"] * 2}
    assert len(shown(twice)["supportedInterfaces"]) == 1


def test_a_runtime_that_asks_for_a_signature_says_so_in_its_card():
    card = shown(OLDER, Guard(URL, None, ()))
    assert card["securitySchemes"] == {"gateway": {"type": "http", "scheme": "AWS4-HMAC-SHA256"}}


def test_an_issuer_without_openid_is_named_as_bearer_tokens():
    card = shown(NEWER, Guard(URL, "https://issuer.test/.well-known/oauth-authorization-server", ()))
    scheme = {"httpAuthSecurityScheme": {"scheme": "Bearer", "bearerFormat": "JWT"}}
    assert card["securitySchemes"] == {"gateway": scheme}


def test_what_an_agent_says_about_itself_passes():
    told = {
        "description": "d",
        "version": "1",
        "provider": {"organization": "o", "url": "https://o.test"},
        "defaultInputModes": ["text/plain"],
        "skills": [{"id": "s", "name": "n", "tags": ["t"]}],
        "capabilities": {"streaming": True, "extensions": [{"uri": "urn:x", "required": True}]},
    }
    card = shown(NEWER | told)
    assert {name: card[name] for name in told} == told
