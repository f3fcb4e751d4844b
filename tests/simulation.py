"""Deterministic simulation: a whole call from a seed. The real application, scripted vendors with faults, the strict
media side, virtual time. The same seed gives the same event log, bit for bit.

    python -m tests.simulation 1234            # replay one seed and print its log
"""

import json
import random
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from agentd.call.summary import CUE
from agentd.call.updates import UpdateRefused
from providers.base import Prompt
from tests.jambonz import FakeJambonz, quiet, voice
from tests.virtual_time import run
from tests.whole_call import House, agent, runs
from turn.cleanup import Cleaner

RATES = [(8000, 8000), (16000, 16000), (16000, 8000), (24000, 24000)]
WORDS = ["yes", "no", "what time is it", "stop", "tell me a story please", "I would like to book a table", "uh huh"]
ENDS_WITHIN = 60.0  # virtual seconds after the caller's last deed in which a call must have come to rest
ANSWERED_WITHIN = 45.0  # of these, for what the caller said last; what is going on then is a no-response prompt


@dataclass(slots=True)
class Result:
    """What one seed gave."""

    seed: int
    log: list[dict[str, Any]]
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "\n".join(json.dumps(entry, sort_keys=True) for entry in self.log)


def simulate(seed: int) -> Result:
    """One call. Its problems are what no call may show, whatever the vendors and the caller do."""
    return run(_simulate(seed), limit=600)


async def _simulate(seed: int) -> Result:
    rng = random.Random(seed)
    house = House(_agent(rng))
    rate, playback = rng.choice(RATES)
    result = Result(seed, [])
    options: dict[str, Any] = {
        "sample_rate": rate,
        "playback_rate": playback,
        "channel_rate": playback,
        "frames_per_message": rng.choice([1, 1, 1, 3, 7]),
        "odd_bytes": rng.random() < 0.2,
        "record": rng.random() < 0.5,
    }
    async with FakeJambonz(house.app, **options) as call:
        for _ in range(rng.randint(1, 6)):
            await _deed(house, call, rng)
            if call.closed is not None:
                break
        if rng.random() < 0.7 and call.closed is None:
            await call.play(rng.uniform(0, 15))
        if call.closed is None and call.media.max_ahead > (0.25 + 0.16 + 0.04) * playback:
            result.problems.append(f"{call.media.max_ahead} samples waited on the far side")
        if call.media.false_marks or call.media.dropped_marks:
            result.problems.append("a mark was false or dropped")
        if rng.random() < 0.15 and call.closed is None:
            call.resume()
            await call.play(ENDS_WITHIN)
            if not _is_at_rest(house, call.now):
                result.problems.append(
                    f"{ENDS_WITHIN:.0f} s after the caller's last deed the call has not come to rest"
                )
        if rng.random() < 0.1:
            call.drop()
    result.log = house.logs[-1].entries
    result.problems += _problems(result.log)
    result.problems += _unpaired(house.prompts)
    beginnings = sum(run.first == 0 for run in runs(call.media.recording))
    if beginnings > sum(entry["type"] == "turn_end" for entry in result.log):
        result.problems.append("what is played is only ever of the answer to a turn")
    return result


