"""The front channel: where a browser is sent (RFC 6749 §4.1.1), and what it brings back (§4.1.2, RFC 9207).

`state` is bound to a session by whoever made it; it is not compared here.
"""

import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import RESERVED, Authorize
from identity_gateway.protocol.oauth2 import scopes
from identity_gateway.protocol.oauth2.expansion import (
    Words,
    check_parameter,
    endpoint_url,
    refuse,
    with_caller_variables,
)
from identity_gateway.protocol.oauth2.model import Callback, Client, Requested

_NOT_FOR_CALLERS = RESERVED | {"response_mode", "requested_subject"}
"""Another response mode would send the code past the callback, in a fragment or to whoever listens. Servers that let
clients impersonate users take the user's name as `requested_subject`: whose token it is says the caller's user alone.
"""

_NAME = re.compile(r"[A-Za-z0-9_.-][A-Za-z0-9_.\[\]-]{0,255}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_MAX_CALLBACK_PAIRS = 40
_MAX_CALLBACK_VALUE = 8192
_MAX_URL = 8192


def code_challenge(verifier: str) -> str:
    """Return the S256 challenge of a code verifier (RFC 7636 §4.2). Raises ValueError for a verifier out of form."""
    if not _VERIFIER.fullmatch(verifier):
        message = "a code verifier has 43 to 128 unreserved characters"
        raise ValueError(message)
    return str(create_s256_code_challenge(verifier))


def authorization_url(
    client: Client, requested: Requested, *, redirect_uri: str, state: str, code_challenge: str | None
) -> str:
    """Return the URL of an authorization request. Raises ValidationFailed naming a parameter that may not be set.

    Callers never replace what the gateway sets, however they spell it; they may replace what the descriptor suggests
    where it lets them name it. `code_challenge` is left out where the descriptor turns PKCE off. A URL of over 8,192
    characters is refused: proxies on the way take no more, and what it is made of is kept with every session.
    """
    authorize = client.descriptor.authorize
    if authorize is None:
        raise ValidationFailed("This vendor has no authorization endpoint: users cannot consent there.")
    client, extra = with_caller_variables(client, requested.parameters)
    _check_extra(client, authorize, extra)
    scope = scopes.join(client.descriptor.scopes, (*client.descriptor.scopes.always, *requested.scopes))
    words = Words(client, {"redirect_uri": redirect_uri, "scope": scope})
    url = endpoint_url(words, authorize.url)
    ours = [("response_type", "code"), ("client_id", client.id), ("redirect_uri", redirect_uri), ("state", state)]
    if authorize.pkce == "S256":
        if code_challenge is None:
            raise ValidationFailed("This vendor's authorization request needs a code challenge.")
        ours += [("code_challenge", code_challenge), ("code_challenge_method", "S256")]
    if (scope or client.descriptor.scopes.send_empty) and client.descriptor.scopes.parameter not in authorize.params:
        ours.append((client.descriptor.scopes.parameter, scope))
    theirs = [(name, value) for name, value in words.pairs(authorize.params) if name not in extra]
    whole = _with_query(url, [*ours, *theirs, *targets(requested), *extra.items()])
    if len(whole) > _MAX_URL:
        raise refuse("customParameters", f"with the scopes and resources they make a URL of over {_MAX_URL} characters")
    return whole


def targets(requested: Requested) -> list[tuple[str, str]]:
    """Return where the tokens are to be used: `resource` (RFC 8707) and `audience` (RFC 8693), repeated as given."""
    found = [("resource", each) for each in requested.resources] + [("audience", each) for each in requested.audiences]
    for name, value in found:
        check_parameter(name, value)
    return found


def _check_extra(client: Client, authorize: Authorize, extra: Mapping[str, str]) -> None:
    for name, value in extra.items():
        check_caller_parameter(client, name, value)
        if authorize.caller_params is not None and name not in authorize.caller_params:
            raise refuse(name, "this vendor's authorization request takes no such parameter from callers")
        if name in client.descriptor.scopes.sets:
            # A set is a list of scopes: its text must be one that the gateway would have written.
            scopes.join(client.descriptor.scopes, filter(None, value.split(client.descriptor.scopes.separator)))


def check_caller_parameter(client: Client, name: str, value: str) -> None:
    """Raise ValidationFailed for a parameter that callers may never set, in whatever spelling a server folds into it.

    Some servers ignore case, and some read `.`, `-` and a bracket as part of a name like `_`.
    """
    if not _NAME.fullmatch(name):
        raise refuse(name[:64], "not the name of a parameter")
    folded = re.sub(r"[.-]", "_", name.lower().partition("[")[0])
    scope = client.descriptor.scopes.parameter.lower()
    if folded in _NOT_FOR_CALLERS:
        raise refuse(name, "only the gateway sets this parameter")
    if folded in {"scope", scope}:
        raise refuse(name, "give scopes as scopes")
    check_parameter(name, value)


def _with_query(url: str, pairs: Sequence[tuple[str, str]]) -> str:
    own = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    names = {name.lower() for name, _ in pairs} | RESERVED
    for name, _ in own:
        if name.lower() in names:
            raise refuse(name, "the authorization endpoint's own query names a parameter of the request")
    return url + ("&" if "?" in url else "?") + urlencode(pairs, quote_via=quote)


def check_callback(client: Client, pairs: Sequence[tuple[str, str]]) -> Callback:
    """Return what an authorization response says (RFC 6749 §4.1.2). Raises ValidationFailed for anything doubtful.

    Refused: a parameter given twice, a code beside an error, neither of them, an `iss` that is not the issuer of this
    client, and a missing `iss` where this vendor always sends one (RFC 9207 §2.4: a mix-up). Does not compare `state`.
    """
    given = _once(pairs)
    _check_issuer(client, given.get("iss"))
    code, error = given.get("code", ""), given.get("error", "")
    if bool(code) == bool(error):
        raise ValidationFailed("The vendor's answer is neither a code nor an error.", reason="code XOR error")
    if error:
        return Callback(None, _plain(error, 100), _plain(given.get("error_description", ""), 300))
    return Callback(Secret(code), variables=dict(_captured(client, given)))


def _once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    given = dict(pairs)
    if len(given) != len(pairs):
        raise ValidationFailed("The vendor's answer names a parameter twice.", reason="duplicate callback parameter")
    if len(pairs) > _MAX_CALLBACK_PAIRS or any(len(value) > _MAX_CALLBACK_VALUE for value in given.values()):
        raise ValidationFailed("The vendor's answer is too large.", reason="callback too large")
    return given


def _check_issuer(client: Client, issuer: str | None) -> None:
    authorize = client.descriptor.authorize
    known = known_issuer(client)
    if issuer is None:
        if authorize is not None and authorize.issuer_required:
            raise ValidationFailed("The vendor's answer does not say whose it is.", reason="iss missing (RFC 9207)")
        return
    if known is not None and not hmac.compare_digest(known.encode(), issuer.encode(errors="replace")):
        raise ValidationFailed("The vendor's answer is another vendor's.", reason="iss differs (RFC 9207)")
    if known is None and authorize is not None and authorize.issuer_required:
        raise ValidationFailed("The vendor's answer cannot be checked.", reason="iss given, but the issuer is unknown")


def known_issuer(client: Client) -> str | None:
    """Return the `iss` that this client's authorization server sends, or None where nobody said."""
    if client.issuer is not None:
        return client.issuer
    authorize = client.descriptor.authorize
    if authorize is None or authorize.issuer is None or "authorize" in client.endpoints:
        return None
    return Words(client).text(authorize.issuer)


def _captured(client: Client, given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, variable in client.descriptor.variables.items():
        value = given.get(variable.origin or name) if variable.source == "callback" else None
        if value is None:
            continue
        if not variable.accepts(value):
            raise ValidationFailed("The vendor's answer holds an unexpected value.", reason=f"callback variable {name}")
        yield name, value


def _plain(text: str, limit: int) -> str:
    return "".join(each if each.isprintable() else " " for each in text[:limit]).strip()
