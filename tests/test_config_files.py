"""From files to a configuration: what is found where, and what wins."""

from pathlib import Path

import pytest

from config.document import parse
from config.files import load
from config.problems import ConfigError

LOCAL = "stt: {vendor: local}\nllm: {vendor: demo}\ntts: {vendor: local}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents").mkdir()
    return tmp_path


def test_agents_are_found_beside_the_servers_file_wherever_that_is(folder: Path) -> None:
    Path("agents/here.yaml").write_text(LOCAL)
    (folder / "etc" / "people").mkdir(parents=True)
    (folder / "etc" / "agentd.yaml").write_text("agents: people\n")
    (folder / "etc" / "people" / "there.json").write_text(
        '{"stt": {"vendor": "local"}, "llm": {"vendor": "demo"}, "tts": {"vendor": "local"}}'
    )
    assert set(load(env={}).agents) == {"demo", "here"}
    assert set(load(folder / "etc" / "agentd.yaml", env={}).agents) == {"demo", "there"}


def test_other_files_in_the_folder_are_left_alone() -> None:
    for name in ("notes.md", ".hidden.yaml", "a.yaml~"):
        Path("agents", name).write_text("nonsense: [")
    assert set(load(env={}).agents) == {"demo"}


def test_a_file_named_demo_replaces_the_built_in_agent() -> None:
    Path("agents/demo.yaml").write_text(LOCAL + "greeting: Mine.\n")
    assert load(env={}).agents["demo"].greeting.text == "Mine."


def test_the_servers_defaults_fill_what_an_agents_file_leaves_out() -> None:
    Path("agentd.yaml").write_text(
        "defaults:\n"
        "  stt: {vendor: deepgram, language: en-US, auth: {apiKey: k}}\n"
        "  llm: {vendor: openai, model: m, llmOptions: {temperature: 0.1, maxTokens: 50}}\n"
        "  tts: {vendor: cartesia, voice: v}\n"
        "  summarizeTurns: 5\n"
    )
    Path("agents/a.yaml").write_text(
        "stt: {language: de}\nllm: {llmOptions: {temperature: 0.7}}\ntts: {vendor: rime}\n"
    )
    agent = load(env={}).agents["a"]
    assert agent.stt.given() == {"vendor": "deepgram", "language": "de", "auth": {"apiKey": "k"}}
    assert agent.llm.given() == {"vendor": "openai", "model": "m", "llmOptions": {"temperature": 0.7, "maxTokens": 50}}
    assert agent.tts.given() == {"vendor": "rime"}
    assert agent.summarize_turns == 8


def test_summaries_are_set_by_agent_then_server_then_jambonz_own_variable() -> None:
    Path("agents/a.yaml").write_text(LOCAL + "summarizeTurns: 0\n")
    Path("agents/b.yaml").write_text(LOCAL)
    agents = load(env={"JAMBONES_PIPELINE_SUMMARIZE_TURNS": "12"}).agents
    assert (agents["a"].summarize_turns, agents["b"].summarize_turns) == (0, 12)


def test_a_bad_value_of_that_variable_is_named() -> None:
    Path("agents/b.yaml").write_text(LOCAL)
    with pytest.raises(ConfigError) as caught:
        load(env={"JAMBONES_PIPELINE_SUMMARIZE_TURNS": "often"})
    expected = "environment: JAMBONES_PIPELINE_SUMMARIZE_TURNS: expected a whole number ≥ 0, got 'often'"
    assert str(caught.value) == expected


def test_variables_are_filled_in_wherever_a_value_stands() -> None:
    text = (
        "a: ${KEY}\n"
        "b: {flow: ${KEY}, url: 'https://${HOST:-localhost}:${PORT:-80}/'}\n"
        "c: [${KEY:-x}, ${EMPTY:-d}, ${EMPTY}]\n"
        "d: >-\n  a $${KEY} stays\n"
        "# e: ${NOT_SET}\n"
    )
    document = parse(text, {"KEY": "k: [", "HOST": "h", "EMPTY": ""})
    assert document.faults == []
    assert document.data == {
        "a": "k: [",  # text, whatever it looks like
        "b": {"flow": "k: [", "url": "https://h:80/"},
        "c": ["k: [", "d", ""],
        "d": "a ${KEY} stays",
    }


def test_plain_words_are_read_as_yaml_1_2_reads_them() -> None:
    text = "[no, on, yes, 12:30, 2024-01-01, 0x1f, 1_000, ~, true, 1e3, -2, .5, null]"
    assert parse(text, {}).data == [
        "no", "on", "yes", "12:30", "2024-01-01", "0x1f", "1_000", None, True, 1000.0, -2, 0.5, None
    ]  # fmt: skip


def test_json_keeps_its_tabs_escapes_and_pairs() -> None:
    text = '{\n\t"a": "\\ud83d\\ude00 \\/ \\t",\n\t"b":[1,{"c":true}]\n}'
    document = parse(text, {}, is_json=True)
    assert document.data == {"a": "😀 / \t", "b": [1, {"c": True}]}
    assert document.lines[("b", 1, "c")] == 3