def _agent(rng: random.Random) -> Any:
    def seconds(most: float) -> float:
        return round(rng.choice([0.0, 0.01, rng.uniform(0, most)]), 3)

    replies: list[Any] = []
    for _ in range(rng.randint(1, 6)):
        text = " ".join(
            rng.choice(["Yes.", "That is so, I think.", "Let me see.", "One, two, three.", "*Well*, (smiles) yes."])
            for _ in range(3)
        )
        call = {"name": rng.choice(["datetime", "calculator", "hangup", "nobody"]), "arguments": {"expression": "1+1"}}
        faults = [{"error": "llm-server-error"}, {"text": text, "error": "llm-timeout"}, {"hang": True}]
        tools = [{"tools": [call], "text": rng.choice(["", "Let me look. "])}, {"tools": [call, call]}]
        replies.append(rng.choice([text, text, text, text, "", *faults, *tools]))
    return agent(
        [_heard(rng, seconds) for _ in range(12)],
        replies,
        stt={"delay": seconds(2.0), "partials": rng.random() < 0.5},
        llm={
            "first": seconds(2.0),
            "token": seconds(0.05),
            "when": {CUE[:20]: ["They talked.", "", {"error": "llm-server-error"}, {"hang": True}]},
        },
        tts={
            "first": seconds(0.5),
            "character": 0.04,
            "chunk": rng.choice([0.02, 0.1, 1.0]),
            "words": rng.random() < 0.7,
            **({"error": "tts-server-error"} if rng.random() < 0.05 else {}),
        },
        greeting=rng.choice([True, False, "Good morning.", {"text": "Good morning.", "interruptible": False}]),
        bargeIn={
            "enable": rng.random() < 0.9,
            "strategy": rng.choice(["vad", "vad", "interruptPrediction"]),
            "minSpeechDuration": rng.choice([0.1, 0.5, 0.5, 1.0]),
            "sticky": rng.random() < 0.3,
        },
        turnDetection=rng.choice(["stt", "stt", "krisp", {"mode": "krisp", "threshold": 0.9}]),
        earlyGeneration=rng.choice([False, True, {"enable": True, "speech": True}]),
        speak=rng.random() < 0.95,
        speechCleanup=rng.random() < 0.8,
        summarizeTurns=rng.choice([0, 8]),
        autoLockLanguage=rng.choice([False, True, "always"]),
        languageConfig={"de": {"tts": {"voice": "hans"}}},
        noResponseTimeout=rng.choice([0, 2, 12]),
        noResponseMaxPrompts=rng.choice([0, 1]),
        tools=["datetime", "calculator"],
        hangup=True,
        dtmf={"enable": rng.random() < 0.9, "maxDigits": rng.choice([0, 0, 1, 4]), "pause": rng.choice([0, 1, 2])},
    )


def _heard(rng: random.Random, seconds: Callable[[float], float]) -> Any:
    """What the recogniser makes of the caller's next words."""
    words = rng.choice(WORDS)
    native = {"after": seconds(1.0), "final": words, "end_of_turn": True, "language": rng.choice(["de", "en-US"])}
    eager = {"after": seconds(0.5), "eager": rng.choice([words, words, "something else"])}
    return rng.choice(
        [
            *[words] * 6,
            "",
            None,
            [{"after": seconds(0.3), "partial": words}, eager, native],
            [{"after": seconds(0.3), "partial": words}, eager, {"after": seconds(0.5), "resumed": True}],
            [{"after": seconds(1.0), "final": words, "speech_final": True}],
            [{"after": seconds(0.5), "partial": words}, {"error": "stt-connection-lost", "retryable": True}],
            {"error": "stt-connection-lost", "retryable": True},
            {"end": True},
        ]
    )


def _is_at_rest(house: House, now: float) -> bool:
    state = house.entries("state")[-1]["state"]
    is_asking = house.node.config.agents["demo"].no_response_timeout > 0
    said = house.entries("user_transcript")
    return state in ("listening", "ended") or (is_asking and (not said or said[-1]["at"] < now - ANSWERED_WITHIN))


async def _deed(house: House, call: Any, rng: random.Random) -> None:
    """Something that a caller, the line, or the application does."""
    spoken, rate = rng.choice([0.1, 0.3, 0.6, 1.2]), call.sample_rate
    match rng.randrange(10):
        case 0 | 1 | 2:
            call.say(voice(spoken, rate))
            await call.play(spoken + rng.uniform(0, 4))
        case 3:
            call.say(voice(spoken, rate) + quiet(0.2, rate) + voice(0.2, rate))
            await call.play(rng.uniform(0.5, 3))
        case 4:
            await call.play(rng.uniform(0, 1))
            call.say(voice(spoken, rate))
            await call.play(rng.uniform(0, 0.7))
        case 5:
            for _ in range(rng.randint(1, 5)):
                call.dtmf(rng.choice("1234567890*##"))
                await call.play(rng.choice([0.0, 0.1, 0.4, 2.5]))
        case 6:
            call.pause()
            await call.play(rng.uniform(0, 5))
            call.resume()
        case 7 | 8:
            await call.play(rng.uniform(0, 2))
            for _ in range(rng.randint(1, 4)):
                _update(house, rng)
                await call.play(rng.choice([0.0, rng.uniform(0, 3)]))
        case _:
            await call.play(rng.uniform(0, 6))


