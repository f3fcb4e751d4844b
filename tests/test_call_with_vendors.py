"""Whole calls with the real SDKs and vendors on loopback, under virtual time: a turn takes what its vendors take."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from benchmarks.added_latency import FIRST, combinations, configuration, row
from tests import virtual_time
from tests.jambonz import voice
from tests.vendors import rows
from tests.vendors.canary import canary as canary
from tests.vendors.script import Script
from tests.whole_call import House

PERIOD, TURNS = 3.0, 3
HANDSHAKE, MODEL, VOICE = 0.8, 0.4, 0.08  # seconds; the voice takes as long for each stretch of sound
THREADED = {row.vendor for row in rows.LLM if row.threads}  # a thread's time is real
EVERY = [FIRST, *(each for each in combinations(every=False) if each[1] not in THREADED)]


def play(vendors: tuple[str, ...], *, cut: bool = False) -> House:
    """Three turns, one every ``PERIOD``; ``cut``: the caller interrupts every answer but the last."""
    houses = []

    async def main() -> None:
        async with AsyncExitStack() as stack:
            scripts = {
                "stt": Script(connecting=HANDSHAKE),
                "llm": Script(connecting=HANDSHAKE, first=MODEL),
                "tts": Script(connecting=HANDSHAKE, first=VOICE, gap=VOICE),
            }
            made: dict[str, Any] = {
                role: await stack.enter_async_context(row(role, vendor).server(scripts[role]))
                for role, vendor in zip(scripts, vendors, strict=True)
            }
            made["stt"].hears = ["is that so"] * 10
            made["stt"].pause = PERIOD - 1.0
            made["llm"].answer = rows.Answer(("Yes. It is so, yes." + " And so on, and so on." * (9 if cut else 0),))
            urls = {role: vendor.url for role, vendor in made.items()}
            house = House(configuration(vendors, urls).agents["demo"])
            houses.append(house)
            async with house.call() as call:
                for turn in range(TURNS):
                    began = turn * PERIOD
                    if turn == 0 or not cut:
                        await call.until(lambda began=began: call.now >= began)  # type: ignore[misc]
                        call.say(voice(0.6, call.sample_rate))
                    if cut and turn < TURNS - 1:
                        await call.until(lambda began=began: call.now >= began + 2.2)  # type: ignore[misc]
                        await call.until(lambda: call.is_audible)
                        call.say(voice(PERIOD - 2.2 + 0.6, call.sample_rate))  # these are the words of the next turn
                    await call.until(lambda turn=turn: len(house.entries("turn_end")) > turn)  # type: ignore[misc]
            await house.node.shared.aclose()

    virtual_time.run(main(), limit=600)
    return houses[0]


@pytest.mark.parametrize("vendors", EVERY, ids=" + ".join)
def test_a_turn_takes_what_its_vendors_take_whoever_they_are(vendors: tuple[str, ...]) -> None:
    house = play(vendors)
    turns = house.entries("turn_end")
    assert [turn["response"] for turn in turns] == ["Yes. It is so, yes."] * TURNS
    assert [turn["latency"]["llm_ms"] for turn in turns] == [MODEL * 1000] * TURNS
    assert [turn["latency"]["tts_ms"] for turn in turns] == [VOICE * 1000] * TURNS
    assert house.entries("vendor_failed") == []


@pytest.mark.parametrize("vendors", EVERY, ids=" + ".join)
def test_no_handshake_sits_in_a_turn_even_after_an_interruption(vendors: tuple[str, ...]) -> None:
    turns = play(vendors, cut=True).entries("turn_end")
    assert [turn["interrupted"] for turn in turns] == [True, True, False]
    assert [turn["latency"]["llm_ms"] for turn in turns] == [MODEL * 1000] * TURNS
    assert [turn["latency"]["tts_ms"] for turn in turns] == [VOICE * 1000] * TURNS
