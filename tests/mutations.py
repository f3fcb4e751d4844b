"""Seeded bugs: would the tests notice? Each is applied to a copy of the repository, one at a time.

python -m tests.mutations                 # all of them, with what caught each
python -m tests.mutations "mark"          # those whose name has this in it
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("agentd", "providers", "turn", "config", "tests", "benchmarks")
TESTS = (
    "tests/test_turn_*.py tests/test_playout.py tests/test_speech.py tests/test_sentences.py tests/test_sender.py "
    "tests/test_history.py tests/test_audio_feed.py tests/test_reply.py tests/test_call_*.py tests/test_simulation.py "
    "tests/test_models.py tests/test_voices.py tests/test_fallbacks.py tests/test_keypad.py "
    "tests/test_console.py tests/test_console_modules.py tests/test_levels.py"
).split()


@dataclass(frozen=True, slots=True)
class Bug:
    """In ``file``, ``old`` (which stands there exactly once) becomes ``new``."""

    name: str
    file: str
    old: str
    new: str


BUGS: tuple[Bug, ...] = (
    Bug(
        "a click starts speech",
        "turn/speech.py",
        "ONSET_FRAMES = 3",
        "ONSET_FRAMES = 1",
    ),
    Bug(
        "quiet counts towards the confirmation",
        "turn/speech.py",
        "        if self._quiet < self._stop_frames:\n            return []",
        "        if self._quiet < self._stop_frames:\n            return self._confirm()",
    ),
    Bug(
        "a second confirmation of the same speech",
        "turn/speech.py",
        "        self._confirmed = True\n        return [SpeechConfirmed()]",
        "        return [SpeechConfirmed()]",
    ),
    Bug(
        "speech is counted from its detection",
        "turn/speech.py",
        "            self._length = len(self._recent) - self._recent.index(True)",
        "            self._length = 1",
    ),
    Bug(
        "a missing final is waited for for ever",
        "turn/endpoint.py",
        "        return self.stopped_at + max(self.no_final, self._pause)",
        "        return None",
    ),
    Bug(
        "a final that came before the voice ended counts",
        "turn/endpoint.py",
        "            and self.finished_at >= self.stopped_at",
        "            and self.finished_at >= 0",
    ),
    Bug(
        "a judged pause outlives the voice going on",
        "turn/endpoint.py",
        "        self.stopped_at = None\n        self.judged = None",
        "        self.stopped_at = None",
    ),
    Bug(
        "a double final is answered again",
        "turn/finals.py",
        "        return bool(self.last) and now < self._last_until and same_words(text, self.last)",
        "        return False",
    ),
    Bug(
        "late finals are new words",
        "turn/finals.py",
        "        return bool(self.partial) and not self.spoke_since and now < self._until",
        "        return False",
    ),
    Bug(
        "a speculation is released whatever was said",
        "turn/preflight.py",
        "        if self.reply is None or not same_words(transcript, self.transcript):\n            return None",
        "        if self.reply is None:\n            return None",
    ),
    Bug(
        "no budget for speculations",
        "turn/preflight.py",
        "self._rest or self._begun >= self.per_turn",
        "self._rest",
    ),
    Bug(
        "tool time is counted as the model's",
        "turn/latency.py",
        "llm - (tool or 0.0)",
        "llm",
    ),
    Bug(
        "the playout clock starts at nought",
        "turn/playout.py",
        "        at = max(self.until, now)\n",
        "        at = self.until\n",
    ),
    Bug(
        "what waits on the far side counts as heard",
        "turn/playout.py",
        "        return min(max(int((now - chunk.at) * self.rate + 1e-6), 0), chunk.samples)",
        "        return chunk.samples",
    ),
    Bug(
        "a cut leaves the far side's clock running",
        "turn/playout.py",
        "        self._chunks.clear()\n        self.until = now",
        "        self._chunks.clear()",
    ),
    Bug(
        "a word counts as heard when it begins",
        "turn/playout.py",
        "            if heard >= (start + end) / 2:",
        "            if heard >= start:",
    ),
    Bug(
        "a sample of -1 goes out",
        "agentd/call/sender.py",
        "    if not (samples == -1).any():",
        "    if True:",
    ),
    Bug(
        "the tail is not padded",
        "agentd/call/sender.py",
        "        padding = max(chunk - size, -size % step)",
        "        padding = 0",
    ),
    Bug(
        "no pause after killAudio",
        "agentd/call/sender.py",
        "        self._not_before = now + KILL_PAUSE",
        "        self._not_before = now",
    ),
    Bug(
        "the first threshold is not spent",
        "agentd/call/sender.py",
        'self._send(b"", self._bytes(FIRST)',
        'self._send(b"", self._bytes(STEP)',
    ),
    Bug(
        "far too much audio is sent ahead",
        "agentd/call/sender.py",
        "AHEAD = 0.25",
        "AHEAD = 1.5",
    ),
    Bug(
        "a mark has no deadline",
        "agentd/call/sender.py",
        "        return self.playhead.until + (MARK_DEADLINE if waits else 0.0)",
        "        return None if waits else self.playhead.until",
    ),
    Bug(
        "a cut forgets what was not heard",
        "agentd/call/sender.py",
        "                self._queue[:0] = self._sent[-unheard:]\n",
        "",
    ),
    Bug(
        "killAudio is not sent",
        "agentd/call/sender.py",
        '        self._port.send_json({"type": "killAudio"})\n',
        "",
    ),
    Bug(
        "a held reply is sent on",
        "agentd/call/sender.py",
        "            if self._gate is Gate.HELD:\n                return None\n",
        "",
    ),
    Bug(
        "a tool call without its result",
        "agentd/call/history.py",
        "round_.results.get(call.id, NOT_YET), tool_call_id=call.id) for call in round_.calls",
        "round_.results[call.id], tool_call_id=call.id) for call in round_.calls if call.id in round_.results",
    ),
    Bug(
        "history keeps what was generated",
        "agentd/call/reply.py",
        "        return spoken, self.text[: self._cleaner.raw_prefix(len(spoken))]",
        "        return spoken, self.text",
    ),
    Bug(
        "a speculation's tools run at once",
        "agentd/call/reply.py",
        "            await self._flush()\n            await self.released.wait()\n",
        "            await self._flush()\n",
    ),
    Bug(
        "a model that failed with tools is not asked without",
        "agentd/call/reply.py",
        "            return await self._stream(())\n        if calls",
        "            raise\n        if calls",
    ),
    Bug(
        "the lost recogniser's audio is gone",
        "agentd/call/recogniser.py",
        "            audio.rewind()  # what it heard since its last final would be lost\n",
        "",
    ),
    Bug(
        "a late reply's events reach the turn",
        "turn/machine.py",
        "            if self.turn is not None and event.reply == self.turn.reply:",
        "            if self.turn is not None:",
    ),
    Bug(
        "the call goes on after its end",
        "turn/machine.py",
        "        if self.state is State.ENDED:\n            return []",
        "        if False:\n            return []",
    ),
    Bug(
        "a cough confirms",
        "turn/bargein.py",
        "        return state is State.HELD or",
        "        return state in (State.HELD, State.SPEAKING) or",
    ),
    Bug(
        "a held reply has no deadline",
        "turn/deadlines.py",
        "        self._held_at = now\n        self.at = now + self._settings.hold",
        "        self._held_at = now\n        self.at = None",
    ),
    Bug(
        "the think deadline is not armed",
        "turn/deadlines.py",
        "        self._horizon, self._held_at = now, None\n        self.at = now + self._settings.think",
        "        self._horizon, self._held_at = now, None\n        self.at = None",
    ),
    Bug(
        "the no-response timer runs on while the caller speaks",
        "turn/machine.py",
        "            case State.LISTENING, _:\n                self.state = State.HEARING",
        "            case State.LISTENING, _:\n                pass",
    ),
    Bug(
        "a no-response prompt after an error",
        "turn/machine.py",
        "prompts=not after_error)",
        "prompts=True)",
    ),
    Bug(
        "an interruption with words does not end the turn",
        "turn/machine.py",
        "        ended = [] if turn is None else self._end_turn(turn, interrupted=True)",
        "        ended: list[Action] = []",
    ),
    Bug(
        "sticky is ignored",
        "turn/machine.py",
        "self.requests.is_urgent or (self.settings.sticky and turn.is_cut)",
        "self.requests.is_urgent",
    ),
    Bug(
        "nobody is hung up on after a goodbye",
        "turn/machine.py",
        "        if self.state is State.ENDING or (turn.error",
        "        if (turn.error",
    ),
    Bug(
        "a speculation outlives the call",
        "turn/machine.py",
        "        return missed if self.turn is None else missed + self._end_turn(self.turn, interrupted=True)",
        "        return [] if self.turn is None else self._end_turn(self.turn, interrupted=True)",
    ),
    Bug(
        "a discarded reply plays on",
        "agentd/call/sender.py",
        "            if self._sent_samples > self.heard(reply):\n                self.cut()\n",
        "",
    ),
    Bug(
        "vendors: an answer that broke off is asked for again",
        "agentd/call/models.py",
        "plan = [] if has_said else self._plan_after(exc, choice, plan)",
        "plan = self._plan_after(exc, choice, plan)",
    ),
    Bug(
        "vendors: a model that hangs is asked a second time",
        "agentd/call/models.py",
        "        if not error.retryable or error.code in HOPELESS:",
        "        if not error.retryable:",
    ),
    Bug(
        "vendors: the loser of a hedge goes on",
        "agentd/call/models.py",
        "            for runner in runners:\n                await runner.aclose()\n",
        "            pass\n",
    ),
    Bug(
        "vendors: a slow reader is taken for a stalled model",
        "agentd/call/watch.py",
        "        if self._task is None or not self.limit:",
        "        if not self.limit:",
    ),
    Bug(
        "vendors: a voice that takes over says it all again",
        "agentd/call/voices.py",
        "        start, began = said.where(script.text), said.samples / rate",
        "        start, began = 0, said.samples / rate",
    ),
    Bug(
        "vendors: a voice that took over in the greeting does not keep the call",
        "agentd/call/voices.py",
        "            del self._voices[0]",
        "            self._voices = self._voices[1:]",
    ),
    Bug(
        "vendors: another recogniser does not hear what the first one had not understood",
        "agentd/call/recogniser.py",
        "            audio.rewind()  # what it heard since its last final would be lost\n",
        "",
    ),
    Bug(
        "vendors: nobody dials before the turn",
        "agentd/call/hearing.py",
        "                self._vendors.ready()  # an answer will be wanted soon\n",
        "",
    ),
    Bug(
        "vendors: the environment's key goes to any address",
        "agentd/call/vendors.py",
        "    if mine or label or names_host(given):",
        "    if mine or label:",
    ),
    Bug(
        "keys: the agent speaks on over them",
        "turn/machine.py",
        "        actions = self._preflight.miss() + self._take_floor(now)",
        "        actions = self._preflight.miss()",
    ),
    Bug(
        "keys: they cut what nobody may interrupt",
        "turn/machine.py",
        "or (turn is not None and not self._barge_in.may_interrupt(turn)):",
        "or False:",
    ),
    Bug(
        "keys: the turn is taken while they are pressed",
        "turn/machine.py",
        "            if keys_at is not None:\n",
        "            if False:\n",
    ),
    Bug(
        "keys: they stand before the words that were spoken before them",
        "turn/endpoint.py",
        "        if is_owed:",
        "        if False:",
    ),
    Bug(
        "keys: a lone terminator says nothing",
        "turn/keypad.py",
        "            self.keys = self.keys or key  # alone it says itself",
        "            pass",
    ),
    Bug(
        "keys: the pause is counted from the first one",
        "turn/keypad.py",
        "        self.at = now + self._pause",
        "        self.at = self.at or now + self._pause",
    ),
    Bug(
        "updates: an urgent request waits for the end of the reply",
        "turn/machine.py",
        "        return self._answer_urgently(self.turn, now)\n",
        "        return []\n",
    ),
    Bug(
        "updates: an urgent request waits in line",
        "turn/requests.py",
        "(self._urgent if request.interrupt else self._others).append(request)",
        "self._others.append(request)",
    ),
    Bug(
        "updates: nobody remembers what an urgent reply covers",
        "turn/machine.py",
        "            actions.append(self._remark(now))\n        return actions + self._rest(now)",
        "            self._take(now)\n        return actions + self._rest(now)",
    ),
    Bug(
        "updates: the no-response timer goes before what was asked for",
        "turn/machine.py",
        "        request = self.requests.take()",
        "        request = None",
    ),
    Bug(
        "updates: a late final replaces what was asked for",
        "turn/machine.py",
        "not turn.is_heard and turn.cause is Cause.CALLER",
        "not turn.is_heard",
    ),
    Bug(
        "updates: a reply that the caller joins forgets its instructions",
        "turn/states.py",
        "preflight=fate, request=self.request",
        "preflight=fate, request=0",
    ),
    Bug(
        "updates: one-shot instructions hold for ever",
        "agentd/call/replies.py",
        "        if not action.request:",
        "        if not action.request and not self._request.instructions:",
    ),
    Bug(
        "updates: what was thought ahead with the old prompt is said",
        "turn/machine.py",
        "                return self._preflight.miss()  # it was told what holds no longer",
        "                return []",
    ),
    Bug(
        "updates: context parts what was said last",
        "agentd/call/history.py",
        '        """\n        self.messages += messages\n',
        '        """\n        self.messages[-1:-1] = messages\n',
    ),
    Bug(
        "console: an onlooker is told the words",
        "agentd/ops/stream.py",
        "entry if self._view.words else wordless(entry)",
        "entry",
    ),
    Bug(
        "console: an onlooker changes calls",
        "agentd/jambonz/rest.py",
        "    if not may_know(request, call.proof):",
        "    if may_know(request, call.proof) is None:",
    ),
    Bug(
        "console: any secret is that of any call",
        "agentd/ops/registry.py",
        "secret is not None and hmac.compare_digest(_digest(secret), proof)",
        "secret is not None",
    ),
    Bug(
        "console: a page is trusted as a program is",
        "agentd/access.py",
        "or not knock.is_page or",
        "or not knock.is_page or knock.is_page or",
    ),
    Bug(
        "console: keys can be guessed for as long as one likes",
        "agentd/access.py",
        "            self._failures.failed(address, now)\n",
        "",
    ),
    Bug(
        "console: what nobody has thought of is shown",
        "agentd/ops/wordless.py",
        "if (key in FIGURES if",
        "if (True if",
    ),
    Bug(
        "console: levels are measured for ever",
        "agentd/jambonz/levels.py",
        "            if now > self.until:",
        "            if now < self.until < now:",
    ),
    Bug(
        "console: what was silenced has a level",
        "agentd/jambonz/levels.py",
        "        self._agent.cut(math.ceil(now / STEP))\n",
        "",
    ),
    Bug(
        "console: the parts of a gap lie over each other",
        "agentd/console/page/model.js",
        "    from += latency[name];",
        "    from = latency[name];",
    ),
    Bug(
        "console: killAudio answers no mark",
        "agentd/console/page/jitter.js",
        'this.tell(chunk.mark, "cleared");',
        "{}",
    ),
    Bug(
        "console: a stream that broke begins anew",
        "agentd/console/page/api.js",
        "        last = fields.id;",
        '        last = "";',
    ),
)


