"""Whole calls: what the verb's switches change (`greeting`, `speak`, `speechCleanup`, languages, `minConfidence`)."""

from typing import Any

import pytest

from providers.base import Message
from tests import virtual_time
from tests.jambonz import voice
from tests.whole_call import House, agent, runs, say, spoken

QUIET: dict[str, Any] = {"noResponseTimeout": 0}


def play(house: House, turns: int = 1) -> list[dict[str, Any]]:
    """A call in which the caller speaks so many times; the turns' ends."""

    async def main() -> None:
        async with house.call() as call:
            if house.node.config.agents["demo"].greeting.enable:
                await call.until(lambda: house.entries("turn_end"))
            for _ in range(turns):
                await house.turn(call)

    virtual_time.run(main())
    return house.entries("turn_end")


def told(house: House) -> list[str]:
    return [entry["response"] for entry in house.entries("agent_response")]


def last_prompt(house: House) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in house.prompts[-1].messages]


def test_the_log_tells_where_the_call_stands() -> None:
    house = House(agent(["hello"], ["Yes."], **QUIET))
    play(house)
    states = [entry["state"] for entry in house.entries("state")]
    assert states == ["listening", "hearing", "endpointing", "thinking", "speaking", "listening", "ended"]


# Greeting ------------------------------------------------------------------------------------------------


def test_by_default_the_model_greets() -> None:
    house = House(agent(["hello"], ["Welcome!", "Yes."], greeting=True, **QUIET))
    greeting, _ = play(house)
    assert (greeting["cause"], greeting["transcript"], greeting["response"]) == ("greeting", "", "Welcome!")
    assert house.prompts[0].messages[-1].role == "system"
    assert last_prompt(house) == [("assistant", "Welcome!"), ("user", "hello")]


@pytest.mark.parametrize(
    "text",
    ["Guten Tag, hier ist die Praxis *Müller*.", "您好，请问有什么可以帮您？", "(This call) may be recorded. [1] 😀"],
    ids=["de", "zh", "markup"],
)
def test_an_exact_greeting_is_spoken_word_for_word_and_remembered(text: str) -> None:
    house = House(agent(["hello"], ["Yes."], greeting=text, **QUIET))
    greeting, _ = play(house)
    assert "".join(house.said[:-1]) == greeting["response"] == text
    assert told(house) == [text, "Yes."]
    assert len(house.prompts) == 1
    assert last_prompt(house) == [("assistant", text), ("user", "hello")]


def test_without_a_greeting_the_caller_begins() -> None:
    house = House(agent(["hello"], ["Yes."], greeting=False, **QUIET))
    (entry,) = play(house)
    assert (entry["turn"], entry["transcript"]) == (1, "hello")


@pytest.mark.parametrize("interruptible", [True, False])
def test_a_legal_notice_cannot_be_interrupted(interruptible: bool) -> None:
    text = "This call may be recorded for training purposes."
    greeting = {"text": text, "interruptible": interruptible}
    house = House(agent(["wait"], ["Yes."], greeting=greeting, **QUIET))

    async def main() -> None:
        async with house.call() as call:
            await call.until(lambda: call.is_audible)
            await call.play(0.5)
            call.say(voice(0.8))
            await call.until(lambda: len(house.entries("turn_end")) == 2)

    virtual_time.run(main())
    first, second = house.entries("turn_end")
    assert first["interrupted"] is interruptible
    assert (first["response"] == text) is not interruptible
    assert (second["transcript"], second["response"]) == ("wait", "Yes.")


# Without a voice -----------------------------------------------------------------------------------------


def test_what_is_not_spoken_is_told_and_remembered() -> None:
    house = House(agent(["hello", "again"], ["*Yes.* I am here", "Good."], llm={"token": 0.1}, speak=False, **QUIET))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            assert house.entries("state")[-1]["state"] == "listening"
            await house.turn(call)
        assert runs(call.media.recording) == []

    virtual_time.run(main())
    first, _ = house.entries("turn_end")
    assert house.said == []
    assert told(house) == ["*Yes.* I am here", "Good."]
    assert (first["response"], first["interrupted"]) == ("Yes. I am here", False)
    assert last_prompt(house) == [("user", "hello"), ("assistant", "*Yes.* I am here"), ("user", "again")]
    ended = [e for e in house.logs[-1].entries if e["type"] in ("agent_response", "turn_end")]
    assert ended[0]["at"] == ended[1]["at"]  # the turn ends when the model ends
    assert {"tts_ms", "text_ms", "playout_ms", "total_ms"}.isdisjoint(first["latency"])


def test_the_caller_is_asked_after_an_answer_that_was_not_spoken() -> None:
    house = House(agent(["hello"], ["Yes.", "Still there?"], speak=False, noResponseTimeout=5))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            await call.until(lambda: len(house.entries("turn_end")) == 2)

    virtual_time.run(main())
    assert house.entries("turn_end")[1]["cause"] == "no_response"


# Cleanup -------------------------------------------------------------------------------------------------

RAW = "<think>They want tea.</think>(smiles warmly)\n\nYou can have **tea** or `coffee`. 😀 *laughs* Which one?"
CLEAN = "You can have tea or coffee. Which one?"


def test_thoughts_directions_markup_and_emoji_are_never_spoken_but_remembered() -> None:
    house = House(agent(["hello", "again"], [RAW, "Yes."], **QUIET))
    entry = play(house, 2)[0]
    assert " ".join("".join(house.said[:-1]).split()) == CLEAN
    assert " ".join(entry["response"].split()) == CLEAN
    assert told(house)[0] == RAW
    assert last_prompt(house)[1] == ("assistant", RAW)


