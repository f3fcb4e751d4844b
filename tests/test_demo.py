"""The proof proves: a real conversation over a real socket passes it, and one that does not come off is told apart."""

import asyncio
import io
import wave
from pathlib import Path

import pytest
from rich.console import Console

from agentd import demo
from agentd.cli import load_demo
from agentd.demo import Line
from config.files import Config
from config.verb import Agent


def brief(config: Config, **verb: object) -> Config:
    """The built-in agent with a short greeting."""
    given = {**config.agents["demo"].given(), "greeting": "Hello.", **verb}
    return Config(config.server, {"demo": Agent.parse(given)})


def hold(config: Config, wav: Path) -> tuple[int, str]:
    out = io.StringIO()
    with asyncio.Runner() as runner:
        code = runner.run(demo.demo(config, Console(file=out, width=200), wav))
    return code, out.getvalue()


def test_a_conversation_with_a_tool_and_a_barge_in_by_real_speech(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        Line("what is twelve times seven"),
        Line("tell me a long story"),
        Line("thank you goodbye", after=1.0),
    )
    monkeypatch.setattr(demo, "SCRIPT", script)
    code, said = hold(brief(load_demo(None)), tmp_path / "demo.wav")
    assert code == 0, said
    for line in script:
        assert f"caller {line.text}" in said
    assert "a scripted stand-in, not a language model" in said
    assert "Twelve times seven is 84." in said
    assert "(interrupted; this is what was heard)" in said
    with wave.open(str(tmp_path / "demo.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 16000, 2)
        assert file.getnframes() > 10 * 16000


def test_a_model_that_cannot_be_reached_is_no_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SCRIPT", (Line("hello"), Line("goodbye")))
    code, said = hold(load_demo("http://127.0.0.1:1/v1#none"), tmp_path / "demo.wav")
    assert code == 1
    assert "The conversation did not come off: turn 1 failed: llm-connection-lost." in said
