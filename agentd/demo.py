"""The product's own proof: a server, a synthetic caller who phones it over the real listen socket, and what came of it.

Nothing here is canned: the words are what the recogniser made of the caller's sound and what the caller's side heard
of the agent's; the figures are those of this run.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from agentd.caller import Caller, CallFailed, Voice
from agentd.jambonz.listen import Node
from agentd.ops.log import Entry, EventLog
from agentd.server import Server
from config.files import Config
from config.payloads import PARTS

RATE = 16000


@dataclass(frozen=True, slots=True)
class Line:
    """What the synthetic caller says; ``after`` seconds into the agent's answer (a barge-in), else when it is done."""

    text: str
    after: float | None = None


SCRIPT = (
    Line("what time is it"),
    Line("what is twelve times seven"),
    Line("tell me a long story"),
    Line("what day is it today", after=4.0),
    Line("thank you goodbye"),
)


@dataclass(slots=True)
class Proof:
    """What a conversation of ``lines`` must have in it before it counts as one; collected from the call's event log."""

    lines: int
    answered: int = 0
    interruptions: int = 0
    tools: int = 0
    failures: list[str] = field(default_factory=list)
    reason: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)  # the call ended, or will come to nothing

    def see(self, entry: Entry) -> None:
        match entry["type"]:
            case "user_interruption":
                self.interruptions += 1
            case "tool_result" if entry["name"] != "hangup" and not str(entry["result"]).startswith("Error"):
                self.tools += 1
            case "turn_end" if entry["cause"] == "caller" and entry["response"]:
                self.answered += 1
            case "turn_failed":
                self.failures.append(f"turn {entry['turn']} failed: {entry['code']}")
                self.over.set()
            case "call_ended":
                self.reason = entry["completion_reason"]
                self.over.set()

    def shortcomings(self, caller: Caller) -> Iterator[str]:
        """Why this was no conversation; nothing when it was one."""
        yield from self.failures
        if self.answered < self.lines - 1:
            yield f"expected at least {self.lines - 1} turns that were understood and answered, got {self.answered}"
        if self.interruptions < 1:
            yield "expected the caller to interrupt the agent, and the agent kept on talking"
        if self.tools < 1:
            yield "expected the agent to use a tool, and it used none"
        if caller.media.stuck or caller.media.false_marks or caller.media.dropped_marks:
            yield "expected every sample to be played and every mark to be true, and some were not"


class Teller:
    """Prints a call's events as a conversation, as they happen."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def see(self, entry: Entry) -> None:
        match entry["type"]:
            case "user_transcript":
                self._line(entry, "caller", "cyan", entry["transcript"])
            case "tool_call":
                self._line(entry, "tool", "magenta", f"{entry['name']} {entry['arguments']}")
            case "tool_result":
                self._line(entry, "", "magenta", f"→ {entry['result']}  ({entry['rtt_ms']:.0f} ms)")
            case "user_interruption":
                self._line(entry, "caller", "yellow", "(interrupts)")
            case "turn_end":
                cut = "  (interrupted; this is what was heard)" if entry["interrupted"] else ""
                self._line(entry, "agent", "green", f"{entry['response']}{cut}")
                self._line(entry, "", "bright_black", parts(entry["latency"]))
            case "remark":
                self._line(entry, "caller", "bright_black", f"{entry['transcript']}  (in passing)")

    def _line(self, entry: Entry, who: str, style: str, text: str) -> None:
        head = f"{entry['at']:6.2f} s  " if who else " " * 10
        self._console.print(Text(f"{head}{who:<7}", "bright_black").append(text, style), soft_wrap=True)


def parts(latency: dict[str, Any]) -> str:
    """The parts of a turn's gap, in the order in which they follow one another."""
    known = [f"{name.removesuffix('_ms')} {latency[name]}" for name in PARTS if name in latency]
    total = f"gap {latency['total_ms']} ms = " if "total_ms" in latency else ""
    return total + " + ".join(known)


