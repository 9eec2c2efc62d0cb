"""What a browser does with a consent: it is shown a question, it goes to the vendor, it comes back with an answer.

Looking at the link consumes nothing. The Continue button binds the session to the browser that pressed it; the
vendor's answer is taken once, at this provider's own callback, from this browser alone. Nothing is exchanged here:
the code waits, sealed, until the application says who the user is. Draws no pages; checks no Origin (the API does).
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlencode, urlsplit

from identity_gateway.consent.session import Ending, EndKind, Press, Session, Sessions, VendorAnswer, new_browser
from identity_gateway.consent.trail import Trail
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import ValidationFailed
from identity_gateway.model import JwtUser, NamedUser, Realm
from identity_gateway.protocol.oauth2 import Client, Requested, authorization_url, check_callback, code_challenge

_BROWSER_SECRET = 43
_VENDOR_WORDS = 300
_MOST_SHOWN = 1000


class ProblemKind(StrEnum):
    """Why a browser cannot go on. The first ones are also how a session ended."""

    DENIED = "denied"
    VENDOR_ERROR = "vendor_error"
    OTHER_BROWSER = "other_browser"
    WRONG_PROVIDER = "wrong_provider"
    WRONG_USER = "wrong_user"
    REMOVED = "removed"
    CHANGED = "changed"
    NOT_KEPT = "not_kept"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    USED = "used"
    OPENED_ELSEWHERE = "opened_elsewhere"
    TOO_MANY = "too_many"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Cookie:
    """What the browser is to be known by: for `max_age` seconds, for one session."""

    name: str
    value: str = field(repr=False)
    max_age: int
    path: str
    secure: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What the page asks. `schemes` are those that the way from the button may lead through, in CSP's form.

    `also` are the other words of the agent that the vendor is sent, with their values: they may ask for rights, too.
    """

    agent: str
    vendor: str
    vendor_host: str
    user: str
    user_issuer: str
    account: str
    scopes: tuple[str, ...]
    also: tuple[tuple[str, str], ...]
    return_host: str
    minutes: int
    schemes: tuple[str, ...]
    cookie: Cookie


@dataclass(frozen=True, slots=True)
class Forward:
    """Where the browser goes next."""

    url: str = field(repr=False)
    cookie: Cookie | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the browser cannot go on. `back` leads to the application, with what happened; None for strangers."""

    kind: ProblemKind
    vendor: str = ""
    agent: str = ""
    code: str = ""
    description: str = ""
    back: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An open link: its session, the client and redirect URI at the vendor, and the browser's secret, if it has one."""

    session: Session
    client: Client
    redirect_uri: str
    browser: str | None


