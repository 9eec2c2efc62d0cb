"""Attacks on the vault and on consents, one by one: whoever writes the database or holds somebody's link gets nothing."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from identity_gateway.errors import AccessDenied, NotFound, Unavailable, ValidationFailed
from identity_gateway.model import JwtUser, NamedUser, User
from tests.fakes.changed_by_hand import changed_by_hand
from tests.fakes.issuer import FakeIssuer
from tests.fakes.stamping import StampingVendor, returned_to
from tests.tenants import Answer, Browser, Clock, Tenant, open_tenants, session_of

ADA, BOB = NamedUser("ada"), NamedUser("bob")
pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT, PROVIDER, OTHER_PROVIDER = "agent", "drive", "mail"


@pytest.fixture(scope="module")
def running_vendor() -> Iterator[StampingVendor]:
    with StampingVendor() as running:
        yield running


@pytest.fixture
def vendor(running_vendor: StampingVendor) -> StampingVendor:
    running_vendor.forms.clear()
    return running_vendor


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tenants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(folder: Path, clock: Clock, jwt_issuer: FakeIssuer) -> AsyncIterator[tuple[Tenant, Tenant]]:
    async with open_tenants(folder, clock, jwt_issuer) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def tenants(
    opened: tuple[Tenant, Tenant], vendor: StampingVendor, clock: Clock
) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """Two accounts with a new agent and two new providers each, by the same names."""
    for tenant in opened:
        await tenant.create_agent(AGENT)
        for provider in (PROVIDER, OTHER_PROVIDER):
            await tenant.create_provider(provider, vendor.configuration(f"{tenant.account}-{provider}"))
    yield opened
    clock.skipped += 60  # a token of this agent is none of the next test's
    for tenant in opened:
        await tenant.clear()


@pytest.fixture
def ours(tenants: tuple[Tenant, Tenant]) -> Tenant:
    return tenants[0]


@pytest.fixture
def theirs(tenants: tuple[Tenant, Tenant]) -> Tenant:
    return tenants[1]


class Database:
    """The database, as somebody sees it who got hold of it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "gateway.sqlite"

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
            found = connection.execute(statement, values).fetchall()
        changed_by_hand(self._path)
        return found

    def grant(self, column: str, tenant: Tenant, user: User = ADA, provider: str = PROVIDER) -> Any:
        ((value,),) = self.run(f"SELECT {column} FROM grant_ WHERE {WHOSE}", *whose(tenant, user, provider))
        return value

    def change(self, column: str, value: Any, tenant: Tenant, user: User = ADA, provider: str = PROVIDER) -> None:
        self.run(f"UPDATE grant_ SET {column} = ? WHERE {WHOSE}", value, *whose(tenant, user, provider))


WHOSE = """account = ? AND "user" = ? AND provider = ?"""


def whose(tenant: Tenant, user: User, provider: str) -> tuple[str, str, str]:
    assert isinstance(user, NamedUser)
    return tenant.account, f'["id","{user.id}"]', provider


@pytest.fixture
def database(folder: Path, tenants: tuple[Tenant, Tenant]) -> Database:
    return Database(folder)


async def ask(tenant: Tenant, user: User = ADA, provider: str = PROVIDER, agent: str = AGENT, **more: Any) -> Answer:
    return await tenant.ask(agent, user, provider, **more)


async def agreed(
    tenant: Tenant, vendor: StampingVendor, browser: Browser, user: User = ADA, provider: str = PROVIDER
) -> tuple[Answer, str, dict[str, str]]:
    """Begin a consent for a user who agrees; return what the agent was told, and the vendor's redirect."""
    begun = await ask(tenant, user, provider, forceAuthentication=True)
    url = await browser.press(tenant, begun.link)
    assert url is not None
    return begun, *vendor.agree(url, user)


