"""People at the consent pages: Chromium, the real pages on a loopback server, a vendor and an application beside it."""

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from identity_gateway.api.exchange import Receive, Scope, Send
from identity_gateway.api.pages import pages
from identity_gateway.consent import LIFETIME, SessionState, Started
from identity_gateway.errors import AccessDenied
from identity_gateway.model import NamedUser
from identity_gateway.records.sql import open_records
from tests.fakes.clock import Clock
from tests.fakes.consent import ADA, PROVIDER_ID, World, client, holder, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is missing: apt-get install chromium", allow_module_level=True)

# Every text with a background of its own or inherited: WCAG 2.2 §1.4.3 over colours as they are computed.
CONTRASTS = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgb(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text) continue;
    const pair = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    found.push([text, (pair[0] + 0.05) / (pair[1] + 0.05)]);
  }
  return found;
}"""


class People:
    """Browsers without a common past: contexts, closed when the test ends."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self._contexts: list[BrowserContext] = []

    async def enter(self, **options: object) -> BrowserContext:
        self._contexts.append(await self._chromium.new_context(**options))
        return self._contexts[-1]

    async def leave(self) -> None:
        for context in self._contexts:
            await context.close()


@dataclass
class Street:
    """A gateway, a vendor with a sign-in service of another host, and an application: each at an origin of its own."""

    gateway: str
    vendor: str
    sign_in: str
    app: str
    here: World
    clock: Clock
    people: People
    shots: Path

    async def begin(self, way: str = "ask", **asked: object) -> Started:
        """Begin a consent. `way` is how the vendor deals with it: `ask` the user, or `known` to it already."""
        self.here.register.clients[PROVIDER_ID] = client(endpoint=f"{self.vendor}/{way}")
        return await self.here.begin(holder(**asked), return_url=f"{self.app}/back?tab=2", state="c1")

    async def shoot(self, page: Page, name: str) -> None:
        await page.screenshot(path=self.shots / f"{name}.png", full_page=True)


