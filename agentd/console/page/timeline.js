// The picture of a call: a band of states, two lanes of sound with the words under them, what was thought ahead, which
// tools ran, and where each gap went. Drawn on a canvas that is as wide as what is seen; the scroller moves it.

import { el } from "./dom.js";
import { clock } from "./model.js";

const STATES = ["listening", "hearing", "endpointing", "thinking", "speaking", "held", "interrupted", "ending", "waiting"];
const GAP = { stt: "speech to text", eot: "end of turn", llm: "model", tool: "tools", text: "first words", tts: "voice", playout: "playout" };
const FATES = { hit: "thought ahead: hit", miss: "thought ahead: miss", pending: "thought ahead: pending" };
const ROWS = { axis: [0, 16], state: [18, 16], marks: [35, 14], caller: [51, 44], callerWords: [95, 18], agent: [117, 44],
  agentWords: [161, 18], gap: [183, 12], ahead: [198, 10], tools: [211, 14] };
const HEIGHT = 230;
const QUIETEST = -60;  // dBFS that is drawn as nothing
const SCALES = [8, 14, 25, 45, 80, 140, 250];  // pixels a second
const LIVE = 100;      // ms between two pictures of a call that goes on
const FONT = "11px system-ui, sans-serif";

export class Timeline {
  // onChoose gets the second that was clicked.
  constructor({ scroller, spacer, canvas, follow, legend, onChoose }) {
    Object.assign(this, { scroller, spacer, canvas, follow });
    this.model = null;
    this.scale = 4;
    this.chosen = null;  // a turn
    this.cursor = null;  // the second of the recording that is played
    this.received = 0;   // performance.now() of the last entry
    this.isLive = false;
    this.isDirty = false;
    this.isMoving = false;  // by ourselves
    this.pen = canvas.getContext("2d");
    canvas.addEventListener("click", (event) => this.model && onChoose(this.#secondAt(event.clientX)));
    scroller.addEventListener("scroll", () => {
      if (this.isMoving) this.isMoving = false;
      else if (this.isLive) this.follow.checked = this.#isAtEnd();
      this.dirty();
    });
    new ResizeObserver(() => this.dirty()).observe(scroller);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.colours = null; this.dirty(); });
    this.#explain(legend);
  }

  show(model, isLive) {
    Object.assign(this, { model, isLive, chosen: null, cursor: null, received: performance.now() });
    this.follow.checked = isLive;
    if (!isLive) this.scroller.scrollLeft = 0;
    this.dirty();
  }

  changed() {
    this.received = performance.now();
    this.dirty();
  }

  zoom(by) {
    const middle = (this.scroller.scrollLeft + this.scroller.clientWidth / 2) / SCALES[this.scale];
    this.scale = Math.min(Math.max(this.scale + by, 0), SCALES.length - 1);
    this.#resize();
    this.#scrollTo(middle);
    this.dirty();
  }

  choose(turn) {
    this.chosen = turn;
    const at = turn.payload?.instants?.taken ?? turn.from;
    if (!this.isLive || !this.follow.checked) this.#scrollTo(at);
    this.dirty();
  }

  dirty() {
    if (this.isDirty) return;
    this.isDirty = true;
    requestAnimationFrame(() => this.#frame());
  }

  #frame() {
    this.isDirty = false;
    if (!this.model) return;
    this.#resize();
    if (this.isLive && this.follow.checked) this.#move(this.spacer.clientWidth);
    this.#draw();
    clearTimeout(this.next);
    if (this.isLive && !this.model.isOver) this.next = setTimeout(() => this.dirty(), LIVE);
  }

  get now() {
    const model = this.model;
    return this.isLive && !model.isOver ? model.end + (performance.now() - this.received) / 1000 : model.end;
  }

