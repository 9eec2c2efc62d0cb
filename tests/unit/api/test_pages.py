"""The pages of a consent over ASGI: which door answers what, behind which headers, and that nothing leaks or breaks."""

import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest

from identity_gateway.api.pages import DOORS, opens, pages
from identity_gateway.consent import Started
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.errors import AccessDenied
from identity_gateway.model import NamedUser
from identity_gateway.protocol.request import Request
from identity_gateway.records.sql import SqlRecords
from tests.fakes.asgi import Connection, ask
from tests.fakes.clock import Clock
from tests.fakes.consent import BASE_URL, OTHER_ID, PROVIDER_ID, World, client, holder, query, request_uri, world

AUTHORIZE, CALLBACK = "/identities/oauth2/authorize", f"/identities/oauth2/callback/{PROVIDER_ID}"
OURS = {"sec-fetch-site": "same-origin"}


@pytest.fixture
async def here(records: SqlRecords, clock: Clock) -> AsyncIterator[World]:
    async with world(records, clock) as opened:
        yield opened


@dataclass
class Visitor:
    """A browser, as far as HTTP knows it."""

    here: World
    cookies: dict[str, str] = field(default_factory=dict)

    async def send(self, method: str, path: str, query: str = "", headers: dict[str, str] | None = None) -> Connection:
        fields = [(b"host", b"gateway.example")]
        fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        if self.cookies:
            fields.append((b"cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()))
        request = Request(method, path.encode(), query.encode(), tuple(fields))
        answer = await ask(pages(self.here.consents.front_channel), request)
        if b"set-cookie" in answer.headers:
            name, _, rest = answer.headers[b"set-cookie"].decode().partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer

    async def look(self, started: Started, method: str = "GET") -> Connection:
        return await self.send(method, AUTHORIZE, urlencode({"request_uri": request_uri(started)}))

    async def press(self, started: Started, headers: dict[str, str] | None = None) -> Connection:
        query = urlencode({"request_uri": request_uri(started)})
        return await self.send("POST", AUTHORIZE, query, OURS if headers is None else headers)

    async def state(self, started: Started) -> str:
        return query((await self.press(started)).headers[b"location"].decode())["state"]

    async def come_back(self, path: str = CALLBACK, **parameters: str) -> Connection:
        return await self.send("GET", path, urlencode(parameters))


def policy(answer: Connection) -> dict[str, str]:
    directives = answer.headers[b"content-security-policy"].decode().split("; ")
    return {name: value for name, _, value in (directive.partition(" ") for directive in directives)}


# --- Doors ---


@pytest.mark.parametrize(
    "path",
    [
        b"/identities/oauth2/token",
        b"/identities/oauth2/authorize/",
        b"/identities/oauth2/Authorize",
        b"/identities/oauth2/callback",
        b"/identities/oauth2",
        b"//identities/oauth2/authorize",
        b"/identities/oauth2%2fauthorize",
    ],
)
def test_paths_of_others_stay_theirs(path: bytes):
    assert not opens(path)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_is_open(door: str):
    assert opens(door.replace("{provider_id}", PROVIDER_ID).encode())


@pytest.mark.parametrize("path", ["", "a/b", "a%2Fb", "../authorize"])
async def test_a_callback_that_names_no_provider_is_a_page_of_ours(here: World, path: str):
    answer = await Visitor(here).send("GET", f"/identities/oauth2/callback/{path}", "state=x&code=y")
    assert answer.status in {400, 404}
    assert policy(answer)["default-src"] == "'none'"


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", AUTHORIZE), ("POST", CALLBACK), ("DELETE", CALLBACK), ("POST", "/identities/oauth2/pages.css")],
)
async def test_a_door_opens_for_its_own_methods_only(here: World, method: str, path: str):
    assert (await Visitor(here).send(method, path, headers=OURS)).status == 405


async def test_the_style_sheet_is_ours_and_loads_nothing(here: World):
    answer = await Visitor(here).send("GET", "/identities/oauth2/pages.css")
    assert (answer.status, answer.headers[b"content-type"]) == (200, b"text/css; charset=utf-8")
    assert not re.search(rb"url\(|@import|//", answer.body)


# --- Looking ---


@pytest.mark.parametrize(
    "query",
    ["", "request_uri=", "request_uri=x&request_uri=x", "request_uri=%ff", "request_uri=" + "a" * 20_000, "&" * 100],
)
async def test_a_link_that_is_none_is_not_found(here: World, query: str):
    answer = await Visitor(here).send("GET", AUTHORIZE, query)
    assert answer.status == 404
    assert b"This link is not valid" in answer.body


async def test_the_page_names_agent_vendor_user_account_and_scopes(here: World):
    answer = await Visitor(here).look(await here.begin())
    assert answer.status == 200
    for text in ("expense-agent", "Sample Drive", "ada", "login.example", "000000000000", "files.read", "files.write"):
        assert text.encode() in answer.body


async def test_the_page_shows_every_other_word_that_the_agent_sends(here: World):
    details = {"authorization_details": '[{"type":"payment"}]', "claims": "<b>all</b>"}
    asked = await here.begin(holder(parameters=details, resources=("https://api.example",), audiences=("books",)))
    body = (await Visitor(here).look(asked)).body.decode()
    shown = re.findall(r"<dt><code>(.*?)</code></dt><dd class=\"said\"><bdi>(.*?)</bdi>", body)
    assert [(name, unescape(value)) for name, value in shown] == [
        *details.items(),
        ("resource", "https://api.example"),
        ("audience", "books"),
    ]
    assert "<b>" not in body


async def test_a_page_without_other_words_has_no_list_of_them(here: World):
    assert b"It also sends" not in (await Visitor(here).look(await here.begin())).body


async def test_names_are_text_and_never_markup(here: World):
    asked = await here.begin(holder(NamedUser("<script>alert(1)</script>\"'"), scopes=("<b>&",)))
    body = (await Visitor(here).look(asked)).body
    assert b"<script" not in body
    assert b"<b>" not in body


async def test_a_page_loads_nothing_from_elsewhere_and_stands_in_no_frame(here: World):
    answer = await Visitor(here).look(await here.begin())
    assert policy(answer) == {
        "default-src": "'none'",
        "style-src": "'self'",
        "form-action": "'self' https:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert not re.search(rb"<script|<style|style=|https?://| on[a-z]+=", answer.body)


async def test_the_way_from_the_button_may_lead_through_the_schemes_it_needs(records: SqlRecords, clock: Clock):
    async with world(records, clock, first=client(endpoint="http://127.0.0.1:9/authorize")) as here:
        answer = await Visitor(here).look(await here.begin(return_url="myapp://back"))
    assert policy(answer)["form-action"] == "'self' http: https: myapp:"


@pytest.mark.parametrize("kept", [True, False])
async def test_pages_are_not_stored_not_sniffed_and_not_indexed(here: World, kept: bool):
    started = await here.begin()
    answer = await Visitor(here).look(started) if kept else await Visitor(here).send("GET", AUTHORIZE)
    assert answer.headers[b"cache-control"] == b"no-store"
    assert answer.headers[b"x-content-type-options"] == b"nosniff"
    assert answer.headers[b"x-robots-tag"].startswith(b"noindex")
    assert answer.headers[b"referrer-policy"] in {b"no-referrer", b"same-origin"}


async def test_head_tells_the_headers_and_consumes_nothing(here: World):
    started = await here.begin()
    for _ in range(3):
        assert (await Visitor(here).look(started, "HEAD")).status == 200
    assert (await Visitor(here).press(started)).status == 303


# --- Pressing ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "http://gateway.example"},
        {"origin": "https://gateway.example:444"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": BASE_URL},
    ],
)
async def test_a_button_on_another_page_presses_nothing(here: World, headers: dict[str, str]):
    started = await here.begin()
    answer = await Visitor(here).press(started, headers)
    assert answer.status == 403
    assert (await Visitor(here).press(started)).status == 303


@pytest.mark.parametrize("headers", [OURS, {"origin": BASE_URL}])
async def test_the_button_leads_to_the_vendor(here: World, headers: dict[str, str]):
    answer = await Visitor(here).press(await here.begin(), headers)
    assert answer.status == 303
    assert answer.headers[b"location"].startswith(b"https://vendor.example/oauth/authorize?")
    assert answer.headers[b"referrer-policy"] == b"no-referrer"


async def test_the_cookie_is_bound_to_host_and_session_and_hidden_from_scripts(here: World):
    answer = await Visitor(here).press(await here.begin())
    name, _, attributes = answer.headers[b"set-cookie"].decode().partition("; ")
    assert re.fullmatch(r"__Host-consent-[0-9a-f]{16}=[A-Za-z0-9_-]{43}", name)
    assert {each.lower() for each in attributes.split("; ")} == {
        "httponly",
        "max-age=660",
        "path=/",
        "samesite=lax",
        "secure",
    }


async def test_another_browser_is_told_that_the_link_was_opened(here: World):
    started = await here.begin()
    await Visitor(here).press(started)
    answer = await Visitor(here).press(started)
    assert answer.status == 409
    assert b"opened in another browser" in answer.body


# --- Coming back ---


async def test_who_agreed_is_sent_back_with_the_session(here: World):
    started, visitor = await here.begin(state="c 1"), Visitor(here)
    answer = await visitor.come_back(state=await visitor.state(started), code="code-1")
    assert answer.status == 303
    assert query(answer.headers[b"location"].decode()) == {
        "tab": "2",
        "session_id": started.session_uri,
        "state": "c 1",
        "custom_state": "c 1",
    }
    assert (answer.headers[b"cache-control"], answer.headers[b"referrer-policy"]) == (b"no-store", b"no-referrer")


async def test_who_denied_sees_what_happened_and_the_way_back(here: World):
    started, visitor = await here.begin(), Visitor(here)
    state = await visitor.state(started)
    answer = await visitor.come_back(state=state, error="access_denied", error_description="<i>No & never</i>")
    assert answer.status == 403
    assert b"Access was not given" in answer.body
    assert b"&lt;i&gt;No &amp; never&lt;/i&gt;" in answer.body
    assert b'href="https://app.example/back?tab=2&amp;session_id=urn' in answer.body
    assert policy(answer)["form-action"] == "'none'"


async def test_an_answer_to_nobody_shows_nothing_of_itself(here: World):
    answer = await Visitor(here).come_back(state="s" * 43, error="reflected-error", error_description="reflected-text")
    assert answer.status == 400
    assert b"reflected" not in answer.body
    assert b'href="http' not in answer.body


@pytest.mark.parametrize(
    ("path", "parameters", "status", "title"),
    [
        (CALLBACK, {"error": "server_error"}, 400, b"Sample Drive could not go on"),
        (CALLBACK, {}, 400, b"Sample Drive could not go on"),
        (f"/identities/oauth2/callback/{OTHER_ID}", {"code": "c"}, 400, b"wrong address"),
    ],
)
async def test_every_other_failure_has_a_page_too(
    here: World, path: str, parameters: dict[str, str], status: int, title: bytes
):
    started, visitor = await here.begin(), Visitor(here)
    answer = await visitor.come_back(path, state=await visitor.state(started), **parameters)
    assert answer.status == status
    assert title in answer.body
    assert b"Return to the application" in answer.body
    assert b"What to do next" in answer.body


async def test_an_answer_in_another_browser_has_a_page(here: World):
    started = await here.begin()
    state = await Visitor(here).state(started)
    answer = await Visitor(here).come_back(state=state, code="code-1")
    assert answer.status == 403
    assert b"another browser" in answer.body


async def test_an_answer_that_is_late_has_a_page(here: World, clock: Clock):
    started, visitor = await here.begin(), Visitor(here)
    state = await visitor.state(started)
    clock.now += 601
    answer = await visitor.come_back(state=state, code="code-1")
    assert answer.status == 410
    assert b"expired" in answer.body


async def test_a_user_who_was_not_the_one_is_told_when_looking_again(here: World):
    started, visitor = await here.begin(), Visitor(here)
    await visitor.come_back(state=await visitor.state(started), code="code-1")
    with pytest.raises(AccessDenied, match="Invalid or expired session"):
        await here.consents.complete(started.session_uri, NamedUser("bob"))
    answer = await visitor.look(started)
    assert answer.status == 403
    assert b"Somebody else finished" in answer.body


async def test_a_state_store_that_is_down_is_a_page(records: SqlRecords, clock: Clock, tmp_path: Path):
    (tmp_path / "state").mkdir()
    async with world(records, clock, ephemeral=LocalEphemeral(tmp_path / "state" / "e.sqlite", clock=clock)) as here:
        started = await here.begin()
        shutil.rmtree(tmp_path / "state")
        answer = await Visitor(here).look(started)
    assert answer.status == 503
    assert b"Not available right now" in answer.body


async def test_a_provider_that_no_longer_fits_the_request_is_a_page(here: World):
    started = await here.begin(holder(parameters={"prompt": "consent"}))
    narrow = {"url": "https://vendor.example/oauth/authorize", "caller_params": ["login_hint"]}
    here.register.clients[PROVIDER_ID] = client(authorize=narrow)
    answer = await Visitor(here).press(started)
    assert answer.status == 400
    assert b"cannot be made any more" in answer.body


async def test_nothing_of_a_query_reaches_the_log(here: World, capfd: pytest.CaptureFixture[str]):
    started, visitor = await here.begin(), Visitor(here)
    state = await visitor.state(started)
    await visitor.come_back(state=state, code="code-of-the-vendor")
    await visitor.come_back(state=state, code="code-of-the-vendor")
    printed = "".join(capfd.readouterr())
    assert state not in printed
    assert "code-of-the-vendor" not in printed
