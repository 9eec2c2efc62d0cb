"""Where no agent may stand: link-local addresses and the metadata services of clouds, in every disguise.

An agent's URL is given by whoever may register one. If it could lead to a metadata service, an invocation would fetch
the credentials of the machine on which the gateway runs.
"""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway.upstream import Origin, Upstream, UpstreamError, why_forbidden
from tests.fakes.agent import ScriptedAgent, answer

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "::",
    "fe80::1",
    "febf::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:0:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001:0:101:101::5601:5601",
    "64:ff9b::224.0.0.1",
    "::ffff:255.255.255.255",
]
ALLOWED = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "8.8.8.8",
    "::1",
    "fd12:3456::1",
    "2606:4700::1",
    "::ffff:10.0.0.1",
    "64:ff9b::8.8.8.8",
]


async def resolving_to(*addresses: str):
    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    return Upstream(resolver=resolver)


async def kind_of_failure(upstream: Upstream, host: str, port: int = 80) -> str:
    with pytest.raises(UpstreamError) as caught:
        await upstream.request(Origin("http", host, port), b"GET", b"/", [], head_timeout=5)
    await upstream.aclose()
    return str(caught.value.kind)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_no_agent_stands_on(address) -> None:
    assert why_forbidden(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_an_agent_may_stand_on(address) -> None:
    assert why_forbidden(address) is None


@given(last=st.integers(0, 0xFFFF))
def test_every_link_local_address_is_forbidden_in_every_disguise(last) -> None:
    v4 = f"169.254.{last >> 8}.{last & 255}"
    forms = [v4, f"::ffff:{v4}", f"::{v4}", f"64:ff9b::{v4}", f"2002:a9fe:{last:x}::", f"fe80::{last:x}"]
    assert all(why_forbidden(form) == "link-local" for form in forms)


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_a_literal_address_is_refused(address) -> None:
    assert await kind_of_failure(Upstream(), address) == "forbidden_address"


@pytest.mark.parametrize("address", [*FORBIDDEN, "fe80::1%lo", "169.254.169.254%eth0"])
async def test_a_name_that_leads_there_is_refused(address) -> None:
    assert await kind_of_failure(await resolving_to(address), "innocent.test") == "forbidden_address"


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"])
async def test_other_spellings_of_an_address_lead_nowhere(host) -> None:
    with pytest.raises(ValueError, match=r"."):
        Origin.from_url(f"http://{host}/")
    assert await kind_of_failure(Upstream(), host) in {"forbidden_address", "unreachable"}


async def test_the_address_that_was_checked_is_the_one_that_is_used() -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    upstream = Upstream(resolver=rebinding)
    async with ScriptedAgent(answer(b"hello")) as agent:
        origin = Origin("http", "rebinding.test", agent.port)
        response = await upstream.request(origin, b"GET", b"/", [], head_timeout=5)
        assert response.ready() == (b"hello", True)
        assert agent.requests[0].header(b"host") == origin.authority.encode()
    await upstream.aclose()


async def test_forbidden_addresses_among_others_are_passed_over() -> None:
    async with ScriptedAgent(answer(b"hello")) as agent:
        upstream = await resolving_to("169.254.169.254", "fe80::1", "127.0.0.1")
        response = await upstream.request(Origin("http", "mixed.test", agent.port), b"GET", b"/", [], head_timeout=5)
        assert response.ready() == (b"hello", True)
        await upstream.aclose()


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async with ScriptedAgent(answer(b"hello")) as agent:
        upstream = await resolving_to("127.0.0.2", "127.0.0.1")
        response = await upstream.request(Origin("http", "two.test", agent.port), b"GET", b"/", [], head_timeout=5)
        assert response.ready() == (b"hello", True)
        await upstream.aclose()


@pytest.mark.parametrize("answers", [(), ("not-an-address",), ("127.1",)])
async def test_an_answer_without_an_address_is_unreachable(answers) -> None:
    assert await kind_of_failure(await resolving_to(*answers), "odd.test") == "unreachable"


async def test_a_name_that_cannot_be_resolved_is_unreachable() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    assert await kind_of_failure(Upstream(resolver=resolver), "unknown.test") == "unreachable"


async def test_a_name_that_is_not_resolved_in_time_is_a_timeout() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    assert await kind_of_failure(Upstream(resolver=resolver, connect_timeout=0.05), "slow.test") == "timeout"


async def test_an_address_without_a_route_is_unreachable() -> None:
    assert await kind_of_failure(Upstream(), "127.255.255.255", 9) == "unreachable"  # broadcast has no TCP


async def test_a_name_is_asked_for_once_by_many_and_then_remembered() -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        await asyncio.sleep(0)
        return ["127.0.0.1"]

    upstream = Upstream(resolver=resolver)
    async with ScriptedAgent(answer(b"", b"connection: close")) as agent:
        origin = Origin("http", "agent.test", agent.port)
        for _ in range(2):
            await asyncio.gather(*(upstream.request(origin, b"GET", b"/", [], head_timeout=5) for _ in range(5)))
        assert agent.connections == 10
        assert asked == ["agent.test"]
        await upstream.aclose()


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    known = asyncio.Event()

    async def resolver(host: str, port: int) -> Sequence[str]:
        await known.wait()
        return ["127.0.0.1"]

    upstream = Upstream(resolver=resolver)
    async with ScriptedAgent(answer(b"hello")) as agent:
        origin = Origin("http", "agent.test", agent.port)
        tasks = [asyncio.create_task(upstream.request(origin, b"GET", b"/", [], head_timeout=5)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()
        known.set()
        assert (await tasks[1]).ready() == (b"hello", True)
        assert tasks[0].cancelled()
        await upstream.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://agent.test/",
        "file:///etc/passwd",
        "agent.test",
        "//agent.test",
        "http:/agent.test",
        "http://",
        "http:///path",
        "http://user@agent.test/",
        "http://user:secret@agent.test/",
        "http://agent.test@169.254.169.254/",
        "http://agent.test?x=1",
        "http://agent.test/?",
        "http://agent.test/#x",
        "http://agent.test:0/",
        "http://agent.test:65536/",
        "http://agent.test:+80/",
        "http://agent.test:８０/",
        "http://agent.test:/",
        "http://agent..test/",
        "http://.test/",
        "http://agent.test./",
        "http://-agent.test/",
        "http://agent_.test-/",
        "http://" + "a" * 64 + ".test/",
        "http://" + "a." * 127 + "test/",
        "http://ägent.test/",
        "http://\u212aelvin.test/",
        "http://agent.test\\@evil.test/",
        "http://agent.test/a b",
        "http://agent.test/%zz",
        "http://agent.test/%2",
        "http://agent.test/\u00e4",
        "http://agent.test/\r\nx: y",
        "http://agent.test\t/",
        " http://agent.test/",
        "http://agent.test/\n",
        "http://[::1/",
        "http://::1/",
        "http://[agent.test]/",
        "http://[fe80::1%25eth0]/",
        "http://[:::]/",
        "http://127.0.0.256/",
        "http://127.1/",
        "http://127.0.0.01/",
        "http://0x7f.0.0.1/",
        "http://2130706433/",
    ],
)
def test_a_url_that_is_not_plainly_an_origin_and_a_path_is_refused(url) -> None:
    with pytest.raises(ValueError, match=r"."):
        Origin.from_url(url)


@pytest.mark.parametrize(
    ("url", "origin", "base", "authority"),
    [
        ("http://agent.test", Origin("http", "agent.test", 80), b"", "agent.test"),
        ("https://Agent.Test/", Origin("https", "agent.test", 443), b"", "agent.test"),
        ("HTTPS://agent.test:8443/a//b/", Origin("https", "agent.test", 8443), b"/a//b", "agent.test:8443"),
        ("http://my_agent:8080/%2F;x=1", Origin("http", "my_agent", 8080), b"/%2F;x=1", "my_agent:8080"),
        ("http://127.0.0.1:443/", Origin("http", "127.0.0.1", 443), b"", "127.0.0.1:443"),
        ("http://[2001:DB8:0::1]:80", Origin("http", "2001:db8::1", 80), b"", "[2001:db8::1]"),
    ],
)
def test_a_url_is_read_as_origin_and_path(url, origin, base, authority) -> None:
    assert Origin.from_url(url) == (origin, base)
    assert origin.authority == authority


def test_a_tls_context_that_does_not_verify_is_refused() -> None:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="must verify"):
        Upstream(ssl_context=context)
