"""One call for a credential, checked: who asks, for whom, of which provider, and what exactly.

Reads the input and decides nothing: whether there is such a credential, and where it comes from, is `resources`'.
"""

import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from identity_gateway.errors import FieldError, ValidationFailed
from identity_gateway.model import CredentialProvider, Document, User, WorkloadAccess, WorkloadIdentity, user_words
from identity_gateway.protocol.oauth2 import Client, Requested
from identity_gateway.vault import Holder

OURS = "identity-gateway."
"""Custom parameters with this prefix speak to the gateway; they go to no vendor and are no part of a grant's key."""

CREDENTIAL, REJECTED = OURS + "credential", OURS + "rejected-token-sha256"

MOST = 100
"""How many scopes, parameters, resources or audiences one call may name."""

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Asking:
    """The call. Raises ValidationFailed for parameters that speak to the gateway and say nothing that it knows.

    `ours` are those parameters; `requested` holds everything else, as it is asked of the vendor. `rejected` is the
    SHA-256 of a token that the agent saw the vendor refuse. Not checked: what the vendor allows.
    """

    def __init__(
        self, asked: Document, access: WorkloadAccess, workload: WorkloadIdentity, provider: CredentialProvider,
        client: Client,
    ) -> None:  # fmt: skip
        given = dict(asked.get("customParameters") or {})
        self.ours = {name: given.pop(name) for name in list(given) if name.startswith(OURS)}
        if unknown := sorted(self.ours.keys() - {CREDENTIAL, REJECTED}):
            raise wrong(f"customParameters.{unknown[0]}", "is not a parameter of this gateway")
        self.requested = Requested(
            tuple(dict.fromkeys(asked["scopes"])),
            given,
            tuple(asked.get("resources") or ()),
            tuple(asked.get("audiences") or ()),
        )
        _bound("scopes", self.requested.scopes)
        _bound("customParameters", self.requested.parameters)
        _bound("resources", self.requested.resources)
        _bound("audiences", self.requested.audiences)
        self.asked = asked
        self.access = access
        self.workload = workload
        self.provider = provider
        self.client = client
        self.rejected = self._rejected()

    @property
    def vendor(self) -> str:
        """The vendor's name, for people."""
        return self.client.descriptor.name

    def _rejected(self) -> str | None:
        """Return the SHA-256 of a token that the agent saw the vendor refuse."""
        value: str | None = self.ours.get(REJECTED)
        if value is not None and not _SHA256.fullmatch(value.lower()):
            raise wrong(f"customParameters.{REJECTED}", "must be a SHA-256 in hexadecimal")
        return None if value is None else value.lower()

    def part(self) -> str:
        """Which of the credentials of a consent is asked for: named, or told by the scopes that were given."""
        known = list(dict.fromkeys(issued.name for issued in self.client.descriptor.token.response.issued))
        named = self.ours.get(CREDENTIAL)
        if named is not None:
            if named not in known:
                raise wrong(f"customParameters.{CREDENTIAL}", f"must be one of: {', '.join(known)}")
            return str(named)
        rules = self.client.descriptor.scopes
        for parameter, part in rules.sets.items():
            if self.requested.parameters.get(parameter) or (parameter == rules.parameter and self.requested.scopes):
                return part
        return known[0]

    def holder(self, user: User) -> Holder:
        """Return whose grant is asked for."""
        return Holder(
            self.workload.name, self.workload.created_at, user, self.provider.name, self.provider.id, self.requested
        )

    def details(self, **more: Any) -> Document:
        """Return what the audit record says of a credential that is handed out.

        Of parameters only the names: their values are the agent's, and nobody checked that they hold no secret.
        """
        asked = {
            "parameters": sorted(self.requested.parameters),
            "resources": list(self.requested.resources),
            "audiences": list(self.requested.audiences),
        }
        return {
            "workload": self.workload.name,
            "user": user_words(self.access.user),
            "provider": self.provider.name,
            "providerId": self.provider.id,
            "flow": self.asked["oauth2Flow"],
            "scopes": list(self.requested.scopes),
            **{name: value for name, value in asked.items() if value},
            **{name: value for name, value in more.items() if value is not None},
        }


def _bound(field: str, asked: Collection[str]) -> None:
    """Refuse more than anybody needs. AWS sets no limit, but all of it stands in the record of every vend."""
    if len(asked) > MOST:
        raise wrong(field, f"holds more than {MOST} entries")


def canonical(requested: Requested) -> tuple[str, ...]:
    """Return everything that was asked for in one form: parameters are a map, everything else sets."""
    return (
        json.dumps(sorted({*requested.scopes})),
        json.dumps(sorted(requested.parameters.items())),
        json.dumps([sorted({*requested.resources}), sorted({*requested.audiences})]),
    )


def moment(time: datetime) -> str:
    """Return a time as audit records write it: ISO 8601, UTC, in seconds."""
    return time.astimezone(UTC).isoformat(timespec="seconds")


def wrong(field: str, what: str) -> ValidationFailed:
    """Return the error for one member of the input."""
    return ValidationFailed(f"{field} {what}.", fields=(FieldError(field, what),))
