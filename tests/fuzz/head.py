"""Changes of the request head: fields that stand twice, not at all, or too long; methods, framing, other people's names."""

import random
from collections.abc import Mapping

from tests.fuzz.cases import SESSION, USER, Case, Change

_ONCE = (b"host", b"authorization", b"x-amz-date", b"content-type", SESSION)
_METHODS = ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "POST ", "P\x00ST", "Ä")
_PLANTED = (b"x-amz-bedrock-agentcore-identity-wat", b"workloadaccesstoken", USER, b"x-amz-target", b"x-amz-meta-a")
_PROXIES = (
    b"x-forwarded-host",
    b"x-original-url",
    b"x-rewrite-url",
    b"forwarded",
    b"x_amz_date",
    b"x-http-method-override",
)
_BYTES = (b"\x00", b"\r\n x", b"\n", b"\t\t", b"  ", b"\x7f", b"\xff\xfe", "é".encode(), b"\x0b", b"\xa0", b"%00")


def _signs(case: Case) -> bool:
    return any(value.startswith(b"AWS4-") for value in case.values(b"authorization"))


def _twice(rng: random.Random, case: Case) -> bool | None:
    name = rng.choice(_ONCE)
    values = case.values(name)
    if not values:
        return None
    again = rng.choice([values[0], b"", b"another.test", values[0] + b"x"])
    case.headers.insert(rng.randrange(len(case.headers) + 1), (name, again))
    return name in {b"host", b"authorization"} or (name == b"x-amz-date" and _signs(case))


def _without(rng: random.Random, case: Case) -> bool | None:
    name = rng.choice([b"host", b"authorization", b"x-amz-date", b"sec-websocket-protocol"])
    if not case.values(name) or (case.base == "web identity"):
        return None
    case.drop(name)
    return name != b"host" or not case.web_socket or _signs(case) or case.base == "presigned"


def _method(rng: random.Random, case: Case) -> bool | None:
    if case.web_socket:
        return None
    case.method = rng.choice(_METHODS)
    return case.base != "mcp" and case.path != b"/"


def _plant(rng: random.Random, case: Case) -> bool:
    name = rng.choice(_PLANTED)
    case.headers.insert(rng.randrange(len(case.headers) + 1), (name, b"planted-by-a-stranger"))
    return name != b"workloadaccesstoken" and (_signs(case) or case.base == "presigned")


def _proxy(rng: random.Random, case: Case) -> bool:
    case.headers.append((rng.choice(_PROXIES), rng.choice([b"evil.test", b"/healthz", b"20200101T000000Z", b"GET"])))
    return False


def _payload_hash(rng: random.Random, case: Case) -> bool:
    said = [
        b"UNSIGNED-PAYLOAD",
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        b"0" * 64,
    ]
    case.headers.append((b"x-amz-content-sha256", rng.choice(said)))
    return _signs(case) or case.base == "presigned"


def _body(rng: random.Random, case: Case) -> bool | None:
    if case.web_socket or not case.body:
        return None
    place = rng.randrange(len(case.body))
    case.body = rng.choice([case.body + b" ", b"", case.body[:place] + b"\x00" + case.body[place + 1 :], case.body * 2])
    return _signs(case)


def _session(rng: random.Random, case: Case) -> bool | None:
    if not case.values(SESSION):
        return None
    case.put(
        SESSION,
        rng.choice([b"", b"x" * 300, b"a" * 40, b"session  two  blanks " + b"a" * 30, b"\xff" * 40, b"../" * 20]),
    )
    return _signs(case)


def _dirty(rng: random.Random, case: Case) -> bool | None:
    """Put a byte that hardly belongs there into a value, or a name."""
    if not case.headers:
        return None
    place = rng.randrange(len(case.headers))
    name, value = case.headers[place]
    at, byte = rng.randrange(len(value) + 1), rng.choice(_BYTES)
    if rng.random() < 0.2:
        case.headers[place] = (name + byte, value)
    else:
        case.headers[place] = (name, value[:at] + byte + value[at:])
    return False


def _large(rng: random.Random, case: Case) -> bool:
    if rng.random() < 0.5:
        case.headers += [(b"x-filler-%d" % number, b"v") for number in range(rng.choice([101, 300]))]
    else:
        case.headers.append((b"x-filler", b"v" * rng.choice([65_537, 200_000])))
    return True


def _shuffle(rng: random.Random, case: Case) -> bool:
    rng.shuffle(case.headers)
    return False


def _query(rng: random.Random, case: Case) -> bool:
    said = [
        b"qualifier=DEFAULT",
        b"qualifier=OTHER",
        b"qualifier=%00",
        b"accountId=999999999999",
        b"%zz",
        b"a=\xff",
        b"x=#y",
    ]
    said += [
        b"X-Amz-Signature=" + b"0" * 64,
        b"x-amz-date=20200101T000000Z",
        b"AWSAccessKeyId=a",
        b"access_token=a.b.c",
        b"&&;",
    ]
    case.query = b"&".join(filter(None, [case.query, rng.choice(said)]))
    return _signs(case) and case.query != b"&&;"


def _host(rng: random.Random, case: Case) -> bool:
    case.put(
        b"host",
        rng.choice([b"evil.test", b"gateway.test:80", b"", b"gateway.test.", b"gateway.test@evil.test", b"a, b"]),
    )
    return _signs(case)


def _hop(rng: random.Random, case: Case) -> bool:
    said = [
        (b"connection", b"x-amz-date"),
        (b"expect", b"100-continue"),
        (b"te", b"trailers"),
        (b"trailer", b"authorization"),
    ]
    said += [(b"proxy-connection", b"keep-alive"), (b"upgrade", b"h2c"), (b"keep-alive", b"timeout=1")]
    case.headers.append(rng.choice(said))
    return False


CHANGES: Mapping[str, Change] = {
    "a field twice": _twice,
    "a field missing": _without,
    "another method": _method,
    "a planted identity": _plant,
    "a proxy's field": _proxy,
    "a payload hash": _payload_hash,
    "another body": _body,
    "another session": _session,
    "a dirty byte": _dirty,
    "a large head": _large,
    "another order": _shuffle,
    "another query": _query,
    "another host": _host,
    "a hop's field": _hop,
}
