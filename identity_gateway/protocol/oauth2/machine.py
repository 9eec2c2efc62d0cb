"""Credentials for the agent itself: which of the vendor's ways is meant, and the request (RFC 6749 §4.4, RFC 7523).

Which scopes and parameters share a token is the caller's to decide; the cache is not here.
"""

import re
from collections.abc import Mapping
from typing import Any

from identity_gateway.protocol import strictjson
from identity_gateway.protocol.descriptor import Machine
from identity_gateway.protocol.oauth2 import scopes as scope_texts
from identity_gateway.protocol.oauth2.authentication import prove
from identity_gateway.protocol.oauth2.authorization import check_caller_parameter, targets
from identity_gateway.protocol.oauth2.expansion import Words, check_parameter, refuse, with_caller_variables
from identity_gateway.protocol.oauth2.model import Assertion, Client, Outgoing, Requested
from identity_gateway.protocol.oauth2.requests import outgoing

_MAX_LISTED = 500
_MAX_TEXT = 256
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


def machine_entry(client: Client, requested: Requested) -> Machine | None:
    """Return the first way whose needs the caller or the operator met; None when the vendor has no way at all.

    Raises ValidationFailed naming what is missing when no way's needs are met.
    """
    entries = client.descriptor.machine
    missing = [_missing(client, entry, requested) for entry in entries]
    for entry, lacking in zip(entries, missing, strict=True):
        if not lacking:
            return entry
    if not entries:
        return None
    raise refuse(missing[-1][0], "this vendor needs it in customParameters")


def _missing(client: Client, entry: Machine, requested: Requested) -> list[str]:
    variables = client.descriptor.variables
    names = ((need, variables[need].origin or need if need in variables else need) for need in entry.needs)
    return [name for need, name in names if name not in requested.parameters and need not in client.variables]


def machine_request(client: Client, machine: Machine, requested: Requested, *, assertion: Assertion | None) -> Outgoing:
    """Return the request for a credential of the agent itself. Raises ValidationFailed naming a parameter.

    Parameters of the caller are variables, or ask for less (`narrow`), or are sent as they are where the entry lets
    them; with `narrow` nothing else may be named.
    """
    client, extra = with_caller_variables(client, requested.parameters)
    rules = client.descriptor.scopes
    scope = scope_texts.join(rules, requested.scopes)
    brought = {"scope": scope, "assertion": assertion.grant.reveal() if assertion and assertion.grant else None}
    words = Words(client, brought)
    more: list[tuple[str, Any]] = []
    if machine.send_scope and (scope or rules.send_empty):
        more.append((rules.parameter, scope))
    more += _narrowed(machine, requested, extra) if machine.narrow else _added(client, machine, requested, extra)
    proof = prove(words, "machine", machine.auth, assertion=assertion)
    return outgoing(words, machine, proof, more)


def _added(client: Client, machine: Machine, requested: Requested, extra: Mapping[str, str]) -> list[tuple[str, str]]:
    for name, value in extra.items():
        check_caller_parameter(client, name, value)
        if name in machine.params or (machine.caller_params is not None and name not in machine.caller_params):
            raise refuse(name, "this vendor takes no such parameter from callers")
    return [*targets(requested), *extra.items()]


def _narrowed(machine: Machine, requested: Requested, extra: Mapping[str, str]) -> list[tuple[str, Any]]:
    if requested.resources or requested.audiences:
        raise refuse("resources", "this vendor narrows its tokens by customParameters only")
    if requested.scopes and not machine.send_scope:
        raise refuse("scopes", "this vendor narrows its tokens by customParameters only")
    found = []
    for name, value in extra.items():
        if name not in machine.narrow:
            raise refuse(name, f"this vendor takes only {', '.join(machine.narrow)} from callers")
        check_parameter(name, value)
        found.append((name, _parsed(name, machine.narrow[name], value)))
    return found


def _parsed(name: str, form: str, text: str) -> Any:
    """Return what a customParameter says: JSON text, or a list with commas. Narrowing that says nothing is refused."""
    if form == "object":
        value = _json(name, text)
        if not isinstance(value, dict) or not value or len(value) > _MAX_LISTED:
            raise refuse(name, "must be a JSON object that is not empty")
        if not all(isinstance(each, str) and each and len(each) <= _MAX_TEXT for each in value.values()):
            raise refuse(name, "the values of this object must be texts")
        return value
    values = _json(name, text) if text.lstrip().startswith("[") else [each.strip() for each in text.split(",")]
    if not isinstance(values, list) or not values or len(values) > _MAX_LISTED:
        raise refuse(name, f"must be a list of 1 to {_MAX_LISTED}")
    read = _integer if form == "integers" else _text
    return [read(name, each) for each in values]


def _json(name: str, text: str) -> Any:
    try:
        return strictjson.loads(text.encode(), max_depth=3)
    except ValueError:
        raise refuse(name, "must be JSON") from None


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not _DIGITS.fullmatch(str(value)):
        raise refuse(name, "must be a list of whole numbers")
    return int(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > _MAX_TEXT or not value.isprintable():
        raise refuse(name, "must be a list of texts that are not empty")
    return value
