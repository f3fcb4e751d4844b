// A call's event log as a picture: what an entry means for the lanes, the turns and the marks. Pure: no DOM, no clock.
//
// Times are the log's own: seconds since the call began. Sound of a reply is counted in seconds into its own audio; a
// hold or an interruption puts a gap between the stretches in which it was heard.

// In the order of a turn.
export const PART_NAMES = {
  stt_ms: "speech to text", eot_ms: "end of turn", llm_ms: "model, first token", tool_ms: "tools",
  text_ms: "first words to say", tts_ms: "voice, first sound", playout_ms: "playout",
};
export const PARTS = Object.keys(PART_NAMES);
// The instants of a turn, each with the part of the gap that ends there.
const INSTANTS = [["finished", "stt"], ["taken", "eot"], ["began", "llm"], ["synthesis", "text"], ["audio", "tts"], ["heard", "playout"]];
const MARKS = { hold: "hold", resume: "resume", user_interruption: "barge-in", dtmf: "key", vendor_failed: "vendor failed",
  turn_failed: "turn failed", language: "language", transfer: "transfer", update: "update", history_summarized: "summary",
  limit_reached: "limit", remark: "remark", recording_failed: "recording failed" };
const QUIET = new Set(["sound", "partial", "spoken"]);  // too many to be listed under a turn

export class CallModel {
  constructor() {
    this.entries = [];
    this.about = {};
    this.states = [];        // {state, from, to}
    this.speech = [];        // the caller's: {from, to, text, isFinal}
    this.replies = new Map();  // {stretches: [{from, to, at}], words: [[seconds, text]], until}
    this.part = 0;           // an agent, or an application that speaks by itself: each counts its replies anew
    this.speculations = [];  // {reply, from, to, fate}
    this.tools = [];         // {id, name, result, from, to, rtt}
    this.marks = [];         // {at, kind, label}
    this.turns = [];
    this.levels = new Map();  // step: [caller, agent] in dBFS
    this.step = 0.1;
    this.end = 0;
    this.isOver = false;
    this.reason = null;
    this.error = null;
    this.isRecorded = false;
    this.open = this.#newTurn(0);
    this.prompts = [];
    this.lastPrompt = [];
    this.playing = null;     // the reply that is heard
  }

  get state() { return this.states.at(-1)?.state ?? "waiting"; }

  add(entry) {
    this.entries.push(entry);
    this.end = Math.max(this.end, entry.at ?? 0);
    if (!QUIET.has(entry.type)) this.open.entries.push(entry);
    if (MARKS[entry.type]) this.marks.push({ at: entry.at, kind: entry.type, label: MARKS[entry.type] });
    this.#taken[entry.type]?.call(this, entry);
  }

  turnAt(seconds) { return [...this.turns, this.open].find((turn) => seconds < turn.to) ?? this.open; }

  // When a second of a reply's audio was heard; null where it was not.
  heardAt(reply, seconds) {
    for (const stretch of reply.stretches) {
      const at = stretch.from + seconds - stretch.at;
      if (seconds >= stretch.at && (stretch.to === null || at < stretch.to)) return at;
    }
    return null;
  }

  // The words of a reply with the times at which they were heard: [{from, to, text}].
  heardWords(reply) {
    const found = [];
    reply.words.forEach(([start, text], index) => {
      const end = reply.words[index + 1]?.[0] ?? reply.until ?? start + 0.4;
      for (const [from, to, word] of spread(start, Math.max(end, start), text)) {
        const at = this.heardAt(reply, from);
        if (at !== null) found.push({ from: at, to: at + (to - from), text: word });
      }
    });
    return found;
  }

  promptsOf(turn) { return this.prompts.filter((prompt) => prompt.turn === turn.number); }

  #newTurn(from) { return { number: null, from, to: Infinity, entries: [], transcript: "", response: "", hearing: "", payload: null }; }