class Misplaced(Exception):
    """The code has moved on; the bug must be written anew."""


def mutated(text: str, bug: Bug) -> str:
    if text.count(bug.old) != 1:
        raise Misplaced(f"{bug.name}: expected {bug.old!r} once in {bug.file}, got it {text.count(bug.old)} times")
    return text.replace(bug.old, bug.new)


def caught_by(bug: Bug) -> str:
    """The first test that fails with the bug; empty when none does."""
    with tempfile.TemporaryDirectory(prefix="agentd-mutation-") as folder:
        copy = Path(folder)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / bug.file
        file.write_text(mutated(file.read_text(), bug))
        files = sorted(str(path.relative_to(copy)) for pattern in TESTS for path in copy.glob(pattern))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", *files]
        try:
            run = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=180)
        except subprocess.TimeoutExpired:
            return "the tests hang"
        if run.returncode == 0:
            return ""
        failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return failed[0] if failed else run.stdout[-200:]


def main(part: str = "") -> int:
    chosen = [bug for bug in BUGS if part in bug.name]
    missed = 0
    for bug in chosen:
        by = caught_by(bug)
        missed += not by
        print(f"{'caught' if by else 'MISSED'}  {bug.name}: {by.removeprefix('FAILED ')[:110]}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return missed


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:2]) else 0)