def _update(house: House, rng: random.Random) -> None:
    """The application changes something, if the call lets it."""
    look = {"id": "x", "function": {"name": "look", "arguments": "{}"}}
    answered = [{"role": "assistant", "tool_calls": [look]}, {"role": "tool", "tool_call_id": "x", "content": "red"}]
    reply = {
        "type": "generate_reply",
        **({"user_input": rng.choice(["Shipped!", "Say hello."])} if rng.random() < 0.7 else {}),
        **({"instructions": "Be brief."} if rng.random() < 0.5 else {}),
        "interrupt": rng.random() < 0.5,
    }
    updates: list[dict[str, Any]] = [
        {"type": "update_instructions", "instructions": rng.choice(["", "You are a clerk."])},
        {"type": "inject_context", "messages": rng.choice([answered, [{"role": "user", "content": "Gold tier."}]])},
        {"type": "update_tools", "tools": [{"name": "look"}] * rng.randint(0, 1)},
        *[reply] * 3,
    ]
    update = rng.choice(updates)
    for live in house.node.calls:
        with suppress(UpdateRefused):  # it is over, or says goodbye
            live.call.update(update)


def _problems(log: list[dict[str, Any]]) -> list[str]:
    """Laws of the event log; each is a sentence."""
    found = []
    types = [entry["type"] for entry in log]
    if types.count("call_ended") != 1 or types[-1] != "call_ended":
        found.append("a call ends exactly once, and nothing comes after")
    if any(later["at"] < earlier["at"] for earlier, later in pairwise(log)):
        found.append("time does not run backwards")
    turns = [entry["turn"] for entry in log if entry["type"] == "turn_end"]
    if turns != sorted(set(turns)):
        found.append("every turn ends once, in order")
    if not _pressed(log):
        found.append("a key is told once, in order")
    if not _requested(log):
        found.append("nobody asked for a reply that the application is said to have asked for")
    failed = {entry["turn"] for entry in log if entry["type"] == "turn_failed"}
    generated = " ".join(entry["response"] for entry in log if entry["type"] == "agent_response")
    sayable = _words(_cleaned(generated)) + _words(generated)
    for entry in log:
        if entry["type"] == "turn_end":
            latency = entry["latency"]
            parts = sum(v for k, v in latency.items() if k.endswith("_ms") and k != "total_ms")
            if "total_ms" in latency and abs(parts - latency["total_ms"]) > 1:
                found.append(f"the parts of turn {entry['turn']} add up to {parts}, not {latency['total_ms']}")
            is_whole = not entry["interrupted"] and entry["turn"] not in failed
            if is_whole and _words(entry["response"]) not in sayable:
                found.append(f"what was heard in turn {entry['turn']} was never generated")
    return found


def _pressed(log: list[dict[str, Any]]) -> bool:
    """Is every key that is told one that was pressed, in this order?"""
    pressed = iter([str(entry["digit"]) for entry in log if entry["type"] == "dtmf"])
    said = [entry["transcript"] for entry in log if entry["type"] in ("turn_end", "remark")]
    told = [key for text in said for keys in re.findall(r"The caller pressed (\S+)\.", text) for key in keys]
    return all(key in pressed for key in told)


def _requested(log: list[dict[str, Any]]) -> bool:
    """Has the application asked for every reply that is said to be its?"""
    asked = [entry for entry in log if entry["type"] == "update" and "request" in entry]
    return len([entry for entry in log if entry["type"] == "turn_end" and entry["cause"] == "request"]) <= len(asked)


def _unpaired(prompts: Iterable[Prompt]) -> list[str]:
    """A vendor refuses a tool call without its result right behind it."""
    for prompt in prompts:
        owed: list[str] = []
        for message in prompt.messages:
            if message.tool_call_id in owed:
                owed.remove(message.tool_call_id)
            elif owed or message.role == "tool":
                return ["a tool call is parted from its result"]
            owed += [call.id for call in message.tool_calls]
    return []


def _cleaned(text: str) -> str:
    cleaner = Cleaner()
    return cleaner.push(text) + cleaner.flush()


def _words(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    outcome = simulate(int(sys.argv[1]))
    print(outcome.text())
    print("\n".join(outcome.problems) or "no problem")
