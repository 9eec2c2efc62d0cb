"""Vendor by capability, read from the descriptors."""

from identity_gateway.catalog import read
from identity_gateway.protocol.descriptor import Descriptor
from tests.providers.described import FILES

COLUMNS = (
    "vendor", "user consent", "PKCE", "credentials", "refresh", "revoke (ends)", "introspect", "user info", "machine",
    "exchange", "webhooks", "API key",
)  # fmt: skip


def table() -> str:
    """Return one row for each descriptor."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(row(read(path)) for path in FILES)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(descriptor: Descriptor) -> tuple[str, ...]:
    authorize = descriptor.authorize
    return (
        descriptor.name,
        _mark(authorize),
        authorize.pkce if authorize is not None else "–",
        ", ".join(dict.fromkeys(issued.name for issued in descriptor.token.response.issued)),
        _refresh(descriptor),
        ", ".join(dict.fromkeys(revoke.effect.replace("_", " + ") for revoke in descriptor.revoke)) or "–",
        _mark(descriptor.introspect),
        _mark(descriptor.userinfo),
        ", ".join(machine.name.replace("_", " ") + (" (narrowed)" if machine.narrow else "") for machine in descriptor.machine) or "–",
        descriptor.exchange.grant.replace("_", " ") if descriptor.exchange is not None else "–",
        _mark(descriptor.signals),
        _mark(descriptor.api_key),
    )  # fmt: skip


def _mark(section: object) -> str:
    return "–" if section is None else "yes"


def _refresh(descriptor: Descriptor) -> str:
    policy = descriptor.refresh.policy
    if descriptor.refresh.how == "never":
        return "never"
    if descriptor.refresh.how == "access_token":
        return "by a living access token"
    words = ["rotating" if policy.single_use else "lasting"]
    words += [f"{policy.leeway} s of leeway"] * bool(policy.leeway)
    words += ["reuse ends all"] * policy.reuse_revokes_family + ["ends the old access token"] * policy.kills_old_access
    return ", ".join(words)
