// The page put together: which call is shown, who is on the line, and what the buttons do.

import { Refused, ask, follow, json, key } from "./api.js";
import { buildForms, endCall, update } from "./changes.js";
import { $, el, fileName, save, sure } from "./dom.js";
import { CallModel, readLog, transcript } from "./model.js";
import { Phone } from "./phone.js";
import { Timeline } from "./timeline.js";
import { TurnList } from "./turns.js";

const EVERY = 3000;  // ms between two looks at the list of calls
const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];

const NOBODY = { agents: [], may_know: false, isIn: false };
let about = NOBODY;
let phone = null;    // of the call that this page makes
let shown = null;    // {model, callSid, account, secret, isLive, title, leave}

const timeline = new Timeline({ scroller: $("scroller"), spacer: $("spacer"), canvas: $("lanes"), follow: $("follow"), legend: $("legend"),
  onChoose: (second) => choose(shown.model.turnAt(second)) });
const turns = new TurnList($("turns"), (turn) => timeline.choose(turn));

// The call that is shown ---------------------------------------------------------------------------------------

function show({ title, callSid = null, account = null, secret = null, isLive }) {
  shown?.leave?.();
  shown = { model: new CallModel(), callSid, account, secret, isLive, title, isPending: false };
  timeline.show(shown.model, isLive);
  turns.clear(shown.model);
  $("timeline").hidden = $("after").hidden = $("turns-title").hidden = false;
  $("player").hidden = true;
  $("player").removeAttribute("src");
  $("changed").textContent = "";
  render();
  return shown;
}

function take(call, entry) {
  if (call !== shown) return;
  call.model.add(entry);
  if (entry.type === "call_began") call.account = entry.account_sid;
  timeline.changed();
  if (entry.type === "sound" || call.isPending) return;
  call.isPending = true;
  requestAnimationFrame(() => { call.isPending = false; if (call === shown) render(); });
}

function render() {
  const { model, isLive, title } = shown;
  turns.changed();
  $("shown-title").textContent = title;
  const told = [model.about.agent && `agent ${model.about.agent}`, model.about.from && model.about.from !== "console" && `from ${model.about.from}`,
    `${model.turns.length} turn${model.turns.length === 1 ? "" : "s"}`, model.isRecorded && "recorded", model.isOver && `ended: ${model.reason || "no reason given"}`,
    model.error && `${model.error.vendor ?? ""} ${model.error.code ?? ""}`].filter(Boolean);
  $("shown-about").textContent = told.join(" · ");
  const state = model.isOver || !isLive ? "over" : model.state;
  $("shown-state").textContent = state;
  $("shown-state").style.setProperty("--mark", `var(--${state === "over" ? "ending" : state})`);
  $("lanes").setAttribute("aria-label", `Timeline of the call: ${told.join(", ")}, ${Math.round(model.end)} seconds.`);
  const isMine = shown.secret !== null, isOn = isLive && !model.isOver;
  $("end-call").hidden = $("change").hidden = !(isOn && (isMine || about.may_know));
  $("save-recording").hidden = !(shown.callSid && model.isRecorded && !isOn);
}

function choose(turn) {
  turns.choose(turn);
  timeline.choose(turn);
}

function watch({ callSid, account = null, secret = null, title }) {
  const call = show({ title, callSid, account, secret, isLive: true });
  call.leave = follow(callSid, { secret, onEntry: (entry) => take(call, entry), onEnd: (how) => ended(call, how) });
}

function ended(call, how) {
  if (call !== shown) return;
  call.isLive = timeline.isLive = false;
  if (how !== "end") problem(`The call can no longer be watched: ${how}`);
  timeline.dirty();
  render();
  listRecordings();
}

// Talking ------------------------------------------------------------------------------------------------------

async function dial() {
  problem("");
  const agent = about.agents.find((each) => each.name === $("agent").value);
  $("call").disabled = true;
  said("Dialling …", "waiting");
  phone = new Phone({ agent: agent.name, account: agent.account, key: key.get(), microphone: $("microphone").value, processing: $("processing").checked });
  const mine = phone;
  phone.addEventListener("open", () => {
    said(`On the line with ${agent.name}.`, "speaking");
    watch({ callSid: mine.callSid, account: agent.account, secret: mine.secret, title: `Your call to ${agent.name}` });
  });
  phone.addEventListener("mic", ({ detail }) => { $("mic-level").value = loudness(detail); });
  phone.addEventListener("agent", ({ detail }) => { $("agent-level").value = loudness(detail); });
  phone.addEventListener("closed", ({ detail }) => { if (mine === phone) hungUp(detail); });
  try {
    await phone.dial();
    controls(true);
    listMicrophones();
  } catch (error) {
    phone = null;
    hungUp("Nobody is on the line.");
    problem(`You cannot talk: ${error.message}.`);
  }
}

