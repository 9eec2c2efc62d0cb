"""Secrets are planted wherever the token vault meets one, and searched for wherever somebody could read them later.

A real gateway lives through consents, refreshes, machine tokens, API keys and webhooks, and through every failure that
could make it talk. Then its logs (debug, both formats), refusals and pages, audit, metrics, database and ephemeral
store are searched for each secret, plain and encoded. The search itself is tried first.
"""

import base64
import html
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import httpx2
import pytest
import redis
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity_gateway.consent import Cookie, Forward, Started
from identity_gateway.consent.session import Press, Session, VendorAnswer
from identity_gateway.model import NamedUser, Secret
from identity_gateway.outbound.issued import Issued
from identity_gateway.protocol.oauth2 import Answered, Credential, Requested
from identity_gateway.vault import Holder, Tokens
from tests.callers import AUDIENCE, token_of
from tests.estates import AGENT, KEY_PROVIDER, RETURN_URL, Estate, gateway_with
from tests.estates import Session as UnderWay
from tests.fakes.cable import Cable
from tests.fakes.changed_by_hand import changed_by_hand
from tests.fakes.issuer import FakeIssuer
from tests.fakes.stamping import StampingVendor
from tests.parts import Postgres, Valkey

MASTER_KEY = base64.b64encode(b"PlantedMasterKeyPlantedMasterKey").decode()
PEM = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)  # fmt: skip


def forms_of(secret: str) -> set[bytes]:
    """Return a secret as it may be written down: plain, escaped, in hexadecimal, in base64 wherever it begins."""
    plain = secret.encode()
    texts = {secret, quote(secret, safe=""), quote_plus(secret), html.escape(secret), secret[::-1], plain.hex()}
    texts |= {json.dumps(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3], repr(secret)[1:-1], plain.hex().upper()}
    for skipped in range(3):
        body = plain[skipped:]
        encoded = base64.b64encode(body[: len(body) - len(body) % 3]).decode()
        texts |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    return {text.encode() for text in texts} | {secret.encode("utf-16-le")}


def found_in(content: bytes, planted: dict[str, str]) -> list[str]:
    """Return the names of the secrets that stand in some bytes, in any form."""
    return [name for name, secret in planted.items() if any(form in content for form in forms_of(secret))]


@dataclass
class Planted:
    """What was planted, by name, and what the gateway said when it refused something or drew a page."""

    secrets: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    vended: int = 0

    def plant(self, name: str, value: str = "") -> str:
        """Plant a secret, or note one that somebody else made."""
        number = len(self.secrets)
        planted = value or f"Planted~{name.replace(' ', '')}+{number}/{secrets.token_hex(8)}"
        self.secrets[f"{name} {number}"] = planted
        return planted

    def call(self, call: Callable[..., Any], **asked: Any) -> dict[str, Any]:
        """Call with boto3; keep what a refusal says."""
        try:
            answer: dict[str, Any] = call(**asked)
        except ClientError as error:
            self.statuses.add(error.response["ResponseMetadata"]["HTTPStatusCode"])
            self.said.append(json.dumps(error.response, default=str))
            return {}
        except BotoCoreError as error:
            self.said.append(str(error))
            return {}
        self.vended += 1
        return answer

    def show(self, answer: httpx2.Response) -> httpx2.Response:
        """Keep a page and its headers, but for those that carry what was asked for."""
        self.statuses.add(answer.status_code)
        kept = [(name, value) for name, value in answer.headers.items() if name not in {"location", "set-cookie"}]
        self.said.append(f"{kept!r}\n{answer.text}")
        return answer


