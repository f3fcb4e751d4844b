"""The commands as someone types them: what they print, and the code they exit with."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.command import code_of


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_verb_prints_a_listen_verb_with_both_rates(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("verb", "demo") == 0
    assert json.loads(capsys.readouterr().out) == {
        "verb": "listen",
        "url": "wss://YOUR-AGENTD-HOST/listen/demo",
        "sampleRate": 8000,
        "mixType": "mono",
        "passDtmf": True,
        "bidirectionalAudio": {"enabled": True, "streaming": True, "sampleRate": 8000},
    }


def test_verb_tells_the_playback_rate_in_the_url_when_it_differs(capsys: pytest.CaptureFixture[str]) -> None:
    code_of("verb", "demo", "--sample-rate", "16000")
    verb = json.loads(capsys.readouterr().out)
    assert verb["url"] == "wss://YOUR-AGENTD-HOST/listen/demo?playback_rate=8000"
    assert (verb["sampleRate"], verb["bidirectionalAudio"]["sampleRate"]) == (16000, 8000)


def test_verb_takes_the_public_url_of_the_configuration(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty_folder / "agentd.yaml").write_text("server: {public_url: wss://voice.example.com}\n")
    code_of("verb", "demo")
    assert json.loads(capsys.readouterr().out)["url"] == "wss://voice.example.com/listen/demo"


def test_an_unknown_agent_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("verb", "nobody") == 1
    assert capsys.readouterr().err == "agentd: expected an agent of demo; got 'nobody'\n"


def test_check_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("check") == 0
    assert capsys.readouterr().out == "1 agent: demo. The configuration is sound.\n"


def test_check_names_every_mistake_by_file_and_line_and_exits_with_2(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agents = empty_folder / "agents"
    agents.mkdir()
    (agents / "desk.yaml").write_text(
        "stt: {vendor: locall}\nllm: {vendor: demo}\ntts: {vendor: local}\nbargein: {}\nnoResponseTimeout: soon\n"
        "tools: [calculater]\n"
    )
    assert code_of("check") == 2
    assert capsys.readouterr().err == (
        "agents/desk.yaml:4: bargein: unknown key; did you mean bargeIn?\n"
        "agents/desk.yaml:5: noResponseTimeout: expected a number of seconds ≥ 0, got 'soon'\n"
    )
    (agents / "desk.yaml").write_text(
        "stt: {vendor: locall}\nllm: {vendor: demo}\ntts: {vendor: local}\ntools: [calculater]\n"
    )
    assert code_of("check") == 2
    assert capsys.readouterr().err == (
        "agents/desk.yaml:1: stt.vendor: expected the name of a vendor for stt, got 'locall'; did you mean local?\n"
        "agents/desk.yaml:4: tools[0]: expected the name of a pre-built tool, got 'calculater'; did you mean"
        " calculator?\n"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "handoff: {mode: blind, target: [{type: phone, number: '+15085551234'}]}",
            "handoff: transfer_to_human is not offered: expected jambonz: {url, api_key} in agentd.yaml, got none",
        ),
        (
            "llm: {vendor: demo, llmOptions: {tools: [{name: look_up}]}}",
            "llmOptions.tools are not offered: expected a toolHook to answer them, got none",
        ),
        (
            "tools: [web_search]",
            "tools: web_search is not offered: expected credentials.tavily.apiKey (often ${TAVILY_API_KEY}), got none",
        ),
    ],
)
def test_tools_that_nobody_could_run_are_said(
    empty_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    said: str,
) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    (empty_folder / "agents").mkdir()
    vendors = {"stt": "{vendor: local}", "llm": "{vendor: demo}", "tts": "{vendor: local}"}
    lines = [f"{role}: {vendor}" for role, vendor in vendors.items() if not more.startswith(role)]
    (empty_folder / "agents" / "desk.yaml").write_text("\n".join([*lines, more, ""]))
    assert code_of("check") == 2
    assert capsys.readouterr().err == f"agentd: agent desk: {said}\n"


def test_a_model_for_the_demo_is_a_url_and_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("demo", "--llm", "llama3.2") == 1
    assert capsys.readouterr().err == (
        "agentd: expected --llm as URL#MODEL, such as http://127.0.0.1:11434/v1#llama3.2; got 'llama3.2'\n"
    )


def test_nobody_at_the_other_end_is_one_clear_line(capsys: pytest.CaptureFixture[str], empty_folder: Path) -> None:
    wav = empty_folder / "quiet.wav"
    wav.write_bytes(b"RIFF")
    assert code_of("call", "ws://127.0.0.1:1/listen/demo", "--wav", str(wav)) == 1
    assert capsys.readouterr().err.startswith(f"agentd: {wav}: expected a WAV file with PCM sound, got ")
    assert code_of("call", "ftp://here", "--say", "hello") == 1
    assert "ftp://here" in capsys.readouterr().err


@pytest.fixture
def server(empty_folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "agentd", "serve", "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=empty_folder, env=environment)
    with process:
        yield process
        process.kill()


def test_serve_answers_with_no_configuration_and_ends_cleanly_on_ctrl_c_in_the_middle_of_a_call(
    server: "subprocess.Popen[str]",
) -> None:
    assert server.stderr is not None
    listening = next(line for line in server.stderr if "listening" in line)
    port = int(listening.rsplit("port=", 1)[1])
    with connect(f"ws://127.0.0.1:{port}/listen/demo") as call:
        call.send(json.dumps({"sampleRate": 8000, "mixType": "mono", "callSid": "one"}))
        assert isinstance(call.recv(timeout=10), bytes)  # the greeting's first audio
        server.send_signal(signal.SIGINT)
        with pytest.raises(ConnectionClosedError):
            while True:  # until the server closes it
                call.recv(timeout=10)
        assert call.protocol.close_code == 1012
    rest = server.stderr.read()
    assert server.wait(timeout=20) in (0, -signal.SIGINT, 130)
    assert "Traceback" not in rest
