"""A presigned `sts:GetCallerIdentity` of AWS as proof of who an AWS principal is: taken apart, and made anew.

What a client signed is never sent as it came. The parts that carry its signature are put on a request whose scheme,
host, path, action and binding header are constants or the gateway's own. Nothing is sent here; AWS alone can verify it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol import strictjson
from identity_gateway.protocol.aws.routes import percent_decode

BINDING_HEADER = "x-identity-gateway-server-id"
"""Signed by the client, set by the gateway from its own configuration: a token for one verifier opens no other."""

MAX_TOKEN = 4096
MAX_AGE = timedelta(minutes=15)
_MAX_SKEW = timedelta(minutes=5)
_LONGEST = 900

_COMMERCIAL = (
    *("af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1"),
    *("ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5"),
    *("ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1"),
    *("eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1"),
    *("me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2"),
)
_HOSTS: Mapping[str, tuple[str, str]] = {
    "sts.amazonaws.com": ("us-east-1", "aws"),
    **{f"sts.{region}.amazonaws.com": (region, "aws") for region in _COMMERCIAL},
    **{f"sts.{region}.amazonaws.com": (region, "aws-us-gov") for region in ("us-gov-east-1", "us-gov-west-1")},
    **{f"sts.{region}.amazonaws.com.cn": (region, "aws-cn") for region in ("cn-north-1", "cn-northwest-1")},
}
"""Every host that is asked, with its region and partition. Fixed: a pattern would let somebody make up regions."""

_URL = re.compile(r"https://([a-z0-9.-]{1,64})/\?([\x21-\x22\x24-\x7e]+)", re.ASCII)
_FIXED = {
    "Action": "GetCallerIdentity",
    "Version": "2011-06-15",
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-SignedHeaders": f"host;{BINDING_HEADER}",
}
_FREE = {
    "X-Amz-Credential": re.compile(r"[A-Z0-9]{16,128}/([0-9]{8})/([a-z0-9-]{1,32})/sts/aws4_request", re.ASCII),
    "X-Amz-Date": re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII),
    "X-Amz-Expires": re.compile(r"[1-9][0-9]{0,2}", re.ASCII),
    "X-Amz-Security-Token": re.compile(r"[A-Za-z0-9+/=_-]{1,3500}", re.ASCII),
    "X-Amz-Signature": re.compile(r"[0-9a-f]{64}", re.ASCII),
}
_OPTIONAL = {"X-Amz-Security-Token"}
_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):(?:iam|sts)::(?P<account>[0-9]{12}):"
    r"(?:root|(?:user|assumed-role|federated-user)/[A-Za-z0-9_+=,.@/-]{1,512})",
    re.ASCII,
)
_USER_ID = re.compile(r"[A-Za-z0-9_+=,.@:-]{1,200}", re.ASCII)
_SESSION_PARTS = 3


@dataclass(frozen=True, slots=True)
class PresignedIdentity:
    """The parts of a presigned request that carry its signature. `host` is one of ours, never the client's text."""

    host: str
    partition: str
    parameters: Mapping[str, str] = field(repr=False)
    expires_at: datetime

    @property
    def query(self) -> str:
        """Return the query of the request that the gateway makes: in canonical order, escaped as SigV4 demands."""
        return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(self.parameters.items()))


@dataclass(frozen=True, slots=True)
class AwsPrincipal:
    """Who AWS says signed. `names` are the ARNs under which a trust may name the principal."""

    arn: str
    account: str
    user_id: str

    @property
    def names(self) -> tuple[str, ...]:
        """Return the ARN, and for a session that of its role, which has lost its path (AWS does not tell it)."""
        head, _, rest = self.arn.partition(":assumed-role/")
        parts = rest.split("/")
        if len(parts) != _SESSION_PARTS - 1:
            return (self.arn,)
        return (self.arn, f"{head.replace(':sts:', ':iam:')}:role/{parts[0]}")