  #resize() {
    if (!this.model) return;
    const seen = this.scroller.clientWidth;
    const width = Math.max(seen, Math.ceil((this.now + 1) * SCALES[this.scale]));
    this.spacer.style.width = `${width}px`;
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(seen * ratio) || this.canvas.height !== Math.round(HEIGHT * ratio)) {
      this.canvas.width = Math.round(seen * ratio);
      this.canvas.height = Math.round(HEIGHT * ratio);
      this.canvas.style.width = `${seen}px`;
      this.canvas.style.height = `${HEIGHT}px`;
    }
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  #move(left) {
    const to = Math.max(0, Math.min(left, this.spacer.clientWidth - this.scroller.clientWidth));
    if (Math.abs(this.scroller.scrollLeft - to) < 1) return;
    this.isMoving = true;
    this.scroller.scrollLeft = to;
  }

  #scrollTo(second) { this.#move(second * SCALES[this.scale] - this.scroller.clientWidth / 2); }

  #isAtEnd() { return this.scroller.scrollLeft + this.scroller.clientWidth >= this.spacer.clientWidth - 4; }

  #secondAt(x) { return (x - this.canvas.getBoundingClientRect().left + this.scroller.scrollLeft) / SCALES[this.scale]; }

  // Drawing ---------------------------------------------------------------------------------------------------

  #draw() {
    const { pen, model } = this;
    this.colours ??= read();
    this.left = this.scroller.scrollLeft;
    this.width = this.scroller.clientWidth;
    this.from = this.left / SCALES[this.scale];
    this.to = (this.left + this.width) / SCALES[this.scale];
    pen.clearRect(0, 0, this.width, HEIGHT);
    pen.font = FONT;
    pen.textBaseline = "middle";
    if (this.chosen) this.#box(this.chosen.from, Math.min(this.chosen.to, this.now), [0, HEIGHT], "raised");
    this.#axis();
    for (const each of model.states) this.#state(each);
    this.#lane("caller", 0, model.speech.map((each) => [each.from, each.to ?? this.now]));
    for (const each of model.speech) if (each.text) this.#words(each.text, each.from, each.to ?? this.now, ROWS.callerWords, each.isFinal ? "ink" : "soft");
    const replies = [...model.replies.values()];
    this.#lane("agent", 1, replies.flatMap((reply) => reply.stretches.map((each) => [each.from, each.to ?? this.now])));
    const spoken = replies.filter((reply) => reply.stretches.length);
    spoken.forEach((reply, index) => this.#replyWords(reply, spoken[index + 1]?.stretches[0].from ?? Infinity));
    for (const turn of model.turns) for (const part of turn.gap) this.#box(part.from, part.to, ROWS.gap, part.part);
    for (const each of model.speculations) this.#ahead(each);
    for (const tool of model.tools) this.#tool(tool);
    this.#marks();
    if (this.isLive && !model.isOver) this.#line(this.now, "soft");
    if (this.cursor !== null) this.#line(this.cursor, "bad");
  }

  #x(second) { return second * SCALES[this.scale] - this.left; }

  #isSeen(from, to) { return to >= this.from && from <= this.to; }

  #box(from, to, [top, height], colour) {
    if (!this.#isSeen(from, to)) return 0;
    const x = Math.max(this.#x(from), -1), width = Math.min(this.#x(to), this.width + 1) - x;
    this.pen.fillStyle = this.colours[colour];
    this.pen.fillRect(x, top, Math.max(width, 1), height);
    return width;
  }

  #text(text, x, [top, height], colour, most = Infinity) {
    const { pen } = this;
    if (pen.measureText(text).width > most) return;
    pen.fillStyle = this.colours[colour];
    pen.fillText(text, x, top + height / 2);
  }

  #line(second, colour, top = 0, bottom = HEIGHT) {
    if (!this.#isSeen(second, second)) return;
    this.pen.fillStyle = this.colours[colour];
    this.pen.fillRect(Math.round(this.#x(second)), top, 1, bottom - top);
  }

  #axis() {
    const every = [1, 2, 5, 10, 30, 60].find((step) => step * SCALES[this.scale] >= 70) ?? 60;
    for (let second = Math.floor(this.from / every) * every; second <= this.to; second += every) {
      this.#line(second, "line");
      this.#text(clock(second).replace(/\.0$/, ""), this.#x(second) + 3, ROWS.axis, "soft");
    }
  }

  #state({ state, from, to }) {
    const width = this.#box(from, to ?? this.now, ROWS.state, state);
    if (width > 20) this.#text(state, Math.max(this.#x(from), 0) + 4, ROWS.state, "ink", width - 6);
  }

  // Where somebody spoke: a soft block, and the levels on it where they were measured.
  #lane(name, side, spans) {
    const { pen, model } = this, [top, height] = ROWS[name], middle = top + height / 2;
    this.#box(this.from, this.to, [middle, 1], "line");
    pen.globalAlpha = 0.22;
    for (const [from, to] of spans) this.#box(from, to, [top, height], name);
    pen.globalAlpha = 1;
    pen.fillStyle = this.colours[name];
    const width = Math.max(SCALES[this.scale] * model.step - 1, 1);
    const last = Math.ceil(this.to / model.step);
    for (let step = Math.floor(this.from / model.step); step <= last; step += 1) {
      const level = model.levels.get(step)?.[side];
      if (level === undefined || level <= QUIETEST) continue;
      const tall = Math.min(1, 1 - level / QUIETEST) ** 1.5 * 1.4 * height;
      pen.fillRect(this.#x(step * model.step), middle - Math.min(tall, height) / 2, width, Math.min(tall, height));
    }
    pen.fillStyle = this.colours.paper;
    pen.fillRect(0, top, pen.measureText(name).width + 8, 13);
    this.#text(name, 4, [top, 13], name);
  }

  #words(text, from, to, row, colour) {
    const width = this.pen.measureText(text).width;
    if (this.#isSeen(from, Math.max(to, from + width / SCALES[this.scale]))) this.#text(text, Math.max(this.#x(from), 2), row, colour);
  }

  // Each word where it was heard, or behind the one before where that needs the room; none beyond the next reply.
  #replyWords(reply, until) {
    if (!this.#isSeen(reply.stretches[0].from, until)) return;
    const { pen } = this, [top, height] = ROWS.agentWords;
    let free = -Infinity;
    pen.save();
    pen.beginPath();
    pen.rect(0, top, Math.min(this.#x(until) - 3, this.width), height);
    pen.clip();
    for (const word of this.model.heardWords(reply)) {
      if (word.from > this.now) break;
      const x = Math.max(this.#x(word.from), free), width = pen.measureText(word.text).width;
      if (x + width >= 0 && x <= this.width) this.#text(word.text, x, ROWS.agentWords, "ink");
      free = x + width + 4;
    }
    pen.restore();
  }

  #ahead({ from, to, fate }) { this.#box(from, to ?? this.now, ROWS.ahead, fate === "released" ? "pending" : fate); }

  #tool(tool) {
    const to = tool.to ?? this.now;
    const width = this.#box(tool.from, Math.max(to, tool.from + 2 / SCALES[this.scale]), ROWS.tools, "tool");
    if (this.#isSeen(tool.from, to)) this.#text(tool.name, Math.max(this.#x(tool.from), 0) + Math.max(width, 0) + 3, ROWS.tools, "ink");
  }

  #marks() {
    let free = -Infinity;
    for (const { at, kind, label } of this.model.marks) {
      if (!this.#isSeen(at - 5, at + 5)) continue;  // a label may be pushed on by those before it
      const colour = kind === "user_interruption" || kind.endsWith("failed") ? "bad" : "soft";
      this.#line(at, colour, ROWS.state[0], ROWS.agentWords[0]);
      const x = Math.max(this.#x(at) + 3, free);
      this.#text(label, x, ROWS.marks, colour);
      free = x + this.pen.measureText(label).width + 6;
    }
  }

  #explain(legend) {
    const entries = [...STATES.slice(0, 7).map((name) => [name, name]), ...Object.entries(GAP), ...Object.entries(FATES)];
    legend.append(...entries.map(([colour, text]) => el("li", {}, el("i", { "--mark": `var(--${colour})` }), text)));
  }
}

function read() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "soft", "line", "paper", "raised", "bad", "caller", "agent", ...STATES, ...Object.keys(GAP), ...Object.keys(FATES)];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
