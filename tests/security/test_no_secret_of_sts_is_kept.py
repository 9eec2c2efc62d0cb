"""What the security token service is shown and gives is neither in the log nor in the data folder afterwards."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, RunningGateway, running_gateway
from tests.security.test_caller_identity import presigned
from tests.security_tokens import fake_aws_sts, key_of, made_role, sts

POLICY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}


def token(issuer: FakeIssuer, **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": issuer.issuer, "sub": "ada", "aud": "gateway", "iat": now, "exp": now + 600}
    return issuer.keys[0].token(claims | changes)


def secrets_of(gateway: RunningGateway, folder: Path, issuer: FakeIssuer) -> dict[str, str]:
    """Call every action, well and badly, and return what nobody may find."""
    role = made_role(
        gateway,
        folder,
        {
            "webIdentity": {"discoveryUrl": issuer.discovery_url, "allowedAudience": ["gateway"]},
            "awsPrincipals": ["arn:aws:iam::123456789012:role/deployer"],
            "principals": [f"arn:aws:iam::{ACCOUNT}:role/*"],
        },
        POLICY,
    )
    asked = {"RoleArn": role, "RoleSessionName": "ada"}
    good, bad, proof = token(issuer), token(issuer, aud="another"), presigned(gateway.url)
    other = presigned("https://elsewhere.example")
    with sts(gateway) as client:
        first = client.assume_role_with_web_identity(**asked, WebIdentityToken=good)["Credentials"]
        with suppress(ClientError):
            client.assume_role_with_web_identity(**asked, WebIdentityToken=bad)
    with sts(gateway, service="identity-gateway-sts") as client:
        second = client.assume_role_with_caller_identity(**asked, CallerIdentityToken=proof)["Credentials"]
        with suppress(ClientError):
            client.assume_role_with_caller_identity(**asked, CallerIdentityToken=other)
    with sts(gateway, key_of(first)) as client:
        third = client.assume_role(**asked)["Credentials"]
        short = {"Audience": ["x"], "SigningAlgorithm": "ES384", "DurationSeconds": 60}
        issued = client.get_web_identity_token(**short)["WebIdentityToken"]
    found = {
        f"{member} of the {place}": given[member]
        for place, given in (("first", first), ("second", second), ("third", third))
        for member in ("SecretAccessKey", "SessionToken")
    }
    tokens = {"a token": good, "a refused token": bad, "a token of ours": issued}
    proofs = {"a proof": proof, "a refused proof": other}
    return (
        found
        | {name: each.rpartition(".")[2] for name, each in tokens.items()}
        | {name: each.rpartition("X-Amz-Signature=")[2] for name, each in proofs.items()}
    )


async def test_what_proves_somebody_is_nowhere_afterwards(tmp_path: Path):
    def kept_by_a_gateway(issuer: FakeIssuer) -> tuple[bytes, dict[str, str]]:
        with fake_aws_sts() as aws, running_gateway(sts_endpoint_url=aws.url) as gateway:
            secrets = secrets_of(gateway, tmp_path, issuer)
            gateway.stop()
            files = [gateway.log_file, *(each for each in gateway.data_dir.rglob("*") if each.is_file())]
            return b"\n".join(each.read_bytes() for each in files), secrets

    async with FakeIssuer() as issuer:
        kept, secrets = await asyncio.to_thread(kept_by_a_gateway, issuer)
    assert b"AssumeRoleWithWebIdentity" in kept
    assert [name for name, secret in secrets.items() if secret.encode() in kept] == []
