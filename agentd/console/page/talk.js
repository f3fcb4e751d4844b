// The telephone's buttons: whom to call, talking, typing, keys, and the microphone.

import { key } from "./api.js";
import { update } from "./changes.js";
import { $, el } from "./dom.js";
import { here, problem } from "./page.js";
import { Phone } from "./phone.js";
import { accountOf, watch } from "./shown.js";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];

let phone = null;  // of the call that this page makes
let whenOver;      // called when a call that was watched is

export const mine = () => phone;

export function offer() {
  const { agents } = here.about, before = $("agent").value, names = agents.map((agent) => agent.name);
  $("agent").replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  if (names.length) $("agent").value = names.includes(before) ? before : names.find((name) => name !== "demo") ?? "demo";
  agentChosen();
  controls(phone !== null);
}

async function dial() {
  problem("");
  const agent = here.about.agents.find((each) => each.name === $("agent").value);
  $("call").disabled = true;
  said("Dialling …", "waiting");
  const made = phone = new Phone({ agent: agent.name, account: agent.account, key: key.get(), microphone: $("microphone").value, processing: $("processing").checked });
  let isUp = false;
  made.addEventListener("open", () => {
    isUp = true;
    said(`On the line with ${agent.name}.`, "speaking");
    watch({ callSid: made.callSid, account: agent.account, secret: made.secret, title: `Your call to ${agent.name}` }, whenOver);
  });
  made.addEventListener("mic", ({ detail }) => { $("mic-level").value = loudness(detail); });
  made.addEventListener("agent", ({ detail }) => { $("agent-level").value = loudness(detail); });
  made.addEventListener("closed", ({ detail }) => {
    if (made !== phone) return;
    hungUp(detail);
    if (!isUp) whyNot();
  });
  try {
    await made.dial();
    controls(true);
    listMicrophones();
  } catch (error) {
    hungUp("Nobody is on the line.");
    problem(`You cannot talk: ${error.message}.`);
  }
}

// A browser is not told why a socket was refused.
async function whyNot() {
  const { status } = await fetch("/healthz", { cache: "no-store" }).then((answer) => answer.json()).catch(() => ({ status: "no answer" }));
  if (status !== "ok") problem(`The server takes no calls now: ${status}.`);
}

function hungUp(reason) {
  phone = null;
  controls(false);
  said(reason, "listening");
  $("mic-level").value = $("agent-level").value = 0;
  $("mute").setAttribute("aria-pressed", "false");
}

function controls(isOn) {
  $("call").disabled = isOn || !here.about.agents.length;
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
  const call = { account: accountOf(phone.callSid) ?? phone.account ?? "default", callSid: phone.callSid, secret: phone.secret };
  try {
    await update(call, { type: "generate_reply", user_input: words, interrupt: true });
    $("typed").value = "";
    problem("");
  } catch (error) {
    problem(`Not said: ${error.message}`);
  }
}

// A browser tells of them once it may use one.
async function listMicrophones() {
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  const known = new Set([...$("microphone").options].map((option) => option.value));
  for (const device of devices) {
    if (device.kind === "audioinput" && device.deviceId && !known.has(device.deviceId)) {
      $("microphone").append(el("option", { value: device.deviceId }, device.label || "Microphone"));
    }
  }
}

function microphoneChosen() {
  if (!phone) return;
  phone.processing = $("processing").checked;
  phone.use($("microphone").value).catch((error) => problem(`The microphone was not changed: ${error.message}.`));
}

function agentChosen() {
  const agent = here.about.agents.find((each) => each.name === $("agent").value);
  const does = agent && `hears by ${agent.vendors.stt}, thinks by ${agent.vendors.llm}, speaks by ${agent.vendors.tts}`;
  $("agent-about").textContent = agent ? [agent.description, does, agent.is_recorded && "calls are recorded"].filter(Boolean).join(" · ") : "";
  $("stand-in").hidden = !agent?.is_stand_in;
}

export function ready(over) {
  whenOver = over;
  const names = { "*": "star", "#": "hash" };
  $("keys").append(...KEYS.map((digit) => el("button", { type: "button", disabled: true, onclick: () => phone?.press(digit), "aria-label": names[digit] ?? digit }, digit)));
  $("call").addEventListener("click", dial);
  $("hang-up").addEventListener("click", () => phone?.hangUp());
  $("mute").addEventListener("click", () => {
    phone?.mute(!phone.isMuted);
    $("mute").setAttribute("aria-pressed", String(phone?.isMuted ?? false));
  });
  $("type").addEventListener("submit", typed);
  $("agent").addEventListener("change", agentChosen);
  $("microphone").addEventListener("change", microphoneChosen);
  $("processing").addEventListener("change", microphoneChosen);
  window.addEventListener("pagehide", () => phone?.hangUp());
}
