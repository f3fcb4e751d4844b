// What the console makes of a call's log. $PAGE is a copy of its files; $LOG the log of a call that really was made.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const { CallModel, PARTS, clock, readLog, transcript, waterfall } = await import(`${process.env.PAGE}/model.js`);
const LOG = readLog(readFileSync(process.env.LOG, "utf8"));

function made(entries) {
  const model = new CallModel();
  for (const entry of entries) model.add(entry);
  return model;
}

const real = made(LOG);
const ends = LOG.filter((entry) => entry.type === "turn_end");
const near = (a, b, within = 0.02) => assert.ok(Math.abs(a - b) <= within, `${a} is not ${b}`);

test("each turn's parts are turn_end's own figures, and add up to its total", () => {
  assert.equal(real.turns.length, ends.length);
  real.turns.forEach((turn, index) => {
    const { latency } = ends[index];
    assert.deepEqual(Object.fromEntries(turn.waterfall.parts.map((part) => [part.name, part.ms])),
      Object.fromEntries(PARTS.filter((name) => name in latency).map((name) => [name, latency[name]])));
    assert.equal(turn.waterfall.total, latency.total_ms);
    assert.equal(turn.waterfall.sum, latency.total_ms);
    turn.waterfall.parts.reduce((at, part) => { assert.equal(part.from, at); return at + part.ms; }, 0);
    assert.deepEqual(turn.payload, ends[index]);
  });
});

test("a gap on the timeline is as long as it is in the waterfall", () => {
  for (const turn of real.turns) {
    const { gap, waterfall: { total } } = turn;
    near((gap.at(-1).to - gap[0].from) * 1000, total, 1.5);
    gap.reduce((at, part) => { near(part.from, at, 1e-9); return part.to; }, gap[0].from);
  }
});

test("states follow each other without a hole until the call is over", () => {
  real.states.slice(1).forEach((state, index) => assert.equal(state.from, real.states[index].to));
  assert.equal(real.states.at(-1).to, LOG.findLast((entry) => entry.type === "call_ended").at);
  assert.ok(real.isOver && real.reason);
});

test("the caller's words lie under the stretch of speech that they came from", () => {
  const words = real.speech.filter((each) => each.text);
  assert.deepEqual(words.map((each) => each.text), ["what is six times seven", "tell me more", "stop it"]);
  for (const each of real.speech) assert.ok(each.to > each.from);
});

test("of an interrupted reply the words are shown that turn_end says were heard", () => {
  const cut = real.turns.find((turn) => turn.payload.interrupted);
  const reply = [...real.replies.values()].find((each) => each.stretches[0]?.from === cut.payload.instants.heard);
  const heard = real.heardWords(reply).filter((word) => (word.from + word.to) / 2 < reply.stretches.at(-1).to).map((word) => word.text).join(" ");
  assert.ok(Math.abs(heard.length - cut.response.length) <= 12, `${heard} | ${cut.response}`);
  assert.ok(heard.startsWith(cut.response.slice(0, cut.response.length - 12)));
});

test("a reply that was held is heard in two stretches, and not a word of it twice", () => {
  const held = [...real.replies.values()].find((each) => each.stretches.length === 2);
  const [first, second] = held.stretches;
  assert.ok(second.from > first.to);
  near(second.at, first.to - first.from, 1e-9);
  const words = real.heardWords(held);
  words.slice(1).forEach((word, index) => assert.ok(word.from > words[index].from));
  assert.ok(words.every((word) => word.from < first.to || word.from >= second.from));
});

test("a speculation ends as turn_end says that it did", () => {
  const fates = ends.map((entry) => entry.latency.preflight?.result).filter(Boolean);
  assert.ok(fates.includes("hit"));
  assert.equal(real.speculations.at(-1).fate, fates.at(-1));
  for (const each of real.speculations) assert.ok(each.to >= each.from);
});

test("tools are shown from their call to their result", () => {
  const [tool] = real.tools;
  assert.equal(tool.name, "calculator");
  near((tool.to - tool.from) * 1000, tool.rtt, 1);
  assert.equal(JSON.parse(tool.result).result, 42);
});

test("a turn's prompts are whole, however little of each the log repeats", () => {
  const turn = real.turns.at(-1), [prompt] = real.promptsOf(turn).slice(-1);
  assert.equal(prompt.messages[0].role, "system");
  assert.equal(prompt.messages.at(-1).content, turn.transcript);
  assert.ok(prompt.isNewFrom > 0 && prompt.isNewFrom < prompt.messages.length);
  assert.ok(prompt.messages.some((message) => message.tool_calls?.[0]?.name === "calculator"));
});

