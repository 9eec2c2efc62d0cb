"""A part of the estate goes away: which requests fail, with which error, and that no grant is lost by it.

The answers are written to `build/failures.md`. They are asserted as a table: what an operator may rely on.
"""

import base64
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.estates import KEY_PROVIDER, Estate, Session, answer_of, gateway_with
from tests.fakes.cable import Cable
from tests.fakes.stamping import StampingVendor
from tests.fakes.transit import TOKEN, FakeTransit
from tests.issuers import MOTO, installed, running
from tests.parts import Postgres, Valkey, running_postgres, running_valkey

REPORT = Path(__file__).parents[2] / "build" / "failures.md"
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_CONFIG_FILE": os.devnull}
PATIENCE = 40.0
TRANSIT = "transit down"
_NUMBERS = itertools.count()

DOWN = "503 ServiceUnavailableException"
SERVED = {
    "vend a fresh token": "200 accessToken",
    "vend, refresh is due": "200 accessToken",
    "vend, token has expired": "200 accessToken",
    "machine token, kept": "200 accessToken",
    "machine token, new": "200 accessToken",
    "API key": "200 apiKey",
    "begin a consent": "200 authorizationUrl",
    "poll a session": "200 authorizationUrl",
    "browser comes back": "303 back",
    "complete a consent": "200 done",
    "revoke a grant": "200 done",
}
NOTHING = dict.fromkeys(SERVED, DOWN) | {"browser comes back": "503 page"}
WITHOUT_STORE = {
    "machine token, kept": DOWN,
    "machine token, new": DOWN,
    "begin a consent": DOWN,
    "poll a session": DOWN,
    "browser comes back": "503 page",
    "complete a consent": DOWN,
}
WITHOUT_VENDOR = {
    "vend, token has expired": DOWN,
    "machine token, new": DOWN,
    "complete a consent": "400 ValidationException",
}
WITHOUT_SESSIONS = {
    "poll a session": "403 AccessDeniedException",
    "browser comes back": "400 page",
    "complete a consent": "403 AccessDeniedException",
}
WITHOUT_KEYS = {"vend, token has expired": DOWN, "complete a consent": DOWN}
WITHOUT_KEYS_AND_MEMORY = {name: "503 page" if name == "browser comes back" else DOWN for name in SERVED}


@dataclass
class Parts:
    """Everything that can go away, and the gateway that has to live without it."""

    estate: Estate
    postgres: Postgres
    valkey: Valkey
    vendor: Cable
    keys: Cable
    database: str


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    installed("moto")
    with ExitStack() as stack:
        postgres, valkey = stack.enter_context(running_postgres()), stack.enter_context(running_valkey())
        server = stack.enter_context(StampingVendor())
        vendor = stack.enter_context(Cable(server.url))
        server.through = vendor.url
        moto = stack.enter_context(running(sys.executable, "-c", MOTO)).read()
        keys = stack.enter_context(Cable(f"http://127.0.0.1:{moto['port']}"))
        url = postgres.create_database()
        settings = {"database_url": url, "redis_url": valkey.url, "kms_endpoint_url": keys.url}
        master_key = base64.b64encode(bytes(range(32))).decode()
        gateway = stack.enter_context(gateway_with(AWS, master_key=master_key, **settings))
        estate = Estate(gateway, server)
        arn = _create_key(keys.url)
        estate.control.set_token_vault_cmk(kmsConfiguration={"keyType": "CustomerManagedKey", "kmsKeyArn": arn})
        estate.prepare()
        yield Parts(estate, postgres, valkey, vendor, keys, url.partition("@/")[2].partition("?")[0])


def _create_key(url: str) -> str:
    config = Config(proxies={}, retries={"total_max_attempts": 1})
    keys = {name.lower(): value for name, value in AWS.items() if name != "AWS_CONFIG_FILE"}
    api = boto3.session.Session().client("kms", region_name="us-east-1", endpoint_url=url, config=config, **keys)
    arn: str = api.create_key()["KeyMetadata"]["Arn"]
    api.close()
    return arn


@dataclass
class Work:
    """What was under way when something went away. Users are new ones, so that nothing is told twice."""

    fresh: dict[str, Any]
    due: dict[str, Any]
    expired: dict[str, Any]
    revoked: dict[str, Any]
    grant: str
    begun: Session
    agreed: Session
    returned: Session
    machine: dict[str, Any]
    new_machine: dict[str, Any]
    anew: dict[str, Any]


