"""How a client finds out which token a runtime wants: the challenge, and the metadata that it points to (RFC 9728)."""

from urllib.parse import quote

from identity_gateway.errors import GatewayError, InvalidToken, NotFound
from identity_gateway.inbound import BearerTokens
from identity_gateway.model import Document
from identity_gateway.protocol import bearer
from identity_gateway.runtimes import Routes


class Discovery:
    """Answers for the runtimes of one gateway, which clients reach at `base_url`."""

    def __init__(self, routes: Routes, bearer_tokens: BearerTokens, *, base_url: str) -> None:
        self._routes = routes
        self._bearer_tokens = bearer_tokens
        self._base_url = base_url

    async def resource_metadata(self, asked: Document) -> Document:
        """Return the protected resource metadata of a runtime (RFC 9728 §2). Public by design.

        Raises NotFound for a runtime that is unknown or is not guarded by a JWT authorizer.
        """
        route = await self._routes.asked_for(asked)
        authorizer = route.configuration.authorizer if route else None
        if route is None or authorizer is None:
            raise NotFound("There is no protected resource metadata here.")
        metadata: Document = {
            "resource": self._invocation_url(asked),
            "authorization_servers": [await self._bearer_tokens.issuer_of(authorizer)],
            "bearer_methods_supported": ["header"],
        }
        if scopes := _advertised(authorizer):
            metadata["scopes_supported"] = list(scopes)
        return metadata

    async def challenge(self, asked: Document, error: GatewayError, *, shown: bool) -> bytes:
        """Return the WWW-Authenticate value that goes with a refused or missing bearer token."""
        code = None
        if shown:
            code = "invalid_token" if isinstance(error, InvalidToken) else "insufficient_scope"
        route = await self._routes.asked_for(asked)
        scopes = _advertised((route.configuration.authorizer if route else None) or {})
        return bearer.challenge(self._metadata_url(asked), error=code, scopes=scopes)

    def _invocation_url(self, asked: Document) -> str:
        identifier = quote(asked["agentRuntimeArn"], safe="")
        return f"{self._base_url}/runtimes/{identifier}/invocations{_query_of(asked)}"

    def _metadata_url(self, asked: Document) -> str:
        identifier = quote(asked["agentRuntimeArn"], safe="")
        path = f"/runtimes/{identifier}/invocations/.well-known/oauth-protected-resource"
        return self._base_url + path + _query_of(asked)


def _query_of(asked: Document) -> str:
    """Return the query that the client used: the resource in the metadata must be its URL (RFC 9728 §3.3)."""
    names = {name: asked[name] for name in ("qualifier", "accountId") if name in asked}
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in names.items()) if names else ""


def _advertised(authorizer: Document) -> tuple[str, ...]:
    """Return the scopes that clients are told to ask for (AWS: `advertisedScopeMapping`)."""
    mapping = authorizer.get("advertisedScopeMapping", {})
    return tuple(mapping.get(scope, scope) for scope in authorizer.get("allowedScopes", ()))
