"""AWS's own signer in C (awscrt), as a program: it runs in an environment of its own, because botocore would use it.

It reads what `tests/node/signers.mjs` reads, and answers {"awscrt": [...]}; it imports nothing of ours.
"""

import base64
import io
import json
import sys
from datetime import datetime
from urllib.parse import quote

from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSigningAlgorithm,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.http import HttpHeaders, HttpRequest


def main() -> None:
    """Sign every case that standard input holds."""
    asked = json.load(sys.stdin)
    provider = AwsCredentialsProvider.new_static(asked["keyId"], asked["secret"], asked["token"])
    answers = []
    for number, case in enumerate(asked["cases"]):
        parameters = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in case["query"]
        )
        headers = HttpHeaders([("Host", asked["host"]), *case["headers"].items()])
        body = base64.b64decode(case["body"])
        request = HttpRequest(
            case["method"], case["path"] + (f"?{parameters}" if parameters else ""), headers, io.BytesIO(body)
        )
        # Every other request says the hash of its body in a header, as some clients of AWS do.
        said = AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256 if number % 2 else AwsSignedBodyHeaderType.NONE
        config = AwsSigningConfig(
            algorithm=AwsSigningAlgorithm.V4,
            signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=provider,
            region=asked["region"],
            service=asked["service"],
            date=datetime.fromisoformat(asked["date"]),
            signed_body_header_type=said,
        )
        signed = aws_sign_request(request, config).result(10)
        answers.append({"headers": dict(signed.headers), "target": signed.path})
    json.dump({"awscrt": answers}, sys.stdout)


if __name__ == "__main__":
    main()
