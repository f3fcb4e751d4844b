"""Where hooks lie, and what an application may say about its agent."""

from pathlib import Path

import pytest

from config.apps import address, misplaced
from config.files import load
from config.metadata import apply_metadata, apply_verb
from config.problems import ConfigError
from config.server import App
from config.verb import Agent

APP = App(url="https://app.example.com:8443/jambonz?key=1")
AGENT = Agent.parse({"llm": {"vendor": "openai", "model": "gpt-4.1", "auth": {"apiKey": "file-key"}}})


@pytest.mark.parametrize(
    ("hook", "where"),
    [
        ("/tool-call", "https://app.example.com:8443/tool-call"),
        ("tool-call", "https://app.example.com:8443/tool-call"),
        ("//evil.example/x", "https://app.example.com:8443/evil.example/x"),
        ("/\\evil.example/x", "https://app.example.com:8443/evil.example/x"),
        ("/../../etc", "https://app.example.com:8443/etc"),
        ("https://other.example/x", "https://other.example/x"),
    ],
)
def test_a_path_stays_with_the_host_of_its_application(hook: str, where: str) -> None:
    assert address(hook, APP) == where


def test_a_path_without_an_application_lies_nowhere() -> None:
    assert address("/tool-call", None) is None


def test_an_application_that_is_not_configured_is_an_error_that_names_the_known_ones() -> None:
    agent = Agent.parse({"app": "front-dask"})
    assert [str(fault) for fault in misplaced(agent, {"front-desk": APP})] == [
        "expected a name under apps in agentd.yaml, got 'front-dask'; did you mean front-desk?"
    ]


def test_a_path_without_an_application_is_told_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agentd.yaml").write_text("defaults: {stt: {vendor: a}, llm: {vendor: b}, tts: {vendor: c}}\n")
    (tmp_path / "agents" / "desk.yaml").write_text("greeting: true\ntoolHook: /tool-call\n")
    with pytest.raises(ConfigError, match=r"desk\.yaml:2: toolHook: expected a URL, or an `app` whose path"):
        load(tmp_path / "agentd.yaml", env={})


def test_a_call_cannot_choose_another_application() -> None:
    agent, warnings = apply_metadata(AGENT, {"app": "other"})
    assert agent.app is None
    assert warnings == ["metadata: app: refused: only an agent's file names its application"]


def test_the_agent_verb_of_an_application_is_laid_over_the_file() -> None:
    verb = {"verb": "agent", "greeting": False, "llm": {"llmOptions": {"systemPrompt": "You are brief."}}}
    agent, warnings = apply_verb(AGENT, verb)
    assert (agent.greeting.enable, agent.llm.llm_options.system_prompt, agent.llm.model) == (
        False,
        "You are brief.",
        "gpt-4.1",
    )
    assert warnings == []


def test_a_text_of_an_application_is_taken_as_it_stands() -> None:
    agent, _ = apply_verb(AGENT, {"agent": {"greeting": "a backslash: \\n"}})
    assert agent.greeting.text == "a backslash: \\n"


def test_an_application_that_names_another_host_must_bring_the_key_for_it() -> None:
    verb = {"verb": "agent", "llm": {"connectOptions": {"baseURL": "https://evil.example/v1"}}}
    agent, warnings = apply_verb(AGENT, verb)
    assert agent is AGENT
    assert warnings == [
        "the application's agent verb: llm: refused: a host is named without auth of its own, and the server's"
        " credentials stay with their hosts"
    ]