function hungUp(reason) {
  phone = null;
  controls(false);
  said(reason, "listening");
  $("mic-level").value = $("agent-level").value = 0;
  $("mute").setAttribute("aria-pressed", "false");
}

function controls(isOn) {
  $("call").disabled = isOn || !about.agents.length;
  for (const control of [$("mute"), $("hang-up"), $("typed"), $("type").lastElementChild, ...$("keys").children]) control.disabled = !isOn;
  $("agent").disabled = isOn;
}

function said(text, state) {
  $("phone-state").textContent = text;
  $("phone-state").style.setProperty("--mark", `var(--${state})`);
}

// −50 dBFS … 0 as 0 … 1.
const loudness = (level) => Math.max(0, Math.min(1, 1 + (20 * Math.log10(level + 1e-9)) / 50));

async function typed(event) {
  event.preventDefault();
  const words = $("typed").value.trim();
  if (!words || !phone) return;
  try {
    const account = shown?.callSid === phone.callSid && shown.account ? shown.account : phone.account ?? "default";
    await update({ account, callSid: phone.callSid, secret: phone.secret }, { type: "generate_reply", user_input: words, interrupt: true });
    $("typed").value = "";
    problem("");
  } catch (error) {
    problem(`Not said: ${error.message}`);
  }
}

async function listMicrophones() {
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  const known = new Set([...$("microphone").options].map((option) => option.value));
  for (const device of devices) {
    if (device.kind === "audioinput" && device.deviceId && !known.has(device.deviceId)) {
      $("microphone").append(el("option", { value: device.deviceId }, device.label || "Microphone"));
    }
  }
}

function agentChosen() {
  const agent = about.agents.find((each) => each.name === $("agent").value);
  $("agent-about").textContent = agent ? [agent.description, `hears by ${agent.vendors.stt}, thinks by ${agent.vendors.llm}, speaks by ${agent.vendors.tts}`, agent.is_recorded && "calls are recorded"].filter(Boolean).join(" · ") : "";
  $("stand-in").hidden = !agent?.is_stand_in;
}

// Other calls --------------------------------------------------------------------------------------------------

async function listCalls() {
  if (document.hidden || !about.isIn) return;
  try {
    const calls = await json("/v1/calls");
    $("calls-note").textContent = calls.length ? "" : "There are none.";
    $("call-list").replaceChildren(...calls.map((call) => {
      const isMine = call.call_sid === phone?.callSid;
      const title = isMine ? `Your call to ${call.agent}` : `Call to ${call.agent}${call.from ? ` from ${call.from}` : ""}`;
      const name = el("span", {}, title, el("br"), el("span", { class: "soft" }, `${call.state} · ${call.duration} s · ${call.account_sid}`));
      const target = { callSid: call.call_sid, account: call.account_sid, secret: isMine ? phone.secret : null, title };
      return el("li", { "data-call": call.call_sid }, name, el("button", { onclick: () => watch(target), "aria-label": `Watch: ${title}` }, "Watch"));
    }));
  } catch (error) {
    if (error.status === 401) return begin();  // the key is none any more
    $("calls-note").textContent = `The calls cannot be listed: ${error.message}`;
    if (error.status !== 0) $("call-list").replaceChildren();
  }
}

async function listRecordings() {
  if (!about.isIn) return;
  const recordings = await json("/v1/recordings").catch(() => []);
  $("recording-list").replaceChildren(...recordings.filter((each) => each.is_whole).slice(0, 50).map((kept) => {
    const title = `Call to ${kept.agent}, ${new Date(kept.since * 1000).toLocaleString()}`;
    return el("li", {}, el("span", {}, title, el("br"), el("span", { class: "soft" }, `${Math.round(kept.seconds)} s`)),
      el("button", { onclick: () => openRecording(kept, title), "aria-label": `Open: ${title}` }, "Open"));
  }));
}

async function openRecording(kept, title) {
  try {
    const response = await ask(`/v1/recordings/${encodeURIComponent(kept.call_sid)}.jsonl`);
    open(readLog(await response.text()), title, kept.call_sid);
  } catch (error) {
    problem(`The recording cannot be opened: ${error.message}`);
  }
}

// After the call -----------------------------------------------------------------------------------------------

function open(entries, title, callSid = null, secret = null) {
  const call = show({ title, callSid, secret, isLive: false });
  for (const entry of entries) call.model.add(entry);
  timeline.show(call.model, false);
  render();
}

