"""The console's JavaScript by itself, in Node.js: what it makes of a call's log, of sound, of a stream of events."""

import json
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from config.verb import Agent
from tests import virtual_time
from tests.whole_call import House, agent, say

TESTS = sorted((Path(__file__).parent / "console").glob("*.test.mjs"))
LOOK = {"tools": [{"name": "calculator", "arguments": {"expression": "6*7"}}], "text": "Let me see. "}
LONG = "It is a long answer that goes on and on. It has a second sentence, too. And a third one."


def a_log() -> list[dict[str, object]]:
    """Of a call with a greeting, a tool, a cough, an interruption and answers that were thought ahead."""
    finals = [
        [{"after": 0.0, "partial": said}, {"after": 0.6, "final": said}] if said else ""
        for said in ("what is six times seven", "tell me more", "", "stop it")
    ]
    verb: dict[str, Any] = agent(
        finals,
        ["Hello.", LOOK, "It is 42.", LONG, "All right."],
        llm={"first": 0.02},
        greeting=True,
        tools=["calculator"],
        earlyGeneration=True,
    ).given()
    verb["llm"]["llmOptions"] = {"systemPrompt": "Be brief."}
    house = House(Agent.parse(verb))

    async def main() -> None:
        async with house.call() as call:
            await call.until(lambda: len(house.entries("turn_end")) == 1)
            await house.turn(call)
            await house.speaking(call, 0.6)
            await say(call, 0.3)
            await call.until(lambda: house.entries("resume"))
            await call.play(0.6)
            await say(call, 1.0)
            await call.until(lambda: len(house.entries("turn_end")) == 4)
            call.hang_up()

    virtual_time.run(main())
    return house.logs[0].entries


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files where Node.js takes them for what they are, and the log."""
    folder = tmp_path_factory.mktemp("console")
    for path in resources.files("agentd.console").joinpath("page").iterdir():
        if path.name.endswith(".js"):
            text = path.read_text().replace('from "/console/', 'from "./')
            (folder / path.name).write_text(text)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in a_log()))
    return folder


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.name).removesuffix(".test.mjs"))
def test_the_consoles_modules(file: Path, page: Path) -> None:
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI"):
            pytest.fail("expected Node.js, got none")
        pytest.skip("needs Node.js")
    env = {**os.environ, "PAGE": str(page), "LOG": str(page / "log.jsonl")}
    ran = subprocess.run([node, "--test", str(file)], env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "# fail 0" in ran.stdout and "# pass 0" not in ran.stdout