async def granted(tenant: Tenant, vendor: StampingVendor, user: User = ADA, provider: str = PROVIDER) -> str:
    """Have a user consent; return the access token."""
    browser = Browser()
    begun, callback, parameters = await agreed(tenant, vendor, browser, user, provider)
    location = await browser.come_back(tenant, returned_to(callback, parameters))
    assert location is not None
    await tenant.complete(session_of(location), user)
    return (await ask(tenant, user, provider, sessionUri=begun.session)).token


# --- Whoever writes the database ---


@pytest.mark.parametrize("target", ["another user", "another provider", "another account"])
async def test_sealed_tokens_that_were_moved_to_another_row_do_not_open(
    ours: Tenant, theirs: Tenant, vendor: StampingVendor, database: Database, target: str
):
    tenant, user, provider = {
        "another user": (ours, BOB, PROVIDER),
        "another provider": (ours, ADA, OTHER_PROVIDER),
        "another account": (theirs, ADA, PROVIDER),
    }[target]
    await granted(ours, vendor)
    await granted(tenant, vendor, user, provider)
    database.change("sealed", database.grant("sealed", ours), tenant, user, provider)
    with pytest.raises(Unavailable) as caught:
        await ask(tenant, user, provider)
    assert "does not open" in caught.value.reason


async def test_sealed_tokens_of_an_older_generation_do_not_open(
    ours: Tenant, vendor: StampingVendor, database: Database
):
    await granted(ours, vendor)
    older = database.grant("sealed", ours)
    await granted(ours, vendor)
    database.change("sealed", older, ours)
    with pytest.raises(Unavailable):
        await ask(ours)


async def test_a_row_that_is_found_by_anothers_key_is_not_given(
    ours: Tenant, vendor: StampingVendor, database: Database
):
    await granted(ours, vendor)
    await granted(ours, vendor, BOB)
    lookup = database.grant("lookup", ours, BOB)
    database.change("lookup", "0" * 64, ours, BOB)
    database.change("lookup", lookup, ours, ADA)
    with pytest.raises(Unavailable) as caught:
        await ask(ours, BOB)
    assert "its columns do not have" in caught.value.reason


async def test_a_row_whose_key_and_user_were_changed_does_not_open(
    ours: Tenant, vendor: StampingVendor, database: Database
):
    await granted(ours, vendor)
    await granted(ours, vendor, BOB)
    lookup = database.grant("lookup", ours, BOB)
    database.run(f"DELETE FROM grant_ WHERE {WHOSE}", *whose(ours, BOB, PROVIDER))
    database.change("lookup", lookup, ours, ADA)
    database.change('"user"', '["id","bob"]', ours, ADA)
    with pytest.raises(Unavailable) as caught:
        await ask(ours, BOB)
    assert "does not open" in caught.value.reason


@pytest.mark.parametrize("target", ["another provider", "another account"])
async def test_a_client_secret_that_was_moved_to_another_provider_does_not_open(
    ours: Tenant, theirs: Tenant, vendor: StampingVendor, database: Database, target: str
):
    tenant, provider = (ours, OTHER_PROVIDER) if target == "another provider" else (theirs, PROVIDER)
    database.run(
        "UPDATE credential_provider SET sealed_secrets = (SELECT sealed_secrets FROM credential_provider "
        "WHERE account = ? AND name = ?) WHERE account = ? AND name = ?",
        *(ours.account, PROVIDER, tenant.account, provider),
    )
    with pytest.raises(Unavailable):
        await ask(tenant, provider=provider, oauth2Flow="M2M")
    assert vendor.forms == []


# --- Whoever holds a session ---


async def test_a_session_of_one_agent_tells_another_one_nothing(ours: Tenant, vendor: StampingVendor):
    await ours.create_agent("another")
    begun = await ask(ours)
    with pytest.raises(AccessDenied, match="Invalid or expired session"):
        await ask(ours, agent="another", sessionUri=begun.session)


