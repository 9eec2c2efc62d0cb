"""Threat: whoever may exchange a JWT names issuers: to make the gateway call inner servers, or to use up its look-ups."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from botocore.exceptions import ClientError

from identity_gateway.egress import Egress, EgressFailed
from identity_gateway.errors import InvalidToken, Unavailable
from identity_gateway.keysets import KeySets
from identity_gateway.upstream import Origin, Upstream, UpstreamError
from tests.fakes.issuer import DISCOVERY, JWKS, FakeIssuer, Vice
from tests.gateways import RunningGateway, fresh_name

LOOPBACK = (ip_network("127.0.0.0/8"),)
BAD_ENDINGS = {
    "a query": "/?path=admin&x=",
    "a query without a path": "?x=",
    "an empty query": "/tenant?",
    "a fragment": "/admin#",
    "a dot segment": "/a/../admin",
    "a dot segment at the end": "/a/..",
    "a single dot": "/./admin",
    "an encoded dot segment": "/a/%2e%2E/admin",
    "an encoded slash": "/a/..%2fadmin",
    "a dot segment with a parameter": "/a/..;x=y/admin",
    "a backslash": "/a\\..\\admin",
    "an encoded backslash": "/a/..%5cadmin",
    "an encoded query": "/admin%3fx=y",
    "an encoded percent sign": "/%252e%252e/admin",
    "an encoded line end": "/a%0d%0aX:y",
    "a line end": "/a\r\nX: y",
    "a blank": "/a b",
    "half an escape": "/a%2",
    "a letter that is not ASCII": "/ä",
}


class SlowNames:
    """The system's resolver when the name servers of `slow.example` do not answer. Other names stand for loopback."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.asked = threading.Semaphore(0)

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host.endswith(".slow.example"):
            self.asked.release()
            self.answered.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowNames]:
    slow = SlowNames()
    monkeypatch.setattr(socket, "getaddrinfo", slow.getaddrinfo)
    yield slow
    slow.answered.set()


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer() as running:
        yield running


@pytest.fixture
async def visiting() -> AsyncIterator[KeySets]:
    keysets = KeySets(Egress(LOOPBACK), clock=time.monotonic, visiting=True)
    yield keysets
    await keysets.aclose()


async def ask_slow_names(egress: Egress, count: int) -> list[BaseException | Any]:
    asked = (egress.fetch(f"https://n{number}.slow.example/") for number in range(count))
    return await asyncio.gather(*asked, return_exceptions=True)


# --- What an issuer's name may look like ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", BAD_ENDINGS.values(), ids=BAD_ENDINGS)
async def test_an_issuer_that_is_no_plain_url_is_refused_and_nobody_asked(
    visiting: KeySets, issuer: FakeIssuer, ending: str
) -> None:
    with pytest.raises(InvalidToken):
        await visiting.for_issuer(issuer.issuer + ending)
    assert issuer.requests.total() == 0


@pytest.mark.parametrize(
    "name",
    ["", "ada", "urn:x:y", "file:///etc/passwd", "//127.0.0.1", "http://", "http://a@127.0.0.1", "http://a:b@127.0.0.1",
     "http://127.0.0.1\\@x", "http://2130706433", "http://169.254.169.254", "http://[fe80::1]", "https://a" + "/a" * 2000],
)  # fmt: skip
async def test_an_issuer_that_could_never_be_asked_is_refused(visiting: KeySets, name: str) -> None:
    with pytest.raises(InvalidToken):
        await visiting.for_issuer(name)


# --- Where an issuer and its keys may stand ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["https://10.0.0.1", "https://192.168.1.1/tenant", "http://8.8.8.8"])
async def test_an_issuer_at_a_forbidden_address_is_refused_for_good(visiting: KeySets, name: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidToken):
            await visiting.for_issuer(name)


async def test_a_key_set_on_another_inner_server_is_not_fetched(visiting: KeySets, issuer: FakeIssuer) -> None:
    async with FakeIssuer() as inner:
        issuer.document_changes = {"jwks_uri": f"{inner.issuer}/admin?delete=all"}
        with pytest.raises(InvalidToken):
            await visiting.for_issuer(issuer.issuer)
    assert inner.requests.total() == 0


async def test_a_document_of_another_issuer_leads_to_no_request(visiting: KeySets, issuer: FakeIssuer) -> None:
    issuer.document_changes = {"issuer": "https://other.example"}
    with pytest.raises(InvalidToken):
        await visiting.for_issuer(issuer.issuer)
    assert issuer.requests[JWKS] == 0


@pytest.mark.parametrize("vice", [Vice.DOWN, Vice.ERROR, Vice.GARBAGE])
async def test_an_issuer_that_is_ill_is_worth_a_retry(visiting: KeySets, issuer: FakeIssuer, vice: Vice) -> None:
    issuer.fail(vice)
    with pytest.raises(Unavailable):
        await visiting.for_issuer(issuer.issuer)


