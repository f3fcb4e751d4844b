// What the page asks of the server. The key lives as long as the tab, and goes nowhere but into the headers to it.

const KEPT = "agentd.key";
const AGAIN = 700;   // ms until a stream that broke is asked for anew
const PATIENCE = 12; // attempts in a row before it is given up

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export const key = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEPT, value) : sessionStorage.removeItem(KEPT)),
};

function headers(secret, more) {
  const found = new Headers({ "x-requested-with": "agentd-console", ...more });
  if (key.get()) found.set("authorization", `Bearer ${key.get()}`);
  if (secret) found.set("call-secret", secret);
  return found;
}

// An answer that is one; else Refused, in the server's own words.
export async function ask(path, { method = "GET", body, secret, last, signal } = {}) {
  const more = { ...(body && { "content-type": "application/json" }), ...(last && { "last-event-id": last }) };
  const options = { method, headers: headers(secret, more), cache: "no-store", signal };
  if (body) options.body = JSON.stringify(body);
  const response = await fetch(path, options).catch(() => { throw new Refused(0, "the server does not answer"); });
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refused(response.status, told.msg ?? `the server said ${response.status}`);
}

export const json = async (path, options) => (await ask(path, options)).json();

// The events of a call, from its first to its last: `onEntry` for each, `onEnd` once with "end", "late", "lost" or the
// words of a refusal. A stream that breaks goes on behind the entry that it had last. Returns a function that leaves it.
export function follow(callSid, { secret, onEntry, onEnd }) {
  const leaving = new AbortController();
  let last = "", failures = 0;

  async function once() {
    const path = `/v1/calls/${encodeURIComponent(callSid)}/events?sound=1`;
    const reader = (await ask(path, { secret, last, signal: leaving.signal })).body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", how = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return how;
      failures = 0;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        if (block.startsWith(":")) continue;
        const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
        if (fields.id === undefined) {
          how = fields.event;
          continue;
        }
        last = fields.id;
        onEntry(JSON.parse(fields.data));
      }
    }
  }

  (async () => {
    for (;;) {
      try {
        const how = await once();
        if (how === "end") return onEnd("end");
      } catch (error) {
        if (leaving.signal.aborted) return;
        // A call that was just dialled is not there yet; one that is over is not there any more.
        const isFinal = error.status >= 400 && error.status < 500 && error.status !== 404;
        if (isFinal || (error.status === 404 && last)) return onEnd(last ? "end" : error.message);
        if (failures >= PATIENCE) return onEnd(error.message);
      }
      failures += 1;
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
      if (leaving.signal.aborted) return;
    }
  })();
  return () => leaving.abort();
}
