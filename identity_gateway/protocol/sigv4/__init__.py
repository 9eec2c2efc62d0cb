"""AWS Signature Version 4: what a request presents, and whether a secret made it.

`parse` (header) and `parse_query` (presigned URL) refuse everything that can be refused before a body is read or a key
is looked up; `verify` says what a signature proves, a `SignedRequest`. `Forms` does both at once for a request that is
like one which was verified, and leaves every refusal to them. This package does not look keys up, does not check the
Host against the gateway's own names, does not bound the size of the header block, and does not decide what the caller
may do. There is no nonce in this protocol: a request can be sent again for as long as the clock allows.

Names and rules follow "Create a signed AWS API request" of the IAM User Guide, for services other than S3.
"""

from identity_gateway.protocol.sigv4.canonical import (
    Scope,
    canonical_query_string,
    canonical_request,
    canonical_uri,
    signature,
    signing_key,
    string_to_sign,
)
from identity_gateway.protocol.sigv4.elements import PresentedSignature
from identity_gateway.protocol.sigv4.forms import Forms, Likeness, Reading, SigningKey
from identity_gateway.protocol.sigv4.presented import parse
from identity_gateway.protocol.sigv4.presented_url import is_presigned, parse_query
from identity_gateway.protocol.sigv4.verification import DUMMY_SECRET, invalid_signature, verify, verify_unknown

__all__ = [
    "DUMMY_SECRET",
    "Forms",
    "Likeness",
    "PresentedSignature",
    "Reading",
    "Scope",
    "SigningKey",
    "canonical_query_string",
    "canonical_request",
    "canonical_uri",
    "invalid_signature",
    "is_presigned",
    "parse",
    "parse_query",
    "signature",
    "signing_key",
    "string_to_sign",
    "verify",
    "verify_unknown",
]
