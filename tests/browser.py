"""A person at the console: Debian's Chromium without a window, whose microphone is a file that the test speaks into.

    async with browser(tmp_path) as person:
        page = await person.page()
        await person.say(page, speech)      # L16 mono at 16 kHz

Chromium reads the file anew whenever a microphone is opened, so whoever has something to say writes it there and
changes from one of its two pretended microphones to the other. Only where there is no Chromium is a test skipped, and
never in CI.
"""

import asyncio
import contextlib
import os
import shutil
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

CHROMIUM = ("/usr/lib/chromium/chromium", "chromium", "chromium-browser", "google-chrome")  # the first: Debian's own
RATE = 16000  # Hz
LEAD = 0.4  # seconds of silence before what is said: the beginning of the file may be lost
TAIL = 60.0  # … and behind it: the file would begin anew
AXE = ("axe-core", "4.14.1")
REFUSED = (
    "Failed to load resource: the server responded with a status of 4"  # the browser's own words; the page has others
)
PATIENCE = 45.0  # seconds for anything to be seen, on a busy machine


def chromium() -> str:
    """The program. Playwright's own build is not wanted: it is on no package registry."""
    for name in CHROMIUM:
        if (found := shutil.which(name)) is not None:
            return found
    if os.environ.get("CI"):
        pytest.fail("expected Chromium, got none")
    pytest.skip("needs Chromium: apt-get install chromium")


class Person:
    """``strange`` is what no test wants to see in any page: errors, and requests to anybody but this machine."""

    def __init__(self, browser: Browser, microphone: Path) -> None:
        self.strange: list[str] = []
        self._browser = browser
        self._microphone = microphone
        self._said = 0

    async def page(self, url: str, **options: Any) -> Page:
        """A page of its own, with nothing of the others' in it."""
        context: BrowserContext = await self._browser.new_context(
            **{"viewport": {"width": 1600, "height": 1000}} | options
        )
        page = await context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: self.strange.append(f"error: {error}"))
        page.on("console", lambda said: self._logged(said.type, said.text))
        page.on("request", lambda asked: self._asked(asked.url))
        await page.goto(url)
        return page

    def _logged(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith(REFUSED):
            self.strange.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "blob:http://127.0.0.1:")):
            self.strange.append(f"asked elsewhere: {url}")

    async def plug_in(self, page: Page) -> None:
        """Without the browser's own processing, which takes a synthetic voice for noise."""
        await page.locator("summary", has_text="Microphone").click()
        await page.locator("#processing").uncheck()

    async def say(self, page: Page, speech: bytes) -> None:
        """Into the microphone of a call that is under way."""
        write(self._microphone, speech)
        names = await page.eval_on_selector_all("#microphone option", "all => all.map(each => each.value)")
        devices = [name for name in names if name not in ("", "none", "default")]
        self._said += 1
        await page.select_option("#microphone", devices[self._said % len(devices)])

    async def accessibility(self, page: Page) -> list[str]:
        """What axe-core finds wrong in the page as it is now."""
        from tests.node import node_modules

        script = await asyncio.to_thread((node_modules(*AXE) / "axe-core" / "axe.min.js").read_text)
        await page.evaluate(script)  # by the debugger: the page's own policy lets no script in
        found = await page.evaluate("async () => (await axe.run()).violations")
        return [f"{each['id']}: {[node['html'][:120] for node in each['nodes'][:3]]}" for each in found]


def write(path: Path, speech: bytes) -> None:
    """In one step: Chromium may be about to read."""
    beside = path.with_suffix(".new")
    with wave.open(str(beside), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(bytes(int(LEAD * RATE) * 2) + speech + bytes(int(TAIL * RATE) * 2))
    beside.replace(path)


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Person]:
    program, microphone = chromium(), folder / "microphone.wav"
    write(microphone, b"")
    arguments = [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        "--use-fake-ui-for-media-stream",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # the network is cut off but for the server
    ]
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield (person := Person(started, microphone))
        finally:
            await started.close()
        assert person.strange == []