def parse(token: str, *, now: datetime) -> PresignedIdentity:
    """Take a presigned URL apart. Raises InvalidToken with the reason; the token is not repeated in it.

    Checked: length, host, every parameter (known, once in any case of letters, of its form), what is signed, scope and
    age. Not checked: the signature. AWS does that when it is asked.
    """
    whole = _URL.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if whole is None:
        raise _refused("not a presigned https URL of at most 4096 characters without a port")
    host = next((each for each in _HOSTS if each == whole[1]), None)
    if host is None:
        raise _refused("the host is not an endpoint of AWS STS")
    region, partition = _HOSTS[host]
    parameters = _parameters(whole[2])
    return PresignedIdentity(host, partition, parameters, _end(parameters, region, now))


def read_answer(body: bytes, partition: str) -> AwsPrincipal:
    """Return whom AWS's JSON answer names. Raises InvalidToken unless it is exactly one GetCallerIdentityResponse."""
    try:
        document = strictjson.loads(body, max_depth=8)
    except ValueError as error:
        raise _refused(f"the answer of AWS STS is {error}") from None
    match document:
        case {"GetCallerIdentityResponse": {"GetCallerIdentityResult": {} as result, "ResponseMetadata": {}}} if (
            len(document) == 1
        ):
            return _principal(result, partition)
    raise _refused("the answer of AWS STS is not one GetCallerIdentityResponse")


def _principal(result: Mapping[str, Any], partition: str) -> AwsPrincipal:
    arn, account, user_id = (result.get(name) for name in ("Arn", "Account", "UserId"))
    if not (isinstance(arn, str) and isinstance(account, str) and isinstance(user_id, str)):
        raise _refused("the answer of AWS STS names nobody")
    parts = _ARN.fullmatch(arn)
    if parts is None or parts["account"] != account or parts["partition"] != partition:
        raise _refused("the answer of AWS STS names a principal that is not understood")
    if not _USER_ID.fullmatch(user_id):
        raise _refused("the answer of AWS STS has a user id that is not understood")
    return AwsPrincipal(arn, account, user_id)


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    seen: set[str] = set()
    for pair in query.split("&"):
        name, _, raw = pair.partition("=")
        if name.lower() in seen:
            raise _refused("a parameter stands twice")
        seen.add(name.lower())
        try:
            parameters[name] = percent_decode(raw.encode("ascii"))
        except ValueError:
            raise _refused("a parameter is not escaped as it should be") from None
    if parameters.keys() - _FREE.keys() - _FIXED.keys():
        raise _refused("a parameter that does not belong to a presigned GetCallerIdentity")
    for name, value in _FIXED.items():
        if parameters.get(name) != value:
            raise _refused(f"{name} is not {value}")
    for name, form in _FREE.items():
        if name not in parameters and name in _OPTIONAL:
            continue
        if not form.fullmatch(parameters.get(name, "")):
            raise _refused(f"{name} is missing or not of its form")
    return parameters


def _end(parameters: Mapping[str, str], region: str, now: datetime) -> datetime:
    scope = _FREE["X-Amz-Credential"].fullmatch(parameters["X-Amz-Credential"])
    date = parameters["X-Amz-Date"]
    if scope is None or scope[1] != date[:8] or scope[2] != region:
        raise _refused("the scope is of another day or region")
    try:
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _refused("X-Amz-Date is no date") from None
    seconds = int(parameters["X-Amz-Expires"])
    if seconds > _LONGEST:
        raise _refused("X-Amz-Expires is more than 900")
    end = signed_at + min(timedelta(seconds=seconds), MAX_AGE)
    if end <= now:
        raise _refused("the presigned request has expired")
    if signed_at > now + _MAX_SKEW:
        raise _refused("the presigned request is of the future")
    return end


def _refused(reason: str) -> InvalidToken:
    return InvalidToken("The proof of the AWS caller's identity was refused.", reason=reason)
