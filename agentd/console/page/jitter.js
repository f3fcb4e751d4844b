// What the agent sends, until it is played: a small buffer, and marks that lie between its samples. Pure; the far end of
// a `listen` verb as jambonz is one, but for its long pre-buffer. Counts in samples.

const LEAST = 0.06, MOST = 0.24; // seconds that are gathered before playing begins; more after each hole
const PATIENCE = 0.06;           // seconds after which less than that is played all the same
const HOLE = 0.15;               // seconds of silence at most that were a hole in a sentence, and not its end

export class JitterBuffer {
  // `tell` gets what is to be sent: a mark that was reached or thrown away.
  constructor(rate, tell) {
    Object.assign(this, { rate, tell });
    this.wanted = LEAST;
    this.chunks = [];   // {samples, at}, or {mark}
    this.waiting = 0;   // samples in them
    this.isPlaying = false;
    this.waited = 0;    // samples' time since the first of them came
    this.ranDry = false;  // in the middle of what was taken last
    this.quiet = Infinity;  // samples' time since something was played
  }

  audio(samples) {
    if (!samples.length) return;
    if (this.ranDry && this.quiet < HOLE * this.rate) this.widen();
    this.ranDry = false;
    this.chunks.push({ samples, at: 0 });
    this.waiting += samples.length;
  }

  mark(name) { this.chunks.push({ mark: name }); }

  kill() {
    for (const chunk of this.chunks) if (chunk.mark !== undefined) this.tell(chunk.mark, "cleared");
    this.chunks = [];
    this.waiting = 0;
    this.isPlaying = false;
    this.waited = 0;
  }

  clearMarks() { this.chunks = this.chunks.filter((chunk) => chunk.mark === undefined); }

  // Fills `out` (Float32Array) with what is to be heard now.
  take(out) {
    this.#fill(out);
    this.quiet = this.isPlaying ? 0 : this.quiet + out.length;
  }

  // Audio came right after the buffer had run dry: gather more from now on.
  widen() { this.wanted = Math.min(this.wanted * 1.5, MOST); }

  #fill(out) {
    out.fill(0);
    this.#passMarks();
    if (!this.waiting) return;
    if (!this.isPlaying) {
      this.waited += out.length;
      if (this.waiting < this.wanted * this.rate && this.waited < PATIENCE * this.rate) return;
      this.isPlaying = true;
    }
    let at = 0;
    while (at < out.length && this.waiting) {
      this.#passMarks();
      const chunk = this.chunks[0], size = Math.min(chunk.samples.length - chunk.at, out.length - at);
      for (let index = 0; index < size; index += 1) out[at + index] = chunk.samples[chunk.at + index] / 32768;
      chunk.at += size;
      at += size;
      this.waiting -= size;
      if (chunk.at === chunk.samples.length) this.chunks.shift();
    }
    if (this.waiting) return;
    // The end of what was said, or a hole in it: nobody says which. A hole in a sentence shows by what comes right behind.
    this.isPlaying = false;
    this.waited = 0;
    this.ranDry = at < out.length;
  }

  #passMarks() {
    while (this.chunks.length && this.chunks[0].mark !== undefined) this.tell(this.chunks.shift().mark, "playout");
  }
}
