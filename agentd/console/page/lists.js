// Which calls there are: those that go on, and those that were recorded.

import { ask, json } from "./api.js";
import { $, el } from "./dom.js";
import { here, problem } from "./page.js";
import { open, watch } from "./shown.js";
import { mine } from "./talk.js";

const MOST = 50;  // recordings that are listed

// `whenOut` is called when the server does not know us any more.
export async function listCalls(whenOut) {
  if (document.hidden || !here.about.isIn) return;
  try {
    const calls = await json("/v1/calls");
    $("calls-note").textContent = calls.length ? "" : "There are none.";
    $("call-list").replaceChildren(...calls.map((call) => {
      const phone = mine(), isMine = call.call_sid === phone?.callSid;
      const title = isMine ? `Your call to ${call.agent}` : `Call to ${call.agent}${call.from ? ` from ${call.from}` : ""}`;
      const target = { callSid: call.call_sid, account: call.account_sid, secret: isMine ? phone.secret : null, title };
      return item(title, `${call.state} · ${call.duration} s · ${call.account_sid}`, "Watch", () => watch(target, listRecordings));
    }));
  } catch (error) {
    if (error.status === 401) return whenOut();
    $("calls-note").textContent = `The calls cannot be listed: ${error.message}`;
    if (error.status !== 0) $("call-list").replaceChildren();
  }
}

export async function listRecordings() {
  if (!here.about.isIn) return;
  const recordings = await json("/v1/recordings").catch(() => []);
  $("recording-list").replaceChildren(...recordings.filter((each) => each.is_whole).slice(0, MOST).map((kept) => {
    const title = `Call to ${kept.agent}, ${new Date(kept.since * 1000).toLocaleString()}`;
    return item(title, `${Math.round(kept.seconds)} s`, "Open", () => openRecording(kept, title));
  }));
}

export function clear() {
  $("calls-note").textContent = "";
  $("call-list").replaceChildren();
  $("recording-list").replaceChildren();
}

async function openRecording(kept, title) {
  try {
    open(await (await ask(`/v1/recordings/${encodeURIComponent(kept.call_sid)}.jsonl`)).text(), title, kept.call_sid);
  } catch (error) {
    problem(`The recording cannot be opened: ${error.message}`);
  }
}

function item(title, more, action, onclick) {
  return el("li", {}, el("span", {}, title, el("br"), el("span", { class: "soft" }, more)),
    el("button", { onclick, "aria-label": `${action}: ${title}` }, action));
}
