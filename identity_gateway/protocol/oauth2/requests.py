"""The back channel: one function for each request to a vendor (RFC 6749, 7009, 7523, 7662, 8693). It sends none.

Everything that may be secret stands in the body or a header. What proves the client was signed before, if it had to be.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import (
    SECRET_NAMES,
    Encoding,
    Endpoint,
    Exchange,
    Introspect,
    Revoke,
    UserInfo,
)
from identity_gateway.protocol.oauth2 import scopes as scope_texts
from identity_gateway.protocol.oauth2.authentication import prove
from identity_gateway.protocol.oauth2.authorization import check_caller_parameter, targets
from identity_gateway.protocol.oauth2.expansion import Words, endpoint_url, refuse, with_caller_variables
from identity_gateway.protocol.oauth2.model import Assertion, Client, Outgoing, Requested

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - names of RFC 8693 and RFC 7523
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
JWT = "urn:ietf:params:oauth:token-type:jwt"

_SENT_BY_US = SECRET_NAMES | {"client_assertion", "subject_token", "actor_token"}


def code_request(
    client: Client,
    *,
    code: Secret,
    redirect_uri: str,
    code_verifier: str | None,
    requested: Requested,
    assertion: Assertion | None,
) -> Outgoing:
    """Return the exchange of an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5, RFC 8707 §2.2)."""
    client, _ = with_caller_variables(client, requested.parameters)
    scope = scope_texts.join(client.descriptor.scopes, requested.scopes)
    brought = {"code": code.reveal(), "redirect_uri": redirect_uri, "code_verifier": code_verifier, "scope": scope}
    more = [("code_verifier", code_verifier)] if code_verifier is not None else []
    more += [("resource", each) for each in requested.resources]
    words = Words(client, brought)
    endpoint = client.descriptor.token
    proof = prove(words, "token", endpoint.auth, assertion=assertion)
    return outgoing(words, endpoint, proof, more)


def refresh_endpoint(client: Client) -> Endpoint:
    """Return how a refresh is sent: the token endpoint's words where `[refresh]` says nothing."""
    refresh, token = client.descriptor.refresh, client.descriptor.token
    return Endpoint(
        url=refresh.url or token.url,
        method=refresh.method,
        auth=refresh.auth or token.auth,
        encoding=refresh.encoding or token.encoding,
        headers=token.headers,
        params=refresh.params,
        success=token.success,
    )


def refresh_request(
    client: Client,
    *,
    refresh_token: Secret | None,
    access_token: Secret | None,
    scopes: Sequence[str],
    assertion: Assertion | None,
) -> Outgoing:
    """Return a refresh (RFC 6749 §6). Raises ValidationFailed where the vendor has none, or a token is missing."""
    rules, refresh = client.descriptor.scopes, client.descriptor.refresh
    if refresh.how == "never":
        raise ValidationFailed("This vendor's tokens cannot be refreshed.")
    scope = scope_texts.join(rules, scopes)
    brought = {
        "refresh_token": refresh_token.reveal() if refresh_token else None,
        "access_token": access_token.reveal() if access_token else None,
        "scope": scope,
    }
    words, endpoint = Words(client, brought), refresh_endpoint(client)
    more = [(rules.parameter, scope)] if refresh.send_scope and scope else []
    proof = prove(words, "refresh", endpoint.auth, assertion=assertion, token=access_token)
    return outgoing(words, endpoint, proof, more)


def exchange_request(
    client: Client,
    *,
    grant: str,
    subject_token: Secret,
    subject_token_type: str = JWT,
    actor_token: Secret | None = None,
    actor_token_type: str | None = None,
    requested: Requested,
    params: Mapping[str, str],
    assertion: Assertion | None,
    authenticate: bool = True,
) -> Outgoing:
    """Return a token exchange (RFC 8693 §2.1) or a JWT grant (RFC 7523 §2.1) for `token_exchange` or `jwt_bearer`.

    `params` are the caller's: they may add, never replace what the gateway sets, `subject_token_type` included (take it
    out of them before). Without `authenticate` nothing names the client.
    """
    endpoint = client.descriptor.token
    if endpoint.encoding == "query":
        raise ValidationFailed("This vendor takes parameters in URLs only, and a subject token may not stand there.")
    client, extra = with_caller_variables(client, params)
    for name, value in extra.items():
        check_caller_parameter(client, name, value)
    rules = client.descriptor.scopes
    words = Words(client)
    pairs = _subject(grant, subject_token, subject_token_type, actor_token, actor_token_type)
    if scope := scope_texts.join(rules, requested.scopes):
        pairs.append((rules.parameter, scope))
    described = client.descriptor.exchange
    added = words.pairs(_added(described, grant))
    pairs += [each for each in added if each[0] not in extra] + targets(requested) + list(extra.items())
    proof = prove(words, "exchange", endpoint.auth, assertion=assertion) if authenticate else ([], [])
    bare = endpoint.model_copy(update={"params": {}})
    return outgoing(words, bare, proof, pairs)


