// An independent client: the official packages, and nothing of ours.
//
//   client.mjs tour URL                every way a task can go
//   client.mjs create URL [TOOL JSON]  creates a task, and prints a reference to it
//   client.mjs resume URL REFERENCE    a new session takes the task up, and prints its result
//   client.mjs cancel URL REFERENCE    a new session cancels the task
//   client.mjs listen URL REFERENCE    prints what the server pushes of the task, until it ends
//   client.mjs refused URL REFERENCE   passes if the task cannot be taken up
//   client.mjs list URL                prints the URIs of all resources
//   client.mjs read URL URI            prints what a resource says
//   client.mjs follow URL URI          prints a line when it has subscribed to a resource, also again
//                                      after the server was away, and one for each notification
//   client.mjs subscribe URL URI       the same in revision 2025-11-25, as long as the server is there
//
// TOKEN=… sends a bearer token. It runs beside the folder with the packages.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import {
  createApplicationInputHandler,
  createTaskSessionFromClient,
  resultFromTaskOutcome,
} from '@modelcontextprotocol/ext-tasks/client';

const [mode, url, reference] = process.argv.slice(2);
const uri = reference;
const protocolVersion = '2026-07-28';
const clientInfo = { name: 'tenure-ci', version: '1' };
const clientCapabilities = {
  elicitation: {},
  extensions: { 'io.modelcontextprotocol/tasks': {} },
};
const authorization = process.env.TOKEN ? { authorization: `Bearer ${process.env.TOKEN}` } : {};

let requests = 0;
/** Takes what is pushed. */
let onNotification = () => {};

/** One POST; `tasks/*` are not methods of the client's own. */
async function rawDispatch(request, { context, signal } = {}) {
  const headers = new Headers({
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': protocolVersion,
    'mcp-method': request.method,
    ...authorization,
  });
  const name = request.params?.taskId ?? request.params?.name;
  if (name) headers.set('mcp-name', name);
  for (const [key, value] of Object.entries(context?.headers ?? {})) headers.set(key, value);
  const body = JSON.stringify({ jsonrpc: '2.0', id: `raw-${++requests}`, ...request });
  const response = await fetch(url, { method: 'POST', headers, body, signal });
  const text = await response.text();
  const lines = response.headers.get('content-type')?.includes('event-stream')
    ? text.split('\n').filter((line) => /^data:\s*\S/.test(line)).map((line) => line.slice(5))
    : [text];
  const answer = lines.map((line) => JSON.parse(line)).find((m) => 'result' in m || 'error' in m);
  return 'error' in answer
    ? { kind: 'error', error: answer.error }
    : { kind: 'result', result: answer.result };
}

/** Accepts everything that is asked. */
const accept = async ({ params }) => ({
  action: 'accept',
  content: Object.fromEntries(
    Object.entries(params.requestedSchema.properties).map(([field, { type }]) => [
      field,
      type === 'boolean' ? true : 'Ada',
    ]),
  ),
});

async function connect() {
  const legacy = mode === 'subscribe';
  const client = new Client(clientInfo, {
    capabilities: clientCapabilities,
    versionNegotiation: { mode: legacy ? 'legacy' : { pin: protocolVersion } },
  });
  client.fallbackNotificationHandler = async (notification) => onNotification(notification);
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: authorization },
  });
  await client.connect(transport);
  assert.equal(client.getNegotiatedProtocolVersion(), legacy ? '2025-11-25' : protocolVersion);
  if (legacy) return { client };
  const session = createTaskSessionFromClient(client, {
    endpointId: 'tenure-ci',
    rawDispatch,
    v2RequestFraming: { protocolVersion, clientInfo, clientCapabilities },
    onInputRequest: createApplicationInputHandler({
      elicitation: accept,
      sampling: async () => {
        throw new Error('no sampling');
      },
      roots: async () => ({ roots: [] }),
    }),
  });
  return { client, session };
}

