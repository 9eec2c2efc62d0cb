"""Authorization sessions: what is kept, for ten minutes, between «the user must consent» and «the consent is stored».

Facts about a session that several requests may race for stand in entries of their own, so that one request wins:
whose browser it is, what the vendor answered, who completes it, how it ended. Entries that say something are sealed
with their place; in the open stand that something happened (`answered`, `claimed`), how often (`begun`, `told`,
`presses`), and the digest of the browser's secret. Keys hold digests only: whoever reads the store learns neither ids
nor codes; whoever writes it can end a session or move it to another browser, but make none. Decides nothing about
users.
"""

import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.model import Document, Secret, user_from_text, user_text
from identity_gateway.protocol.oauth2 import Requested
from identity_gateway.sealing import Sealer, Unsealable
from identity_gateway.vault import Holder

LIFETIME = 600.0
"""Seconds in which a session must be completed (AWS: ten minutes)."""

GRACE = 60.0
"""Seconds that an expired session stays readable: a poller hears how it ended, a browser that it came too late."""

_PREFIX = "urn:ietf:params:oauth:request_uri:"
_URI = re.compile(re.escape(_PREFIX) + r"[A-Za-z0-9_-]{43}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class EndKind(StrEnum):
    """How a session ended."""

    COMPLETED = "completed"
    DENIED = "denied"
    VENDOR_ERROR = "vendor_error"
    OTHER_BROWSER = "other_browser"
    WRONG_PROVIDER = "wrong_provider"
    WRONG_USER = "wrong_user"
    REMOVED = "removed"
    CHANGED = "changed"
    NOT_KEPT = "not_kept"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a session. `code` and `description` are the vendor's own words where the vendor ended it."""

    kind: EndKind
    code: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One consent that was asked for. `expires` in epoch seconds.

    `uri` is a secret of the agent and of whoever comes back from the vendor: it completes the session. `link` is what
    the user is given. Whoever merely holds the link does not learn from it what completes the session, and so cannot
    be quicker than the browser of somebody else who agreed. `recipient` is who will be given the code
    (`Client.recipient`): nobody else gets it, however the provider is changed meanwhile.
    """

    uri: str = field(repr=False)
    link: str = field(repr=False)
    holder: Holder
    vendor: str
    vendor_host: str
    vendor_scheme: str
    return_url: str = field(repr=False)
    custom_state: str | None = field(repr=False)
    expires: float
    recipient: str

    @property
    def digest(self) -> str:
        """What stands for the session where its id must not: SHA-256, hexadecimal."""
        return _digest(self.uri)

    def to_json(self) -> Document:
        """Return the session as a JSON object."""
        holder, requested = self.holder, self.holder.requested
        return {
            "uri": self.uri,
            "link": self.link,
            "holder": {
                "workload": holder.workload,
                "since": holder.since.isoformat(),
                "user": user_text(holder.user),
                "provider": holder.provider,
                "provider_id": holder.provider_id,
                "requested": {
                    "scopes": list(requested.scopes),
                    "parameters": dict(requested.parameters),
                    "resources": list(requested.resources),
                    "audiences": list(requested.audiences),
                },
            },
            "vendor": [self.vendor, self.vendor_host, self.vendor_scheme],
            "return_url": self.return_url,
            "custom_state": self.custom_state,
            "expires": self.expires,
            "recipient": self.recipient,
        }

    @classmethod
    def from_json(cls, document: Document) -> "Session":
        """Return the session that `to_json` wrote. Raises ValueError when it is for nobody."""
        holder = document["holder"]
        user = user_from_text(holder["user"])
        if user is None:
            raise ValueError("a session belongs to a user")
        asked = holder["requested"]
        vendor, vendor_host, vendor_scheme = document["vendor"]
        return cls(
            uri=document["uri"],
            link=document["link"],
            holder=Holder(
                holder["workload"],
                datetime.fromisoformat(holder["since"]),
                user,
                holder["provider"],
                holder["provider_id"],
                Requested(
                    tuple(asked["scopes"]), asked["parameters"], tuple(asked["resources"]), tuple(asked["audiences"])
                ),
            ),
            vendor=vendor,
            vendor_host=vendor_host,
            vendor_scheme=vendor_scheme,
            return_url=document["return_url"],
            custom_state=document["custom_state"],
            expires=document["expires"],
            recipient=document["recipient"],
        )


@dataclass(frozen=True, slots=True)
class Press:
    """One press of the Continue button: what the `state` that the vendor was given stands for."""

    session_uri: str = field(repr=False)
    provider_id: str
    verifier: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class VendorAnswer:
    """What the vendor gave for the user's consent: a code, the verifier it wants, and variables of its redirect."""

    code: Secret
    verifier: str | None = field(repr=False)
    variables: Mapping[str, str]


def new_uri() -> str:
    """Return an unguessable id (256 bits) in the form that AWS gives (RFC 9126 §2.2)."""
    return _PREFIX + secrets.token_urlsafe(32)


def new_browser() -> str:
    """Return a secret (256 bits) by which a browser is known again."""
    return secrets.token_urlsafe(32)


class Sessions:
    """The authorization sessions of one account."""

    def __init__(self, ephemeral: Ephemeral, sealer: Sealer, account: str, *, clock: Callable[[], float]) -> None:
        self._ephemeral = ephemeral
        self._sealer = sealer
        self._account = account
        self._clock = clock

    async def create(self, session: Session) -> None:
        """Keep a new session, and where its link leads."""
        digest, link = session.digest, _digest(session.link)
        for area, key, content in (("session", digest, session.to_json()), ("link", link, {"uri": session.uri})):
            sealed = self._sealed(area, key, content)
            await self._ephemeral.put(self._key(area, key), sealed, ttl=self._rest(session))

    async def find(self, uri: str) -> Session | None:
        """Return the session with this id, or None. One that `has_expired` may still be found."""
        if not _URI.fullmatch(uri):
            return None
        found = await self._get("session", _digest(uri))
        return Session.from_json(found) if found is not None else None

    async def find_by_link(self, link: str) -> Session | None:
        """Return the session that this link leads to, or None. One that `has_expired` may still be found."""
        found = await self._get("link", _digest(link)) if _URI.fullmatch(link) else None
        return await self.find(found["uri"]) if found is not None else None

    def has_expired(self, session: Session) -> bool:
        """Whether nothing can be done with the session any more."""
        return session.expires <= self._clock()

    async def count_begun(self, *owner: str) -> int:
        """Count one more session of this owner, and return how many they began in the present ten minutes."""
        return await self._ephemeral.increment(self._key("begun", _digest(json.dumps(owner))), ttl=LIFETIME)

    async def count_told(self, session: Session) -> int:
        """Count that a poller is told how the session failed, and return how often that was."""
        return await self._ephemeral.increment(self._key("told", session.digest), ttl=self._rest(session))

    # --- Whose browser it is -----------------------------------------------------------------------------------------

    async def opened_by(self, session: Session, browser: str | None) -> bool | None:
        """Return whether this browser opened the session; None when nobody has opened it yet."""
        bound = await self._ephemeral.get(self._key("browser", session.digest))
        if bound is None:
            return None
        return hmac.compare_digest(bound, _digest(browser or "").encode())

    async def open(self, session: Session, browser: str) -> bool:
        """Let the session belong to this browser, unless another one opened it; return whether it does."""
        key, value = self._key("browser", session.digest), _digest(browser).encode()
        if await self._ephemeral.add(key, value, ttl=self._rest(session)):
            return True
        return await self.opened_by(session, browser) is True

    async def press(self, session: Session, verifier: str | None) -> str | None:
        """Return a new `state` for the vendor (256 bits); None after too many."""
        if await self._ephemeral.increment(self._key("presses", session.digest), ttl=self._rest(session)) > 20:
            return None
        state = secrets.token_urlsafe(32)
        content = {"uri": session.uri, "provider_id": session.holder.provider_id, "verifier": verifier}
        digest = _digest(state)
        sealed = self._sealed("state", digest, content)
        await self._ephemeral.put(self._key("state", digest), sealed, ttl=self._rest(session))
        return state

    async def take_press(self, state: str) -> Press | None:
        """Return what a `state` stands for, once. None when it is unknown, was used, or has expired."""
        if not _TOKEN.fullmatch(state):
            return None
        digest = _digest(state)
        taken = self._opened("state", digest, await self._ephemeral.take(self._key("state", digest)))
        return Press(taken["uri"], taken["provider_id"], taken["verifier"]) if taken is not None else None

    # --- What the vendor answered, and how it ended ------------------------------------------------------------------

    async def answer(self, session: Session, answer: VendorAnswer | Ending) -> bool:
        """Keep the vendor's first answer: a code, or the end. Returns whether it was the first."""
        if not await self._ephemeral.add(self._key("answered", session.digest), b"1", ttl=self._rest(session)):
            return False
        if isinstance(answer, Ending):
            await self.end(session, answer)
            return True
        content = {"code": answer.code.reveal(), "verifier": answer.verifier, "variables": dict(answer.variables)}
        sealed = self._sealed("code", session.digest, content)
        await self._ephemeral.put(self._key("code", session.digest), sealed, ttl=self._rest(session))
        return True

    async def is_answered(self, session: Session) -> bool:
        """Whether the vendor has answered."""
        return await self._ephemeral.get(self._key("answered", session.digest)) is not None

    async def has_code(self, session: Session) -> bool:
        """Whether a code waits to be exchanged."""
        return await self._ephemeral.get(self._key("code", session.digest)) is not None

    async def burn(self, session: Session) -> bool:
        """Throw the code away and take no other one; return whether nobody had claimed it before."""
        if not await self._ephemeral.add(self._key("claimed", session.digest), b"1", ttl=self._rest(session)):
            return False
        await self._ephemeral.put(self._key("answered", session.digest), b"1", ttl=self._rest(session))
        await self._ephemeral.delete(self._key("code", session.digest))
        return True

    async def claim(self, session: Session) -> VendorAnswer | None:
        """Return the vendor's code to the first who asks; None to everybody else, for ever."""
        if not await self._ephemeral.add(self._key("claimed", session.digest), b"1", ttl=self._rest(session)):
            return None
        taken = self._opened("code", session.digest, await self._ephemeral.take(self._key("code", session.digest)))
        return VendorAnswer(Secret(taken["code"]), taken["verifier"], taken["variables"]) if taken is not None else None

    async def end(self, session: Session, ending: Ending) -> None:
        """Say how the session ended. Only the one whose answer was first, or who claimed the code, says so."""
        content = {"kind": ending.kind.value, "code": ending.code, "description": ending.description}
        sealed = self._sealed("end", session.digest, content)
        await self._ephemeral.put(self._key("end", session.digest), sealed, ttl=self._rest(session))

    async def ending(self, session: Session) -> Ending | None:
        """Return how the session ended; None while it has not."""
        found = await self._get("end", session.digest)
        return Ending(EndKind(found["kind"]), found["code"], found["description"]) if found is not None else None

    # --- Entries -----------------------------------------------------------------------------------------------------

    def remaining(self, session: Session) -> int:
        """Return for how many seconds (at least one) anything is known of the session."""
        return max(1, int(session.expires + GRACE - self._clock()))

    def _rest(self, session: Session) -> float:
        return float(self.remaining(session))

    async def _get(self, area: str, digest: str) -> Document | None:
        return self._opened(area, digest, await self._ephemeral.get(self._key(area, digest)))

    def _key(self, area: str, digest: str) -> str:
        return f"consent:{self._account}:{area}:{digest}"

    def _sealed(self, area: str, digest: str, content: Mapping[str, Any]) -> bytes:
        plaintext = json.dumps(content, separators=(",", ":")).encode()
        return self._sealer.seal(plaintext, place=(self._account, "consent", area, digest))

    def _opened(self, area: str, digest: str, sealed: bytes | None) -> Document | None:
        if sealed is None:
            return None
        try:
            content: Document = json.loads(self._sealer.open(sealed, place=(self._account, "consent", area, digest)))
        except Unsealable:  # sealed under a master key that is gone, or changed in the store: as good as not there
            return None
        return content


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
