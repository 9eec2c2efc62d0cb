"""Inbound authentication: nothing but a signature or a token that holds is a principal, and what was seen may be
remembered only as long as it would hold anyway."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from prometheus_client import REGISTRY

from identity_gateway.access_keys import AccessKeys
from identity_gateway.egress import Egress
from identity_gateway.errors import (
    ExpiredCredentials,
    IncompleteSignature,
    InsufficientScope,
    InvalidSignature,
    InvalidToken,
    MissingAuthentication,
    Unavailable,
)
from identity_gateway.inbound import (
    BearerTokens,
    Scheme,
    Signatures,
    UserTokens,
    bearer_tokens,
    scheme_of,
)
from identity_gateway.keysets import KeySets
from identity_gateway.model import IamPrincipal, JwtUser, Secret
from identity_gateway.protocol.jwt import SignedClaims
from identity_gateway.protocol.request import Request
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Sealer
from tests.fakes.clock import Clock
from tests.fakes.issuer import FakeIssuer, SigningKey, Vice
from tests.fakes.signing_keys import signatures_of
from tests.fakes.sigv4_client import KEY_ID, SECRET, digest, presigned, signed

ACCOUNT = "000000000000"
RUNTIME = "hello-AbCdEf1234"
ARN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/{RUNTIME}"
ENDPOINT = f"{ARN}/runtime-endpoint/DEFAULT"
KEY = SigningKey.make()


def request(*authorizations: bytes, query: bytes = b"") -> Request:
    return Request("POST", b"/", query, tuple((b"authorization", value) for value in authorizations))


# --- What kind of credentials ---


@pytest.mark.parametrize(
    ("authorization", "scheme"),
    [
        (b"AWS4-HMAC-SHA256 Credential=x", Scheme.SIGNATURE),
        (b"AWS4-ECDSA-P256-SHA256 Credential=x", Scheme.SIGNATURE),
        (b"AWS AKID:signature", Scheme.SIGNATURE),
        (b"Bearer x.y.z", Scheme.BEARER),
        (b"bearer", Scheme.BEARER),
        (b"BEARER AWS4-HMAC-SHA256", Scheme.BEARER),
        (b"Basic dXNlcjpw", Scheme.OTHER),
        (b"DPoP x", Scheme.OTHER),
        (b"aws4-hmac-sha256 Credential=x", Scheme.OTHER),
        (b"AWSome x", Scheme.OTHER),
        (b"", Scheme.OTHER),
    ],
)
def test_a_request_shows_one_kind_of_credentials(authorization: bytes, scheme: Scheme):
    assert scheme_of(request(authorization)) is scheme


def test_a_request_without_the_header_shows_none():
    assert scheme_of(request(query=b"X-Amz-Signature=x&access_token=y")) is Scheme.NONE


# --- Signatures ---


@pytest.fixture
async def signatures(records: SqlRecords, clock: Clock) -> Signatures:
    keys = AccessKeys(records, Sealer([b"k" * 32], "access-keys"), ACCOUNT, clock=clock)
    keys.use_root(KEY_ID, Secret(SECRET))
    return signatures_of(keys, records, clock)


@pytest.mark.parametrize(
    ("received", "refusal"),
    [
        (request(), MissingAuthentication),
        (request(b"Bearer x.y.z"), MissingAuthentication),
        (request(b"Basic dXNlcjpw"), IncompleteSignature),
        (replace(signed(), raw_query=b"X-Amz-Signature=00"), IncompleteSignature),
    ],
)
def test_what_is_no_signature_of_a_long_term_key_is_refused_before_the_body(
    signatures: Signatures, received: Request, refusal: type[Exception]
):
    if not received.count(b"host"):
        received = replace(received, headers=((b"host", b"gateway.test"), *received.headers))
    with pytest.raises(refusal):
        signatures.present(received)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_signature_of_another_time_is_refused(signatures: Signatures, clock: Clock, seconds: float):
    clock.now += seconds
    with pytest.raises(InvalidSignature):
        signatures.present(signed())


async def test_an_unknown_key_a_wrong_secret_and_a_strange_token_are_answered_alike(signatures: Signatures):
    answers = []
    strange = (signed(key_id="IGAKNOBODYNOBODYNOBO"), signed(secret="wrong"), signed(token="a-session-token"))
    for received in strange:
        with pytest.raises(InvalidSignature) as caught:
            await signatures.verify(signatures.present(received), digest(b""))
        answers.append((caught.value.message, caught.value.code, caught.value.status))
    assert answers[0] == answers[1] == answers[2]


async def test_a_signature_over_another_body_is_refused(signatures: Signatures):
    with pytest.raises(InvalidSignature):
        await signatures.verify(signatures.present(signed(body=b"{}")), digest(b'{"a":1}'))


async def test_a_signature_that_holds_is_the_principal_of_its_key(signatures: Signatures):
    principal, proven = await signatures.verify(signatures.present(signed(body=b"{}")), digest(b"{}"))
    assert principal == IamPrincipal(ACCOUNT, KEY_ID, "root", admin=True, policy=None)
    assert proven.access_key_id == KEY_ID
    assert proven.header(b"host") == b"gateway.test"


@pytest.mark.parametrize("query", [b"", b"X-Amz-Signature=00", b"X-Amz-Credential=a&X-Amz-Date=b"])
def test_a_url_that_presents_no_whole_signature_is_refused(signatures: Signatures, query: bytes):
    with pytest.raises(IncompleteSignature):
        signatures.present_query(replace(presigned(), raw_query=query))


async def test_a_presigned_url_that_holds_is_the_principal_of_its_key(signatures: Signatures):
    principal, proven = await signatures.verify(signatures.present_query(presigned()), digest(b""))
    assert (principal.access_key_id, proven.access_key_id) == (KEY_ID, KEY_ID)


async def test_a_key_that_expires_says_until_when_it_proves_somebody(
    signatures: Signatures, records: SqlRecords, clock: Clock
):
    keys = AccessKeys(records, Sealer([b"k" * 32], "access-keys"), ACCOUNT, clock=clock)
    made = await keys.create("ci", admin=True, lifetime=timedelta(seconds=60))
    presented = signatures.present(signed(key_id=made.id, secret=made.secret.reveal()))
    assert (await signatures.verify(presented, digest(b"")))[0].expires_at == clock() + 60
    clock.now += 60
    with pytest.raises(ExpiredCredentials):
        await signatures.verify(presented, digest(b""))


# --- Bearer tokens ---


@dataclass
class Door:
    """One guarded runtime: its issuer, the key sets of one replica, and what asks them."""

    issuer: FakeIssuer
    keysets: KeySets
    tokens: BearerTokens
    clock: Clock

    def token(self, key: SigningKey = KEY, **claims: Any) -> Secret:
        given = {"iss": self.issuer.issuer, "sub": "alice", "aud": "agents", "exp": self.clock.now + 3600}
        return Secret(key.token(given | claims))

    async def verify(
        self, token: Secret, *, runtime_id: str = RUNTIME, version: int = 1, **authorizer: Any
    ) -> SignedClaims:
        rules = authorizer or {"allowedAudience": ["agents"]}
        document = {"discoveryUrl": self.issuer.discovery_url} | rules
        return await self.tokens.verify(token, document, runtime_id=runtime_id, version=version)


@pytest.fixture
async def door(clock: Clock) -> AsyncIterator[Door]:
    async with FakeIssuer(KEY) as issuer:
        keysets = KeySets(Egress((ip_network("127.0.0.0/8"),)), clock=clock)
        yield Door(issuer, keysets, BearerTokens(keysets, clock=clock), clock)
        await keysets.aclose()


def looked_up() -> dict[str, float]:
    name = "identity_gateway_token_cache_total"
    return {result: REGISTRY.get_sample_value(name, {"result": result}) or 0 for result in ("hit", "miss")}


class Lookups:
    """How often a remembered token was found, and how often not, since this was made."""

    def __init__(self) -> None:
        self._before = looked_up()

    def __call__(self) -> tuple[float, float]:
        now = looked_up()
        return now["hit"] - self._before["hit"], now["miss"] - self._before["miss"]


async def test_a_token_of_another_audience_is_refused_however_often_it_comes(door: Door):
    token, lookups = door.token(aud="others"), Lookups()
    for _ in range(2):
        with pytest.raises(InvalidToken):
            await door.verify(token)
    assert lookups() == (0, 2)


async def test_a_token_without_the_scope_is_told_so(door: Door):
    with pytest.raises(InsufficientScope):
        await door.verify(door.token(scope="read"), allowedScopes=["invoke"])


async def test_a_token_that_is_none_is_refused(door: Door):
    with pytest.raises(InvalidToken):
        await door.verify(Secret("opaque-token"))


async def test_a_token_is_not_judged_while_its_issuer_does_not_answer(door: Door):
    door.issuer.fail(Vice.ERROR)
    with pytest.raises(Unavailable):
        await door.verify(door.token())


async def test_a_token_with_an_unknown_key_id_is_refused_after_the_issuer_was_asked_again(door: Door):
    await door.verify(door.token())
    before = door.issuer.requests.total()
    with pytest.raises(InvalidToken):
        await door.verify(door.token(SigningKey.make(kid="stranger")))
    assert door.issuer.requests.total() > before


async def test_a_token_without_a_key_id_does_not_make_the_issuer_be_asked_again(door: Door):
    await door.verify(door.token())
    before = door.issuer.requests.total()
    with pytest.raises(InvalidToken):
        await door.verify(Secret(SigningKey.make("RS256", None).token({"iss": door.issuer.issuer})))
    assert door.issuer.requests.total() == before


async def test_a_token_of_a_key_that_was_published_later_is_accepted(door: Door):
    await door.verify(door.token())
    new = door.issuer.rotate()
    assert (await door.verify(door.token(new))).subject == "alice"


async def test_a_token_that_was_accepted_is_remembered(door: Door):
    token, lookups = door.token(), Lookups()
    first = await door.verify(token)
    assert await door.verify(token) is first
    assert lookups() == (1, 1)


async def test_a_remembered_token_is_not_found_under_another_authorizer(door: Door):
    token = door.token()
    await door.verify(token, version=1)
    for place in ({"version": 2}, {"runtime_id": "other-AbCdEf1234"}):
        with pytest.raises(InvalidToken):
            await door.verify(token, allowedAudience=["others"], **place)


async def test_a_token_that_differs_in_its_signature_is_another_token(door: Door):
    claims = {"iat": door.clock.now}
    good = door.token(**claims)
    await door.verify(good)
    forged = good.reveal()[:-4] + ("AAAA" if good.reveal()[-4:] != "AAAA" else "BBBB")
    with pytest.raises(InvalidToken):
        await door.verify(Secret(forged))


async def test_a_remembered_token_is_forgotten_when_its_issuer_changes_its_keys(door: Door):
    token = door.token()
    await door.verify(token)
    new = door.issuer.rotate()
    await door.verify(door.token(new))
    with pytest.raises(InvalidToken):
        await door.verify(token)


async def test_a_remembered_token_is_forgotten_when_its_keys_were_purged(door: Door):
    token = door.token()
    await door.verify(token)
    door.keysets.purge(door.issuer.discovery_url)
    door.issuer.rotate(SigningKey.make(kid="key-2"))
    with pytest.raises(InvalidToken):
        await door.verify(token)


@pytest.mark.parametrize(("lifetime", "remembered"), [(3600, 300), (60, 60), (1, 1)])
async def test_a_token_is_remembered_for_five_minutes_and_never_past_its_expiry(
    door: Door, lifetime: float, remembered: float
):
    token = door.token(exp=door.clock.now + lifetime)
    await door.verify(token)
    door.clock.now += remembered - 0.5
    lookups = Lookups()
    await door.verify(token)
    assert lookups() == (1, 0)
    door.clock.now += 0.5
    await door.verify(token)  # the leeway still lets it in, but it is verified anew
    assert lookups() == (1, 1)


async def test_a_token_that_expired_is_refused_although_it_was_remembered(door: Door):
    token = door.token(exp=door.clock.now + 10)
    await door.verify(token)
    door.clock.now += 10 + 60
    with pytest.raises(InvalidToken):
        await door.verify(token)


async def test_remembered_tokens_are_bounded_and_the_oldest_goes_first(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bearer_tokens, "_REMEMBERED_TOKENS", 3)
    token = door.token()
    for version in range(1, 6):
        await door.verify(token, version=version)
    assert len(door.tokens._verified) == 3
    lookups = Lookups()
    await door.verify(token, version=5)
    await door.verify(token, version=1)
    assert lookups() == (1, 1)


async def test_nothing_that_is_remembered_holds_the_token(door: Door):
    token = door.token()
    await door.verify(token)
    assert token.reveal() not in repr(door.tokens._verified)


async def test_the_issuer_of_an_authorizer_is_what_its_document_says(door: Door):
    door.issuer.document_changes = {"issuer": "https://issuer.test/tenant"}
    authorizer = {"discoveryUrl": door.issuer.discovery_url}
    assert await door.tokens.issuer_of(authorizer) == "https://issuer.test/tenant"


# --- Users that a token proves ---


@pytest.fixture
def user_tokens(door: Door, clock: Clock) -> UserTokens:
    return UserTokens(door.keysets, clock=clock)


@pytest.mark.parametrize(
    "claims",
    [{"iss": None}, {"iss": 1}, {"sub": None}, {"sub": ""}, {"sub": 1}, {"exp": 1}, {"exp": None}],
)
async def test_a_token_that_names_no_user_or_no_issuer_or_is_old_proves_nobody(
    door: Door, user_tokens: UserTokens, claims: dict[str, Any]
):
    given = {"iss": door.issuer.issuer, "sub": "alice", "exp": door.clock.now + 60} | claims
    token = KEY.token({name: value for name, value in given.items() if value is not None})
    with pytest.raises(InvalidToken):
        await user_tokens.user_of(Secret(token))


async def test_a_document_that_names_another_issuer_proves_nobody(door: Door, user_tokens: UserTokens):
    door.issuer.document_changes = {"issuer": "https://other.test"}
    with pytest.raises(InvalidToken):
        await user_tokens.user_of(door.token())


async def test_a_strangers_key_proves_nobody(door: Door, user_tokens: UserTokens):
    with pytest.raises(InvalidToken):
        await user_tokens.user_of(door.token(SigningKey.make(kid="key-1")))


async def test_a_token_proves_its_issuer_and_subject_whatever_its_audience(door: Door, user_tokens: UserTokens):
    assert await user_tokens.user_of(door.token(aud="somebody-else")) == JwtUser(door.issuer.issuer, "alice")


async def test_a_user_is_proven_by_a_key_that_was_published_later(door: Door, user_tokens: UserTokens):
    await user_tokens.user_of(door.token())
    new = door.issuer.rotate()
    assert await user_tokens.user_of(door.token(new)) == JwtUser(door.issuer.issuer, "alice")