@dataclass
class Scene:
    """A gateway with everything planted in it, and the ways to read what it left behind."""

    estate: Estate
    planted: Planted
    cable: Cable
    issuer: FakeIssuer
    postgres: tuple[Postgres, str] | None
    valkey: Valkey | None
    metrics: str

    def run(self, statement: str) -> None:
        if self.postgres is not None:
            self.postgres[0].run(statement, self.postgres[1])
            return
        with (
            closing(sqlite3.connect(self.estate.gateway.data_dir / "gateway.sqlite", timeout=20)) as database,
            database,
        ):
            database.execute(statement)
        changed_by_hand(self.estate.gateway.data_dir / "gateway.sqlite")

    def database(self) -> bytes:
        """Return all that the database holds, sealed values as they are: files, or every row of every table."""
        if self.postgres is None:
            return _files(self.estate.gateway.data_dir, "gateway.sqlite*")
        server, name = self.postgres
        tables = server.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name).splitlines()
        rows = [server.run(f'SELECT * FROM "{table}"', name) for table in tables]
        sealed = [bytes.fromhex(word[2:]) for row in rows for word in row.split("|") if word.startswith("\\x")]
        return "\n".join(rows).encode() + b"\n".join(sealed)

    def ephemeral(self) -> bytes:
        if self.valkey is None:
            return _files(self.estate.gateway.data_dir, "ephemeral.sqlite*")
        with redis.Redis.from_url(self.valkey.url) as store:
            return b"\n".join(key + b" " + (store.dump(key) or b"") for key in store.keys("*"))


def _files(folder: Path, pattern: str) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.glob(pattern)))


@pytest.fixture(scope="module", params=["json, SQLite", "text, PostgreSQL and Valkey"])
def scene(request: pytest.FixtureRequest, jwt_issuer: FakeIssuer) -> Iterator[Scene]:
    planted = Planted()
    metrics = planted.plant("metrics token")
    planted.plant("master key", MASTER_KEY)
    settings = {"log_format": "json", "master_key": MASTER_KEY, "metrics_token": metrics, "log_level": "debug"}
    with ExitStack() as stack:
        postgres = valkey = None
        if request.param != "json, SQLite":
            server: Postgres = request.getfixturevalue("postgres_server")
            valkey = request.getfixturevalue("valkey_server")
            url = server.create_database()
            postgres = server, url.partition("@/")[2].partition("?")[0]
            settings |= {"database_url": url, "redis_url": valkey.url, "log_format": "text"}
        vendor = stack.enter_context(StampingVendor())
        cable = stack.enter_context(Cable(vendor.url))
        vendor.through = cable.url
        estate = Estate(stack.enter_context(gateway_with({}, **settings)), vendor)
        made = Scene(estate, planted, cable, jwt_issuer, postgres, valkey, metrics)
        planted.plant("root secret", estate.gateway.root_key[1])
        live(made)
        yield made


# --- What happens ---


def live(scene: Scene) -> None:
    """Let everything happen in which a secret takes part."""
    register(scene)
    succeed(scene)
    disappoint(scene)
    misplace(scene)
    browse(scene)
    signal(scene)
    break_down(scene)
    for form in scene.estate.vendor.forms:
        for name in ("code", "code_verifier", "refresh_token", "client_assertion", "client_secret"):
            if len(form.get(name, "")) > 15:
                scene.planted.plant(name.replace("_", " "), form[name])
    for token in scene.estate.vendor.stamps:
        scene.planted.plant("access token", token)


def register(scene: Scene) -> None:
    estate, planted = scene.estate, scene.planted
    control, vendor = estate.control, estate.vendor
    control.create_workload_identity(name=AGENT, allowedResourceOauth2ReturnUrls=[RETURN_URL])
    for name, method in (("drive", "CLIENT_SECRET_BASIC"), ("posted", "CLIENT_SECRET_POST")):
        vendor.clients[name] = planted.plant("client secret")
        planted.call(
            control.create_oauth2_credential_provider,
            name=name,
            **vendor.configuration(name, clientAuthenticationMethod=method),
        )
    control.create_api_key_credential_provider(name=KEY_PROVIDER, apiKey=planted.plant("API key"))
    for name, vendor_name, key in (("slack", "Slack", "signing_secret"), ("github", "Github", "webhook_secret")):
        given = {"clientId": "c", "clientSecret": planted.plant("client secret")}
        control.create_oauth2_credential_provider(
            name=name,
            credentialProviderVendor=f"{vendor_name}Oauth2",
            oauth2ProviderConfigInput={f"{vendor_name.lower()}Oauth2ProviderConfig": given},
        )
        estate.own.put_provider_settings(name=name, secrets={key: planted.plant("webhook secret")})
    planted.plant("PEM", "".join(PEM.splitlines()[3:5]))
    estate.own.put_provider_settings(name="github", secrets={"app_private_key": PEM})
    planted.call(estate.own.put_provider_settings, name="slack", secrets={"app_private_key": PEM})


