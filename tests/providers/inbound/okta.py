"""Okta custom authorization servers: `cid`, and `scp` as a list."""

from tests.providers.inbound.case import NO_TYPE, Case, Claims, Table, without

OKTA_ISSUER = "https://example.okta.com/oauth2/default"
OKTA_ACCESS: Claims = {
    "ver": 1,
    "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
    "iss": OKTA_ISSUER,
    "aud": "api://default",
    "cid": "0oabucvyc38HLL1ef0h7",
    "uid": "00ujmkLgagxeRrAg20g3",
    "scp": ["openid", "agents.invoke"],
    "sub": "ada@example.com",
    "auth_time": 1_799_999_000,
}
OKTA_ID: Claims = {
    "ver": 1,
    "jti": "ID.4eAWJOCMB3SX8XewDfVR",
    "iss": OKTA_ISSUER,
    "aud": "0oabucvyc38HLL1ef0h7",
    "sub": "00ujmkLgagxeRrAg20g3",
    "amr": ["pwd"],
    "idp": "00ok1u7AsAkrwdZL3z0g3",
    "at_hash": "preview_at_hash",
    "name": "Ada",
}
OKTA_CLIENT = {"allowedClients": ["0oabucvyc38HLL1ef0h7"]}
OKTA_AUDIENCE = {"allowedAudience": ["api://default"]}

OKTA = Table(
    "Okta, custom authorization server",
    "okta",
    f"{OKTA_ISSUER}/.well-known/openid-configuration",
    OKTA_ISSUER,
    (
        Case("access token of another client", OKTA_CLIENT, OKTA_ACCESS | {"cid": "0oaother"}, "wrong_client", NO_TYPE),
        Case(
            "access token with two clients",
            OKTA_CLIENT,
            OKTA_ACCESS | {"client_id": "0oabucvyc38HLL1ef0h7", "cid": "0oaother"},
            "wrong_client",
            NO_TYPE,
        ),
        Case(
            "access token with a list as cid",
            OKTA_CLIENT,
            OKTA_ACCESS | {"cid": ["0oabucvyc38HLL1ef0h7"]},
            "wrong_client",
        ),
        Case("access token for another API", OKTA_AUDIENCE, OKTA_ACCESS | {"aud": "api://other"}, "wrong_audience"),
        Case(
            "access token of the org server",
            OKTA_AUDIENCE,
            OKTA_ACCESS | {"iss": "https://example.okta.com"},
            "wrong_issuer",
        ),
        Case("ID token, by its audience", {"allowedAudience": ["0oabucvyc38HLL1ef0h7"]}, OKTA_ID, "wrong_kind"),
        Case("ID token, by the client", OKTA_CLIENT, OKTA_ID, "wrong_kind"),
        Case(
            "scp as a text",
            OKTA_AUDIENCE | {"allowedScopes": ["agents"]},
            OKTA_ACCESS | {"scp": "agents"},
            "missing_scope",
        ),
        Case("a part of a scope", OKTA_AUDIENCE | {"allowedScopes": ["agents"]}, OKTA_ACCESS, "missing_scope"),
        Case(
            "a scope in scope only",
            OKTA_AUDIENCE | {"allowedScopes": ["admin"]},
            OKTA_ACCESS | {"scope": "admin"},
            "missing_scope",
        ),
        Case("token bound by DPoP", OKTA_CLIENT, OKTA_ACCESS | {"cnf": {"jkt": "x"}}, "proof_of_possession"),
        Case(
            "access token of the org's own profile",
            OKTA_CLIENT,
            OKTA_ACCESS,
            "wrong_type",
            {"typ": "application/okta-internal-at+jwt"},
        ),
        Case("access token, by its client", OKTA_CLIENT, OKTA_ACCESS, header=NO_TYPE),
        Case(
            "access token with the claim client_id that AWS asks for",
            OKTA_CLIENT,
            OKTA_ACCESS | {"client_id": "0oabucvyc38HLL1ef0h7"},
        ),
        Case("access token, by its audience", OKTA_AUDIENCE, OKTA_ACCESS, header=NO_TYPE),
        Case("access token, by a scope", OKTA_AUDIENCE | {"allowedScopes": ["agents.invoke"]}, OKTA_ACCESS),
        Case(
            "access token of a machine",
            OKTA_CLIENT,
            without(OKTA_ACCESS, "uid", "auth_time") | {"sub": "0oabucvyc38HLL1ef0h7"},
        ),
    ),
)
