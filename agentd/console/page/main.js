// The page put together: what its user may do here, and with which key.

import { Refused, json, key } from "./api.js";
import { $ } from "./dom.js";
import * as lists from "./lists.js";
import { NOBODY, here, problem } from "./page.js";
import * as shown from "./shown.js";
import * as talk from "./talk.js";

const EVERY = 3000;  // ms between two looks at the list of calls

async function begin() {
  try {
    here.about = { ...await json("/v1/console"), isIn: true };
    $("version").textContent = here.about.version;
    $("rights").textContent = !here.about.may_know ? "Without a key: you may talk, and look on at other calls without their words."
      : key.get() ? "With your key: every call may be seen and changed." : "";
    problem("");
  } catch (error) {
    refused(error);
  }
  $("key").placeholder = key.get() ? "is in use" : "";
  talk.offer();
  lists.listCalls(begin);
  lists.listRecordings();
}

function refused(error) {
  here.about = NOBODY;
  lists.clear();
  $("rights").textContent = "";
  if (!(error instanceof Refused && error.status === 401)) return problem(`Not reached: ${error.message}.`);
  problem(key.get() ? "The server does not know this key." : "This server wants a key: one of access.keys in agentd.yaml.");
  key.set("");  // ten wrong ones in a minute, and the server looks at none of them
  $("key").focus();
}

// A key in the address is one that the terminal showed: it is used, and not left in the address or the history.
function keyInAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!found) return;
  key.set(found);
  history.replaceState(null, "", location.pathname);
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  begin();
});
window.addEventListener("hashchange", () => { keyInAddress(); begin(); });

keyInAddress();
shown.ready();
talk.ready(lists.listRecordings);
await begin();
setInterval(() => lists.listCalls(begin), EVERY);
