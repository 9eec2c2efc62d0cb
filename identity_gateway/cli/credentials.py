"""`identity-gateway credentials`: temporary credentials in the form of AWS's `credential_process`."""

import json
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from identity_gateway.cli.opened import fail

_AWS_SECONDS = 60
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_ASKING = "_IDENTITY_GATEWAY_ASKS_FOR_AWS_CREDENTIALS"
"""Set while AWS credentials of this machine are looked for: a profile may name this very command as their source."""

_TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105 - the name of a variable


def credentials(
    url: Annotated[str, typer.Option(help="Public URL of the gateway.")],
    role: Annotated[str, typer.Option(help="ARN of the role of the gateway.")],
    session: Annotated[str, typer.Option(help="Name of the session: who or what this is.")] = "credential-process",
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with a JWT that the role trusts; also from {_TOKEN_FILE}.")
    ] = None,
    aws: Annotated[bool, typer.Option("--aws", help="Prove the AWS identity of this machine instead.")] = False,
    aws_profile: Annotated[
        str | None, typer.Option(help="Profile with those AWS credentials; the usual places if not given.")
    ] = None,
    aws_region: Annotated[str, typer.Option(help="Region of AWS STS that is to vouch.")] = "us-east-1",
    duration: Annotated[int | None, typer.Option(min=900, max=43200, help="Seconds that they shall live.")] = None,
) -> None:
    """Print temporary credentials of a role as JSON, for `credential_process` in a configuration of AWS SDKs.

    They are proven by a JWT in a file, or, with --aws, by the AWS credentials of this machine: those are not sent, only
    a presigned GetCallerIdentity, which is bound to this gateway and ends after a minute.
    """
    where = urlsplit(url)
    if where.scheme != "https" and not (where.scheme == "http" and where.hostname in _LOOPBACK):
        fail("--url must be https: what is sent there is a credential")
    asked: dict[str, Any] = {"RoleArn": role, "RoleSessionName": session}
    asked |= {"DurationSeconds": duration} if duration is not None else {}
    if aws:
        proof = {"CallerIdentityToken": presigned(url, aws_region, aws_profile)}
        given = _call(url, "identity-gateway-sts", "AssumeRoleWithCallerIdentity", asked | proof)
    else:
        proof = {"WebIdentityToken": _token(token_file)}
        given = _call(url, "sts", "AssumeRoleWithWebIdentity", asked | proof)
    shown = given["Credentials"]
    print(json.dumps({"Version": 1, **shown, "Expiration": shown["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ")}))


def presigned(server: str, region: str, profile: str | None = None) -> str:
    """Return a presigned GetCallerIdentity of the AWS credentials of this machine, bound to the gateway at `server`."""
    if _ASKING in os.environ:  # without an end, one process would start the next
        fail("the AWS credentials of this machine come from this very command; name others with --aws-profile")
    import botocore.session  # noqa: PLC0415 - slow to import, and not needed for --help
    from botocore.auth import SigV4QueryAuth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    from identity_gateway.protocol.caller_identity import BINDING_HEADER  # noqa: PLC0415

    os.environ[_ASKING] = "1"
    try:
        found = botocore.session.Session(profile=profile).get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:  # it may repeat what another program said, or half of a secret
        fail(f"the AWS credentials of this machine cannot be had: {error.__class__.__name__}")
    finally:
        del os.environ[_ASKING]
    if frozen is None:
        fail("this machine has no AWS credentials")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    request = AWSRequest(
        "GET",
        f"https://sts.{region}.{domain}/?Action=GetCallerIdentity&Version=2011-06-15",
        headers={BINDING_HEADER: server.rstrip("/")},
    )
    SigV4QueryAuth(frozen, "sts", region, expires=_AWS_SECONDS).add_auth(request)
    return str(request.url)


def _token(token_file: Path | None) -> str:
    path = token_file or (Path(os.environ[_TOKEN_FILE]) if _TOKEN_FILE in os.environ else None)
    if path is None:
        fail("name the file of a JWT with --token-file, or say --aws")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} cannot be read: {error.__class__.__name__}")


def _call(url: str, service: str, action: str, asked: dict[str, Any]) -> Any:
    """Call an action that needs no signature. What the gateway refuses becomes a sentence and exit code 1."""
    import botocore.session  # noqa: PLC0415 - slow to import, and not needed for --help
    from botocore import UNSIGNED, xform_name  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    from identity_gateway.protocol.aws.model import OUR_MODELS  # noqa: PLC0415

    session = botocore.session.get_session()
    session.get_component("data_loader").search_paths.append(OUR_MODELS)
    config = Config(signature_version=UNSIGNED, proxies={}, connect_timeout=10, read_timeout=20)
    try:
        client = session.create_client(service, region_name="us-east-1", endpoint_url=url, config=config)
        return getattr(client, xform_name(action))(**asked)
    except ClientError as error:
        fail(f"{error.response['Error']['Code']}: {error.response['Error']['Message']}")
    except BotoCoreError as error:
        fail(f"{url} did not answer as a gateway does: {error.__class__.__name__}")