def succeed(scene: Scene) -> None:
    estate, planted = scene.estate, scene.planted
    for provider in ("drive", "posted"):
        asked = consent(scene, f"ada-{provider}", provider)
        planted.call(estate.data.get_resource_oauth2_token, **asked)
        planted.call(
            estate.data.get_resource_oauth2_token,
            **estate.asking("m", flow="M2M", resourceCredentialProviderName=provider),
        )
        expire(scene)
        planted.call(estate.data.get_resource_oauth2_token, **asked)
    token = estate.workload_token("ada")
    planted.plant("workload access token", token)
    planted.call(
        estate.data.get_resource_api_key, workloadIdentityToken=token, resourceCredentialProviderName=KEY_PROVIDER
    )
    jwt = token_of(scene.issuer, sub="eve")
    for part in jwt.split(".")[1:]:
        planted.plant("part of a user's JWT", part)
    made = planted.call(estate.data.get_workload_access_token_for_jwt, workloadName=AGENT, userToken=jwt)
    planted.plant("workload access token", made["workloadAccessToken"])


def consent(scene: Scene, user: str, provider: str) -> dict[str, Any]:
    estate, planted = scene.estate, scene.planted
    state = planted.plant("custom state")
    asked = estate.asking(user, resourceCredentialProviderName=provider, customState=state)
    planted.plant("workload access token", asked["workloadIdentityToken"])
    begun = estate.ask(asked)
    session = UnderWay(user, asked, begun["sessionUri"], begun["authorizationUrl"])
    walk(scene, session)
    planted.call(
        estate.data.complete_resource_token_auth, sessionUri=session.uri, userIdentifier={"userId": session.user}
    )
    return asked


def walk(scene: Scene, session: UnderWay) -> None:
    """Go through the pages, and note what they hand out."""
    estate, planted = scene.estate, scene.planted
    planted.plant("session", session.uri.rpartition(":")[2])
    planted.show(session.browser.get(session.link))
    pressed = session.browser.press(session.link)
    planted.plant("session cookie", pressed.headers["set-cookie"].partition(";")[0].partition("=")[2])
    planted.plant("state", dict(parse_qsl(urlsplit(pressed.headers["location"]).query))["state"])
    estate.agree(session)
    returned = dict(parse_qsl(urlsplit(session.callback).query))
    planted.plant("state", returned["state"])
    planted.plant("authorization code", returned["code"])
    planted.show(estate.come_back(session))


def expire(scene: Scene) -> None:
    """Let every access token have expired, and no refresh be put off."""
    now = int(time.time() * 1e6)
    old = "retry_at = NULL, intent_at = NULL, intent_owner = NULL, intent_digest = NULL, failures = 0"
    scene.run(f"UPDATE grant_ SET obtained_at = {now - 3600 * 10**6}, expires_at = {now - 60 * 10**6}, {old}")


