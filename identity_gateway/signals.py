"""Webhooks of vendors: a grant that was taken back over there ends here, too.

The signature is checked over the bytes that arrived, in constant time and within the vendor's time window, before
anything of the body is believed. What an event means is data (`[signals]` of a descriptor). An event can only take
away: none of them makes, changes or shows a credential.
"""

import contextlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import structlog

from identity_gateway.audit import ALLOWED, DENIED, UNKNOWN, Audit, Decided
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import NotFound, Unauthenticated, Unavailable, ValidationFailed
from identity_gateway.model import CredentialKind, CredentialProvider, Document, Grant, Realm, Secret
from identity_gateway.outbound import IssuedTokens
from identity_gateway.protocol import strictjson
from identity_gateway.protocol.descriptor import Effect, value_at
from identity_gateway.protocol.descriptor import Signals as Rules
from identity_gateway.vault import Vault, consented_at

_REMEMBERED = 7 * 86400.0
_MOST_SUBJECTS = 1000
_REFUSALS_KEPT = 10
_REFUSALS_PER = 60.0
_NOBODY = Secret("nobody signs with this")
_PROVIDER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FORM = "application/x-www-form-urlencoded"

_log = structlog.get_logger()


class SignatureRefused(Unauthenticated):
    """A webhook that its signature does not prove, or that is too old. What exists is told to proven senders only."""

    code = "InvalidSignatureException"
    status = 401

    def __init__(self, *, reason: str) -> None:
        super().__init__("The signature of this webhook is not valid.", reason=reason)


