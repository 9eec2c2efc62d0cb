"""Microsoft Entra ID: tokens of both versions, of one tenant and of many."""

from tests.providers.inbound.case import NO_TYPE, Case, Claims, Table, custom, without

TENANT, OTHER_TENANT = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
LOGIN = "https://login.microsoftonline.com"
API, APPLICATION = "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb", "cccccccc-0000-1111-2222-dddddddddddd"
V2_ISSUER, V1_ISSUER = f"{LOGIN}/{TENANT}/v2.0", f"https://sts.windows.net/{TENANT}/"
TEMPLATE = f"{LOGIN}/{{tenantid}}/v2.0"
ENTRA_V2: Claims = {
    "aud": API,
    "iss": V2_ISSUER,
    "nbf": 1_799_999_000,
    "azp": APPLICATION,
    "azpacr": "0",
    "name": "Ada",
    "oid": "0a0a0a0a-1111-2222-3333-444444444444",
    "preferred_username": "ada@example.com",
    "rh": "0.ARoA",
    "scp": "Agents.Invoke Agents.Read",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": TENANT,
    "uti": "u-1",
    "ver": "2.0",
}
ENTRA_V2_APP: Claims = without(ENTRA_V2, "scp", "name", "preferred_username") | {
    "azpacr": "1",
    "roles": ["Agents.Invoke.All"],
    "sub": "0a0a0a0a-1111-2222-3333-444444444444",
}
ENTRA_V2_ID: Claims = without(ENTRA_V2, "scp", "azp", "azpacr") | {"roles": ["Agents.User"], "nonce": "n-1"}
ENTRA_V1: Claims = without(ENTRA_V2, "azp", "azpacr", "preferred_username") | {
    "aud": "api://agents",
    "iss": V1_ISSUER,
    "appid": APPLICATION,
    "appidacr": "0",
    "scp": "Agents.Invoke",
    "unique_name": "ada@example.com",
    "ver": "1.0",
}
FOR_API = {"allowedAudience": [API]}
BY_CLIENT = FOR_API | {"allowedClients": [APPLICATION]}
ROLE = {"customClaims": [custom("roles", "Agents.Invoke.All", operator="CONTAINS")]}


def of_tenants(*tenants: str) -> Claims:
    operator = "EQUALS" if len(tenants) == 1 else "CONTAINS_ANY"
    return FOR_API | {"customClaims": [custom("tid", *tenants, operator=operator)]}


ENTRA = Table(
    "Microsoft Entra ID, version 2, one tenant",
    "entra",
    f"{LOGIN}/{TENANT}/v2.0/.well-known/openid-configuration",
    V2_ISSUER,
    (
        Case("token for another API", FOR_API, ENTRA_V2 | {"aud": APPLICATION}, "wrong_audience"),
        Case("token for Microsoft Graph", FOR_API, ENTRA_V2 | {"aud": "https://graph.microsoft.com"}, "wrong_kind"),
        Case("token for Microsoft Graph, by its header", FOR_API, ENTRA_V2, "wrong_kind", {"nonce": "AQAB"}),
        Case("token of another client", BY_CLIENT, ENTRA_V2 | {"azp": API}, "wrong_client"),
        Case("client only, no audience", {"allowedClients": [APPLICATION]}, ENTRA_V2, "wrong_audience"),
        Case("token with two clients", BY_CLIENT, ENTRA_V2 | {"appid": API}, "wrong_client"),
        Case(
            "token of another tenant",
            FOR_API,
            ENTRA_V2 | {"iss": f"{LOGIN}/{OTHER_TENANT}/v2.0", "tid": OTHER_TENANT},
            "wrong_issuer",
        ),
        Case("token of version 1", FOR_API, ENTRA_V1 | {"aud": API}, "wrong_issuer"),
        Case("ID token with the API's audience and a role", FOR_API, ENTRA_V2_ID, "wrong_kind"),
        Case("application without a role", FOR_API, without(ENTRA_V2_APP, "roles"), "wrong_kind"),
        Case(
            "application, by a scope that is a role",
            FOR_API | {"allowedScopes": ["Agents.Invoke.All"]},
            ENTRA_V2_APP,
            "missing_scope",
        ),
        Case("application of another role", FOR_API | ROLE, ENTRA_V2_APP | {"roles": ["Mail.Read"]}, "wrong_claim"),
        Case("another scope", FOR_API | {"allowedScopes": ["Agents"]}, ENTRA_V2, "missing_scope"),
        Case(
            "scope under its long name",
            FOR_API | {"allowedScopes": ["api://agents/Agents.Invoke"]},
            ENTRA_V2,
            "missing_scope",
        ),
        Case("key of another tenant", FOR_API, ENTRA_V2, "wrong_issuer", key_issuer=f"{LOGIN}/{OTHER_TENANT}/v2.0"),
        Case(
            "groups that did not fit into the token",
            FOR_API | {"customClaims": [custom("groups", "g-1", operator="CONTAINS")]},
            ENTRA_V2 | {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}},
            "wrong_claim",
        ),
        Case("token without a type", FOR_API, ENTRA_V2, "wrong_type", NO_TYPE),
        Case("delegated token, by its audience", FOR_API, ENTRA_V2),
        Case("delegated token, by its client", BY_CLIENT, ENTRA_V2),
        Case("delegated token, by a scope", FOR_API | {"allowedScopes": ["Agents.Invoke"]}, ENTRA_V2),
        Case("delegated token with roles, too", FOR_API | ROLE, ENTRA_V2 | {"roles": ["Agents.Invoke.All"]}),
        Case("application, by its role", FOR_API | ROLE, ENTRA_V2_APP),
        Case("application that idtyp tells", BY_CLIENT, ENTRA_V2_APP | {"sub": "other", "idtyp": "app"}),
        Case("key of the template", FOR_API, ENTRA_V2, key_issuer=TEMPLATE),
        Case("key of this tenant", FOR_API, ENTRA_V2, key_issuer=V2_ISSUER),
    ),
)

