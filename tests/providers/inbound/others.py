"""Auth0, Keycloak, Google, and an issuer that nobody described."""

from tests.providers.inbound.case import Case, Claims, Table, custom, without

AUTH0_ISSUER = "https://example.eu.auth0.com/"
AUTH0_API = "https://agents.example.com"
AUTH0_ACCESS: Claims = {
    "iss": AUTH0_ISSUER,
    "sub": "auth0|507f1f77bcf86cd799439011",
    "aud": [AUTH0_API, "https://example.eu.auth0.com/userinfo"],
    "azp": "my_client_id",
    "scope": "openid profile agents.invoke",
    "permissions": ["agents.invoke"],
}
AUTH0_9068: Claims = without(AUTH0_ACCESS, "azp") | {"client_id": "my_client_id", "jti": "j-1", "aud": AUTH0_API}
AUTH0_ID: Claims = {"iss": AUTH0_ISSUER, "sub": AUTH0_ACCESS["sub"], "aud": "my_client_id", "nonce": "n", "name": "Ada"}
AUTH0_AUDIENCE = {"allowedAudience": [AUTH0_API]}

AUTH0 = Table(
    "Auth0",
    "auth0",
    "https://example.eu.auth0.com/.well-known/openid-configuration",
    AUTH0_ISSUER,
    (
        Case("issuer without its slash", AUTH0_AUDIENCE, AUTH0_ACCESS | {"iss": AUTH0_ISSUER[:-1]}, "wrong_issuer"),
        Case(
            "token for another API", AUTH0_AUDIENCE, AUTH0_ACCESS | {"aud": "https://other.example"}, "wrong_audience"
        ),
        Case("client only, no audience", {"allowedClients": ["my_client_id"]}, AUTH0_ACCESS, "wrong_audience"),
        Case("another client", AUTH0_AUDIENCE | {"allowedClients": ["other"]}, AUTH0_ACCESS, "wrong_client"),
        Case("ID token, by its audience", {"allowedAudience": ["my_client_id"]}, AUTH0_ID, "wrong_kind"),
        Case(
            "ID token with azp", {"allowedAudience": ["my_client_id"]}, AUTH0_ID | {"azp": "my_client_id"}, "wrong_kind"
        ),
        Case(
            "a permission is no scope",
            AUTH0_AUDIENCE | {"allowedScopes": ["agents.admin"]},
            AUTH0_ACCESS | {"permissions": ["agents.admin"]},
            "missing_scope",
        ),
        Case("access token, by its audience", AUTH0_AUDIENCE, AUTH0_ACCESS),
        Case("access token, by its client", AUTH0_AUDIENCE | {"allowedClients": ["my_client_id"]}, AUTH0_ACCESS),
        Case(
            "access token of RFC 9068, by its client",
            AUTH0_AUDIENCE | {"allowedClients": ["my_client_id"]},
            AUTH0_9068,
            header={"typ": "at+jwt"},
        ),
        Case("access token, by a scope", AUTH0_AUDIENCE | {"allowedScopes": ["agents.invoke"]}, AUTH0_ACCESS),
        Case(
            "access token, by a permission",
            AUTH0_AUDIENCE | {"customClaims": [custom("permissions", "agents.invoke", operator="CONTAINS")]},
            AUTH0_ACCESS,
        ),
        Case(
            "access token of a machine",
            AUTH0_AUDIENCE,
            AUTH0_ACCESS | {"sub": "my_client_id@clients", "gty": "client-credentials"},
        ),
    ),
)

REALM = "https://sso.example.com/realms/agents"
KEYCLOAK_ACCESS: Claims = {
    "iss": REALM,
    "jti": "onrtac:1",
    "sub": "f:1:ada",
    "aud": ["agents-api", "account"],
    "typ": "Bearer",
    "azp": "web",
    "sid": "s-1",
    "acr": "1",
    "scope": "openid email agents.invoke",
    "realm_access": {"roles": ["offline_access"]},
}
KEYCLOAK_CLIENT = {"allowedClients": ["web"]}

