"""Workload identities, and tokens that open for fifteen minutes, in their own account, unchanged."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_gateway import workload
from identity_gateway.egress import Egress
from identity_gateway.errors import AccessDenied, Conflict, InvalidToken, NotFound, QuotaExceeded, ValidationFailed
from identity_gateway.inbound import UserTokens
from identity_gateway.keysets import KeySets
from identity_gateway.model import JwtUser, NamedUser, Realm, Secret, User
from identity_gateway.paging import Paging
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Sealer
from identity_gateway.workload import LIFETIME, SEALING_PERIOD, Workloads, WorkloadTokens
from tests.fakes.clock import Clock
from tests.fakes.issuer import FakeIssuer, SigningKey

ACCOUNT, OTHER_ACCOUNT = "000000000000", "111111111111"
REALM = Realm(ACCOUNT, "us-east-1")
SEALER = Sealer([b"k" * 32], "workload-access-token", period_seconds=SEALING_PERIOD)
PLACE = (ACCOUNT, "workload-access-token")


@pytest.fixture
def tokens(clock: Clock) -> WorkloadTokens:
    return WorkloadTokens(SEALER, ACCOUNT, clock=clock)


def sealed(content: object, *, now: float = 0.0) -> str:
    return base64.urlsafe_b64encode(SEALER.seal(json.dumps(content).encode(), place=PLACE, now=now)).decode()


# --- Tokens that do not open ---


@pytest.mark.parametrize("later", [LIFETIME, LIFETIME + 1, 86_400 * 365])
def test_a_token_does_not_open_from_its_fifteenth_minute_on(tokens: WorkloadTokens, clock: Clock, later: float):
    token = tokens.mint("agent", None).reveal()
    clock.now += later
    with pytest.raises(AccessDenied) as caught:
        tokens.open(token)
    assert caught.value.reason == "token expired"


@pytest.mark.parametrize(("ours", "theirs"), [(ACCOUNT, OTHER_ACCOUNT), (OTHER_ACCOUNT, ACCOUNT)])
def test_a_token_does_not_open_in_another_account(clock: Clock, ours: str, theirs: str):
    token = WorkloadTokens(SEALER, ours, clock=clock).mint("agent", None).reveal()
    with pytest.raises(AccessDenied):
        WorkloadTokens(SEALER, theirs, clock=clock).open(token)


def test_a_value_that_was_sealed_for_something_else_is_no_token(tokens: WorkloadTokens, clock: Clock):
    content = {"w": "agent", "u": None, "t": None, "c": [], "i": clock.now, "e": clock.now + LIFETIME}
    elsewhere = SEALER.seal(json.dumps(content).encode(), place=(ACCOUNT, "page"), now=clock.now)
    with pytest.raises(AccessDenied):
        tokens.open(base64.urlsafe_b64encode(elsewhere).decode())


@pytest.mark.parametrize("value", ["", "x", "AAAA", "é", "eyJhbGciOiJub25lIn0.e30.", "A" * 10_000, "a b", "\x00"])
def test_a_value_that_was_never_minted_is_no_token(tokens: WorkloadTokens, value: str):
    with pytest.raises(AccessDenied) as caught:
        tokens.open(value)
    assert caught.value.reason == "token does not open"


@given(st.data())
def test_a_token_that_was_changed_does_not_open(data: st.DataObject):
    tokens = WorkloadTokens(SEALER, ACCOUNT, clock=Clock())
    raw = bytearray(base64.urlsafe_b64decode(tokens.mint("agent", NamedUser("alice")).reveal()))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(AccessDenied):
        tokens.open(base64.urlsafe_b64encode(raw).decode())


@pytest.mark.parametrize(
    "user",
    [
        ["jwt", "i", "s"],
        None,
        7,
        "alice",
        '["JWT","i","s"]',
        '["jwt","i"]',
        '["id"]',
        '["id","a","b"]',
        '["id",1]',
        "{}",
    ],
)
def test_a_token_with_a_user_of_an_unknown_form_is_refused(tokens: WorkloadTokens, clock: Clock, user: object):
    content = {"w": "agent", "u": user, "t": None, "c": [], "i": clock.now, "e": clock.now + 1}
    with pytest.raises((InvalidToken, AccessDenied)):
        tokens.open(sealed(content))


# --- Tokens that open ---


def test_a_token_opens_to_the_last_moment(tokens: WorkloadTokens, clock: Clock):
    minted = clock.now
    token = tokens.mint("agent", None).reveal()
    clock.now += LIFETIME - 0.001
    access = tokens.open(token)
    assert (access.issued_at, access.expires_at) == (minted, minted + 900)


@pytest.mark.parametrize(
    "user", [None, NamedUser("alice"), JwtUser("https://issuer.test", "alice"), NamedUser("é\n'\"{}")]
)
def test_a_token_stands_for_the_agent_and_the_user_it_was_minted_for(tokens: WorkloadTokens, user: User | None):
    access = tokens.open(tokens.mint("agent", user).reveal())
    assert (access.account, access.workload, access.user, access.actors) == (ACCOUNT, "agent", user, ())


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=16))
def test_a_user_that_was_named_is_never_one_that_was_proven(issuer: str, subject: str, name: str):
    tokens = WorkloadTokens(SEALER, ACCOUNT, clock=Clock())
    proven = tokens.open(tokens.mint("agent", JwtUser(issuer, subject)).reveal()).user
    named = tokens.open(tokens.mint("agent", NamedUser(name)).reveal()).user
    assert (proven, named) == (JwtUser(issuer, subject), NamedUser(name))
    assert proven != named


def test_the_inbound_token_travels_inside_and_unseen(tokens: WorkloadTokens):
    token = tokens.mint("agent", JwtUser("i", "s"), Secret("eyJ.inbound.jwt")).reveal()
    access = tokens.open(token)
    assert access.inbound_token is not None
    assert access.inbound_token.reveal() == "eyJ.inbound.jwt"
    assert b"inbound" not in base64.urlsafe_b64decode(token)
    assert "inbound.jwt" not in repr(access)


def test_another_replica_opens_a_token_also_after_the_master_key_was_rotated(tokens: WorkloadTokens, clock: Clock):
    token = tokens.mint("agent", None).reveal()
    clock.now += LIFETIME - 1
    rotated = Sealer([b"n" * 32, b"k" * 32], "workload-access-token", period_seconds=SEALING_PERIOD)
    assert WorkloadTokens(rotated, ACCOUNT, clock=clock).open(token).workload == "agent"


# --- Identities ---


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer(SigningKey.make()) as started:
        yield started


@pytest.fixture
async def workloads(records: SqlRecords, tokens: WorkloadTokens, clock: Clock) -> AsyncIterator[Workloads]:
    keysets = KeySets(Egress((ip_network("127.0.0.0/8"),)), clock=clock)
    paging = Paging(Sealer([b"k" * 32], "paging"), ACCOUNT)
    yield Workloads(records, tokens, UserTokens(keysets, clock=clock), paging, REALM, clock=clock)
    await keysets.aclose()


async def make_managed(records: SqlRecords, name: str) -> None:
    async with records.write() as transaction:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        await workload.create(transaction, ACCOUNT, name, now=now, managed_by=REALM.runtime_arn(name))


async def test_an_identity_that_does_not_exist_is_not_found(workloads: Workloads):
    for story in (
        workloads.get_workload_identity({"name": "nobody"}),
        workloads.update_workload_identity({"name": "nobody"}),
        workloads.delete_workload_identity({"name": "nobody"}),
        workloads.get_workload_access_token({"workloadName": "nobody"}),
        workloads.get_workload_access_token_for_user_id({"workloadName": "nobody", "userId": "alice"}),
        workloads.get_workload_access_token_for_jwt({"workloadName": "nobody", "userToken": "x.y.z"}),
    ):
        with pytest.raises(NotFound):
            await story


async def test_two_identities_cannot_have_one_name(workloads: Workloads):
    await workloads.create_workload_identity({"name": "agent", "allowedResourceOauth2ReturnUrls": ["https://a.test"]})
    with pytest.raises(Conflict):
        await workloads.create_workload_identity({"name": "agent"})
    found = await workloads.get_workload_identity({"name": "agent"})
    assert found["allowedResourceOauth2ReturnUrls"] == ["https://a.test"]


@pytest.mark.parametrize(
    ("tags", "refusal"),
    [({f"key-{number}": "v" for number in range(51)}, QuotaExceeded), ({"aws:owner": "v"}, ValidationFailed)],
)
async def test_an_identity_whose_tags_are_refused_is_not_made(workloads: Workloads, tags: dict, refusal: type):
    with pytest.raises(refusal):
        await workloads.create_workload_identity({"name": "agent", "tags": tags})
    with pytest.raises(NotFound):
        await workloads.get_workload_identity({"name": "agent"})


async def test_nobody_asks_for_the_tokens_of_an_agent_runtime(workloads: Workloads, records: SqlRecords):
    await make_managed(records, "hello-AbCdEf1234")
    asked = {"workloadName": "hello-AbCdEf1234"}
    for story in (
        workloads.get_workload_access_token(asked),
        workloads.get_workload_access_token_for_user_id(asked | {"userId": "alice"}),
        workloads.get_workload_access_token_for_jwt(asked | {"userToken": "x.y.z"}),
    ):
        with pytest.raises(ValidationFailed, match="linked to an agent runtime"):
            await story


async def test_the_identity_of_an_agent_runtime_is_not_deleted_before_it(workloads: Workloads, records: SqlRecords):
    await make_managed(records, "hello-AbCdEf1234")
    with pytest.raises(ValidationFailed) as caught:
        await workloads.delete_workload_identity({"name": "hello-AbCdEf1234"})
    assert caught.value.kind == "ResourceConflict"


async def test_an_identity_tells_what_it_was_made_with(workloads: Workloads, clock: Clock):
    urls = ["https://a.test/cb", "https://b.test/cb"]
    made = await workloads.create_workload_identity({"name": "agent", "allowedResourceOauth2ReturnUrls": urls})
    moment = datetime.fromtimestamp(clock.now, UTC)
    assert made == {
        "name": "agent",
        "workloadIdentityArn": "arn:aws:bedrock-agentcore:us-east-1:000000000000:"
        "workload-identity-directory/default/workload-identity/agent",
        "allowedResourceOauth2ReturnUrls": urls,
    }
    found = await workloads.get_workload_identity({"name": "agent"})
    assert found == made | {"createdTime": moment, "lastUpdatedTime": moment}


async def test_an_update_replaces_the_return_urls(workloads: Workloads, clock: Clock):
    await workloads.create_workload_identity({"name": "agent", "allowedResourceOauth2ReturnUrls": ["https://a.test"]})
    clock.now += 60
    changed = await workloads.update_workload_identity({"name": "agent"})
    assert changed["allowedResourceOauth2ReturnUrls"] == []
    assert (changed["lastUpdatedTime"] - changed["createdTime"]).total_seconds() == 60
    assert await workloads.get_workload_identity({"name": "agent"}) == changed


async def test_an_identity_that_was_deleted_leaves_its_name_and_no_tags(workloads: Workloads, records: SqlRecords):
    await workloads.create_workload_identity({"name": "agent", "tags": {"a": "b"}})
    assert await workloads.delete_workload_identity({"name": "agent"}) == {}
    await workloads.create_workload_identity({"name": "agent", "tags": {f"key-{number}": "v" for number in range(50)}})


async def test_identities_are_listed_page_by_page(workloads: Workloads):
    for name in ("c", "a", "b"):
        await workloads.create_workload_identity({"name": name})
    first = await workloads.list_workload_identities({"maxResults": 2})
    rest = await workloads.list_workload_identities({"maxResults": 2, "nextToken": first["nextToken"]})
    assert [row["name"] for row in first["workloadIdentities"]] == ["a", "b"]
    assert [row["name"] for row in rest["workloadIdentities"]] == ["c"]
    assert rest["nextToken"] is None


async def test_a_list_has_twenty_identities_unless_another_number_was_asked_for(workloads: Workloads):
    for number in range(21):
        await workloads.create_workload_identity({"name": f"agent-{number:02}"})
    page = await workloads.list_workload_identities({})
    assert len(page["workloadIdentities"]) == 20
    assert page["nextToken"] is not None


# --- Tokens for the asking ---


async def test_an_agent_alone_gets_a_token_without_a_user(workloads: Workloads, tokens: WorkloadTokens):
    await workloads.create_workload_identity({"name": "agent"})
    answer = await workloads.get_workload_access_token({"workloadName": "agent"})
    access = tokens.open(answer.output["workloadAccessToken"])
    assert (access.workload, access.user, access.inbound_token) == ("agent", None, None)


async def test_a_user_that_the_caller_names_is_a_named_user(workloads: Workloads, tokens: WorkloadTokens):
    await workloads.create_workload_identity({"name": "agent"})
    answer = await workloads.get_workload_access_token_for_user_id(
        {"workloadName": "agent", "userId": "https://issuer.test#alice"}
    )
    assert tokens.open(answer.output["workloadAccessToken"]).user == NamedUser("https://issuer.test#alice")


async def test_a_user_that_a_jwt_proves_is_its_issuer_and_subject(
    workloads: Workloads, tokens: WorkloadTokens, issuer: FakeIssuer, clock: Clock
):
    await workloads.create_workload_identity({"name": "agent"})
    jwt = issuer.keys[0].token({"iss": issuer.issuer, "sub": "alice", "exp": clock.now + 60})
    answer = await workloads.get_workload_access_token_for_jwt({"workloadName": "agent", "userToken": jwt})
    access = tokens.open(answer.output["workloadAccessToken"])
    assert access.user == JwtUser(issuer.issuer, "alice")
    assert access.inbound_token is not None
    assert access.inbound_token.reveal() == jwt


async def test_a_jwt_that_proves_nobody_gets_no_token(workloads: Workloads, issuer: FakeIssuer, clock: Clock):
    await workloads.create_workload_identity({"name": "agent"})
    stranger = SigningKey.make(kid="key-1")
    jwt = stranger.token({"iss": issuer.issuer, "sub": "alice", "exp": clock.now + 60})
    with pytest.raises(InvalidToken):
        await workloads.get_workload_access_token_for_jwt({"workloadName": "agent", "userToken": jwt})
