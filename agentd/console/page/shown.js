// The call that is shown: one that goes on, or one that is over; its picture, its turns, and what can be done with it.

import { ask, follow } from "./api.js";
import { buildForms, endCall } from "./changes.js";
import { $, fileName, save, sure } from "./dom.js";
import { CallModel, readLog, transcript } from "./model.js";
import { here, problem } from "./page.js";
import { Timeline } from "./timeline.js";
import { TurnList } from "./turns.js";

let shown = null;  // {model, callSid, account, secret, isLive, title, leave}

const timeline = new Timeline({ scroller: $("scroller"), spacer: $("spacer"), canvas: $("lanes"), follow: $("follow"),
  legend: $("legend"), onChoose: (second) => choose(shown.model.turnAt(second)) });
const turns = new TurnList($("turns"), (turn) => timeline.choose(turn));

// A call that goes on. `whenOver` is called when it is over.
export function watch({ callSid, account = null, secret = null, title }, whenOver) {
  const call = show({ title, callSid, account, secret, isLive: true });
  call.leave = follow(callSid, { secret, onEntry: (entry) => take(call, entry), onEnd: (how) => { over(call, how); whenOver(); } });
}

// One that is over.
export function open(text, title, callSid = null) {
  const entries = readLog(text), call = show({ title, callSid, isLive: false });
  for (const entry of entries) call.model.add(entry);
  timeline.show(call.model, false);
  render();
}

export const accountOf = (callSid) => (shown?.callSid === callSid ? shown.account : null);

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

function over(call, how) {
  if (call !== shown) return;
  call.isLive = timeline.isLive = false;
  if (how !== "end") problem(`The call can no longer be watched: ${how}`);
  timeline.dirty();
  render();
}

function render() {
  const { model, isLive, title } = shown, { agent, from } = model.about;
  turns.changed();
  $("shown-title").textContent = title;
  const told = [agent && `agent ${agent}`, from && from !== "console" && `from ${from}`,
    `${model.turns.length} turn${model.turns.length === 1 ? "" : "s"}`, model.isRecorded && "recorded",
    model.isOver && `ended: ${model.reason || "no reason given"}`, model.error && `${model.error.vendor ?? ""} ${model.error.code ?? ""}`].filter(Boolean);
  $("shown-about").textContent = told.join(" · ");
  const state = model.isOver || !isLive ? "over" : model.state;
  $("shown-state").textContent = state;
  $("shown-state").style.setProperty("--mark", `var(--${state === "over" ? "ending" : state})`);
  $("lanes").setAttribute("aria-label", `Timeline of the call: ${told.join(", ")}, ${Math.round(model.end)} seconds.`);
  const isOn = isLive && !model.isOver;
  $("end-call").hidden = $("change").hidden = !(isOn && (shown.secret !== null || here.about.may_know));
  $("save-recording").hidden = !(shown.callSid && model.isRecorded && !isOn);
}

function choose(turn) {
  turns.choose(turn);
  timeline.choose(turn);
}

// What can be done with it --------------------------------------------------------------------------------------

const nameOf = (ending) => `${fileName("agentd", shown.model.about.agent, shown.model.about.call_sid) || "agentd"}.${ending}`;

function saveLog() {
  save(nameOf("jsonl"), [shown.model.entries.map((entry) => `${JSON.stringify(entry)}\n`).join("")], "application/x-ndjson");
}

async function saveRecording() {
  const call = shown;
  try {
    const sound = await (await ask(`/v1/recordings/${encodeURIComponent(call.callSid)}.wav`, { secret: call.secret })).blob();
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

async function openFile() {
  const [file] = $("open-log").files;
  $("open-log").value = "";
  if (!file) return;
  try {
    open(await file.text(), file.name);
    problem("");
  } catch (error) {
    problem(`${file.name} is no event log: ${error.message}`);
  }
}

export function ready() {
  buildForms(() => shown);
  $("closer").addEventListener("click", () => timeline.zoom(1));
  $("farther").addEventListener("click", () => timeline.zoom(-1));
  $("follow").addEventListener("change", () => timeline.dirty());
  $("open-log").addEventListener("change", openFile);
  $("save-log").addEventListener("click", saveLog);
  $("save-transcript").addEventListener("click", () => save(nameOf("txt"), [transcript(shown.model)], "text/plain"));
  $("save-recording").addEventListener("click", saveRecording);
  $("end-call").addEventListener("click", end);
  $("player").addEventListener("timeupdate", () => { timeline.cursor = $("player").currentTime; timeline.dirty(); });
}