  #taken = {
    call_began(entry) { this.about = entry; },
    recording() { this.isRecorded = true; },
    part() { this.part += 1; this.playing = null; },
    state(entry) {
      const before = this.states.at(-1);
      if (before) before.to = entry.at;
      this.states.push({ state: entry.state, from: entry.at, to: null });
    },
    speech_started(entry) { this.speech.push({ from: entry.since, to: null, text: "", isFinal: false }); },
    speech_stopped(entry) { const last = this.speech.at(-1); if (last) last.to = entry.until; },
    partial(entry) { this.#heard(entry.transcript ?? "", false); },
    final(entry) { this.#heard(entry.transcript ?? "", true); },
    user_transcript(entry) { this.open.transcript = entry.transcript ?? ""; this.open.hearing = ""; },
    agent_response(entry) { this.open.response = entry.response ?? ""; },
    llm_response(entry) { this.open.response = entry.response ?? ""; },
    speculation(entry) {
      this.speculations.push({ reply: entry.reply, from: entry.at, to: null, fate: "pending" });
    },
    released(entry) { this.#settle(entry, "released"); },
    discarded(entry) { this.#settle(entry, "miss"); },
    prompt(entry) {
      const messages = entry.messages ? [...this.lastPrompt.slice(0, entry.kept), ...entry.messages] : null;
      this.lastPrompt = messages ?? [];
      this.prompts.push({ at: entry.at, reply: entry.reply, turn: entry.turn, isSpeculative: entry.speculative,
        isNewFrom: entry.kept, messages, tools: entry.tools ?? [] });
    },
    spoken(entry) {
      const reply = this.#reply(entry.reply);
      reply.words.push(...(entry.words ?? []));
      if (entry.until !== undefined) reply.until = entry.until;
    },
    reply_heard(entry) {
      const reply = this.#reply(entry.reply);
      reply.stretches.push({ from: entry.at, to: null, at: 0 });
      this.playing = reply;
    },
    reply_played(entry) { this.#silence(entry.at); this.playing = null; },
    hold(entry) { this.#silence(entry.at + (entry.plays_on_ms ?? 0) / 1000); },
    user_interruption(entry) { this.#silence(entry.at); },
    resume(entry) {
      const last = this.playing?.stretches.at(-1);
      if (!last || last.to === null) return;
      // A reply that is held has more to come; what still plays on its far side is a part of the stretch before.
      const at = last.at + last.to - last.from;
      this.playing.stretches.push({ from: Math.max(entry.at, last.to), to: null, at });
    },
    tool_call(entry) {
      this.tools.push({ id: entry.tool_call_id, name: entry.name, from: entry.at, to: null });
    },
    tool_result(entry) {
      const tool = this.tools.findLast((each) => each.to === null && each.name === entry.name && each.id === entry.tool_call_id);
      if (tool) Object.assign(tool, { to: entry.at, result: entry.result, rtt: entry.rtt_ms });
    },
    turn_end(entry) {
      this.#close({ number: entry.turn, to: entry.at, payload: entry, cause: entry.cause,
        transcript: entry.transcript ?? "", response: entry.response ?? "", hearing: "", waterfall: waterfall(entry.latency ?? {}),
        gap: gap(entry.instants ?? {}, entry.latency ?? {}) });
      const fate = entry.latency?.preflight?.result;
      // A miss was discarded; of one that was released `turn_end` says whether words were at hand.
      const mine = this.speculations.findLast((each) => each.reply === entry.reply);
      if (fate && mine?.fate === "released") mine.fate = fate;
    },
    said(entry) {  // by the application itself
      this.#close({ to: entry.at, payload: entry, cause: "application", response: entry.text ?? "", hearing: "",
        waterfall: waterfall({}), gap: [] });
    },
    sound(entry) {
      this.step = entry.step;
      const first = Math.round(entry.from / entry.step);
      (entry.caller ?? []).forEach((level, index) => this.levels.set(first + index, [level, entry.agent?.[index] ?? -99]));
    },
    call_ended(entry) {
      this.isOver = true;
      this.reason = entry.completion_reason ?? entry.completionReason ?? "";
      this.error = entry.error ?? null;
      const last = this.states.at(-1);
      if (last && last.to === null) last.to = entry.at;
      this.#silence(entry.at);
    },
  };

  #heard(text, isFinal) {
    this.open.hearing = text;
    const last = this.speech.at(-1);
    if (!last) return;
    if (isFinal) {
      last.text = text ? `${last.isFinal ? `${last.text} ` : ""}${text}` : last.isFinal ? last.text : "";
      last.isFinal = true;
    } else if (!last.isFinal) last.text = text;
  }

  #reply(number) {
    const name = `${this.part}/${number}`;
    if (!this.replies.has(name)) this.replies.set(name, { stretches: [], words: [], until: null });
    return this.replies.get(name);
  }

