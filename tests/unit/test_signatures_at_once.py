"""Signatures that are verified at once: whom the long way would let in, or nobody, and never longer than it would."""

import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from identity_gateway.access_keys import AccessKeys
from identity_gateway.errors import GatewayError
from identity_gateway.identity_providers import packaged
from identity_gateway.inbound import Signatures, signatures
from identity_gateway.model import IamPrincipal, Role, Secret
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.protocol.sigv4 import forms
from identity_gateway.records.changes import OWN_LONGEST, Changes
from identity_gateway.records.connect import open_engines
from identity_gateway.records.sql import SqlRecords
from identity_gateway.roles import Roles
from identity_gateway.sealing import Sealer
from identity_gateway.server import forms as server_forms
from identity_gateway.server.forms import Form
from identity_gateway.temporary_credentials import Issued
from tests.fakes.clock import Clock
from tests.fakes.signing_keys import ACCOUNT, REALM, signatures_of, temporary_credentials
from tests.fakes.sigv4_client import (
    ARN,
    KEY_ID,
    NOW,
    SCOPE,
    SECRET,
    URL,
    added,
    changed,
    digest,
    presigned,
    signed,
    without,
)

BODY = b'{"prompt":"hello"}'
POLICY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
TRUST = {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*"]}
SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
USUAL = {
    "content-type": "application/json",
    "user-agent": "Boto3/1.44 md/Botocore#1.44 ua/2.1",
    "amz-sdk-request": "attempt=1",
    SESSION: "s" * 40,
}

Proven = tuple[IamPrincipal, SignedRequest]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Callable[[], Changes]]:
    """Map the marks of the database once more, as another process would."""
    opened: list[Changes] = []

    def again() -> Changes:
        opened.append(Changes(tmp_path / "changes", longest=OWN_LONGEST))
        return opened[-1]

    yield again
    for each in opened[1:]:
        each.close()


@pytest.fixture
async def records(empty_database: Path, tmp_path: Path, shared: Callable[[], Changes]) -> AsyncIterator[SqlRecords]:
    path = shutil.copy(empty_database, tmp_path / "records.sqlite")
    opened = SqlRecords(*open_engines(f"sqlite:///{path}"), shared())
    yield opened
    await opened.close()


def keys_in(records: SqlRecords, clock: Clock) -> AccessKeys:
    return AccessKeys(records, Sealer([b"k" * 32], "access-keys"), ACCOUNT, clock=clock)


@pytest.fixture
def keys(records: SqlRecords, clock: Clock) -> AccessKeys:
    made = keys_in(records, clock)
    made.use_root(KEY_ID, Secret(SECRET))
    return made


@pytest.fixture
def door(keys: AccessKeys, records: SqlRecords, clock: Clock) -> Signatures:
    return signatures_of(keys, records, clock)


@pytest.fixture
def roles(records: SqlRecords, clock: Clock) -> Roles:
    return Roles(records, REALM, packaged(), clock=clock)


@pytest.fixture
async def role(roles: Roles) -> Role:
    return await roles.create("reader", POLICY, TRUST)


@pytest.fixture
def issued(role: Role, clock: Clock) -> Issued:
    return temporary_credentials(clock).issue(role, "ada", lifetime=900, source="arn:aws:iam::000000000000:user/ada")


def usual(key_id: str = KEY_ID, secret: str = SECRET, body: bytes = BODY, **more: str) -> Request:
    return signed(headers=USUAL | more, body=body, key_id=key_id, secret=secret)


def in_session(given: Issued) -> Request:
    token = given.session_token.reveal()
    return signed(body=BODY, key_id=given.access_key_id, secret=given.secret.reveal(), token=token)


async def the_long_way(door: Signatures, request: Request, body: bytes = BODY) -> Proven | None:
    """Return whom the long way lets in, or None where it refuses."""
    try:
        return await door.verify(door.present(request), digest(body))
    except GatewayError:
        return None


