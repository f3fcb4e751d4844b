"""A server imports the SDKs of the vendors that its configuration names, and no other."""

import asyncio
import builtins
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentd.jambonz import beginning

SDKS = {
    "anthropic": {"anthropic"},
    "assemblyai": set[str](),
    "aws": {"boto3", "botocore"},
    "cartesia": {"cartesia"},
    "deepgram": {"deepgram"},
    "deepgramflux": {"deepgram"},
    "elevenlabs": set[str](),
    "google": {"google.genai"},
    "local": set[str](),
    "openai": {"openai"},
    "rime": set[str](),
    "speechmatics": set[str](),
}
TRACES = ("opentelemetry.sdk", "opentelemetry.exporter")  # for nobody who configures none
EVERY = {name for names in SDKS.values() for name in names}

PROGRAM = """
import asyncio, json, os, sys
from agentd import cli                        # what `agentd serve` imports
from agentd.jambonz.listen import Node
from agentd.server import Server, warm
from config.files import Config
from config.server import Server as ServerConfig
from config.verb import Agent

async def main():
    agent = Agent.parse(json.loads(sys.argv[1]))
    node = Node(Config(ServerConfig.model_validate({"speech_cache": False}), {"demo": agent}))
    await warm(node)
    await node.shared.aclose()

asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""


def imported(stt: str, llm: str, tts: str) -> set[str]:
    auth = {"apiKey": "k", "region": "eu-west-1"}
    agent = {
        "stt": {"vendor": stt, "auth": auth},
        "llm": {"vendor": llm, "model": "us.amazon.nova-lite-v1:0", "auth": auth},
        "tts": {"vendor": tts, "auth": auth},
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(agent)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "not ready" not in done.stderr, done.stderr
    return {name for name in json.loads(done.stdout.splitlines()[-1]) if name in EVERY or name.startswith(TRACES)}


@pytest.mark.parametrize(
    ("stt", "llm", "tts"),
    [
        ("deepgram", "openai", "cartesia"),
        ("deepgramflux", "anthropic", "elevenlabs"),
        ("assemblyai", "google", "rime"),
        ("speechmatics", "aws", "deepgram"),
    ],
)
def test_only_the_sdks_of_the_configured_vendors_are_imported(stt: str, llm: str, tts: str) -> None:
    assert imported(stt, llm, tts) == SDKS[stt] | SDKS[llm] | SDKS[tts]


def test_a_call_waits_for_tools_that_another_one_is_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halfway, go_on = threading.Event(), threading.Event()
    (tmp_path / "half_imported.py").write_text(
        "from builtins import halfway, go_on\nhalfway.set()\ngo_on.wait(10)\nMcpTools = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "halfway", halfway, raising=False)
    monkeypatch.setattr(builtins, "go_on", go_on, raising=False)
    monkeypatch.setattr(beginning, "MCP", "half_imported")

    async def main() -> None:
        first = asyncio.create_task(beginning.import_mcp())
        await asyncio.to_thread(halfway.wait, 10)
        second = asyncio.create_task(beginning.import_mcp())
        await asyncio.sleep(0)
        assert not second.done()
        go_on.set()
        await asyncio.gather(first, second)

    asyncio.run(main())
    assert sys.modules.pop("half_imported").McpTools == 1