  // The turn that was open is over, and is this.
  #close(turn) {
    this.#silence(turn.to);
    this.playing = null;
    this.turns.push(Object.assign(this.open, turn));
    this.open = this.#newTurn(turn.to);
  }

  #silence(at) {
    const last = this.playing?.stretches.at(-1);
    if (last && (last.to === null || last.to > at)) last.to = Math.max(at, last.from);
  }

  #settle(entry, fate) {
    const mine = this.speculations.findLast((each) => each.reply === entry.reply && each.to === null);
    if (mine) Object.assign(mine, { to: entry.at, fate });
  }
}

// The parts of a turn's gap as `turn_end` has them, in whole milliseconds, each behind the one before. `total` is its
// own figure there; where the caller heard nothing there is none.
export function waterfall(latency) {
  let from = 0;
  const parts = PARTS.filter((name) => latency[name] !== undefined && latency[name] !== null).map((name) => {
    const part = { name, ms: latency[name], from };
    from += latency[name];
    return part;
  });
  return { parts, sum: from, total: latency.total_ms ?? null };
}

// The same on the call's own time: [{part, from, to}].
function gap(instants, latency) {
  let from = instants.stopped ?? instants.taken;
  const found = [];
  for (const [instant, part] of INSTANTS) {
    const to = instants[instant];
    if (from === undefined || to === undefined) continue;
    if (to > from) found.push({ part: part === "llm" && latency.tool_ms ? "tool" : part, from, to });
    from = Math.max(from, to);
  }
  return found;
}

// A piece of several words is taken to be spoken evenly: [[from, to, word]].
function spread(start, end, text) {
  const words = text.split(/\s+/).filter(Boolean);
  const letters = words.reduce((sum, word) => sum + word.length + 1, 0) || 1;
  let at = start;
  return words.map((word) => {
    const from = at;
    at += ((end - start) * (word.length + 1)) / letters;
    return [from, at, word];
  });
}

// The conversation in words, a line each.
export function transcript(model) {
  const lines = [];
  for (const turn of model.turns) {
    if (turn.transcript && turn.cause !== "request") lines.push(`[${clock(turn.from)}] Caller: ${turn.transcript}`);
    if (turn.response) lines.push(`[${clock(turn.payload.instants?.heard ?? turn.to)}] Agent: ${turn.response}${turn.payload.interrupted ? " —" : ""}`);
  }
  return lines.join("\n") + "\n";
}

export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${String(minutes).padStart(2, "0")}:${(seconds - minutes * 60).toFixed(1).padStart(4, "0")}`;
}

// A saved log: JSON lines. Throws an Error that names the line.
export function readLog(text) {
  const entries = [];
  text.split("\n").forEach((line, index) => {
    if (!line.trim()) return;
    let entry;
    try {
      entry = JSON.parse(line);
    } catch {
      throw new Error(`line ${index + 1}: expected JSON, got something else`);
    }
    if (typeof entry?.type !== "string" || typeof entry?.at !== "number") {
      throw new Error(`line ${index + 1}: expected an entry of an event log, with a type and at`);
    }
    entries.push(entry);
  });
  if (!entries.length) throw new Error("expected an event log, got an empty file");
  return entries;
}
