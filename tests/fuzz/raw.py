"""Requests as bytes: how a valid one is written, how its framing is bent, and how h11, another reader, understands it."""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import h11

from tests.fuzz.cases import Case

CRLF = b"\r\n"
_AUTHORITY = re.compile(rb"(?i:https?)://[^/?#@]*(.*)", re.DOTALL)
_BLANKS = re.compile(rb"\A([^ \r\n]+) +([^ \r\n]+) +(HTTP/1\.[01]\r\n)")


@dataclass
class Raw:
    """A request before it is written: everything but the base may be bent."""

    base: Case
    line: bytes
    fields: list[bytes]
    body: bytes
    ends: list[bytes] = field(default_factory=list)
    before: bytes = b""
    after: bytes = b""
    steps: list[str] = field(default_factory=list)
    doomed: bool = False

    @classmethod
    def of(cls, case: Case) -> "Raw":
        """Return a case as a client writes it."""
        target = case.path + (b"?" + case.query if case.query else b"")
        fields = [name + b": " + value for name, value in case.headers]
        fields += [b"content-length: %d" % len(case.body), b"connection: close"]
        return cls(case, case.method.encode() + b" " + target + b" HTTP/1.1", fields, case.body)

    def written(self) -> bytes:
        """Return what goes over the socket."""
        lines = [self.line, *self.fields]
        ends = self.ends + [CRLF] * (len(lines) - len(self.ends))
        head = b"".join(line + end for line, end in zip(lines, ends, strict=False)) + CRLF
        return self.before + head + self.body + self.after

    def swap(self, name: bytes, *lines: bytes) -> None:
        """Write other lines in the place of a field."""
        at = next(
            (place for place, each in enumerate(self.fields) if each.lower().startswith(name + b":")), len(self.fields)
        )
        self.fields[at : at + 1] = lines

    def shown(self) -> str:
        """Return the request in one line that may be printed anywhere."""
        names = b" ".join(each.partition(b":")[0][:40] for each in self.fields[:14])
        return f"{self.base.base} {self.steps} {self.line[:160]!r} {names!r} +{len(self.body)} {self.after[:40]!r}"


Bend = Callable[[random.Random, Raw], bool]
"""Changes a request in place, and says whether it must be refused now."""


def _lengths(rng: random.Random, raw: Raw) -> bool:
    size = len(raw.body)
    bad = [
        b"+%d",
        b"-%d",
        b"0x%x",
        b"%d, %d",
        b"%d %d",
        b"%d;",
        b"%d.0",
        b"\xd9\xa3%d",
        b"%d\x0b",
        b"1e%d",
        b"%d" + b"0" * 30,
        b" : %d",
    ]
    form = rng.choice(bad)
    value = form % ((size, size) if form.count(b"%") == 2 else (size,))
    raw.swap(b"content-length", b"content-length: " + value)
    return True


