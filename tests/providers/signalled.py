"""Does `[signals]` describe the webhooks that the vendor really sends? Read here word for word, and independently."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from identity_gateway.protocol.descriptor import Condition, Descriptor, Effect
from tests.fakes.vendor import Event, Vendor

TIMESTAMP = "1800000000"
KEY = b"webhook-key"


def check_signals(descriptor: Descriptor, vendor: type[Vendor]) -> None:
    """Raise AssertionError unless every example of the vendor's is verified, told apart and understood."""
    webhooks, signals = vendor.webhooks, descriptor.signals
    assert (signals is None) == (webhooks is None)
    if signals is None or webhooks is None:
        return
    signature = signals.signature
    assert (signature.secret, signature.timestamp_header) == (webhooks.secret, webhooks.timestamp_header)
    assert webhooks.timestamp_header is None or signature.max_skew == webhooks.max_skew
    assert signals.deduplicate == (webhooks.once[1] if webhooks.once[0] == "header" else f".{webhooks.once[1]}")
    for event in webhooks.events:
        body = json.dumps(event.body).encode()
        sent = webhooks.signed(KEY, body, TIMESTAMP)
        base = signature.base.replace("{timestamp}", TIMESTAMP).encode().replace(b"{body}", body)
        assert sent[signature.header] == signature.prefix + hmac.new(KEY, base, hashlib.sha256).hexdigest()
        assert _understood(signals.effects, event) == (event.ends, event.flushes)
        if webhooks.challenge is not None:
            assert signals.challenge is not None
            assert not _holds(signals.challenge.when, event.body, event.headers)
    assert (signals.challenge is None) == (webhooks.challenge is None)
    if signals.challenge is not None and webhooks.challenge is not None:
        question, answer = webhooks.challenge
        assert _holds(signals.challenge.when, question, {})
        (value,) = _at(question, signals.challenge.path)
        code = hmac.new(KEY, value.encode(), hashlib.sha256).hexdigest()
        said = {
            name: text.replace("{value}", value).replace("{hmac}", code)
            for name, text in signals.challenge.answer.items()
        }
        assert said == answer(KEY)


def _understood(effects: tuple[Effect, ...], event: Event) -> tuple[frozenset[tuple[str, str, str]], bool]:
    ends, flushes = set(), False
    for effect in effects:
        if not all(_holds(condition, event.body, event.headers) for condition in effect.when):
            continue
        if effect.action == "flush":
            flushes = True
            continue
        accounts = _at(event.body, effect.account) if effect.account else [""]
        assert accounts, f"{effect.account} is not there: whose grants would end?"
        for account in accounts:
            for subject in _at(event.body, effect.subject) if effect.subject else [""]:
                ends.add((str(account), str(subject), effect.part or ""))
    return frozenset(ends), flushes


def _holds(condition: Condition, body: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    if condition.header is not None:
        found: list[Any] = [value for name, value in headers.items() if name.lower() == condition.header.lower()]
    else:
        found = _at(body, condition.path or "")
    if condition.present is not None:
        return bool(found) is condition.present
    wanted = (condition.equals,) if condition.equals is not None else condition.one_of
    return any(value in wanted for value in found)


def _at(body: Any, path: str) -> list[Any]:
    """Return the value at a path, or the values if it is a list; nothing if there is none."""
    for name in path.split("."):
        body = body.get(name) if isinstance(body, Mapping) else None
    return body if isinstance(body, list) else [] if body is None else [body]
