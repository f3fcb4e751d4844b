"""The console as a person uses it: in a browser, with a microphone, against the server as it is started.

In real time, with speech that is synthesized, recognised and played; so they run by themselves, when nothing else does.
"""

import asyncio
import contextlib
import io
import json
import re
import sys
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.async_api import FilePayload, Page, expect

from agentd.access import CONSOLE_KEY
from agentd.call.ear import level_dbfs
from agentd.caller import Voice
from config.verb import Agent
from providers.registry import Shared
from providers.standin import STORY as TALE
from tests.browser import PATIENCE, RATE, browser
from tests.processes import Serving, serving
from tests.whole_call import agent

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parent.parent / "build" / "console"  # for people to look at
KEY = "the key that a terminal showed"
ASKED, STORY, STOP = "what is two plus two", "tell me a long story", "stop please"
expect.set_options(timeout=PATIENCE * 1000)


@contextlib.asynccontextmanager
async def as_started(folder: Path) -> AsyncIterator[str]:
    """`agentd serve` in an empty folder, as a newcomer starts it; the address of its page."""
    command = [sys.executable, "-m", "agentd", "serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stderr=asyncio.subprocess.PIPE)
    server = Serving(process)
    try:
        await server.told("agentd.server: listening")
        yield server.url("/", "http")
    finally:
        await server.close()


async def speech(*texts: str) -> list[bytes]:
    shared = Shared()
    try:
        voice = Voice(shared, RATE)
        return [await voice.speech(text) for text in texts]
    finally:
        await shared.aclose()


async def picture(page: Page, name: str, width: int) -> None:
    """Of the whole page at a width. Nothing of it needs scrolling sideways but the timeline, which is made for it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.set_viewport_size({"width": width, "height": 1000})
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.screenshot(path=PICTURES / f"{name}-{width}.png", full_page=True)


async def figures(turn: Any) -> tuple[dict[str, int], dict[str, Any]]:
    """A turn's waterfall as it is shown, and its payload as it is shown."""
    rows = await turn.locator(".waterfall tr").evaluate_all(
        "rows => rows.map(row => [row.dataset.part, Number(row.dataset.ms), row.lastElementChild.textContent])"
    )
    assert all(text == f"{ms} ms" for _, ms, text in rows)
    await turn.locator("summary").click()
    await turn.get_by_role("tab", name="Payload").click()
    payload: dict[str, Any] = json.loads(await turn.get_by_role("tabpanel").inner_text())
    return {part: ms for part, ms, _ in rows}, payload


async def adds_up(turn: Any) -> None:
    """Every figure is the one in `turn_end`, and the parts make up the total."""
    shown, payload = await figures(turn)
    told = {name: ms for name, ms in payload["latency"].items() if name.endswith("_ms")}
    assert shown == told
    total = shown.pop("total_ms")
    assert sum(shown.values()) == total > 0


async def download(page: Page, button: str) -> bytes:
    async with page.expect_download() as started:
        await page.get_by_role("button", name=button, exact=True).click()
    path = await (await started.value).path()
    return await asyncio.to_thread(path.read_bytes)


# Talking to the demo -------------------------------------------------------------------------------------


def test_a_person_talks_to_the_demo_and_sees_each_turn(tmp_path: Path) -> None:
    async def main() -> None:
        asked, story, stop = await speech(ASKED, STORY, STOP)
        async with as_started(tmp_path) as url, browser(tmp_path) as person:
            page = await person.page(url)
            turns = page.locator("#turns > li[data-turn]")
            await expect(page.locator("#stand-in")).to_be_visible()  # nobody takes the stand-in for a model
            await person.plug_in(page)
            await page.locator("#call").focus()
            await page.keyboard.press("Enter")

            # The greeting sounds, and its words are those that sounded.
            await page.wait_for_function("() => document.getElementById('agent-level').value > 0.3")
            await expect(turns).to_have_count(1)
            assert "I am a scripted stand-in" in await turns.nth(0).inner_text()
            await adds_up(turns.nth(0))

            # A question by voice is answered. A caller who was not understood says it again.
            for attempt in range(3):
                await person.say(page, asked)
                await page.wait_for_function("() => document.getElementById('agent-level').value > 0.3")
                await expect(turns).to_have_count(2 + attempt)
                if ASKED in await turns.last.inner_text():
                    break
            answered = turns.last
            assert "Two plus two is 4." in await answered.inner_text()
            await expect(answered.locator(".badge", has_text="calculator")).to_be_visible()
            await adds_up(answered)
            await answered.get_by_role("tab", name="Prompt").click()
            prompt = await answered.get_by_role("tabpanel").inner_text()
            assert "You are the demo of agentd" in prompt and ASKED in prompt
            await answered.get_by_role("tab", name="Events").click()
            assert '"type":"tool_result"' in await answered.get_by_role("tabpanel").inner_text()

            # A long answer is interrupted: it falls silent, and what was not heard is not shown as said.
            await person.say(page, story)
            await page.wait_for_function("() => document.getElementById('shown-state').textContent === 'speaking'")
            await page.wait_for_function("() => document.getElementById('agent-level').value > 0.3")
            await picture(page, "speaking", 1600)
            await person.say(page, stop)
            await page.wait_for_function("() => document.getElementById('agent-level').value < 0.05")
            cut = turns.filter(has=page.locator(".badge", has_text="interrupted"))
            await expect(cut).to_have_count(1)
            heard = await cut.locator(".said.agent").inner_text()
            assert (
                heard.removeprefix("Agent") and TALE.startswith(heard.removeprefix("Agent").strip()) and heard != TALE
            )
            await adds_up(cut)
            await expect(page.locator("li:has(.badge:text-is('interrupted')) + li[data-turn]")).to_be_visible()

            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)
                for width in (360, 1600):
                    await picture(page, f"talk-{scheme}", width)
                    assert await person.accessibility(page) == []
            await page.get_by_role("button", name="Hang up").click()
            await expect(page.locator("#shown-about")).to_contain_text("ended: disconnect from remote end")
            await expect(page.locator("#phone-state")).to_have_text("You hung up.")

            # The log from the page is the same picture again.
            log = await download(page, "Event log")
            entries = [json.loads(line) for line in log.splitlines()]
            assert (entries[0]["type"], entries[-1]["type"]) == ("call_began", "call_ended")
            said = (await download(page, "Transcript")).decode()
            assert re.search(rf"^\[\d\d:\d\d\.\d\] Caller: {ASKED}$", said, re.MULTILINE)
            shown = await turns.locator(".turn-head, .said, .waterfall").all_inner_texts()
            file: FilePayload = {"name": "a call.jsonl", "mimeType": "application/x-ndjson", "buffer": log}
            await page.set_input_files("#open-log", files=[file])
            await expect(page.locator("#shown-title")).to_have_text("a call.jsonl")
            assert await turns.locator(".turn-head, .said, .waterfall").all_inner_texts() == shown
            broken: FilePayload = {**file, "name": "broken.jsonl", "buffer": b'{"type": "state", "at": 0}\nHello\n'}
            await page.set_input_files("#open-log", files=[broken])
            await expect(page.get_by_role("alert")).to_have_text(
                "broken.jsonl is no event log: line 2: expected JSON, got something else"
            )

    asyncio.run(main())


