"""The verb as authors write it: short forms, older names, and what is never shown."""

from typing import Any

import pytest
from pydantic import ValidationError

from config.check import check
from config.conversation import BargeIn, EarlyGeneration, Greeting, Hangup, Hook, NoiseIsolation, TurnDetection
from config.llm import Llm, Message, Tool
from config.speech import Recognizer, Synthesizer
from config.verb import Agent


def agent(**keys: Any) -> Agent:
    made = Agent.parse(keys)
    assert Agent.parse(made.given()) == made
    return made


def test_the_defaults_are_the_guides() -> None:
    made = agent()
    assert made.turn_detection == TurnDetection(mode="stt", threshold=0.5)
    assert made.barge_in == BargeIn(enable=True, strategy="vad", min_speech_duration=0.5, sticky=False)
    assert (made.no_response_timeout, made.no_response_max_prompts, made.summarize_turns) == (12, 0, 0)
    assert made.greeting == Greeting(enable=True) and made.speak and made.speech_cleanup
    assert not made.early_generation.enable and made.noise_isolation is None and made.hangup is None


@pytest.mark.parametrize(
    ("key", "written", "attribute", "meant"),
    [
        ("turnDetection", "krisp", "turn_detection", TurnDetection(mode="krisp")),
        ("earlyGeneration", True, "early_generation", EarlyGeneration(enable=True)),
        ("earlyGeneration", {"speech": True}, "early_generation", EarlyGeneration(enable=True, speech=True)),
        ("greeting", False, "greeting", Greeting(enable=False)),
        ("greeting", "Hello!", "greeting", Greeting(text="Hello!")),
        ("greeting", {"text": "Hello!"}, "greeting", Greeting(text="Hello!")),
        ("noiseIsolation", "rnnoise", "noise_isolation", NoiseIsolation(mode="rnnoise", level=100, direction="read")),
        ("hangup", True, "hangup", Hangup()),
        ("hangup", False, "hangup", None),
        ("toolFiller", False, "tool_filler", None),
        ("toolHook", "/tool-call", "tool_hook", Hook(url="/tool-call", method="POST")),
        ("summarizeTurns", 0, "summarize_turns", 0),
        ("summarizeTurns", 3, "summarize_turns", 8),
        ("summarizeTurns", 9, "summarize_turns", 9),
        ("autoLockLanguage", "always", "auto_lock_language", "always"),
    ],
)
def test_short_forms(key: str, written: Any, attribute: str, meant: Any) -> None:
    assert getattr(agent(**{key: written}), attribute) == meant


@pytest.mark.parametrize(
    "wrap",
    [
        lambda body: {"verb": "agent", **body},
        lambda body: {"verb": "pipeline", **body},
        lambda body: {"agent": body},
        lambda body: {"pipeline": body},
    ],
)
def test_the_verb_is_accepted_under_each_of_its_forms_and_names(wrap: Any) -> None:
    body = {"llm": {"vendor": "openai"}, "greeting": False}
    assert Agent.parse(wrap(body)) == Agent.parse(body)


def test_tools_are_the_same_flat_or_wrapped() -> None:
    flat = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
    wrapped = {"type": "function", "function": {**flat, "strict": True}}
    options = agent(llm={"llmOptions": {"tools": [flat, wrapped]}}).llm.llm_options
    assert options.tools == [Tool.parse(flat), Tool.parse(flat)]


def test_system_messages_become_the_system_prompt_wherever_they_stand() -> None:
    options = agent(
        llm={
            "llmOptions": {
                "systemPrompt": "A",
                "messages": [{"role": "system", "content": "B"}, {"role": "user", "content": "hi"}],
                "initialMessages": [{"role": "system", "content": [{"type": "text", "text": "C"}]}],
            }
        }
    ).llm.llm_options
    assert options.system_prompt == "A\n\nB\n\nC"
    assert options.messages == [Message(role="user", content="hi")] and options.initial_messages == []


