"""Bearer tokens that are verified at once: those that the long way would let in, with keys that are here, or none."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
from prometheus_client import REGISTRY

from identity_gateway.egress import Egress
from identity_gateway.errors import GatewayError
from identity_gateway.inbound import BearerTokens, bearer_tokens
from identity_gateway.keysets import KeySets
from identity_gateway.model import Document, Secret
from identity_gateway.protocol.jwt import SignedClaims, token
from tests.fakes.clock import Clock
from tests.fakes.issuer import FakeIssuer, SigningKey, Vice, b64

KEYS = {alg: SigningKey.make(alg, alg) for alg in ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")}
RUNTIME = "hello-AbCdEf1234"


@dataclass
class Door:
    issuer: FakeIssuer
    keysets: KeySets
    tokens: BearerTokens
    clock: Clock

    def token(self, key: SigningKey = KEYS["ES256"], header: dict[str, Any] | None = None, **claims: Any) -> str:
        given = {"iss": self.issuer.issuer, "sub": "alice", "aud": "agents", "exp": self.clock.now + 3600} | claims
        return key.token({name: value for name, value in given.items() if value is not None}, header)

    def authorizer(self, **rules: Any) -> Document:
        return {"discoveryUrl": self.issuer.discovery_url} | (rules or {"allowedAudience": ["agents"]})

    async def verify(self, token: str, version: int = 1, **rules: Any) -> SignedClaims | None:
        """Return what the long way does, or None where it refuses; it has never seen the token before."""
        tokens = BearerTokens(self.keysets, clock=self.clock)
        try:
            return await tokens.verify(Secret(token), self.authorizer(**rules), runtime_id=RUNTIME, version=version)
        except GatewayError:
            return None

    def at_once(self, token: str, version: int = 1, **rules: Any) -> SignedClaims | None:
        return self.tokens.at_once(
            token.encode("latin-1"), self.authorizer(**rules), runtime_id=RUNTIME, version=version
        )


@pytest.fixture
async def door(clock: Clock) -> AsyncIterator[Door]:
    """A guarded runtime whose issuer's keys are here."""
    async with FakeIssuer(*KEYS.values()) as issuer:
        keysets = KeySets(Egress((ip_network("127.0.0.0/8"),)), clock=clock)
        await keysets.get(issuer.discovery_url)
        yield Door(issuer, keysets, BearerTokens(keysets, clock=clock), clock)
        await keysets.aclose()


# --- What is not served at once ---


async def test_a_token_of_an_issuer_that_was_not_asked_is_left_to_the_long_way(door: Door):
    door.keysets.purge(door.issuer.discovery_url)
    assert door.at_once(door.token()) is None


async def test_a_token_of_keys_that_are_too_old_is_left_to_the_long_way(door: Door):
    door.issuer.fail(Vice.ERROR)
    door.clock.now += 86_400
    assert door.at_once(door.token()) is None


@pytest.mark.parametrize("kid", ["stranger", None])
async def test_a_token_of_an_unknown_key_is_left_to_the_long_way(door: Door, kid: str | None):
    before = door.issuer.requests.total()
    assert door.at_once(door.token(SigningKey.make("ES256", kid))) is None
    assert door.issuer.requests.total() == before


CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://issuer.test"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "others"},
    "no audience": {"aud": None},
    "an audience that is none": {"aud": ["agents", 1]},
    "expired": {"exp": 1},
    "no expiry": {"exp": None},
    "an expiry that is none": {"exp": True},
    "an expiry in milliseconds": {"exp": 1_800_000_000_000},
    "not yet": {"nbf": 4_000_000_000},
    "issued later": {"iat": 4_000_000_000},
    "an empty subject": {"sub": ""},
    "a subject that is none": {"sub": 1},
    "a subject of controls": {"sub": "a\nb"},
    "a long subject": {"sub": "a" * 256},
    "an id that is none": {"jti": 1},
    "bound to a key": {"cnf": {"jkt": "a"}},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS)
