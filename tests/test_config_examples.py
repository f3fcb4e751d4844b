"""Every example that we ship loads, and says at its top what it shows."""

import re
from pathlib import Path

import pytest

from config.files import DEMO, Config, load, read_agent

EXAMPLES = DEMO.parent / "examples"
SERVER = EXAMPLES / "agentd.yaml"
AGENTS = sorted((EXAMPLES / "agents").iterdir())


class AnyVariable(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, name: str, default: object = None) -> str:
        return "0" if name.endswith("TURNS") else "8080" if name == "PORT" else f"value-of-{name}"


@pytest.fixture(scope="module")
def config() -> Config:
    return load(SERVER, env=AnyVariable())


@pytest.mark.parametrize("file", AGENTS, ids=lambda file: str(file.name))
def test_an_example_loads_by_itself_and_with_the_example_server(file: Path, config: Config) -> None:
    assert read_agent(file, env=AnyVariable()).given()
    agent = config.agents[file.stem]
    assert agent.llm.vendor and agent.stt.vendor and agent.tts.vendor


@pytest.mark.parametrize("file", [SERVER, DEMO, *AGENTS], ids=lambda file: str(file.name))
def test_an_example_says_what_it_shows(file: Path) -> None:
    text = file.read_text()
    assert re.match(r"# .{20,}\.", text) if file.suffix == ".yaml" else '"description"' in text


def test_the_example_server_is_read_as_it_is_written(config: Config) -> None:
    server = config.server
    assert (server.process.port, server.process.drain_seconds) == (8080, 3600)
    assert server.credential("openai", "eu")["apiKey"] == "value-of-OPENAI_EU_API_KEY"
    assert server.credential("openai")["baseURL"] == "https://api.openai.com/v1"
    assert server.credential("openai", "no such label") == {}
    assert server.credential("rime") == {}
    assert server.apps["front-desk"].url == "ws://127.0.0.1:3000/"


def test_the_demo_is_there_without_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo = load(env={}).agents["demo"]
    assert (demo.stt.vendor, demo.llm.vendor, demo.tts.vendor) == ("local", "demo", "local")
    assert demo.greeting.enable and demo.hangup is not None and demo.tools == ["datetime", "calculator"]
    assert "tell me a story" in demo.vocabulary and "goodbye" in demo.vocabulary


def test_a_json_file_and_the_older_name_mean_the_same_as_the_plain_form(config: Config) -> None:
    assert config.agents["wrapped"].turn_detection.mode == "krisp"
    assert config.agents["pipeline"].llm.llm_options.system_prompt == "Be helpful."


def test_another_vendor_than_the_default_inherits_neither_model_nor_voice(config: Config) -> None:
    speechmatics = config.agents["speechmatics-rime"]
    assert (speechmatics.llm.vendor, speechmatics.llm.model) == ("google", "gemini-2.5-flash-lite")
    assert config.agents["basic"].llm.model == "gpt-4.1-mini"
    assert config.agents["keyless"].llm.model is None
