"""How scopes are written in requests and read in responses (RFC 6749 §3.3, and vendors' separators)."""

import re
from collections.abc import Iterable
from typing import Any

from identity_gateway.protocol.descriptor import ScopeRules
from identity_gateway.protocol.oauth2.expansion import refuse

_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}", re.ASCII)
_MAX_SCOPES = 1000


def join(rules: ScopeRules, scopes: Iterable[str]) -> str:
    """Return the scopes as one text, each once, in their order. Raises ValidationFailed for one that would be two."""
    wanted = list(dict.fromkeys(scopes))
    for scope in wanted:
        if not _TOKEN.fullmatch(scope) or rules.separator in scope:
            raise refuse("scopes", "each must be one scope: no blanks, quotes, control characters, or separators")
    return rules.separator.join(wanted)


def split(rules: ScopeRules, value: Any) -> tuple[str, ...] | None:
    """Return the scopes of a response: a text with any of the separators, or a list. None when it did not say."""
    if isinstance(value, str):
        found = re.split(f"[{re.escape(rules.response_separators)}]+", value)
    elif isinstance(value, list) and all(isinstance(each, str) for each in value):
        found = [each.strip() for each in value]
    else:
        return None
    return tuple(dict.fromkeys(each for each in found[:_MAX_SCOPES] if each and each.isprintable()))