def under_way(estate: Estate, age: Callable[[str, int], None]) -> Work:
    """Begin everything that an outage can interrupt."""
    number = next(_NUMBERS)
    names = {what: f"{what}-{number}" for what in ("fresh", "due", "expired", "revoked", "begun", "agreed", "returned")}
    asked = {what: estate.consent(names[what]) for what in ("fresh", "due", "expired", "revoked")}
    age(names["due"], 30)
    age(names["expired"], -30)
    (grant,) = estate.own.list_grants(userId=names["revoked"])["grants"]
    returned = estate.agree(estate.begin(names["returned"]))
    estate.come_back(returned)
    machine = estate.asking("m", flow="M2M", scopes=[f"kept-{number}"])
    estate.ask(machine)
    token = machine["workloadIdentityToken"]  # what was opened before stays open for minutes
    estate.data.get_resource_api_key(workloadIdentityToken=token, resourceCredentialProviderName=KEY_PROVIDER)
    return Work(
        **asked,
        grant=grant["grantId"],
        begun=estate.begin(names["begun"]),
        agreed=estate.agree(estate.begin(names["agreed"])),
        returned=returned,
        machine=machine,
        new_machine=estate.asking("m", flow="M2M", scopes=[f"new-{number}"]),
        anew=estate.asking(f"anew-{number}"),
    )


def answers(estate: Estate, work: Work) -> dict[str, str]:
    """Make every request; return how each was answered."""
    key = {"workloadIdentityToken": work.fresh["workloadIdentityToken"]}
    requests: dict[str, Callable[[], Any]] = {
        "vend a fresh token": lambda: estate.ask(work.fresh),
        "vend, refresh is due": lambda: estate.ask(work.due),
        "vend, token has expired": lambda: estate.ask(work.expired),
        "machine token, kept": lambda: estate.ask(work.machine),
        "machine token, new": lambda: estate.ask(work.new_machine),
        "API key": lambda: estate.data.get_resource_api_key(resourceCredentialProviderName=KEY_PROVIDER, **key),
        "begin a consent": lambda: estate.ask(work.anew),
        "poll a session": lambda: estate.ask(work.begun.asked | {"sessionUri": work.begun.uri}),
        "browser comes back": lambda: estate.come_back(work.agreed),
        "complete a consent": lambda: estate.complete(work.returned),
        "revoke a grant": lambda: estate.own.revoke_grant(grantId=work.grant),
    }
    return {name: answer_of(request) for name, request in requests.items()}


def aged(parts: Parts) -> Callable[[str, int], None]:
    """Return what makes the access token of a user end in so many seconds."""

    def age(user: str, seconds: int) -> None:
        now = time.time()
        changes = f"obtained_at = {(now - 3600) * 1e6:.0f}, expires_at = {(now + seconds) * 1e6:.0f}"
        parts.postgres.run(f"""UPDATE grant_ SET {changes} WHERE "user" = '["id","{user}"]'""", parts.database)

    return age


def wait(parts: Parts, seconds: int) -> None:
    """Let every refresh that is put off be older by so many seconds."""
    changes = ", ".join(
        f"{column} = {column} - {seconds * 10**6}" for column in ("retry_at", "intent_at", "updated_at")
    )
    parts.postgres.run(f"UPDATE grant_ SET {changes}", parts.database)


def kept(estate: Estate, work: Work) -> dict[str, str]:
    """Ask for every grant until it is vended, or patience ends: what was said last."""
    said: dict[str, str] = {}
    deadline = time.monotonic() + PATIENCE
    for name, asked in (("fresh", work.fresh), ("due", work.due), ("expired", work.expired)):
        while (answer := answer_of(lambda asked=asked: estate.ask(asked))) == DOWN and time.monotonic() < deadline:
            time.sleep(0.5)
        said[name] = answer
    return said