test("a click finds the turn whose time it is", () => {
  for (const turn of real.turns) assert.equal(real.turnAt(turn.to - 0.01), turn);
  assert.equal(real.turnAt(real.end + 100), real.open);
});

test("levels lie at the time that they are of", () => {
  const model = made([{ type: "sound", at: 1.02, from: 0.5, step: 0.1, caller: [-20, -30], agent: [-99, -10] }]);
  assert.deepEqual([...model.levels], [[5, [-20, -99]], [6, [-30, -10]]]);
});

test("a partial changes the words, a final settles them, and a second final comes behind", () => {
  const model = made([
    { type: "speech_started", at: 1, since: 0.9 }, { type: "partial", at: 1.2, transcript: "what" },
    { type: "partial", at: 1.4, transcript: "what is" },
  ]);
  assert.deepEqual([model.speech[0].text, model.speech[0].isFinal, model.open.hearing], ["what is", false, "what is"]);
  model.add({ type: "final", at: 2, transcript: "what is" });
  model.add({ type: "final", at: 3, transcript: "the time" });
  assert.deepEqual([model.speech[0].text, model.speech[0].isFinal], ["what is the time", true]);
});

test("a log without words is a picture all the same", () => {
  const bare = LOG.map(({ type, at, state, since, until, reply, plays_on_ms, turn, cause, latency, instants, speculative, kept, name }) =>
    ({ type, at, state, since, until, reply, plays_on_ms, turn, cause, latency, instants, speculative, kept, name }));
  const model = made(JSON.parse(JSON.stringify(bare)));
  assert.equal(model.turns.length, real.turns.length);
  assert.deepEqual(model.turns.map((turn) => turn.waterfall), real.turns.map((turn) => turn.waterfall));
  assert.equal(model.promptsOf(model.turns[0])[0].messages, null);
});

test("what an application says by itself is a turn, and its replies are not mixed up with an agent's", () => {
  const model = made([
    { type: "part", at: 0, role: "application" }, { type: "spoken", at: 0.1, reply: 1, words: [[0, "Welcome."]], until: 0.5 },
    { type: "reply_heard", at: 0.2, reply: 1 }, { type: "reply_played", at: 0.7, reply: 1 },
    { type: "said", at: 0.7, text: "Welcome.", interrupted: false },
    { type: "part", at: 1, role: "agent" }, { type: "spoken", at: 1.1, reply: 1, words: [[0, "Hello."]], until: 0.5 },
    { type: "reply_heard", at: 1.2, reply: 1 },
  ]);
  assert.deepEqual(model.turns.map((turn) => [turn.cause, turn.response]), [["application", "Welcome."]]);
  assert.deepEqual([...model.replies.values()].map((reply) => model.heardWords(reply).map((word) => [word.from, word.text])),
    [[[0.2, "Welcome."]], [[1.2, "Hello."]]]);
  assert.equal(transcript(model), "[00:00.7] Agent: Welcome.\n");
});

test("a part that is absent is not there, and an unheard turn has no total", () => {
  assert.deepEqual(waterfall({ stt_ms: 100, llm_ms: 50 }), {
    parts: [{ name: "stt_ms", ms: 100, from: 0 }, { name: "llm_ms", ms: 50, from: 100 }], sum: 150, total: null,
  });
});

test("a transcript says who said what and when, and marks what was cut short", () => {
  const lines = transcript(real).trim().split("\n");
  assert.equal(lines[0], `[${clock(real.turns[0].payload.instants.heard)}] Agent: Hello.`);
  assert.ok(lines.some((line) => line.endsWith("Caller: what is six times seven")));
  assert.equal(lines.filter((line) => line.endsWith(" —")).length, 1);
  assert.equal(clock(75.04), "01:15.0");
});

test("what is no event log is refused by its line", () => {
  const good = JSON.stringify({ type: "state", at: 0 });
  assert.throws(() => readLog(""), /empty file/);
  assert.throws(() => readLog(`${good}\n{"type"`), /line 2: expected JSON/);
  assert.throws(() => readLog(`${good}\n\n{"type": "x"}\n`), /line 3: expected an entry/);
  assert.throws(() => readLog("[1, 2]"), /line 1/);
  assert.equal(readLog(`${good}\n${good}\n`).length, 2);
});
