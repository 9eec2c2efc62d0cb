"""The front door, wired: who may enter, which story answers, and where agents stand."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from identity_gateway import telemetry
from identity_gateway.admission import Admission
from identity_gateway.api import pages, public, sts, web_sockets, webhooks
from identity_gateway.api.front import Front
from identity_gateway.api.operations import Stories
from identity_gateway.api.public import Lifecycle
from identity_gateway.app.credentials import Credentials, open_credentials
from identity_gateway.app.security_tokens import open_security_tokens
from identity_gateway.app.state import Clock, Parts, State, ephemeral_of, open_state, secret_of, tls_of
from identity_gateway.audit import Audit
from identity_gateway.authorization import Authorization
from identity_gateway.egress import Egress
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.idempotency import Idempotency
from identity_gateway.inbound import BearerTokens, Signatures, UserTokens
from identity_gateway.invocation import (
    Addresses,
    Callers,
    Discovery,
    Forwarding,
    Invocations,
    Placement,
    Timeouts,
)
from identity_gateway.invocation.recall import Recall
from identity_gateway.invocation.web_sockets import StreamLimits, Streams
from identity_gateway.keysets import KeySets
from identity_gateway.outbound.repeats import RepeatedVends
from identity_gateway.paging import Paging
from identity_gateway.protocol.aws import load_services
from identity_gateway.protocol.jwt.policy import DEFAULT_LEEWAY
from identity_gateway.protocol.sigv4 import Scope as SignatureScope
from identity_gateway.resource_policies import ResourcePolicies
from identity_gateway.roles import Roles
from identity_gateway.runtimes import Routes, RuntimeEndpoints, Runtimes
from identity_gateway.sealing import Sealer
from identity_gateway.server.alike import Alike
from identity_gateway.server.lane import Lane
from identity_gateway.server.passage import Means
from identity_gateway.server.vend import Till
from identity_gateway.sessions import Sessions
from identity_gateway.settings import Settings
from identity_gateway.spool import Spool
from identity_gateway.tags import Tags
from identity_gateway.temporary_credentials import SEALING_PERIOD as SESSION_SEALING_PERIOD
from identity_gateway.temporary_credentials import TemporaryCredentials
from identity_gateway.upstream import AgentSockets, Upstream
from identity_gateway.workload import SEALING_PERIOD, Workloads, WorkloadTokens

SIGNING_NAME = "bedrock-agentcore"
_MIN_TOTAL = 1000
"""Connections to all agents together, unless a single one may have more."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is ready to answer."""

    front: Front
    lane: Lane
    lifecycle: Lifecycle
    stories: Stories
    audit: Audit


@asynccontextmanager
async def open_gateway(settings: Settings, *, clock: Clock = time.time) -> AsyncIterator[Gateway]:
    """Build every part, and give each back in the opposite order."""
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(open_state(settings, clock=clock))
        parts = _shared(stack, settings, state, clock)
        credentials = open_credentials(stack, parts)
        roles = Roles(state.records, state.realm, state.identity_providers, clock=clock)
        session_sealer = Sealer(state.master_keys, "temporary-credentials", period_seconds=SESSION_SEALING_PERIOD)
        temporary = TemporaryCredentials(session_sealer, state.realm.account, clock=clock)
        signatures = Signatures(
            state.access_keys,
            temporary,
            roles,
            SignatureScope(state.realm.region, SIGNING_NAME),
            clock=clock,
            max_skew=timedelta(seconds=settings.signature_max_skew),
            hosts=frozenset(settings.signed_hosts),
        )
        resource_policies = ResourcePolicies(state.records, state.realm, clock=clock)
        authorization = Authorization(resource_policies, region=state.realm.region)
        addresses = Addresses(clock=time.monotonic)
        invocations, discovery, lane = _agents(stack, parts, signatures, authorization, resource_policies, addresses)
        stories = _stories(parts, credentials, resource_policies)
        services = load_services()
        lifecycle = Lifecycle({"records": state.records.ping, "ephemeral": parts.ephemeral.ping})
        metrics_token = secret_of(settings.metrics_token)
        open_pages = public.public(lifecycle, metrics_token=metrics_token, registry=telemetry.registry())
        issuers = _key_sets(stack, settings, parts.ephemeral)
        security_tokens = await open_security_tokens(
            stack, parts, roles, temporary, authorization, issuers, elsewhere=open_pages
        )
        streams = _streams(stack, parts, addresses)
        doors = (
            (sts.reaches, security_tokens),
            (public.opens, open_pages),
            (pages.opens, pages.pages(credentials.consents.front_channel)),
            (webhooks.opens, webhooks.webhooks(credentials.signals)),
            (web_sockets.opens, web_sockets.web_sockets(services, invocations, discovery, streams)),
        )
        admission = Admission(signatures, authorization, parts.audit, clock=clock)
        front = Front(services, stories, invocations, discovery, admission, state.realm, doors, parts.vends)
        yield Gateway(front, lane, lifecycle, stories, parts.audit)