class NotJson(ValidationFailed):
    """A webhook in another encoding than JSON: a choice in the vendor's settings."""

    status = 415


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook as it arrived. Header names are lower-case."""

    provider_id: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class _Proven:
    """A delivery whose signature was verified. `at` is when (epoch seconds), if that is signed, too."""

    delivery: Delivery
    provider: CredentialProvider
    rules: Rules
    secret: Secret
    at: int | None


class Signals:
    """Receives the webhooks of every vendor of one account. `clock` gives seconds since the epoch."""

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

        Raises SignatureRefused, whatever is wrong before the sender is proven: that there is no such provider, too.
        Then NotJson, ValidationFailed for a bad body, and Unavailable or Conflict when the vendor must send it again.
        A delivery counts once; where the vendor signs no time, its own id of the delivery is all that tells.
        """
        proven = await self._proven(delivery)
        body = _parsed(delivery)
        challenge = proven.rules.challenge
        if challenge is not None and challenge.when.holds(body, delivery.headers):
            return _challenge_answer(proven.rules, body, proven.secret)
        seen = self._once(proven, body)
        if seen is not None and await self._ephemeral.get(seen) is not None:
            return {}
        await self._apply(proven, body)
        if seen is not None:  # not before: a delivery that was cut off must come again
            await self._ephemeral.put(seen, b"1", ttl=_REMEMBERED)
        return {}

    # --- Who sends it ---

    async def _proven(self, delivery: Delivery) -> _Proven:
        known = _PROVIDER_ID.fullmatch(delivery.provider_id) is not None
        provider = await self._providers.by_id(delivery.provider_id) if known else None
        found = None if provider is None else await self._providers.signals_of(provider)
        if provider is None or found is None:
            _hmac(_NOBODY, delivery.body)  # as long as for one that is there
            raise SignatureRefused(reason="there is no such provider, or its vendor sends no webhooks")
        rules, secret = found
        try:
            at = self._verified(delivery, rules, secret or _NOBODY)
            if secret is None:
                raise SignatureRefused(reason=f"{rules.signature.secret} is not set")
        except SignatureRefused as error:
            await self._record_refusal(delivery, provider, error.reason)
            raise
        return _Proven(delivery, provider, rules, secret, at)

    def _verified(self, delivery: Delivery, rules: Rules, secret: Secret) -> int | None:
        """Return when the body was signed, if the vendor signs that. Raises SignatureRefused."""
        signature, timestamp = rules.signature, ""
        if signature.timestamp_header is not None:
            timestamp = delivery.headers.get(signature.timestamp_header.lower(), "")
            if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
                raise SignatureRefused(reason="no timestamp")
            if abs(self._clock() - int(timestamp)) > signature.max_skew:
                raise SignatureRefused(reason="timestamp out of the window")
        before, _, after = signature.base.replace("{timestamp}", timestamp).partition("{body}")
        expected = _hmac(secret, before.encode() + delivery.body + after.encode())
        given = delivery.headers.get(signature.header.lower(), "")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), f"{signature.prefix}{expected}".encode()):
            raise SignatureRefused(reason="signature does not match" if given else "no signature")
        return int(timestamp) if timestamp else None

    def _once(self, proven: _Proven, body: Document) -> str | None:
        """Return the key under which this delivery is remembered, if it says which one it is."""
        where, delivery = proven.rules.deduplicate, proven.delivery
        name = value_at(body, where[1:]) if where.startswith(".") else delivery.headers.get(where.lower())
        if name is None:
            return None
        digest = sha256(str(name).encode(errors="surrogatepass")).hexdigest()
        return f"signal:{self._realm.account}:{proven.provider.id}:{digest}"

    # --- What it does ---

    async def _apply(self, proven: _Proven, body: Document) -> None:
        """Do what the event means: the record of it is committed first."""
        headers = proven.delivery.headers
        effects = [effect for effect in proven.rules.effects if all(each.holds(body, headers) for each in effect.when)]
        ending: dict[str, Grant] = {}
        for effect in effects:
            if effect.action == "revoke":
                ending |= {grant.id: grant for grant in await self._named(proven, effect, body)}
        flushes = any(effect.action == "flush" for effect in effects)
        if ending or flushes:
            details = {"grants": list(ending), "flushed": flushes}
            await self._record(proven.delivery, proven.provider, ALLOWED, "signature verified", details)
        if flushes:
            await self._issued.flush(proven.provider.id)
        for grant in ending.values():
            with contextlib.suppress(NotFound):  # somebody deleted it meanwhile
                await self._vault.shred(grant, "revoked_at_vendor", unless=lambda found: _is_newer(found, proven.at))

    async def _named(self, proven: _Proven, effect: Effect, body: Document) -> list[Grant]:
        """Return the grants that the event names. Accounts that nobody here has are normal: other deployments do.

        A grant of a consent that is newer than the event stays: the vendor tells of the one before.
        """
        found: list[Grant] = []
        for account in _values(body, effect.account):
            for subject in _values(body, effect.subject):
                if account is None and subject is None:
                    continue  # the event names nobody: it must not mean everybody
                found += await self._vault.of_vendor_account(proven.provider.id, account, subject, effect.part)
        return [grant for grant in found if grant.sealed and not _is_newer(grant, proven.at)]

    # --- What is kept of it ---

    async def _record_refusal(self, delivery: Delivery, provider: CredentialProvider, reason: str) -> None:
        """Record a refusal, but not as many as strangers like: the table of records is not theirs to fill."""
        try:
            key = f"signal-refusals:{self._realm.account}:{provider.id}"
            count = await self._ephemeral.increment(key, ttl=_REFUSALS_PER)
            if count <= _REFUSALS_KEPT:
                more = {"more": "refusals of the next minute are not recorded"} if count == _REFUSALS_KEPT else {}
                await self._record(delivery, provider, DENIED, f"{SignatureRefused.code}: {reason}", more)
        except Unavailable as error:  # nothing is granted: the refusal stands without its record
            _log.warning("refusal_not_recorded", request_id=delivery.request_id, reason=error.reason)

    async def _record(
        self, delivery: Delivery, provider: CredentialProvider, decision: str, reason: str, details: Document
    ) -> None:
        await self._audit.record(
            Decided(
                principal=f"vendor:{provider.vendor}" if decision == ALLOWED else UNKNOWN,
                action="ReceiveVendorSignal",
                resource=self._realm.credential_provider_arn(CredentialKind.OAUTH2, provider.name),
                decision=decision,
                reason=reason,
                request_id=delivery.request_id,
                source=delivery.source,
                details={"providerId": provider.id, **details},
            )
        )


def _is_newer(grant: Grant, at: int | None) -> bool:
    """Whether the user consented after the event was signed: times of signatures are whole seconds."""
    return at is not None and consented_at(grant) >= at + 1


def _parsed(delivery: Delivery) -> Document:
    kind = delivery.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _FORM:
        raise NotJson("Send this webhook as application/json: choose that content type at the vendor.")
    try:
        parsed = strictjson.loads(delivery.body)
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
    words = {"{value}": value, "{hmac}": _hmac(secret, value.encode(errors="surrogatepass"))}
    return {name: words.get(answer, answer) for name, answer in rules.challenge.answer.items()}


def _values(body: Document, path: str | None) -> Iterable[str | None]:
    """Yield what stands at a path, each element of a list; None if the effect names no path. Nothing there: nothing."""
    if path is None:
        return [None]
    value: Any = value_at(body, path)
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values[:_MOST_SUBJECTS] if isinstance(each, str | int) and str(each)]


def _hmac(secret: Secret, message: bytes) -> str:
    return hmac.new(secret.reveal().encode(), message, sha256).hexdigest()
