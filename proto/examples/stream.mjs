// Sends events to opsrelay's stream socket and keeps each until the relay says that it is durable.
//
//   import {Emitter} from "./stream.mjs";
//   const relay = new Emitter("/run/opsrelay/telemetry.stream.sock");
//   relay.emit({externalRequestId: "r-1", provider: "openai", model: "gpt-4o-mini", ...});
//
// emit() never waits and never throws for the relay's sake. What is emitted in one turn of the
// event loop goes in one write. After a broken connection what was not durable is sent again, with
// the same ids. What the buffer does not hold is dropped, counted, and reported to the relay. The
// process is not kept alive by it: `await relay.close()` before the end.
//
//   node stream.mjs SOCKET [SECONDS] < events.ndjson
//
// sends every line, waits up to SECONDS (5) until all are durable, and prints the counts; exit
// status 0 when nothing was dropped. Node 18 or later.
import net from "node:net";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const BATCH_EVENTS = 500;
const RETRY_MS = 100; // between two tries to connect
const ANSWER_MS = 15_000; // then the connection is given up

export class Emitter {
  durable = 0;
  rejected = 0; // broke the contract: a dead letter at the relay
  dropped = 0; // given up here
  #waiting = [];
  #unsettled = []; // written on this connection, in this order
  #acked = {durable: 0, rejected: 0}; // the last ack of this connection
  #reported = 0;
  #scheduled = false;
  #closed = false;

  constructor(path, {bufferEvents = 10_000} = {}) {
    this.path = path;
    this.bufferEvents = bufferEvents;
    this.#connect();
  }

  /** An object, or JSON text without newlines; false: no event at all, or dropped. */
  emit(event) {
    const line = typeof event === "string" ? event : JSON.stringify(event);
    if (line.trim() === "") return false;
    if (this.#closed || this.pending >= this.bufferEvents) {
      this.dropped += 1;
      return false;
    }
    this.#waiting.push(line);
    this.#schedule();
    return true;
  }

  get pending() {
    return this.#waiting.length + this.#unsettled.length;
  }

  /** Resolves to true once nothing is pending, to false after `ms`. */
  async flush(ms = 1000) {
    const end = Date.now() + ms;
    this.#schedule();
    while (this.pending > 0 || this.#reported !== this.dropped) {
      if (Date.now() >= end) return false;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return true;
  }

  /** As flush(); what is pending after `ms` is dropped. */
  async close(ms = 1000) {
    await this.flush(ms);
    this.#closed = true;
    this.dropped += this.pending;
    this.#waiting = [];
    this.#unsettled = [];
    this.socket.destroy();
  }

  #connect() {
    if (this.#closed) return;
    let text = "";
    this.socket = net.connect(this.path).unref();
    this.socket.setTimeout(ANSWER_MS, () => this.pending > 0 && this.socket.destroy());
    this.socket.on("connect", () => {
      this.#acked = {durable: 0, rejected: 0};
      this.socket.write('{"opsrelay":{"acks":true}}\n');
      this.#send();
    });
    this.socket.on("data", (data) => {
      const lines = (text + data).split("\n");
      text = lines.pop();
      try {
        for (const line of lines) this.#settle(JSON.parse(line));
      } catch {
        this.socket.destroy(); // not a relay
      }
      this.#send();
    });
    this.socket.on("error", () => {}); // "close" follows
    this.socket.on("close", () => {
      this.#waiting = this.#unsettled.concat(this.#waiting);
      this.#unsettled = [];
      setTimeout(() => this.#connect(), RETRY_MS).unref();
    });
  }

  /** Takes over one ack, whose counts are since the connection was made. */
  #settle({durable, rejected}) {
    const accepted = durable - this.#acked.durable;
    const refused = rejected - this.#acked.rejected;
    this.#acked = {durable, rejected};
    this.durable += accepted;
    this.rejected += refused;
    this.#unsettled.splice(0, accepted + refused);
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  /** One batch at a time: the next when this one is settled. */
  #send() {
    if (this.socket.readyState !== "open" || this.#unsettled.length > 0) return;
    let text = "";
    if (this.#reported !== this.dropped) {
      text = JSON.stringify({opsrelay: {dropped: this.dropped - this.#reported}}) + "\n";
      this.#reported = this.dropped;
    }
    this.#unsettled = this.#waiting.splice(0, BATCH_EVENTS);
    for (const line of this.#unsettled) text += line + "\n";
    if (text !== "") this.socket.write(text);
  }
}

async function main(path, seconds = "5") {
  const relay = new Emitter(path);
  for await (const line of readline.createInterface({input: process.stdin})) {
    relay.emit(line);
  }
  await relay.close(1000 * Number(seconds));
  const {durable, rejected, dropped} = relay;
  console.log(`durable=${durable} rejected=${rejected} dropped=${dropped}`);
  process.exitCode = dropped === 0 ? 0 : 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(...process.argv.slice(2));
}
