"""Browsers and consents: looking is free, a session is one browser's, an answer counts once and only in its place."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from identity_gateway.consent import LIFETIME, Forward, Problem, ProblemKind, Question, SessionState
from identity_gateway.errors import AccessDenied
from identity_gateway.model import NamedUser
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock
from tests.fakes.consent import ADA, OTHER_ID, PROVIDER_ID, World, client, holder, query, request_uri, world


@pytest.fixture
async def here(records: SqlRecords, clock: Clock) -> AsyncIterator[World]:
    async with world(records, clock) as opened:
        yield opened


def kind(reached: object) -> ProblemKind:
    assert isinstance(reached, Problem), reached
    return reached.kind


# --- Looking ---


@pytest.mark.parametrize("uri", ["", "x", "urn:ietf:params:oauth:request_uri:" + "A" * 43, "A" * 43])
async def test_an_unknown_link_leads_nowhere(here: World, uri: str):
    channel = here.consents.front_channel
    assert kind(await channel.show(uri, {})) is ProblemKind.UNKNOWN
    assert kind(await channel.proceed(uri, {})) is ProblemKind.UNKNOWN


async def test_a_link_expires_after_ten_minutes(here: World, clock: Clock):
    started, browser = await here.begin(), here.browser()
    await browser.look(started)
    clock.now += LIFETIME
    assert kind(await browser.look(started)) is ProblemKind.EXPIRED
    assert kind(await browser.press(started)) is ProblemKind.EXPIRED


async def test_a_link_of_a_provider_that_was_deleted_leads_nowhere(here: World):
    started = await here.begin()
    del here.register.clients[PROVIDER_ID]
    assert kind(await here.browser().look(started)) is ProblemKind.REMOVED
    assert kind(await here.browser().press(started)) is ProblemKind.REMOVED


async def test_previews_consume_nothing(here: World):
    started = await here.begin()
    for _ in range(30):
        assert isinstance(await here.browser().look(started), Question)
    assert isinstance(await here.browser().consent(started), Forward)


async def test_the_question_names_agent_vendor_user_account_and_every_scope(here: World):
    started = await here.begin(holder(parameters={"user_scope": "mail.read files.read"}))
    asked = await here.browser().look(started)
    assert isinstance(asked, Question)
    assert (asked.agent, asked.vendor, asked.vendor_host) == ("expense-agent", "Sample Drive", "vendor.example")
    assert (asked.user, asked.user_issuer, asked.account) == ("ada", "login.example", "000000000000")
    assert asked.scopes == ("files.read", "files.write", "mail.read")


async def test_the_question_tells_everything_else_that_the_agent_asks_the_vendor_for(here: World):
    asked = await here.browser().look(
        await here.begin(
            holder(
                parameters={"user_scope": "mail.read", "authorization_details": '[{"type":"payment"}]', "claims": "{}"},
                resources=("https://api.example",),
                audiences=("https://one.example", "https://two.example"),
            )
        )
    )
    assert isinstance(asked, Question)
    assert asked.also == (
        ("authorization_details", '[{"type":"payment"}]'),
        ("claims", "{}"),
        ("resource", "https://api.example"),
        ("audience", "https://one.example"),
        ("audience", "https://two.example"),
    )


async def test_the_question_says_how_much_of_a_long_value_it_does_not_show(here: World):
    asked = await here.browser().look(await here.begin(holder(parameters={"claims": "x" * 1500})))
    assert isinstance(asked, Question)
    assert asked.also == (("claims", "x" * 1000 + " [and 500 more characters]"),)


async def test_the_question_shows_characters_that_would_hide_or_turn_others(here: World):
    asked = await here.browser().look(await here.begin(holder(parameters={"claims": "a\u202eb\u200bc\u2028d"})))
    assert isinstance(asked, Question)
    assert asked.also == (("claims", "a\ufffdb\ufffdc\ufffdd"),)


async def test_a_user_that_an_agent_named_is_shown_without_an_issuer(here: World):
    asked = await here.browser().look(await here.begin(holder(NamedUser("ada@example.com"))))
    assert isinstance(asked, Question)
    assert (asked.user, asked.user_issuer) == ("ada@example.com", "")


# --- Pressing ---


async def test_a_session_that_one_browser_opened_is_closed_to_every_other(here: World):
    started = await here.begin()
    await here.browser().press(started)
    other = here.browser()
    assert kind(await other.press(started)) is ProblemKind.OPENED_ELSEWHERE
    assert kind(await other.look(started)) is ProblemKind.OPENED_ELSEWHERE


@pytest.mark.parametrize("value", ["", "A" * 43, "x"])
async def test_a_cookie_that_was_made_up_opens_nothing(here: World, value: str):
    started, owner, other = await here.begin(), here.browser(), here.browser()
    await owner.press(started)
    other.cookies = dict.fromkeys(owner.cookies, value)
    assert kind(await other.press(started)) is ProblemKind.OPENED_ELSEWHERE


async def test_of_many_browsers_that_press_at_once_one_opens_the_session(here: World):
    started = await here.begin()
    reached = await asyncio.gather(*(here.browser().press(started) for _ in range(8)))
    assert [isinstance(each, Forward) for each in reached].count(True) == 1


async def test_pressing_twice_before_any_answer_arrives_stays_in_one_browser(here: World):
    started, browser = await here.begin(), here.browser()
    await browser.look(started)
    first, second = await asyncio.gather(browser.press(started), browser.press(started))
    assert isinstance(first, Forward)
    assert isinstance(second, Forward)


async def test_the_browser_that_opened_a_session_may_press_again_with_another_state(here: World):
    started, browser = await here.begin(), here.browser()
    first, second = await browser.state(started), await browser.state(started)
    assert first != second
    assert isinstance(await browser.come_back(state=second, code="code-1"), Forward)


async def test_a_button_that_is_pressed_again_and_again_stops_working(here: World):
    started, browser = await here.begin(), here.browser()
    for _ in range(20):
        await browser.state(started)
    assert kind(await browser.press(started)) is ProblemKind.TOO_MANY


async def test_sessions_in_parallel_tabs_do_not_disturb_each_other(here: World):
    first, second, browser = await here.begin(), await here.begin(), here.browser()
    one, two = await browser.state(first), await browser.state(second)
    assert isinstance(await browser.come_back(state=one, code="code-1"), Forward)
    assert isinstance(await browser.come_back(state=two, code="code-2"), Forward)


async def test_the_cookie_belongs_to_this_host_alone(here: World):
    pressed = await here.browser().press(await here.begin())
    assert isinstance(pressed, Forward)
    assert pressed.cookie is not None
    assert pressed.cookie.name.startswith("__Host-consent-")
    assert (pressed.cookie.secure, pressed.cookie.path, len(pressed.cookie.value)) == (True, "/", 43)


async def test_without_tls_the_cookie_stays_below_the_pages(records: SqlRecords, clock: Clock):
    async with world(records, clock, base_url="http://127.0.0.1:8080/gateway") as here:
        pressed = await here.browser().press(await here.begin())
        assert isinstance(pressed, Forward)
        assert pressed.cookie is not None
        assert pressed.cookie.name.startswith("consent-")
        assert (pressed.cookie.secure, pressed.cookie.path) == (False, "/gateway/identities/oauth2")


async def test_the_vendor_is_asked_with_state_and_challenge_and_not_told_the_session(here: World):
    started = await here.begin()
    pressed = await here.browser().press(started)
    assert isinstance(pressed, Forward)
    asked = query(pressed.url)
    assert asked["redirect_uri"] == f"https://gateway.example/identities/oauth2/callback/{PROVIDER_ID}"
    assert {"state", "code_challenge"} <= asked.keys()
    assert request_uri(started).rpartition(":")[2] not in pressed.url


# --- Coming back ---


@pytest.mark.parametrize("state", ["", "x", "A" * 43, "A" * 4096])
async def test_an_answer_with_an_unknown_state_changes_nothing(here: World, state: str):
    started, browser = await here.begin(), here.browser()
    await browser.press(started)
    reached = await browser.come_back(state=state, code="code-1")
    assert reached == Problem(ProblemKind.ORPHAN)
    assert (await here.consents.status(started.session_uri, holder())).state is SessionState.IN_PROGRESS


async def test_an_answer_without_a_state_or_with_two_is_nobodys(here: World):
    started, browser = await here.begin(), here.browser()
    state = await browser.state(started)
    channel = here.consents.front_channel
    for pairs in ([("code", "c")], [("state", state), ("state", state), ("code", "c")], []):
        assert kind(await channel.returned(PROVIDER_ID, pairs, browser.cookies)) is ProblemKind.ORPHAN


async def test_a_state_works_once(here: World):
    started, browser = await here.begin(), here.browser()
    state = await browser.state(started)
    await browser.come_back(state=state, code="code-1")
    assert kind(await browser.come_back(state=state, code="code-2")) is ProblemKind.ORPHAN


async def test_of_two_answers_to_one_session_the_first_counts(here: World):
    started, browser = await here.begin(), here.browser()
    first, second = await browser.state(started), await browser.state(started)
    await browser.come_back(state=first, code="code-1")
    assert kind(await browser.come_back(state=second, error="access_denied")) is ProblemKind.USED
    await here.consents.complete(started.session_uri, ADA)
    assert here.vendor.asked[0]["code"] == "code-1"


@pytest.mark.parametrize("provider_id", [OTHER_ID, "", "unknown"])
async def test_an_answer_at_another_providers_address_fails_the_session(here: World, provider_id: str):
    started, browser = await here.begin(), here.browser()
    state = await browser.state(started)
    reached = await browser.come_back(provider_id=provider_id, state=state, code="code-1")
    assert kind(reached) is ProblemKind.WRONG_PROVIDER
    with pytest.raises(AccessDenied):
        await here.consents.complete(started.session_uri, ADA)


async def test_an_answer_in_another_browser_fails_the_session(here: World):
    started, browser = await here.begin(), here.browser()
    state = await browser.state(started)
    assert kind(await here.browser().come_back(state=state, code="code-1")) is ProblemKind.OTHER_BROWSER
    assert (await here.consents.status(started.session_uri, holder())).state is SessionState.FAILED


async def test_the_cookie_of_another_session_is_no_proof(here: World):
    mine, theirs, browser = await here.begin(), await here.begin(), here.browser()
    state = await here.browser().state(theirs)
    await browser.press(mine)
    assert kind(await browser.come_back(state=state, code="code-1")) is ProblemKind.OTHER_BROWSER


async def test_an_answer_after_ten_minutes_is_too_late(here: World, clock: Clock):
    started, browser = await here.begin(), here.browser()
    state = await browser.state(started)
    clock.now += LIFETIME
    reached = await browser.come_back(state=state, code="code-1")
    assert isinstance(reached, Problem)
    assert (reached.kind, query(reached.back or "")["error"]) == (ProblemKind.EXPIRED, "session_expired")


async def test_an_answer_with_a_repeated_parameter_fails_the_session(here: World):
    started, browser = await here.begin(), here.browser()
    pairs = [("state", await browser.state(started)), ("code", "one"), ("code", "two")]
    reached = await here.consents.front_channel.returned(PROVIDER_ID, pairs, browser.cookies)
    assert kind(reached) is ProblemKind.VENDOR_ERROR


async def test_an_answer_of_another_issuer_fails_the_session(records: SqlRecords, clock: Clock):
    described = {"url": "https://vendor.example/oauth/authorize", "issuer_required": True}
    async with world(records, clock, first=client(issuer="https://vendor.example", authorize=described)) as here:
        for issuer in ({"iss": "https://evil.example"}, {}):
            started, browser = await here.begin(), here.browser()
            reached = await browser.come_back(state=await browser.state(started), code="code-1", **issuer)
            assert kind(reached) is ProblemKind.VENDOR_ERROR


async def test_a_denial_is_told_to_the_user_and_to_the_application(here: World):
    started, browser = await here.begin(state="c2"), here.browser()
    reached = await browser.come_back(
        state=await browser.state(started), error="access_denied", error_description="Not today"
    )
    assert isinstance(reached, Problem)
    assert (reached.kind, reached.code, reached.description) == (ProblemKind.DENIED, "access_denied", "Not today")
    assert query(reached.back or "") == {
        "tab": "2",
        "session_id": started.session_uri,
        "error": "access_denied",
        "error_description": "Not today",
        "state": "c2",
        "custom_state": "c2",
    }


@pytest.mark.parametrize("error", ["server_error", "invalid_scope", "temporarily_unavailable", "weird"])
async def test_an_error_of_the_vendor_is_passed_on_in_its_words(here: World, error: str):
    started, browser = await here.begin(), here.browser()
    reached = await browser.come_back(state=await browser.state(started), error=error)
    assert isinstance(reached, Problem)
    assert (reached.kind, reached.code) == (ProblemKind.VENDOR_ERROR, error)


async def test_the_words_of_a_vendor_are_bounded_and_printable(here: World):
    started, browser = await here.begin(), here.browser()
    reached = await browser.come_back(
        state=await browser.state(started), error="access_denied", error_description="a\r\n\x00b" + "c" * 5000
    )
    assert isinstance(reached, Problem)
    assert len(reached.description) <= 300
    assert reached.description.isprintable()


async def test_who_looks_again_after_a_failure_sees_it_in_that_browser_only(here: World):
    started, browser = await here.begin(), here.browser()
    await browser.come_back(state=await browser.state(started), error="access_denied")
    assert kind(await browser.look(started)) is ProblemKind.DENIED
    assert kind(await browser.press(started)) is ProblemKind.DENIED
    assert await here.browser().look(started) == Problem(ProblemKind.OPENED_ELSEWHERE, "Sample Drive", "expense-agent")


async def test_who_looks_again_after_another_user_finished_is_told_so(here: World):
    started, browser = await here.begin(), here.browser()
    await browser.consent(started)
    with pytest.raises(AccessDenied):
        await here.consents.complete(started.session_uri, NamedUser("bob"))
    assert kind(await browser.look(started)) is ProblemKind.WRONG_USER


async def test_a_link_is_used_once_the_vendor_has_answered(here: World):
    started, browser = await here.begin(), here.browser()
    await browser.consent(started)
    assert kind(await browser.press(started)) is ProblemKind.USED
    await here.consents.complete(started.session_uri, ADA)
    assert kind(await browser.look(started)) is ProblemKind.USED


# --- The way back ---


@pytest.mark.parametrize(
    ("return_url", "expected"),
    [
        ("https://app.example/back", "https://app.example/back?session_id="),
        ("https://app.example/back?tab=2&x=%2F", "https://app.example/back?tab=2&x=%2F&session_id="),
        ("https://app.example/back?", "https://app.example/back?session_id="),
        ("myapp://callback", "myapp://callback?session_id="),
        ("myapp:///callback", "myapp:///callback?session_id="),
        ("com.example.app:/oauth2", "com.example.app:/oauth2?session_id="),
        ("http://localhost:3000/cb", "http://localhost:3000/cb?session_id="),
    ],
)
async def test_the_way_back_keeps_the_return_url_as_it_is_registered(here: World, return_url: str, expected: str):
    started = await here.begin(return_url=return_url)
    reached = await here.browser().consent(started)
    assert isinstance(reached, Forward)
    assert reached.url == f"{expected}urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A{started.session_uri[-43:]}"


async def test_what_is_added_stands_before_a_fragment(here: World):
    reached = await here.browser().consent(await here.begin(return_url="https://app.example/#/back"))
    assert isinstance(reached, Forward)
    assert reached.url.startswith("https://app.example/?session_id=urn")
    assert reached.url.endswith("#/back")


@pytest.mark.parametrize("state", ["plain", "a:b", "a&error=x#y", "ä \r\n"])
async def test_the_custom_state_comes_back_unchanged_under_both_names(here: World, state: str):
    reached = await here.browser().consent(await here.begin(state=state))
    assert isinstance(reached, Forward)
    assert reached.url.isascii()
    assert "\n" not in reached.url
    assert query(reached.url) | {"session_id": ""} == {
        "tab": "2",
        "session_id": "",
        "state": state,
        "custom_state": state,
    }