KEPT = dict.fromkeys(("fresh", "due", "expired"), "200 accessToken")
_TABLE: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Write down what was answered in each outage."""
    yield
    outages = [name for name in (*(outage.name for outage in OUTAGES), TRANSIT) if name in _TABLE]
    lines = ["| request | " + " | ".join(outages) + " |", "|---" * (len(outages) + 1) + "|"]
    for request in SERVED:
        lines.append(f"| {request} | " + " | ".join(_TABLE[outage][request] for outage in outages) + " |")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))


def refuse_tokens(form: dict[str, str]) -> tuple[int, Any] | None:
    return 503, {"error": "temporarily_unavailable"}


def restart(parts: Parts) -> None:
    parts.estate.gateway.kill()
    parts.estate.gateway.start(wait=False)
    deadline = time.monotonic() + 60
    while parts.estate.gateway.status("/healthz") != 200:
        assert time.monotonic() < deadline, parts.estate.gateway.log[-2000:]
        time.sleep(0.1)


@dataclass(frozen=True)
class Outage:
    name: str
    begin: Callable[[Parts], Any]
    end: Callable[[Parts], Any]
    changed: dict[str, str]
    rest: int = 0
    """Seconds for which a refresh is put off, since it may have been sent to a vendor that does not forgive that twice."""


def _empty(parts: Parts) -> None:
    parts.valkey.stop()
    parts.valkey.start()


def _restarted(parts: Parts) -> None:
    parts.postgres.stop()
    parts.postgres.start()


def _cold(parts: Parts) -> None:
    parts.keys.unplug()
    restart(parts)


def _vendor(parts: Parts, trouble: Callable[..., Any]) -> None:
    parts.estate.vendor.trouble = trouble


OUTAGES = (
    Outage("nothing", lambda _: None, lambda _: None, {}),
    Outage("PostgreSQL restarted", _restarted, lambda _: None, {}),
    Outage("PostgreSQL down", lambda p: p.postgres.stop(), lambda p: p.postgres.restore(), NOTHING),
    Outage("Valkey restarted, empty", _empty, lambda _: None, WITHOUT_SESSIONS),
    Outage("Valkey down", lambda p: p.valkey.stop(), lambda p: p.valkey.restore(), WITHOUT_STORE),
    Outage("vendor unreachable", lambda p: p.vendor.unplug(), lambda p: p.vendor.plug(), WITHOUT_VENDOR, 15),
    Outage(
        "vendor answers 503",
        lambda p: _vendor(p, refuse_tokens),
        lambda p: _vendor(p, lambda _: None),
        WITHOUT_VENDOR,
        130,
    ),
    Outage("KMS down", lambda p: p.keys.unplug(), lambda p: p.keys.plug(), WITHOUT_KEYS),
    Outage("KMS down, gateway restarted", _cold, lambda p: p.keys.plug(), WITHOUT_KEYS_AND_MEMORY),
)


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.name)
def test_requests_are_answered_as_promised_and_no_grant_is_lost(parts: Parts, outage: Outage):
    work = under_way(parts.estate, aged(parts))
    outage.begin(parts)
    try:
        said = answers(parts.estate, work)
    finally:
        outage.end(parts)
        if outage.rest:
            wait(parts, outage.rest)
    _TABLE[outage.name] = said
    assert (said, kept(parts.estate, work)) == (SERVED | outage.changed, KEPT)


def test_a_key_service_that_goes_away_while_the_vendor_answers_costs_no_rotated_token(parts: Parts):
    estate, user = parts.estate, f"rotated-{next(_NUMBERS)}"
    asked = estate.consent(user)
    aged(parts)(user, -30)
    before = estate.vendor.uses[:]

    def unplug(form: dict[str, str]) -> None:
        if form["grant_type"] == "refresh_token":
            parts.keys.unplug()

    estate.vendor.trouble = unplug
    try:
        given = estate.ask(asked)["accessToken"]
        estate.gateway.kill()  # whatever stood in memory alone is gone
    finally:
        estate.vendor.trouble = lambda _: None
        parts.keys.plug()
    estate.gateway.start()
    family = estate.vendor.family(given)
    assert (estate.ask(asked)["accessToken"], family.revoked, family.access) == (given, False, given)
    aged(parts)(user, -30)
    assert estate.ask(asked)["accessToken"] == family.access != given
    assert len(estate.vendor.uses) - len(before) == 2


def test_a_refresh_does_not_begin_while_the_key_service_is_down(parts: Parts):
    estate, user = parts.estate, f"waiting-{next(_NUMBERS)}"
    asked = estate.consent(user)
    aged(parts)(user, -30)
    before = len(estate.vendor.uses)
    parts.keys.unplug()
    try:
        said = answer_of(lambda: estate.ask(asked))
    finally:
        parts.keys.plug()
    assert (said, len(estate.vendor.uses)) == (DOWN, before)


def test_a_vault_under_a_transit_key_lives_without_it_as_one_under_kms():
    with ExitStack() as stack:
        transit, server = stack.enter_context(FakeTransit()), stack.enter_context(StampingVendor())
        cable = stack.enter_context(Cable(transit.url))
        settings = {"key_provider": "transit", "transit_address": cable.url, "transit_key": "transit/vault"}
        postgres = stack.enter_context(running_postgres())
        url = postgres.create_database()
        gateway = stack.enter_context(gateway_with({}, database_url=url, transit_token=TOKEN, **settings))
        estate = Estate(gateway, server)
        estate.prepare()
        database = url.partition("@/")[2].partition("?")[0]
        parts = Parts(estate, postgres, None, cable, cable, database)  # type: ignore[arg-type]  # it is not asked
        work = under_way(estate, aged(parts))
        cable.unplug()
        said = answers(estate, work)
        cable.plug()
        _TABLE[TRANSIT] = said
        assert (said, kept(estate, work)) == (SERVED | WITHOUT_KEYS, KEPT)