async def warmed(door: Signatures, request: Request, body: bytes = BODY) -> Proven:
    """Verify a request the long way, and then at once."""
    first = await the_long_way(door, request, body)
    second = door.at_once(request, digest(body))
    assert first is not None
    assert second == first
    return first


# --- What is not served at once ---


def test_a_request_of_a_form_that_was_not_verified_is_left_to_the_long_way(door: Signatures):
    assert door.at_once(usual(), digest(BODY)) is None


async def test_a_form_is_not_learnt_from_a_signature_that_does_not_hold(door: Signatures):
    assert await the_long_way(door, usual(secret="wrong")) is None
    assert door.at_once(usual(), digest(BODY)) is None


@pytest.mark.parametrize("seconds", [-300.1, 300.1, -86400, 86400])
async def test_a_signature_of_another_time_is_not_verified_at_once(door: Signatures, clock: Clock, seconds: float):
    await warmed(door, usual())
    clock.now += seconds
    assert door.at_once(usual(), digest(BODY)) is None


@pytest.mark.parametrize("seconds", [-300.0, -299.9, 0.0, 299.9, 300.0])
async def test_the_window_of_time_is_that_of_the_long_way(door: Signatures, clock: Clock, seconds: float):
    await warmed(door, usual())
    clock.now += seconds
    await warmed(door, usual())


@pytest.mark.parametrize("body", [b"", BODY + b" "])
async def test_another_body_is_not_verified_at_once(door: Signatures, body: bytes):
    await warmed(door, usual())
    assert door.at_once(usual(), digest(body)) is None


async def test_a_body_that_is_not_the_declared_one_is_not_verified_at_once(door: Signatures):
    declaring = usual(**{"X-Amz-Content-SHA256": digest(b"other")})
    await warmed(door, usual(**{"X-Amz-Content-SHA256": digest(BODY)}))
    assert await the_long_way(door, declaring) is None
    assert door.at_once(declaring, digest(BODY)) is None


async def test_a_wrong_secret_is_not_verified_at_once(door: Signatures):
    await warmed(door, usual())
    assert door.at_once(usual(secret="wrong"), digest(BODY)) is None


async def test_a_presigned_url_is_never_verified_at_once(door: Signatures):
    request = presigned()
    await door.verify(door.present_query(request), digest(b""))
    assert door.at_once(request, digest(b"")) is None


async def test_a_host_that_is_none_of_the_gateways_is_not_verified_at_once(
    keys: AccessKeys, records: SqlRecords, roles: Roles, clock: Clock
):
    named = Signatures(
        keys,
        temporary_credentials(clock),
        roles,
        SCOPE,
        clock=clock,
        max_skew=timedelta(minutes=5),
        hosts=frozenset({"gateway.test"}),
    )
    elsewhere = signed(url=URL.replace("gateway.test", "elsewhere.test"), headers=USUAL, body=BODY)
    await warmed(named, usual())
    assert await the_long_way(named, elsewhere) is None
    assert named.at_once(elsewhere, digest(BODY)) is None


# --- What is changed on the way ---


def _value(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Request], Request]:
    def edited(request: Request) -> Request:
        pairs = ((key, edit(value) if key == name.encode() else value) for key, value in request.headers)
        return replace(request, headers=tuple(pairs))

    return edited


