"""Changes of JSON Web Tokens: what the issuer would never sign, what it signed for another purpose, and what nobody signed."""

import base64
import hashlib
import hmac
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.fakes.issuer import SigningKey, b64
from tests.fuzz.cases import Case, Change
from tests.fuzz.world import SENTINEL, Mint

_HEADERS: tuple[tuple[str, Any, bool], ...] = (
    ("alg", "none", True),
    ("alg", "None", True),
    ("alg", "HS256", True),
    ("alg", "RS256", True),
    ("alg", "PS256", True),
    ("alg", "ES512", True),
    ("alg", ["ES256"], True),
    ("alg", 256, True),
    ("kid", "key-2", True),
    ("kid", "../../../dev/null", True),
    ("kid", "' OR 1=1 --", True),
    ("kid", ["key-1"], True),
    ("kid", 1, True),
    ("kid", "", True),
    ("kid", "key-1\x00", True),
    ("kid", "KEY-1", True),
    ("crit", ["exp"], True),
    ("crit", [], True),
    ("crit", ["b64"], True),
    ("b64", False, True),
    ("zip", "DEF", True),
    ("enc", "A256GCM", True),
    ("jku", "http://127.0.0.1:1/keys", True),
    ("x5u", "http://127.0.0.1:1/keys", True),
    ("jwk", {"kty": "oct", "k": "AA"}, True),
    ("x5c", ["AA"], False),
    ("typ", "at+jwt", False),
    ("typ", "application/at+JWT", False),
    ("typ", "id+jwt", True),
    ("typ", "dpop+jwt", True),
    ("typ", "logout+jwt", True),
    ("typ", 1, True),
    ("cty", "JWT", False),
    ("nonce", "n-0S6_WzA2Mj", False),
)
"""A member of the header, its value, and whether such a token must be refused. All are signed by the right key."""


def _claims(issuer: str) -> tuple[tuple[str, Any, bool], ...]:
    now = int(time.time())
    return (
        ("iss", issuer + "/", True),
        ("iss", issuer.upper(), True),
        ("iss", [issuer], True),
        ("iss", "https://issuer.example", True),
        ("iss", None, True),
        ("aud", "others", True),
        ("aud", "agent", True),
        ("aud", ["others", 1], True),
        ("aud", {"agents": True}, True),
        ("aud", [], True),
        ("aud", "agents gateway", True),
        ("aud", None, True),
        ("aud", ["others", "agents", "gateway"], False),
        ("exp", now - 3600, True),
        ("exp", now - 61, True),
        ("exp", (now + 600) * 1000, True),
        ("exp", str(now + 600), True),
        ("exp", True, True),
        ("exp", None, True),
        ("exp", [now + 600], True),
        ("exp", 10**400, True),
        ("exp", 1e308, True),
        ("exp", float("nan"), True),
        ("exp", float("inf"), True),
        ("exp", now + 600.5, False),
        ("exp", -1, True),
        ("nbf", now + 3600, True),
        ("nbf", "now", True),
        ("nbf", float("-inf"), True),
        ("iat", now + 3600, True),
        ("iat", {}, True),
        ("sub", 5, True),
        ("sub", "", True),
        ("sub", "ada\nmallory", True),
        ("sub", "a" * 300, True),
        ("sub", "\ud800", True),
        ("sub", ["ada"], True),
        ("sub", None, False),
        ("jti", 7, True),
        ("cnf", {"jkt": "x"}, True),
        ("nonce", "n", False),
        ("token_use", "id", False),
        ("unknown", {"a": [{"b": [None]}]}, False),
    )


_STRICT = (
    ("client_id", "another", True),
    ("client_id", ["caller"], True),
    ("client_id", "caller ", True),
    ("client_id", None, True),
    ("scope", "agents.list", True),
    ("scope", "agents.invoke.all", True),
    ("scope", "agents.invoke\tagents.list", True),
    ("scope", "", True),
    ("scope", None, True),
    ("scope", "a agents.invoke b", False),
)
"""Claims that matter to the runtime with rules for them alone."""