async def demo(config: Config, console: Console, wav: Path) -> int:
    """Hold the conversation; the process's exit code."""
    node = Node(config)
    proof, teller = Proof(len(SCRIPT)), Teller(console)

    def watch(name: str, log: EventLog) -> None:
        log.subscribe(proof.see)
        log.subscribe(teller.see)

    node.observers.append(watch)
    agent = config.agents["demo"]
    stand_in = " (a scripted stand-in, not a language model)" if agent.llm.vendor == "demo" else ""
    model = "standin-rules-1" if agent.llm.vendor == "demo" else f"{agent.llm.vendor} {agent.llm.model}"
    speech_by = f"{agent.stt.vendor}/{agent.tts.vendor}"
    console.print(f"[bold]agentd demo[/]: speech {speech_by}, model {model}{stand_in}", soft_wrap=True)
    if stand_in:
        console.print("[bright_black]for a real model: agentd demo --llm http://127.0.0.1:11434/v1#llama3.2[/]")
    server = Server(node, "127.0.0.1", 0)
    running = asyncio.create_task(server.serve(), name="demo-server")
    try:
        await first(server.up(), running)
        url = f"ws://127.0.0.1:{server.port}/listen/demo"
        console.print(f"[bright_black]the caller dials {url}[/]")
        voice = Voice(node.shared, RATE)
        speech = {line.text: await voice.speech(line.text) for line in SCRIPT}
        async with Caller(url, rate=RATE) as caller:
            shortcomings = await judge(caller, converse(caller, SCRIPT, speech), proof)
            caller.save(wav)
    finally:
        server.should_exit = True
        await asyncio.wait([running], timeout=15)
    seconds = len(caller.caller_side) / 2 / RATE
    console.print(f"[bright_black]{wav}: {seconds:.1f} s, the caller left, the agent right[/]")
    for shortcoming in shortcomings:
        console.print(f"[red]The conversation did not come off: {shortcoming}.[/]")
    if not shortcomings:
        console.print(
            f"[bold]It talks:[/] {proof.answered} turns answered, {proof.interruptions} barge-in, "
            f"{proof.tools} tool calls, ended with “{proof.reason}”.",
            soft_wrap=True,
        )
    return 1 if shortcomings else 0


async def judge(caller: Caller, conversation: Coroutine[Any, Any, None], proof: Proof) -> list[str]:
    """Hold the conversation until it is over or can come to nothing; what was missing in it."""
    holding = asyncio.create_task(conversation, name="demo-conversation")
    over = asyncio.create_task(proof.over.wait(), name="demo-over")
    await asyncio.wait([holding, over], return_when=asyncio.FIRST_COMPLETED)
    if not over.done() and holding.exception() is None:
        await asyncio.wait([over], timeout=10.0)
    for task in (holding, over):
        task.cancel()
    (failure, _) = await asyncio.gather(holding, over, return_exceptions=True)
    said = [str(failure)] if isinstance(failure, CallFailed) else []
    return [*proof.shortcomings(caller), *said]


async def converse(caller: Caller, script: tuple[Line, ...], speech: dict[str, bytes]) -> None:
    """Say the script: each line when the agent has been quiet, or in the middle of what it says."""
    await caller.answer()
    for line, follows in zip(script, (*script[1:], None), strict=True):
        caller.say(speech[line.text])
        await caller.until(lambda: not caller.is_speaking, 30.0, "our own speech to end")
        caller.heard_for = 0.0
        if follows is None:
            await caller.until(lambda: caller.end is not None, 30.0, "the agent to hang up")
        elif follows.after is not None:
            after = follows.after
            await caller.until(lambda after=after: caller.heard_for >= after, 30.0, "a long answer")  # type: ignore[misc]
        else:
            await caller.answer()


async def first(waiting: Any, running: "asyncio.Task[None]") -> None:
    """Wait until the server is up, or has failed to come up."""
    up = asyncio.ensure_future(waiting)
    await asyncio.wait([up, running], return_when=asyncio.FIRST_COMPLETED)
    if not up.done():
        up.cancel()
        await running
        raise CallFailed("the server did not start; what it logged says why")