EDITS: dict[str, Callable[[Request], Request]] = {
    "another method": lambda given: replace(given, method="PUT"),
    "another path": lambda given: replace(given, raw_path=given.raw_path.replace(b"hello", b"hallo")),
    "a longer path": lambda given: replace(given, raw_path=given.raw_path + b"/"),
    "a decoded path": lambda given: replace(given, raw_path=given.raw_path.replace(b"%3A", b":")),
    "no query": lambda given: replace(given, raw_query=b""),
    "another query": lambda given: replace(given, raw_query=b"qualifier=other"),
    "credentials in the query": lambda given: replace(given, raw_query=given.raw_query + b"&X-Amz-Signature=00"),
    "another session": _value(SESSION, lambda value: value[:-1] + b"t"),
    "a session in two words": _value(SESSION, lambda value: value[:20] + b" " + value[20:]),
    "a session with a run of blanks": _value(SESSION, lambda value: value[:20] + b"  " + value[20:]),
    "an empty session": _value(SESSION, lambda value: b""),
    "another type": _value("content-type", lambda value: b"text/plain"),
    "another host": _value("host", lambda value: b"gateway.test:8080"),
    "a host in capitals": _value("host", lambda value: value.upper()),
    "another second": _value("x-amz-date", lambda value: value[:-2] + b"3Z"),
    "no such second": _value("x-amz-date", lambda value: value[:-3] + b"61Z"),
    "another day": _value("x-amz-date", lambda value: b"20261121" + value[8:]),
    "a date that is none": _value("x-amz-date", lambda value: b"yesterday"),
    "a date with a blank": _value("x-amz-date", lambda value: b" " + value),
    "a date in other digits": _value("x-amz-date", lambda value: value[:-2] + b"\xb2Z"),
    "another key": lambda given: changed(given, "authorization", KEY_ID, "IGAKNOBODYNOBODYNOBO"),
    "another region": lambda given: changed(given, "authorization", "us-east-1", "us-east-2"),
    "another service": lambda given: changed(given, "authorization", "bedrock-agentcore", "sts"),
    "another day of the key": lambda given: changed(given, "authorization", "/20261122/", "/20261121/"),
    "a name less": lambda given: changed(given, "authorization", "host;", ""),
    "the session unsigned": lambda given: changed(given, "authorization", f";{SESSION}", ""),
    "a signature in capitals": _value("authorization", lambda value: value[:-64] + value[-64:].upper()),
    "a signature of zeros": _value("authorization", lambda value: value[:-64] + b"0" * 64),
    "a shorter signature": _value("authorization", lambda value: value[:-1]),
    "a longer signature": _value("authorization", lambda value: value + b"0"),
    "a signature that is no text": _value("authorization", lambda value: value[:-1] + b"\xe4"),
    "a blank after the signature": _value("authorization", lambda value: value + b" "),
    "a second signature": _value("authorization", lambda value: value + b", Signature=" + b"0" * 64),
    "no credentials": lambda given: without(given, "authorization"),
    "credentials twice": lambda given: replace(given, headers=(*given.headers, *given.headers[-1:])),
    "an empty Authorization": _value("authorization", lambda value: b""),
    "a token": _value("authorization", lambda value: b"Bearer a.b.c"),
    "no date": lambda given: without(given, "x-amz-date"),
    "two dates": lambda given: added(given, "x-amz-date", "20261122T171522Z"),
    "no host": lambda given: without(given, "host"),
    "two hosts": lambda given: added(given, "host", "elsewhere.test"),
    "a session twice": lambda given: added(given, SESSION, "t" * 40),
    "a header more": lambda given: added(given, "x-forwarded-for", "10.0.0.1"),
    "an unsigned user": lambda given: added(given, "x-amzn-bedrock-agentcore-runtime-user-id", "bob"),
    "an unsigned header of AWS": lambda given: added(given, "x-amz-target", "a"),
    "a token of a session": lambda given: added(given, "x-amz-security-token", "a"),
    "a declared body": lambda given: added(given, "x-amz-content-sha256", digest(BODY)),
    "a line break": _value("user-agent", lambda value: value + b"\r\nx-amz-target: a"),
    "a line break in a signed value": _value(SESSION, lambda value: value[:9] + b"\n" + value[9:]),
    "a line feed in place of a blank": _value("user-agent", lambda value: value.replace(b" ", b"\n", 1)),
    "a control character": _value("user-agent", lambda value: value + b"\x00"),
    "a tab": _value("user-agent", lambda value: value.replace(b" ", b"\t", 1)),
    "letters beyond ASCII": _value("user-agent", lambda value: value + b"\xe4"),
    "a name in capitals": lambda given: replace(
        given, headers=tuple((name.replace(b"host", b"HOST"), value) for name, value in given.headers)
    ),
    "another order": lambda given: replace(given, headers=given.headers[::-1]),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_what_was_changed_on_the_way_is_let_in_at_once_only_where_the_long_way_lets_it_in(
    door: Signatures, edit: Callable[[Request], Request]
):
    request = usual()
    await warmed(door, request)
    edited = edit(request)
    found = door.at_once(edited, digest(BODY))
    assert found is None or found == await the_long_way(door, edited)


UNSIGNED = ["a header more", "letters beyond ASCII", "another order"]


@pytest.mark.parametrize("edit", [EDITS[name] for name in EDITS if name not in UNSIGNED])
async def test_what_was_changed_on_the_way_is_not_let_in_at_once(door: Signatures, edit: Callable[[Request], Request]):
    await warmed(door, usual())
    assert door.at_once(edit(usual()), digest(BODY)) is None


@pytest.mark.parametrize("edit", [EDITS[name] for name in UNSIGNED], ids=UNSIGNED)
async def test_what_no_signature_covers_is_let_in_at_once_after_the_long_way_let_it_in(
    door: Signatures, edit: Callable[[Request], Request]
):
    await warmed(door, edit(usual()))


def _mutated(chance: random.Random, request: Request) -> Request:
    """Return the request with one byte changed, taken out or put in, somewhere."""

    def text(value: bytes) -> bytes:
        place, byte = chance.randrange(len(value) + 1), bytes([chance.choice(b"\0\t\n\r  ,;:%&=/.aA0Zz~\x7f\x80\xff")])
        return value[:place] + chance.choice([byte, b"", byte + byte]) + value[place + chance.randrange(2) :]

    which = chance.randrange(len(request.headers) + 3)
    if which == 0:
        return replace(request, raw_path=text(request.raw_path))
    if which == 1:
        return replace(request, raw_query=text(request.raw_query))
    if which == 2:
        return replace(request, method=text(request.method.encode()).decode("latin-1"))
    pairs = list(request.headers)
    name, value = pairs[which - 3]
    pairs[which - 3] = (text(name), value) if chance.random() < 0.2 else (name, text(value))
    return replace(request, headers=tuple(pairs))


@pytest.mark.parametrize("seed", range(8))
async def test_no_mutation_is_let_in_at_once_that_the_long_way_refuses(door: Signatures, seed: int):
    chance, request = random.Random(seed), usual(**{"X-Amz-Content-SHA256": digest(BODY)})
    await warmed(door, request)
    mutated = [_mutated(chance, request) for _ in range(250)]
    found = [door.at_once(each, digest(BODY)) for each in mutated]
    known = [await the_long_way(door, each) for each in mutated]
    assert [one for one, other in zip(found, known, strict=True) if one is not None and one != other] == []


# --- What is served at once ---


REQUESTS = {
    "an invocation": usual(),
    "a blank within": usual(**{"x-title": "a title: in words"}),
    "a declared body": usual(**{"X-Amz-Content-SHA256": digest(BODY)}),
    "no body": signed("GET", f"https://gateway.test/runtimes/{ARN}/", body=BODY),
    "a sorted query": signed(url=f"{URL}&b=2&a=%2F&a=1&c", body=BODY),
    "percent signs": signed(headers={"x-per%cent": "100% of %b"}, body=BODY),
    "letters beyond ASCII": added(usual(), "x-name", "J\xfcrgen"),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_what_was_verified_before_is_verified_at_once(door: Signatures, request_: Request):
    await warmed(door, request_)


async def test_a_request_of_a_known_form_is_verified_at_once_whatever_it_says(door: Signatures, clock: Clock):
    await warmed(door, usual())
    other = signed(headers=USUAL | {SESSION: "t" * 40}, body=b"{}", at=NOW + timedelta(seconds=7))
    assert door.at_once(other, digest(b"{}")) == await door.verify(door.present(other), digest(b"{}"))


async def test_a_known_form_is_verified_at_once_on_the_next_day(door: Signatures, clock: Clock):
    await warmed(door, usual())
    clock.now += 86400
    await warmed(door, signed(headers=USUAL, body=BODY, at=NOW + timedelta(days=1)))


async def test_the_key_of_another_caller_is_another_principal(door: Signatures, keys: AccessKeys):
    made = await keys.create("ci", admin=True)
    await warmed(door, usual())
    found, _ = await warmed(door, usual(made.id, made.secret.reveal()))
    assert found.name == "ci"


async def test_what_is_remembered_of_requests_is_bounded(door: Signatures, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forms, "_REMEMBERED", 3)
    for number in range(9):
        await warmed(door, usual(**{f"x-{number}": "a"}))
        await warmed(door, signed(url=f"{URL}&n={number}", headers=USUAL, body=BODY))
    learnt = door._forms
    assert {len(each) for each in (learnt._forms, learnt._targets, learnt._moments._known)} <= {1, 2, 3}


async def test_keys_that_are_kept_ready_are_bounded(
    door: Signatures, keys: AccessKeys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(signatures, "_READY", 2)
    for number in range(4):
        made = await keys.create(f"key-{number}", admin=True)
        await warmed(door, usual(made.id, made.secret.reveal()))
    assert len(door._ready) == 2


async def test_a_target_of_any_length_is_verified_but_not_remembered(door: Signatures):
    request = signed(url=f"{URL}&long={'a' * 3000}", headers=USUAL, body=BODY)
    assert await the_long_way(door, request) is not None
    assert door.at_once(request, digest(BODY)) is None


def test_what_is_remembered_shows_no_secret(door: Signatures):
    assert SECRET not in repr(door._ready)


# --- Keys that end ---


async def test_a_disabled_key_is_not_verified_at_once(door: Signatures, keys: AccessKeys):
    made = await keys.create("ci", admin=True)
    request = usual(made.id, made.secret.reveal())
    await warmed(door, request)
    await keys.disable(made.id)
    assert door.at_once(request, digest(BODY)) is None
    assert await the_long_way(door, request) is None
    assert door.at_once(request, digest(BODY)) is None


async def test_a_key_that_was_enabled_again_is_verified_at_once(door: Signatures, keys: AccessKeys):
    made = await keys.create("ci", admin=True)
    request = usual(made.id, made.secret.reveal())
    await warmed(door, request)
    await keys.disable(made.id)
    await keys.enable(made.id)
    await warmed(door, request)


@pytest.mark.parametrize("end", ["disable", "delete"])
async def test_a_key_that_another_process_ends_is_not_verified_at_once(
    door: Signatures, keys: AccessKeys, clock: Clock, tmp_path: Path, shared: Callable[[], Changes], end: str
):
    made = await keys.create("ci", admin=True)
    request = usual(made.id, made.secret.reveal())
    await warmed(door, request)
    other = SqlRecords(*open_engines(f"sqlite:///{tmp_path}/records.sqlite"), shared())
    await getattr(keys_in(other, clock), end)(made.id)
    assert door.at_once(request, digest(BODY)) is None
    await other.close()


async def test_a_key_that_expires_is_verified_at_once_until_then(door: Signatures, keys: AccessKeys, clock: Clock):
    made = await keys.create("ci", admin=True, lifetime=timedelta(seconds=60))
    request = usual(made.id, made.secret.reveal())
    await warmed(door, request)
    clock.now += 59.9
    await warmed(door, request)
    clock.now += 0.1
    assert door.at_once(request, digest(BODY)) is None


async def test_a_key_is_asked_for_again_when_its_watch_has_ended(
    door: Signatures, keys: AccessKeys, records: SqlRecords
):
    records.changes.longest = 0.0
    made = await keys.create("ci", admin=True)
    request = usual(made.id, made.secret.reveal())
    assert await the_long_way(door, request) is not None
    assert door.at_once(request, digest(BODY)) is None


# --- Sessions of roles ---


async def test_a_session_of_a_role_is_verified_at_once(door: Signatures, issued: Issued):
    found, _ = await warmed(door, in_session(issued))
    assert (found.name, found.session) == ("reader", "ada")


async def test_a_session_ends_at_once_with_its_role(door: Signatures, roles: Roles, issued: Issued):
    request = in_session(issued)
    await warmed(door, request)
    await roles.delete("reader")
    assert door.at_once(request, digest(BODY)) is None


async def test_a_session_does_not_outlive_its_role_by_a_namesake(
    door: Signatures, roles: Roles, issued: Issued, clock: Clock
):
    request = in_session(issued)
    await warmed(door, request)
    await roles.delete("reader")
    clock.now += 1
    await roles.create("reader", POLICY, TRUST)
    assert await the_long_way(door, request) is None
    assert door.at_once(request, digest(BODY)) is None


async def test_a_session_is_bound_at_once_by_the_new_policy_of_its_role(door: Signatures, roles: Roles, issued: Issued):
    request, narrow = in_session(issued), POLICY | {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
    await warmed(door, request)
    await roles.update("reader", policy=narrow)
    found, _ = await warmed(door, request)
    assert found.policy == narrow


async def test_a_session_ends_when_its_credentials_do(door: Signatures, issued: Issued, clock: Clock):
    clock.now = issued.expires_at - 1
    request = signed(
        body=BODY,
        key_id=issued.access_key_id,
        secret=issued.secret.reveal(),
        token=issued.session_token.reveal(),
        at=NOW + timedelta(seconds=clock.now - NOW.timestamp()),
    )
    await warmed(door, request)
    clock.now += 1
    assert door.at_once(request, digest(BODY)) is None


async def test_the_token_of_another_session_does_not_serve_beside_a_key_of_ones_own(
    door: Signatures, role: Role, issued: Issued, clock: Clock
):
    own = temporary_credentials(clock).issue(role, "mallory", lifetime=900, source="x")
    await warmed(door, in_session(issued))
    await warmed(door, in_session(own))
    borrowed = signed(
        body=BODY, key_id=own.access_key_id, secret=own.secret.reveal(), token=issued.session_token.reveal()
    )
    assert door.at_once(borrowed, digest(BODY)) is None


@pytest.mark.parametrize("token", ["a" * 300, "J\xfcrgen", "a.b.c"])
async def test_a_token_that_is_none_of_ours_is_not_verified_at_once(door: Signatures, issued: Issued, token: str):
    request = in_session(issued)
    await warmed(door, request)
    pairs = (
        (name, token.encode("latin-1") if name == b"x-amz-security-token" else value) for name, value in request.headers
    )
    assert door.at_once(replace(request, headers=tuple(pairs)), digest(BODY)) is None


# --- Requests like one that was let in ---


def wire(request: Request, body: bytes = BODY) -> bytes:
    """Return a request as it is sent, with the body's length at its end."""
    target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target), *(b"%b: %b" % field for field in request.headers)]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", b""]) + body


class Alike:
    """The form of a request that was let in, and who signed another of this form."""

    def __init__(self, door: Signatures, request: Request) -> None:
        fields = [*request.headers, (b"content-length", b"%d" % len(BODY))]
        target = request.raw_path + b"?" + request.raw_query
        form: Form[None] | None = server_forms.Forms[None]().learn(wire(request), target, fields)
        assert form is not None
        likeness = door.likeness(replace(request, headers=tuple(fields)), digest(BODY), form.at)
        assert likeness is not None
        self._door, self._form, self._likeness = door, form, likeness

    def signer(self, request: Request, body: bytes = BODY) -> IamPrincipal | None:
        read = self._form.read(wire(request, body))
        if read is None:
            return None
        values, body = read
        path, _, query = values[0].partition(b"?")
        return self._door.at_once_like(self._likeness, ("POST", path, query), values, digest(body))


async def warmed_alike(door: Signatures, request: Request) -> Alike:
    with_length = replace(request, headers=(*request.headers, (b"content-length", b"%d" % len(BODY))))
    await warmed(door, with_length)
    return Alike(door, request)


DECLARED = {"X-Amz-Content-SHA256": digest(BODY)}


@pytest.mark.parametrize("more", [{}, DECLARED], ids=["", "declared"])
async def test_a_request_like_one_that_was_let_in_is_its_signers(door: Signatures, more: dict[str, str]):
    alike = await warmed_alike(door, usual(**more))
    other = usual(**more | {SESSION: "t" * 40})
    found = await the_long_way(door, other)
    assert found is not None
    assert alike.signer(other) == found[0]


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a_request_like_another_that_was_changed_is_nobodys_where_the_long_way_says_so(
    door: Signatures, edit: Callable[[Request], Request]
):
    alike = await warmed_alike(door, usual())
    edited = edit(usual())
    found = alike.signer(edited)
    assert found is None or (found,) == (await the_long_way(door, edited) or ())[:1]


@pytest.mark.parametrize("seed", range(8))
async def test_no_mutation_of_a_request_like_another_is_let_in_that_the_long_way_refuses(door: Signatures, seed: int):
    chance, request = random.Random(seed), usual(**DECLARED)
    alike = await warmed_alike(door, request)
    for _ in range(250):
        mutated = _mutated(chance, request)
        found = alike.signer(mutated)
        assert found is None or (found,) == (await the_long_way(door, mutated) or ())[:1]


async def test_the_body_and_the_declared_body_of_a_request_like_another_are_checked(door: Signatures):
    alike = await warmed_alike(door, usual(**DECLARED))
    assert alike.signer(usual(**DECLARED)) is not None
    assert alike.signer(usual(**DECLARED), b"x" * len(BODY)) is None
    assert alike.signer(usual(**{"X-Amz-Content-SHA256": digest(b"other")})) is None


async def test_a_wrong_secret_is_not_let_in_by_likeness(door: Signatures):
    alike = await warmed_alike(door, usual())
    assert (alike.signer(usual()) is not None, alike.signer(usual(secret="wrong"))) == (True, None)


@pytest.mark.parametrize("seconds", [-300.1, 300.1, -86400, 86400])
async def test_the_time_of_a_request_like_another_is_checked(door: Signatures, clock: Clock, seconds: float):
    alike = await warmed_alike(door, usual())
    clock.now += seconds
    assert alike.signer(usual()) is None


async def test_a_key_that_is_disabled_signs_no_request_like_another(
    door: Signatures, records: SqlRecords, keys: AccessKeys, clock: Clock
):
    made = await keys.create("ada", admin=True)
    named = usual(made.id, made.secret.reveal())
    alike = await warmed_alike(door, named)
    assert alike.signer(named) is not None
    await keys_in(records, clock).disable(made.id)
    assert alike.signer(named) is None


async def test_a_role_that_is_gone_signs_no_request_like_another(door: Signatures, roles: Roles, issued: Issued):
    alike = await warmed_alike(door, in_session(issued))
    assert alike.signer(in_session(issued)) is not None
    await roles.delete("reader")
    assert alike.signer(in_session(issued)) is None


async def test_a_key_that_has_expired_signs_no_request_like_another(door: Signatures, keys: AccessKeys, clock: Clock):
    made = await keys.create("ci", admin=True, lifetime=timedelta(seconds=60))
    named = usual(made.id, made.secret.reveal())
    alike = await warmed_alike(door, named)
    clock.now += 59
    assert alike.signer(named) is not None
    clock.now += 1
    assert alike.signer(named) is None
