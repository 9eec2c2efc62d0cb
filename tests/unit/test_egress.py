"""The way out: what it sends, what it accepts, and what it refuses of an answer. (Addresses: tests/security/test_ssrf.py.)"""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from identity_gateway.egress import Egress, EgressFailed, EgressRefused, check_url
from tests.fakes.issuer import DISCOVERY, FakeIssuer, Vice

LOOPBACK = (ip_network("127.0.0.0/8"),)


async def loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def egress(**changes: object) -> Egress:
    return Egress(LOOPBACK, resolver=loopback, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server named keys.example, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keys.example")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("keys.example"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    path.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())


# --- What is refused of an answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("vice", [Vice.SLOW_DRIP, Vice.HANG])
async def test_an_answer_that_never_ends_is_given_up_at_the_deadline(vice: Vice) -> None:
    async with FakeIssuer() as issuer:
        issuer.fail(vice)
        with pytest.raises(EgressFailed, match=r"longer than 0\.1 s") as failure:
            await egress(total=0.1).fetch(issuer.discovery_url)
    assert failure.value.maybe_sent


async def test_a_look_up_that_never_ends_is_given_up_at_the_deadline() -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(EgressFailed, match="longer") as failure:
        await Egress(resolver=silent, total=0.05).fetch("https://keys.example/")
    assert not failure.value.maybe_sent


async def test_a_way_out_that_is_closed_looks_nothing_up() -> None:
    way_out = Egress(LOOPBACK)
    await way_out.aclose()
    with pytest.raises(EgressFailed, match="could not be looked up") as failure:
        await way_out.fetch("http://localhost:9/")
    assert not failure.value.maybe_sent


async def test_closing_ends_the_look_ups_that_wait_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait() and [])
    way_out = Egress(LOOPBACK, total=600)
    asked = [asyncio.create_task(way_out.fetch(f"https://n{number}.example/")) for number in range(6)]
    await asyncio.sleep(0)
    await way_out.aclose()
    ended, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    counts = len(ended), len(waiting)
    answered.set()
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert (counts, {type(failure) for failure in failures}) == ((2, 4), {EgressFailed})


async def test_look_ups_that_wait_get_their_turn_when_a_thread_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))] * 2
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait() and found)
    async with FakeIssuer() as issuer:
        way_out = Egress(LOOPBACK, total=600)
        asked = [asyncio.create_task(way_out.fetch(f"http://n{number}.example:{issuer.port}/")) for number in range(6)]
        await asyncio.sleep(0)
        answered.set()
        answers = await asyncio.gather(*asked)
    assert [answer.status for answer in answers] == [200] * 6


async def test_look_ups_that_were_given_up_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait() and [])
    way_out = Egress(LOOPBACK, total=0.05)
    for _ in range(3):
        asked = (way_out.fetch(f"https://n{number}.example/") for number in range(4))
        failures = await asyncio.gather(*asked, return_exceptions=True)
    answered.set()
    assert ["longer than" in str(failure) for failure in failures] == [True] * 4


async def test_an_endless_body_is_cut_at_the_cap() -> None:
    async with FakeIssuer() as issuer:
        issuer.fail(Vice.ENDLESS)
        with pytest.raises(EgressFailed, match="more than 100000 bytes"):
            await egress(max_bytes=100_000).fetch(issuer.discovery_url)


async def test_a_compressed_body_is_refused() -> None:
    async with FakeIssuer() as issuer:
        issuer.fail(Vice.COMPRESSED)
        with pytest.raises(EgressFailed, match="encoding"):
            await egress().fetch(issuer.discovery_url)


async def test_a_connection_that_closes_without_an_answer_fails_and_may_have_been_heard() -> None:
    async with FakeIssuer() as issuer:
        issuer.fail(Vice.DOWN)
        with pytest.raises(EgressFailed, match="did not answer") as failure:
            await egress().fetch(issuer.discovery_url)
    assert failure.value.maybe_sent


async def test_a_port_where_nobody_listens_was_certainly_not_heard() -> None:
    async with FakeIssuer() as issuer:
        url = issuer.discovery_url
    with pytest.raises(EgressFailed, match="did not answer") as failure:
        await egress().fetch(url)
    assert not failure.value.maybe_sent


async def test_a_name_without_an_address_fails() -> None:
    async def nothing(host: str, port: int) -> Sequence[str]:
        return []

    with pytest.raises(EgressFailed, match="no address"):
        await Egress(resolver=nothing).fetch("https://keys.example/")


async def test_a_name_that_cannot_be_looked_up_fails() -> None:
    async def broken(host: str, port: int) -> Sequence[str]:
        raise OSError

    with pytest.raises(EgressFailed, match="could not be looked up"):
        await Egress(resolver=broken).fetch("https://keys.example/")


