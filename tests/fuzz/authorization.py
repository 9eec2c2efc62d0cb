"""Changes of signatures: in the Authorization header or the query, bent afterwards, or signed anew in a way that is wrong."""

import base64
import hashlib
import hmac
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from identity_gateway.model import Secret
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import canonical_request, signing_key
from tests.fuzz.cases import USER, Case, Change
from tests.fuzz.oracle import Known

_ALGORITHMS = ("AWS4-HMAC-SHA1", "AWS4-ECDSA-P256-SHA256", "aws4-hmac-sha256", "AWS4-HMAC-SHA256-PAYLOAD", "AWS", "")
_OTHERS = (
    b"Basic YWRhOmFkYQ==",
    b"Bearer",
    b"Bearer ",
    b"Bearer a.b.c",
    b"Negotiate",
    b"AWS AKIA:c2ln",
    b"",
    b"\xff",
    b"DPoP a.b.c",
)
_SCOPE_TEXTS = ("", "s3", "sts", "eu-west-1", "us-east-1 ", "US-EAST-1", "..", "%2F", "aws4_request", "20200101")
_PARTS = re.compile(r"(Credential|SignedHeaders|Signature)=([^,]*)")


class _Header:
    """The parts of a signature, which may be changed and written back."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.in_query = case.base == "presigned"
        self.shown = case.query if self.in_query else b"".join(case.values(b"authorization")[:1])
        self.text = self.shown.decode("latin-1")
        self.parts = dict(_PARTS.findall(self.text.replace("&", ",")))

    @property
    def usable(self) -> bool:
        return len(self.parts) == 3 and (self.in_query or self.text.startswith("AWS4-"))

    def put(self, name: str, value: str) -> bool:
        """Write a part; say whether it is another one now."""
        old = self.parts[name]
        self.write(self.text.replace(f"{name}={old}", f"{name}={value}", 1))
        return bool(old != value)

    def write(self, text: str) -> None:
        if self.in_query:
            self.case.query = text.encode("latin-1", "replace")
        else:
            self.case.put(b"authorization", text.encode("latin-1", "replace"))


def _scope(rng: random.Random, case: Case) -> bool | None:
    header = _Header(case)
    if not header.usable:
        return None
    slash = "%2F" if header.in_query else "/"
    parts = header.parts["Credential"].split(slash)
    what = rng.randrange(4)
    if what == 0:
        parts[rng.randrange(len(parts))] = rng.choice(_SCOPE_TEXTS)
    elif what == 1:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(_SCOPE_TEXTS))
    elif what == 2:
        del parts[rng.randrange(len(parts))]
    else:
        parts[0] = rng.choice(
            ["AKIDEXAMPLE", parts[0].lower(), parts[0] + "x", "a" * 129, "' OR 1=1 --", "../" + parts[0]]
        )
    return header.put("Credential", slash.join(parts))


def _names(rng: random.Random, case: Case) -> bool | None:
    header = _Header(case)
    if not header.usable:
        return None
    mark = "%3B" if header.in_query else ";"
    names = header.parts["SignedHeaders"].split(mark)
    what = rng.randrange(6)
    if what == 0:
        rng.shuffle(names)
    elif what == 1:
        names.append(rng.choice(names))
    elif what == 2:
        names[rng.randrange(len(names))] = rng.choice(names).upper()
    elif what == 3:
        del names[rng.randrange(len(names))]
    else:
        names.insert(
            rng.randrange(len(names) + 1),
            rng.choice(["", "x-absent", "authorization", "accept", " host", "host\t", ":path"]),
        )
    return header.put("SignedHeaders", mark.join(names))


def _digits(rng: random.Random, case: Case) -> bool | None:
    header = _Header(case)
    if not header.usable:
        return None
    old = header.parts["Signature"]
    at = rng.randrange(len(old)) if old else 0
    flipped = old[:at] + rng.choice([each for each in "0123456789abcdef" if each != old[at : at + 1]]) + old[at + 1 :]
    others = [
        flipped,
        old.upper(),
        old[:-1],
        old + "0",
        "0" * 64,
        "",
        "\uff11"[:0] + "g" * 64,
        old[::-1],
        f"0x{old}"[:64],
    ]
    return header.put("Signature", rng.choice(others))


def _layout(rng: random.Random, case: Case) -> bool | None:
    """Write the same parts in another way; some of them are refused, none lets more in."""
    header = _Header(case)
    if not header.usable or header.in_query:
        return None
    parts = [f"{name}={value}" for name, value in header.parts.items()]
    rng.shuffle(parts)
    what = rng.randrange(6)
    if what == 0:
        parts.append(rng.choice(parts))
    elif what == 1:
        parts.append(rng.choice(["Extra=1", "=", "", "credential=x", "Credential"]))
    elif what == 2:
        parts.pop()
    between = rng.choice([", ", ",", ",\t", " , ", ";", ",,", "  "])
    first = rng.choice(["AWS4-HMAC-SHA256 "] * 3 + ["AWS4-HMAC-SHA256\t", " AWS4-HMAC-SHA256  ", "AWS4-HMAC-SHA256"])
    header.write(first + between.join(parts))
    return what in {0, 1, 2}


def _algorithm(rng: random.Random, case: Case) -> bool | None:
    header = _Header(case)
    if not header.usable:
        return None
    header.write(header.text.replace("AWS4-HMAC-SHA256", rng.choice(_ALGORITHMS), 1))
    return True


def _another(rng: random.Random, case: Case) -> bool | None:
    """Bring other credentials, instead of the right ones or beside them."""
    if rng.random() < 0.5 and case.values(b"authorization"):
        case.headers.append((b"authorization", rng.choice(_OTHERS)))
        return True
    case.put(b"authorization", rng.choice(_OTHERS))
    return case.path != b"/"


def _noise(rng: random.Random, case: Case) -> bool | None:
    header = _Header(case)
    if not header.text:
        return None
    text = list(header.text)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text))
        what = rng.randrange(3)
        if what == 0:
            text[at] = chr(rng.randrange(256))
        elif what == 1:
            text.insert(at, rng.choice(" ,=;/\t\x00\xa0%&"))
        elif len(text) > 1:
            del text[at]
    header.write("".join(text))
    return False


def _long(rng: random.Random, case: Case) -> bool | None:
    header = _Header(case)
    if not header.usable or header.in_query:
        return None
    header.write(header.text + rng.choice([" ", ",", "0", "="]) * rng.choice([1, 4096, 60_000]))
    return False


def signed_anew(known: Known) -> Change:
    """Return the change that signs the request again, with the right secret, in a way that no signature may be made."""

    def change(rng: random.Random, case: Case) -> bool | None:
        header = _Header(case)
        if not header.usable or header.in_query:
            return None
        scope = ["sts" if case.path == b"/" else "bedrock-agentcore", known.region, "aws4_request"]
        secret, at = known.secret, datetime.now(UTC)
        names = sorted({name for name, _ in case.headers if name != b"authorization"})
        what = rng.randrange(10)
        if what == 0:
            scope[0] = rng.choice(["s3", "execute-api", "sts" if case.path != b"/" else "bedrock-agentcore"])
        elif what == 1:
            scope[1] = rng.choice(["eu-west-1", "us-gov-west-1", "*", ""])
        elif what == 2:
            secret = rng.choice(["", secret[:-1], secret + "\n", "no access key has this secret"])
        elif what == 3:
            at += timedelta(seconds=rng.choice([-86400 * 400, -86400, -900, -330, 330, 900, 86400]))
        elif what == 4:
            missing = rng.choice([b"host", b"x-amz-date"])
            names = [name for name in names if name != missing]
        elif what == 5:
            names.reverse()
        elif what == 6:
            case.headers.append((USER, b"mallory"))  # after the names were chosen: it is not signed
        elif what == 7:
            case.headers.append((b"x-amz-security-token", b"a-token-of-no-session"))
            names = sorted([*names, b"x-amz-security-token"])
        elif what == 8:
            case.headers.append((b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"))
            names = sorted([*names, b"x-amz-content-sha256"])
        else:
            scope[2] = rng.choice(["aws4_reques", "AWS4_REQUEST", ""])
        _sign(case, known.key_id, secret, scope, names, at, unsigned=what == 8)
        return what != 6 or case.path.startswith(b"/runtimes/")

    return change


def _sign(
    case: Case, key_id: str, secret: str, scope: list[str], names: list[bytes], at: datetime, *, unsigned: bool
) -> None:
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    case.put(b"x-amz-date", stamp.encode())
    digest = "UNSIGNED-PAYLOAD" if unsigned else hashlib.sha256(case.body).hexdigest()
    request = Request(case.method, case.path, case.query, tuple(case.headers))
    where = f"{stamp[:8]}/{scope[1]}/{scope[0]}/{scope[2]}"
    key = signing_key(Secret(secret), stamp[:8], scope[1], scope[0])
    canonical = hashlib.sha256(canonical_request(request, names, digest)).hexdigest()
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{where}\n{canonical}".encode(), "sha256").hex()
    listed = b";".join(names).decode()
    shown = f"AWS4-HMAC-SHA256 Credential={key_id}/{where}, SignedHeaders={listed}, Signature={signature}"
    case.put(b"authorization", shown.encode())


def _expires(rng: random.Random, case: Case) -> bool | None:
    """Let a presigned URL live longer, or say one of its parameters twice."""
    if case.base != "presigned":
        return None
    others = [b"86400", b"0", b"-1", b"301", b"+300", b"3e2", b"\xd9\xa3", b"", b"999999999999999999999"]
    changed = re.sub(rb"(X-Amz-Expires=)[0-9]+", lambda found: found[1] + rng.choice(others), case.query)
    twice = case.query + b"&" + rng.choice(case.query.split(b"&")[-6:])
    spelt = case.query.replace(b"X-Amz-", rng.choice([b"x-amz-", b"X%2DAmz-", b"X-AMZ-"]), 1)
    case.query = rng.choice([changed, twice, spelt])
    return True


def _basic(rng: random.Random, case: Case) -> bool | None:
    """Show the secrets of the request under a scheme that nobody serves."""
    shown = case.values(b"authorization")
    if not shown:
        return None
    text = base64.b64encode(shown[0]).replace(b"\n", b"")
    case.put(b"authorization", rng.choice([b"Basic ", b"basic ", b"Token "]) + text)
    case.secrets.append(text[-24:])
    return case.path != b"/" or True


def changes(known: Known) -> Mapping[str, Change]:
    """Return every change by its name."""
    return {
        "another scope": _scope,
        "other signed headers": _names,
        "other digits": _digits,
        "another layout": _layout,
        "another algorithm": _algorithm,
        "other credentials": _another,
        "noise": _noise,
        "a long value": _long,
        "signed anew": signed_anew(known),
        "another lifetime": _expires,
        "as Basic": _basic,
    }