async def test_a_token_with_other_claims_is_not_verified_at_once(door: Door, claims: dict[str, Any]):
    assert door.at_once(door.token()) is not None
    refused = door.token(**claims)
    assert (door.at_once(refused), await door.verify(refused)) == (None, None)


HEADERS: dict[str, dict[str, Any]] = {
    "a nonce": {"crit": ["nonce"], "nonce": "a"},
    "another type": {"typ": "logout+jwt"},
    "a type that is none": {"typ": 1},
    "a key": {"jwk": {"kty": "EC"}},
    "a place of keys": {"jku": "https://issuer.test/keys"},
    "compressed": {"zip": "DEF"},
    "another algorithm": {"alg": "ES384"},
    "no algorithm": {"alg": "none"},
    "a shared secret": {"alg": "HS256"},
    "another key": {"kid": "RS256"},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
async def test_a_token_with_another_header_is_not_verified_at_once(door: Door, header: dict[str, Any]):
    assert door.at_once(door.token()) is not None
    refused = door.token(header=header)
    assert (door.at_once(refused), await door.verify(refused)) == (None, None)


def _with_part(place: int, part: str) -> Any:
    def edited(token: str) -> str:
        parts = token.split(".")
        return ".".join([*parts[:place], part, *parts[place + 1 :]])

    return edited


def _other(token: str, place: int) -> str:
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]


