"""One vendor, one descriptor, and the product's own code between them: what every check of the suite stands on."""

from collections.abc import Mapping
from dataclasses import dataclass

from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import Descriptor
from identity_gateway.protocol.oauth2 import (
    Answered,
    Client,
    Credential,
    Refused,
    Requested,
    authorization_url,
    check_callback,
    code_challenge,
)
from tests.fakes.vendor import Family, Vendor
from tests.fakes.vendor.keys import KeyService
from tests.fakes.vendor.server import REDIRECT

VERIFIER = "kG1c2mPzb7l0A~tQ-9sWfR4uYh6xEoJdVn8iKq5aLw3"
STATE = "st4te-of-this-consent"


def client_of(descriptor: Descriptor, vendor: Vendor, *, secret: str | None = None) -> Client:
    """Return the client that an administrator of this gateway would have registered at the vendor."""
    return Client(
        descriptor,
        vendor.client_id,
        Secret(secret or vendor.client_secret),
        endpoints=vendor.endpoints,
        variables=settled(descriptor, vendor),
        secrets={name: Secret(value) for name, value in vendor.secret_values().items()},
        issuer=vendor.issuer,
    )


def settled(descriptor: Descriptor, vendor: Vendor) -> Mapping[str, str]:
    """Return the variables that are known before any call: of the operator, the issuer and the tenant."""
    found = {}
    for name, variable in descriptor.variables.items():
        given = {
            "operator": vendor.settings.get(name),
            "issuer": vendor.base or vendor.issuer,
            "tenant": vendor.tenant,
        }.get(variable.source)
        value = given if given is not None else variable.default
        if variable.source in {"operator", "issuer", "tenant"} and value is not None:
            found[name] = value
    return found


@dataclass
class Consented:
    """What a consent gave: the gateway's reading of it, and the vendor's own books."""

    answered: Answered
    families: list[Family]
    client: Client

    @property
    def credential(self) -> Credential:
        return self.answered.credentials[0]

    @property
    def family(self) -> Family:
        return self.families[0]


class Bench:
    """A vendor that has just opened, and a client of it. `ask…` go all the way through the product's code."""

    def __init__(self, descriptor: Descriptor, vendor: Vendor, *, secret: str | None = None) -> None:
        self.descriptor = descriptor
        self.vendor = vendor
        self.now = vendor.now
        self.client = client_of(descriptor, vendor, secret=secret)
        self.server = AuthorizationServer(vendor, clock=lambda: self.now, signing=KeyService())  # type: ignore[arg-type]

    def authorization_url(self, requested: Requested | None = None, client: Client | None = None) -> str:
        authorize = self.descriptor.authorize
        wants_pkce = authorize is not None and authorize.pkce == "S256"
        return authorization_url(
            client or self.client,
            requested or self.vendor.requested(),
            redirect_uri=REDIRECT,
            state=STATE,
            code_challenge=code_challenge(VERIFIER) if wants_pkce else None,
        )

    async def redeem(self) -> tuple[Answered | Refused, Client]:
        """Go through a consent, and exchange its code."""
        callback = check_callback(self.client, self.vendor.authorize(self.authorization_url()))
        assert callback.code is not None
        client = self.client.with_variables(callback.variables)
        return await self.exchange(client, callback.code), client

    async def exchange(self, client: Client, code: Secret) -> Answered | Refused:
        authorize = self.descriptor.authorize
        return await self.server.exchange_code(
            client,
            code=code,
            redirect_uri=REDIRECT,
            code_verifier=VERIFIER if authorize is not None and authorize.pkce == "S256" else None,
            requested=self.vendor.requested(),
        )

    async def consent(self) -> Consented:
        before = len(self.vendor.families)
        answered, client = await self.redeem()
        assert isinstance(answered, Answered), (answered, self.vendor.complaints)
        return Consented(answered, self.vendor.families[before:], client.with_variables(answered.variables))

    async def refresh(
        self, consented: Consented, credential: Credential, *, refresh: Secret | None = None
    ) -> Answered | Refused:
        return await self.server.refresh(
            consented.client,
            part=credential.part,
            refresh_token=refresh or credential.refresh,
            access_token=credential.access,
            scopes=credential.scopes or (),
        )

    def understood(self, family: Family, *, with_refresh: bool = True) -> dict[str, object]:
        """Return what the gateway must have understood of a family's newest tokens."""
        vendor = self.vendor
        return {
            "part": family.part,
            "access": family.newest,
            "refresh": family.refresh if with_refresh else None,
            "lifetime": vendor.lifetime_of(family),
            "refresh_lifetime": vendor.refresh_lifetime if with_refresh and family.refresh else None,
            "scopes": vendor.scopes_of(family),
            "kind": vendor.kind_of(family).lower(),
            "subject": vendor.subject_of(family) or vendor.subject or "",
        }


def read(credential: Credential) -> dict[str, object]:
    """Return a credential in the words of `Bench.understood`."""
    return {
        "part": credential.part,
        "access": credential.access.reveal(),
        "refresh": credential.refresh.reveal() if credential.refresh else None,
        "lifetime": credential.lifetime,
        "refresh_lifetime": credential.refresh_lifetime,
        "scopes": credential.scopes,
        "kind": credential.kind.lower(),
        "subject": credential.subject,
    }
