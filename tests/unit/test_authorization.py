"""What a principal may do: policies of identities, sessions and resources, admin keys, tokens, and nothing by default."""

from dataclasses import replace
from typing import Any

import pytest

from identity_gateway.authorization import Asked, Authorization, principal_context, request_context
from identity_gateway.errors import AccessDenied, InvalidToken
from identity_gateway.model import IamPrincipal, ResourcePolicy
from identity_gateway.protocol.policy import KEYS, Context
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock
from tests.fakes.policies import REALM, authorization_of

ACCOUNT = REALM.account
ARN = REALM.runtime_arn("hello-AbCdEf1234")
ENDPOINT = f"{ARN}/runtime-endpoint/DEFAULT"
BOTH = (ARN, ENDPOINT)
INVOKE = Asked("InvokeAgentRuntime", BOTH)
CLAIM = "bedrock-agentcore:InboundJwtClaim/"


@pytest.fixture
def authorization(records: SqlRecords, clock: Clock) -> Authorization:
    return authorization_of(records, clock)


def principal(
    *, admin: bool = False, policy: Any = None, session: str | None = None, narrowed: tuple[Any, ...] = ()
) -> IamPrincipal:
    return IamPrincipal(
        ACCOUNT, "IGAKAAAABBBBCCCCDDDD", "ci", admin=admin, policy=policy, session=session, session_policies=narrowed
    )


def statement(effect: str, action: str, resource: str | list[str], **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource} | more


def document(effect: str, action: str, resource: str | list[str], **more: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [statement(effect, action, resource, **more)]}


EVERYTHING = document("Allow", "*", "*")


async def stand(records: SqlRecords, clock: Clock, *policies: tuple[str, str, Any]) -> None:
    """Let policies stand: at which resource, with which effect, for whom."""
    now = request_time(clock)
    async with records.write() as transaction:
        for arn, effect, whom in policies:
            content = document(effect, "bedrock-agentcore:*", arn, Principal=whom)
            await transaction.create(ResourcePolicy(ACCOUNT, arn, content, created_at=now, updated_at=now))


def request_time(clock: Clock) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(clock(), UTC)


async def why(authorization: Authorization, who: IamPrincipal | None, asked: Asked = INVOKE) -> str:
    """Return the reason of a refusal."""
    with pytest.raises(AccessDenied) as caught:
        await authorization.permit(who, asked)
    assert caught.value.reason not in caught.value.message
    return caught.value.reason


# --- Identity policies ---


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (None, "the key has no policy"),
        (document("Allow", "bedrock-agentcore:GetAgentRuntime", "*"), "not allowed by any statement"),
        (document("Allow", "InvokeAgentRuntime", "*"), "not allowed by any statement"),
        (document("Allow", "lambda:InvokeAgentRuntime", "*"), "not allowed by any statement"),
        (document("Allow", "bedrock-agentcore:InvokeAgentRuntime", ARN), "not allowed by any statement"),
        (document("Deny", "*", ENDPOINT, Sid="Never"), "explicitly denied: identity policy, Statement[0] (Never)"),
    ],
)
async def test_what_no_policy_allows_is_denied(authorization: Authorization, policy: Any, reason: str):
    assert await why(authorization, principal(policy=policy)) == reason


async def test_an_explicit_deny_is_named_in_the_reason(authorization: Authorization):
    policy = {"Version": "2012-10-17", "Statement": [statement(effect, "*", "*") for effect in ("Allow", "Deny")]}
    assert await why(authorization, principal(policy=policy)) == "explicitly denied: identity policy, Statement[1]"


async def test_no_resource_is_denied_to_a_policy_that_allows_everything(authorization: Authorization):
    assert await why(authorization, principal(policy=EVERYTHING), Asked("InvokeAgentRuntime", ()))


