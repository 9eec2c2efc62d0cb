"""Admission: who may call an operation, in a fixed order, and nobody without a record of it."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from identity_gateway.access_keys import AccessKeys, NewAccessKey
from identity_gateway.admission import Admission, Attempt
from identity_gateway.audit import ALLOWED, DENIED, Audit
from identity_gateway.errors import AccessDenied, InvalidSignature, MissingAuthentication, Unavailable, ValidationFailed
from identity_gateway.model import AuditRecord, IamPrincipal, Secret
from identity_gateway.protocol.request import Request
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Sealer
from tests.fakes.clock import Clock
from tests.fakes.policies import authorization_of
from tests.fakes.signing_keys import signatures_of
from tests.fakes.sigv4_client import KEY_ID, SECRET, digest, signed

ACCOUNT = "000000000000"
ATTEMPT = Attempt("GetAgentRuntime", "id-1", "203.0.113.7")
RUNTIME = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/hello-AbCdEf1234"
ENDPOINT = f"{RUNTIME}/runtime-endpoint/DEFAULT"


@pytest.fixture
def keys(records: SqlRecords, clock: Clock) -> AccessKeys:
    made = AccessKeys(records, Sealer([b"k" * 32], "access-keys"), ACCOUNT, clock=clock)
    made.use_root(KEY_ID, Secret(SECRET))
    return made


@pytest.fixture
async def admission(keys: AccessKeys, records: SqlRecords, clock: Clock) -> AsyncIterator[Admission]:
    audit = Audit(records, ACCOUNT, clock=clock, retention=timedelta(days=7))
    yield Admission(signatures_of(keys, records, clock), authorization_of(records, clock), audit, clock=clock)
    await audit.close()


async def kept(records: SqlRecords) -> list[AuditRecord]:
    async with records.read() as transaction:
        return await transaction.list(AuditRecord, account=ACCOUNT)


async def admit(admission: Admission, received: Request, *resources: str, body: bytes = b"") -> IamPrincipal:
    """Do what the front door does for every operation."""
    presented = await admission.present(ATTEMPT, received)
    principal = await admission.authenticate(ATTEMPT, presented, digest(body))
    await admission.authorize(ATTEMPT, principal, lambda: resources or (RUNTIME,))
    return principal


def signed_by(key: NewAccessKey) -> Request:
    return signed(key_id=key.id, secret=key.secret.reveal())


def policy(effect: str, resource: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": "bedrock-agentcore:GetAgentRuntime", "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


# --- Refused ---


async def test_a_request_without_credentials_is_refused_and_recorded(admission: Admission, records: SqlRecords):
    with pytest.raises(MissingAuthentication):
        await admission.present(ATTEMPT, Request("POST", b"/", b"", ((b"host", b"x"),)))
    (record,) = await kept(records)
    assert (record.principal, record.resource, record.decision) == ("unknown", "-", DENIED)
    assert record.reason == "MissingAuthenticationTokenException: no credentials"


async def test_a_wrong_signature_is_refused_and_recorded(admission: Admission, records: SqlRecords):
    with pytest.raises(InvalidSignature):
        await admit(admission, signed(secret="wrong"))
    (record,) = await kept(records)
    assert (record.principal, record.action, record.decision) == ("unknown", "GetAgentRuntime", DENIED)
    assert record.reason.startswith("InvalidSignatureException: ")


async def test_a_record_of_a_refusal_holds_no_signature(admission: Admission, records: SqlRecords):
    received = signed(secret="wrong")
    with pytest.raises(InvalidSignature):
        await admit(admission, received)
    signature = (received.header(b"authorization") or b"").rpartition(b"Signature=")[2].decode()
    assert len(signature) == 64
    assert signature not in repr(await kept(records))


async def test_a_key_that_may_nothing_is_refused_by_name(admission: Admission, keys: AccessKeys, records: SqlRecords):
    key = await keys.create("ci")
    with pytest.raises(AccessDenied):
        await admit(admission, signed_by(key), RUNTIME, ENDPOINT)
    (record,) = await kept(records)
    assert (record.principal, record.resource) == (f"arn:aws:iam::{ACCOUNT}:user/ci", ENDPOINT)
    assert (record.decision, record.reason) == (DENIED, "AccessDeniedException: the key has no policy")


@pytest.mark.parametrize(
    ("effect", "resource", "reason"),
    [
        ("Allow", ENDPOINT, "not allowed by any statement"),
        ("Allow", RUNTIME, "not allowed by any statement"),
        ("Deny", "*", "explicitly denied: identity policy, Statement[0]"),
    ],
)
async def test_a_policy_that_does_not_cover_every_resource_refuses(
    admission: Admission, keys: AccessKeys, records: SqlRecords, effect: str, resource: str, reason: str
):
    key = await keys.create("ci", policy=policy(effect, resource))
    with pytest.raises(AccessDenied):
        await admit(admission, signed_by(key), RUNTIME, ENDPOINT)
    assert [record.reason for record in await kept(records)] == [f"AccessDeniedException: {reason}"]


async def test_a_resource_that_a_bad_token_names_is_refused_and_recorded(admission: Admission, records: SqlRecords):
    principal = await admission.authenticate(ATTEMPT, await admission.present(ATTEMPT, signed()), digest(b""))

    def name_resources() -> tuple[str, ...]:
        raise AccessDenied("Token has expired.", reason="token expired")

    with pytest.raises(AccessDenied):
        await admission.authorize(ATTEMPT, principal, name_resources)
    (record,) = await kept(records)
    assert (record.principal, record.resource, record.decision) == (principal.arn, "-", DENIED)
    assert record.reason == "AccessDeniedException: token expired"


async def test_what_is_no_refusal_leaves_no_record(admission: Admission, records: SqlRecords):
    malformed = Request("POST", b"/", b"", ((b"host", b"x"), (b"authorization", b"AWS4-HMAC-SHA256 x\x00")))
    with pytest.raises(ValidationFailed):
        await admission.present(ATTEMPT, malformed)
    assert await kept(records) == []


@pytest.mark.parametrize("secret", [SECRET, "wrong"])
async def test_nobody_is_admitted_and_nobody_is_told_why_without_a_record(
    admission: Admission, tmp_path: Path, secret: str
):
    with sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None) as other:
        other.execute("DROP TABLE audit_decision")
    other.close()
    with pytest.raises(Unavailable):
        await admit(admission, signed(secret=secret))


# --- Admitted ---


async def test_an_admin_is_admitted_once_the_record_is_kept(admission: Admission, records: SqlRecords):
    principal = await admit(admission, signed(body=b"{}"), RUNTIME, ENDPOINT, body=b"{}")
    (record,) = await kept(records)
    assert principal.admin
    assert (record.principal, record.action, record.resource) == (principal.arn, "GetAgentRuntime", ENDPOINT)
    assert (record.decision, record.reason) == (ALLOWED, "admin key")
    assert (record.request_id, record.source) == ("id-1", "203.0.113.7")


async def test_a_policy_that_covers_every_resource_admits(admission: Admission, keys: AccessKeys, records: SqlRecords):
    key = await keys.create("ci", policy=policy("Allow", RUNTIME + "*"))
    await admit(admission, signed_by(key), RUNTIME, ENDPOINT)
    assert [(record.decision, record.reason) for record in await kept(records)] == [
        (ALLOWED, "identity policy, Statement[0]")
    ]


async def test_a_key_that_was_proven_but_not_yet_authorised_has_no_record_of_being_allowed(
    admission: Admission, records: SqlRecords
):
    await admission.authenticate(ATTEMPT, await admission.present(ATTEMPT, signed()), digest(b""))
    assert await kept(records) == []


async def test_decisions_are_counted(admission: Admission):
    def counted() -> dict[str, float]:
        name = "identity_gateway_decisions_total"
        labels = [{"scheme": "sigv4", "decision": decision} for decision in (ALLOWED, DENIED)]
        return {each["decision"]: REGISTRY.get_sample_value(name, each) or 0 for each in labels}

    before = counted()
    await admit(admission, signed())
    with pytest.raises(InvalidSignature):
        await admit(admission, signed(secret="wrong"))
    assert counted() == {decision: count + 1 for decision, count in before.items()}


async def test_what_is_handed_out_as_it_is_kept_leaves_one_record_that_says_both(
    admission: Admission, records: SqlRecords, keys: AccessKeys
):
    principal = await admit(admission, signed())
    before = len(await kept(records))
    details = {"workload": "agent", "fingerprint": "0123456789abcdef"}
    await admission.vend(ATTEMPT, principal, RUNTIME, "admin key", details)
    record = (await kept(records))[-1]
    assert len(await kept(records)) == before + 1
    assert (record.decision, record.reason, record.details) == (ALLOWED, "vended", details | {"permitted": "admin key"})


async def test_nothing_is_handed_out_when_its_record_cannot_be_committed(
    admission: Admission, records: SqlRecords, tmp_path: Path
):
    principal = await admit(admission, signed())
    with sqlite3.connect(tmp_path / "records.sqlite") as connection:
        connection.execute("DROP TABLE audit_decision")
    with pytest.raises(Unavailable):
        await admission.vend(ATTEMPT, principal, RUNTIME, "admin key", {})


async def test_who_signed_is_said_at_once_of_a_request_like_one_before(admission: Admission):
    principal = await admit(admission, signed())
    assert admission.authenticate_at_once(signed(), digest(b"")) == principal


async def test_a_wrong_signature_is_nobodys_at_once(admission: Admission):
    await admit(admission, signed())
    assert admission.authenticate_at_once(signed(secret="wrong"), digest(b"")) is None
