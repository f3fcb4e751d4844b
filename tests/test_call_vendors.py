"""Which credentials a vendor gets, and what it is asked for."""

from typing import Any

import pytest

from agentd.call.models import Health
from agentd.call.setup import history
from agentd.call.vendors import Vendors, account, llm_spec, stt_spec, tts_spec
from config.server import Server
from config.verb import Agent
from providers.credentials import from_environment

SERVER = Server.model_validate(
    {
        "credentials": {
            "openai": [{"apiKey": "ours"}, {"label": "b", "apiKey": "ours-b"}],
            "deepgram": {"apiKey": "deep"},
        }
    }
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "RIME_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RIME_API_KEY", "of the environment")
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")


@pytest.mark.parametrize(
    ("vendor", "label", "auth", "given", "expected"),
    [
        ("openai", "", {"apiKey": "theirs"}, {}, {"apiKey": "theirs"}),
        ("openai", "", {}, {}, {"apiKey": "ours"}),
        ("openai", "b", {}, {}, {"label": "b", "apiKey": "ours-b"}),
        ("openai", "c", {}, {}, {}),
        ("deepgramflux", "", {}, {}, {"apiKey": "deep"}),
        ("rime", "", {}, {}, {"apiKey": "of the environment"}),
        ("rime", "", {"token": "theirs"}, {}, {"token": "theirs"}),
        ("rime", "", {}, {"options": {"url": "wss://elsewhere.example"}}, {}),
        ("cartesia", "", {}, {}, {}),
    ],
)
def test_credentials_come_from_the_verb_else_the_server_else_the_environment(
    vendor: str, label: str, auth: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert dict(account(SERVER, vendor, label, auth, given)) == expected


def test_the_environments_key_does_not_go_to_an_address_that_the_agent_names() -> None:
    agent = Agent.parse({"llm": {"vendor": "openai", "model": "m", "connectOptions": {"baseURL": "http://x.example"}}})
    assert dict(llm_spec(agent, agent.llm, Server()).credentials) == {}
    for options in ({}, {"baseURL": "https://api.openai.com/v1"}):
        agent = Agent.parse({"llm": {"vendor": "openai", "connectOptions": options}})
        assert dict(llm_spec(agent, agent.llm, Server()).credentials) == {"apiKey": "of the environment"}
    for like in ("http://api.openai.com/v1", "https://api.openai.com.evil.example/v1", "https://x@api.openai.com/v1"):
        agent = Agent.parse({"llm": {"vendor": "openai", "model": "m", "connectOptions": {"baseURL": like}}})
        assert dict(llm_spec(agent, agent.llm, Server()).credentials) == {}


def test_an_address_of_the_environment_comes_with_its_key_or_not_at_all() -> None:
    assert from_environment("openai", {"OPENAI_BASE_URL": "http://x"}) == {}
    both = {"OPENAI_BASE_URL": "http://x", "OPENAI_API_KEY": "k"}
    assert from_environment("openai", both) == {"baseURL": "http://x", "apiKey": "k"}
    assert from_environment("google", {"GEMINI_API_KEY": "g"}) == {"apiKey": "g"}


def test_a_fallback_model_is_told_the_same_in_its_own_way() -> None:
    agent = Agent.parse(
        {
            "vendorParams": {"seed": 1},
            "llm": {
                "vendor": "openai",
                "model": "m",
                "connectOptions": {"url": "http://custom.example/v1", "headers": {"X-Key": "k"}},
                "llmOptions": {"maxTokens": 50, "temperature": 0.2, "vendorParams": {"top_p": 0.9}},
                "fallback": [{"vendor": "google", "model": "g", "vendorParams": {"topK": 3}}],
            },
        }
    )
    first = llm_spec(agent, agent.llm, SERVER)
    assert first.options == {"maxTokens": 50, "temperature": 0.2, "vendorParams": {"seed": 1, "top_p": 0.9}}
    assert first.connect == {"baseURL": "http://custom.example/v1", "headers": {"X-Key": "k"}}
    second = llm_spec(agent, agent.llm.fallback[0].model_of(agent.llm), SERVER)
    assert (second.vendor, second.model) == ("google", "g")
    assert second.options == {"maxTokens": 50, "temperature": 0.2, "vendorParams": {"topK": 3}}
    assert second.connect == {"headers": {}}


def test_recogniser_and_voice_are_asked_for_what_the_verb_says() -> None:
    agent = Agent.parse(
        {
            "stt": {
                "vendor": "deepgram",
                "model": "nova-3",
                "language": "de-DE",
                "altLanguages": ["en-US"],
                "hints": ["Aurora"],
                "deepgramOptions": {"smartFormatting": True},
            },
            "tts": {"vendor": "cartesia", "voice": "v", "model": "sonic-3", "options": {"speed": 1.1}},
            "turnDetection": "krisp",
            "vocabulary": ["good morning"],
        }
    )
    stt = stt_spec(agent, agent.stt, SERVER, 8000)
    assert (stt.model, stt.language, stt.languages, stt.rate) == ("nova-3", "de-DE", ("en-US",), 8000)
    assert (stt.hints, stt.options, stt.ends_turns) == (("Aurora", "good morning"), {"smartFormatting": True}, False)
    tts = tts_spec(agent.tts, SERVER, 24000)
    assert (tts.voice, tts.model, tts.options, tts.rate) == ("v", "sonic-3", {"speed": 1.1}, 24000)


@pytest.mark.parametrize(
    ("vendor", "protocol", "message"),
    [
        ("openai", "openai", {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}),
        ("anthropic", "anthropic", {"role": "user", "content": [{"type": "image", "source": {}}, {"text": "Look."}]}),
        ("google", "google", {"role": "model", "parts": [{"text": "Look."}, {"inlineData": {}}]}),
        ("aws", "bedrock", {"role": "assistant", "content": [{"text": "Look."}, {"image": {}}]}),
    ],
)
def test_a_message_in_the_vendors_own_form_reaches_it_as_it_is(
    vendor: str, protocol: str, message: dict[str, Any]
) -> None:
    agent = Agent.parse({"llm": {"vendor": vendor, "llmOptions": {"messages": [message]}}})
    (made,) = history(agent).messages
    assert made.native is not None and made.native.protocol == protocol
    assert {**made.native.content, "role": message["role"]} == message
    assert made.role == {"model": "assistant"}.get(message["role"], message["role"])
    assert made.content == ("" if vendor == "openai" else "Look.")


def test_a_message_of_text_parts_is_plain_text_to_every_vendor() -> None:
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    said = {"messages": [{"role": "developer", "content": parts}, {"role": "user", "content": parts}]}
    agent = Agent.parse({"llm": {"vendor": "anthropic", "llmOptions": said}})
    assert agent.llm.llm_options.system_prompt == "Be brief."
    assert [(each.content, each.native) for each in history(agent).messages] == [("Be brief.", None)]


class Ready:
    """Counts how often it was told to get ready, and fails if it is told to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.times = 0
        self.fails = fails

    def ready(self) -> None:
        self.times += 1
        if self.fails:
            raise ValueError("no")


def test_a_vendor_that_cannot_get_ready_does_not_keep_the_others_from_it() -> None:
    made = [Ready(fails=True), Ready()]
    Vendors([], [], [], lambda language: None, Health(), made=list(made)).ready()
    assert [each.times for each in made] == [1, 1]
