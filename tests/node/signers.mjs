// Signs requests with npm's signers of AWS Signature Version 4. One JSON document in, one out; nothing goes over a wire.
//
// In: {keyId, secret, token, region, service, host, date, cases: [{method, path, query: [[name, value]], headers, body}]}, where
// `path` is percent-encoded, `query` is not, and `body` is base64. Out: {smithy: [...], aws4: [...]}, the headers that
// each would send, in the order of the cases; aws4 also says which target it would ask for.
import { text } from 'node:stream/consumers';
import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';
import aws4 from 'aws4';

const asked = JSON.parse(await text(process.stdin));
const { region, service, host } = asked;
const [hostname, port] = host.split(':');
const credentials = { accessKeyId: asked.keyId, secretAccessKey: asked.secret, sessionToken: asked.token ?? undefined };
const smithy = new SignatureV4({ service, region, credentials, sha256: Sha256 });
const digits = new Date(asked.date).toISOString().replace(/[-:]|\.\d+/g, '');

const encode = (value) =>
  encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

async function bySmithy({ method, path, query, headers, body }) {
  const parameters = {};
  for (const [name, value] of query) {
    parameters[name] = name in parameters ? [parameters[name], value].flat() : value;
  }
  const request = {
    method, protocol: 'https:', hostname, port: port && Number(port), path, query: parameters,
    headers: { ...headers, host }, body: Buffer.from(body, 'base64'),
  };
  const signed = await smithy.sign(request, { signingDate: new Date(asked.date) });
  return { headers: signed.headers };
}

function byAws4({ method, path, query, headers, body }) {
  const parameters = query.map(([name, value]) => `${encode(name)}=${encode(value)}`).join('&');
  const signed = aws4.sign(
    {
      service, region, host, method, path: parameters ? `${path}?${parameters}` : path,
      headers: { ...headers, 'X-Amz-Date': digits }, body: Buffer.from(body, 'base64'),
    },
    { accessKeyId: asked.keyId, secretAccessKey: asked.secret, sessionToken: asked.token ?? undefined },
  );
  return { headers: { ...signed.headers, Host: host }, target: signed.path };
}

const answer = { smithy: [], aws4: [] };
for (const request of asked.cases) {
  answer.smithy.push(await bySmithy(request));
  answer.aws4.push(byAws4(request));
}
console.log(JSON.stringify(answer));