def quoting(scene: Scene) -> dict[str, Callable[[dict[str, str]], Any]]:
    """Return vendors that quote everything they were sent, each in its own way."""
    vendor = scene.estate.vendor

    def sent(form: dict[str, str]) -> str:
        header = vendor.asked[-1].headers.get("authorization", "")
        basic = base64.b64decode(header.removeprefix("Basic ")).decode() if header.startswith("Basic ") else ""
        return f"{header} | {basic} | {form} | {json.dumps(form)} | {vendor.asked[-1].body.decode()}"

    def page(form: dict[str, str]) -> bytes:
        return f"<html><body><h1>Oops</h1><pre>{html.escape(sent(form))}</pre>".encode()

    token = scene.planted.plant("token in an error")
    return {
        "an OAuth error": lambda form: (400, {"error": "invalid_request", "error_description": sent(form)}),
        "an error that is a sentence": lambda form: (400, {"error": sent(form)}),
        "an unknown client": lambda form: (401, {"error": "invalid_client", "error_description": sent(form)}),
        "HTML": lambda form: (200, page(form)),
        "HTML with 500": lambda form: (500, page(form)),
        "broken JSON": lambda form: (200, json.dumps({"access_token": token, "said": sent(form)})[:-3].encode()),
        "a success without a token": lambda form: (200, {"token": token, "said": sent(form)}),
        "an error beside a token": lambda form: (400, {"access_token": token, "error": "x", "message": sent(form)}),
        "a token of another kind": lambda form: (200, {"access_token": [token, sent(form)], "expires_in": sent(form)}),
        "too much": lambda form: (200, (sent(form) * 3000).encode()),
        "nothing": lambda _: scene.cable.unplug(),
    }


def disappoint(scene: Scene) -> None:
    """Let the vendor fail in every way at every grant."""
    estate, planted = scene.estate, scene.planted
    for number, trouble in enumerate(quoting(scene).values()):
        for provider in ("drive", "posted"):
            begun = estate.asking(f"user-{number}", resourceCredentialProviderName=provider)
            session = UnderWay(f"user-{number}", begun, "", "")
            answer = estate.ask(begun)
            session.uri, session.link = answer["sessionUri"], answer["authorizationUrl"]
            walk(scene, session)
            expire(scene)
            estate.vendor.trouble = trouble
            calls: list[tuple[Any, dict[str, Any]]] = [
                (
                    estate.data.complete_resource_token_auth,
                    {"sessionUri": session.uri, "userIdentifier": {"userId": session.user}},
                ),
                (
                    estate.data.get_resource_oauth2_token,
                    estate.asking(f"ada-{provider}", resourceCredentialProviderName=provider),
                ),
                (
                    estate.data.get_resource_oauth2_token,
                    estate.asking("m", flow="M2M", resourceCredentialProviderName=provider, scopes=[f"s{number}"]),
                ),
            ]
            for call, asked in calls:
                planted.call(call, **asked)
                scene.cable.plug()
            estate.vendor.trouble = lambda _: None
            planted.call(estate.data.get_resource_oauth2_token, **begun, sessionUri=session.uri)
            planted.call(estate.data.get_resource_oauth2_token, **begun, sessionUri=session.uri)