def _added(described: Exchange | None, grant: str) -> Mapping[str, str]:
    return described.params if described is not None and described.grant == grant else {}


def _subject(
    grant: str, subject: Secret, subject_type: str, actor: Secret | None, actor_type: str | None
) -> list[tuple[str, str]]:
    if grant == "jwt_bearer":
        return [("grant_type", JWT_BEARER), ("assertion", subject.reveal())]
    if grant != "token_exchange":
        raise refuse("grant", "neither token_exchange nor jwt_bearer")
    pairs = [("grant_type", TOKEN_EXCHANGE)]
    pairs += [("subject_token", subject.reveal()), ("subject_token_type", subject_type)]
    if actor is not None:
        # RFC 8693 §2.1: the type is required with the token, and forbidden without.
        if not actor_type:
            raise refuse("actor_token_type", "needed with an actor token")
        pairs += [("actor_token", actor.reveal()), ("actor_token_type", actor_type)]
    return pairs


def revoke_request(
    client: Client, revoke: Revoke, *, access: Secret | None, refresh: Secret | None, assertion: Assertion | None = None
) -> Outgoing:
    """Return a revocation (RFC 7009 §2.1, or the vendor's own way). Raises ValidationFailed when a token is missing."""
    token = access if revoke.needs == "access_token" else refresh
    if token is None:
        raise refuse(revoke.needs, "needed to revoke, and not there")
    brought = {
        "access_token": access.reveal() if access else None,
        "refresh_token": refresh.reveal() if refresh else None,
        "token": token.reveal(),
    }
    words = Words(client, brought)
    return outgoing(words, revoke, prove(words, "revoke", revoke.auth, assertion=assertion, token=token))


def introspect_request(
    client: Client, introspect: Introspect, access: Secret, assertion: Assertion | None = None
) -> Outgoing:
    """Return the question whether an access token lives (RFC 7662 §2.1, or the vendor's own)."""
    words = Words(client, {"access_token": access.reveal()})
    return outgoing(words, introspect, prove(words, "introspect", introspect.auth, assertion=assertion, token=access))


def userinfo_request(
    client: Client, userinfo: UserInfo, access: Secret, assertion: Assertion | None = None
) -> Outgoing:
    """Return the question whose account an access token opens."""
    words = Words(client, {"access_token": access.reveal()})
    return outgoing(words, userinfo, prove(words, "userinfo", userinfo.auth, assertion=assertion, token=access))


def outgoing(
    words: Words,
    endpoint: Endpoint,
    proof: tuple[list[tuple[str, str]], list[tuple[str, str]]],
    more: Sequence[tuple[str, Any]] = (),
) -> Outgoing:
    """Put a request together. What the template says wins over `more`; a parameter of `more` may be repeated.

    Values of `more` other than texts need the JSON encoding. Raises ValidationFailed rather than let a secret stand in
    a URL.
    """
    proving_headers, proving = proof
    pairs: list[tuple[str, Any]] = [*words.pairs(endpoint.params)]
    named = {name for name, _ in pairs}
    pairs += [(name, value) for name, value in (*more, *proving) if name not in named]
    url, body, content = endpoint_url(words, endpoint.url), None, ""
    if endpoint.encoding == "query":
        url = _queried(url, pairs)
    elif endpoint.method == "GET" and pairs:
        raise refuse("method", "a GET has no body: this client's authentication does not fit this endpoint")
    else:
        body, content = _body(endpoint.encoding, pairs, empty=None if endpoint.method in {"GET", "DELETE"} else b"")
    return Outgoing(endpoint.method, url, tuple(_headers(words, endpoint, proving_headers, content)), body)


def _queried(url: str, pairs: Sequence[tuple[str, Any]]) -> str:
    secret = next((name for name, _ in pairs if name in _SENT_BY_US), None)
    if secret is not None:
        raise refuse(secret, "a URL may not carry this")
    return url + ("&" if "?" in url else "?") + urlencode(pairs, quote_via=quote) if pairs else url


def _body(encoding: Encoding, pairs: Sequence[tuple[str, Any]], *, empty: bytes | None) -> tuple[bytes | None, str]:
    if not pairs:
        return empty, ""
    if encoding == "form":
        return urlencode(pairs).encode("ascii"), "application/x-www-form-urlencoded"
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name not in document:
            document[name] = value
        elif isinstance(document[name], list):
            document[name] = [*document[name], value]
        else:
            document[name] = [document[name], value]
    return json.dumps(document, separators=(",", ":")).encode("ascii"), "application/json"


def _headers(
    words: Words, endpoint: Endpoint, proving: Sequence[tuple[str, str]], content: str
) -> list[tuple[str, str]]:
    headers = [(name, words.header(name, template)) for name, template in endpoint.headers.items()]
    named = {name.lower() for name, _ in headers}
    standard = [("Accept", "application/json"), ("Content-Type", content), *proving]
    return headers + [(name, value) for name, value in standard if value and name.lower() not in named]