KEYCLOAK = Table(
    "Keycloak",
    "keycloak",
    f"{REALM}/.well-known/openid-configuration",
    REALM,
    (
        Case("ID token, by its client", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS | {"typ": "ID", "aud": "web"}, "wrong_kind"),
        Case(
            "ID token, by its audience",
            {"allowedAudience": ["web"]},
            KEYCLOAK_ACCESS | {"typ": "ID", "aud": "web"},
            "wrong_kind",
        ),
        Case("refresh token", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS | {"typ": "Refresh", "aud": REALM}, "wrong_kind"),
        Case("offline token", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS | {"typ": "Offline", "aud": REALM}, "wrong_kind"),
        Case("logout token", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS | {"typ": "Logout"}, "wrong_kind"),
        Case("logout token, by its header", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS, "wrong_type", {"typ": "logout+jwt"}),
        Case("token without a typ claim", KEYCLOAK_CLIENT, without(KEYCLOAK_ACCESS, "typ"), "wrong_kind"),
        Case(
            "token bound by DPoP",
            KEYCLOAK_CLIENT,
            KEYCLOAK_ACCESS | {"typ": "DPoP", "cnf": {"jkt": "x"}},
            "proof_of_possession",
        ),
        Case("another client", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS | {"azp": "other"}, "wrong_client"),
        Case("two clients", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS | {"client_id": "other"}, "wrong_client"),
        Case(
            "another realm",
            KEYCLOAK_CLIENT,
            KEYCLOAK_ACCESS | {"iss": "https://sso.example.com/realms/master"},
            "wrong_issuer",
        ),
        Case(
            "audience of the default mapper",
            {"allowedAudience": ["agents-api"]},
            KEYCLOAK_ACCESS | {"aud": "account"},
            "wrong_audience",
        ),
        Case(
            "no audience mapper", {"allowedAudience": ["agents-api"]}, without(KEYCLOAK_ACCESS, "aud"), "wrong_audience"
        ),
        Case("access token, by its client", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS),
        Case("access token without an audience, by its client", KEYCLOAK_CLIENT, without(KEYCLOAK_ACCESS, "aud")),
        Case("access token, by its audience", {"allowedAudience": ["agents-api"]}, KEYCLOAK_ACCESS),
        Case(
            "lightweight access token, by a scope",
            {"allowedScopes": ["agents.invoke"]},
            without(KEYCLOAK_ACCESS, "realm_access", "sub"),
        ),
        Case("access token of a service account", KEYCLOAK_CLIENT, KEYCLOAK_ACCESS | {"client_id": "web"}),
    ),
)

GOOGLE_CLIENT = "1234-web.apps.googleusercontent.com"
GOOGLE_ID: Claims = {
    "iss": "https://accounts.google.com",
    "azp": "1234-app.apps.googleusercontent.com",
    "aud": GOOGLE_CLIENT,
    "sub": "110169484474386276334",
    "hd": "example.com",
    "email": "ada@example.com",
    "email_verified": True,
}
GOOGLE_AUDIENCE = {"allowedAudience": [GOOGLE_CLIENT]}

GOOGLE = Table(
    "Google, ID tokens",
    "google",
    "https://accounts.google.com/.well-known/openid-configuration",
    "https://accounts.google.com",
    (
        Case("ID token for another client", GOOGLE_AUDIENCE, GOOGLE_ID | {"aud": "other"}, "wrong_audience"),
        Case("client only, no audience", {"allowedClients": [GOOGLE_ID["azp"]]}, GOOGLE_ID, "wrong_kind"),
        Case("domain only, no audience", {"customClaims": [custom("hd", "example.com")]}, GOOGLE_ID, "wrong_kind"),
        Case(
            "ID token of another domain",
            GOOGLE_AUDIENCE | {"customClaims": [custom("hd", "example.com")]},
            without(GOOGLE_ID, "hd"),
            "wrong_claim",
        ),
        Case(
            "ID token that another client asked for",
            GOOGLE_AUDIENCE | {"allowedClients": ["other"]},
            GOOGLE_ID,
            "wrong_client",
        ),
        Case(
            "assertion of Identity-Aware Proxy",
            GOOGLE_AUDIENCE,
            GOOGLE_ID | {"iss": "https://cloud.google.com/iap"},
            "wrong_issuer",
        ),
        Case("ID token, by its audience", GOOGLE_AUDIENCE, GOOGLE_ID),
        Case("ID token with the short issuer", GOOGLE_AUDIENCE, GOOGLE_ID | {"iss": "accounts.google.com"}),
        Case(
            "ID token, by audience, client and domain",
            GOOGLE_AUDIENCE | {"allowedClients": [GOOGLE_ID["azp"]], "customClaims": [custom("hd", "example.com")]},
            GOOGLE_ID,
        ),
    ),
)

ANY_ISSUER = "https://login.example.com"
ANY_ACCESS: Claims = {
    "iss": ANY_ISSUER,
    "sub": "ada",
    "aud": "https://agents.example.com",
    "client_id": "web",
    "scope": "agents.invoke",
    "jti": "j-1",
}

GENERIC = Table(
    "Any other issuer, RFC 9068",
    "generic",
    f"{ANY_ISSUER}/.well-known/openid-configuration",
    ANY_ISSUER,
    (
        Case(
            "client in azp",
            {"allowedClients": ["web"]},
            without(ANY_ACCESS, "client_id") | {"azp": "web"},
            "wrong_client",
        ),
        Case(
            "client in cid",
            {"allowedClients": ["web"]},
            without(ANY_ACCESS, "client_id") | {"cid": "web"},
            "wrong_client",
        ),
        Case(
            "client in appid",
            {"allowedClients": ["web"]},
            without(ANY_ACCESS, "client_id") | {"appid": "web"},
            "wrong_client",
        ),
        Case("another audience", {"allowedAudience": ["https://other.example"]}, ANY_ACCESS, "wrong_audience"),
        Case("logout token", {"allowedClients": ["web"]}, ANY_ACCESS, "wrong_type", {"typ": "logout+jwt"}),
        Case("access token, by its client", {"allowedClients": ["web"]}, ANY_ACCESS, header={"typ": "at+jwt"}),
        Case("access token, by its audience", {"allowedAudience": ["https://agents.example.com"]}, ANY_ACCESS),
        Case(
            "scopes in scp",
            {"allowedScopes": ["agents.invoke"]},
            without(ANY_ACCESS, "scope") | {"scp": ["agents.invoke"]},
        ),
    ),
)
