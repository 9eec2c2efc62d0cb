"""A whole identity provider: how its addresses are recognised, what its issuers are called, and what its tokens say."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from identity_gateway.protocol.descriptor.rules import Part, compiled
from identity_gateway.protocol.identity_provider.tokens import (
    ClaimName,
    Header,
    Kind,
    RefusedToken,
    ScopeClaim,
    Sentence,
)

_MAX_URL = 2048
_WELL_KNOWN = re.compile(r"(.*)/\.well-known/(?:openid-configuration|oauth-authorization-server)((?:/.*)?)", re.ASCII)


class RefusedAddress(Part):
    """A discovery URL that leads to no access token that could be verified, and the reason that administrators read."""

    discovery_url: str
    reason: Sentence


class Addresses(Part):
    """Patterns that must match a whole discovery URL. What is refused is looked at first."""

    discovery_urls: tuple[str, ...] = ()
    refused: tuple[RefusedAddress, ...] = ()

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        for pattern in (*self.discovery_urls, *(each.discovery_url for each in self.refused)):
            compiled(pattern)
        return self


class Tenant(Part):
    """An issuer that is a template, because one discovery document serves many tenants who share its keys.

    `placeholder` stands in the document's issuer for the value of `claim`, which must match `pattern` whole. Such a
    token is let in only where a custom claim of the authorizer says which tenants may come: a signature proves nothing
    about the tenant. `discovery_urls` are the addresses of such documents.
    """

    claim: ClaimName
    placeholder: Annotated[str, Field(pattern=r"^\{[a-z]+\}$")]
    pattern: str
    discovery_urls: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        for pattern in (self.pattern, *self.discovery_urls):
            compiled(pattern)
        return self


class Issuer(Part):
    """What the discovery documents of this provider may name as issuer.

    `patterns` match whole issuers. `elsewhere`: the issuer may be another URL than the one that the document stands at,
    against OIDC Discovery §4.3. `aliases`: other spellings of `iss` in tokens; users are known under the document's.
    `per_key`: keys carry an `issuer` member, which must be the token's.
    """

    patterns: tuple[str, ...] = ()
    elsewhere: bool = False
    aliases: tuple[str, ...] = ()
    per_key: bool = False
    tenant: Tenant | None = None

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        for pattern in self.patterns:
            compiled(pattern)
        return self


class IdentityProvider(Part):
    """An identity provider. What a file does not say is what AWS documents for any issuer.

    `clients` are the claims that hold the client, in their order: the first that a token has decides, and no other may
    differ. `scopes` likewise: the first that a token has holds all its scopes. `roles` is where roles stand; they are
    no scopes. `audience` is `required` where one issuer signs tokens for many APIs with the same claims. A token is of
    the first kind that describes it; where kinds are named, a token of none is refused. `leeway` is seconds.
    """

    version: Literal[1] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    name: str = Field(min_length=1, max_length=60)
    verified: date
    sources: tuple[str, ...] = Field(min_length=1)
    addresses: Addresses = Field(default_factory=Addresses)
    issuer: Issuer = Field(default_factory=lambda: Issuer(elsewhere=True))
    clients: tuple[ClaimName, ...] = ("client_id",)
    scopes: tuple[ScopeClaim, ...] = (ScopeClaim(claim="scope"), ScopeClaim(claim="scp", form="either"))
    roles: ClaimName | None = None
    audience: Literal["optional", "required"] = "optional"
    header: Header = Field(default_factory=Header)
    kinds: tuple[Kind, ...] = ()
    refused: tuple[RefusedToken, ...] = ()
    leeway: int = Field(default=60, ge=0, le=300)

    def recognises(self, discovery_url: str) -> bool:
        """Say whether a discovery URL is one of this provider's, be it one that is refused."""
        patterns = (*self.addresses.discovery_urls, *(each.discovery_url for each in self.addresses.refused))
        return _matches(patterns, discovery_url)

    def is_named(self, issuer: str) -> bool:
        """Say whether an issuer is called as this provider's are, wherever its document stands."""
        return _matches(self.issuer.patterns, issuer)

    def refusal_of(self, discovery_url: str) -> str | None:
        """Return why a discovery URL cannot be used, or None."""
        refused = (each.reason for each in self.addresses.refused if _matches((each.discovery_url,), discovery_url))
        return next(refused, None)

    def serves_tenants(self, discovery_url: str) -> bool:
        """Say whether the document at this URL serves many tenants."""
        return self.issuer.tenant is not None and _matches(self.issuer.tenant.discovery_urls, discovery_url)

    def issuer_fault(self, discovery_url: str, issuer: str) -> str | None:
        """Return why the document at a URL of this provider may not name this issuer, or None."""
        if self.issuer.patterns and not self.is_named(issuer):
            return "the discovery document names an issuer that is none of this provider's"
        if not self.issuer.elsewhere and issuer.removesuffix("/") != issuer_at(discovery_url):
            return "the discovery document names another issuer than its URL"
        return None

    def kind_of(self, claims: Mapping[str, Any]) -> Kind | None:
        """Return the kind of a token, or None where it is of none that has a name."""
        return next((kind for kind in self.kinds if kind.describes(claims)), None)


UNRECOGNISED = IdentityProvider(
    schema=1,
    id="unrecognised",
    name="an issuer that no file describes",
    verified=date(2026, 11, 23),
    sources=("RFC 9068",),
)
"""What holds where nobody said which provider it is: what AWS documents for any issuer."""


def issuer_at(discovery_url: str) -> str | None:
    """Return the issuer that a discovery URL stands for, without a final slash (OIDC Discovery §4, RFC 8414 §3.1)."""
    found = _WELL_KNOWN.fullmatch(discovery_url)
    return (found[1] + found[2]).removesuffix("/") if found else None


def _matches(patterns: tuple[str, ...], url: str) -> bool:
    return len(url) <= _MAX_URL and any(re.fullmatch(pattern, url, re.ASCII) for pattern in patterns)
