"""The pages that a browser meets on its way to a consent, and the words on them. Decides nothing: `consent` does.

They ask for nothing but style sheets of our own, run no script, and stand in no frame. Nothing of a query is logged.
Only the Continue button changes anything, and only when it was pressed on our own page.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from fastapi import FastAPI, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException

from identity_gateway.api import render
from identity_gateway.consent import Cookie, Forward, FrontChannel, Problem, ProblemKind, Question

DOORS = {
    "/identities/oauth2/authorize": "the link of a consent: a page with a button",
    "/identities/oauth2/callback/{provider_id}": "where vendors send browsers back to",
    "/identities/oauth2/pages.css": "the style sheet of these pages",
}

_CALLBACK = b"/identities/oauth2/callback/"
_OPEN = frozenset(path.encode() for path in DOORS if "{" not in path)
_MAX_QUERY = 16_384
_MAX_PARAMETERS = 64
_TEMPLATES = Path(__file__).parent / "templates"


def opens(raw_path: bytes) -> bool:
    """Whether the application of `pages` serves this path (raw, without the query)."""
    return raw_path in _OPEN or raw_path.startswith(_CALLBACK)


@dataclass(frozen=True, slots=True)
class _Words:
    """What a page says of a problem, with `{agent}` and `{vendor}`: its status, what happened, what to do next."""

    status: int
    title: str
    happened: str
    next: str


_ANEW = "Go back to where you came from and ask for a new link."
_WORDS = {
    ProblemKind.DENIED: _Words(
        403,
        "Access was not given",
        "{vendor} says that access was refused. {agent} received nothing.",
        "If that is what you want, there is nothing left to do. To give access after all, ask for a new link.",
    ),
    ProblemKind.VENDOR_ERROR: _Words(
        400,
        "{vendor} could not go on",
        "{vendor} sent you back with an error. {agent} received nothing.",
        "Ask for a new link and try again. If it happens again, show this page to the administrator of the gateway.",
    ),
    ProblemKind.OTHER_BROWSER: _Words(
        403,
        "You came back in another browser",
        "Access is only given in the browser in which Continue was pressed. {agent} received nothing.",
        "Ask for a new link and stay in one browser to the end. Links that open inside a chat or mail application "
        "often change browsers on the way: copy the link into your usual browser. If you never pressed Continue, "
        "somebody else sent you here: close this page.",
    ),
    ProblemKind.WRONG_PROVIDER: _Words(
        400,
        "This answer came to the wrong address",
        "The answer to one request arrived where another one was expected. {agent} received nothing.",
        "Ask for a new link. If it happens again, show this page to the administrator of the gateway.",
    ),
    ProblemKind.WRONG_USER: _Words(
        403,
        "Somebody else finished this request",
        "The user who is signed in to the application is not the one for whom {agent} asked. It received nothing.",
        "Sign in to the application as the user for whom the agent works, and ask for a new link there.",
    ),
    ProblemKind.REMOVED: _Words(
        410,
        "{vendor} is no longer connected here",
        "The connection to {vendor} was removed from this gateway after the link was made. {agent} received nothing.",
        "Ask the administrator of the gateway, and then ask for a new link.",
    ),
    ProblemKind.CHANGED: _Words(
        400,
        "This request cannot be made any more",
        "The connection to {vendor} was changed after the link was made. {agent} received nothing.",
        "Ask for a new link. If it happens again, show this page to the administrator of the gateway.",
    ),
    ProblemKind.NOT_KEPT: _Words(
        503,
        "Access could not be kept",
        "The gateway was interrupted while it finished the request. {agent} received nothing.",
        "Wait a moment and ask for a new link.",
    ),
    ProblemKind.UNKNOWN: _Words(
        404,
        "This link is not valid",
        "It is older than ten minutes, or it was not copied whole.",
        _ANEW,
    ),
    ProblemKind.EXPIRED: _Words(
        410,
        "This link has expired",
        "Links work for ten minutes. {agent} received nothing.",
        _ANEW,
    ),
    ProblemKind.USED: _Words(
        410,
        "This link was used already",
        "A link works once, and {vendor} has answered it.",
        "If the application says that it is connected, there is nothing left to do. Otherwise ask for a new link.",
    ),
    ProblemKind.OPENED_ELSEWHERE: _Words(
        409,
        "This link was opened in another browser",
        "Continue was already pressed somewhere else, so the link works only there.",
        "Go on in that browser. If that was not you, do not go on at all: ask for a new link.",
    ),
    ProblemKind.TOO_MANY: _Words(
        429,
        "Too many tries",
        "Continue was pressed too often for one link.",
        _ANEW,
    ),
    ProblemKind.ORPHAN: _Words(
        400,
        "This answer belongs to no request",
        "The request is older than ten minutes, its answer was seen before, or it never came from here. "
        "Nothing was changed.",
        "If the application says that it is connected, there is nothing left to do. Otherwise ask for a new link.",
    ),
}
_NOT_OUR_BUTTON = _Words(
    403,
    "Please press the button yourself",
    "This request did not come from the page of the gateway, or the browser hides where it came from.",
    "Open the link that you were given and press Continue there.",
)
_UNAVAILABLE = _Words(
    503,
    "Not available right now",
    "A part of the gateway does not answer. Nothing was changed.",
    "Wait a moment, open the link that you were given again, and press Continue.",
)
_INTERNAL = _Words(
    500,
    "Something went wrong",
    "The gateway met a fault of its own.",
    "Ask for a new link. If it happens again, tell the administrator of the gateway.",
)
_NO_SUCH_PAGE = _Words(404, "There is no such page", "The address is not one of the gateway's.", _ANEW)


class _Drawing:
    """Draws pages: templates, their words, and the headers without which no page leaves."""

    def __init__(self, base_url: str) -> None:
        self._prefix = f"{urlsplit(base_url).path}/identities/oauth2"
        self.style = (_TEMPLATES / "pages.css").read_bytes()
        self._version = sha256(self.style).hexdigest()[:12]
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def question(self, question: Question, request_uri: str) -> Response:
        """Return the page with the Continue button."""
        # Browsers hold every redirect that follows a form against `form-action`. From the vendor the way may lead
        # through any sign-in service of the user's company, and back to the application: hosts cannot be listed.
        page = self._page(200, ("'self'", *question.schemes), "consent.html", question=question, uri=request_uri)
        # `no-referrer` would make browsers say `Origin: null` when the button is pressed.
        page.headers["referrer-policy"] = "same-origin"
        return page

    def problem(self, problem: Problem) -> Response:
        """Return the page that says why the browser cannot go on."""
        return self.words(_WORDS[problem.kind], problem)

    def words(self, words: _Words, problem: Problem | None = None) -> Response:
        """Return a page of words."""
        names = {"agent": problem.agent if problem else "", "vendor": problem.vendor if problem else ""}
        return self._page(words.status, ("'none'",), "problem.html", words=words, problem=problem, names=names)

    def reached(self, reached: Forward | Problem) -> Response:
        """Send the browser on, or say why it cannot go on."""
        if isinstance(reached, Problem):
            return self.problem(reached)
        # The URL is sent as it is: a custom scheme would not survive being quoted.
        answer = Response(None, 303, {"location": reached.url, **_GUARDED})
        return _with_cookie(answer, reached.cookie) if reached.cookie else answer

    def refusal(self, error: Exception) -> Response:
        """Return what stands for a path or a method that there is not."""
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return self.words(_NO_SUCH_PAGE)
        return Response(None, error.status_code, {**(error.headers or {}), **_GUARDED})

    def _page(self, status: int, form_action: tuple[str, ...], template: str, **values: object) -> Response:
        style = f"{self._prefix}/pages.css?v={self._version}"
        html = self._templates.get_template(template).render(prefix=self._prefix, style=style, **values)
        policy = [
            "default-src 'none'",
            "style-src 'self'",
            f"form-action {' '.join(form_action)}",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ]
        headers = {"content-security-policy": "; ".join(policy), "content-language": "en", **_GUARDED}
        return Response(html, status, headers, media_type="text/html; charset=utf-8")


_GUARDED = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
}


def pages(front_channel: FrontChannel) -> FastAPI:
    """Return the application of the consent pages. It serves the paths for which `opens` is true."""
    app = FastAPI(title="Consent", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    drawing = _Drawing(front_channel.base_url)
    origin = _origin(front_channel.base_url)

    async def guarded(answer: Callable[[], Awaitable[Response]]) -> Response:
        try:
            return await answer()
        except Exception as error:  # noqa: BLE001 - the last resort: a page, never a traceback
            status = render.safe(error).status
            return drawing.words(_UNAVAILABLE if status == 503 else _INTERNAL)

    @app.api_route("/identities/oauth2/authorize", methods=["GET", "HEAD"])
    async def authorize(request: Request) -> Response:
        async def answer() -> Response:
            uri = _request_uri(request)
            shown = await front_channel.show(uri, request.cookies)
            if isinstance(shown, Problem):
                return drawing.problem(shown)
            return _with_cookie(drawing.question(shown, uri), shown.cookie)

        return await guarded(answer)

    @app.post("/identities/oauth2/authorize")
    async def proceed(request: Request) -> Response:
        async def answer() -> Response:
            if not _is_ours(request, origin):
                return drawing.words(_NOT_OUR_BUTTON)
            return drawing.reached(
                await front_channel.proceed(_request_uri(request), request.cookies, source=_source(request))
            )

        return await guarded(answer)

    @app.get("/identities/oauth2/callback/{provider_id}")
    async def callback(request: Request, provider_id: str) -> Response:
        async def answer() -> Response:
            pairs = _pairs(request)
            return drawing.reached(
                await front_channel.returned(provider_id, pairs, request.cookies, source=_source(request))
            )

        return await guarded(answer)

    @app.get("/identities/oauth2/pages.css")
    async def style() -> Response:
        headers = {"cache-control": "public, max-age=86400", "x-content-type-options": "nosniff"}
        return Response(drawing.style, 200, headers, media_type="text/css; charset=utf-8")

    @app.exception_handler(HTTPException)
    async def no_such_page(_request: Request, error: Exception) -> Response:
        return drawing.refusal(error)

    return app


def _with_cookie(response: Response, cookie: Cookie) -> Response:
    response.set_cookie(
        cookie.name,
        cookie.value,
        max_age=cookie.max_age,
        path=cookie.path,
        secure=cookie.secure,
        httponly=True,
        samesite="lax",
    )
    return response


def _request_uri(request: Request) -> str:
    """Return the one `request_uri` of the query, or a text that is none."""
    given = [value for name, value in _pairs(request) if name == "request_uri"]
    return given[0] if len(given) == 1 else ""


def _pairs(request: Request) -> list[tuple[str, str]]:
    """Return the parameters of the query, decoded; none at all of one that is too long or malformed."""
    query: bytes = request.scope["query_string"]
    if len(query) > _MAX_QUERY:
        return []
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        return []


def _is_ours(request: Request, origin: str) -> bool:
    """Whether the button was pressed on our own page (Fetch Metadata; `Origin` for browsers without it)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("origin") == origin


def _origin(base_url: str) -> str:
    """Return the origin of a URL as browsers write it (RFC 6454 §6.2)."""
    url = urlsplit(base_url)
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    usual = {"http": 80, "https": 443}[url.scheme]
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port not in {None, usual} else "")


def _source(request: Request) -> str:
    return request.client.host if request.client else ""
