"""A whole vendor: the sections of a descriptor together. Whether they fit each other is `consistency`'s to say."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Literal

from pydantic import Field

from identity_gateway.protocol.descriptor.requests import (
    ApiKey,
    Authorize,
    ClientRules,
    Exchange,
    Introspect,
    Machine,
    Refresh,
    Revoke,
    ScopeRules,
    TokenEndpoint,
    UserInfo,
)
from identity_gateway.protocol.descriptor.rules import ErrorRule, Host, Name, Part, Variable
from identity_gateway.protocol.descriptor.signals import Signals


class AgentCore(Part):
    """How AWS names the vendor: `credentialProviderVendor`, and the member of the configuration union."""

    vendor: str = Field(pattern=r"^[A-Za-z0-9]{1,40}Oauth2$")
    config: str = Field(default="includedOauth2ProviderConfig", pattern=r"^[a-z][A-Za-z0-9]*Oauth2ProviderConfig$")


class Vendor(Part):
    """A vendor. `hosts` are the only ones that ever receive its credentials; `*.` stands for any subdomain.

    `{issuer}` among the hosts says that the provider's own issuer is one. `variables` are declared once and known to
    every template. Errors are tried in their order, for every purpose.
    """

    version: Literal[1] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    name: str = Field(min_length=1, max_length=60)
    verified: date
    sources: tuple[str, ...] = Field(min_length=1)
    hosts: tuple[Host, ...] = Field(min_length=1)
    token_prefixes: tuple[str, ...] = ()
    agentcore: AgentCore
    variables: Mapping[Name, Variable] = Field(default_factory=dict)
    client: ClientRules = Field(default_factory=ClientRules)
    scopes: ScopeRules = Field(default_factory=ScopeRules)
    authorize: Authorize | None = None
    token: TokenEndpoint
    refresh: Refresh = Field(default_factory=Refresh)
    reconsent_supersedes: bool = False
    max_grants_per_user: int | None = Field(default=None, ge=1)
    revoke: tuple[Revoke, ...] = ()
    introspect: Introspect | None = None
    userinfo: UserInfo | None = None
    machine: tuple[Machine, ...] = ()
    exchange: Exchange | None = None
    errors: tuple[ErrorRule, ...] = ()
    api_key: ApiKey | None = None
    signals: Signals | None = None

    def urls(self) -> Iterator[tuple[str, str]]:
        """Yield every URL template with the key that it stands at."""
        if self.authorize is not None:
            yield "authorize.url", self.authorize.url
        yield "token.url", self.token.url
        if self.refresh.url is not None:
            yield "refresh.url", self.refresh.url
        for key in ("introspect", "userinfo"):
            endpoint = getattr(self, key)
            if endpoint is not None:
                yield f"{key}.url", endpoint.url
        for key in ("revoke", "machine"):
            for index, endpoint in enumerate(getattr(self, key)):
                yield f"{key}.{index}.url", endpoint.url

    def may_receive(self, host: str) -> bool:
        """Say whether a credential of this vendor may be sent to the host (lower case, without a port)."""
        return any(host == rule or (rule.startswith("*.") and host.endswith(rule[1:])) for rule in self.hosts)
