"""Webhooks of vendors: a grant that was taken back over there ends here, too.

The signature is checked over the bytes that arrived, in constant time and within the vendor's time window, before
anything of the body is believed. What an event means is data (`[signals]` of a descriptor). An event can only take
away: none of them makes, changes or shows a credential.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from identity_gateway.audit import ALLOWED, DENIED, Audit, Decided
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import NotFound, Unauthenticated, ValidationFailed
from identity_gateway.model import CredentialKind, CredentialProvider, Document, Realm, Secret
from identity_gateway.outbound import IssuedTokens
from identity_gateway.protocol import strictjson
from identity_gateway.protocol.descriptor import Effect, value_at
from identity_gateway.protocol.descriptor import Signals as Rules
from identity_gateway.vault import Vault

_REMEMBERED = 7 * 86400.0
_MOST_SUBJECTS = 1000


class SignatureRefused(Unauthenticated):
    """A webhook whose signature does not prove its sender, or that is too old."""

    code = "InvalidSignatureException"
    status = 401


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook as it arrived. Header names are lower-case."""

    provider_id: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str = ""
    source: str = ""


class Signals:
    """Receives the webhooks of every vendor of one account."""

    def __init__(
        self,
        providers: CredentialProviders,
        vault: Vault,
        issued: IssuedTokens,
        ephemeral: Ephemeral,
        audit: Audit,
        realm: Realm,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._providers = providers
        self._vault = vault
        self._issued = issued
        self._ephemeral = ephemeral
        self._audit = audit
        self._realm = realm
        self._clock = clock

    async def receive(self, delivery: Delivery) -> Document:
        """Verify a delivery, apply it, and return what to answer.

        Raises NotFound for a provider without webhooks, SignatureRefused, and ValidationFailed for a bad body.
        """
        provider = await self._providers.by_id(delivery.provider_id)
        client = None if provider is None else await self._providers.client_of(provider)
        rules = None if client is None else client.descriptor.signals
        if provider is None or client is None or rules is None:
            raise NotFound("Nobody receives webhooks here.")
        secret = client.secrets.get(rules.signature.secret)
        try:
            self._verify(delivery, rules, secret)
        except SignatureRefused as error:
            await self._record(delivery, provider, DENIED, error.reason, {})
            raise
        assert secret is not None
        body = _parsed(delivery.body)
        if rules.challenge is not None and rules.challenge.when.holds(body, delivery.headers):
            return _challenge_answer(rules, body, secret)
        seen = self._once(delivery, rules, body)
        if seen is not None and await self._ephemeral.get(seen) is not None:
            return {}
        ended = await self._apply(provider, rules, body, delivery)
        if seen is not None:
            await self._ephemeral.put(seen, b"1", ttl=_REMEMBERED)
        await self._record(delivery, provider, ALLOWED, "signature verified", {"ended": ended})
        return {}

    def _verify(self, delivery: Delivery, rules: Rules, secret: Secret | None) -> None:
        signature = rules.signature
        if secret is None:
            raise SignatureRefused("This webhook is not configured.", reason=f"{signature.secret} is not set")
        timestamp = ""
        if signature.timestamp_header is not None:
            timestamp = delivery.headers.get(signature.timestamp_header.lower(), "")
            if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
                raise SignatureRefused("The signature is not valid.", reason="no timestamp")
            if abs(self._clock() - int(timestamp)) > signature.max_skew:
                raise SignatureRefused("The signature is not valid.", reason="timestamp out of the window")
        before, _, after = signature.base.replace("{timestamp}", timestamp).partition("{body}")
        expected = _hmac(secret, before.encode() + delivery.body + after.encode())
        given = delivery.headers.get(signature.header.lower(), "")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), f"{signature.prefix}{expected}".encode()):
            raise SignatureRefused("The signature is not valid.", reason="signature does not match")

    def _once(self, delivery: Delivery, rules: Rules, body: Document) -> str | None:
        """Return the key under which this delivery is remembered, if it says which one it is."""
        where = rules.deduplicate
        name = value_at(body, where[1:]) if where.startswith(".") else delivery.headers.get(where.lower())
        if name is None:
            return None
        digest = sha256(str(name).encode()).hexdigest()
        return f"signal:{self._realm.account}:{delivery.provider_id}:{digest}"

    async def _apply(self, provider: CredentialProvider, rules: Rules, body: Document, delivery: Delivery) -> list[str]:
        ended: list[str] = []
        for effect in rules.effects:
            if not all(condition.holds(body, delivery.headers) for condition in effect.when):
                continue
            if effect.action == "flush":
                await self._issued.flush(provider.id)
            else:
                ended += await self._revoke(provider, effect, body)
        return ended

    async def _revoke(self, provider: CredentialProvider, effect: Effect, body: Document) -> list[str]:
        """End the grants that the event names. Accounts that nobody here has are normal: other deployments do."""
        accounts = list(_named(body, effect.account))
        subjects = list(_named(body, effect.subject))
        ended = []
        for account in accounts:
            for subject in subjects:
                if account is None and subject is None:
                    continue  # the event names nobody: it must not mean everybody
                for grant in await self._vault.of_vendor_account(provider.id, account, subject, effect.part):
                    if grant.sealed:
                        await self._vault.shred(grant, "revoked_at_vendor")
                        ended.append(grant.id)
        return ended

    async def _record(
        self, delivery: Delivery, provider: CredentialProvider, decision: str, reason: str, details: Document
    ) -> None:
        await self._audit.record(
            Decided(
                principal=f"vendor:{provider.vendor}",
                action="ReceiveVendorSignal",
                resource=self._realm.credential_provider_arn(CredentialKind.OAUTH2, provider.name),
                decision=decision,
                reason=reason,
                request_id=delivery.request_id,
                source=delivery.source,
                details=details,
            )
        )


def _parsed(body: bytes) -> Document:
    try:
        parsed = strictjson.loads(body)
    except ValueError:
        raise ValidationFailed("The body is not JSON.", kind="CannotParse") from None
    if not isinstance(parsed, dict):
        raise ValidationFailed("The body is not a JSON object.", kind="CannotParse")
    return parsed


def _challenge_answer(rules: Rules, body: Document, secret: Secret) -> Document:
    assert rules.challenge is not None
    value = value_at(body, rules.challenge.path)
    if not isinstance(value, str) or len(value) > 1000:
        raise ValidationFailed("The challenge holds no value.", kind="CannotParse")
    words = {"{value}": value, "{hmac}": _hmac(secret, value.encode())}
    return {name: words.get(answer, answer) for name, answer in rules.challenge.answer.items()}


def _named(body: Document, path: str | None) -> Iterable[str | None]:
    """Yield what stands at a path, each element of a list; None if the effect names no path. Nothing there: nothing."""
    if path is None:
        return [None]
    value: Any = value_at(body, path)
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values[:_MOST_SUBJECTS] if isinstance(each, str | int) and str(each)]


def _hmac(secret: Secret, message: bytes) -> str:
    return hmac.new(secret.reveal().encode(), message, sha256).hexdigest()
