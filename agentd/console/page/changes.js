// The four updates of a call as forms. What is wrong with one is said in the server's words.

import { ask } from "./api.js";
import { $, el } from "./dom.js";

const FORMS = [
  { type: "generate_reply", title: "Ask for a reply", button: "Ask", fields: [
    { name: "user_input", label: "What it answers" },
    { name: "instructions", label: "Instructions for this reply only" },
    { name: "interrupt", label: "Now, whoever is speaking", kind: "check" },
  ] },
  { type: "update_instructions", title: "Other instructions", button: "Replace them", fields: [
    { name: "instructions", label: "The system prompt from now on", kind: "long" },
  ] },
  { type: "inject_context", title: "More context", button: "Add it", fields: [
    { name: "role", label: "Who says it", kind: "choice", choices: ["system", "user", "assistant"] },
    { name: "content", label: "What is to be known", kind: "long" },
  ] },
  { type: "update_tools", title: "Other tools", button: "Replace them", fields: [
    { name: "tools", label: "The application's tools, as JSON", kind: "json", value: "[]" },
  ] },
];

// `target` says which call: {account, callSid, secret}, or null.
export function buildForms(target) {
  for (const form of FORMS) {
    const made = el("form", { "data-type": form.type }, el("b", {}, form.title), ...form.fields.flatMap(field), el("button", {}, form.button));
    made.addEventListener("submit", async (event) => {
      event.preventDefault();
      const call = target(), note = $("changed");
      if (!call) return;
      try {
        await update(call, body(form, made));
        note.textContent = `${form.title}: taken over.`;
      } catch (error) {
        note.textContent = `${form.title}: ${error.message}`;
      }
    });
    $("forms").append(made);
  }
}

export async function update({ account, callSid, secret }, wanted) {
  await ask(path(account, callSid), { method: "PUT", body: { agent_update: wanted }, secret });
}

export async function endCall({ account, callSid, secret }) {
  await ask(path(account, callSid), { method: "DELETE", secret });
}

const path = (account, callSid) => `/v1/Accounts/${encodeURIComponent(account)}/Calls/${encodeURIComponent(callSid)}`;

function field({ name, label, kind, choices, value }) {
  const id = `field-${name}-${Math.random().toString(36).slice(2, 8)}`;
  if (kind === "check") return [el("label", { class: "check" }, el("input", { type: "checkbox", name }), ` ${label}`)];
  const input = kind === "choice" ? el("select", { id, name }, ...choices.map((choice) => el("option", {}, choice)))
    : kind ? el("textarea", { id, name, spellcheck: "false" }, value ?? "") : el("input", { id, name, autocomplete: "off" });
  return [el("label", { for: id }, label), input];
}

function body(form, made) {
  const given = new FormData(made), wanted = { type: form.type };
  if (form.type === "inject_context") return { ...wanted, messages: [{ role: given.get("role"), content: given.get("content") }] };
  for (const { name, kind } of form.fields) {
    const value = given.get(name);
    if (kind === "check") { if (value) wanted[name] = true; }
    else if (kind === "json") wanted[name] = parsed(value);
    else if (value || kind === "long") wanted[name] = value;
  }
  return wanted;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("expected JSON, got something else");
  }
}
