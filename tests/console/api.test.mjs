// How the page follows a call: event by event, over breaks, to the end.

import assert from "node:assert/strict";
import test from "node:test";

globalThis.sessionStorage = { kept: new Map(), getItem(key) { return this.kept.get(key) ?? null; }, setItem(key, value) { this.kept.set(key, value); }, removeItem(key) { this.kept.delete(key); } };
globalThis.setTimeout = (done) => { queueMicrotask(done); };  // a pause is over at once
const { ask, follow, key } = await import(`${process.env.PAGE}/api.js`);

// A server that answers each request with the next of these: [status, pieces of the body].
function serve(...answers) {
  const asked = [];
  globalThis.fetch = async (path, options) => {
    asked.push({ path, headers: Object.fromEntries(options.headers), method: options.method });
    const [status, pieces] = answers.shift() ?? [404, ['{"msg": "gone"}']];
    if (status === 0) throw new TypeError("no network");
    const body = new ReadableStream({ start(out) { for (const piece of pieces) out.enqueue(new TextEncoder().encode(piece)); out.close(); } });
    return new Response(body, { status });
  };
  return asked;
}

const event = (id, entry) => `id: ${id}\nevent: ${entry.type}\ndata: ${JSON.stringify(entry)}\n\n`;
const END = "event: end\ndata: {}\n\n";

function followed(options = {}) {
  return new Promise((resolve) => {
    const entries = [];
    follow("a call", { ...options, onEntry: (entry) => entries.push(entry.type), onEnd: (how) => resolve([entries, how]) });
  });
}

test("events that come in arbitrary pieces are taken in order, and comments passed over", async () => {
  const text = event(1, { type: "one" }) + ": still here\n\n" + event(2, { type: "two", transcript: "ü: \n\n" }) + END;
  const asked = serve([200, [...text].map((character) => character)]);
  assert.deepEqual(await followed({ secret: "s" }), [["one", "two"], "end"]);
  assert.equal(asked[0].path, "/v1/calls/a%20call/events?sound=1");
  assert.equal(asked[0].headers["call-secret"], "s");
  assert.equal(asked[0].headers["x-requested-with"], "agentd-console");
});

test("a stream that breaks goes on behind the last entry", async () => {
  const asked = serve([200, [event(1, { type: "one" }), "id: 2\nevent: tw"]], [0, []], [200, [event(2, { type: "two" }), END]]);
  assert.deepEqual(await followed(), [["one", "two"], "end"]);
  assert.deepEqual(asked.map((each) => each.headers["last-event-id"]), [undefined, "1", "1"]);
});

test("a reader that was too slow comes again", async () => {
  serve([200, [event(1, { type: "one" }), "event: late\ndata: {}\n\n"]], [200, [event(2, { type: "two" }), END]]);
  assert.deepEqual(await followed(), [["one", "two"], "end"]);
});

test("a call that is not there yet is waited for, one that is gone has ended", async () => {
  serve([404, ['{"msg": "none"}']], [200, [event(1, { type: "one" })]], [404, ['{"msg": "none"}']]);
  assert.deepEqual(await followed(), [["one"], "end"]);
});

test("a refusal is told in the server's words, and one for ever is not waited for", async () => {
  serve([401, ['{"msg": "expected a key"}']]);
  assert.deepEqual(await followed(), [[], "expected a key"]);
  serve(...Array.from({ length: 50 }, () => [404, ['{"msg": "no such call"}']]));
  assert.deepEqual(await followed(), [[], "no such call"]);
});

test("the key goes with every request and is kept for the tab only", async () => {
  key.set("k");
  const asked = serve([204, []]);
  await ask("/v1/x", { method: "DELETE" }).catch(() => {});
  assert.equal(asked[0].headers.authorization, "Bearer k");
  key.set("");
  assert.equal(key.get(), "");
});