@pytest.mark.parametrize("change", [{"scopes": ["write"]}, {"customParameters": {"prompt": "none"}}])
async def test_a_session_is_bound_to_what_was_asked_for(ours: Tenant, change: dict[str, Any]):
    begun = await ask(ours)
    with pytest.raises(AccessDenied, match="Invalid or expired session"):
        await ask(ours, sessionUri=begun.session, **change)


async def test_a_session_of_one_account_is_unknown_in_the_other(ours: Tenant, theirs: Tenant):
    begun = await ask(ours)
    with pytest.raises(AccessDenied):
        await ask(theirs, sessionUri=begun.session)


async def test_a_consent_that_another_user_finished_gives_neither_of_them_anything(
    ours: Tenant, vendor: StampingVendor
):
    browser = Browser()
    begun = await ask(ours, ADA)
    url = await browser.press(ours, begun.link)
    assert url is not None
    location = await browser.come_back(ours, returned_to(*vendor.agree(url, BOB)))
    assert location is not None
    with pytest.raises(AccessDenied):
        await ours.complete(session_of(location), BOB)
    with pytest.raises(AccessDenied):
        await ours.complete(session_of(location), ADA)
    assert (vendor.forms, (await ask(ours, ADA)).token, (await ask(ours, BOB)).token) == ([], "", "")


async def test_a_user_of_a_token_is_not_the_user_of_the_same_name(
    ours: Tenant, vendor: StampingVendor, jwt_issuer: FakeIssuer
):
    browser, namesake = Browser(), JwtUser(jwt_issuer.issuer, "ada")
    _, callback, parameters = await agreed(ours, vendor, browser, ADA)
    location = await browser.come_back(ours, returned_to(callback, parameters))
    assert location is not None
    with pytest.raises(AccessDenied):
        await ours.complete(session_of(location), namesake)
    assert vendor.forms == []


async def test_whoever_only_has_the_link_cannot_finish_what_another_person_agreed_to(
    ours: Tenant, vendor: StampingVendor
):
    """Ada sends Bob her link; when he has agreed, she is quicker than his browser on its way to the application."""
    bobs = Browser()
    begun = await ask(ours, ADA)
    url = await bobs.press(ours, begun.link)
    assert url is not None
    assert await bobs.come_back(ours, returned_to(*vendor.agree(url, BOB))) is not None
    known_from_the_link = begun.link.partition("request_uri=")[2].replace("%3A", ":")
    with pytest.raises(AccessDenied):
        await ours.complete(known_from_the_link, ADA)
    assert vendor.forms == []


# --- Whoever plays with redirects ---


async def test_the_answer_to_one_providers_request_is_refused_at_another_ones_callback(
    ours: Tenant, vendor: StampingVendor
):
    browser = Browser()
    _, _, first = await agreed(ours, vendor, browser)
    _, callback, _ = await agreed(ours, vendor, browser, provider=OTHER_PROVIDER)
    location = await browser.come_back(ours, returned_to(callback, first))
    assert (location, vendor.forms) == (None, [])


async def test_an_answer_is_refused_in_the_other_account(ours: Tenant, theirs: Tenant, vendor: StampingVendor):
    browser = Browser()
    _, callback, parameters = await agreed(ours, vendor, browser)
    assert await browser.come_back(theirs, returned_to(callback, parameters)) is None


async def test_an_attackers_code_with_a_victims_state_gives_no_grant(ours: Tenant, vendor: StampingVendor):
    victims, attackers = Browser(), Browser()
    _, callback, theirs = await agreed(ours, vendor, victims, ADA)
    _, _, mine = await agreed(ours, vendor, attackers, BOB)
    location = await victims.come_back(ours, returned_to(callback, theirs | {"code": mine["code"]}))
    assert location is not None
    with pytest.raises(ValidationFailed, match="did not exchange"):
        await ours.complete(session_of(location), ADA)
    assert (await ask(ours, ADA)).token == ""


