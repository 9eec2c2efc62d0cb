"""AWS Secrets Manager as moto emulates it, and the owner of the secrets in it. Import the fixtures where they are used."""

import json
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from moto.server import ThreadedMotoServer

REGION = "us-east-1"


@pytest.fixture(scope="session", name="aws")
def running_aws() -> Iterator[str]:
    """The URL of a server that does as Secrets Manager does."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(name="aws_credentials")
def given_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have AWS credentials, and no others than these."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SECRETS_MANAGER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture(name="owner")
def secret_owner(aws: str, aws_credentials: None) -> Iterator[Any]:
    """The owner of the secrets: a client of theirs. What they kept is gone afterwards."""
    client = botocore.session.get_session().create_client("secretsmanager", region_name=REGION, endpoint_url=aws)
    yield client
    for secret in client.list_secrets(IncludePlannedDeletion=True)["SecretList"]:
        client.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
    client.close()


def keep(owner: Any, document: Any, name: str) -> str:
    """Keep a JSON document as a secret, and return its ARN."""
    return str(owner.create_secret(Name=name, SecretString=json.dumps(document))["ARN"])
