"""The security token service, wired."""

from contextlib import AsyncExitStack
from datetime import timedelta
from ipaddress import ip_network

from identity_gateway.admission import Admission
from identity_gateway.api.exchange import Application
from identity_gateway.api.sts import SecurityTokenDoor
from identity_gateway.app.state import Parts, tls_of
from identity_gateway.authorization import Authorization
from identity_gateway.caller_identity import ANSWER_BYTES, ANSWER_SECONDS, CallerIdentity
from identity_gateway.egress import Egress
from identity_gateway.inbound import BearerTokens, Signatures
from identity_gateway.keysets import KeySets
from identity_gateway.protocol.sigv4 import Scope
from identity_gateway.roles import Roles
from identity_gateway.sealing import Sealer
from identity_gateway.security_tokens import SecurityTokens
from identity_gateway.temporary_credentials import TemporaryCredentials
from identity_gateway.web_identity import PURPOSE, WebIdentity

_SIGNING_NAME = "sts"
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


async def open_security_tokens(
    stack: AsyncExitStack,
    parts: Parts,
    roles: Roles,
    temporary: TemporaryCredentials,
    authorization: Authorization,
    keysets: KeySets,
    *,
    elsewhere: Application,
) -> SecurityTokenDoor:
    """Build the door of the service; what it does not serve goes `elsewhere`."""
    settings, state, clock = parts.settings, parts.state, parts.clock
    egress = Egress(
        # AWS alone is asked; what else may be reached has nothing to do with it.
        _LOOPBACK if settings.sts_endpoint_url else (),
        total=ANSWER_SECONDS,
        max_bytes=ANSWER_BYTES,
        ssl_context=tls_of(settings.egress_ca_file),
    )
    stack.push_async_callback(egress.aclose)
    callers = CallerIdentity(egress, server_id=settings.base_url, clock=clock, endpoint_url=settings.sts_endpoint_url)
    sealer = Sealer(state.master_keys, PURPOSE)
    web_identity = WebIdentity(state.records, sealer, state.realm.account, issuer=settings.base_url, clock=clock)
    if len(state.master_keys) > 1:
        await web_identity.reseal()
    bearer_tokens = BearerTokens(keysets, state.identity_providers, clock=clock)
    tokens = SecurityTokens(
        roles, temporary, bearer_tokens, callers, web_identity, parts.audit, state.realm, clock=clock
    )
    signatures = Signatures(
        state.access_keys,
        temporary,
        roles,
        Scope(state.realm.region, _SIGNING_NAME),
        clock=clock,
        max_skew=timedelta(seconds=settings.signature_max_skew),
        hosts=frozenset(settings.signed_hosts),
    )
    admission = Admission(signatures, authorization, parts.audit, clock=clock)
    return SecurityTokenDoor(tokens, web_identity, admission, elsewhere=elsewhere)