ENTRA_OLD = Table(
    "Microsoft Entra ID, version 1, one tenant",
    "entra",
    f"{LOGIN}/{TENANT}/.well-known/openid-configuration",
    V1_ISSUER,
    (
        Case("token of version 2", {"allowedAudience": [API]}, ENTRA_V2, "wrong_issuer"),
        Case(
            "issuer without its slash",
            {"allowedAudience": ["api://agents"]},
            ENTRA_V1 | {"iss": V1_ISSUER[:-1]},
            "wrong_issuer",
        ),
        Case(
            "token of another tenant",
            {"allowedAudience": ["api://agents"]},
            ENTRA_V1 | {"iss": f"https://sts.windows.net/{OTHER_TENANT}/"},
            "wrong_issuer",
        ),
        Case("audience under its other name", {"allowedAudience": [API]}, ENTRA_V1, "wrong_audience"),
        Case(
            "another client", {"allowedAudience": ["api://agents"], "allowedClients": [API]}, ENTRA_V1, "wrong_client"
        ),
        Case(
            "token for Microsoft Graph, by its header",
            {"allowedAudience": ["api://agents"]},
            ENTRA_V1,
            "wrong_kind",
            {"nonce": "AQAB"},
        ),
        Case("delegated token, by its audience", {"allowedAudience": ["api://agents", API]}, ENTRA_V1),
        Case(
            "delegated token, by its client",
            {"allowedAudience": ["api://agents"], "allowedClients": [APPLICATION]},
            ENTRA_V1,
        ),
        Case(
            "application, by its role",
            {"allowedAudience": ["api://agents"]} | ROLE,
            without(ENTRA_V1, "scp") | {"roles": ["Agents.Invoke.All"], "sub": ENTRA_V1["oid"]},
        ),
    ),
)

ENTRA_TENANTS = Table(
    "Microsoft Entra ID, version 2, many tenants",
    "entra",
    f"{LOGIN}/organizations/v2.0/.well-known/openid-configuration",
    TEMPLATE,
    (
        Case("no tenant was allowed", FOR_API, ENTRA_V2, "wrong_tenant", key_issuer=TEMPLATE),
        Case("tenant that was not allowed", of_tenants(OTHER_TENANT), ENTRA_V2, "wrong_claim", key_issuer=TEMPLATE),
        Case(
            "one tenant's issuer, another one's tid",
            of_tenants(TENANT),
            ENTRA_V2 | {"iss": f"{LOGIN}/{OTHER_TENANT}/v2.0"},
            "wrong_issuer",
        ),
        Case(
            "allowed tenant's issuer, another one's tid",
            of_tenants(TENANT),
            ENTRA_V2 | {"tid": OTHER_TENANT},
            "wrong_issuer",
        ),
        Case("token without tid", of_tenants(TENANT), without(ENTRA_V2, "tid"), "wrong_tenant"),
        Case(
            "tid that is a path",
            of_tenants(f"{TENANT}/v2.0/../x"),
            ENTRA_V2 | {"tid": f"{TENANT}/v2.0/../x"},
            "wrong_tenant",
        ),
        Case(
            "tid that is the placeholder",
            of_tenants("{tenantid}"),
            ENTRA_V2 | {"tid": "{tenantid}", "iss": TEMPLATE},
            "wrong_tenant",
        ),
        Case("tid that is a list", of_tenants(TENANT, OTHER_TENANT), ENTRA_V2 | {"tid": [TENANT]}, "wrong_tenant"),
        Case("issuer that is the template", of_tenants(TENANT), ENTRA_V2 | {"iss": TEMPLATE}, "wrong_issuer"),
        Case(
            "key of one other tenant",
            of_tenants(TENANT),
            ENTRA_V2,
            "wrong_issuer",
            key_issuer=f"{LOGIN}/{OTHER_TENANT}/v2.0",
        ),
        Case(
            "key of personal accounts",
            of_tenants(TENANT),
            ENTRA_V2,
            "wrong_issuer",
            key_issuer=f"{LOGIN}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
        ),
        Case("token of version 1", of_tenants(TENANT), ENTRA_V1 | {"aud": API}, "wrong_issuer"),
        Case("the one allowed tenant", of_tenants(TENANT), ENTRA_V2, key_issuer=TEMPLATE),
        Case("one of two allowed tenants", of_tenants(OTHER_TENANT, TENANT), ENTRA_V2, key_issuer=TEMPLATE),
        Case("allowed tenant, key of that tenant", of_tenants(TENANT), ENTRA_V2, key_issuer=V2_ISSUER),
        Case("allowed tenant, key that says nothing", of_tenants(TENANT), ENTRA_V2),
    ),
)