def _shared(stack: AsyncExitStack, settings: Settings, state: State, clock: Clock) -> Parts:
    """Build what several stories share."""
    account = state.realm.account
    ephemeral = ephemeral_of(settings)
    stack.push_async_callback(ephemeral.close)
    audit = Audit(state.records, account, clock=clock, retention=timedelta(days=settings.audit_retention_days))
    stack.push_async_callback(audit.close)
    audit.start()
    sealer = Sealer(state.master_keys, "workload-access-token", period_seconds=SEALING_PERIOD)
    # Whoever may call GetWorkloadAccessTokenForJWT names issuers of their choice: neither their number nor their
    # name servers may crowd out the key sets that guard the front door.
    visiting = _key_sets(stack, settings, ephemeral, visiting=True)
    return Parts(
        settings,
        state,
        ephemeral,
        audit,
        Paging(Sealer(state.master_keys, "paging"), account),
        WorkloadTokens(sealer, account, clock=clock),
        UserTokens(visiting, state.identity_providers, clock=clock),
        RepeatedVends(clock=clock),
        clock,
    )


def _stories(parts: Parts, credentials: Credentials, resource_policies: ResourcePolicies) -> Stories:
    """Build what serves the AWS JSON operations."""
    records, realm, clock = parts.state.records, parts.state.realm, parts.clock
    idempotency = Idempotency(records, realm.account, clock=clock)
    return Stories(
        runtimes=Runtimes(records, idempotency, parts.paging, realm, parts.state.identity_providers, clock=clock),
        endpoints=RuntimeEndpoints(records, idempotency, parts.paging, realm, clock=clock),
        workloads=Workloads(records, parts.tokens, parts.user_tokens, parts.paging, realm, clock=clock),
        tags=Tags(records, realm),
        providers=credentials.providers,
        provider_settings=credentials.provider_settings,
        vaults=credentials.vaults,
        outbound=credentials.outbound,
        grants=credentials.grants,
        resource_policies=resource_policies,
        user_tokens=parts.user_tokens,
    )


def _agents(
    stack: AsyncExitStack,
    parts: Parts,
    signatures: Signatures,
    authorization: Authorization,
    policies: ResourcePolicies,
    addresses: Addresses,
) -> tuple[Invocations, Discovery, Lane]:
    """Build the way to the agents."""
    settings, records, realm = parts.settings, parts.state.records, parts.state.realm
    upstream = _upstream(stack, settings)
    keysets = _key_sets(stack, settings, parts.ephemeral)
    routes, bearer_tokens = (
        Routes(records, realm),
        BearerTokens(keysets, parts.state.identity_providers, clock=parts.clock),
    )
    callers = Callers(
        signatures,
        bearer_tokens,
        authorization,
        parts.tokens,
        Spool(settings.data_dir / "spool", limit=settings.spooled_bodies),
        realm,
        clock=parts.clock,
        body_timeout=settings.agent_sync_timeout,
    )
    timeouts = Timeouts(settings.agent_sync_timeout, settings.agent_stream_timeout)
    placement = _placement(parts, routes, addresses)
    forwarding = Forwarding(upstream, placement, parts.tokens, timeouts, clock=parts.clock)
    discovery = Discovery(routes, bearer_tokens, base_url=settings.base_url)
    recall = Recall(
        routes,
        policies,
        records.changes,
        keysets,
        bearer_tokens,
        signatures,
        authorization,
        parts.tokens,
        placement,
        parts.audit,
        clock=parts.clock,
    )
    till = Till(parts.vends, signatures, parts.audit)
    lane = Lane(Means(recall, upstream, placement, parts.audit, timeouts, Alike(recall)), till)
    return Invocations(routes, callers, placement, forwarding, recall, parts.audit), discovery, lane


def _upstream(stack: AsyncExitStack, settings: Settings) -> Upstream:
    """Build the way to the agents that calls take."""
    upstream = Upstream(
        ssl_context=tls_of(settings.agent_ca_file),
        max_connections=settings.agent_max_connections,
        max_total=max(_MIN_TOTAL, settings.agent_max_connections),
        connect_timeout=settings.agent_connect_timeout,
    )
    stack.push_async_callback(upstream.aclose)
    return upstream


def _placement(parts: Parts, routes: Routes, addresses: Addresses) -> Placement:
    """Build what finds the place of each call."""
    settings, records = parts.settings, parts.state.records
    sessions = Sessions(
        parts.ephemeral,
        parts.state.realm.account,
        clock=parts.clock,
        binding=settings.session_binding == "user",
        changes=records.changes,
    )
    return Placement(
        routes,
        sessions,
        addresses,
        longest_call=settings.agent_sync_timeout,
        longest_stream=settings.agent_stream_timeout,
    )


def _streams(stack: AsyncExitStack, parts: Parts, addresses: Addresses) -> Streams:
    """Build the way to the agents that WebSockets take."""
    settings = parts.settings
    sockets = AgentSockets(
        ssl_context=tls_of(settings.agent_ca_file),
        max_streams=settings.agent_max_web_sockets,
        connect_timeout=settings.agent_connect_timeout,
    )
    stack.push_async_callback(sockets.aclose)
    limits = StreamLimits(settings.agent_web_socket_idle, settings.agent_stream_timeout, DEFAULT_LEEWAY)
    return Streams(sockets, addresses, limits, clock=parts.clock)


def _key_sets(stack: AsyncExitStack, settings: Settings, ephemeral: Ephemeral, *, visiting: bool = False) -> KeySets:
    """Make key sets with a way out of their own, which ends after them."""
    egress = Egress(settings.egress_allow, ssl_context=tls_of(settings.egress_ca_file))
    stack.push_async_callback(egress.aclose)
    keysets = KeySets(
        egress, clock=time.monotonic, shared=ephemeral, max_issuers=100 if visiting else 1000, visiting=visiting
    )
    stack.push_async_callback(keysets.aclose)
    return keysets
