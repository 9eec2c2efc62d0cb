"""Key-encryption keys: what wraps the data key of every value in the token vault, and where those keys stand.

`ring` knows which key an account wraps with and finds the one that wrapped a value; `local` are the master keys,
`aws_kms` and `transit` are services that never give their keys away. Nothing here sees what is sealed.
"""

from identity_gateway.key_encryption.aws_kms import AwsKms
from identity_gateway.key_encryption.local import LocalKey
from identity_gateway.key_encryption.ring import KeyRing
from identity_gateway.key_encryption.service import (
    KeyEncryptionKey,
    KeyLost,
    KeyRefused,
    KeyService,
    KeyUnavailable,
)
from identity_gateway.key_encryption.transit import Transit, token_file

__all__ = [
    "AwsKms",
    "KeyEncryptionKey",
    "KeyLost",
    "KeyRefused",
    "KeyRing",
    "KeyService",
    "KeyUnavailable",
    "LocalKey",
    "Transit",
    "token_file",
]