async def test_a_victims_code_and_state_are_refused_in_the_attackers_browser(ours: Tenant, vendor: StampingVendor):
    _, callback, parameters = await agreed(ours, vendor, Browser(), ADA)
    attackers = Browser()
    await agreed(ours, vendor, attackers, BOB)
    assert await attackers.come_back(ours, returned_to(callback, parameters)) is None


async def test_a_state_that_was_answered_is_not_answered_again(ours: Tenant, vendor: StampingVendor):
    browser = Browser()
    _, callback, parameters = await agreed(ours, vendor, browser)
    assert await browser.come_back(ours, returned_to(callback, parameters)) is not None
    assert await browser.come_back(ours, returned_to(callback, parameters)) is None


# --- Whoever kept a token ---


async def test_a_token_of_an_agent_that_was_deleted_asks_for_nothing(ours: Tenant, vendor: StampingVendor):
    await granted(ours, vendor)
    kept = ours.workload_token(AGENT, ADA)
    await ours.gateway.stories.workloads.delete_workload_identity({"name": AGENT})
    with pytest.raises(AccessDenied, match="no longer exists"):
        await ask(ours, workloadIdentityToken=kept)


async def test_a_token_of_an_agent_that_was_deleted_is_not_one_of_its_namesake(
    ours: Tenant, vendor: StampingVendor, clock: Clock
):
    kept = ours.workload_token(AGENT, ADA)
    clock.skipped += 60
    await ours.gateway.stories.workloads.delete_workload_identity({"name": AGENT})
    await ours.create_agent(AGENT)
    await granted(ours, vendor)
    with pytest.raises(AccessDenied, match="no longer exists"):
        await ask(ours, workloadIdentityToken=kept)


async def test_a_namesake_of_an_agent_does_not_inherit(ours: Tenant, vendor: StampingVendor):
    await granted(ours, vendor)
    await ours.gateway.stories.workloads.delete_workload_identity({"name": AGENT})
    await ours.create_agent(AGENT)
    assert (await ask(ours)).token == ""


async def test_a_namesake_of_a_provider_does_not_inherit(ours: Tenant, vendor: StampingVendor):
    await granted(ours, vendor)
    await ours.gateway.stories.providers.delete_oauth2_credential_provider({"name": PROVIDER})
    await ours.create_provider(PROVIDER, vendor.configuration("anew"))
    assert (await ask(ours)).token == ""


@pytest.mark.parametrize("flow", ["USER_FEDERATION", "M2M", "ON_BEHALF_OF_TOKEN_EXCHANGE"])
async def test_a_token_of_an_agent_of_one_account_asks_for_nothing_in_the_other(
    ours: Tenant, theirs: Tenant, vendor: StampingVendor, flow: str
):
    await granted(theirs, vendor)
    with pytest.raises(AccessDenied, match="not valid"):
        await ask(theirs, workloadIdentityToken=ours.workload_token(AGENT, ADA), oauth2Flow=flow)


async def test_a_grant_of_one_account_is_unknown_in_the_other(ours: Tenant, theirs: Tenant, vendor: StampingVendor):
    await granted(ours, vendor)
    (grant,) = (await ours.gateway.stories.grants.list_grants({}))["grants"]
    for operation in ("get_grant", "revoke_grant"):
        with pytest.raises(NotFound):
            await getattr(theirs.gateway.stories.grants, operation)({"grantId": grant["grantId"]})


async def test_a_machine_token_is_not_shared_with_the_namesake_of_the_other_account(
    ours: Tenant, theirs: Tenant, vendor: StampingVendor
):
    tokens = [(await ask(tenant, oauth2Flow="M2M")).token for tenant in (ours, theirs, ours)]
    clients = [vendor.stamps[token].client for token in tokens]
    assert clients == [f"{tenant.account}-{PROVIDER}" for tenant in (ours, theirs, ours)]
