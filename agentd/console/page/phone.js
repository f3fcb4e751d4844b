// A telephone in the page: microphone and loudspeaker at one end, the listen socket at the other, as jambonz speaks it.

const RATE = 16000;  // Hz, both ways
const LIVE = { latencyHint: "interactive" }, AT_RATE = { ...LIVE, sampleRate: RATE };
const PROTOCOL = "audio.jambonz.org", KEY_PROTOCOL = "agentd.key.";
const KEY_LENGTH = "1600";  // of a pressed key, in 8 kHz samples
const PATIENCE = 5000;      // ms for the browser to begin to play

// What the browser's own errors mean for whoever wants to talk.
const WHY = {
  NotAllowedError: "the browser may not use the microphone: allow it for this page, or choose “None: I type”",
  NotFoundError: "there is no microphone: plug one in, or choose “None: I type”",
  NotReadableError: "another program has the microphone, or it does not work",
};

export class Phone extends EventTarget {
  // Events: "open", "closed" {reason}, "mic" and "agent" {level 0 … 1}.
  constructor({ agent, account, key, microphone, processing }) {
    super();
    Object.assign(this, { agent, account, key, microphone, processing });
    this.callSid = `console-${random()}`;
    this.secret = random();
    this.isMuted = false;
    this.isOver = false;
  }

  // Raises an Error whose message can be shown.
  async dial() {
    if (!window.isSecureContext) {
      throw new Error("a browser gives a page its microphone over https or from localhost only: put TLS in front of agentd, or come by an SSH tunnel");
    }
    const stream = this.microphone === "none" ? null : await this.#stream();
    try {
      this.out = new AudioContext(AT_RATE);
      await this.out.audioWorklet.addModule("/console/worklets.js");
      await started(this.out);
      this.playout = new AudioWorkletNode(this.out, "playout", { numberOfInputs: 0, outputChannelCount: [1] });
      this.playout.connect(this.out.destination);
      this.playout.port.onmessage = ({ data }) => {
        if (data.level !== undefined) this.#tell("agent", data.level);
        else this.#send({ type: "mark", data: { name: data.mark, event: data.event } });
      };
      await this.#plug(stream);
      this.#connect();
    } catch (error) {
      this.#unplug(stream);
      this.#shut();
      throw error;
    }
  }

  mute(isMuted) {
    this.isMuted = isMuted;
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !isMuted;
  }

  press(digit) { this.#send({ event: "dtmf", dtmf: digit, duration: KEY_LENGTH }); }

  // Another microphone, in the middle of the call.
  async use(microphone) {
    this.microphone = microphone;
    if (!this.out) return;
    const before = this.stream;
    this.stream = null;
    this.#unplug(before);  // first: some devices serve one at a time
    await this.#plug(microphone === "none" ? null : await this.#stream());
  }

  // As jambonz does it: a frame of no bytes, and a close.
  hangUp() {
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(new ArrayBuffer(0));
      this.socket.close(1000);
    }
    this.#over("You hung up.");
  }

  #connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const protocols = this.key ? [PROTOCOL, KEY_PROTOCOL + packed(this.key)] : [PROTOCOL];
    this.socket = new WebSocket(`${scheme}://${location.host}/listen/${encodeURIComponent(this.agent)}`, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.socket.send(JSON.stringify({
        sampleRate: RATE, mixType: "mono", callSid: this.callSid, callSecret: this.secret, direction: "inbound",
        from: "console", to: this.agent, callerName: "Console", callStatus: "in-progress",
        ...(this.account ? { accountSid: this.account } : {}),
      }));
      this.#tell("open");
    };
    this.socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) return this.playout.port.postMessage(data, [data]);
      const message = JSON.parse(data);
      if (message.type === "mark") this.playout.port.postMessage({ mark: message.data.name });
      else if (message.type === "killAudio") this.playout.port.postMessage({ kill: true });
      else if (message.type === "clearMarks") this.playout.port.postMessage({ clearMarks: true });
      else if (message.type === "disconnect") this.#over("The agent hung up.");
    };
    this.socket.onclose = ({ code, reason }) => this.#over(code === 1000 ? "The call has ended." : reason || (code === 1006
      ? "The server did not take the call, or the connection was lost." : `The call was ended (${code}).`));
  }

  #send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // The microphone ---------------------------------------------------------------------------------------------

  async #stream() {
    const on = this.processing, device = this.microphone ? { deviceId: { exact: this.microphone } } : {};
    const audio = { ...device, channelCount: 1, echoCancellation: on, noiseSuppression: on, autoGainControl: on };
    return navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
      throw new Error(WHY[error.name] ?? `the microphone cannot be used (${error.name})`);
    });
  }

  // Some browsers connect a microphone only to a context of its own rate: then the worklet resamples.
  async #plug(stream, options = AT_RATE) {
    const context = new AudioContext(options);
    try {
      await context.audioWorklet.addModule("/console/worklets.js");
      const capture = new AudioWorkletNode(context, "capture", { numberOfInputs: 1, channelCount: 1, channelCountMode: "explicit" });
      if (stream) context.createMediaStreamSource(stream).connect(capture);
      capture.connect(context.destination);  // it says nothing, but only what leads there is run
      capture.port.onmessage = ({ data }) => {
        if (data.level !== undefined) this.#tell("mic", this.isMuted ? 0 : data.level);
        else if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(data.frame);
      };
      await started(context);
    } catch (error) {
      await context.close();
      if (options === LIVE) throw error;
      return this.#plug(stream, LIVE);
    }
    Object.assign(this, { in: context, stream });
    this.mute(this.isMuted);
    if (this.isOver) this.#unplug(stream);
  }

  #unplug(stream) {
    for (const track of stream?.getTracks() ?? []) track.stop();
    if (this.in && this.in.state !== "closed") this.in.close();
    this.in = null;
  }

  // The end ----------------------------------------------------------------------------------------------------

  #over(reason) {
    if (this.isOver) return;
    this.#shut();
    this.#tell("closed", reason);
  }

  #shut() {
    this.isOver = true;
    this.#unplug(this.stream);
    if (this.out && this.out.state !== "closed") this.out.close();
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) this.socket.close(1000);
  }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}

// Without a loudspeaker some browsers never begin, and never say so.
async function started(context) {
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, false));
  if (await Promise.race([context.resume().then(() => true), late])) return;
  throw new Error("the browser does not play any sound: is there a loudspeaker?");
}

function random() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A subprotocol is a token: the key goes as base64url.
function packed(key) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(key));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