class FrontChannel:
    """Serves the browsers of one account. `base_url` has no slash at its end."""

    def __init__(
        self, sessions: Sessions, providers: CredentialProviders, trail: Trail, realm: Realm, *, base_url: str
    ) -> None:
        self._sessions = sessions
        self._providers = providers
        self._trail = trail
        self._realm = realm
        self.base_url = base_url

    async def show(self, request_uri: str, cookies: Mapping[str, str]) -> Question | Problem:
        """Return what the link asks. Changes nothing, so that previews and prefetches do no harm."""
        asked = await self._asked(request_uri, cookies)
        if isinstance(asked, Problem):
            return asked
        return self._question(asked.session, asked.client, asked.browser or new_browser())

    async def proceed(self, request_uri: str, cookies: Mapping[str, str], *, source: str = "") -> Forward | Problem:
        """Open the session for this browser and return the vendor's authorization URL, with a `state` of its own.

        The browser that opened the session may do so again (its Back button); every other one is refused.
        """
        asked = await self._asked(request_uri, cookies)
        if isinstance(asked, Problem):
            return asked
        session, browser = asked.session, asked.browser or new_browser()
        if not await self._sessions.open(session, browser):
            return self._problem(session, ProblemKind.OPENED_ELSEWHERE)
        verifier = pkce_verifier(asked.client)
        state = await self._sessions.press(session, verifier)
        if state is None:
            return self._problem(session, ProblemKind.TOO_MANY)
        try:
            url = vendor_url(asked.client, asked.redirect_uri, session.holder.requested, state, verifier)
        except ValidationFailed as error:
            return await self._failed(session, Ending(EndKind.CHANGED, "invalid_request", clean(error.message)), source)
        await self._trail.allowed(session, "opened", source=source)
        return Forward(url, self._cookie(session, browser))

    async def _asked(self, request_uri: str, cookies: Mapping[str, str]) -> "_Asked | Problem":
        """Return what an open link leads to, or what is wrong with it."""
        session = await self._sessions.find_by_link(request_uri)
        if session is None:
            return Problem(ProblemKind.UNKNOWN)
        browser = self._browser(session, cookies)
        problem = await self._closed(session, browser)
        if problem is not None:
            return problem
        client = await self._client(session)
        if isinstance(client, EndKind):
            return self._problem(session, ProblemKind(client.value))
        return _Asked(session, *client, browser)

    async def returned(
        self, provider_id: str, pairs: Sequence[tuple[str, str]], cookies: Mapping[str, str], *, source: str = ""
    ) -> Forward | Problem:
        """Take the vendor's answer (RFC 6749 §4.1.2) and return the way back to the application.

        `pairs` are the decoded parameters of the callback. Whatever is wrong with an answer whose `state` is ours
        fails the session, so that the agent hears of it; an answer without such a `state` changes nothing.
        """
        states = [value for name, value in pairs if name == "state"]
        press = await self._sessions.take_press(states[0]) if len(states) == 1 else None
        session = await self._sessions.find(press.session_uri) if press else None
        if press is None or session is None:
            return Problem(ProblemKind.ORPHAN)
        # The way back holds the session's id: it is for the browser that opened the session, whatever went wrong.
        ours = await self._sessions.opened_by(session, self._browser(session, cookies)) is True
        if self._sessions.has_expired(session):
            return self._problem(session, ProblemKind.EXPIRED, back=ours)
        if provider_id != press.provider_id:
            ending = Ending(EndKind.WRONG_PROVIDER, "invalid_request", "The answer came to another provider's address.")
        elif not ours:
            ending = Ending(EndKind.OTHER_BROWSER, "other_browser", "The answer came from another browser.")
        else:
            answer = await self._read(session, press, pairs)
            if isinstance(answer, VendorAnswer):
                return await self._answered(session, answer)
            ending = answer
        problem = await self._failed(session, ending, source)
        return problem if ours else self._problem(session, ProblemKind(ending.kind.value))

    async def _read(self, session: Session, press: Press, pairs: Sequence[tuple[str, str]]) -> VendorAnswer | Ending:
        client = await self._client(session)
        if isinstance(client, EndKind):
            return Ending(client, "invalid_client", "The credential provider was changed or deleted.")
        try:
            callback = check_callback(client[0], pairs)
        except ValidationFailed as error:
            return Ending(EndKind.VENDOR_ERROR, "invalid_response", clean(error.message))
        if callback.code is not None:
            return VendorAnswer(callback.code, press.verifier, callback.variables)
        kind = EndKind.DENIED if callback.error == "access_denied" else EndKind.VENDOR_ERROR
        return Ending(kind, clean(callback.error), clean(callback.error_description))

    async def _answered(self, session: Session, answer: VendorAnswer) -> Forward | Problem:
        if not await self._sessions.answer(session, answer):
            return await self._late(session)
        return Forward(back(session))

    async def _failed(self, session: Session, ending: Ending, source: str) -> Problem:
        if not await self._sessions.answer(session, ending):
            return await self._late(session)
        reason = "denied" if ending.kind is EndKind.DENIED else f"refused: {ending.kind.value}"
        await self._trail.denied(session, reason, source=source, error=ending.code)
        return self._ended(session, ending)

    async def _late(self, session: Session) -> Problem:
        """Return what there is to say to a second answer: the first one counts."""
        ending = await self._sessions.ending(session)
        if ending is None or ending.kind is EndKind.COMPLETED:
            return self._problem(session, ProblemKind.USED)
        return self._ended(session, ending)

    async def _closed(self, session: Session, browser: str | None) -> Problem | None:
        """Return why the link leads nowhere any more. Only the browser that opened it learns how it ended."""
        opened = await self._sessions.opened_by(session, browser)
        if opened is False:
            return self._problem(session, ProblemKind.OPENED_ELSEWHERE)
        ending = await self._sessions.ending(session)
        if ending is not None and ending.kind is not EndKind.COMPLETED and opened:
            return self._ended(session, ending)
        if self._sessions.has_expired(session):
            return self._problem(session, ProblemKind.EXPIRED, back=opened is True)
        if ending is not None or await self._sessions.is_answered(session):
            return self._problem(session, ProblemKind.USED)
        return None

    async def _client(self, session: Session) -> tuple[Client, str] | EndKind:
        """Return the client and its redirect URI, or why there is none any more."""
        provider = await self._providers.by_id(session.holder.provider_id)
        if provider is None:
            return EndKind.REMOVED
        try:
            client = await self._providers.client_of(provider)
        except ValidationFailed:
            return EndKind.CHANGED
        if client.recipient != session.recipient:
            return EndKind.CHANGED
        return client, self._providers.callback_url(provider)

    # --- Pages as values ---------------------------------------------------------------------------------------------

    def _question(self, session: Session, client: Client, browser: str) -> Question:
        holder = session.holder
        match holder.user:
            case JwtUser(issuer, subject):
                user, user_issuer = subject, urlsplit(issuer).hostname or issuer
            case NamedUser(id=named):
                user, user_issuer = named, ""
        schemes = {"https:", f"{session.vendor_scheme}:", f"{urlsplit(session.return_url).scheme}:"}
        return Question(
            agent=holder.workload,
            vendor=session.vendor,
            vendor_host=session.vendor_host,
            user=user,
            user_issuer=user_issuer,
            account=self._realm.account,
            scopes=asked_scopes(client, session),
            also=also_sent(client, session),
            return_host=urlsplit(session.return_url).hostname or "",
            minutes=max(1, (self._sessions.remaining(session) - 30) // 60),
            schemes=tuple(sorted(schemes)),
            cookie=self._cookie(session, browser),
        )

    def _ended(self, session: Session, ending: Ending) -> Problem:
        return Problem(
            ProblemKind(ending.kind.value),
            session.vendor,
            session.holder.workload,
            ending.code,
            ending.description,
            back(session, error=ending.code or ending.kind.value, description=ending.description),
        )

    def _problem(self, session: Session, kind: ProblemKind, *, back: bool = False) -> Problem:
        way = _expired_back(session) if back else None
        return Problem(kind, session.vendor, session.holder.workload, back=way)

    # --- The browser's cookie ----------------------------------------------------------------------------------------

    def _cookie(self, session: Session, browser: str) -> Cookie:
        # A cookie for each session: several consents may be open in several tabs. `__Host-` demands the path `/`; it
        # is worth that, because no neighbouring host can then plant a cookie of its own.
        url = urlsplit(self.base_url)
        secure = url.scheme == "https"
        path = "/" if secure else f"{url.path}/identities/oauth2"
        return Cookie(self._cookie_name(session), browser, self._sessions.remaining(session), path, secure)

    def _cookie_name(self, session: Session) -> str:
        prefix = "__Host-" if self.base_url.startswith("https:") else ""
        return f"{prefix}consent-{session.digest[:16]}"

    def _browser(self, session: Session, cookies: Mapping[str, str]) -> str | None:
        value = cookies.get(self._cookie_name(session))
        return value if value is not None and len(value) == _BROWSER_SECRET else None


def asked_scopes(client: Client, session: Session) -> tuple[str, ...]:
    """Return every scope that the vendor is asked for, in its own words, each once."""
    rules, requested = client.descriptor.scopes, session.holder.requested
    named = [
        scope
        for parameter in rules.sets
        if parameter != rules.parameter
        for scope in requested.parameters.get(parameter, "").replace(rules.separator, " ").split()
    ]
    return tuple(dict.fromkeys([*requested.scopes, *rules.always, *named]))


def also_sent(client: Client, session: Session) -> tuple[tuple[str, str], ...]:
    """Return every parameter, resource and audience that the agent names, but parameters that are shown as scopes."""
    rules, requested = client.descriptor.scopes, session.holder.requested
    shown = {name for name in rules.sets if name != rules.parameter}
    pairs = [(name, value) for name, value in requested.parameters.items() if name not in shown]
    pairs += [("resource", each) for each in requested.resources]
    pairs += [("audience", each) for each in requested.audiences]
    return tuple((_visible(name), _visible(value)) for name, value in pairs)


def back(session: Session, *, error: str = "", description: str = "") -> str:
    """Return the application's return URL with the outcome added to whatever query it has.

    AWS's samples read the custom state from `state`, one of its documents from `custom_state`; which one the service
    sends could not be observed, so both are there.
    """
    pairs = [("session_id", session.uri)]
    if error:
        pairs += [("error", error)]
    if description:
        pairs += [("error_description", description)]
    if session.custom_state is not None:
        pairs += [("state", session.custom_state), ("custom_state", session.custom_state)]
    # Not taken apart and put together again: custom schemes would not survive that unchanged.
    address, hash_sign, fragment = session.return_url.partition("#")
    joint = "" if address.endswith(("?", "&")) else "&" if "?" in address else "?"
    return f"{address}{joint}{urlencode(pairs)}{hash_sign}{fragment}"


def clean(words: str) -> str:
    """Return a vendor's words on one line, printable, at most 300 characters."""
    spoken = "".join(character if character.isprintable() else " " for character in words[:_VENDOR_WORDS])
    return " ".join(spoken.split())


def _visible(text: str) -> str:
    """Return the text as it can be judged: characters that hide or turn others are replaced, and what is cut is told.

    What follows a cut is seen by the vendor all the same.
    """
    cut, more = text[:_MOST_SHOWN], len(text) - _MOST_SHOWN
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cut)
    return f"{shown} [and {more} more characters]" if more > 0 else shown


def _expired_back(session: Session) -> str:
    return back(session, error="session_expired", description="The consent was not given within ten minutes.")


def pkce_verifier(client: Client) -> str | None:
    """Return a PKCE verifier (RFC 7636 §4.1), unless the vendor cannot use one."""
    described = client.descriptor.authorize
    return secrets.token_urlsafe(48) if described is not None and described.pkce == "S256" else None


def vendor_url(client: Client, redirect_uri: str, requested: Requested, state: str, verifier: str | None) -> str:
    """Return the vendor's authorization URL. Raises ValidationFailed when it cannot be asked for this."""
    challenge = code_challenge(verifier) if verifier else None
    return authorization_url(client, requested, redirect_uri=redirect_uri, state=state, code_challenge=challenge)
