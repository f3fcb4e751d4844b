// On the browser's audio thread: the microphone into frames of 20 ms, and the agent's audio out of its buffer.

import { JitterBuffer } from "/console/jitter.js";
import { Resampler } from "/console/resample.js";

const RATE = 16000;   // Hz, of the call
const FRAME = 320;    // samples of 20 ms
const TOLD = 0.1;     // seconds between two levels

class Level {
  constructor(port, every) { Object.assign(this, { port, every, sum: 0, count: 0 }); }

  add(samples) {
    for (const sample of samples) this.sum += sample * sample;
    this.count += samples.length;
    if (this.count < this.every) return;
    this.port.postMessage({ level: Math.sqrt(this.sum / this.count) });
    this.sum = this.count = 0;
  }
}

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
    this.level = new Level(this.port, RATE * TOLD);
    this.silence = new Float32Array(128);
  }

  process([input]) {
    // Without a microphone there is silence: a call's audio never pauses.
    const samples = this.resampler.push(input[0] ?? this.silence);
    this.level.add(samples);
    for (const sample of samples) {
      this.frame[this.filled] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      this.filled += 1;
      if (this.filled === FRAME) {
        this.port.postMessage({ frame: this.frame.buffer }, [this.frame.buffer]);
        this.frame = new Int16Array(FRAME);
        this.filled = 0;
      }
    }
    return true;
  }
}

class Playout extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new JitterBuffer(sampleRate, (name, event) => this.port.postMessage({ mark: name, event }));
    this.level = new Level(this.port, sampleRate * TOLD);
    this.port.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.buffer.audio(new Int16Array(data, 0, data.byteLength >> 1));
      else if (data.mark !== undefined) this.buffer.mark(data.mark);
      else if (data.kill) this.buffer.kill();
      else if (data.clearMarks) this.buffer.clearMarks();
    };
  }

  process(inputs, [output]) {
    this.buffer.take(output[0]);
    for (const channel of output.slice(1)) channel.set(output[0]);
    this.level.add(output[0]);
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playout", Playout);
