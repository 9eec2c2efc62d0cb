"""Tokens as identity providers document them, and what the front door says to each: one table per provider.

`claims` are those of a real token of that kind, shortened, without `exp` and `iat`; the signature is made by keys of our
own. `refused` is the first word of the reason, empty where the token is let in. What is refused stands first.
`python -m tests.providers --inbound` prints the tables.
"""

from collections.abc import Iterator

from tests.providers.inbound.case import KEY, NOW, Case, Claims, Table, custom, verdict, without
from tests.providers.inbound.cognito import COGNITO
from tests.providers.inbound.entra import ENTRA, ENTRA_OLD, ENTRA_TENANTS
from tests.providers.inbound.okta import OKTA
from tests.providers.inbound.others import AUTH0, GENERIC, GOOGLE, KEYCLOAK

__all__ = ["KEY", "NOW", "TABLES", "Case", "Claims", "Table", "custom", "printed", "verdict", "without"]

TABLES = (COGNITO, OKTA, ENTRA, ENTRA_OLD, ENTRA_TENANTS, AUTH0, KEYCLOAK, GOOGLE, GENERIC)


def printed() -> Iterator[str]:
    """Yield the lines of all tables as Markdown, with what the gateway says now."""
    for table in TABLES:
        yield from (f"## {table.name}", "", f"`{table.discovery_url}`", "", "| token | answer |", "|---|---|")
        for case in table.cases:
            found = verdict(table, case)
            yield f"| {case.what} | {f'refused: `{found}`' if found else 'let in'} |"
        yield ""