@pytest.mark.parametrize(
    "policy",
    [
        document("Allow", "*", "*", Condition={"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}),
        document("Deny", "*", "*", Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}),
        document("Allow", "*", "arn:aws:bedrock-agentcore:*:*:runtime/${aws:username}"),
    ],
    ids=["time", "source", "variable"],
)
@pytest.mark.parametrize("of_session", [False, True])
def test_a_policy_with_a_condition_may_decide_otherwise_the_next_time(
    authorization: Authorization, policy: Any, of_session: bool
):
    who = principal(policy=EVERYTHING if of_session else policy)
    asked = replace(who, session_policies=(policy,)) if of_session else who
    assert not authorization.asks_nothing(asked)


def test_a_policy_of_actions_and_resources_decides_alike_the_next_time(authorization: Authorization):
    assert authorization.asks_nothing(principal(policy=EVERYTHING))


async def test_a_policy_that_covers_every_resource_allows(authorization: Authorization):
    policy = document("Allow", "bedrock-agentcore:Invoke*", [ARN, ENDPOINT])
    assert await authorization.permit(principal(policy=policy), INVOKE) == "identity policy, Statement[0]"


async def test_an_admin_key_may_do_everything(authorization: Authorization):
    assert await authorization.permit(principal(admin=True), Asked("DeleteAgentRuntime", (ARN,))) == "admin key"


async def test_a_session_policy_narrows(authorization: Authorization):
    who = principal(policy=EVERYTHING, session="build-7", narrowed=(document("Allow", "*", ARN),))
    assert await authorization.permit(who, Asked("InvokeAgentRuntime", (ARN,))) == "identity policy, Statement[0]"
    assert await why(authorization, who) == "not allowed by any statement: session policy"


# --- Policies at resources ---


async def test_a_resource_allows_whom_no_identity_policy_does(
    authorization: Authorization, records: SqlRecords, clock: Clock
):
    user = {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ci"}
    await stand(records, clock, (ARN, "Allow", user), (ENDPOINT, "Allow", user))
    assert await authorization.permit(principal(), INVOKE) == "resource policy, Statement[0]"


async def test_each_resource_must_be_allowed_by_one_or_the_other(
    authorization: Authorization, records: SqlRecords, clock: Clock
):
    await stand(records, clock, (ARN, "Allow", "*"))
    assert await why(authorization, principal()) == "the key has no policy"
    mixed = principal(policy=document("Allow", "*", ENDPOINT))
    expected = "resource policy, Statement[0]; identity policy, Statement[0]"
    assert await authorization.permit(mixed, INVOKE) == expected


@pytest.mark.parametrize("who", [principal(admin=True), principal(policy=EVERYTHING), None])
@pytest.mark.parametrize("arn", [ARN, ENDPOINT])
async def test_a_denial_at_a_resource_binds_everybody(
    authorization: Authorization, records: SqlRecords, clock: Clock, who: IamPrincipal | None, arn: str
):
    await stand(records, clock, (arn, "Deny", "*"))
    assert await why(authorization, who) == "explicitly denied: resource policy, Statement[0]"


@pytest.mark.parametrize("verb", ["Put", "Get", "Delete"])
async def test_an_admin_key_is_never_locked_out_of_the_policy_itself(
    authorization: Authorization, records: SqlRecords, clock: Clock, verb: str
):
    await stand(records, clock, (ARN, "Deny", "*"))
    asked = Asked(f"{verb}ResourcePolicy", (ARN,))
    assert await authorization.permit(principal(admin=True), asked) == "admin key"
    assert await why(authorization, principal(policy=EVERYTHING), asked)


async def test_a_session_policy_narrows_what_a_resource_allows(
    authorization: Authorization, records: SqlRecords, clock: Clock
):
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/ci/build-7"
    await stand(records, clock, (ARN, "Allow", {"AWS": session}))
    asked = Asked("InvokeAgentRuntime", (ARN,))
    narrowed = (document("Allow", "*", ENDPOINT),)
    assert await authorization.permit(principal(session="build-7"), asked) == "resource policy, Statement[0]"
    assert await why(authorization, principal(session="build-7", narrowed=narrowed), asked)


# --- Bearers of tokens ---


async def test_a_token_suffices_where_no_policy_stands(authorization: Authorization):
    assert await authorization.permit(None, INVOKE) == "token accepted by the authorizer"


@pytest.mark.parametrize("whom", [{"AWS": ACCOUNT}, {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ci"}])
async def test_a_policy_at_a_resource_must_name_anybody_to_let_a_token_in(
    authorization: Authorization, records: SqlRecords, clock: Clock, whom: Any
):
    await stand(records, clock, (ENDPOINT, "Allow", whom))
    assert await why(authorization, None) == "not allowed by any statement: resource policy"


async def test_a_token_is_let_in_where_anybody_is(authorization: Authorization, records: SqlRecords, clock: Clock):
    await stand(records, clock, (ENDPOINT, "Allow", "*"))
    expected = "token accepted by the authorizer, resource policy, Statement[0]"
    assert await authorization.permit(None, INVOKE) == expected


# --- Claims that must be proven first ---


class Proof:
    """A JWT that is verified when it is asked for, and how often that was."""

    def __init__(self, **claims: tuple[str, ...]) -> None:
        self.asked = 0
        self._claims = {(CLAIM + name).lower(): values for name, values in claims.items()}

    async def __call__(self) -> Context:
        self.asked += 1
        return self._claims


async def broken() -> Context:
    raise InvalidToken(reason="signature")


def minting(proof: Any) -> Asked:
    return Asked("GetWorkloadAccessTokenForJWT", (ARN,), proof=proof)


def only(**claims: str) -> Any:
    condition = {"StringEquals": {CLAIM + name: value for name, value in claims.items()}}
    return principal(policy=document("Allow", "*", "*", Condition=condition))


@pytest.mark.parametrize(("subject", "allowed"), [("ada", True), ("bob", False)])
async def test_a_claim_is_compared_after_it_was_proven(authorization: Authorization, subject: str, allowed: bool):
    asked = minting(Proof(sub=(subject,), iss=("https://issuer.example",)))
    if allowed:
        assert await authorization.permit(only(sub="ada"), asked)
    else:
        assert await why(authorization, only(sub="ada"), asked) == "not allowed by any statement"


async def test_a_denial_by_a_claim_is_found_after_it_was_proven(authorization: Authorization):
    denial = statement("Deny", "*", "*", Condition={"StringNotEquals": {CLAIM + "iss": "https://issuer.example"}})
    who = principal(policy={"Version": "2012-10-17", "Statement": [*EVERYTHING["Statement"], denial]})
    assert await authorization.permit(who, minting(Proof(iss=("https://issuer.example",))))
    assert await why(authorization, who, minting(Proof(iss=("https://evil.example",))))


async def test_nobody_who_may_not_anyway_makes_the_gateway_look_at_a_token(authorization: Authorization):
    proof = Proof(sub=("ada",))
    condition = {"StringEquals": {CLAIM + "sub": "ada"}}
    who = principal(policy=document("Allow", "bedrock-agentcore:Get*", ENDPOINT, Condition=condition))
    assert await why(authorization, who, minting(proof))
    assert proof.asked == 0


async def test_a_token_is_not_verified_twice_where_no_policy_looks_at_it(authorization: Authorization):
    proof = Proof(sub=("ada",))
    await authorization.permit(principal(policy=EVERYTHING), minting(proof))
    await authorization.permit(principal(admin=True), minting(proof))
    assert proof.asked == 0


async def test_a_token_that_proves_nothing_is_refused_as_such(authorization: Authorization):
    with pytest.raises(InvalidToken):
        await authorization.permit(only(sub="ada"), minting(broken))


async def test_claims_without_a_proof_are_not_there(authorization: Authorization):
    assert await why(authorization, only(sub="ada"), Asked("GetWorkloadAccessTokenForJWT", (ARN,)))


async def test_a_claim_cannot_say_who_signed(authorization: Authorization):
    condition = {"StringEquals": {"aws:username": "root"}}
    who = principal(policy=document("Allow", "*", "*", Condition=condition))
    assert await why(authorization, who, Asked("InvokeAgentRuntime", (ARN,), {"aws:username": ("root",)}))


# --- What conditions may compare ---


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("203.0.113.7", ("203.0.113.7",)),
        ("::ffff:203.0.113.7", ("203.0.113.7",)),
        ("2001:db8::7", ("2001:db8::7",)),
        ("", ()),
        ("unix", ()),
    ],
)
def test_the_source_of_a_request_is_an_address_or_nothing(source: str, address: tuple[str, ...]):
    assert request_context(source, 0)["aws:sourceip"] == address


def test_a_request_says_when_and_how_it_came():
    context = request_context("203.0.113.7", 1769850000.9, True, b"sdk/1", {"sts:rolesessionname": ("x",)})
    assert context == {
        "aws:currenttime": ("2026-01-31T09:00:00Z",),
        "aws:epochtime": ("1769850000",),
        "aws:securetransport": ("true",),
        "aws:sourceip": ("203.0.113.7",),
        "aws:useragent": ("sdk/1",),
        "sts:rolesessionname": ("x",),
    }


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (None, {"aws:principaltype": ("Anonymous",)}),
        (
            principal(),
            {
                "aws:principalaccount": (ACCOUNT,),
                "aws:principalarn": (f"arn:aws:iam::{ACCOUNT}:user/ci",),
                "aws:principaltype": ("User",),
                "aws:username": ("ci",),
                "aws:userid": ("IGAKAAAABBBBCCCCDDDD",),
            },
        ),
        (
            principal(session="build-7"),
            {
                "aws:principalaccount": (ACCOUNT,),
                "aws:principalarn": (f"arn:aws:iam::{ACCOUNT}:role/ci",),
                "aws:principaltype": ("AssumedRole",),
            },
        ),
    ],
)
def test_a_principal_says_who_it_is(who: IamPrincipal | None, expected: Context):
    context = principal_context(who)
    assert context == expected
    assert context.keys() <= KEYS.keys()


async def test_every_request_has_the_region_of_its_gateway(authorization: Authorization):
    condition = {"StringEquals": {"aws:RequestedRegion": REALM.region}}
    who = principal(policy=document("Allow", "*", "*", Condition=condition))
    assert await authorization.permit(who, INVOKE) == "identity policy, Statement[0]"


async def test_what_the_gateway_would_do_elsewhere_is_held_against_conditions(authorization: Authorization):
    condition = {"Bool": {"aws:SecureTransport": "true"}}
    who = principal(policy=document("Allow", "kms:Sign", "*", Condition=condition))
    await authorization.permit_elsewhere(who, "kms:Sign", ("arn:aws:kms:::key/x",), {"aws:securetransport": ("true",)})
    with pytest.raises(AccessDenied):
        await authorization.permit_elsewhere(who, "kms:Sign", ("arn:aws:kms:::key/x",), request_context("", 0))