async def test_a_closed_port_inside_looks_like_one_that_answers_something_else(
    visiting: KeySets, issuer: FakeIssuer
) -> None:
    issuer.fail(Vice.GARBAGE)
    async with FakeIssuer() as gone:
        closed = gone.issuer
    for name in (issuer.issuer, closed):
        with pytest.raises(Unavailable):
            await visiting.for_issuer(name)


@pytest.mark.parametrize("path", ["", "/", "/realms/a", "/my%20realm/v2.0", "/..a/b..", "//a"])
async def test_an_issuer_on_an_allowed_network_is_served_with_its_own_keys(
    visiting: KeySets, issuer: FakeIssuer, path: str
) -> None:
    issuer.document_changes = {"issuer": issuer.issuer + path}
    assert (await visiting.for_issuer(issuer.issuer + path)).issuer == issuer.issuer + path


async def test_an_issuer_that_was_refused_is_known_again_once_it_is_right(issuer: FakeIssuer) -> None:
    keysets = KeySets(Egress(LOOPBACK), clock=time.monotonic, visiting=True, cooldown=0.0)
    issuer.document_changes = {"issuer": "https://other.example"}
    with pytest.raises(InvalidToken):
        await keysets.for_issuer(issuer.issuer)
    issuer.document_changes = {}
    assert (await keysets.for_issuer(issuer.issuer)).issuer == issuer.issuer


async def test_an_administrators_issuer_may_keep_its_keys_on_another_inner_server(issuer: FakeIssuer) -> None:
    async with FakeIssuer() as inner:
        issuer.document_changes = {"jwks_uri": inner.issuer + JWKS}
        keysets = KeySets(Egress(LOOPBACK), clock=time.monotonic)
        assert (await keysets.get(issuer.discovery_url)).keys
        await keysets.aclose()


async def test_the_running_gateway_calls_no_inner_server_for_a_token(
    gateway: RunningGateway, issuer: FakeIssuer
) -> None:
    name = fresh_name("workload")
    gateway.control.create_workload_identity(name=name)
    now = int(time.time())
    token = issuer.keys[0].token({"iss": issuer.issuer, "sub": "ada", "iat": now, "exp": now + 300})
    async with FakeIssuer() as inner:
        issuer.document_changes = {"jwks_uri": f"{inner.issuer}/admin?delete=all"}
        with pytest.raises(ClientError, match="UnauthorizedException"):
            await asyncio.to_thread(gateway.data.get_workload_access_token_for_jwt, workloadName=name, userToken=token)
    assert (issuer.requests[DISCOVERY], inner.requests.total()) == (1, 0)


# --- Name servers that do not answer ----------------------------------------------------------------------------------


async def test_slow_names_of_one_way_out_do_not_stop_another(names: SlowNames, issuer: FakeIssuer) -> None:
    await ask_slow_names(Egress(total=0.05), 50)
    answer = await Egress(LOOPBACK).fetch(f"http://keys.example:{issuer.port}{DISCOVERY}")
    assert answer.status == 200


async def test_slow_names_of_issuers_leave_the_threads_of_others_free(names: SlowNames) -> None:
    await ask_slow_names(Egress(total=0.05), 50)
    assert await asyncio.wait_for(asyncio.to_thread(threading.active_count), 10) > 0


async def test_slow_names_of_issuers_do_not_stop_agents(names: SlowNames) -> None:
    await ask_slow_names(Egress(total=0.05), 50)
    upstream = Upstream(connect_timeout=5)
    with pytest.raises(UpstreamError) as failure:
        await upstream.request(Origin("http", "agent.example", 9), b"GET", b"/", [], head_timeout=5)
    await upstream.aclose()
    assert failure.value.kind == "refused"


async def test_slow_names_of_agents_leave_the_threads_of_others_free(names: SlowNames) -> None:
    upstream = Upstream(connect_timeout=0.05)
    origins = (Origin("http", f"n{number}.slow.example", 80) for number in range(50))
    asked = (upstream.request(origin, b"GET", b"/", [], head_timeout=5) for origin in origins)
    await asyncio.gather(*asked, return_exceptions=True)
    assert await asyncio.wait_for(asyncio.to_thread(threading.active_count), 10) > 0
    await upstream.aclose()


async def test_look_ups_beyond_the_bound_are_refused_at_once(names: SlowNames) -> None:
    egress = Egress(total=600)
    asked = [asyncio.create_task(egress.fetch(f"https://n{number}.slow.example/")) for number in range(50)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    failures = [task.exception() for task in done]
    names.answered.set()
    await asyncio.wait(asked)
    assert all(isinstance(failure, EgressFailed) and not failure.maybe_sent for failure in failures)
    assert "LookUpsBusy" in str(failures[0])


async def test_a_process_ends_while_a_name_server_does_not_answer() -> None:
    program = """
import asyncio, contextlib, socket, threading
from identity_gateway.egress import Egress, EgressFailed
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
async def main():
    with contextlib.suppress(EgressFailed):
        await Egress(total=0.05).fetch("https://keys.example/")
asyncio.run(main())
"""
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == 0