async def test_a_failure_does_not_tell_the_query_or_the_headers() -> None:
    async with FakeIssuer() as issuer:
        issuer.fail(Vice.DOWN)
        with pytest.raises(EgressFailed) as failure:
            await egress().fetch(
                f"{issuer.issuer}{DISCOVERY}?code=hunter2", headers=[("authorization", "Bearer hunter2")]
            )
    assert "hunter2" not in repr(failure.value)


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_certificate_of_an_unknown_authority_is_refused(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with FakeIssuer(tls=tls[0]) as issuer:
        with pytest.raises(EgressFailed, match="certificate was refused") as failure:
            await egress().fetch(issuer.discovery_url)
    assert not failure.value.maybe_sent


async def test_a_certificate_of_another_name_is_refused(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with FakeIssuer(tls=tls[0]) as issuer:
        with pytest.raises(EgressFailed, match="certificate was refused"):
            await egress(ssl_context=tls[1]).fetch(f"https://other.example:{issuer.port}/")


async def test_the_certificate_is_that_of_the_name_and_not_of_the_address(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    names: list[str | None] = []
    tls[0].sni_callback = lambda _socket, name, _context: names.append(name)
    async with FakeIssuer(tls=tls[0]) as issuer:
        answer = await egress(ssl_context=tls[1]).fetch(f"https://keys.example:{issuer.port}{DISCOVERY}")
    assert (answer.status, names) == (200, ["keys.example"])


@pytest.mark.parametrize("verifying", [False, True])
def test_a_context_that_does_not_verify_cannot_be_used(verifying: bool) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verifying else ssl.CERT_NONE
    with pytest.raises(ValueError, match="does not verify"):
        Egress(ssl_context=context)


# --- What is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Accept-Encoding", "connection"])
async def test_framing_headers_are_not_the_callers(name: str) -> None:
    with pytest.raises(EgressRefused, match="header"):
        await egress().fetch("http://keys.example/", headers=[(name, "x")])


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "\x00", "\u20ac"])
async def test_a_header_value_that_would_change_the_message_is_refused(value: str) -> None:
    with pytest.raises(EgressRefused, match="header"):
        await egress().fetch("http://keys.example/", headers=[("x", value)])


async def test_the_query_reaches_the_server_as_it_was_written() -> None:
    async with FakeIssuer() as issuer:
        await egress().fetch(f"{issuer.issuer}/a%2Fb/%7e/../c?q=%20+&é".replace("é", "%C3%A9"))
    assert issuer.heads[0].startswith(b"GET /a%2Fb/%7e/../c?q=%20+&%C3%A9 HTTP/1.1\r\n")


async def test_a_body_is_sent_with_its_length() -> None:
    async with FakeIssuer() as issuer:
        await egress().fetch(issuer.discovery_url, method="POST", content=b"a=b", headers=[("content-type", "x/y")])
    assert b"POST " in issuer.heads[0]
    assert b"content-length: 3\r\n" in issuer.heads[0].lower()


async def test_nothing_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with FakeIssuer() as issuer:
        answer = await egress().fetch(issuer.discovery_url)
    assert answer.status == 200
    assert b"authorization" not in issuer.heads[0].lower()


async def test_a_cookie_is_not_sent_back() -> None:
    async with FakeIssuer() as issuer:
        issuer.jwks_headers = {"set-cookie": "a=b"}
        way_out = egress()
        await way_out.fetch(issuer.issuer + "/keys")
        await way_out.fetch(issuer.issuer + "/keys")
    assert b"cookie" not in issuer.heads[1].lower()


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with FakeIssuer() as issuer:
        issuer.fail(Vice.REDIRECT)
        answer = await egress().fetch(issuer.discovery_url)
    assert answer.status == 302
    assert issuer.requests.total() == 1


async def test_an_answer_has_its_headers_in_lower_case() -> None:
    async with FakeIssuer() as issuer:
        issuer.jwks_headers = {"Cache-Control": "max-age=5"}
        answer = await egress().fetch(issuer.issuer + "/keys")
    assert answer.header("cache-control") == "max-age=5"


async def test_an_answer_shows_neither_body_nor_headers() -> None:
    async with FakeIssuer() as issuer:
        assert repr(await egress().fetch(issuer.discovery_url)) == "Fetched(status=200)"


# --- Registration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com/tenant/.well-known/openid-configuration",
        "https://login.example.com:8443",
        "http://127.0.0.1:9000/x",
        "HTTPS://Login.Example.COM/?a=b",
        "http://keycloak/realms/a",
        "https://[2001:db8::1]:8443/x",
        "https://xn--bcher-kva.example/",
        "https://_dmarc.a-b.example/",
    ],
)
def test_a_plain_url_can_be_registered(url: str) -> None:
    check_url(url)
