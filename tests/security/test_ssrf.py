"""Threat: a URL that somebody registered makes the gateway talk to its own network (server-side request forgery)."""

from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from identity_gateway.egress import Egress, EgressFailed, EgressRefused, check_url
from tests.fakes.issuer import DISCOVERY, FakeIssuer, Vice

INSIDE = {
    "loopback": "127.0.0.1",
    "all of loopback": "127.9.9.9",
    "this host": "0.0.0.0",
    "this network": "0.1.2.3",
    "private, class A": "10.0.0.1",
    "private, class B": "172.31.255.255",
    "private, class C": "192.168.1.1",
    "carrier-grade NAT": "100.64.0.1",
    "link-local": "169.254.1.1",
    "metadata of most clouds": "169.254.169.254",
    "credentials of containers": "169.254.170.2",
    "metadata in shared address space": "100.100.100.200",
    "metadata in protocol assignments": "192.0.0.192",
    "a platform's own public address": "168.63.129.16",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "benchmarking": "198.18.0.1",
    "documentation": "203.0.113.7",
    "6to4 relays": "192.88.99.1",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv6 link-local": "fe80::1",
    "IPv6 site-local": "fec0::1",
    "IPv6 unique local": "fd12:3456::1",
    "IPv6 metadata": "fd00:ec2::254",
    "IPv6 multicast": "ff02::1",
    "IPv6 documentation": "2001:db8::1",
    "IPv6 discard": "100::1",
    "IPv6 segment routing": "5f00::1",
    "IPv4-mapped loopback": "::ffff:127.0.0.1",
    "IPv4-mapped metadata": "::ffff:169.254.169.254",
    "IPv4-mapped private": "::ffff:10.0.0.1",
    "IPv4-compatible loopback": "::127.0.0.1",
    "IPv4-translated": "::ffff:0:127.0.0.1",
    "6to4 of private": "2002:0a00:0001::1",
    "6to4 of metadata": "2002:a9fe:a9fe::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "NAT64 of private": "64:ff9b::10.0.0.1",
    "NAT64 of metadata": "64:ff9b::169.254.169.254",
    "local NAT64": "64:ff9b:1::8.8.8.8",
}
NEVER = [
    "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "0.0.0.0", "224.0.0.1", "240.0.0.1",
    "fd00:ec2::254", "fd20:ce::254", "fe80::1", "ff02::1", "::", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
SPELLINGS = [
    "http://2130706433/", "http://0x7f000001/", "http://0x7f.0x0.0x0.0x1/", "http://017700000001/", "http://0177.0.0.1/",
    "http://127.1/", "http://127.0.1/", "http://127.0.0.1./", "http://0/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/",
    "http://[::ffff:7f00:1%25lo]/", "http://[fe80::1%25eth0]/", "http://[127.0.0.1]/", "http://127.0.0.1%00.example.com/",
    "http://localhost./", "http://example.com%2f@127.0.0.1/", "http://%6c%6f%63alhost/",
]  # fmt: skip
MALFORMED = [
    "", "keys.example/", "//keys.example/", "https:keys.example", "https:///x", "https://", "https://:443/",
    "file:///etc/passwd", "ftp://keys.example/", "gopher://keys.example/", "data:text/plain,x", "dict://keys.example:11211/",
    "https://user@keys.example/", "https://user:password@keys.example/", "https://@keys.example/",
    "https://keys.example/#fragment", "https://keys.example#@127.0.0.1/", "https://keys.example\\@127.0.0.1/",
    "https://keys.example:0/", "https://keys.example:65536/", "https://keys.example:443x/", "https://keys.example:-1/",
    "https://keys.example: 443/", "https://keys example/", " https://keys.example/", "https://keys.example/a b",
    "https://keys.example/\r\nX: y", "https://keys.example/\x00", "https://keys..example/", "https://-keys.example/",
    "https://.example/", "https://bücher.example/", "https://" + "a" * 64 + ".example/", "https://[::1/", "https://::1/",
    "https://[keys.example]/", "https://keys.example/" + "a" * 2048, "https://" + "a." * 127 + "example/",
]  # fmt: skip


class Names:
    """A name server that answers from a list, one answer per question, and remembers how often it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0)


@pytest.mark.parametrize("address", INSIDE.values(), ids=INSIDE)
async def test_a_name_that_stands_for_an_inner_address_is_refused(address: str) -> None:
    with pytest.raises(EgressRefused, match="neither public nor allowed"):
        await Egress(resolver=Names([address])).fetch("https://keys.example/")


@pytest.mark.parametrize("address", INSIDE.values(), ids=INSIDE)
async def test_an_inner_address_written_out_is_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(EgressRefused):
        await Egress().fetch(f"https://{host}/")


@pytest.mark.parametrize("address", PUBLIC)
async def test_one_inner_address_among_public_ones_refuses_the_name(address: str) -> None:
    with pytest.raises(EgressRefused, match="neither public nor allowed"):
        await Egress(resolver=Names([address, "127.0.0.1"])).fetch("https://keys.example/")


@pytest.mark.parametrize("address", NEVER)
async def test_metadata_is_refused_even_when_everything_is_allowed(address: str) -> None:
    with pytest.raises(EgressRefused, match="neither public nor allowed"):
        await Egress(EVERYWHERE, resolver=Names([address])).fetch("https://keys.example/")


@pytest.mark.parametrize("network", ["169.254.0.0/16", "169.254.169.254/32", "fe80::/10", "ff02::/16"])
def test_a_network_that_is_never_reached_cannot_be_allowed(network: str) -> None:
    with pytest.raises(ValueError, match="cannot be allowed"):
        Egress((ip_network(network),))


@pytest.mark.parametrize("url", SPELLINGS)
async def test_another_spelling_of_an_address_is_refused_even_where_the_address_is_allowed(url: str) -> None:
    with pytest.raises(EgressRefused):
        await Egress((ip_network("127.0.0.0/8"),), resolver=Names(["127.0.0.1"])).fetch(url)


@pytest.mark.parametrize("url", MALFORMED)
async def test_a_malformed_url_is_refused_without_a_look_up(url: str) -> None:
    names = Names()
    with pytest.raises(EgressRefused):
        await Egress(resolver=names).fetch(url)
    assert names.asked == 0


@pytest.mark.parametrize("url", [*SPELLINGS, *MALFORMED, "https://169.254.169.254/latest", "http://[fe80::1]/"])
def test_a_url_that_can_never_be_asked_is_refused_at_registration(url: str) -> None:
    with pytest.raises(EgressRefused):
        check_url(url)


@pytest.mark.parametrize("url", ["https://user:hunter2@keys.example/", "https://a b/?token=hunter2"])
def test_a_refusal_does_not_repeat_the_url(url: str) -> None:
    with pytest.raises(EgressRefused) as refusal:
        check_url(url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("address", PUBLIC)
async def test_plain_http_to_a_public_address_is_refused(address: str) -> None:
    with pytest.raises(EgressRefused, match="plain http"):
        await Egress((ip_network("127.0.0.0/8"),), resolver=Names([address])).fetch("http://keys.example/")


async def test_plain_http_is_refused_when_one_address_is_outside_the_allowed_networks() -> None:
    with pytest.raises(EgressRefused, match="plain http"):
        await Egress((ip_network("127.0.0.0/8"),), resolver=Names(["127.0.0.1", "8.8.8.8"])).fetch("http://a.example/")


async def test_an_address_of_another_network_than_the_allowed_one_is_refused() -> None:
    with pytest.raises(EgressRefused, match="neither public nor allowed"):
        await Egress((ip_network("127.0.0.0/8"),), resolver=Names(["10.0.0.1"])).fetch("http://keys.example/")


async def test_an_allowed_address_is_refused_where_only_public_ones_may_be_reached() -> None:
    async with FakeIssuer() as issuer:
        with pytest.raises(EgressRefused, match="not public"):
            await Egress((ip_network("127.0.0.0/8"),)).fetch(issuer.discovery_url, public_only=True)
    assert issuer.requests.total() == 0


@pytest.mark.parametrize("address", PUBLIC)
async def test_allowed_networks_do_not_open_plain_http_where_only_public_addresses_may_be_reached(address: str) -> None:
    with pytest.raises(EgressRefused, match="plain http"):
        await Egress(EVERYWHERE, resolver=Names([address])).fetch("http://keys.example/", public_only=True)


async def test_a_mapped_address_of_an_allowed_network_passes_the_check() -> None:
    with pytest.raises(EgressFailed, match="did not answer"):
        await Egress((ip_network("127.0.0.0/8"),), resolver=Names(["::ffff:127.0.0.1"])).fetch("http://keys.example:9/")


async def test_a_name_that_changes_its_address_after_the_check_is_not_followed() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with FakeIssuer() as issuer:
        url = f"http://keys.example:{issuer.port}{DISCOVERY}"
        answer = await Egress((ip_network("127.0.0.1/32"),), resolver=names).fetch(url)
    assert (answer.status, names.asked) == (200, 1)


async def test_every_fetch_checks_anew() -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    async with FakeIssuer() as issuer:
        url = f"http://keys.example:{issuer.port}{DISCOVERY}"
        egress = Egress((ip_network("127.0.0.1/32"),), resolver=names)
        await egress.fetch(url)
        with pytest.raises(EgressRefused):
            await egress.fetch(url)


async def test_a_redirect_inwards_is_not_followed() -> None:
    async with FakeIssuer() as issuer:
        issuer.fail(Vice.REDIRECT)
        await Egress((ip_network("127.0.0.0/8"),)).fetch(issuer.discovery_url)
    assert issuer.requests["/elsewhere"] == 0


async def test_the_second_address_is_tried_when_the_first_does_not_answer() -> None:
    async with FakeIssuer() as issuer:
        egress = Egress((ip_network("127.0.0.0/8"),), resolver=Names(["127.0.0.2", "127.0.0.1"]))
        assert (await egress.fetch(f"http://keys.example:{issuer.port}{DISCOVERY}")).status == 200


async def test_localhost_is_what_the_systems_own_look_up_says() -> None:
    with pytest.raises(EgressRefused, match="neither public nor allowed"):
        await Egress().fetch("https://localhost/")
