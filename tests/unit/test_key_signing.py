"""Client assertions are signed by the key that the provider names, or by none; no error quotes a key."""

import base64
from hashlib import sha256
from typing import Any

import boto3
import jwt
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from moto import mock_aws

from identity_gateway.key_signing import KmsSigning, LocalSigning, SigningFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import Unsigned
from tests.fakes.descriptors import client

RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
CLAIMS = {"iss": "client-1", "aud": "https://vendor.example/token"}
ARN = "arn:aws:kms:us-east-1:000000000000:key/1"


def pem(key: Any) -> str:
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, none).decode()


def unsigned(algorithm: Any = "RS256", kms_key: str | None = None) -> Unsigned:
    return Unsigned(algorithm, "private_key", kms_key, {"kid": "1"}, CLAIMS)


def nobody(region: str) -> Any:
    raise AssertionError(region)


class Refusing:
    """An AWS KMS that answers every signature with one error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def sign(self, **_: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    "key", ["", "not a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", pem(EC)]
)
async def test_a_key_that_cannot_sign_is_refused_and_not_quoted(key: str):
    with pytest.raises(SigningFailed) as failed:
        await LocalSigning().sign(client(secrets={"private_key": Secret(key)}), unsigned())
    assert (str(failed.value).startswith("the key cannot sign with RS256"), failed.value.transient) == (True, False)
    assert not key or key not in str(failed.value)


@pytest.mark.parametrize("kms_key", [None, ARN])
async def test_a_local_signature_needs_a_local_key(kms_key: str | None):
    with pytest.raises(SigningFailed, match="private_key"):
        await LocalSigning().sign(client(), unsigned(kms_key=kms_key))


@pytest.mark.parametrize("arn", ["key/1", "arn:aws:s3:us-east-1:0:b/x", "arn:aws:kms::0:key/1", ""])
async def test_what_is_no_arn_of_a_key_is_not_asked_for(arn: str):
    with pytest.raises(SigningFailed, match="ARN"):
        await KmsSigning(nobody).sign(client(), unsigned(kms_key=arn))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException", "Message": "m"}}, "Sign"), False),
        (ClientError({"Error": {"Code": "NotFoundException", "Message": "m"}}, "Sign"), False),
        (ClientError({"Error": {"Code": "ThrottlingException", "Message": "m"}}, "Sign"), True),
        (ClientError({"Error": {"Code": "KMSInternalException", "Message": "m"}}, "Sign"), True),
        (EndpointConnectionError(endpoint_url="https://kms"), True),
    ],
)
async def test_a_key_service_that_is_down_is_told_from_one_that_refuses(error: Exception, transient: bool):
    with pytest.raises(SigningFailed) as failed:
        await KmsSigning(lambda _: Refusing(error)).sign(client(), unsigned(kms_key=ARN))
    assert failed.value.transient is transient


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", RSA), ("PS256", RSA), ("ES256", EC)])
async def test_a_local_key_signs(algorithm: str, key: Any):
    signed = await LocalSigning().sign(client(secrets={"private_key": Secret(pem(key))}), unsigned(algorithm))
    assert jwt.decode(signed.reveal(), key.public_key(), [algorithm], audience=CLAIMS["aud"]) == CLAIMS
    assert jwt.get_unverified_header(signed.reveal()) == {"alg": algorithm, "typ": "JWT", "kid": "1"}


async def test_a_client_without_a_key_service_signs_locally():
    signed = await KmsSigning(nobody).sign(client(secrets={"private_key": Secret(pem(RSA))}), unsigned())
    assert jwt.decode(signed.reveal(), RSA.public_key(), ["RS256"], audience=CLAIMS["aud"]) == CLAIMS


@pytest.mark.parametrize(
    ("algorithm", "spec"), [("RS256", "RSA_2048"), ("PS256", "RSA_2048"), ("ES256", "ECC_NIST_P256")]
)
async def test_a_key_of_the_key_service_signs(algorithm: str, spec: str):
    with mock_aws():
        kms = boto3.client("kms", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        key = kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]
        asked: list[str] = []
        signing = KmsSigning(lambda region: asked.append(region) or kms)  # type: ignore[func-returns-value]
        signed = await signing.sign(client(), unsigned(algorithm, key["Arn"]))
        public = serialization.load_der_public_key(kms.get_public_key(KeyId=key["Arn"])["PublicKey"])
    assert asked == ["us-east-1"]
    if algorithm == "PS256":
        # The emulation salts longer than RFC 7518 §3.5 and the service do: verified with whatever salt there is.
        text, _, signature = signed.reveal().rpartition(".")
        salted = padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO)
        public.verify(base64.urlsafe_b64decode(signature + "=="), text.encode(), salted, SHA256())  # type: ignore[union-attr]
        return
    assert jwt.decode(signed.reveal(), public, [algorithm], audience=CLAIMS["aud"]) == CLAIMS  # type: ignore[arg-type]


async def test_a_long_text_is_signed_by_its_digest():
    asked: list[dict[str, Any]] = []

    class Digesting:
        def sign(self, **more: Any) -> dict[str, bytes]:
            asked.append(more)
            return {"Signature": b"signature"}

    long = Unsigned("RS256", "private_key", ARN, {}, {"x": "y" * 4096})
    signed = await KmsSigning(lambda _: Digesting()).sign(client(), long)
    text = signed.reveal().rpartition(".")[0]
    assert (asked[0]["MessageType"], asked[0]["Message"]) == ("DIGEST", sha256(text.encode()).digest())