# Other calls ---------------------------------------------------------------------------------------------


def talker(**verb: Any) -> Agent:
    return agent([], ["Good afternoon.", *[f"Answer number {number}." for number in range(20)]], greeting=True, **verb)


async def typed(page: Page, words: str) -> None:
    await page.get_by_label("Or type what you would say").fill(words)
    await page.keyboard.press("Enter")


async def talk_without_microphone(page: Page) -> None:
    await page.locator("summary", has_text="Microphone").click()
    await page.select_option("#microphone", "none")
    await page.get_by_role("button", name="Talk", exact=True).click()
    await expect(page.locator("#turns > li[data-cause=greeting]")).to_be_visible()


def test_a_call_is_watched_changed_recorded_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONSOLE_KEY, KEY)
    kept = {"path": str(tmp_path / "kept")}

    async def main() -> None:
        # Of two workers the one that answers a request may well not be the one that has the call.
        started = serving(tmp_path, talker(record=True), workers=2, recordings=kept)
        async with started as server, browser(tmp_path) as person:
            url = server.url("/", "http")

            # Somebody talks without a microphone.
            mine = await person.page(url)
            await talk_without_microphone(mine)
            await typed(mine, "Do you hear me?")
            turn = mine.locator("#turns > li[data-turn='2']")
            await expect(turn).to_contain_text("Answer number 0.")
            await expect(turn).to_contain_text("Do you hear me?")
            await adds_up(turn)
            await mine.locator("summary", has_text="Keypad").click()
            await mine.get_by_role("button", name="5", exact=True).click()
            await expect(mine.locator("#turns > li[data-turn='3']")).to_contain_text("5")

            # Whoever has no key sees where the time goes, and not a word.
            other = await person.page(url)
            await other.get_by_role("button", name="Watch: Call to demo").click()
            await expect(other.locator("#turns > li[data-turn='3']")).to_contain_text("Words are shown with a key.")
            await expect(other.locator("#turns > li[data-turn='2'] .waterfall")).to_be_visible()
            seen = await other.locator("main").inner_text()
            assert not re.search("Good afternoon|Answer|hear me|console", seen)
            await expect(other.locator("#end-call")).to_be_hidden()
            await expect(other.locator("#change")).to_be_hidden()

            # Whoever has it sees and changes everything, and the key does not stay in the address.
            third = await person.page(f"{url}#key={KEY.replace(' ', '%20')}")
            assert third.url == url
            await third.get_by_role("button", name="Watch: Call to demo from console").click()
            await expect(third.locator("#turns > li[data-turn='2']")).to_contain_text("Answer number 0.")
            await change(third)
            await expect(third.locator("#turns > li[data-turn='4']")).to_contain_text("Is anybody there?")
            await expect(mine.locator("#turns > li[data-turn='4']")).to_contain_text("Is anybody there?")
            assert await person.accessibility(third) == []
            await picture(third, "watch", 360)
            await picture(third, "watch", 1600)
            await third.get_by_role("button", name="End the call").click()
            await third.get_by_role("button", name="Yes").click()
            await expect(third.locator("#shown-about")).to_contain_text("ended: normal conversation end")
            await expect(mine.locator("#phone-state")).to_have_text("The agent hung up.")

            # What was recorded is for those who may know the call.
            with wave.open(io.BytesIO(await download(mine, "Recording"))) as file:
                assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, RATE, 2)
                caller, heard = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T
            assert level_dbfs(caller.tobytes()) < -90 < level_dbfs(heard.tobytes())
            await third.get_by_role("button", name=re.compile("Open: Call to demo")).click()
            await expect(third.locator("#turns > li[data-turn='4']")).to_contain_text("Is anybody there?")
            await expect(other.locator("#recording-list li")).to_have_count(0)

    asyncio.run(main())


