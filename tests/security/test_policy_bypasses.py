"""Ways around a policy: an address that one only claims, and a user whose name is a pattern."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.gateways import RunningGateway, fresh_name

OFFICE = "203.0.113.7"
CLAIMED = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP")


@pytest.fixture
def workload(gateway: RunningGateway) -> str:
    return str(gateway.control.create_workload_identity(name=fresh_name("workload"))["name"])


def client(gateway: RunningGateway, folder: Path, *statements: dict[str, Any]) -> Any:
    """Return a client that signs with a new key of this policy."""
    (folder / "policy.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
    flags = ("--name", fresh_name("key"), "--policy", str(folder / "policy.json"), "--json")
    made = json.loads(gateway.command("access-key", "create", *flags).stdout)
    return gateway.client("bedrock-agentcore", key=(made["accessKeyId"], made["secretAccessKey"]))


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


@pytest.mark.parametrize("operator", ["IpAddress", "NotIpAddress"])
def test_an_address_that_a_caller_claims_is_not_its_address(
    gateway: RunningGateway, tmp_path: Path, workload: str, operator: str
):
    office = {operator: {"aws:SourceIp": f"{OFFICE}/32"}}
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    statements = [allow | {"Condition": office}] if operator == "IpAddress" else [
        allow, {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": office},
    ]  # fmt: skip
    caller = client(gateway, tmp_path, *statements)

    def claim(request: Any, **_more: Any) -> None:
        for name in CLAIMED:
            request.headers[name] = f"for={OFFICE}" if name == "Forwarded" else OFFICE

    caller.meta.events.register("before-sign", claim)
    with refused():
        caller.get_workload_access_token(workloadName=workload)


def test_tls_that_a_caller_claims_is_none(gateway: RunningGateway, tmp_path: Path, workload: str):
    secure = {"Bool": {"aws:SecureTransport": "true"}}
    caller = client(gateway, tmp_path, {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": secure})

    def claim(request: Any, **_more: Any) -> None:
        request.headers["X-Forwarded-Proto"] = "https"

    caller.meta.events.register("before-sign", claim)
    with refused():
        caller.get_workload_access_token(workloadName=workload)


@pytest.mark.parametrize("user", ["*", "?????????", "${aws:username}", "shop/../bank/ada", "Shop/ada", " shop/ada"])
def test_a_user_whose_name_is_a_pattern_is_one_user(gateway: RunningGateway, tmp_path: Path, workload: str, user: str):
    own = {"StringLike": {"bedrock-agentcore:userid": "bank/${aws:username}-*"}}
    caller = client(gateway, tmp_path, {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": own})
    with refused():
        caller.get_workload_access_token_for_user_id(workloadName=workload, userId=user)
