"""Talks to vendors: the only place that does. One HTTP attempt for each call, no redirect, an answer or a refusal.

What is sent and what an answer means is `protocol.oauth2`'s; which addresses may be reached is `egress`'s. It stores
nothing and repeats nothing, but for one case where a repetition is harmless: an assertion whose clock was off.
"""

import secrets as randomness
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from identity_gateway.egress import Egress, EgressFailed, EgressRefused, Fetched
from identity_gateway.errors import ValidationFailed
from identity_gateway.key_signing import Signing, SigningFailed
from identity_gateway.model import Secret
from identity_gateway.protocol import oauth2
from identity_gateway.protocol.descriptor import Authentication, Machine, Purpose, Revoke
from identity_gateway.protocol.oauth2 import Answered, Assertion, Client, Outgoing, Refused, Requested

__all__ = ["AuthorizationServer", "Revoked", "Signing", "SigningFailed", "UserInfo"]

Effect = Literal["token", "grant", "user_client", "installation"]
_EFFECTS: tuple[Effect, ...] = ("token", "grant", "user_client", "installation")


@dataclass(frozen=True, slots=True)
class Revoked:
    """What revoking did at the vendor. `effect` is the widest that succeeded, None: nothing did.

    `verified`: the vendor says itself that the access token is dead. `failures` are the ways that did not work.
    """

    effect: Effect | None
    verified: bool
    failures: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Whose account an access token opens."""

    account: str
    subject: str
    label: str


class AuthorizationServer:
    """The vendors' endpoints, for any client. Errors are values; ValidationFailed is for what a caller asked wrongly.

    A request that never left is `transient` (`unreachable`), one without an answer `ambiguous` (`no_answer`), a
    configuration that makes no request `operator_config`. What refusals quote holds no secret that was sent.
    """

    def __init__(self, egress: Egress, *, clock: Callable[[], float], signing: Signing) -> None:
        self._egress = egress
        self._clock = clock
        self._signing = signing

    async def exchange_code(
        self, client: Client, *, code: Secret, redirect_uri: str, code_verifier: str | None, requested: Requested
    ) -> Answered | Refused:
        """Exchange an authorization code for credentials (RFC 6749 §4.1.3). The code is spent by any answer but none.

        Variables of the call and of the callback come back with the answer, to be kept with the grant.
        """
        sent = [code, Secret(code_verifier or "")]

        def build(assertion: Assertion) -> Outgoing:
            return oauth2.code_request(
                client,
                code=code,
                redirect_uri=redirect_uri,
                code_verifier=code_verifier,
                requested=requested,
                assertion=assertion,
            )

        try:
            known, _ = oauth2.with_caller_variables(client, requested.parameters)
        except ValidationFailed as error:
            return _misconfigured(error)
        return await self._ask(known, "token", client.descriptor.token.auth, build, sent)

    async def refresh(
        self,
        client: Client,
        *,
        part: str,
        refresh_token: Secret | None,
        access_token: Secret | None,
        scopes: Sequence[str],
    ) -> Answered | Refused:
        """Refresh one credential (RFC 6749 §6). Exactly one attempt: what it spent is spent."""
        endpoint = oauth2.refresh_endpoint(client)

        def build(assertion: Assertion) -> Outgoing:
            return oauth2.refresh_request(
                client,
                refresh_token=refresh_token,
                access_token=access_token,
                scopes=scopes,
                assertion=assertion,
            )

        return await self._ask(client, "refresh", endpoint.auth, build, [refresh_token, access_token], part=part)

    async def machine_token(self, client: Client, requested: Requested) -> Answered | Refused:
        """Get a credential for the agent itself. Raises ValidationFailed naming what the caller asked wrongly.

        When the vendor says that a signed assertion's times were off, it is signed once more by the vendor's own clock:
        getting such a token spends nothing.
        """
        machine = oauth2.machine_entry(client, requested)
        if machine is None:
            raise ValidationFailed("This vendor gives no credentials to agents themselves: use USER_FEDERATION.")
        first = await self._machine(client, machine, requested, offset=0)
        if isinstance(first, Refused):
            return first
        answered, fetched, began = first
        if isinstance(answered, Answered):
            return answered
        offset = oauth2.clock_offset(machine, headers=fetched.headers, body=fetched.body, now=began)
        if offset is None:
            return answered
        second = await self._machine(client, machine, requested, offset=offset)
        return second if isinstance(second, Refused) else second[0]

    async def _machine(
        self, client: Client, machine: Machine, requested: Requested, *, offset: float
    ) -> tuple[Answered | Refused, Fetched, float] | Refused:
        began = self._clock()
        try:
            assertion = await self._assertion(client, machine.auth, began)
            if machine.assertion is not None:
                unsigned = oauth2.grant_assertion(
                    client, machine, requested, now=began + offset, jti=randomness.token_urlsafe(16)
                )
                assertion = Assertion(assertion.client, await self._signing.sign(client, unsigned))
        except SigningFailed as error:
            return _unsigned(error)
        outgoing = oauth2.machine_request(client, machine, requested, assertion=assertion)
        fetched = await self._fetch(client, outgoing)
        if isinstance(fetched, Refused):
            return fetched
        answered = oauth2.read(
            client,
            "machine",
            status=fetched.status,
            headers=fetched.headers,
            body=fetched.body,
            now=began,
            machine=machine,
            secrets=_sent(client, outgoing, [assertion.client, assertion.grant]),
        )
        return answered, fetched, began

    async def exchange_token(
        self,
        client: Client,
        *,
        grant: str,
        subject_token: Secret,
        subject_token_type: str,
        actor_token: Secret | None,
        actor_token_type: str | None,
        requested: Requested,
        params: Mapping[str, str],
        authenticate: bool = True,
    ) -> Answered | Refused:
        """Exchange a user's token for one of the vendor (RFC 8693, RFC 7523). `grant`: `token_exchange`, `jwt_bearer`.

        Raises ValidationFailed naming a parameter that the caller may not set.
        """

        def build(assertion: Assertion) -> Outgoing:
            return oauth2.exchange_request(
                client,
                grant=grant,
                subject_token=subject_token,
                subject_token_type=subject_token_type,
                actor_token=actor_token,
                actor_token_type=actor_token_type,
                requested=requested,
                params=params,
                assertion=assertion,
                authenticate=authenticate,
            )

        build(Assertion(client=Secret("unsigned"), grant=None))  # what the caller asked wrongly is the caller's to hear
        described = client.descriptor.token.auth if authenticate else "none"
        return await self._ask(client, "exchange", described, build, [subject_token, actor_token])

    async def revoke(
        self,
        client: Client,
        *,
        access: Secret | None,
        refresh: Secret | None,
        effects: Collection[Effect] = _EFFECTS,
    ) -> Revoked:
        """Take a grant back at the vendor, by every way that it describes, in their order; then look whether it died.

        Ways whose token the grant does not have, or whose effect is not among `effects`, are left out. A token that the
        vendor calls dead already counts as taken back. What else dies with it is the caller's to weigh.
        """
        done: list[Effect] = []
        failures: list[Refused] = []
        for entry in client.descriptor.revoke:
            token = access if entry.needs == "access_token" else refresh
            if token is None or entry.effect not in effects or not _is_there(client, entry.url):
                continue
            answered = await self._revoke(client, entry, access, refresh)
            if isinstance(answered, Answered) or answered.outcome == "dead_grant":
                done.append(entry.effect)
            else:
                failures.append(answered)
        verified = bool(done) and access is not None and await self.introspect(client, access) is False
        return Revoked(max(done, key=_EFFECTS.index, default=None), verified, tuple(failures))

    async def _revoke(
        self, client: Client, entry: Revoke, access: Secret | None, refresh: Secret | None
    ) -> Answered | Refused:
        def build(assertion: Assertion) -> Outgoing:
            return oauth2.revoke_request(client, entry, access=access, refresh=refresh, assertion=assertion)

        return await self._ask(client, "revoke", entry.auth, build, [access, refresh], revoke=entry)

    async def introspect(self, client: Client, access: Secret) -> bool | None:
        """Say whether an access token lives, as the vendor says; None when it does not say."""
        fetched = await self._inspect(client, access)
        if not isinstance(fetched, tuple):
            return None
        answered = oauth2.read(
            client,
            "introspect",
            status=fetched[0].status,
            headers=fetched[0].headers,
            body=fetched[0].body,
            now=fetched[1],
        )
        if isinstance(answered, Answered):
            return True
        return False if answered.outcome == "dead_grant" else None

    async def _inspect(self, client: Client, access: Secret) -> tuple[Fetched, float] | Refused | None:
        introspect = client.descriptor.introspect
        if introspect is None or not _is_there(client, introspect.url):
            return None
        began = self._clock()
        try:
            assertion = await self._assertion(client, introspect.auth, began)
            outgoing = oauth2.introspect_request(client, introspect, access, assertion)
        except SigningFailed as error:
            return _unsigned(error)
        except ValidationFailed as error:
            return _misconfigured(error)
        fetched = await self._fetch(client, outgoing)
        return fetched if isinstance(fetched, Refused) else (fetched, began)

    async def userinfo(self, client: Client, access: Secret) -> UserInfo | Refused:
        """Ask whose account an access token opens. A vendor that cannot say: `operator_config`, `not_described`."""
        userinfo = client.descriptor.userinfo
        if userinfo is None or not _is_there(client, userinfo.url):
            return Refused("operator_config", "not_described")

        def build(assertion: Assertion) -> Outgoing:
            return oauth2.userinfo_request(client, userinfo, access, assertion)

        answered = await self._ask(client, "userinfo", userinfo.auth, build, [access])
        if isinstance(answered, Refused):
            return answered
        return UserInfo(answered.account, answered.subject, answered.label)

    async def _ask(
        self,
        client: Client,
        purpose: Purpose,
        described: Authentication | None,
        build: Callable[[Assertion], Outgoing],
        sent: Sequence[Secret | None],
        *,
        part: str | None = None,
        revoke: Revoke | None = None,
    ) -> Answered | Refused:
        """Sign what must be signed, build, send once, read."""
        began = self._clock()
        try:
            assertion = await self._assertion(client, described, began)
            outgoing = build(assertion)
        except SigningFailed as error:
            return _unsigned(error)
        except ValidationFailed as error:
            return _misconfigured(error)
        fetched = await self._fetch(client, outgoing)
        if isinstance(fetched, Refused):
            return fetched
        return oauth2.read(
            client,
            purpose,
            status=fetched.status,
            headers=fetched.headers,
            body=fetched.body,
            part=part,
            now=began,
            success=revoke.success if revoke is not None else None,
            secrets=_sent(client, outgoing, [*sent, assertion.client]),
        )

    async def _assertion(self, client: Client, described: Authentication | None, now: float) -> Assertion:
        if not oauth2.needs_client_assertion(client, described):
            return Assertion()
        unsigned = oauth2.client_assertion(client, now=now, jti=randomness.token_urlsafe(16))
        return Assertion(client=await self._signing.sign(client, unsigned))

    async def _fetch(self, client: Client, outgoing: Outgoing) -> Fetched | Refused:
        try:
            return await self._egress.fetch(
                outgoing.url,
                method=outgoing.method,
                headers=outgoing.headers,
                content=outgoing.body,
                public_only=client.public_only,
            )
        except EgressRefused as error:
            return Refused("operator_config", "egress_refused", str(error)[:300])
        except EgressFailed as error:
            if error.maybe_sent:
                return Refused("ambiguous", "no_answer", str(error)[:300])
            return Refused("transient", "unreachable", str(error)[:300])


def _is_there(client: Client, url: str) -> bool:
    """Say whether an endpoint that only the provider's own configuration can name was named."""
    key = oauth2.described_elsewhere(url)
    return key is None or key in client.endpoints


def _sent(client: Client, outgoing: Outgoing, more: Sequence[Secret | None]) -> list[str]:
    """Return every secret that the vendor now knows and might quote."""
    held = [client.secret, *client.secrets.values(), *more]
    headers = [value for name, value in outgoing.headers if name.lower() == "authorization"]
    return [each.reveal() for each in held if each is not None] + [each.partition(" ")[2] for each in headers]


def _unsigned(error: SigningFailed) -> Refused:
    return Refused("transient" if error.transient else "operator_config", "signing_failed", str(error))


def _misconfigured(error: ValidationFailed) -> Refused:
    return Refused("operator_config", "incomplete_configuration", error.message[:300])
