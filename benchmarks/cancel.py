"""From the cancelling of a reply to the instant at which the vendor's server sees it: every vendor, over loopback, the
real SDKs, the server in the same process.

    python -m benchmarks.cancel [--times 30]

A model is cancelled before its first word and within its answer, a voice within its sound, a recogniser in mid-call.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import uvloop

from providers import registry
from providers.audio_feed import AudioFeed
from providers.base import Message, Prompt
from providers.registry import Shared
from tests.vendors import rows
from tests.vendors.script import Fault, Script

PROMPT = Prompt((Message("user", "hello"),))

Begin = Callable[[Any, asyncio.Event], Coroutine[Any, Any, None]]


async def answer(llm: Any, heard: asyncio.Event) -> None:
    async for _ in llm.reply(PROMPT):
        heard.set()


async def speech(tts: Any, heard: asyncio.Event) -> None:
    async def text() -> AsyncIterator[str]:
        yield "A sentence that takes its time. "
        await asyncio.Event().wait()

    async for _ in tts.speak(text(), 8000):
        heard.set()


async def listening(stt: Any, heard: asyncio.Event) -> None:
    feed = AudioFeed(16000)
    feed.push(bytes(2 * 16000))
    async for _ in stt.listen(feed):
        heard.set()


async def once(row: Any, make: Callable[[Any, Shared], Any], begin: Begin, script: Script) -> float:
    """Seconds."""
    async with row.server(script) as vendor:
        if hasattr(vendor, "hears"):
            vendor.hears = ["one two", "three four"]
        shared = Shared()
        made = make(row.spec(vendor.url), shared)
        heard = asyncio.Event()
        task = asyncio.create_task(begin(made, heard))
        wait: Awaitable[Any] = vendor.seen.asked.wait() if script.after == 0 else heard.wait()
        await wait
        vendor.seen.left.clear()
        began = time.perf_counter()
        task.cancel()
        await vendor.seen.left.wait()
        spent = time.perf_counter() - began
        await asyncio.gather(task, return_exceptions=True)
        if (close := getattr(made, "aclose", None)) is not None:
            await close()
        await shared.aclose()
        return spent


async def measure(times: int) -> None:
    cases: list[tuple[str, Any, Any, Begin, int]] = []
    for row in rows.LLM:
        cases.append((f"llm {row.vendor}, before its first word", row, registry.make_llm, answer, 0))
        cases.append((f"llm {row.vendor}, within its answer", row, registry.make_llm, answer, 1))
    cases += [(f"tts {row.vendor}", row, registry.make_tts, speech, 1) for row in rows.TTS]
    cases += [(f"stt {row.vendor}", row, registry.make_stt, listening, 1) for row in rows.STT]
    for name, row, make, begin, after in cases:
        async with asyncio.timeout(60):
            spent = sorted([await once(row, make, begin, Script(Fault.HANG, after=after)) for _ in range(times)])
        print(f"{name:<40} p50 {spent[len(spent) // 2] * 1000:6.2f} ms  most {spent[-1] * 1000:6.2f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=30)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(parser.parse_args().times))


if __name__ == "__main__":
    main()
