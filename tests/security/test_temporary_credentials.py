"""Attacks on temporary credentials. An attacker holds credentials of his own, a session token that leaked without its
secret, or credentials that were taken back."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.access_keys import AccessKeys
from identity_gateway.errors import (
    ExpiredCredentials,
    GatewayError,
    InvalidSignature,
    UselessCredentials,
    ValidationFailed,
)
from identity_gateway.identity_providers import packaged
from identity_gateway.inbound import Signatures
from identity_gateway.model import IamPrincipal, Role
from identity_gateway.protocol.request import EMPTY_SHA256, Request
from identity_gateway.protocol.sigv4 import Scope
from identity_gateway.records.sql import SqlRecords, open_records
from identity_gateway.roles import Roles
from identity_gateway.sealing import Sealer
from identity_gateway.temporary_credentials import Issued, TemporaryCredentials
from tests.fakes.clock import Clock
from tests.fakes.signing_keys import ACCOUNT, REALM, signatures_of, temporary_credentials
from tests.fakes.sigv4_client import NOW, SCOPE, presigned, signed

POLICY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
NARROW = {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
TRUST = {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[SqlRecords]:
    opened = await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    yield opened
    await opened.close()


@pytest.fixture
def roles(records: SqlRecords, clock: Clock) -> Roles:
    return Roles(records, REALM, packaged(), clock=clock)


@pytest.fixture
async def role(roles: Roles) -> Role:
    return await roles.create("reader", POLICY, TRUST)


@pytest.fixture
def keys(records: SqlRecords, clock: Clock) -> AccessKeys:
    return AccessKeys(records, Sealer([b"k" * 32], "access-keys"), ACCOUNT, clock=clock)


@pytest.fixture
def signatures(keys: AccessKeys, records: SqlRecords, clock: Clock) -> Signatures:
    return signatures_of(keys, records, clock)


@pytest.fixture
def temporary(clock: Clock) -> TemporaryCredentials:
    return temporary_credentials(clock)


@pytest.fixture
def issued(temporary: TemporaryCredentials, role: Role) -> Issued:
    return temporary.issue(role, "ada", lifetime=900, source="arn:aws:iam::000000000000:user/ada")


def used(given: Issued, **instead: Any) -> Request:
    """Return a request that is signed with temporary credentials, parts of them replaced."""
    parts = {
        "key_id": given.access_key_id, "secret": given.secret.reveal(), "token": given.session_token.reveal()
    }  # fmt: skip
    return signed(**(parts | instead))


async def caller(signatures: Signatures, request: Request) -> IamPrincipal:
    principal, _ = await signatures.verify(signatures.present(request), EMPTY_SHA256)
    return principal


async def refusal(signatures: Signatures, request: Request) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await caller(signatures, request)
    return caught.value


# --- Parts that do not belong together -------------------------------------------------------------------------------


async def test_a_temporary_key_does_not_sign_without_its_token(signatures: Signatures, issued: Issued):
    assert type(await refusal(signatures, used(issued, token=None))) is InvalidSignature


async def test_a_long_term_key_does_not_borrow_a_session(signatures: Signatures, keys: AccessKeys, issued: Issued):
    own = await keys.create("mallory")
    request = used(issued, key_id=own.id, secret=own.secret.reveal())
    assert type(await refusal(signatures, request)) is InvalidSignature


async def test_the_token_of_another_session_does_not_serve_beside_a_key_of_ones_own(
    signatures: Signatures, temporary: TemporaryCredentials, role: Role, issued: Issued
):
    own = temporary.issue(role, "mallory", lifetime=900, source="x")
    for request in (used(own, token=issued.session_token.reveal()), used(issued, token=own.session_token.reveal())):
        assert type(await refusal(signatures, request)) is InvalidSignature


async def test_a_stolen_token_is_worth_nothing_without_its_secret(
    signatures: Signatures, temporary: TemporaryCredentials, role: Role, issued: Issued
):
    own = temporary.issue(role, "mallory", lifetime=900, source="x")
    request = used(issued, secret=own.secret.reveal())
    assert type(await refusal(signatures, request)) is InvalidSignature


async def test_a_token_cannot_be_put_beside_a_signature_that_does_not_cover_it(signatures: Signatures, issued: Issued):
    request = used(issued, token=None)
    token = issued.session_token.reveal().encode()
    with pytest.raises(GatewayError, match="must be signed"):
        signatures.present(replace(request, headers=(*request.headers, (b"x-amz-security-token", token))))


# --- Tokens that are not ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 5, 9, 30, 100, -20, -1])
async def test_no_bit_of_a_token_can_be_changed(signatures: Signatures, issued: Issued, place: int):
    sealed = bytearray(base64.urlsafe_b64decode(issued.session_token.reveal() + "=="))
    sealed[place] ^= 1
    token = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    assert type(await refusal(signatures, used(issued, token=token))) is InvalidSignature


@pytest.mark.parametrize("token", ["x", "AAAA", "=", "e30.e30.e30", "A" * 9000, "%00", "null"])
async def test_a_token_that_is_none_is_answered_like_a_wrong_signature(
    signatures: Signatures, issued: Issued, token: str
):
    strange = await refusal(signatures, used(issued, token=token))
    wrong = await refusal(signatures, used(issued, secret="wrong"))
    assert (type(strange), strange.message) == (type(wrong), wrong.message)


@pytest.mark.parametrize("elsewhere", [{"master_key": b"o" * 32}, {"account": "111111111111"}])
async def test_the_token_of_another_gateway_or_account_does_not_open(
    signatures: Signatures, role: Role, clock: Clock, elsewhere: dict[str, Any]
):
    foreign = temporary_credentials(clock, **elsewhere).issue(role, "ada", lifetime=900, source="x")
    assert type(await refusal(signatures, used(foreign))) is InvalidSignature


async def test_what_was_sealed_for_another_purpose_is_no_session_token(temporary: TemporaryCredentials, clock: Clock):
    sealed = Sealer([b"k" * 32], "workload-access-token", period_seconds=3600).seal(
        b'{"k":"a"}', place=(ACCOUNT, "session-token"), now=clock()
    )
    assert temporary.open(base64.urlsafe_b64encode(sealed).decode()) is None


# --- Taken back ------------------------------------------------------------------------------------------------------


async def test_expired_credentials_say_so_to_their_owner_alone(signatures: Signatures, issued: Issued, clock: Clock):
    clock.now += 900
    later = {"at": NOW.fromtimestamp(clock.now, NOW.tzinfo)}
    owner = await refusal(signatures, used(issued, **later))
    thief = await refusal(signatures, used(issued, secret="wrong", **later))
    assert (type(owner), owner.code, owner.status) == (ExpiredCredentials, "ExpiredTokenException", 403)
    assert type(thief) is InvalidSignature


async def test_credentials_end_with_their_role(signatures: Signatures, roles: Roles, issued: Issued):
    await caller(signatures, used(issued))
    await roles.delete("reader")
    assert type(await refusal(signatures, used(issued))) is UselessCredentials


async def test_a_namesake_of_a_deleted_role_does_not_revive_its_credentials(
    signatures: Signatures, roles: Roles, issued: Issued, clock: Clock
):
    await roles.delete("reader")
    clock.now += 1
    await roles.create("reader", POLICY, TRUST)
    assert type(await refusal(signatures, used(issued))) is UselessCredentials


async def test_a_policy_that_was_taken_from_a_role_is_taken_from_its_sessions(
    signatures: Signatures, roles: Roles, issued: Issued
):
    await roles.update("reader", policy=NARROW)
    assert (await caller(signatures, used(issued))).policy == NARROW


async def test_a_key_that_was_disabled_signs_nothing_until_it_is_enabled(signatures: Signatures, keys: AccessKeys):
    own = await keys.create("ada", admin=True)
    request = signed(key_id=own.id, secret=own.secret.reveal())
    await keys.disable(own.id)
    assert type(await refusal(signatures, request)) is UselessCredentials
    await keys.enable(own.id)
    assert (await caller(signatures, request)).admin


async def test_a_disabled_key_is_not_told_from_an_unknown_one_without_its_secret(
    signatures: Signatures, keys: AccessKeys
):
    own = await keys.create("ada", admin=True)
    await keys.disable(own.id)
    disabled = await refusal(signatures, signed(key_id=own.id, secret="wrong"))
    unknown = await refusal(signatures, signed(key_id="IGAKNOBODYNOBODYNOBO"))
    assert (type(disabled), disabled.message) == (type(unknown), unknown.message)


@pytest.mark.parametrize("state", ["unknown", "disabled", "old session"])
async def test_a_key_of_no_use_does_not_make_the_gateway_keep_a_body(
    signatures: Signatures, keys: AccessKeys, issued: Issued, clock: Clock, state: str
):
    own = await keys.create("ada", admin=True)
    await keys.disable(own.id)
    clock.now += 900
    later = {"at": NOW.fromtimestamp(clock.now, NOW.tzinfo)}
    request = {
        "unknown": signed(key_id="IGAKNOBODYNOBODYNOBO", **later),
        "disabled": signed(key_id=own.id, secret="guess", **later),
        "old session": used(issued, secret="guess", **later),
    }[state]

    async def digest() -> str:
        return EMPTY_SHA256

    with pytest.raises(InvalidSignature):
        await signatures.refuse_stranger(signatures.present(request), digest)


# --- What a session may be -------------------------------------------------------------------------------------------


async def test_a_session_is_never_an_admin_even_of_a_role_that_allows_everything(
    signatures: Signatures, issued: Issued
):
    assert not (await caller(signatures, used(issued))).admin


@pytest.mark.parametrize("session", ["", "a", "a/b", "a b", "ä" * 3, "x" * 65, "a:b", "a\n", "*/admin"])
def test_the_name_of_a_session_cannot_forge_an_arn(temporary: TemporaryCredentials, role: Role, session: str):
    with pytest.raises(ValidationFailed):
        temporary.issue(role, session, lifetime=900, source="x")


@pytest.mark.parametrize("lifetime", [0, -1, 0.5, 3601, 10**9, float("nan"), float("inf")])
def test_a_session_does_not_outlive_what_its_role_allows(temporary: TemporaryCredentials, role: Role, lifetime: float):
    with pytest.raises(ValidationFailed):
        temporary.issue(role, "ada", lifetime=lifetime, source="x")


@pytest.mark.parametrize("policy", [{}, {"Version": "2012-10-17"}, {"Version": "2012-10-17", "Statement": []}])
def test_a_session_policy_that_says_nothing_is_refused(
    temporary: TemporaryCredentials, role: Role, policy: dict[str, Any]
):
    with pytest.raises(ValidationFailed):
        temporary.issue(role, "ada", session_policies=(policy,), lifetime=900, source="x")


def test_session_policies_do_not_grow_tokens_without_bound(temporary: TemporaryCredentials, role: Role):
    statement = {"Effect": "Allow", "Action": "bedrock-agentcore:" + "a" * 1500, "Resource": "*"}
    long = {"Version": "2012-10-17", "Statement": statement}
    with pytest.raises(ValidationFailed, match="longer than"):
        temporary.issue(role, "ada", session_policies=(long, long), lifetime=900, source="x")


def test_credentials_that_are_printed_show_no_secret(temporary: TemporaryCredentials, issued: Issued):
    printed = f"{issued!r} {temporary.open(issued.session_token.reveal())!r} {temporary!r}"
    assert issued.secret.reveal() not in printed
    assert issued.session_token.reveal() not in printed


def test_a_session_token_shows_nothing_of_what_it_holds(issued: Issued):
    sealed = base64.urlsafe_b64decode(issued.session_token.reveal() + "==")
    assert not [
        word for word in (issued.secret.reveal(), issued.access_key_id, "reader", "ada") if word.encode() in sealed
    ]


# --- Good ones -------------------------------------------------------------------------------------------------------


async def test_temporary_credentials_prove_a_session_of_their_role(
    signatures: Signatures, temporary: TemporaryCredentials, role: Role
):
    given = temporary.issue(role, "ada", session_policies=(NARROW,), lifetime=900, source="x")
    principal = await caller(signatures, used(given))
    assert principal.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/ada"
    assert (principal.policy, principal.session_policies) == (POLICY, (NARROW,))
    assert principal.expires_at == given.expires_at == int(NOW.timestamp()) + 900


async def test_a_url_can_be_presigned_with_temporary_credentials(signatures: Signatures, issued: Issued):
    url = presigned(key_id=issued.access_key_id, secret=issued.secret.reveal(), token=issued.session_token.reveal())
    principal, _ = await signatures.verify(signatures.present_query(url), EMPTY_SHA256)
    assert principal.session == "ada"


async def test_credentials_serve_one_service_at_a_time(
    keys: AccessKeys, records: SqlRecords, clock: Clock, issued: Issued
):
    sts = signatures_of(keys, records, clock, Scope(SCOPE.region, "sts"))
    with pytest.raises(InvalidSignature, match="service 'sts'"):
        sts.present(used(issued))
    assert (await caller(sts, used(issued, scope=Scope(SCOPE.region, "sts")))).session == "ada"


def test_a_session_token_is_short_and_fits_into_headers_and_urls(issued: Issued):
    token = issued.session_token.reveal()
    assert token.isascii()
    assert len(token) < 1024
    assert issued.access_key_id.startswith("IGTK")