def test_vendor_params_are_found_in_each_of_their_places() -> None:
    made = agent(vendorParams={"a": 1}, llm={"vendorParams": {"b": 2}, "llmOptions": {"vendorParams": {"a": 3}}})
    assert made.params() == {"a": 3, "b": 2}


def test_a_vendors_own_options_reach_it_unread() -> None:
    stt = agent(stt={"vendor": "deepgramflux", "options": {"x": 1}, "deepgramOptions": {"eotThreshold": 0.7}}).stt
    assert stt.vendor_options() == {"x": 1, "eotThreshold": 0.7}


def test_hints_are_text_with_or_without_a_boost() -> None:
    assert agent(stt={"hints": ["agentd", {"phrase": "jambonz", "boost": 2}]}).stt.phrases() == ["agentd", "jambonz"]


def test_a_fallback_vendor_takes_neither_options_nor_credentials_along() -> None:
    made = agent(
        stt={"vendor": "a", "language": "de", "auth": {"apiKey": "k"}, "fallbackVendor": "b"},
        tts={"vendor": "a", "voice": "v", "options": {"url": "x"}, "fallbackVendor": "b", "fallbackVoice": "w"},
    )
    assert made.stt.fallback() == Recognizer(vendor="b", label="", language="de", hints=[])
    assert made.tts.fallback() == Synthesizer(vendor="b", label="", language="", voice="w")
    assert agent().stt.fallback() is None and agent().tts.fallback() is None


def test_the_voice_follows_the_language() -> None:
    made = agent(
        tts={"vendor": "a", "voice": "v", "auth": {"apiKey": "k"}},
        languageConfig={"es": {"tts": {"voice": "sp"}}, "fr-CA": {"tts": {"vendor": "b"}}},
    )
    assert made.tts_for("ES-mx") == Synthesizer.parse({"vendor": "a", "voice": "sp", "auth": {"apiKey": "k"}})
    assert made.tts_for("fr") == Synthesizer(vendor="b")  # another vendor gets neither the voice nor the key
    assert made.tts_for("de") is made.tts


def test_basic_auth_may_be_written_as_in_the_schema() -> None:
    hook = agent(toolHook={"url": "/t", "basicAuth": {"username": "u", "password": "p"}}).tool_hook
    assert hook is not None and hook.password is not None
    assert (hook.username, hook.password.get_secret_value()) == ("u", "p")


def test_an_agent_is_never_changed() -> None:
    with pytest.raises(ValidationError):
        agent().speak = False


def test_no_secret_is_shown_when_an_agent_or_its_error_is_printed() -> None:
    secret = "sk-canary-7f3a"
    keys: dict[str, Any] = {
        "stt": {"auth": {"apiKey": secret}, "deepgramOptions": {"authToken": secret}},
        "tts": {"options": {"api_key": secret, "headers": {"xi": secret}}},
        "llm": {
            "auth": {"secretAccessKey": secret},
            "connectOptions": {"baseURL": f"https://u:{secret}@h/?key={secret}"},
        },
        "mcpServers": [{"url": f"https://h/?tavilyApiKey={secret}", "auth": {"any": secret}}],
        "toolHook": {"url": f"https://u:{secret}@h/", "password": secret},
    }
    made = agent(**keys)
    assert secret not in f"{made} {made!r} {made.llm.auth} {made.llm.auth!r} {made.llm!r}"
    assert made.llm.auth["secretAccessKey"] == secret
    with pytest.raises(ValidationError) as caught:
        Agent.parse({**keys, "llm": {"auth": secret, "model": [secret]}})
    assert secret not in str(caught.value)


def test_snake_case_is_for_python_only() -> None:
    assert Agent(no_response_timeout=3).no_response_timeout == 3
    assert Llm(vendor="x").given() == {"vendor": "x"}
    faults = check(Agent, {"no_response_timeout": 3})
    assert isinstance(faults, list)
    assert [str(fault) for fault in faults] == ["unknown key; did you mean noResponseTimeout?"]
