// Decides IAM policies with @cloud-copilot/iam-simulate, an evaluator that shares nothing with the gateway.
//
// Reads a JSON array of questions from standard input and writes a JSON array of answers. A question has `identity`,
// `session` and `standing` (policy documents or null), `caller` (an ARN, or null for nobody), `action`, `resource`,
// `account` and `context`. The engine is asked below the checks of its input: those know which keys AWS gives to which action.
import { loadPolicy } from '@cloud-copilot/iam-policy';
import { anonymousPrincipal } from '@cloud-copilot/iam-simulate';

const INSIDE = './node_modules/@cloud-copilot/iam-simulate/dist/esm';
const { authorize } = await import(`${INSIDE}/core_engine/CoreSimulatorEngine.js`);
const { DiscoveryContextKeyConstraints } = await import(`${INSIDE}/context_keys/discoveryContextKeyConstraints.js`);
const { AwsRequestImpl } = await import(`${INSIDE}/request/request.js`);
const { RequestContextImpl } = await import(`${INSIDE}/requestContext.js`);

const WORDS = {
  Allowed: 'allowed',
  ExplicitlyDenied: 'explicitly denied',
  ImplicitlyDenied: 'not allowed by any statement',
};

const loaded = (document, name) => (document === null ? undefined : loadPolicy(document, { name }));

function answer({ identity, session, standing, caller, action, resource, account, context }) {
  const place = { resource, accountId: account };
  const request = new AwsRequestImpl(caller ?? anonymousPrincipal, place, action, new RequestContextImpl(context));
  const { result } = authorize({
    request,
    identityPolicies: identity === null ? [] : [loaded(identity, 'identity')],
    sessionPolicy: loaded(session, 'session'),
    resourcePolicy: loaded(standing, 'resource'),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    permissionBoundaries: undefined,
    vpcEndpointPolicies: undefined,
    simulationParameters: {
      simulationMode: 'Strict',
      discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([]),
    },
    serviceSettings: {},
  });
  return WORDS[result] ?? JSON.stringify(result);
}

let text = '';
for await (const chunk of process.stdin) text += chunk;
process.stdout.write(JSON.stringify(JSON.parse(text).map(answer)));
