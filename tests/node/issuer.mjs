// A real OpenID Connect issuer for the tests, on loopback: npm's oidc-provider, with its own pages to sign in and consent.
//
//   node issuer.mjs [PORT]        PORT 0 (the default) takes a free one
//
// Once it listens it prints one JSON line: {"issuer", "clients": {"<client_id>": "<secret>"}}. Keys and secrets are made
// at start and live as long as the process. Lines on standard input are commands, each answered by one JSON line:
//   rotate      sign with new keys; the old public keys stay published
//   withdraw    sign with new keys; the old public keys are gone
//   behind N    from now on the issuer's clock is N seconds behind: its tokens are as old as that
//   heard       answer {"requests": […]}: the bodies that the token endpoint received since this was asked last
//   resource U  from now on tokens are issued for resources under the URL U, too
// The process ends when standard input does, so that it never outlives the test run.
//
// Access tokens are JWTs of RFC 9068 (typ at+jwt) when the request names a resource (RFC 8707) under RESOURCES; `aud` is
// that resource. Its last path segment chooses the algorithm: …/es256, …/ps256, anything else RS256. Without a resource
// the token is opaque.
//
// Other clients register themselves (RFC 7591) for any grant, those of exchange.mjs included. Everybody may sign in, as
// whoever they say they are. Refresh tokens rotate, and one that is used twice takes the whole grant with it. An access
// token with the scope `brief` lives BRIEF seconds.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import Provider, { errors } from 'oidc-provider';

import { registerExchanges } from './exchange.mjs';

const RESOURCES = ['https://agents.example/'];
const SCOPES = 'agents.invoke agents.read';
const BRIEF = 30;
const GROUPS = { 'agent-caller': ['agents', 'operators'], 'other-caller': ['guests'] };
const KEY_KINDS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
};

const secrets = Object.fromEntries(Object.keys(GROUPS).map((id) => [id, randomBytes(32).toString('base64url')]));

function freshKeys() {
  return Object.entries(KEY_KINDS).map(([alg, [kind, options]]) => ({
    ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }),
    alg,
    use: 'sig',
    kid: `${alg.toLowerCase()}-${randomBytes(6).toString('hex')}`,
  }));
}

function algorithmOf(resource) {
  const wanted = resource.split('/').at(-1).toUpperCase();
  return wanted in KEY_KINDS ? wanted : 'RS256';
}

function provider(issuer, signing, published) {
  const kids = Object.fromEntries(signing.map(({ alg, kid }) => [alg, kid]));
  const made = new Provider(issuer, {
    jwks: { keys: [...signing, ...published] },
    clients: Object.entries(secrets).map(([client_id, client_secret]) => ({
      client_id,
      client_secret,
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      scope: SCOPES,
    })),
    scopes: [...SCOPES.split(' '), 'openid', 'offline_access', 'brief', 'extra'],
    rotateRefreshToken: true,
    ttl: { ClientCredentials: 600, AccessToken: (_ctx, token) => (token.scopes.has('brief') ? BRIEF : 600) },
    extraTokenClaims: (_ctx, token) => ({ groups: GROUPS[token.clientId], ...token.extra }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      introspection: { enabled: true },
      registration: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_ctx, resource) => {
          if (!RESOURCES.some((prefix) => resource.startsWith(prefix))) throw new errors.InvalidTarget();
          const alg = algorithmOf(resource);
          return { scope: SCOPES, accessTokenFormat: 'jwt', jwt: { sign: { alg, kid: kids[alg] } } };
        },
      },
    },
  });
  registerExchanges(made);
  made.use(async (ctx, next) => {
    await next();
    if (ctx.path === '/token') heard.push(ctx.oidc?.body ?? {});
  });
  return made;
}

// Standard output is for answers: what the library advises goes where its warnings go.
console.info = console.error;

let heard = [];
let behind = 0;
const present = Date.now;
Date.now = () => present() - behind * 1000;

let keys = freshKeys();
let answer;
const server = createServer((request, response) => answer(request, response));

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  answer = provider(issuer, keys, []).callback();

  const commands = createInterface({ input: process.stdin });
  commands.on('line', (line) => {
    const [command, argument] = line.split(' ');
    if (command === 'behind') {
      behind = Number(argument);
      say({ done: command });
      return;
    }
    if (command === 'resource') {
      RESOURCES.push(argument);
      say({ done: command });
      return;
    }
    if (command === 'heard') {
      say({ requests: heard });
      heard = [];
      return;
    }
    const kept = { rotate: keys, withdraw: [] }[command];
    if (!kept) throw new Error(`unknown command: ${command}`);
    const fresh = freshKeys();
    answer = provider(issuer, fresh, kept).callback();
    keys = [...fresh, ...kept];
    say({ done: command });
  });
  commands.on('close', () => process.exit(0));
  say({ issuer, clients: secrets });
});