def test_what_was_not_heard_of_a_raw_answer_is_not_remembered() -> None:
    text = "<think>Long or short?</think>The **first** sentence is this. (pauses) The second one nobody hears."
    house = House(agent(["hello", "stop"], [text, "Yes."], **QUIET))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, len("The first sentence is this. ") * 0.05 - 0.2)
            call.say(voice(0.8))
            await call.until(lambda: len(house.entries("turn_end")) == 2)

    virtual_time.run(main())
    assert house.entries("turn_end")[0]["response"] == "The first sentence is this."
    assert last_prompt(house)[1][1].startswith("<think>Long or short?</think>The **first** sentence is this.")
    assert "nobody" not in last_prompt(house)[1][1]


@pytest.mark.parametrize("text", ["(nods)", "<think>Nothing to say.</think>\n", "😀", "*smiles*\n\n...", "<think>and"])
def test_an_answer_with_nothing_to_say_ends_without_speaking(text: str) -> None:
    house = House(agent(["hello", "again"], [text, "Yes."], **QUIET))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: house.entries("turn_end"))
            assert not call.is_audible
            await house.turn(call)
        assert sum(run.length for run in runs(call.media.recording)) == spoken("Yes.")

    virtual_time.run(main())
    first, second = house.entries("turn_end")
    assert (first["response"], first["interrupted"], second["response"]) == ("", False, "Yes.")
    assert house.said == ["Yes."]
    assert house.entries("turn_failed") == []


def test_without_cleanup_everything_is_spoken() -> None:
    text = "(smiles) You can have **tea**."
    house = House(agent(["hello"], [text], speechCleanup=False, **QUIET))
    (entry,) = play(house)
    assert ("".join(house.said), entry["response"]) == (text, text)


@pytest.mark.parametrize(
    ("before", "said"),
    [("*Let me* look.", "Let me look."), ("(thinks)\n", ""), ("Let me **see", "Let me see"), ("<think>a tool", "")],
)
def test_cleanup_goes_on_behind_a_tool_call(before: str, said: str) -> None:
    look = {"tools": [{"name": "calculator", "arguments": {"expression": "6*7"}}], "text": before}
    after = "(laughs) It is **42**. And that is all."
    house = House(agent(["hello", "again"], [look, after, "Yes."], tools=["calculator"], **QUIET))
    entry = play(house, 2)[0]
    assert entry["response"] == f"{said} It is 42. And that is all.".strip()
    assert "".join(house.said[:-1]).strip() == entry["response"]
    assistant = [m for m in house.prompts[-1].messages if m.role == "assistant"]
    assert [m.content for m in assistant] == [before.strip(), after]


# Languages -----------------------------------------------------------------------------------------------


def languages(*heard: str | None, **verb: Any) -> list[str | None]:
    """Whose voice answered words in these languages."""
    finals = [
        [{"final": f"word {at}", "language": it} if it else {"final": f"word {at}"}] for at, it in enumerate(heard)
    ]
    config = {
        "de-DE": {"tts": {"voice": "hans"}},
        "de-AT": {"tts": {"voice": "sepp"}},
        "es": {"tts": {"voice": "juan"}},
    }
    made = agent(finals, ["Yes."], languageConfig=config, **QUIET, **verb)
    made = made.model_copy(update={"tts": made.tts.model_copy(update={"voice": "emma"})})
    house = House(made)
    play(house, len(heard))
    return house.voices


@pytest.mark.parametrize(
    ("lock", "heard", "voices"),
    [
        (False, ["de-DE", "es"], ["emma", "emma"]),
        (True, [None, "de-DE", "es"], ["emma", "hans", "hans"]),
        (True, ["en", "de-DE"], ["emma", "emma"]),
        ("always", ["de-DE", "es-MX", "de-DE"], ["hans", "juan", "hans"]),
        ("always", ["DE-at", "de"], ["sepp", "hans"]),
        ("always", ["de-CH", "fr", None], ["hans", "hans", "hans"]),
    ],
)
def test_the_voice_follows_the_callers_language(lock: Any, heard: list[str | None], voices: list[str]) -> None:
    assert languages(*heard, autoLockLanguage=lock) == voices


def test_a_released_speculation_has_the_voice_of_the_final_words() -> None:
    entry = [{"after": 0.0, "partial": "hallo"}, {"after": 0.4, "final": "hallo", "language": "de"}]
    config = {"de": {"tts": {"voice": "hans"}}}
    house = House(
        agent([entry], ["Ja."], llm={"first": 0.02}, languageConfig=config, autoLockLanguage=True, earlyGeneration=True)
    )
    (ended,) = play(house)
    assert ended["latency"]["preflight"]["result"] == "hit"
    assert house.voices == ["hans"]


def test_a_voice_that_cannot_be_made_leaves_the_one_there_is() -> None:
    entry = [{"final": "hallo", "language": "de"}]
    config = {"de": {"tts": {"vendor": "nobody"}}}
    house = House(agent([entry], ["Ja."], languageConfig=config, autoLockLanguage=True))
    (ended,) = play(house)
    assert ended["response"] == "Ja."


# Confidence ----------------------------------------------------------------------------------------------


def test_words_that_the_recogniser_is_not_sure_of_are_none() -> None:
    finals: list[Any] = [
        [{"after": 0.0, "partial": "mumble"}, {"final": "mumble", "confidence": 0.2}],
        [{"final": "hello", "confidence": 0.6}],
    ]
    made = agent(finals, ["Yes."], **QUIET)
    house = House(made.model_copy(update={"stt": made.stt.model_copy(update={"min_confidence": 0.5})}))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.play(3.0)
            assert house.entries("turn_end") == []
            await house.turn(call)

    virtual_time.run(main())
    assert house.prompts[-1].messages == (Message("user", "hello"),)
    assert [entry["transcript"] for entry in house.entries("unsure")] == ["mumble"]
