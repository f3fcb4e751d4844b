// What the page does to sound: its jitter buffer with marks, and its resampler.

import assert from "node:assert/strict";
import test from "node:test";

const { JitterBuffer } = await import(`${process.env.PAGE}/jitter.js`);
const { Resampler } = await import(`${process.env.PAGE}/resample.js`);
const RATE = 16000, QUANTUM = 128;

class Far {
  constructor() {
    this.told = [];
    this.played = [];
    this.buffer = new JitterBuffer(RATE, (name, event) => this.told.push([name, event, this.played.length]));
  }

  // Quanta of the audio clock.
  run(seconds) {
    for (let done = 0; done < seconds * RATE; done += QUANTUM) {
      const out = new Float32Array(QUANTUM);
      this.buffer.take(out);
      this.played.push(...out.map((sample) => Math.round(sample * 32768)));
    }
  }

  get heard() { return this.played.filter((sample) => sample !== 0); }
}

const count = (from, length) => Int16Array.from({ length }, (_, index) => from + index);

test("what comes in pieces is played whole and in order, after 60 ms", () => {
  const far = new Far();
  far.buffer.audio(count(1, 500));
  far.run(0.03);
  assert.equal(far.heard.length, 0);
  far.buffer.audio(count(501, 1500));
  far.run(0.2);
  assert.deepEqual(far.heard, [...count(1, 2000)]);
});

test("a short sound does not wait for more that never comes", () => {
  const far = new Far();
  far.buffer.audio(count(1, 100));
  far.run(0.1);
  assert.equal(far.heard.length, 100);
});

test("a mark is told when the sample before it was played, and on an empty buffer at once", () => {
  const far = new Far();
  far.buffer.mark("first");
  far.buffer.audio(count(1, 1000));
  far.buffer.mark("middle");
  far.buffer.audio(count(1001, 1000));
  far.buffer.mark("end");
  far.run(0.3);
  assert.deepEqual(far.told.map(([name, event]) => [name, event]), [["first", "playout"], ["middle", "playout"], ["end", "playout"]]);
  const start = far.played.indexOf(1);
  assert.ok(far.told[1][2] >= start + 1000 - QUANTUM && far.told[1][2] <= start + 1000);
  assert.ok(far.told[2][2] >= start + 2000 - QUANTUM && far.told[2][2] <= start + 2000 + QUANTUM);
});

test("killAudio silences at once and answers every mark", () => {
  const far = new Far();
  far.buffer.audio(count(1, 8000));
  far.buffer.mark("a");
  far.buffer.mark("b");
  far.run(0.2);
  const before = far.heard.length;
  far.buffer.kill();
  assert.deepEqual(far.told.map(([name, event]) => [name, event]), [["a", "cleared"], ["b", "cleared"]]);
  far.run(0.2);
  assert.equal(far.heard.length, before);
  far.buffer.audio(count(1, 2000));
  far.run(0.3);
  assert.equal(far.heard.length, before + 2000);
});

test("clearMarks forgets them without a word", () => {
  const far = new Far();
  far.buffer.audio(count(1, 2000));
  far.buffer.mark("a");
  far.buffer.clearMarks();
  far.run(0.3);
  assert.deepEqual([far.told, far.heard.length], [[], 2000]);
});

test("after a hole more is gathered, up to a bound", () => {
  const far = new Far();
  for (let hole = 0; hole < 20; hole += 1) far.buffer.widen();
  assert.equal(far.buffer.wanted, 0.24);
  far.buffer.audio(count(1, 2000));
  far.run(0.05);
  assert.equal(far.heard.length, 0);
});

test("audio that comes right behind the end of the buffer was held up, and later audio is a sentence of its own", () => {
  const far = new Far();
  far.buffer.audio(count(1, 1000));
  far.run(0.1);
  assert.equal(far.buffer.wanted, 0.06);
  far.buffer.audio(count(1, 1000));
  assert.equal(far.buffer.wanted, 0.09);
  far.run(1);
  far.buffer.audio(count(1, 1000));
  assert.equal(far.buffer.wanted, 0.09);
});

function tone(rate, hertz, seconds) {
  return Float32Array.from({ length: rate * seconds }, (_, index) => Math.sin((2 * Math.PI * hertz * index) / rate));
}

function resampled(rate, to, samples) {
  const resampler = new Resampler(rate, to), found = [];
  for (let at = 0; at < samples.length; at += QUANTUM) found.push(...resampler.push(samples.slice(at, at + QUANTUM)));
  return found;
}

const power = (samples) => samples.slice(2000).reduce((sum, sample) => sum + sample * sample, 0) / (samples.length - 2000);

for (const rate of [44100, 48000]) {
  test(`a voice comes from ${rate} Hz as it was, and nothing above the call's band`, () => {
    const voice = resampled(rate, RATE, tone(rate, 1000, 1));
    assert.ok(Math.abs(voice.length - RATE) < 60, `${voice.length}`);
    assert.ok(Math.abs(power(voice) - 0.5) < 0.01, `${power(voice)}`);
    const above = resampled(rate, RATE, tone(rate, 11000, 1));
    assert.ok(10 * Math.log10(power(above) / 0.5) < -40, `${power(above)}`);
  });
}

test("the same rate is passed on as it is", () => {
  const samples = tone(RATE, 440, 0.1);
  assert.equal(new Resampler(RATE, RATE).push(samples), samples);
});