async def change(page: Page) -> None:
    """Each of the four updates, and one that is refused."""
    await page.locator("summary", has_text="Change the call").click()

    async def ask(update: str, label: str, text: str, told: str | re.Pattern[str]) -> None:
        form = page.locator(f"form[data-type={update}]")
        await form.get_by_label(label).fill(text)
        await form.get_by_role("button").click()
        await expect(page.locator("#changed")).to_have_text(told)

    prompt, context = "The system prompt from now on", "What is to be known"
    empty = re.compile(re.escape("expected messages[0] to have a content, but it is empty"))
    tools = "The application's tools, as JSON"
    await ask("update_instructions", prompt, "Be brief.", "Other instructions: taken over.")
    await ask("inject_context", context, "", empty)
    await ask("inject_context", context, "The caller is a member.", "More context: taken over.")
    await ask("update_tools", tools, "[{", "Other tools: expected JSON, got something else")
    await ask("update_tools", tools, "[]", "Other tools: taken over.")
    await page.get_by_label("Now, whoever is speaking").check()
    await ask("generate_reply", "What it answers", "Is anybody there?", "Ask for a reply: taken over.")


def test_where_keys_are_named_the_page_asks_for_one_and_talks_by_it(tmp_path: Path) -> None:
    named = {"keys": [{"key": "a long key"}]}

    async def main() -> None:
        async with serving(tmp_path, talker(), access=named) as server, browser(tmp_path) as person:
            page = await person.page(server.url("/", "http"))
            alert = page.get_by_role("alert")
            await expect(alert).to_have_text("This server wants a key: one of access.keys in agentd.yaml.")
            await expect(page.get_by_role("button", name="Talk", exact=True)).to_be_disabled()
            await page.get_by_label("Key", exact=True).fill("a wrong key")
            await page.keyboard.press("Enter")
            await expect(alert).to_have_text("The server does not know this key.")
            await page.get_by_label("Key", exact=True).fill("a long key")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("button", name="Talk", exact=True)).to_be_enabled()
            await talk_without_microphone(page)
            await typed(page, "Do you hear me?")
            await expect(page.locator("#turns > li[data-turn='2']")).to_contain_text("Answer number 0.")
            assert "a long key" not in page.url + await page.content()
            async with httpx.AsyncClient(trust_env=False) as program:
                shown = await program.get(
                    server.url("/v1/calls", "http"), headers={"authorization": "Bearer a long key"}
                )
            assert [call["agent"] for call in shown.json()] == ["demo"]
            assert not any("a long key" in line for line in server.lines)

    asyncio.run(main())