async function openFile() {
  const [file] = $("open-log").files;
  $("open-log").value = "";
  if (!file) return;
  try {
    open(readLog(await file.text()), file.name);
    problem("");
  } catch (error) {
    problem(`${file.name} is no event log: ${error.message}`);
  }
}

const nameOf = (ending) => `${fileName("agentd", shown.model.about.agent, shown.model.about.call_sid) || "agentd"}.${ending}`;

function saveLog() {
  save(nameOf("jsonl"), [shown.model.entries.map((entry) => `${JSON.stringify(entry)}\n`).join("")], "application/x-ndjson");
}

async function saveRecording() {
  try {
    const response = await ask(`/v1/recordings/${encodeURIComponent(shown.callSid)}.wav`, { secret: shown.secret });
    const sound = await response.blob();
    save(nameOf("wav"), sound);
    URL.revokeObjectURL($("player").src);
    $("player").src = URL.createObjectURL(sound);
    $("player").hidden = false;
  } catch (error) {
    problem(`The recording cannot be fetched: ${error.message}`);
  }
}

async function end() {
  const call = shown;
  if (!(await sure("End this call? The caller is cut off."))) return;
  await endCall(call).catch((error) => problem(`The call was not ended: ${error.message}`));
}

// The page -----------------------------------------------------------------------------------------------------

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function begin() {
  try {
    about = { ...await json("/v1/console"), isIn: true };
    $("version").textContent = about.version;
    $("rights").textContent = about.may_know ? (key.get() ? "With your key: every call may be seen and changed." : "") : "Without a key: you may talk, and look on at other calls without their words.";
    $("key").placeholder = key.get() ? "is in use" : "";
    problem("");
  } catch (error) {
    about = NOBODY;
    const isKey = error instanceof Refused && error.status === 401, hadKey = key.get() !== "";
    if (isKey) key.set("");  // ten wrong ones in a minute, and the server looks at none of them
    $("rights").textContent = $("calls-note").textContent = "";
    $("call-list").replaceChildren();
    $("recording-list").replaceChildren();
    problem(isKey ? (hadKey ? "The server does not know this key." : "This server wants a key: one of access.keys in agentd.yaml.") : `Not reached: ${error.message}.`);
    if (isKey) $("key").focus();
  }
  const before = $("agent").value;
  $("agent").replaceChildren(...about.agents.map((agent) => el("option", { value: agent.name }, agent.name)));
  if (about.agents.some((agent) => agent.name === before)) $("agent").value = before;
  else if (about.agents.some((agent) => agent.name === "demo")) $("agent").value = about.agents.find((agent) => agent.name !== "demo")?.name ?? "demo";
  agentChosen();
  controls(phone !== null);
  listCalls();
  listRecordings();
}

// A key in the address is one that the terminal showed: it is used, and not left in the address or the history.
function keyInAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!found) return;
  key.set(found);
  history.replaceState(null, "", location.pathname);
}

$("keys").append(...KEYS.map((digit) => el("button", { type: "button", disabled: true, onclick: () => phone?.press(digit), "aria-label": { "*": "star", "#": "hash" }[digit] ?? digit }, digit)));
buildForms(() => shown);
$("call").addEventListener("click", dial);
$("hang-up").addEventListener("click", () => phone?.hangUp());
$("mute").addEventListener("click", () => {
  phone?.mute(!phone.isMuted);
  $("mute").setAttribute("aria-pressed", String(phone?.isMuted ?? false));
});
$("type").addEventListener("submit", typed);
$("agent").addEventListener("change", agentChosen);
$("microphone").addEventListener("change", () => phone?.use($("microphone").value).catch((error) => problem(`The microphone was not changed: ${error.message}.`)));
$("processing").addEventListener("change", () => {
  if (!phone) return;
  phone.processing = $("processing").checked;
  phone.use(phone.microphone).catch((error) => problem(`The microphone was not changed: ${error.message}.`));
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  begin();
});
$("closer").addEventListener("click", () => timeline.zoom(1));
$("farther").addEventListener("click", () => timeline.zoom(-1));
$("follow").addEventListener("change", () => timeline.dirty());
$("open-log").addEventListener("change", openFile);
$("save-log").addEventListener("click", saveLog);
$("save-transcript").addEventListener("click", () => save(nameOf("txt"), [transcript(shown.model)], "text/plain"));
$("save-recording").addEventListener("click", saveRecording);
$("end-call").addEventListener("click", end);
$("player").addEventListener("timeupdate", () => { timeline.cursor = $("player").currentTime; timeline.dirty(); });
window.addEventListener("hashchange", () => { keyInAddress(); begin(); });
window.addEventListener("pagehide", () => phone?.hangUp());

keyInAddress();
await begin();
setInterval(listCalls, EVERY);
