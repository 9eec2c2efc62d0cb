"""`identity-gateway credentials` as the `credential_process` of a profile, run by botocore itself: it never runs itself
without an end, says no secret where it fails, and gives credentials that the gateway takes."""

import asyncio
import shlex
import sys
import time
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import CredentialRetrievalError

from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, REGION, RunningGateway
from tests.security.attacked_doors import fresh_url
from tests.security_tokens import made_role

COMMAND = str(Path(sys.executable).with_name("identity-gateway"))
ROLE = f"arn:aws:iam::{ACCOUNT}:role/nobody"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let botocore find a configuration of this test alone, and start one process of the command after the other."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_PROFILE", "ci")
    return tmp_path


def profile(home: Path, *arguments: str) -> Path:
    """Write a profile that notes each run of the command. Return where: a line for each."""
    runs = home / "runs"
    script = home / "process"
    command = shlex.join([COMMAND, "credentials", *arguments])
    # The fifth run in a row would be the proof of a circle; nothing is started then.
    counted = f'echo run >> {runs}\n[ "$(wc -l < {runs})" -lt 5 ] || exit 9\nexec {command}\n'
    script.write_text(f"#!/bin/sh\n{counted}")
    script.chmod(0o700)
    (home / "config").write_text(f"[profile ci]\nregion = {REGION}\ncredential_process = {script}\n")
    return runs


def test_a_profile_whose_process_asks_for_the_same_profile_starts_no_circle_of_processes(home: Path):
    runs = profile(home, "--url", "http://127.0.0.1:9", "--role", ROLE, "--aws")
    with pytest.raises(CredentialRetrievalError):
        botocore.session.Session().get_credentials()
    assert runs.read_text().splitlines() == ["run"] * 2


def test_what_another_process_says_when_it_fails_is_not_repeated(home: Path):
    (home / "broken").write_text("#!/bin/sh\necho half-a-secret >&2\nexit 1\n")
    (home / "broken").chmod(0o700)
    profile(home, "--url", "http://127.0.0.1:9", "--role", ROLE, "--aws", "--aws-profile", "broken")
    with (home / "config").open("a") as config:
        config.write(f"[profile broken]\ncredential_process = {home / 'broken'}\n")
    with pytest.raises(CredentialRetrievalError) as caught:
        botocore.session.Session().get_credentials()
    assert "cannot be had: CredentialRetrievalError" in str(caught.value)
    assert "half-a-secret" not in str(caught.value)


async def test_botocore_gets_credentials_that_the_gateway_takes(gateway: RunningGateway, home: Path):
    async with FakeIssuer() as issuer:
        trust = {"webIdentity": {"discoveryUrl": fresh_url(issuer), "allowedAudience": ["gateway"]}}
        role = await asyncio.to_thread(made_role, gateway, home, trust)
        now = int(time.time())
        claims = {"iss": issuer.issuer, "sub": "ada", "aud": "gateway", "iat": now, "exp": now + 600}
        (home / "token").write_text(issuer.keys[0].token(claims) + "\n")
        profile(home, "--url", gateway.url, "--role", role, "--session", "ada", "--token-file", str(home / "token"))

        def who() -> str:
            client = botocore.session.Session().create_client("sts", endpoint_url=gateway.url)
            try:
                return str(client.get_caller_identity()["Arn"])
            finally:
                client.close()

        assert (
            await asyncio.to_thread(who) == role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/ada"
        )
