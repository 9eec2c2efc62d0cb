"""Changes of the path: escapes, dots and slashes, and ARNs that name something else."""

import random
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from tests.fuzz.cases import Case, Change

_PIECES = (
    b"/",
    b"//",
    b"/./",
    b"/../",
    b"%2e%2e/",
    b"%2E",
    b"..;/",
    b"%00",
    b"\x00",
    b"%0d%0a",
    b"\\",
    b"%5c",
    b";a=b",
    b"%",
    b"%z1",
    b"%u002f",
    b"%c0%af",
    b"%ef%bc%8f",
    b"\xff",
    "ü".encode(),
    b"%252F",
    b"?",
    b"#x",
    b" ",
    b"\t",
    b"+",
    b"*",
    b"%20",
    b":",
    b"@",
)
_ROUTES = (b"/healthz", b"/", b"/metrics", b"/runtimes/", b"/identities/ListWorkloadIdentities", b"/oauth2/consent/x", b"*", b"", b"http://evil.test/", b"//evil.test/", b"/identities/GetWorkloadAccessToken", b"/runtimes/a/commands", b"/.well-known/openid-configuration")  # fmt: skip
_DOORS = (b"commands", b"ws", b"invocations", b"stopruntimesession", b"invocations/", b"Invocations", b"invocations/.well-known/agent-card.json", b"ws/shells", b"endpoints/DEFAULT/invocations", b"")  # fmt: skip
_LABEL = re.compile(rb"/runtimes/([^/]*)/(.*)", re.DOTALL)


def _moves(case: Case) -> bool:
    """Say whether a changed path breaks what the case shows. A token is good for every path of its runtime."""
    return bool(case.base in {"invoke", "workload", "presigned"})


def _piece(rng: random.Random, case: Case) -> bool:
    at = rng.randrange(len(case.path) + 1)
    case.path = case.path[:at] + rng.choice(_PIECES) + case.path[at:]
    return _moves(case)


def _escape(rng: random.Random, case: Case) -> bool | None:
    """Write a character of the path in another way: escaped, not escaped, escaped twice, in another case."""
    what, old = rng.randrange(4), case.path
    if what == 0:
        if not old:
            return None
        at = rng.randrange(len(old))
        case.path = old[:at] + b"%%%02X" % old[at] + old[at + 1 :]
    elif what == 1:
        case.path = re.sub(rb"%[0-9A-F]{2}", lambda found: unquote_to_bytes(found[0]), old, count=rng.randrange(1, 3))
    elif what == 2:
        case.path = old.replace(b"%", b"%25", rng.randrange(1, 4))
    else:
        case.path = re.sub(rb"%3A|%2F", lambda found: found[0].lower(), old, count=rng.randrange(1, 4))
    return None if case.path == old else _moves(case)


def _arn(rng: random.Random, case: Case) -> bool | None:
    """Name another resource."""
    found = _LABEL.fullmatch(case.path)
    if found is None:
        return None
    arn = unquote_to_bytes(found[1]).decode("latin-1")
    parts = arn.split(":")
    others = [
        arn.replace("000000000000", "111111111111"),
        arn.replace("us-east-1", "eu-west-1"),
        arn.replace("runtime/", "gateway/"),
        arn.replace("arn:aws:", "arn:aws-cn:"),
        arn + "/runtime-endpoint/OTHER",
        arn + "/runtime-endpoint/DEFAULT",
        arn + "/runtime-endpoint/DEFAULT/x",
        arn[:-1],
        arn + "\n",
        arn + "\u0661",
        arn.upper(),
        parts[-1].rpartition("/")[2],
        "*",
        "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/*",
        arn * 20,
        "a" * 3000,
        "\x00",
        "..",
        rng.choice(parts),
    ]
    case.path = b"/runtimes/" + quote(rng.choice(others), safe="").encode() + b"/" + found[2]
    if rng.random() < 0.3:
        case.query = b"&".join(
            filter(None, [case.query, b"accountId=" + rng.choice([b"000000000000", b"1", b"111111111111"])])
        )
    return _moves(case)


def _other_runtime(known: Mapping[str, object]) -> Change:
    def change(rng: random.Random, case: Case) -> bool | None:
        """Show the same credentials to another runtime."""
        found = _LABEL.fullmatch(case.path)
        if found is None:
            return None
        old = case.path
        case.path = b"/runtimes/" + quote(rng.choice(list(known)), safe="").encode() + b"/" + found[2]
        return None if case.path == old else _moves(case)

    return change


def _door(rng: random.Random, case: Case) -> bool | None:
    found = _LABEL.fullmatch(case.path)
    door = rng.choice(_DOORS)
    if found is None or door == found[2]:
        return None
    case.path = b"/runtimes/" + found[1] + b"/" + door
    return _moves(case)


def _elsewhere(rng: random.Random, case: Case) -> bool:
    case.path = rng.choice(_ROUTES)
    return False


def _long(rng: random.Random, case: Case) -> bool:
    case.path += rng.choice([b"/a", b"%41", b"/..", b"/%2e%2e", b"a"]) * rng.choice([50, 3000, 30_000])
    return _moves(case)


def _whole(rng: random.Random, case: Case) -> bool | None:
    """Escape everything that may be escaped, slashes included or not."""
    old = case.path
    case.path = b"/" + quote_from_bytes(unquote_to_bytes(old[1:]), safe=rng.choice(["", "/", "/:"])).encode()
    return None if case.path == old else _moves(case)


def changes(runtimes: Mapping[str, object]) -> Mapping[str, Change]:
    """Return every change by its name; `runtimes` are all ARNs."""
    return {
        "a piece more": _piece,
        "another escape": _escape,
        "another ARN": _arn,
        "another runtime": _other_runtime(runtimes),
        "another door": _door,
        "elsewhere": _elsewhere,
        "a long path": _long,
        "escaped as a whole": _whole,
    }
