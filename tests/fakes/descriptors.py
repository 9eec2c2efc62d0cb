"""A vendor that does nothing special, as a document: tests change the one thing that they are about."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import Descriptor, parse
from identity_gateway.protocol.oauth2 import Client

PLAIN: Mapping[str, Any] = {
    "schema": 1,
    "id": "plain",
    "name": "Plain",
    "verified": date(2026, 8, 21),
    "sources": ["https://vendor.example/docs"],
    "hosts": ["vendor.example", "*.vendor.example"],
    "agentcore": {"vendor": "PlainOauth2"},
    "authorize": {"url": "https://vendor.example/authorize"},
    "token": {"url": "https://vendor.example/token"},
}


def document(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the plain document with changes; tables are merged, everything else replaced."""
    return merged(PLAIN, changes or {})


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for key, value in other.items():
        both[key] = merged(both[key], value) if isinstance(value, Mapping) and key in both else value
    return both


def described(changes: Mapping[str, Any] | None = None) -> Descriptor:
    return parse(document(changes), file="plain.toml")


def client(changes: Mapping[str, Any] | None = None, **more: Any) -> Client:
    return Client(**{"descriptor": described(changes), "id": "client-1", "secret": Secret("s3cret-of-client"), **more})
