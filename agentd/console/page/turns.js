// The turns of a call in words: who said what, where the gap went, and inside each its prompt, its events and what
// `turn_end` said, to the letter.

import { el } from "./dom.js";
import { PART_NAMES, clock } from "./model.js";

export class TurnList {
  // onChoose gets a turn.
  constructor(list, onChoose) {
    Object.assign(this, { list, onChoose });
    this.clear(null);
  }

  clear(model) {
    this.model = model;
    this.list.replaceChildren();
    this.shown = 0;   // turns that are over, in the list
    this.open = null; // the one that is under way
    this.items = new Map();
  }

  changed() {
    const { model } = this;
    while (this.shown < model.turns.length) {
      const turn = model.turns[this.shown];
      this.shown += 1;
      this.open?.remove();
      this.open = null;
      const item = this.#item(turn);
      this.items.set(turn, item);
      this.list.append(item);
    }
    this.#underWay(model.open);
  }

  choose(turn) {
    for (const [other, item] of this.items) item.classList.toggle("chosen", other === turn);
    const item = this.items.get(turn);
    if (!item) return;
    item.querySelector("details").open = true;
    item.scrollIntoView({ block: "nearest" });
  }

  // What is said now, until the turn is over.
  #underWay(turn) {
    const lines = [["caller", turn.transcript || turn.hearing], ["agent", turn.response]].filter(([, text]) => text);
    if (!lines.length) {
      this.open?.remove();
      this.open = null;
      return;
    }
    this.open ??= el("li", { class: "open" });
    if (!this.open.isConnected) this.list.append(this.open);
    this.open.replaceChildren(...lines.map(([who, text]) => said(who, text, who === "caller" && !turn.transcript)));
  }

  #item(turn) {
    const { payload } = turn, wait = turn.waterfall.total;
    const head = el("div", { class: "turn-head" },
      el("b", {}, { greeting: "Greeting", application: "The application" }[turn.cause] ?? `Turn ${turn.number}`),
      el("time", {}, clock(payload.instants?.taken ?? turn.from)),
      wait === null ? null : el("span", {}, `${wait} ms until the first sound`),
      ...this.#badges(turn));
    const words = el("div", {},
      turn.transcript ? said(turn.cause === "request" ? "asked" : "caller", turn.transcript) : null,
      turn.response ? said("agent", turn.response) : el("p", { class: "soft" }, (payload.response ?? payload.text) === undefined ? "Words are shown with a key." : "Nothing was heard."));
    const inside = el("details", { class: "inside" }, el("summary", {}, "Prompt, events, payload"));
    inside.addEventListener("toggle", () => {
      if (inside.open && inside.childElementCount === 1) inside.append(...this.#inside(turn));
      if (inside.open) this.onChoose(turn);
    });
    return el("li", { "data-turn": turn.number, "data-cause": turn.cause }, head,
      el("div", { class: "turn-body" }, words, turn.waterfall.parts.length ? table(turn.waterfall) : null), inside);
  }

  #badges({ payload }) {
    const found = [];
    if (payload.interrupted) found.push(el("span", { class: "badge", "--mark": "var(--bad)" }, "interrupted"));
    const ahead = payload.latency?.preflight;
    if (ahead) found.push(el("span", { class: "badge", "--mark": `var(--${ahead.result})` }, `thought ahead: ${ahead.result}${ahead.tokens ? `, ${ahead.tokens} tokens` : ""}`));
    for (const call of payload.tool_calls ?? []) found.push(el("span", { class: "badge", "--mark": "var(--tool)" }, `${call.name} ${call.rtt_ms} ms`));
    if (payload.error) found.push(el("span", { class: "badge", "--mark": "var(--bad)" }, payload.error));
    if (payload.llm) found.push(el("span", { class: "badge" }, payload.llm));
    return found;
  }

  #inside(turn) {
    const panels = {
      Prompt: () => this.#prompts(turn),
      Events: () => [el("pre", { tabindex: 0 }, turn.entries.map((entry) => JSON.stringify(entry)).join("\n"))],
      Payload: () => [el("pre", { tabindex: 0 }, JSON.stringify(turn.payload, null, 2))],
    };
    const panel = el("div", { role: "tabpanel" });
    const tabs = el("div", { class: "tabs", role: "tablist" });
    const choose = (name) => {
      panel.replaceChildren(...panels[name]());
      panel.setAttribute("aria-label", name);
      for (const tab of tabs.children) {
        const isChosen = tab.textContent === name;
        tab.setAttribute("aria-selected", isChosen);
        tab.tabIndex = isChosen ? 0 : -1;
      }
    };
    for (const name of Object.keys(panels)) tabs.append(el("button", { role: "tab", type: "button", onclick: () => choose(name) }, name));
    tabs.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const all = [...tabs.children], next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
      next.focus();
      choose(next.textContent);
    });
    choose("Prompt");
    return [tabs, panel];
  }

  #prompts(turn) {
    const prompts = this.model.promptsOf(turn);
    if (!prompts.length) return [el("p", { class: "soft" }, "No model was asked: the words were given.")];
    return prompts.flatMap((prompt, index) => [
      el("h4", {}, `${prompts.length > 1 ? `Prompt ${index + 1}` : "Prompt"}, ${clock(prompt.at)}${prompt.isSpeculative ? ", ahead of the end of the turn" : ""}`),
      ...(prompt.messages ?? [{ role: "", content: "Words are shown with a key." }]).map((message, at) => el("div",
        { class: at >= prompt.isNewFrom ? "message new" : "message" }, el("b", {}, message.role), text(message))),
      prompt.tools.length ? el("p", { class: "soft" }, `Tools: ${prompt.tools.join(", ")}`) : null,
    ]).filter(Boolean);
  }
}

function said(who, words, isOpen = false) {
  const names = { caller: "Caller", agent: "Agent", asked: "Asked" };
  return el("p", { class: `said ${who === "agent" ? "agent" : "caller"}${isOpen ? " soft" : ""}` }, el("b", {}, names[who]), words);
}

function text(message) {
  const calls = (message.tool_calls ?? []).map((call) => `→ ${call.name}(${typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments)})`);
  const content = typeof message.content === "string" ? message.content : JSON.stringify(message.content ?? "", null, 1);
  return [content, ...calls].filter(Boolean).join("\n");
}

// The gap, each part behind the one before. Figures are those of `turn_end`; the last row is its total.
function table({ parts, sum, total }) {
  const whole = total ?? sum;
  const rows = parts.map(({ name, ms, from }) => el("tr", { "data-part": name, "data-ms": ms },
    el("th", { scope: "row" }, PART_NAMES[name]),
    el("td", {}, el("div", { class: "track" }, el("div", { class: "bar", "--mark": `var(--${name.replace("_ms", "")})`,
      "--from": `${whole ? (100 * from) / whole : 0}%`, "--share": `${whole ? (100 * ms) / whole : 0}%` }))),
    el("td", {}, `${ms} ms`)));
  const last = total === null ? ["so far", sum] : ["until the first sound", total];
  return el("table", { class: "waterfall" }, el("caption", {}, "Where the gap went"), el("tbody", {}, ...rows),
    el("tfoot", {}, el("tr", { "data-part": "total_ms", "data-ms": last[1] }, el("th", { scope: "row" }, last[0]), el("td", {}), el("td", {}, `${last[1]} ms`))));
}