EDITS = {
    "nothing": lambda token: "",
    "no dots": lambda token: token.replace(".", ""),
    "four parts": lambda token: token + ".a",
    "five parts": lambda token: token + ".a.b",
    "no signature": lambda token: token.rpartition(".")[0] + ".",
    "another signature": lambda token: _other(token, -20),
    "a shorter signature": lambda token: token[:-4],
    "another payload": lambda token: _other(token, token.index(".") + 20),
    "another header": lambda token: _other(token, 5),
    "padding": lambda token: token + "==",
    "unused bits": lambda token: token[:-1] + chr(ord(token[-1]) + 1),
    "a blank": lambda token: token.replace(".", ". ", 1),
    "a line feed": lambda token: token + "\n",
    "the other alphabet": lambda token: token[:-9] + "+/" + token[-7:],
    "letters beyond ASCII": lambda token: token[:-9] + "\xe4" + token[-8:],
    "too long": lambda token: token + "A" * 20_000,
    "a payload that is a list": _with_part(1, b64(b"[]")),
    "a payload that is nothing": _with_part(1, b64(b"null")),
    "a payload twice": _with_part(1, b64(b'{"sub":"a","sub":"b"}')),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a_token_that_was_changed_is_not_verified_at_once(door: Door, edit: Any):
    assert door.at_once(door.token()) is not None
    edited = edit(door.token())
    assert (door.at_once(edited), await door.verify(edited.encode("ascii", "replace").decode())) == (None, None)


PAYLOADS = {
    "two subjects": b'{"sub": "mallory", %b}',
    "a list": b"[{%b}]",
    "two objects": b"{%b}{}",
    "an unfinished object": b"{%b",
    "not a number": b'{"x": NaN, %b}',
    "infinity": b'{"x": 1e999, %b}',
    "a large integer": b'{"x": 9223372036854775808, %b}',
    "a half character": b'{"x": "\\ud800", %b}',
    "not UTF-8": b'{"x": "\xff", %b}',
    "a mark of byte order": b"\xef\xbb\xbf{%b}",
    "deep": b'{"x": ' + b"[" * 40 + b"]" * 40 + b", %b}",
    "a control character": b'{"x": "\n", %b}',
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_signed_payload_of_doubtful_meaning_is_not_verified_at_once(door: Door, payload: bytes):
    members = {"iss": door.issuer.issuer, "sub": "alice", "aud": "agents", "exp": door.clock.now + 60}
    shown = KEYS["ES256"].token(payload.replace(b"%b", json.dumps(members)[1:-1].encode()))
    assert (door.at_once(shown), await door.verify(shown)) == (None, None)


@pytest.mark.parametrize(
    "rules",
    [
        {"allowedAudience": ["others"]},
        {"allowedClients": ["others"]},
        {"allowedScopes": ["write"]},
        {"allowedAudience": []},
        {"privateEndpoint": {}, "allowedAudience": ["agents"]},
    ],
)
async def test_a_token_is_not_verified_at_once_by_an_authorizer_that_refuses_it(door: Door, rules: dict[str, Any]):
    shown = door.token(client_id="me", scope="read")
    assert door.at_once(shown) is not None
    assert door.at_once(shown, version=2, **rules) is None


async def test_an_authorizer_that_was_changed_in_its_place_is_another_authorizer(door: Door):
    assert door.at_once(door.token()) is not None
    assert door.at_once(door.token(jti="2"), allowedAudience=["others"]) is None


# --- What is served at once ---


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
async def test_a_fresh_token_is_verified_at_once_as_the_long_way_would(door: Door, key: SigningKey):
    for number in range(3):
        shown = door.token(key, jti=str(number))
        assert door.at_once(shown) == await door.verify(shown) is not None


MORE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an audience among others": ({"aud": ["others", "agents"]}, {}),
    "a client": ({"client_id": "me"}, {"allowedClients": ["you", "me"]}),
    "scopes": ({"scope": " read  write "}, {"allowedScopes": ["write"]}),
    "a list of scopes": ({"scp": ["read", "write"]}, {"allowedScopes": ["write"]}),
    "no user": ({"sub": None, "client_id": "me"}, {}),
    "a user beyond ASCII": ({"sub": "J\xfcrgen"}, {}),
}


@pytest.mark.parametrize(("claims", "rules"), MORE.values(), ids=MORE)
async def test_what_a_token_says_is_read_at_once_as_the_long_way_reads_it(
    door: Door, claims: dict[str, Any], rules: dict[str, Any]
):
    shown = door.token(**claims)
    assert door.at_once(shown, **rules) == await door.verify(shown, **rules) is not None


@pytest.mark.parametrize("form", [b"%b", b" %b", b"%b\r\n", b"\t%b "])
async def test_blanks_around_a_payload_mean_nothing(door: Door, form: bytes):
    members = {"iss": door.issuer.issuer, "sub": "alice", "aud": "agents", "exp": door.clock.now + 60}
    shown = KEYS["ES256"].token(form.replace(b"%b", json.dumps(members).encode()))
    assert door.at_once(shown) == await door.verify(shown) is not None


def counted() -> dict[str, float]:
    name = "identity_gateway_token_cache_total"
    return {result: REGISTRY.get_sample_value(name, {"result": result}) or 0 for result in ("hit", "miss")}


async def test_a_token_that_the_long_way_verified_is_known_at_once(door: Door):
    shown, before = door.token(), counted()
    first = await door.tokens.verify(Secret(shown), door.authorizer(), runtime_id=RUNTIME, version=1)
    assert door.at_once(shown) is first
    assert counted() == {"hit": before["hit"] + 1, "miss": before["miss"] + 1}


async def test_a_token_that_was_verified_at_once_is_not_remembered(door: Door):
    shown = door.token()
    assert door.at_once(shown) == door.at_once(shown) is not None
    assert not door.tokens._verified


async def test_a_token_that_is_left_to_the_long_way_is_not_counted(door: Door):
    before = counted()
    door.at_once(door.token(aud="others"))
    assert counted() == before


async def test_a_token_that_expired_is_not_verified_at_once_although_it_was_remembered(door: Door):
    shown = door.token(exp=door.clock.now + 10)
    assert door.at_once(shown) is not None
    door.clock.now += 70
    assert door.at_once(shown) is None


async def test_a_token_is_forgotten_when_its_issuer_changes_its_keys(door: Door):
    shown = door.token()
    assert door.at_once(shown) is not None
    new = door.issuer.rotate()
    assert await door.verify(door.token(new)) is not None
    assert door.at_once(shown) is None


async def test_tokens_of_a_new_key_are_verified_at_once_when_it_is_known(door: Door):
    assert door.at_once(door.token()) is not None
    new = door.issuer.rotate()
    assert door.at_once(door.token(new)) is None
    assert await door.verify(door.token(new)) is not None
    assert door.at_once(door.token(new, jti="2")) is not None


async def test_what_is_remembered_of_authorizers_and_headers_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bearer_tokens, "_READY_RULES", 2)
    monkeypatch.setattr(token, "_HEADERS", 2)
    for number in range(5):
        assert door.at_once(door.token(header={"x": number}, jti=str(number)), version=number)
        assert door.at_once(door.token(header={"x": number}, jti=str(number)))
    rules = door.tokens._rules
    assert (len(rules), {len(each.headers._known) for each in rules.values()} <= {1, 2}) == (2, True)


