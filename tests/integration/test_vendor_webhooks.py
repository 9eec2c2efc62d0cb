"""Webhooks of Slack, Zoom and GitHub, signed as these vendors sign, at a real gateway: what is forged ends nothing."""

import asyncio
import http.client
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from identity_gateway import settings
from identity_gateway.app import open_gateway
from identity_gateway.model import NamedUser, Secret
from identity_gateway.protocol.aws.model import OUR_MODELS
from identity_gateway.protocol.oauth2 import Answered, Credential, Requested
from identity_gateway.vault import Holder
from tests.fakes.vendor import Webhooks
from tests.gateways import RunningGateway, fresh_name
from tests.providers.vendors import ALL

SECRET = "secret-that-signs-webhooks"


@dataclass
class Registered:
    """A vendor's app at the gateway: what the vendor knows of it, and whose grants there are."""

    gateway: RunningGateway
    name: str
    id: str
    signing: Webhooks
    client: Any
    accounts: dict[str, str] = field(default_factory=dict)

    def post(self, body: bytes, headers: Mapping[str, str], *, provider_id: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)
        path = f"/identities/webhooks/{provider_id or self.id}"
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        return answer.status, json.loads(said) if said else None

    def send(
        self, body: Any, *, secret: str = SECRET, at: float | None = None, raw: bytes | None = None,
        provider_id: str = "", **headers: str | None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Deliver as the vendor does. `raw` replaces the body after it was signed; a header of None is left out."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        signed = self.signing.signed(secret.encode(), sent, str(int(time.time() if at is None else at)))
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in ({**signed, **more}).items() if value is not None}
        return self.post(sent if raw is None else raw, given, provider_id=provider_id)

    def given(self, account: str = "", subject: str = "", part: str = "default") -> str:
        """Put a grant into the vault, as a consent does, and return its id."""

        async def store(opened: Any) -> str:
            holder = Holder(fresh_name(), datetime.now(UTC), NamedUser("ada"), self.name, self.id, Requested())
            made = Credential(part, Secret("access"), Secret("refresh"), 3600, None, None, "Bearer", subject)
            answered = Answered((made,), account, subject)
            vault = opened.stories.grants._vault
            return str((await vault.store_consent(holder, answered, began=time.time() - 60))[0].id)

        return self.inside(store)

    def inside(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do something as another process of the same gateway."""

        async def run() -> Any:
            async with open_gateway(settings.load(data_dir=self.gateway.data_dir)) as opened:
                return await work(opened)

        return asyncio.run(run())

    def states(self, *grants: str) -> list[str]:
        return [self.client.get_grant(grantId=each)["grant"]["state"] for each in grants]


@pytest.fixture(scope="module")
def own(gateway: RunningGateway) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_DATA_PATH", OUR_MODELS)
        client = gateway.client("identity-gateway")
    yield client
    client.close()


def registered(gateway: RunningGateway, own: Any, vendor: str) -> Registered:
    word, member = ALL[vendor].agentcore
    signing = ALL[vendor].webhooks
    assert signing is not None
    name = fresh_name(vendor)
    gateway.control.create_oauth2_credential_provider(
        name=name,
        credentialProviderVendor=word,
        oauth2ProviderConfigInput={member: {"clientId": "client-1", "clientSecret": "s" * 20}},
    )
    found = own.put_provider_settings(name=name, secrets={signing.secret: SECRET})
    return Registered(gateway, name, found["webhookUrl"].rpartition("/")[2], signing, own)


@pytest.fixture
def slack(gateway: RunningGateway, own: Any) -> Registered:
    return registered(gateway, own, "slack")


@pytest.fixture
def zoom(gateway: RunningGateway, own: Any) -> Registered:
    return registered(gateway, own, "zoom")


@pytest.fixture
def github(gateway: RunningGateway, own: Any) -> Registered:
    return registered(gateway, own, "github")


def tokens_revoked(**tokens: list[str]) -> dict[str, Any]:
    event = {"type": "tokens_revoked", "tokens": tokens}
    return {"type": "event_callback", "event_id": str(uuid.uuid4()), "team_id": "T1", "event": event}


# --- Forged ---


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": "another-secret"},
        {"secret": "a-secret-of-another-provider"},
        {"at": 1.0},
        {"at": 9_999_999_999.0},
        {"raw": b"{}"},
        {"raw": b"not json"},
        {"raw": b""},
        {"X_Slack_Signature": None},
        {"X_Slack_Request_Timestamp": None},
        {"X_Slack_Request_Timestamp": "now"},
        {"provider_id": "00000000-0000-4000-8000-000000000000"},
    ],
    ids=str,
)
def test_a_forged_delivery_is_refused_in_one_sentence_and_ends_nothing(slack: Registered, forged: dict[str, Any]):
    other = registered(slack.gateway, slack.client, "slack")
    other.client.put_provider_settings(name=other.name, secrets={"signing_secret": "a-secret-of-another-provider"})
    grant = slack.given("T1", "U1", "user")
    answer = slack.send(tokens_revoked(oauth=["U1"]), **forged)
    assert answer == (401, {"message": "The signature of this webhook is not valid."})
    assert slack.states(grant) == ["ACTIVE"]


def test_a_huge_body_is_refused_before_its_signature_is_looked_at(slack: Registered):
    body = b'{"a":"' + b"x" * (1 << 20) + b'"}'
    assert slack.post(body, {})[0] == 413


def test_a_signed_body_that_is_no_json_is_told_so(slack: Registered):
    assert slack.send(b"not json") == (400, {"message": "The body is not JSON."})


def test_a_signed_form_is_told_which_content_type_to_choose(github: Registered):
    status, said = github.send(b"payload=%7B%7D", content_type="application/x-www-form-urlencoded")
    assert status == 415
    assert "application/json" in said["message"]


def test_a_replayed_delivery_does_not_end_what_was_granted_since(github: Registered):
    event, headers = {"action": "revoked", "sender": {"id": 4712}}, {
        "X_GitHub_Event": "github_app_authorization",
        "X_GitHub_Delivery": str(uuid.uuid4()),
    }  # fmt: skip
    first = github.given(subject="4712")
    assert github.send(event, **headers)[0] == 200
    second = github.given(subject="4712")
    assert github.send(event, **headers)[0] == 200
    assert github.states(first, second) == ["REVOKED", "ACTIVE"]


# --- Genuine ---


@pytest.mark.parametrize("vendor", ["slack", "zoom"])
def test_the_question_that_checks_the_url_is_answered(gateway: RunningGateway, own: Any, vendor: str):
    here = registered(gateway, own, vendor)
    assert here.signing.challenge is not None
    question, answer = here.signing.challenge
    assert here.send(dict(question)) == (200, answer(SECRET.encode()))
    assert here.send(dict(question), secret="wrong")[0] == 401


def test_slack_takes_back_the_tokens_of_a_user_and_of_a_bot(slack: Registered):
    user, bot = slack.given("T1", "U1", "user"), slack.given("T1", "B1", "bot")
    others = [slack.given("T1", "U2", "user"), slack.given("T2", "U1", "user")]
    assert slack.send(tokens_revoked(oauth=["U1"])) == (200, {})
    assert slack.states(user, bot, *others) == ["REVOKED", "ACTIVE", "ACTIVE", "ACTIVE"]
    assert slack.send(tokens_revoked(bot=["B1"])) == (200, {})
    assert slack.states(bot, *others) == ["REVOKED", "ACTIVE", "ACTIVE"]


def test_slack_uninstalls_the_app_from_one_workspace(slack: Registered):
    here, elsewhere = slack.given("T1", "U1", "user"), slack.given("T2", "U1", "user")
    event = {"type": "event_callback", "event_id": "Ev1", "team_id": "T1", "event": {"type": "app_uninstalled"}}
    assert slack.send(event) == (200, {})
    assert slack.states(here, elsewhere) == ["REVOKED", "ACTIVE"]


def test_zoom_deauthorizes_the_app_for_one_user(zoom: Registered):
    mine, other = zoom.given("za-1", "zu-1"), zoom.given("za-1", "zu-2")
    event = {"event": "app_deauthorized", "event_ts": 1, "payload": {"account_id": "za-1", "user_id": "zu-1"}}
    assert zoom.send(event) == (200, {})
    assert zoom.states(mine, other) == ["REVOKED", "ACTIVE"]


def test_github_takes_back_the_authorization_of_one_user(github: Registered):
    mine, other = github.given(subject="583231"), github.given(subject="1")
    event = {"action": "revoked", "sender": {"id": 583231, "login": "octocat"}}
    assert github.send(event, X_GitHub_Event="github_app_authorization", X_GitHub_Delivery=str(uuid.uuid4()))[0] == 200
    assert github.states(mine, other) == ["REVOKED", "ACTIVE"]


def test_github_suspends_an_installation_and_cached_tokens_are_forgotten(github: Registered):
    minted: list[str] = []

    async def mint() -> Answered:
        minted.append("token")
        return Answered((Credential("default", Secret("ghs_1"), None, 3600, None, None, "Bearer", ""),))

    async def ask(opened: Any) -> None:
        await opened.stories.outbound._issued.get(github.id, ("machine",), mint)

    github.inside(ask)
    github.inside(ask)
    assert len(minted) == 1
    event = {"action": "suspend", "installation": {"id": 4711}, "sender": {"id": 1}}
    assert github.send(event, X_GitHub_Event="installation", X_GitHub_Delivery=str(uuid.uuid4())) == (200, {})
    github.inside(ask)
    assert len(minted) == 2


def test_the_log_holds_no_secret_and_says_why_a_delivery_was_refused(slack: Registered):
    slack.send(tokens_revoked(oauth=["U1"]), secret="wrong")
    assert "signature does not match" in slack.gateway.log
    assert SECRET not in slack.gateway.log