async function tour(session) {
  const settle = async (tool, args) => {
    const execution = await session.callTool(tool, args);
    const statuses = [];
    const { outcome } = await execution.settle({
      onEvent: (event) => event.type === 'task' && statuses.push(event.task.status),
    });
    console.log(`${tool}: ${execution.kind} ${statuses.join(' > ')}`);
    return { kind: execution.kind, outcome, statuses };
  };
  const said = ({ outcome }) => resultFromTaskOutcome(outcome).content[0].text;

  const greeted = await settle('greet', { name: 'Bo' });
  assert.equal(greeted.kind, 'immediate');
  assert.equal(said(greeted), 'Hello, Bo!');

  const computed = await settle('slow_compute', { seconds: 1, label: 'p' });
  assert.equal(computed.kind, 'task');
  assert.equal(computed.outcome.status, 'completed');

  const confirmed = await settle('confirm_delete', { filename: 'f' });
  assert.match(said(confirmed), /confirmed = true/);
  assert.ok(confirmed.statuses.includes('input_required'));
  assert.match(said(await settle('multi_input', {})), /a = Ada, b = Ada/);
  assert.match(said(await settle('test_tool_with_task', {})), /Hello, Ada!/);

  const erred = await settle('failing_job', {});
  assert.equal(erred.outcome.status, 'completed');
  assert.equal(erred.outcome.result.isError, true);
  const failed = await settle('protocol_error_job', {});
  assert.equal(failed.outcome.status, 'failed');
  assert.equal(failed.outcome.error.code, -32603);

  const endless = await session.callTool('slow_compute', { seconds: 60, label: 'c' });
  await endless.cancel();
  assert.equal((await endless.settle()).outcome.status, 'cancelled');
}

async function create(session) {
  const [tool = 'slow_compute', args = '{"seconds":3,"label":"survivor"}'] = process.argv.slice(4);
  const execution = await session.callTool(tool, JSON.parse(args));
  await execution.handoff((handed) => console.log(JSON.stringify(handed)));
  // Closing the session would cancel what it has created; a process that ends does not.
  process.exit(0);
}

async function resume(session) {
  const execution = await session.resumeTask(JSON.parse(reference));
  const { outcome } = await execution.settle();
  assert.equal(outcome.status, 'completed', JSON.stringify(outcome));
  console.log(resultFromTaskOutcome(outcome).content[0].text);
}

async function cancel(session) {
  const execution = await session.resumeTask(JSON.parse(reference));
  await execution.cancel();
  assert.equal((await execution.settle()).outcome.status, 'cancelled');
}

async function listen(_, client) {
  const { taskId } = JSON.parse(reference);
  const ended = new Promise((resolve) => {
    onNotification = ({ method, params }) => {
      if (method !== 'notifications/tasks' || params.taskId !== taskId) return;
      console.log(params.status, params.statusMessage ?? '');
      if (['completed', 'failed', 'cancelled'].includes(params.status)) resolve();
    };
  });
  const subscription = await client.listen({ taskIds: [taskId] });
  console.log('listening');
  const closed = subscription.closed.then((cause) => assert.fail(`closed: ${cause}`));
  await Promise.race([ended, closed]);
  await subscription.close();
}

async function refused(session) {
  const attempt = (async () => {
    const execution = await session.resumeTask(JSON.parse(reference));
    return (await execution.settle()).outcome;
  })();
  const ended = await attempt.then((outcome) => outcome.error ?? outcome, (error) => error);
  const { taskId } = JSON.parse(reference);
  assert.match(String(ended.message ?? ended.cause?.message), new RegExp(`unknown task: ${taskId}`));
  console.log('refused:', ended.message);
}

async function list(_, client) {
  const { resources } = await client.listResources();
  for (const resource of resources) console.log(resource.uri);
}

async function read(_, client) {
  const { contents } = await client.readResource({ uri });
  console.log(contents[0].text);
}

function printNews(client) {
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => {
    console.log('updated', params.uri);
  });
  client.setNotificationHandler('notifications/resources/list_changed', () => {
    console.log('list changed');
  });
}

async function follow(_, client) {
  printNews(client);
  const filter = { resourceSubscriptions: [uri], resourcesListChanged: true };
  for (;;) {
    // A server that is away is asked until it is back.
    const subscription = await client.listen(filter).catch(() => null);
    if (subscription) {
      assert.deepEqual(subscription.honoredFilter, filter);
      console.log('subscribed');
      console.log('ended', await subscription.closed);
    }
    await sleep(100);
  }
}

async function subscribe(_, client) {
  printNews(client);
  await client.subscribeResource({ uri });
  console.log('subscribed');
  await new Promise(() => setInterval(() => {}, 1_000));
}

const modes = { tour, create, resume, cancel, listen, refused, list, read, follow, subscribe };
assert.ok(modes[mode], `unknown mode ${mode}`);
const { client, session } = await connect();
await modes[mode](session, client);
await session.close();
await client.close();