async def test_headers_are_not_learnt_from_tokens_that_are_refused(door: Door):
    assert door.at_once(door.token()) is not None
    known = next(iter(door.tokens._rules.values())).headers._known
    before = dict(known)
    for number in range(3):
        assert door.at_once(door.token(header={"x": number}, aud="others")) is None
    assert known == before


# --- Tokens like one that was let in ---


class Alike:
    """What stands in for `Door.at_once` once a token was let in: those like it, and nothing else."""

    def __init__(self, door: Door, first: str, **rules: Any) -> None:
        self._door, self._where = door, {"runtime_id": RUNTIME, "version": 1}
        claims = door.at_once(first, **rules)
        assert claims is not None
        self.likeness = door.tokens.likeness(first.encode(), claims, door.authorizer(**rules), **self._where)

    def until(self, token: str) -> float | None:
        keys = self._door.keysets.peek(self._door.issuer.discovery_url)
        if keys is None or self.likeness is None:
            return None
        return self._door.tokens.at_once_like(self.likeness, token.encode("latin-1"), keys)


def usual(door: Door, key: SigningKey = KEYS["ES256"], header: dict[str, Any] | None = None, **claims: Any) -> str:
    given = {"jti": "1", "exp": int(door.clock.now) + 3600, "iat": 1_700_000_000, "nbf": 1_700_000_000}
    return door.token(key, header, **(given | claims))


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
async def test_a_token_like_one_that_was_let_in_is_let_in_until_it_expires(door: Door, key: SigningKey):
    alike = Alike(door, usual(door, key))
    for number in (2, 30_000):
        shown = usual(door, key, jti=f"{number}-x", exp=int(door.clock.now) + number)
        proven = await door.verify(shown)
        assert proven is not None
        assert alike.until(shown) == proven.expires_at


async def test_a_token_like_another_that_grew_too_long_is_refused(door: Door):
    filler = "f" * ((token.MAX_TOKEN_LENGTH - len(usual(door, filler=""))) * 3 // 4 - 8)
    alike = Alike(door, usual(door, filler=filler))
    assert alike.until(usual(door, filler=filler, jti="2")) is not None
    assert alike.until(usual(door, filler=filler, jti="2" * 128)) is None


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
async def test_the_signature_of_a_token_like_another_is_checked(door: Door, key: SigningKey):
    alike = Alike(door, usual(door, key))
    shown, stolen = usual(door, key, jti="2"), usual(door, key, jti="3")
    assert alike.until(shown) is not None
    for edited in (_other(shown, -20), shown[:-4], shown.rpartition(".")[0] + "." + stolen.rpartition(".")[2]):
        assert alike.until(edited) is None


NOT_ALIKE: dict[str, dict[str, Any]] = {
    "another user": {"sub": "bob"},
    "an audience more": {"aud": ["agents", "others"]},
    "a claim more": {"scope": "read"},
    "a claim less": {"iat": None},
    "a time as text": {"iat": "1700000000"},
    "a fraction of a second": {"iat": 1_700_000_000.5},
    "a short time": {"iat": 170_000_000},
    "a long time": {"iat": 17_000_000_000},
    "an id with an escape": {"jti": 'a","sub":"bob'},
    "an id beyond ASCII": {"jti": "\xe4"},
    "a long id": {"jti": "1" * 129},
    "an empty id": {"jti": ""},
}


@pytest.mark.parametrize("claims", NOT_ALIKE.values(), ids=NOT_ALIKE)
async def test_a_token_with_another_claim_is_not_like_one_without(door: Door, claims: dict[str, Any]):
    alike = Alike(door, usual(door))
    assert alike.until(usual(door, jti="2")) is not None
    assert alike.until(usual(door, **claims)) is None


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS)
async def test_a_token_like_another_with_claims_that_are_refused_is_refused(door: Door, claims: dict[str, Any]):
    assert Alike(door, usual(door)).until(usual(door, **claims)) is None


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
async def test_a_token_like_another_but_for_its_header_is_refused(door: Door, header: dict[str, Any]):
    assert Alike(door, usual(door)).until(usual(door, header=header)) is None


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a_token_like_another_that_was_changed_is_refused(door: Door, edit: Any):
    assert Alike(door, usual(door)).until(edit(usual(door))) is None


