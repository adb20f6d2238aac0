// Sends events as the official Node SDK does: `node sdk_client.mjs URL [SDK]` reads ids, one a
// line, and prints for every attempt {"id":…,"status":…,"ok":…} (0: no answer), until all are sent.
// SDK is the path of the official package's module, which then does the sending; without it this
// file does what that was measured to do, with the same fetch(): 50 POSTs in parallel, 600 ms for
// each exchange, the same event again 0.4 s, 0.8 s, ... after a failure.
import {pathToFileURL} from "node:url";

const PARALLEL = 50;
const TIMEOUT_MS = 600;
const RETRIES = 7; // the SDK's default of 2 would make slow machines lose events

const [url, sdk] = process.argv.slice(2);
let text = "";
for await (const chunk of process.stdin) text += chunk;
const ids = text.split("\n").filter(Boolean);
const open = new Set(ids);

function note(id, status, ok) {
  console.log(JSON.stringify({id, status, ok}));
  if (ok) open.delete(id);
}

async function withSdk(path) {
  const {init, captureOpenAIChatCompletion} = await import(pathToFileURL(path).href);
  init({
    apiKey: "any", telemetryBaseUrl: url, maxBatchSize: PARALLEL, maxRetries: RETRIES,
    onTelemetryResult: ({status, ok}, {externalRequestId}) => note(externalRequestId, status, ok),
  });
  const response = {model: "gpt-4o-mini", usage: {prompt_tokens: 742, completion_tokens: 96}};
  const capture = (externalRequestId) =>
    captureOpenAIChatCompletion(async () => response, {externalRequestId});
  await Promise.all(ids.map(capture));
}

async function post(id) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), TIMEOUT_MS);
  try {
    const reply = await fetch(`${url}/v1/ingest/llm-request`, {
      method: "POST",
      headers: {"Content-Type": "application/json", "X-API-Key": "any"},
      body: JSON.stringify({
        externalRequestId: id, provider: "openai", model: "gpt-4o-mini", promptVersion: "unknown",
        endpointTag: "sdk.unknown", inputTokens: 742, outputTokens: 96, totalTokens: 838,
        latencyMs: 12, status: "success", errorCode: null, userId: null, dataMode: "real",
        environment: "prod",
        metadata: {operation: "chat.completions.create", tenantId: null, sdkLanguage: "node"},
      }),
      signal: controller.signal,
    });
    JSON.parse(await reply.text()); // always JSON, errors too
    note(id, reply.status, reply.ok);
    return reply.ok;
  } catch (error) {
    if (error instanceof SyntaxError) throw error;
    note(id, 0, false);
    return false;
  } finally {
    clearTimeout(timer);
  }
}

async function send(id) {
  for (let attempt = 0; !(await post(id)) && attempt < RETRIES; attempt += 1) {
    await new Promise((resolve) => setTimeout(resolve, 400 * 2 ** attempt));
  }
}

async function withFetch() {
  // A batch begins while the one before may still wait: two at a time are 100 connections.
  const lanes = [0, 1].map(async (lane) => {
    for (let at = lane * PARALLEL; at < ids.length; at += 2 * PARALLEL) {
      await Promise.all(ids.slice(at, at + PARALLEL).map(send));
    }
  });
  await Promise.all(lanes);
}

await (sdk ? withSdk(sdk) : withFetch());
const end = Date.now() + 60_000;
while (sdk && open.size > 0 && Date.now() < end) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
process.exit(open.size === 0 ? 0 : 1);
