// From the microphone's rate to the call's, in pieces of any length: a windowed sinc. Pure.

const REACH = 12; // zero crossings on either side

export class Resampler {
  constructor(rate, to) {
    Object.assign(this, { rate, to });
    this.cutoff = Math.min(1, to / rate) * 0.94;   // of the input's band
    this.half = Math.ceil(REACH / this.cutoff);
    this.kept = new Float32Array(2 * this.half);   // the last input
    this.at = 0;                                   // the next output, in input samples from the start of `kept`
  }

  push(samples) {
    if (this.rate === this.to) return samples;
    const input = new Float32Array(this.kept.length + samples.length);
    input.set(this.kept);
    input.set(samples, this.kept.length);
    const step = this.rate / this.to, found = [];
    while (this.at + 2 * this.half < input.length) {
      found.push(this.#between(input, this.at + this.half));
      this.at += step;
    }
    this.kept = input.slice(-2 * this.half);
    this.at -= input.length - this.kept.length;
    return Float32Array.from(found);
  }

  // The band-limited value at a place between samples.
  #between(input, place) {
    let sum = 0, weight = 0;
    for (let index = Math.ceil(place - this.half); index <= place + this.half && index < input.length; index += 1) {
      const x = (index - place) * this.cutoff, turn = Math.PI * x;
      const w = (x === 0 ? 1 : Math.sin(turn) / turn) * Math.cos((Math.PI * (index - place)) / (2 * this.half + 1)) ** 2;
      sum += input[index] * w;
      weight += w;
    }
    return sum / weight;
  }
}