def _two_framings(rng: random.Random, raw: Raw) -> bool:
    size = len(raw.body)
    pairs = [
        (b"content-length: %d" % size, b"transfer-encoding: chunked"),
        (b"transfer-encoding: chunked", b"content-length: %d" % size),
        (b"content-length: %d" % size, b"content-length: 0"),
        (b"content-length: 0", b"Content-Length: %d" % size),
        (b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
        (b"transfer-encoding: xchunked", b"transfer-encoding: chunked"),
        (b"transfer-encoding: identity", b"content-length: %d" % size),
    ]
    raw.swap(b"content-length", *rng.choice(pairs))
    return True


def _codings(rng: random.Random, raw: Raw) -> bool:
    bad = [
        b"xchunked",
        b"gzip, chunked",
        b"chunked, chunked",
        b"chunked, identity",
        b"identity, chunked, identity",
        b"\x0bchunked",
        b'"chunked"',
        b"chunked;q=1, gzip",
        b"chunked chunked",
    ]
    raw.swap(b"content-length", b"transfer-encoding: " + rng.choice(bad))
    raw.body = _chunked(raw.body)
    return True


def _chunked(body: bytes, size: bytes = b"%x", extension: bytes = b"", end: bytes = CRLF) -> bytes:
    return size % len(body) + extension + CRLF + body + end + b"0" + CRLF + CRLF


def _chunks(rng: random.Random, raw: Raw) -> bool:
    """Send the body in chunks: rightly, or in a way that two readers could read differently."""
    raw.swap(b"content-length", b"transfer-encoding: chunked")
    body, what = raw.body, rng.randrange(9)
    wrong = [
        _chunked(body, b"0x%x"),
        _chunked(body, b"+%x"),
        _chunked(body, b"-%x"),
        _chunked(body, b"%x "),
        _chunked(body, extension=b";a=b\n"),
        _chunked(body, end=b"\n"),
        _chunked(body, end=b"xx" + CRLF),
        _chunked(body, b"1" + b"0" * 16 + b"%x"),
    ]
    if what < len(wrong):
        raw.body = wrong[what]
        return True
    raw.body = rng.choice([_chunked(body), _chunked(body, b"000%x"), _chunked(body, extension=b";a=b"), _chunked(body)[:-2] + b"x-amz-date: 1" + CRLF + CRLF])  # fmt: skip
    return False


def _lines(rng: random.Random, raw: Raw) -> bool:
    """Bend one line of the head: folds, blanks where none belong, other ends."""
    at = rng.randrange(len(raw.fields))
    name, _, value = raw.fields[at].partition(b": ")
    bent = [
        name + b" : " + value,
        name + b":" + CRLF + b" " + value,
        name + b": " + value + CRLF + b"\tx",
        b" " + name + b": " + value,
        name,
        b": " + value,
        name + b": " + value + b"\x00",
        name + b": a\rb" + value,
        name + b"\x00: " + value,
        name + b"\xc3\xa4: " + value,
        b"(" + name + b"): " + value,
    ]
    raw.fields[at] = rng.choice(bent)
    return True


def _ends(rng: random.Random, raw: Raw) -> bool:
    at = rng.randrange(len(raw.fields) + 1)
    raw.ends = [CRLF] * at + [rng.choice([b"\n", b"\r", b"\r\r\n", b"\n\r"])]
    return True


def _request_line(rng: random.Random, raw: Raw) -> bool:
    if raw.line.count(b" ") < 2:
        return False
    method, target, version = raw.line.split(b" ", 2)
    bent = [
        (method + b"  " + target + b" " + version, False),
        (method + b"\t" + target + b" " + version, True),
        (method + b" " + target + b"\t" + version, True),
        (b" " + raw.line, True),
        (method + b" " + target, True),
        (method + b" " + target + b" HTTP/2.0", True),
        (method + b" " + target + b" HTTP/0.9", True),
        (method + b" " + target + b" HTTP/1.2", True),
        (method + b" " + target + b" http/1.1", True),
        (method + b" " + target + b" HTTP/1.0", False),
        (method + b" " + target + b" HTTP/1.1 x", True),
        (method.lower() + b" " + target + b" " + version, True),
        (b"\x00" + raw.line, True),
        (b"GET " + target + b" " + version, raw.base.base == "invoke"),
        (method + b" http://evil.test" + target + b" " + version, False),
        (method + b" http://user@" + target + b" " + version, True),
        (method + b" *" + b" " + version, True),
        (method + b" " + target.lstrip(b"/") + b" " + version, True),
        (method + b" //evil.test" + target + b" " + version, True),
        (method + b" " + target + b"#fragment " + version, False),
        (method + b" " + target + b"\x00 " + version, True),
        (method + b" " + target + b"\xff " + version, True),
        (method + b" " + target + b"/../" + b" " + version, True),
        (method + b" " + target.replace(b"%3A", b":", 1) + b" " + version, raw.base.base == "invoke"),
        (b"CONNECT gateway.test:443 " + version, True),
        (b"PRI * HTTP/2.0" + CRLF + CRLF + b"SM", True),
    ]
    raw.line, doomed = rng.choice(bent)
    return doomed


def _twice(rng: random.Random, raw: Raw) -> bool:
    once = [each for each in raw.fields if each.lower().startswith((b"host:", b"authorization:", b"x-amz-date:"))]
    again = rng.choice(once)
    raw.fields.insert(rng.randrange(len(raw.fields) + 1), rng.choice([again, again + b"x", again.partition(b":")[0].upper() + b": other"]))  # fmt: skip
    return True


def _large(rng: random.Random, raw: Raw) -> bool:
    fields = [[b"x-filler: " + b"v" * 140_000], [b"x-filler: " + b"v" * 70_000], [b"x-%d: v" % number for number in range(150)], [b"x" * 70_000 + b": v"]]  # fmt: skip
    raw.fields += rng.choice(fields)
    return True


def _offers(rng: random.Random, raw: Raw) -> bool:
    offered = rng.choice([b"websocket", b"h2c", b"TLS/1.0"])
    raw.swap(b"connection", b"connection: Upgrade, close", b"upgrade: " + offered)
    if rng.random() < 0.5:
        raw.fields += [b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", b"sec-websocket-version: 13"]
    return True  # because there is a body


def _expects(rng: random.Random, raw: Raw) -> bool:
    raw.fields.append(b"expect: " + rng.choice([b"100-continue", b"200-ok", b"100-Continue, x", b""]))
    return False


def _blank_before(rng: random.Random, raw: Raw) -> bool:
    raw.before = rng.choice(
        [CRLF, CRLF * 3, b"\n", b" ", b"\x00", CRLF * 2000, b"\xef\xbb\xbf", b"\x16\x03\x01\x02\x00\x01\x00"]
    )
    return False


def _cut(rng: random.Random, raw: Raw) -> bool:
    raw.body = raw.body[: rng.randrange(max(len(raw.body), 1))]
    return True


def _noise(rng: random.Random, raw: Raw) -> bool:
    """Change a few bytes of the head, anywhere."""
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(raw.fields) + 1)
        line = bytearray(raw.line if at == 0 else raw.fields[at - 1])
        place = rng.randrange(len(line)) if line else 0
        line[place : place + rng.randrange(2)] = bytes([rng.randrange(256)])
        if at == 0:
            raw.line = bytes(line)
        else:
            raw.fields[at - 1] = bytes(line)
    return False


BENDS: Mapping[str, Bend] = {
    "a length": _lengths,
    "two framings": _two_framings,
    "codings": _codings,
    "chunks": _chunks,
    "a bent line": _lines,
    "other line ends": _ends,
    "another request line": _request_line,
    "a field twice": _twice,
    "a large head": _large,
    "an offer to upgrade": _offers,
    "an expectation": _expects,
    "something before": _blank_before,
    "a cut body": _cut,
    "noise": _noise,
}


def read(data: bytes, secrets: list[bytes]) -> list[Case]:
    """Return the requests that h11 finds in these bytes, as far as it can read them."""
    found: list[Case] = []
    # Empty lines before a request and several blanks in its line may be read over (RFC 9112 §2.2, §3): h11 does not.
    data = _BLANKS.sub(rb"\1 \2 \3", data.lstrip(CRLF), count=1)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                found.append(_case_of(event, secrets))
            elif isinstance(event, h11.Data):
                found[-1].body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found[-1].steps = ["whole"]
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                break
    except (h11.ProtocolError, RuntimeError):
        pass
    return found


def _case_of(event: h11.Request, secrets: list[bytes]) -> Case:
    target = bytes(event.target)
    headers = [(bytes(name), bytes(value)) for name, value in event.headers]
    if absolute := _AUTHORITY.fullmatch(target):
        target = absolute[1]  # nothing depends on the authority: what is signed is Host
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return Case("read", bytes(event.method).decode("latin-1"), path, query, headers, secrets=secrets)
