// Two grants that oidc-provider leaves to its users: token exchange (RFC 8693) and the JWT bearer grant (RFC 7523).
//
// The subject is a JWT (RS256 or ES256) of any issuer that publishes a discovery document; tests run that issuer themselves. What
// is issued is an opaque access token for the JWT's `sub`, which opens /me if the scope has openid. An actor token must be
// an access token of this issuer, and its client stands in `act` of what introspection says.
import { verify } from 'node:crypto';

import { errors } from 'oidc-provider';

export const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

const fetched = async (url) => (await fetch(url)).json();

async function subjectOf(token) {
  const [head, payload, signature] = token.split('.');
  const [header, claims] = [head, payload].map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()));
  const { jwks_uri: place } = await fetched(`${claims.iss}/.well-known/openid-configuration`);
  const key = (await fetched(place)).keys.find(({ kid }) => kid === header.kid);
  const signed = Buffer.from(`${head}.${payload}`);
  const proof = Buffer.from(signature, 'base64url');
  const right = ['RS256', 'ES256'].includes(header.alg) && key?.alg === header.alg
    && verify('sha256', signed, { key, format: 'jwk', dsaEncoding: 'ieee-p1363' }, proof);
  if (!right || claims.exp * 1000 < Date.now()) throw new errors.InvalidGrant('the subject token does not hold');
  return claims.sub;
}

async function actorOf(provider, { actor_token: token, actor_token_type: type }) {
  if (token === undefined) return undefined;
  const found = type === ACCESS_TOKEN && await provider.ClientCredentials.find(token);
  if (!found) throw new errors.InvalidRequest('the actor token does not hold');
  return { act: { client_id: found.clientId, scope: found.scope } };
}

async function issue(provider, ctx, subject, extra) {
  const { client, params: { scope = '' } } = ctx.oidc;
  const accountId = await subjectOf(subject).catch((error) => {
    throw error instanceof errors.OIDCProviderError ? error : new errors.InvalidGrant('the subject token is no JWT');
  });
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addOIDCScope(scope);
  const token = new provider.AccessToken({ accountId, client, scope, grantId: await grant.save(), extra, gty: 'exchange' });
  return { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration, scope };
}

export function registerExchanges(provider) {
  provider.registerGrantType(EXCHANGE, async (ctx) => {
    const { params } = ctx.oidc;
    if (params.subject_token_type !== JWT) throw new errors.InvalidRequest('subject_token_type must be that of a JWT');
    const issued = await issue(provider, ctx, params.subject_token, await actorOf(provider, params));
    ctx.body = { ...issued, issued_token_type: ACCESS_TOKEN };
  }, [
    'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'scope', 'resource',
    'audience',
  ], ['resource', 'audience']);
  provider.registerGrantType(JWT_BEARER, async (ctx) => {
    ctx.body = await issue(provider, ctx, ctx.oidc.params.assertion);
  }, ['assertion', 'scope']);
}
