"""Amazon Cognito user pools: access tokens without `aud`, ID tokens without `client_id`."""

from tests.providers.inbound.case import Case, Claims, Table, custom, without

POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Ab12Cd34E"
COGNITO_ACCESS: Claims = {
    "iss": POOL,
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "client_id": "1example23456789",
    "token_use": "access",
    "scope": "openid agents/invoke",
    "username": "ada",
    "cognito:groups": ["agents"],
    "auth_time": 1_799_999_000,
    "jti": "j-1",
    "origin_jti": "o-1",
    "event_id": "e-1",
    "version": 2,
}
COGNITO_ID: Claims = {
    "iss": POOL,
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "aud": "1example23456789",
    "token_use": "id",
    "cognito:username": "ada",
    "cognito:groups": ["agents"],
    "email": "ada@example.com",
    "auth_time": 1_799_999_000,
    "event_id": "e-1",
}
POOL_CLIENT = {"allowedClients": ["1example23456789"]}
POOL_AUDIENCE = {"allowedAudience": ["1example23456789"]}
POOL_GROUP = {"customClaims": [custom("cognito:groups", "agents", operator="CONTAINS")]}

COGNITO = Table(
    "Amazon Cognito, user pool",
    "cognito",
    f"{POOL}/.well-known/openid-configuration",
    POOL,
    (
        Case("access token of another client", POOL_CLIENT, COGNITO_ACCESS | {"client_id": "other"}, "wrong_client"),
        Case("access token, by an audience that it does not have", POOL_AUDIENCE, COGNITO_ACCESS, "wrong_audience"),
        Case("access token of another pool", POOL_CLIENT, COGNITO_ACCESS | {"iss": POOL + "X"}, "wrong_issuer"),
        Case("ID token, by its client", POOL_CLIENT, COGNITO_ID, "wrong_kind"),
        Case("ID token, by a group alone", POOL_GROUP, COGNITO_ID, "wrong_kind"),
        Case("ID token of another client", POOL_AUDIENCE, COGNITO_ID | {"aud": "other"}, "wrong_audience"),
        Case("token without token_use", POOL_CLIENT, without(COGNITO_ACCESS, "token_use"), "wrong_kind"),
        Case("token with token_use refresh", POOL_CLIENT, COGNITO_ACCESS | {"token_use": "refresh"}, "wrong_kind"),
        Case("token with a list as token_use", POOL_CLIENT, COGNITO_ACCESS | {"token_use": ["access"]}, "wrong_kind"),
        Case(
            "access token without the scope",
            POOL_CLIENT | {"allowedScopes": ["agents/admin"]},
            COGNITO_ACCESS,
            "missing_scope",
        ),
        Case(
            "access token with the scope in scp",
            POOL_CLIENT | {"allowedScopes": ["agents/admin"]},
            COGNITO_ACCESS | {"scp": ["agents/admin"]},
            "missing_scope",
        ),
        Case(
            "access token whose client stands in azp",
            POOL_CLIENT,
            without(COGNITO_ACCESS, "client_id") | {"azp": "1example23456789"},
            "wrong_client",
        ),
        Case("access token, by its client", POOL_CLIENT, COGNITO_ACCESS),
        Case("access token, by a group", POOL_GROUP, COGNITO_ACCESS),
        Case("access token, by client and scope", POOL_CLIENT | {"allowedScopes": ["agents/invoke"]}, COGNITO_ACCESS),
        Case(
            "access token of a machine",
            POOL_CLIENT,
            without(COGNITO_ACCESS, "username", "cognito:groups") | {"sub": "1example23456789"},
        ),
        Case(
            "access token with a resource binding",
            {"allowedAudience": ["https://agents.example.com"]},
            COGNITO_ACCESS | {"aud": "https://agents.example.com"},
        ),
        Case("ID token, by its audience", POOL_AUDIENCE, COGNITO_ID),
        Case("ID token, by audience and group", POOL_AUDIENCE | POOL_GROUP, COGNITO_ID),
    ),
)
