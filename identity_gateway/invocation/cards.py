"""The card of an A2A agent, as its clients may see it: every address and every credential it names is the gateway's.

A card that passed unchanged would tell clients to send their tokens to the agent itself, past every check. So what a
card says is taken over by name, and what this module does not know is left out (A2A 0.3 §5.5, 1.0 §4.4.1). It does not
check that the agent says the truth about itself.
"""

import json
from typing import Any

from identity_gateway.errors import AgentFailed
from identity_gateway.invocation.discovery import Guard
from identity_gateway.model import Document

MAX_CARD = 1 << 20
"""Bytes of a card."""

_TOLD = (
    "name",
    "description",
    "version",
    "protocolVersion",
    "provider",
    "documentationUrl",
    "iconUrl",
    "defaultInputModes",
    "defaultOutputModes",
)
"""What a card says about the agent, not about how to reach it."""

_SKILL = ("id", "name", "description", "tags", "examples", "inputModes", "outputModes")
_CAPABILITIES = ("streaming", "pushNotifications", "stateTransitionHistory")
_EXTENSION = ("uri", "description", "required")
_SCHEME = "gateway"
_BINDING = "JSONRPC"
_OPENID = "/.well-known/openid-configuration"


def rewritten(body: bytes, guard: Guard) -> Document:
    """Return the card that clients are shown. Raises AgentFailed for one that cannot be served.

    Its interfaces are reduced to JSON-RPC, the one binding that an A2A runtime has (AWS: A2A protocol contract), and
    stand at the gateway. Its security is that of the runtime. Gone are its signatures, which no longer hold, and its
    extended card, which would come from the agent unseen.
    """
    card = _parsed(body)
    told: Document = {name: card[name] for name in _TOLD if name in card}
    capabilities = _object(card.get("capabilities", {}))
    told["capabilities"] = _named(capabilities, _CAPABILITIES)
    if "extensions" in capabilities:
        told["capabilities"]["extensions"] = [_named(each, _EXTENSION) for each in _list(capabilities["extensions"])]
    told["skills"] = [_named(skill, _SKILL) for skill in _list(card.get("skills", []))]
    newer, older = "supportedInterfaces" in card, "url" in card or "supportedInterfaces" not in card
    if newer:
        told["supportedInterfaces"] = _interfaces(card["supportedInterfaces"], guard.url)
    if older:
        told |= {"url": guard.url, "preferredTransport": _BINDING}
        _refuse_without_json_rpc(card)
    return told | _security(guard, newer=newer, older=older)


def _parsed(body: bytes) -> Document:
    try:
        return _object(json.loads(body, parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        raise AgentFailed("The agent's card is not JSON.", reason="agent card: not JSON") from None


def _interfaces(offered: Any, url: str) -> list[Document]:
    """Return the agent's JSON-RPC interfaces, one per version of the protocol, at the gateway's address."""
    versions = []
    for interface in map(_object, _list(offered)):
        version = interface.get("protocolVersion", "1.0")
        if interface.get("protocolBinding") == _BINDING and isinstance(version, str) and version not in versions:
            versions.append(version)
    if not versions:
        raise _unreachable()
    return [{"url": url, "protocolBinding": _BINDING, "protocolVersion": version} for version in versions]


def _refuse_without_json_rpc(card: Document) -> None:
    """Refuse a card of version 0.3 whose agent speaks gRPC or REST alone: its address would lead nowhere."""
    offered = [card.get("preferredTransport", _BINDING)]
    offered += [_object(interface).get("transport") for interface in _list(card.get("additionalInterfaces") or [])]
    if _BINDING not in offered:
        raise _unreachable()


def _security(guard: Guard, *, newer: bool, older: bool) -> Document:
    """Return the security of the runtime, in the words of A2A 1.0 and of 0.3: a card may speak both."""
    kind, wrapper, members = _scheme(guard)
    security: Document = {"securitySchemes": {_SCHEME: {}}}
    if newer:
        security["securitySchemes"][_SCHEME] |= {wrapper: members}
        security["securityRequirements"] = [{"schemes": {_SCHEME: {"list": list(guard.scopes)}}}]
    if older:
        security["securitySchemes"][_SCHEME] |= {"type": kind, **members}
        security["security"] = [{_SCHEME: list(guard.scopes)}]
    return security


def _scheme(guard: Guard) -> tuple[str, str, Document]:
    """Return a scheme's type in A2A 0.3, its name in 1.0, and its members, which are the same in both."""
    if guard.discovery_url is None:
        return "http", "httpAuthSecurityScheme", {"scheme": "AWS4-HMAC-SHA256"}
    if guard.discovery_url.endswith(_OPENID):
        return "openIdConnect", "openIdConnectSecurityScheme", {"openIdConnectUrl": guard.discovery_url}
    return "http", "httpAuthSecurityScheme", {"scheme": "Bearer", "bearerFormat": "JWT"}


def _named(value: Any, names: tuple[str, ...]) -> Document:
    found = _object(value)
    return {name: found[name] for name in names if name in found}


def _object(value: Any) -> Document:
    if not isinstance(value, dict):
        raise _malformed("an object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _malformed("a list")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _malformed(missing: str) -> AgentFailed:
    return AgentFailed("The agent's card is malformed.", reason=f"agent card: {missing} was expected")


def _unreachable() -> AgentFailed:
    return AgentFailed("The agent's card offers no JSON-RPC interface.", reason="agent card: no JSONRPC interface")
