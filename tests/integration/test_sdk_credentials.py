"""The official SDK's decorators in an agent behind the gateway: for a user who consents, for itself, on behalf, by key.

Everything is a process of its own: gateway, agent, the application that users come back to, npm's oidc-provider as the
vendor, and Chromium, which clicks. The SDK polls every five seconds, so consents are few here; what each operation
refuses is in tests/conformance/test_resource_*.py.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import REGION, RunningGateway, free_port, fresh_name, register
from tests.integration.test_sdk_agent import START_SECONDS, answers
from tests.issuers import OidcProvider

CHROMIUM = shutil.which("chromium")
USER = "ada"
"""Who is signed in to the demo's application."""

RESOURCE = "https://agents.example/rs256"
"""What the agent's own token is for."""

PATIENCE = 100
"""Seconds that a call of an agent may take. The SDK's own poller would go on for 600."""

EXCHANGE = {"grantType": "TOKEN_EXCHANGE", "tokenExchangeGrantTypeConfig": {"actorTokenContent": "M2M"}}
Events = Iterator[dict[str, Any]]


@contextmanager
def part(module: str, probe: str, environment: dict[str, str]) -> Iterator[str]:
    """Run a module that takes `--port`, and return its URL once `probe` answers."""
    port = free_port()
    command = [sys.executable, "-m", module, "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(f"http://127.0.0.1:{port}{probe}"):
                assert process.poll() is None, f"{module} ended"
                assert time.monotonic() < deadline, f"{module} did not start"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()  # a poller of the SDK would keep it up for ten minutes


@dataclass
class Deployed:
    """One agent, registered twice: to be called with a signature, and with a JWT."""

    gateway: RunningGateway
    data: Any
    signed: str
    guarded: str
    api_key: str

    def ask(self, task: str, user: str | None = USER) -> Events:
        """Have the agent do a task for a user, and return what happens while it does."""
        asked = {"runtimeUserId": user} if user is not None else {}
        response = self.data.invoke_agent_runtime(
            agentRuntimeArn=self.signed, payload=json.dumps({"task": task}), **asked
        )["response"]
        return (event_of(line) for line in response.iter_lines(chunk_size=1) if line)

    def credential(self, task: str, user: str | None = USER) -> str:
        """Return what a task gives that nobody has to consent to."""
        (event,) = self.ask(task, user)
        return str(event["credential"])


def event_of(line: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    return event


@pytest.fixture(scope="module")
def deployed(
    gateway: RunningGateway,
    oidc_provider: OidcProvider,
    jwt_issuer: FakeIssuer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    vendor, key_name, control = fresh_name("vendor"), fresh_name("key"), gateway.control
    folder = tmp_path_factory.mktemp("policies")
    oidc_provider.connect(control, name=vendor, onBehalfOfTokenExchangeConfig=EXCHANGE)
    control.create_api_key_credential_provider(name=key_name, apiKey="k-123")
    with ExitStack() as stack:
        application = stack.enter_context(
            part("identity_gateway.demo.application", "/", environment(gateway, folder, "CompleteResourceTokenAuth"))
        )
        where = {"AGENT_VENDOR": vendor, "AGENT_KEY": key_name, "AGENT_RETURN_URL": f"{application}/return"}
        agent = stack.enter_context(
            part(
                "tests.integration.sdk_agent",
                "/ping",
                environment(gateway, folder, "GetResourceOauth2Token", "GetResourceApiKey") | where,
            )
        )
        signed = register(gateway, agent)
        guarded = register(gateway, agent, **guarded_by(jwt_issuer.discovery_url))
        for arn in (signed, guarded):
            control.update_workload_identity(
                name=arn.rpartition("/")[2], allowedResourceOauth2ReturnUrls=[f"{application}/return"]
            )
        data = gateway.client("bedrock-agentcore", read_timeout=PATIENCE)
        yield Deployed(gateway, data, signed, guarded, "k-123")


def environment(gateway: RunningGateway, folder: Path, *actions: str) -> dict[str, str]:
    """Return the environment of a program that may do just this, and that the SDK reads by itself."""
    allowed = {"Effect": "Allow", "Action": [f"bedrock-agentcore:{action}" for action in actions], "Resource": "*"}
    file = folder / "policy.json"
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    made = gateway.command("access-key", "create", "--name", fresh_name("key"), "--policy", str(file), "--json")
    key = json.loads(made.stdout)
    ours = {name: value for name, value in gateway.environment.items() if not name.startswith("IDENTITY_GATEWAY_")}
    return ours | {
        "AWS_ACCESS_KEY_ID": key["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["secretAccessKey"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": gateway.url,
    }


# --- People ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a person whom nobody knows yet. Nothing but this machine is there: the vendor's font is not fetched."""
    context = chromium.new_context()
    context.route(re.compile(r"^https://"), lambda route: route.abort())
    yield context.new_page()
    context.close()


def to_the_vendor(page: Page, link: str, person: str) -> None:
    """Open the link that the agent showed, go on, and sign in at the vendor."""
    page.goto(link)
    page.get_by_role("button", name="Continue to").click()
    page.get_by_placeholder("Enter any login").fill(person)
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()


def consented(page: Page, events: Events, person: str = "ada-at-the-vendor") -> str:
    """Consent to what a task asks for, and return the credential that the agent was given then."""
    to_the_vendor(page, next(events)["link"], person)
    page.get_by_role("button", name="Continue").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Access given"
    (event,) = events
    return str(event["credential"])


# --- For a user -----------------------------------------------------------------------------------------------------------


def test_who_refuses_at_the_vendor_ends_the_agents_wait_with_the_vendors_words(deployed: Deployed, page: Page):
    events, began = deployed.ask("refused"), time.monotonic()
    to_the_vendor(page, next(events)["link"], "ada-at-the-vendor")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("link", name="Return to the application").click()
    assert page.get_by_role("heading", level=1).inner_text() == "No access given"
    (failed,) = events
    assert re.search(r"AccessDeniedException.*refused the consent: access_denied", failed["error"])
    # The poller was ended, it did not give up: that takes it ten minutes.
    assert time.monotonic() - began < PATIENCE


def test_who_consents_gives_the_agent_a_token_that_opens_their_account_until_they_are_asked_anew(
    deployed: Deployed, page: Page, oidc_provider: OidcProvider
):
    first = consented(page, deployed.ask("user"))
    assert oidc_provider.whose(first) == "ada-at-the-vendor"
    assert deployed.credential("user") == first
    page.context.clear_cookies()
    again = consented(page, deployed.ask("user again"), person="ada-elsewhere")
    assert oidc_provider.whose(again) == "ada-elsewhere"
    assert deployed.credential("user") == again


def test_a_token_that_ends_is_followed_by_others_without_anybody_being_asked(
    deployed: Deployed, page: Page, oidc_provider: OidcProvider
):
    """Twice: the second refresh takes the refresh token that the first one brought."""
    tokens = [consented(page, deployed.ask("brief"))]
    deadline = time.monotonic() + PATIENCE
    while len(tokens) < 3:
        assert time.monotonic() < deadline, "the token was not renewed"
        time.sleep(0.5)
        token = deployed.credential("brief")
        tokens += [token] if token != tokens[-1] else []
    assert len(set(tokens)) == 3
    assert oidc_provider.whose(tokens[-1]) == "ada-at-the-vendor"


def test_another_user_of_the_agent_is_asked_for_a_consent_of_their_own(deployed: Deployed):
    events = deployed.ask("user", user="grace")
    assert next(events)["link"].startswith(f"{deployed.gateway.url}/identities/oauth2/authorize?")


# --- For the agent, on behalf, and by key -----------------------------------------------------------------------------------


def test_an_agent_gets_a_token_of_its_own(deployed: Deployed, oidc_provider: OidcProvider):
    claims = jwt.decode(
        deployed.credential("machine"),
        jwt.PyJWKClient(f"{oidc_provider.issuer}/jwks").get_signing_key_from_jwt(deployed.credential("machine")),
        algorithms=["RS256"],
        audience=RESOURCE,
        issuer=oidc_provider.issuer,
    )
    assert claims["scope"] == "agents.read"


def test_an_agent_called_with_a_jwt_acts_for_its_user(
    deployed: Deployed, jwt_issuer: FakeIssuer, oidc_provider: OidcProvider
):
    token = token_of(jwt_issuer, sub="ada-at-work")
    response = post(deployed.gateway, deployed.guarded, token, b'{"task": "on behalf"}')
    assert oidc_provider.whose(event_of(response.content.strip())["credential"]) == "ada-at-work"


def test_an_agent_called_with_a_signature_has_no_user_to_act_for(deployed: Deployed):
    (failed,) = deployed.ask("on behalf")
    assert "ValidationException" in failed["error"]
    assert "carries no token of a user" in failed["error"]


@pytest.mark.parametrize("task", ["key", "key in a plain function"])
def test_an_agent_gets_an_api_key(deployed: Deployed, task: str):
    assert deployed.credential(task) == deployed.api_key