_RAW = (
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"\xef\xbb\xbf{}",
    b"\xff",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"{" + b" " * 60_000 + b"}",
    b"1e999",
)


class _Shown:
    """The token in a case, wherever it stands."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.text = self._find()

    def _find(self) -> str:
        if self.case.base == "web identity":
            return dict(parse_qsl(self.case.body.decode("latin-1"))).get("WebIdentityToken", "")
        for value in self.case.values(b"authorization"):
            if value[:7].lower() == b"bearer ":
                return value[7:].decode("latin-1")
        found = re.search(rb"Authorization\.([A-Za-z0-9_-]+)", b",".join(self.case.values(b"sec-websocket-protocol")))
        try:
            return base64.urlsafe_b64decode(found[1] + b"==").decode("latin-1") if found else ""
        except ValueError:  # bent by another change
            return ""

    def put(self, token: str) -> None:
        """Show another token in the same place."""
        raw = token.encode("latin-1", "replace")
        self.case.secrets.append(raw[-24:] if len(raw) > 40 else b"")
        if self.case.base == "web identity":
            fields = dict(parse_qsl(self.case.body.decode("latin-1"))) | {"WebIdentityToken": token}
            self.case.body = urlencode(fields).encode()
        elif self.case.web_socket:
            carrier = base64.urlsafe_b64encode(raw).rstrip(b"=")
            self.case.put(b"sec-websocket-protocol", SENTINEL.encode() + b"." + carrier + b", " + SENTINEL.encode())
        else:
            self.case.put(b"authorization", b"Bearer " + raw)

    @property
    def parts(self) -> list[str]:
        return self.text.split(".")


Bend = Callable[[random.Random, Case, _Shown], bool | None]


def changes(mint: Mint) -> Mapping[str, Change]:
    """Return every change by its name, with the keys of this issuer."""
    key = mint.issuer.keys[0]

    def good(case: Case) -> dict[str, Any]:
        return mint.claims("gateway" if case.base == "web identity" else "agents")

    def header(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        name, value, doomed = rng.choice(_HEADERS)
        shown.put(key.token(good(case), {name: value}, sign_as="ES256"))
        return doomed

    def claim(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        choices = _claims(mint.issuer.issuer) + (_STRICT if case.base in {"bearer", "browser"} else ())
        name, value, doomed = rng.choice(choices)
        kept = {member: each for member, each in (good(case) | {name: value}).items() if each is not None}
        shown.put(key.token(json.dumps(kept).encode()))
        # The exchange needs a subject; «gateway» is one of several audiences only where it says so.
        return doomed or (case.base == "web identity" and name == "sub")

    def twice(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        claims = json.dumps(good(case))
        name, value = rng.choice(
            [("aud", '"others"'), ("exp", "1"), ("sub", '"mallory"'), ("iss", '"https://evil.example"')]
        )
        again = f'"{name}": {value}'
        text = rng.choice([claims[:-1] + ", " + again + "}", "{" + again + ", " + claims[1:]])
        head: bytes | None = None
        if rng.random() < 0.3:
            text, head = claims, b'{"alg":"ES256","alg":"ES256","kid":"key-1"}'
        shown.put(key.token(text.encode(), head))
        return True

    def raw(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        data = rng.choice(_RAW)
        shown.put(key.token(data) if rng.random() < 0.5 else key.token(good(case), data))
        return True

    def stranger(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        other = mint.stranger
        embedded = {"jwk": other.jwk()} if rng.random() < 0.3 else {}
        named = {"kid": rng.choice(["key-1", "key-2", "key-3", None])}
        shown.put(other.token(good(case), named | embedded))
        return True

    def confused(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        """Sign with what is public: the key as a shared secret (RFC 8725 §2.1), or nothing at all."""
        public = key.jwk()
        renderings = [json.dumps(public).encode(), public["x"].encode(), b"", b"key-1"]
        signed = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'key-1'}).encode())}.{b64(json.dumps(good(case)).encode())}"
        mac = hmac.digest(rng.choice(renderings), signed.encode(), hashlib.sha256)
        zeros = bytes(64)
        shown.put(signed + "." + b64(rng.choice([mac, zeros, mac[:1]])))
        return True

    def second_key(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        other: SigningKey = mint.issuer.keys[1]
        wrong = rng.random() < 0.6
        shown.put(other.token(good(case), {"alg": rng.choice(["PS256", "RS512", "ES256"])} if wrong else {}))
        return wrong

    def encoding(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        """Spell the same token in another way (RFC 7515 §2: there is one)."""
        parts = shown.parts
        if len(parts) != 3 or not all(parts):
            return None
        at = rng.randrange(3)
        part = parts[at]
        last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".find(part[-1])
        free = {2: 15, 3: 3}.get(len(part) % 4, 0)
        loose = (
            part[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ (1 if free else 0)]
        )
        standard = part.replace("-", "+").replace("_", "/")
        parts[at] = rng.choice(
            [part + "=", part + "==", loose, part + "\n", " " + part, standard, part[:-1], part + "A"]
        )
        changed = ".".join(parts)
        if changed == shown.text:
            return None
        shown.put(changed)
        return True

    def segments(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        parts = shown.parts
        what = rng.randrange(7)
        if what == 0:
            parts.pop(rng.randrange(len(parts)))
        elif what == 1:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        elif what == 2:
            parts = [*parts, "", ""]
        elif what == 3:
            parts[rng.randrange(len(parts))] = ""
        elif what == 4:
            parts = parts * rng.choice([2, 500])
        elif what == 5:
            parts = ["a" * 20_000, *parts[1:]]
        else:
            before = list(parts)
            rng.shuffle(parts)
            if parts == before:
                return None
        shown.put(".".join(parts))
        return True

    def scheme(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        if case.web_socket or case.base == "web identity":
            return None
        token = shown.text.encode("latin-1")
        harmless = [b"bearer " + token, b"BEARER " + token, b" Bearer " + token + b" "]
        bad = [
            b"Bearer  " + token,
            b"Bearer\t" + token,
            b"Bearer" + token,
            token,
            b"DPoP " + token,
            b"Bearer " + token + b", x",
        ]
        bad += [b"Bearer " + token + b" " + token, b'Bearer token="' + token + b'"', b"Bearer:" + token]
        value = rng.choice(harmless + bad)
        case.put(b"authorization", value)
        return value in bad

    def carrier(rng: random.Random, case: Case, shown: _Shown) -> bool | None:
        if not case.web_socket or not shown.text:
            return None
        offer = b"".join(case.values(b"sec-websocket-protocol")[:1])
        one = offer.partition(b",")[0]
        bad = [
            one,
            SENTINEL.encode(),
            one + b"=, " + SENTINEL.encode(),
            offer + b", " + one,
            one[:-9] + b", " + SENTINEL.encode(),
        ]
        case.put(b"sec-websocket-protocol", rng.choice(bad))
        if rng.random() < 0.3:
            case.put(b"sec-websocket-protocol", offer)
            case.headers.append((b"authorization", b"Bearer " + mint.stranger.token(good(case)).encode()))
        return True

    bends: dict[str, Bend] = {
        "a header member": header,
        "a claim": claim,
        "a name twice": twice,
        "no object": raw,
        "a stranger's key": stranger,
        "a confused key": confused,
        "the second key": second_key,
        "another encoding": encoding,
        "other segments": segments,
        "another scheme": scheme,
        "another carrier": carrier,
    }

    def of(bend: Bend) -> Change:
        def change(rng: random.Random, case: Case) -> bool | None:
            shown = _Shown(case)
            return bend(rng, case, shown) if shown.text else None

        return change

    return {name: of(bend) for name, bend in bends.items()}
