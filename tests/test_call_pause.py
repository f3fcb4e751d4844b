"""Whole calls: the acoustic mode decides that the caller is done (`turnDetection: krisp`)."""

import asyncio
from typing import Any

import pytest

from agentd.call import vendors
from providers.base import ProviderError
from tests import virtual_time
from tests.whole_call import House, agent, say

KRISP: dict[str, Any] = {"turnDetection": "krisp", "noResponseTimeout": 0}
WHOLE, OPEN = "I would like to book a table.", "I would like to"


class Engine:
    """An acoustic model that answers with ``probability``, or with what is raised."""

    def __init__(self, probability: float | Exception, name: str = "smart-turn-v3", takes: float = 0.05) -> None:
        self.name = name
        self.probability, self.takes = probability, takes
        self.frames = self.resets = self.judged = 0

    def hear(self, frame: bytes) -> None:
        self.frames += 1

    async def judge(self) -> float:
        self.judged += 1
        await asyncio.sleep(self.takes)
        if isinstance(self.probability, Exception):
            raise self.probability
        return self.probability

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(engine: Engine) -> Engine:
        monkeypatch.setattr(vendors, "choose", lambda spec, shared, rate: engine)
        return engine

    return install


def turn(words: str, **verb: Any) -> dict[str, Any]:
    house = House(agent([words], ["Yes."], **{**KRISP, **verb}))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    return house.entries("turn_end")[-1]


def waited(entry: dict[str, Any]) -> int:
    """From the end of the voice to the end of the turn, in ms."""
    return int(entry["latency"]["stt_ms"]) + int(entry["latency"].get("eot_ms", 0))


def test_a_sentence_that_is_whole_is_answered_sooner_than_an_open_one() -> None:
    whole, open_ = turn(WHOLE), turn(OPEN)
    assert waited(whole) < 500 < 1200 < waited(open_) <= 1600
    assert whole["turn_detection"] == open_["turn_detection"] == "rule"


def test_without_the_acoustic_mode_both_wait_alike() -> None:
    assert waited(turn(WHOLE, turnDetection="stt")) == waited(turn(OPEN, turnDetection="stt")) == 500
    assert turn(WHOLE, turnDetection="stt")["turn_detection"] == "stt"


def test_a_lower_threshold_ends_turns_sooner() -> None:
    waits = [waited(turn("well maybe", turnDetection={"mode": "krisp", "threshold": t})) for t in (0.2, 0.5, 0.9)]
    assert waits == sorted(waits) and waits[0] < waits[1] < waits[2]


@pytest.mark.parametrize("name", ["smart-turn-v3", "krisp"])
def test_an_engine_hears_all_and_is_believed(install: Any, name: str) -> None:
    engine = install(Engine(0.95, name))
    sure = turn(WHOLE)
    assert sure["turn_detection"] == name
    assert (engine.judged, engine.resets) == (1, 1)
    assert engine.frames > 50
    install(Engine(0.02, name))
    assert waited(turn(WHOLE)) > waited(sure)


@pytest.mark.parametrize("failure", [ProviderError("krisp", "eot-model-busy"), ZeroDivisionError()], ids=repr)
def test_an_engine_that_fails_is_replaced_by_the_rule(install: Any, failure: Exception) -> None:
    by_rule = turn(WHOLE)
    install(Engine(failure, takes=0.0))
    entry = turn(WHOLE)
    assert waited(entry) == waited(by_rule)
    assert (entry["turn_detection"], entry["response"]) == ("rule", "Yes.")


def test_an_engine_that_never_answers_leaves_the_silence_to_decide(install: Any) -> None:
    install(Engine(0.9, takes=1000.0))
    assert waited(turn(OPEN)) == 500


def test_new_speech_ends_a_judgement_that_is_under_way(install: Any) -> None:
    engine = install(Engine(0.95, takes=0.4))
    house = House(agent([OPEN, "book a table."], ["Yes."], stt={"delay": 0.2}, **KRISP))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.play(0.32)
            await house.turn(call)

    virtual_time.run(main())
    (entry,) = house.entries("turn_end")
    assert entry["transcript"] == f"{OPEN} book a table."
    assert engine.judged == 2


def test_the_early_signal_prompts_the_model_before_the_turn_ends() -> None:
    def preflight(words: str) -> Any:
        verb = {**KRISP, "earlyGeneration": True, "turnDetection": {"mode": "krisp", "threshold": 0.8}}
        house = House(agent([words], ["Yes."], llm={"first": 0.05}, **verb))

        async def main() -> None:
            async with house.call() as call:
                await house.turn(call)

        virtual_time.run(main())
        return house.entries("turn_end")[-1]["latency"].get("preflight")

    assert preflight(WHOLE) == {"result": "hit", "tokens": 1}
    assert preflight(OPEN) is None
