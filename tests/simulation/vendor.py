"""A vendor as the refresh engine meets it: it rotates, revokes families, forgets to answer, and keeps the truth."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import Descriptor, parse
from identity_gateway.protocol.oauth2 import Answered, Client, Credential, Refused

LIFETIME = 600.0

Step = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """What a kind of vendor does, and what its descriptor says about it."""

    name: str
    policy: dict[str, Any]
    rotates: bool = True
    omits_refresh: bool = False
    old_survives: bool = False

    @property
    def leeway(self) -> float:
        return float(self.policy.get("leeway", 0))

    def client(self) -> Client:
        return Client(_descriptor(self), "client", Secret("secret"))


KINDS = {
    kind.name: kind
    for kind in (
        Kind("single-use", {}),
        Kind("single-use, old access dies", {"kills_old_access": True}),
        Kind("family-revoking", {"reuse_revokes_family": True}),
        Kind("leeway of 10 min", {"leeway": 600}),
        Kind("leeway of 60 s, then family-revoking", {"leeway": 60, "reuse_revokes_family": True}),
        Kind("new token, old one stays", {"single_use": False}, old_survives=True),
        Kind("same token, sent again", {"single_use": False}, rotates=False),
        Kind("same token, left out", {"single_use": False}, rotates=False, omits_refresh=True),
    )
}


@dataclass
class Pair:
    """What one refresh gave, and how far it came. `spent` is the refresh token that was sent for it."""

    spent: str
    access: str
    fate: str = "died with its process"
    replica: Any = None


@dataclass
class Family:
    """Everything that came of one consent of one user."""

    user: str
    consent: int
    refresh: str = ""
    spent: dict[str, float] = field(default_factory=dict)
    access: dict[str, float] = field(default_factory=dict)
    revoked: bool = False
    rotations: int = 0
    pairs: list[Pair] = field(default_factory=list)


@dataclass
class Use:
    """One refresh token on its way to the vendor and back."""

    token: str
    replica: Any
    over: bool = False
    certain: bool = False


class Vendor:
    """The authorization server. `now` gives seconds; `trouble` says what goes wrong with the next call."""

    def __init__(self, kind: Kind, now: Callable[[], float], trouble: Callable[[], str], rng: random.Random) -> None:
        self.kind = kind
        self.families: dict[str, Family] = {}
        self.of_refresh: dict[str, Family] = {}
        self.of_access: dict[str, Family] = {}
        self.uses: list[Use] = []
        self.calls = 0
        self.rotations = 0
        self.crossed: list[str] = []
        self._now = now
        self._trouble = trouble
        self._rng = rng

    def consent(self, user: str) -> Answered:
        family = Family(user, 1 + sum(1 for each in self.families.values() if each.user == user))
        self.families[f"{user}/{family.consent}"] = family
        return Answered((self._pair(family),), account=user, subject=user)

    def _pair(self, family: Family) -> Credential:
        family.rotations += 1
        name = f"{family.user}/{family.consent}/{family.rotations}"
        access = f"A:{name}"
        family.access[access] = self._now() + LIFETIME
        self.of_access[access] = family
        refresh: str | None = f"R:{name}"
        if family.refresh and not self.kind.rotates:
            refresh = None if self.kind.omits_refresh else family.refresh
        if refresh is not None:
            family.refresh = refresh
            self.of_refresh[refresh] = family
        return Credential("default", Secret(access), _secret(refresh), LIFETIME, None, None, "Bearer", family.user)

    def is_valid(self, access: str) -> bool:
        family = self.of_access[access]
        return not family.revoked and self._now() < family.access.get(access, 0.0)

    async def refresh(self, token: str, step: Step, replica: Any) -> Answered | Refused:
        """One HTTP attempt, with whatever befalls it."""
        use = self._sent(token, replica)
        trouble = self._trouble()
        try:
            await step("vendor.send")
            if trouble == "unreachable":
                use.certain = True
                return Refused("transient", "unreachable")
            self.calls += 1
            try:
                await step("vendor.travel")
            except asyncio.CancelledError:
                if trouble == "lost_after":  # the request outlives the process that sent it
                    self._process(token)
                raise
            if trouble in {"lost_before", "500_before", "503"}:
                use.certain = trouble == "503"
                return _fault(trouble)
            answer, pair = self._process(token)
            await step("vendor.process")
            if trouble in {"lost_after", "500_after"}:
                pair.fate = "lost on the wire"
                return _fault(trouble)
            await step("vendor.answer")
            use.certain = True
            pair.fate, pair.replica = "received", replica
            return answer
        finally:
            use.over = True

    def _sent(self, token: str, replica: Any) -> Use:
        if self.kind.policy.get("single_use", True) and not self.kind.leeway:
            others = [use for use in self.uses if use.token == token and use.replica.alive and not use.over]
            if others:
                self.crossed.append(f"{token} was under way already when it was sent again")
        use = Use(token, replica)
        self.uses.append(use)
        return use

    def _process(self, token: str) -> tuple[Answered | Refused, Pair]:
        family = self.of_refresh.get(token)
        dead = Refused("dead_grant", "invalid_grant", status=400)
        if family is None or family.revoked:
            return dead, Pair(token, "")
        if token in family.spent and self._now() > family.spent[token] + self.kind.leeway:
            if self.kind.policy.get("reuse_revokes_family"):
                family.revoked = True
            return dead, Pair(token, "")
        if self.kind.rotates and not self.kind.old_survives:
            family.spent.setdefault(token, self._now())
        if self.kind.policy.get("kills_old_access"):
            family.access.clear()
        self.rotations += 1
        credential = self._pair(family)
        pair = Pair(token, credential.access.reveal())
        family.pairs.append(pair)
        return Answered((credential,), account=family.user, subject=family.user), pair


class Line:
    """A replica's way to the vendor: `authorization_server` as the engine sees it."""

    def __init__(self, vendor: Vendor, step: Step, replica: Any) -> None:
        self._vendor = vendor
        self._step = step
        self._replica = replica

    async def refresh(
        self,
        client: Client,
        *,
        part: str,
        refresh_token: Secret | None,
        access_token: Secret | None,
        scopes: tuple[str, ...],
    ) -> Answered | Refused:
        assert refresh_token is not None
        return await self._vendor.refresh(refresh_token.reveal(), self._step, self._replica)


def _secret(value: str | None) -> Secret | None:
    return None if value is None else Secret(value)


def _fault(trouble: str) -> Refused:
    if trouble.startswith("lost"):
        return Refused("ambiguous", "no_answer")
    if trouble == "503":
        return Refused("transient", "unavailable", status=503, retry_after=10.0)
    return Refused("transient", "server_error", status=500)


def _descriptor(kind: Kind) -> Descriptor:
    return parse(
        {
            "schema": 1,
            "id": "vendor",
            "name": "Vendor",
            "verified": date(2026, 1, 1),
            "sources": ["https://vendor.example/"],
            "hosts": ["vendor.example"],
            "agentcore": {"vendor": "CustomOauth2"},
            "token": {"url": "https://vendor.example/token"},
            "refresh": {"policy": kind.policy},
        },
        file=kind.name,
    )
