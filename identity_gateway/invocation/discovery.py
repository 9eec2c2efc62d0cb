"""How a client finds out which token a runtime wants: the challenge, and the metadata that it points to (RFC 9728).

And what stands before an agent, for those who describe it elsewhere (`cards`). Nothing is proven here, and all of it is
public by design.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote

from identity_gateway.errors import GatewayError, InvalidToken, NotFound
from identity_gateway.inbound import BearerTokens
from identity_gateway.model import Document
from identity_gateway.protocol import bearer
from identity_gateway.protocol.request import Request
from identity_gateway.runtimes import Routes

WELL_KNOWN = b"/.well-known/oauth-protected-resource"

_NAMING = {b"qualifier", b"accountId"}
_RUNTIMES = b"/runtimes/"
_SEGMENT = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%-]+")  # RFC 3986 §3.3: one segment, as it stood on the wire
_QUERY = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]+")
_WITH_REFRESH = "offline_access"


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands before an agent: its URL at this gateway, who issues tokens for it, and the scopes to ask for.

    `discovery_url` is None for a runtime that asks for an AWS signature.
    """

    url: str
    discovery_url: str | None
    scopes: tuple[str, ...]


def resource_path(raw_path: bytes) -> bytes | None:
    """Return the path of the resource whose metadata a path names, or None if it names no metadata.

    The well-known name stands before the resource's path (RFC 9728 §3.1), or after it (AWS). Alone it names the whole
    gateway, which is no resource: the path that is returned is empty then.
    """
    if raw_path.endswith(WELL_KNOWN):
        return raw_path.removesuffix(WELL_KNOWN)
    return raw_path.removeprefix(WELL_KNOWN) if raw_path.startswith(WELL_KNOWN + b"/") else None


class Discovery:
    """Answers for the runtimes of one gateway, which clients reach at `base_url`.

    Every method takes what was asked for and, where there is one, the request that asked: a URL is given back the way
    the client wrote it, because clients compare (RFC 9728 §3.3, RFC 8707).
    """

    def __init__(self, routes: Routes, bearer_tokens: BearerTokens, *, base_url: str) -> None:
        self._routes = routes
        self._bearer_tokens = bearer_tokens
        self._base_url = base_url

    async def resource_metadata(self, asked: Document, request: Request | None = None) -> Document:
        """Return the protected resource metadata of a runtime (RFC 9728 §2). Public by design.

        Raises NotFound for a runtime that is unknown or is not guarded by a JWT authorizer.
        """
        route = await self._routes.asked_for(asked)
        authorizer = route.configuration.authorizer if route else None
        if route is None or authorizer is None:
            raise NotFound("There is no protected resource metadata here.")
        metadata: Document = {
            "resource": self._url(asked, request),
            "authorization_servers": [await self._bearer_tokens.issuer_of(authorizer)],
            "bearer_methods_supported": ["header"],
        }
        if scopes := _advertised(authorizer):
            metadata["scopes_supported"] = list(scopes)
        return metadata

    async def challenge(
        self, asked: Document, error: GatewayError, *, shown: bool, request: Request | None = None
    ) -> bytes:
        """Return the WWW-Authenticate value that goes with a refused or missing bearer token.

        `shown` says whether the caller showed one: others are not told of an error (RFC 6750 §3.1).
        """
        code = None
        if shown:
            code = "invalid_token" if isinstance(error, InvalidToken) else "insufficient_scope"
        route = await self._routes.asked_for(asked)
        scopes = _advertised((route.configuration.authorizer if route else None) or {})
        return bearer.challenge(self._url(asked, request, WELL_KNOWN.decode()), error=code, scopes=scopes)

    async def guard(self, asked: Document, request: Request | None = None) -> Guard:
        """Return what stands before an agent. Raises NotFound for an unknown runtime."""
        route = await self._routes.asked_for(asked)
        if route is None:
            raise NotFound("There is no such agent runtime or endpoint.")
        authorizer = route.configuration.authorizer
        return Guard(
            self._url(asked, request),
            authorizer["discoveryUrl"] if authorizer is not None else None,
            _advertised(authorizer or {}),
        )

    async def protocol(self, asked: Document) -> tuple[str, bool] | None:
        """Return the protocol of a runtime and whether a JWT authorizer guards it; None if there is no such runtime."""
        route = await self._routes.asked_for(asked)
        return (route.configuration.protocol, route.configuration.authorizer is not None) if route else None

    def _url(self, asked: Document, request: Request | None, suffix: str = "") -> str:
        typed = _typed(request) if request is not None else None
        identifier, query = typed or (quote(asked["agentRuntimeArn"], safe=""), _query_of(asked))
        return f"{self._base_url}/runtimes/{identifier}/invocations{suffix}{'?' if query else ''}{query}"


def _typed(request: Request) -> tuple[str, str] | None:
    """Return the runtime's segment and what names the endpoint as the client wrote them, or None where neither fits.

    Nothing else of the query is repeated: some clients put their token there.
    """
    path = resource_path(request.raw_path)
    path = request.raw_path if path is None else path
    identifier = path.removeprefix(_RUNTIMES).partition(b"/")[0]
    if not path.startswith(_RUNTIMES) or not _SEGMENT.fullmatch(identifier):
        return None
    query = b"&".join(part for part in request.raw_query.split(b"&") if part.partition(b"=")[0] in _NAMING)
    return (identifier.decode(), query.decode()) if not query or _QUERY.fullmatch(query) else None


def _query_of(asked: Document) -> str:
    """Return the query that names the endpoint."""
    names = {name: asked[name] for name in ("qualifier", "accountId") if name in asked}
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in names.items())


def _advertised(authorizer: Document) -> tuple[str, ...]:
    """Return the scopes that clients are told to ask for (AWS: `advertisedScopeMapping`).

    A refresh token is the client's own wish, never what a resource asks for (MCP authorization: scope selection).
    """
    mapping = authorizer.get("advertisedScopeMapping", {})
    advertised = (mapping.get(scope, scope) for scope in authorizer.get("allowedScopes", ()))
    return tuple(scope for scope in advertised if scope != _WITH_REFRESH)
