// Sends events to opsrelay over HTTP on its Unix socket: the answer says that the event is durable.
//
//   import {post} from "./http.mjs";
//   await post("/run/opsrelay/http.sock", {externalRequestId: "r-1", provider: "openai", ...});
//
// A request that got no answer, or 503, is sent again with the same externalRequestId: the relay
// keeps one event an id. fetch() works the same over TCP, http://127.0.0.1:8710.
//
//   node http.mjs SOCKET [SECONDS] < events.ndjson
//
// sends every line, each for up to SECONDS (5), and prints the counts; exit status 0 when no event
// was dropped. Node 18 or later.
import http from "node:http";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const TIMEOUT_MS = 600; // of one request; the relay answers within 400 ms
const agent = new http.Agent({keepAlive: true, maxSockets: 8});

function request(socketPath, body) {
  return new Promise((resolve, reject) => {
    const call = http.request({
      agent, socketPath, method: "POST", path: "/v1/ingest/llm-request", timeout: TIMEOUT_MS,
      headers: {"Content-Type": "application/json", "Content-Length": Buffer.byteLength(body)},
    }, (reply) => {
      reply.resume(); // the body has details: warnings, the plan's state
      reply.on("end", () => resolve(reply));
      reply.on("error", reject);
    });
    call.on("timeout", () => call.destroy(new Error("no answer")));
    call.on("error", reject);
    call.end(body);
  });
}

/** Resolves to "durable", "rejected" (it breaks the contract), or "dropped" after `ms`. */
export async function post(socketPath, event, ms = 5000) {
  const body = typeof event === "string" ? event : JSON.stringify(event);
  const end = Date.now() + ms;
  for (let wait = 50; ; wait = Math.min(2 * wait, 1000)) {
    let after = 0;
    try {
      const {statusCode, headers} = await request(socketPath, body);
      if (statusCode === 200) return "durable";
      if (statusCode === 400 || statusCode === 413) return "rejected";
      after = 1000 * Number(headers["retry-after"] ?? 0);
    } catch {
      // not there, or not in time
    }
    const pause = Math.max(after, wait * (0.5 + Math.random() / 2));
    if (Date.now() + pause >= end) return "dropped";
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function main(path, seconds = "5") {
  const counts = {durable: 0, rejected: 0, dropped: 0};
  const running = new Set();
  for await (const line of readline.createInterface({input: process.stdin})) {
    if (line.trim() === "") continue;
    const one = post(path, line, 1000 * Number(seconds)).then((end) => {
      counts[end] += 1;
      running.delete(one);
    });
    running.add(one);
    if (running.size >= 64) await Promise.race(running);
  }
  await Promise.all(running);
  agent.destroy();
  console.log(`durable=${counts.durable} rejected=${counts.rejected} dropped=${counts.dropped}`);
  process.exitCode = counts.dropped === 0 ? 0 : 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(...process.argv.slice(2));
}