def misplace(scene: Scene) -> None:
    """Put secrets where they do not belong, so that they are refused."""
    estate, planted = scene.estate, scene.planted
    asked = estate.asking("ada")
    data, control = estate.data, estate.control
    for changed in (
        {"workloadIdentityToken": planted.plant("wrong token")},
        {"sessionUri": "urn:ietf:params:oauth:request_uri:" + planted.plant("wrong session")},
        {"oauth2Flow": planted.plant("flow")},
        {"resourceOauth2ReturnUrl": "https://x.example/" + planted.plant("return URL")},
        {"customParameters": {"client_secret": planted.plant("parameter")}},
        {"customParameters": {"redirect_uri": planted.plant("parameter")}},
        {"customParameters": {"identity-gateway.credential": planted.plant("parameter")}},
        {"scopes": [planted.plant("scope") * 200]},
        {"customState": planted.plant("custom state") * 500},
    ):
        planted.call(data.get_resource_oauth2_token, **{**asked, **changed})
    for token in (
        planted.plant("user token"),
        token_of(scene.issuer, exp=1),
        token_of(scene.issuer, aud=AUDIENCE) + "A",
    ):
        for part in token.split(".")[1:]:
            planted.plant("part of a user's JWT", part)
        planted.call(data.get_workload_access_token_for_jwt, workloadName=AGENT, userToken=token)
        planted.call(
            data.complete_resource_token_auth, sessionUri=planted.plant("session"), userIdentifier={"userToken": token}
        )
    for member in ("clientId", "clientAuthenticationMethod", "privateKey"):
        given = estate.vendor.configuration("drive")
        custom = given["oauth2ProviderConfigInput"]["customOauth2ProviderConfig"]
        wrong = planted.plant(f"client secret as {member}") * (1 if member != "clientId" else 100)
        planted.call(
            control.create_oauth2_credential_provider,
            name="wrong",
            **{**given, "oauth2ProviderConfigInput": {"customOauth2ProviderConfig": custom | {member: wrong}}},
        )
    planted.call(
        control.create_oauth2_credential_provider, name="wrong", credentialProviderVendor=planted.plant("vendor")
    )
    planted.call(control.create_api_key_credential_provider, name="wrong", apiKey=planted.plant("API key") * 3000)
    planted.call(estate.own.put_provider_settings, name="slack", secrets={"unknown": planted.plant("webhook secret")})
    planted.call(estate.own.put_provider_settings, name="slack", variables={"domain": planted.plant("secret")})
    planted.call(control.set_token_vault_cmk, kmsConfiguration={"keyType": planted.plant("key type")})


def browse(scene: Scene) -> None:
    """Come to the pages with what is not theirs."""
    estate, planted = scene.estate, scene.planted
    provider = estate.control.get_oauth2_credential_provider(name="drive")["callbackUrl"]
    session = estate.begin("browser")
    other = estate.agree(estate.begin("browser"))
    cookie = {"cookie": f"consent-{'0' * 16}={planted.plant('session cookie')}"}
    with httpx2.Client(trust_env=False, timeout=30) as http:
        for url in (
            f"{estate.gateway.url}/identities/oauth2/authorize?request_uri={quote(planted.plant('request'))}",
            f"{session.link}&request_uri={planted.plant('request')}",
            f"{provider}?state={quote_plus(planted.plant('state'))}&code={quote_plus(planted.plant('code'))}",
            f"{provider}?error={quote_plus(planted.plant('code'))}&state={quote_plus(planted.plant('state'))}",
            f"{other.callback}&code={quote_plus(planted.plant('code'))}",
            other.callback,
            f"{estate.gateway.url}/identities/oauth2/callback/x?code={quote_plus(planted.plant('code'))}&state=%ff",
        ):
            for method in ("GET", "POST", "PUT"):
                planted.show(http.request(method, url, headers=cookie))


def signal(scene: Scene) -> None:
    """Deliver webhooks that are not signed right."""
    estate, planted = scene.estate, scene.planted
    with httpx2.Client(trust_env=False, timeout=30) as http:
        for name in ("slack", "github", "drive"):
            url = (
                estate.own.get_provider_settings(name=name).get("webhookUrl")
                or f"{estate.gateway.url}/identities/webhooks/x"
            )
            headers = {
                "x-slack-signature": "v0=" + planted.plant("signature"),
                "x-hub-signature-256": "sha256=" + planted.plant("signature"),
                "x-slack-request-timestamp": str(int(time.time())),
            }
            planted.show(http.post(url, content=json.dumps({"token": planted.plant("webhook token")}), headers=headers))


def break_down(scene: Scene) -> None:
    """Break a row, so that something fails that nobody foresaw."""
    scene.run("UPDATE grant_ SET request = '[]'")
    scene.planted.call(scene.estate.data.get_resource_oauth2_token, **scene.estate.asking("ada-drive"))
    scene.planted.call(scene.estate.own.list_grants)