@pytest.mark.parametrize(
    ("name", "ahead"),
    [("exp", -61), ("exp", 10 * 366 * 86_400 + 1), ("nbf", 61), ("iat", 61)],
)
async def test_the_times_of_a_token_like_another_are_checked(door: Door, name: str, ahead: int):
    alike = Alike(door, usual(door))
    shown = usual(door, **{name: int(door.clock.now) + ahead})
    assert (alike.until(shown), await door.verify(shown)) == (None, None)


async def test_a_token_like_another_is_refused_when_its_issuer_has_other_keys(door: Door):
    alike = Alike(door, usual(door))
    shown, new = usual(door), door.issuer.rotate()
    assert await door.verify(door.token(new)) is not None
    assert alike.until(shown) is None


SPELT = {
    "an escape": b'{"iss":"%s","sub":"alice","aud":"agents","exp":%d,"x":"\\u0041"}',
    "a name spelt in another way": b'{"iss":"%s","sub":"alice","aud":"agents","\\u0065xp":%d,"x":{"exp":1700000000}}',
    "the time of something else": b'{"iss":"%s","sub":"alice","aud":"agents","exp":%d,"x":{"exp":1700000000}}',
    "a text of that name": b'{"iss":"%s","sub":"alice","aud":"agents","exp":%d,"x":"exp"}',
}


@pytest.mark.parametrize("payload", SPELT.values(), ids=SPELT)
async def test_where_a_claim_stands_must_be_beyond_doubt(door: Door, payload: bytes):
    whole = payload % (door.issuer.issuer.encode(), int(door.clock.now) + 60)
    assert Alike(door, KEYS["ES256"].token(whole)).likeness is None


async def test_a_claim_that_a_rule_compares_may_not_be_another(door: Door):
    rule = {
        "inboundTokenClaimName": "jti",
        "inboundTokenClaimValueType": "STRING",
        "authorizingClaimMatchValue": {"claimMatchOperator": "EQUALS", "claimMatchValue": {"matchValueString": "1"}},
    }
    alike = Alike(door, usual(door), customClaims=[rule])
    assert alike.until(usual(door, iat=1_700_000_001)) is not None
    assert alike.until(usual(door, jti="2")) is None


# --- Canonical base64url ---


def _by_the_book(text: str) -> bytes | None:
    """Return what a text of the alphabet says, if it is how one writes that."""
    if not text or any(not (letter.isalnum() or letter in "-_") or not letter.isascii() for letter in text):
        return None
    if len(text) % 4 == 1:
        return None
    read = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return read if base64.urlsafe_b64encode(read).rstrip(b"=").decode() == text else None


def _decoded(text: str) -> bytes | None:
    try:
        return token.base64url(text.encode("ascii", "replace"))
    except ValueError:
        return None


@pytest.mark.parametrize("rest", ["", "A", "AB", "ABC", "ABCDEF", "ABCDEFG"])
def test_a_text_is_decoded_if_it_is_canonical_whatever_stands_in_it(rest: str):
    texts = [f"{start}{chr(letter)}{rest[len(start) :]}" for letter in range(300) for start in (rest, rest[:1], "")]
    assert [_decoded(text) for text in texts] == [_by_the_book(text) for text in texts]
