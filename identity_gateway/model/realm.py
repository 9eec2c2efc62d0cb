"""Where every resource of a gateway lives, and how its ARN is written."""

from dataclasses import dataclass
from enum import StrEnum


class CredentialKind(StrEnum):
    """What a credential provider gives. The value is the word that AWS uses in ARNs."""

    OAUTH2 = "oauth2"
    API_KEY = "apikey"


@dataclass(frozen=True, slots=True)
class Realm:
    """Where every resource of this gateway lives: AWS partition, region and account (twelve digits)."""

    account: str
    region: str
    partition: str = "aws"

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource of this realm, for example `runtime/hello-AbCdEf1234`."""
        return f"arn:{self.partition}:bedrock-agentcore:{self.region}:{self.account}:{resource}"

    def runtime_arn(self, runtime_id: str) -> str:
        """Return the ARN of an agent runtime."""
        return self.arn(f"runtime/{runtime_id}")

    def endpoint_arn(self, runtime_id: str, name: str) -> str:
        """Return the ARN of an agent runtime endpoint."""
        return self.arn(f"runtime/{runtime_id}/runtime-endpoint/{name}")

    def workload_identity_arn(self, name: str) -> str:
        """Return the ARN of a workload identity in the one implicit directory."""
        return self.arn(f"workload-identity-directory/default/workload-identity/{name}")

    def token_vault_arn(self, vault: str = "default") -> str:
        """Return the ARN of a token vault; `default` is the one that every account has."""
        return self.arn(f"token-vault/{vault}")

    def grant_arn(self, grant_id: str) -> str:
        """Return the ARN of a grant: the gateway's own, AWS has none."""
        return self.arn(f"token-vault/default/grant/{grant_id}")

    def credential_provider_arn(self, kind: CredentialKind, name: str) -> str:
        """Return the ARN of a credential provider in the default token vault."""
        return self.arn(f"token-vault/default/{kind.value}credentialprovider/{name}")