# --- The search finds what is there ---


@pytest.mark.parametrize(
    "write",
    [
        str.encode,
        lambda text: base64.b64encode(b"x" + text.encode() + b"y"),
        lambda text: base64.urlsafe_b64encode(b"xy" + text.encode()),
        lambda text: text.encode().hex().encode(),
        lambda text: quote_plus(f"a={text}&b").encode(),
        lambda text: json.dumps({"a": json.dumps({"b": text})}).encode(),
        lambda text: text[::-1].encode(),
        lambda text: repr({"a": text}).encode(),
    ],
)
def test_a_secret_is_found_however_it_is_written(write: Callable[[str], bytes]):
    planted = {"one": 'Planted"Secret/+01~xyz', "other": "PlantedSecret02"}
    assert found_in(b"before" + write(planted["one"]) + b"after", planted) == ["one"]


@pytest.mark.parametrize("sink", ["log", "database", "ephemeral"])
def test_a_secret_that_is_there_on_purpose_is_found(scene: Scene, sink: str):
    if sink == "log":
        content, marker = scene.estate.gateway.log.encode(), scene.estate.gateway.url
    elif sink == "database":
        content, marker = scene.database(), KEY_PROVIDER
    else:
        content, marker = scene.ephemeral(), "consent:000000000000:"
    assert found_in(content, {"marker": marker}) == ["marker"]


def test_enough_has_happened(scene: Scene):
    planted = scene.planted
    print(f"\n{len(planted.secrets)} secrets, {planted.vended} calls granted, {len(planted.said)} refusals and pages")
    assert len(planted.secrets) > 150
    assert planted.vended > 20
    assert {400, 403, 404, 500, 503} <= planted.statuses
    assert len(planted.said) > 100


# --- Nobody can read them ---


def test_no_planted_secret_is_in_the_log(scene: Scene):
    assert found_in(scene.estate.gateway.log.encode(), scene.planted.secrets) == []


def test_no_planted_secret_is_in_a_refusal_or_on_a_page(scene: Scene):
    leaks = [
        (name, said[:400]) for said in scene.planted.said for name in found_in(said.encode(), scene.planted.secrets)
    ]
    assert leaks == []


def test_no_planted_secret_is_in_the_database(scene: Scene):
    content = scene.database()
    assert b"grant_" in content or b"consent" in content.lower()
    assert found_in(content, scene.planted.secrets) == []


def test_no_planted_secret_is_in_the_ephemeral_store(scene: Scene):
    assert found_in(scene.ephemeral(), scene.planted.secrets) == []


def test_no_planted_secret_is_in_the_metrics(scene: Scene):
    with httpx2.Client(trust_env=False) as http:
        page = http.get(f"{scene.estate.gateway.url}/metrics", headers={"authorization": f"Bearer {scene.metrics}"})
    assert (page.status_code, found_in(page.content, scene.planted.secrets)) == (200, [])


def test_no_value_that_holds_a_secret_shows_it():
    marker = "PlantedSecret/" + "x" * 40
    holder = Holder("agent", datetime.now(UTC), NamedUser("ada"), "drive", "id", Requested())
    credential = Credential("default", Secret(marker), Secret(marker), None, None, None, "Bearer", "")
    values = [
        credential,
        Answered((credential,), secrets={"key": Secret(marker)}),
        Tokens(Secret(marker), Secret(marker), "Bearer", {}, {"key": Secret(marker)}),
        Session(marker, marker, holder, "v", "h", "https", marker, marker, 0.0, "recipient"),
        Press(marker, "id", marker),
        VendorAnswer(Secret(marker), marker, {}),
        Cookie("name", marker, 1, "/", secure=True),
        Forward(marker),
        Started(marker, marker),
        Issued(Secret(marker), None, 0.0, 0.0),
    ]
    assert [value.__class__.__name__ for value in values if found_in(repr(value).encode(), {"it": marker})] == []