def vendor(sign_in: str) -> FastAPI:
    app = FastAPI()

    @app.get("/ask")
    async def ask(request: Request) -> HTMLResponse:
        asked = request.query_params
        links = [
            f'<a href="{asked["redirect_uri"]}?{urlencode({**answer, "state": asked["state"]})}">{name}</a>'.replace(
                "&", "&amp;"
            )
            for name, answer in {
                "Agree": {"code": "code-1"},
                "Refuse": {"error": "access_denied", "error_description": "The user said no."},
                "Fail": {"error": "server_error"},
            }.items()
        ]
        return HTMLResponse(f"<title>Vendor</title>{' '.join(links)}")

    @app.get("/known")
    async def known(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{sign_in}/sso?{request.url.query}", 302)

    @app.get("/sso")
    async def sso(request: Request) -> RedirectResponse:
        asked = request.query_params
        query = urlencode({"code": "code-1", "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{query}", 302)

    return app


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/back")
    async def back() -> HTMLResponse:
        return HTMLResponse("<title>Application</title>Back.")

    @app.get("/trap")
    async def trap(target: str) -> HTMLResponse:
        action = target.replace("&", "&amp;")
        return HTMLResponse(f'<title>Trap</title><form method="post" action="{action}"><button>Win</button></form>')

    @app.get("/frame")
    async def frame(target: str) -> HTMLResponse:
        return HTMLResponse(f'<title>Frame</title><iframe src="{target.replace("&", "&amp;")}"></iframe>')

    return app


@contextlib.asynccontextmanager
async def serving(apps: dict[socket.socket, FastAPI]) -> AsyncIterator[None]:
    """Serve each application at its own socket. One server: each takes a while to stop."""
    by_port = {listener.getsockname()[1]: app for listener, app in apps.items()}

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        await by_port[scope["server"][1]](scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(dispatch, log_level="error", lifespan="off", ws="none"))
    task = asyncio.create_task(server.serve(sockets=list(apps)))
    try:
        yield
    finally:
        server.should_exit = True
        await task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def street(tmp_path: Path, chromium: Browser) -> AsyncIterator[Street]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    gateway, vendors, sign_in, app = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in listeners)
    clock = Clock(time.time())
    async with contextlib.AsyncExitStack() as stack:
        records = await open_records(f"sqlite:///{tmp_path / 'records.sqlite'}")
        stack.push_async_callback(records.close)
        here = await stack.enter_async_context(world(records, clock, base_url=gateway))
        apps = [pages(here.consents.front_channel), vendor(sign_in), vendor(sign_in), application()]
        await stack.enter_async_context(serving(dict(zip(listeners, apps, strict=True))))
        people = People(chromium)
        stack.push_async_callback(people.leave)
        yield Street(gateway, vendors, sign_in, app, here, clock, people, tmp_path)


async def person(street: Street, **options: object) -> tuple[Page, list[str]]:
    """Return a page of a browser of its own, and the list of what the browser complains of there."""
    context = await street.people.enter(**options)
    page = await context.new_page()
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Refused" in message.text:
            complaints.append(message.text)

    page.on("console", complain)
    return page, complaints


def parameters(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


# --- The way there and back ---


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_who_agrees_comes_back_to_the_application_and_the_grant_is_stored(street: Street, scripts: bool):
    started = await street.begin()
    page, complaints = await person(street, java_script_enabled=scripts)
    await page.goto(started.authorization_url)
    await page.get_by_role("button", name="Continue to Sample Drive").click()
    await page.get_by_role("link", name="Agree").click()
    assert page.url.startswith(f"{street.app}/back?")
    assert parameters(page.url) == {
        "tab": ["2"],
        "session_id": [started.session_uri],
        "state": ["c1"],
        "custom_state": ["c1"],
    }
    await street.here.consents.complete(parameters(page.url)["session_id"][0], ADA)
    assert await street.here.vault.find(holder(), "default") is not None
    assert complaints == []


async def test_who_is_known_to_the_vendor_passes_through_every_redirect_in_one_go(street: Street):
    page, complaints = await person(street)
    await page.goto((await street.begin("known")).authorization_url)
    await page.get_by_role("button").click()
    await page.wait_for_url(f"{street.app}/back?**")
    assert complaints == []


async def test_who_presses_twice_in_a_row_arrives_all_the_same(street: Street):
    page, _ = await person(street)
    await page.goto((await street.begin()).authorization_url)
    await page.get_by_role("button").dblclick(no_wait_after=True)
    await page.get_by_role("link", name="Agree").click()
    assert page.url.startswith(f"{street.app}/back?")


async def test_who_goes_back_from_the_vendor_may_press_again(street: Street):
    page, _ = await person(street)
    await page.goto((await street.begin()).authorization_url)
    await page.get_by_role("button").click()
    await page.wait_for_url(f"{street.vendor}/**")
    await page.go_back()
    await page.get_by_role("button").click()
    await page.get_by_role("link", name="Agree").click()
    assert page.url.startswith(f"{street.app}/back?")


async def test_two_consents_in_two_tabs_both_arrive(street: Street):
    page, _ = await person(street)
    tabs = [page, await page.context.new_page()]
    for tab in tabs:
        await tab.goto((await street.begin()).authorization_url)
        await tab.get_by_role("button").click()
    for tab in tabs:
        await tab.get_by_role("link", name="Agree").click()
        assert tab.url.startswith(f"{street.app}/back?")


# --- Where it goes wrong ---


@pytest.mark.parametrize(
    ("choice", "title", "error"),
    [("Refuse", "Access was not given", "access_denied"), ("Fail", "Sample Drive could not go on", "server_error")],
)
async def test_who_is_turned_away_reads_why_and_finds_back(street: Street, choice: str, title: str, error: str):
    started = await street.begin()
    page, complaints = await person(street)
    await page.goto(started.authorization_url)
    await page.get_by_role("button").click()
    await page.get_by_role("link", name=choice).click()
    assert await page.get_by_role("heading", level=1).inner_text() == title
    await street.shoot(page, choice)
    await page.get_by_role("link", name="Return to the application").click()
    assert parameters(page.url)["error"] == [error]
    assert parameters(page.url)["session_id"] == [started.session_uri]
    assert (await street.here.consents.status(started.session_uri, holder())).state is SessionState.FAILED
    assert complaints == []


async def test_a_second_person_with_the_link_is_told_that_it_was_opened(street: Street):
    started = await street.begin()
    first, _ = await person(street)
    second, _ = await person(street)
    await second.goto(started.authorization_url)
    await first.goto(started.authorization_url)
    await first.get_by_role("button").click()
    await second.get_by_role("button").click()
    assert "opened in another browser" in await second.get_by_role("heading", level=1).inner_text()


async def test_an_answer_that_was_passed_on_to_another_person_gives_them_nothing(street: Street):
    started = await street.begin()
    first, _ = await person(street)
    await first.goto(started.authorization_url)
    await first.get_by_role("button").click()
    answer = await first.get_by_role("link", name="Agree").get_attribute("href")
    second, _ = await person(street)
    await second.goto(answer or "")
    assert "another browser" in await second.get_by_role("heading", level=1).inner_text()
    with pytest.raises(AccessDenied):
        await street.here.consents.complete(started.session_uri, ADA)


async def test_a_late_answer_says_that_the_link_has_expired(street: Street):
    page, _ = await person(street)
    await page.goto((await street.begin()).authorization_url)
    await page.get_by_role("button").click()
    street.clock.now += LIFETIME
    await page.get_by_role("link", name="Agree").click()
    assert "expired" in await page.get_by_role("heading", level=1).inner_text()
    await page.get_by_role("link", name="Return to the application").click()
    assert parameters(page.url)["error"] == ["session_expired"]


async def test_a_person_who_was_not_the_one_reads_it_when_looking_again(street: Street):
    started = await street.begin()
    page, _ = await person(street)
    await page.goto(started.authorization_url)
    await page.get_by_role("button").click()
    await page.get_by_role("link", name="Agree").click()
    with pytest.raises(AccessDenied):
        await street.here.consents.complete(started.session_uri, NamedUser("somebody-else"))
    await page.goto(started.authorization_url)
    assert "Somebody else" in await page.get_by_role("heading", level=1).inner_text()


async def test_a_button_on_another_site_presses_nothing(street: Street):
    started = await street.begin()
    page, _ = await person(street)
    await page.goto(f"{street.app}/trap?{urlencode({'target': started.authorization_url})}")
    await page.get_by_role("button").click()
    assert "press the button yourself" in await page.get_by_role("heading", level=1).inner_text()
    owner, _ = await person(street)
    await owner.goto(started.authorization_url)
    assert await owner.get_by_role("button").count() == 1


async def test_the_page_does_not_stand_in_a_frame_of_another_site(street: Street):
    started = await street.begin()
    page, complaints = await person(street)
    await page.goto(f"{street.app}/frame?{urlencode({'target': started.authorization_url})}")
    await page.wait_for_timeout(200)
    assert await page.frames[1].get_by_role("button").count() == 0
    assert any("frame-ancestors" in each for each in complaints)


# --- For everybody ---


async def test_looking_asks_nobody_but_the_gateway(street: Street):
    page, complaints = await person(street)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto((await street.begin()).authorization_url, wait_until="networkidle")
    assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in asked} == {street.gateway}
    assert complaints == []


async def shown(street: Street, kind: str, page: Page) -> None:
    """Bring a page of this kind before the person, with names as long as they get."""
    if kind == "nothing":
        await page.goto(f"{street.gateway}/identities/oauth2/authorize")
        return
    scopes = ("files.read", "https://vendor.example/auth/everything.that.can.be.written.without.a.space.in.it")
    long = NamedUser("a-user-whose-name-is-not-short-at-all@a-department.of-a-company.example")
    started = await street.begin(user=long, workload="an_agent_with_a_name_of_some_length_Ab1", scopes=scopes)
    await page.goto(started.authorization_url)
    if kind == "denied":
        await page.get_by_role("button").click()
        await page.get_by_role("link", name="Refuse").click()


@pytest.mark.parametrize("kind", ["question", "denied", "nothing"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_its_ground(street: Street, kind: str, scheme: str):
    page, _ = await person(street, color_scheme=scheme)
    await shown(street, kind, page)
    contrasts = await page.evaluate(CONTRASTS)
    assert len(contrasts) > 5
    assert [each for each in contrasts if each[1] < 4.5] == []
    await street.shoot(page, f"{kind}-{scheme}")


@pytest.mark.parametrize("kind", ["question", "denied", "nothing"])
async def test_a_narrow_window_never_scrolls_sideways(street: Street, kind: str):
    page, _ = await person(street, viewport={"width": 320, "height": 640})
    await shown(street, kind, page)
    await street.shoot(page, f"{kind}-narrow")
    assert await page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("kind", ["question", "denied", "nothing"])
async def test_a_page_tells_its_language_its_title_and_its_parts(street: Street, kind: str):
    page, _ = await person(street)
    await shown(street, kind, page)
    heading = page.get_by_role("heading", level=1)
    assert await page.get_attribute("html", "lang") == "en"
    assert await page.title() not in {"", "Identity Gateway"}
    assert await heading.count() == 1
    for landmark in ("banner", "main", "contentinfo"):
        assert await page.get_by_role(landmark).count() == 1  # type: ignore[arg-type]
    assert await page.evaluate(
        "[...document.querySelectorAll('[aria-labelledby]')].every(each => document.getElementById(each.getAttribute('aria-labelledby')))"
    )


@pytest.mark.parametrize(("kind", "role"), [("question", "button"), ("denied", "link")])
async def test_the_one_thing_to_do_is_reached_with_the_keyboard_and_shows_it(street: Street, kind: str, role: str):
    page, _ = await person(street)
    await shown(street, kind, page)
    await page.wait_for_load_state()  # a key that is pressed earlier goes to the page before
    before = page.url
    await page.keyboard.press("Tab")
    target = page.get_by_role(role)  # type: ignore[arg-type]
    assert await target.evaluate("element => element === document.activeElement")
    assert await target.evaluate("element => getComputedStyle(element).outlineWidth") == "3px"
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: url != before)
