"""Fixed texts are synthesized once: what is kept, what is found again, and what a disk that fails does to a call."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.server import Server
from providers import scripted
from providers.base import Audio, ProviderError, Spoken, Tts, TtsEvent, TtsSpec, Word
from providers.tts import cached
from providers.tts.cached import CachedTts, SpeechCache, around
from providers.tts.speech_file import Damaged, decode, encode
from tests import virtual_time
from tests.whole_call import House, agent, runs, say

KEY = "canary-5f1d0c9a7b3e4d21"
GREETING = ("Good morning, ", "Hotel Aurora. ", "How can I help?")
WHOLE = len("".join(GREETING))
SPEC = TtsSpec(
    "scripted",
    voice="ada",
    options={"speed": 1},
    credentials={"apiKey": KEY, "url": f"wss://user:{KEY}@voice.example.com/v1?token={KEY}"},
)
MEGABYTE = 1_000_000


class Voice:
    """A vendor that says what it is given, or the ``events`` that it is told to, one every 0.1 s; ``None`` hangs."""

    def __init__(self, events: Sequence[TtsEvent | Exception | None] | None = None) -> None:
        self.asked = 0
        self.left = 0  # replies that were closed before they had ended
        self._events = events

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        self.asked += 1
        pieces = tuple([piece async for piece in text])
        is_whole = False
        try:
            for event in said(pieces, rate) if self._events is None else self._events:
                await asyncio.sleep(0.1)
                if isinstance(event, Exception):
                    raise event
                if event is None:
                    await asyncio.Event().wait()
                else:
                    yield event
            is_whole = True
        finally:
            self.left += not is_whole


def said(pieces: tuple[str, ...] = GREETING, rate: int = 8000) -> list[TtsEvent]:
    """What a vendor makes of them: a word, 0.35 s of sound in one go, and the end of each piece."""
    events: list[TtsEvent] = []
    end, samples = 0, int(0.35 * rate)
    for number, piece in enumerate(pieces):
        sound = scripted.counting(number * samples, (number + 1) * samples)
        end += len(piece)
        events += [Word(end, number * 0.35), Audio(sound), Spoken(end)]
    return events


async def given(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def speak(tts: Tts, *pieces: str, rate: int = 8000) -> list[TtsEvent]:
    return [event async for event in tts.speak(given(*(pieces or GREETING)), rate)]


def sound(events: list[TtsEvent]) -> bytes:
    return b"".join(event.pcm for event in events if isinstance(event, Audio))


def marks(events: list[TtsEvent]) -> list[tuple[int, TtsEvent]]:
    """Each word and end of a piece, with the number of samples before it."""
    found: list[tuple[int, TtsEvent]] = []
    samples = 0
    for event in events:
        if isinstance(event, Audio):
            samples += len(event.pcm) // 2
        else:
            found.append((samples, event))
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def run(main: Callable[[SpeechCache], Coroutine[Any, Any, None]], folder: Path, limit: int = MEGABYTE) -> None:
    async def with_cache() -> None:
        cache = SpeechCache(folder, limit)
        try:
            await main(cache)
        finally:
            await cache.aclose()

    virtual_time.run(with_cache())


async def kept(cache: SpeechCache, *pieces: str, spec: TtsSpec = SPEC, rate: int = 8000) -> Path:
    """Say it for the first time; the file that it became."""
    before = set(files(cache._folder))
    await speak(around(Voice(), spec, cache), *pieces, rate=rate)
    await cache.aclose()  # waits for what is being written
    (file,) = set(files(cache._folder)) - before
    return file


# What is found again --------------------------------------------------------------------------------------


def test_the_second_time_the_vendor_is_not_asked(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        vendor = Voice()
        first = await speak(around(vendor, SPEC, cache))
        await cache.aclose()
        now = asyncio.get_running_loop().time()
        second = await speak(around(vendor, SPEC, cache))
        assert asyncio.get_running_loop().time() == now  # and nobody waits
        assert vendor.asked == 1
        assert first == said()  # nothing is held back or changed on the first time
        assert sound(second) == sound(first)
        assert marks(second) == marks(first)
        assert max(len(event.pcm) for event in second if isinstance(event, Audio)) == 2 * 800  # 100 ms

    run(main, tmp_path)


def test_the_first_time_is_a_stream(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        loop = asyncio.get_running_loop()
        at = [loop.time() async for _ in around(Voice(), SPEC, cache).speak(given(*GREETING), 8000)]
        assert at == pytest.approx([0.1 * n for n in range(1, 10)])

    run(main, tmp_path)


def test_it_is_found_by_the_next_process(tmp_path: Path) -> None:
    async def first(cache: SpeechCache) -> None:
        await speak(around(Voice(), SPEC, cache))

    async def second(cache: SpeechCache) -> None:
        vendor = Voice()
        assert sound(await speak(around(vendor, SPEC, cache))) == sound(said())
        assert vendor.asked == 0

    run(first, tmp_path)
    run(second, tmp_path)


def test_two_caches_share_a_folder(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        other, vendor = SpeechCache(tmp_path, MEGABYTE), Voice()
        await speak(around(vendor, SPEC, cache))
        await cache.aclose()
        assert sound(await speak(around(vendor, SPEC, other))) == sound(said())
        assert vendor.asked == 1

    run(main, tmp_path)


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, vendor="other"),
        replace(SPEC, voice="bob"),
        replace(SPEC, voice=None),
        replace(SPEC, model="m"),
        replace(SPEC, language="de"),
        replace(SPEC, options={"speed": 2}),
        replace(SPEC, options={}),
        replace(SPEC, credentials={"apiKey": KEY, "url": "wss://voice.example.org/v1"}),
        replace(SPEC, credentials={"apiKey": KEY}),
    ],
    ids=["vendor", "voice", "no voice", "model", "language", "option", "no option", "address", "no address"],
)
def test_another_voice_is_another_sound(tmp_path: Path, spec: TtsSpec) -> None:
    async def main(cache: SpeechCache) -> None:
        await kept(cache)
        await kept(cache, spec=spec)
        assert len(files(tmp_path)) == 2

    run(main, tmp_path)


def test_another_text_rate_or_cut_is_another_sound(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        await kept(cache)
        await kept(cache, rate=16000)
        await kept(cache, "Good evening, ", *GREETING[1:])
        await kept(cache, "".join(GREETING))  # the vendor breathes elsewhere
        assert len(files(tmp_path)) == 4

    run(main, tmp_path)


@pytest.mark.parametrize(
    "credentials",
    [
        {"apiKey": "another", "url": "wss://voice.example.com/v1"},
        {"apiKey": KEY, "url": "wss://voice.example.com/v1/?token=another"},
    ],
)
def test_another_key_is_the_same_sound(tmp_path: Path, credentials: dict[str, str]) -> None:
    async def main(cache: SpeechCache) -> None:
        await kept(cache)
        vendor = Voice()
        await speak(around(vendor, replace(SPEC, credentials=credentials), cache))
        assert vendor.asked == 0

    run(main, tmp_path)


def test_ten_calls_at_once_say_it_all_and_it_is_written_once(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        vendor = Voice()
        voices = [around(vendor, SPEC, cache) for _ in range(10)]
        for events in await asyncio.gather(*map(speak, voices)):
            assert sound(events) == sound(said())
        await cache.aclose()
        assert len(files(tmp_path)) == 1
        asked = vendor.asked
        for events in await asyncio.gather(*map(speak, voices)):
            assert marks(events) == marks(said())
        assert vendor.asked == asked

    run(main, tmp_path)


def test_without_a_text_nobody_is_asked(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        vendor = Voice()
        assert [event async for event in around(vendor, SPEC, cache).speak(given(), 8000)] == []
        assert vendor.asked == 0

    run(main, tmp_path)


def test_some_voices_are_left_as_they_are(tmp_path: Path) -> None:
    vendor, cache = Voice(), SpeechCache(tmp_path, MEGABYTE)
    assert around(vendor, SPEC, None) is vendor
    assert around(vendor, replace(SPEC, vendor="local"), cache) is vendor
    assert around(vendor, replace(SPEC, options={"a": object()}), cache) is vendor
    assert around(vendor, replace(SPEC, credentials={"url": "ws://[half"}), cache) is vendor
    assert isinstance(around(vendor, SPEC, cache), CachedTts)


# What is not kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        [*said()[:4], ProviderError("scripted", "tts-lost")],
        said()[:-1],
        said()[:-3],
        [Spoken(WHOLE)],
        [Audio(bytes(1600)), Spoken(WHOLE)],
        [Audio(b"\1\0" * (MEGABYTE // 8)), Spoken(WHOLE)],
        [],
    ],
    ids=["failed", "end not told", "cut short", "no sound", "silence", "over a quarter of the bound", "nothing"],
)
def test_only_a_whole_reply_is_kept(tmp_path: Path, events: list[TtsEvent | Exception]) -> None:
    async def main(cache: SpeechCache) -> None:
        vendor = Voice(events)
        heard: list[TtsEvent] = []
        try:
            async for event in around(vendor, SPEC, cache).speak(given(*GREETING), 8000):
                heard.append(event)
        except ProviderError as exc:
            assert exc is events[-1]
        assert heard == [event for event in events if not isinstance(event, Exception)]
        await cache.aclose()
        assert files(tmp_path) == []

    run(main, tmp_path)


def test_a_cancelled_reply_is_not_kept_and_stops_the_vendor(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        vendor = Voice([*said()[:-1], None])
        task = asyncio.create_task(speak(around(vendor, SPEC, cache)))
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
        await cache.aclose()
        assert (vendor.left, files(tmp_path)) == (1, [])

    run(main, tmp_path)


def test_a_reply_that_nobody_hears_to_its_end_is_not_kept_and_stops_the_vendor(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        vendor = Voice()
        async with aclosing(around(vendor, SPEC, cache).speak(given(*GREETING), 8000)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Spoken):
                    break
        await cache.aclose()
        assert (vendor.left, files(tmp_path)) == (1, [])

    run(main, tmp_path)


# Files ----------------------------------------------------------------------------------------------------


def test_a_file_holds_neither_text_nor_key_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "caches" / "speech"

    async def main(cache: SpeechCache) -> None:
        file = await kept(cache)
        content = file.read_bytes()
        for secret in (KEY, "Aurora", "example", "ada"):
            assert secret.encode() not in content
        assert len(file.name) == 64 + len(".speech")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    run(main, folder)


def test_what_is_written_is_read_back() -> None:
    events = said()
    data = encode("k", 8000, events)
    assert marks(decode("k", data)) == marks(events)
    assert sound(decode("k", data)) == sound(events)
    assert encode("k", 8000, decode("k", data)) == data


def test_a_file_that_was_changed_anywhere_is_damaged() -> None:
    data = encode("k", 8000, said(("Hello.",))[:2])
    for at in range(0, len(data), 7):
        with pytest.raises(Damaged):
            decode("k", data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(Damaged):
            decode("k", data[:at])
    with pytest.raises(Damaged):
        decode("k", data + b"\0")
    with pytest.raises(Damaged):
        decode("another", data)


@pytest.mark.parametrize(
    "events",
    [[["audio", 5]], [["audio", 1, 2]], [["noise", 4]], 7, ["audio"]],
)
def test_a_file_whose_header_does_not_fit_is_damaged(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    true = json.dumps
    monkeypatch.setattr(json, "dumps", lambda header: true({**header, "events": events}))
    data = encode("k", 8000, [Audio(bytes(8))])
    with pytest.raises(Damaged):
        decode("k", data)


@pytest.mark.parametrize("content", [b"", b"RIFF of somebody else", None], ids=["empty", "foreign", "half"])
def test_a_damaged_file_is_deleted_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    async def main(cache: SpeechCache) -> None:
        file = await kept(cache)
        good = file.read_bytes()
        file.write_bytes(good[: len(good) // 2] if content is None else content)
        vendor = Voice()
        assert await speak(around(vendor, SPEC, cache)) == said()
        await cache.aclose()
        assert vendor.asked == 1
        assert file.read_bytes() == good

    run(main, tmp_path)
    assert [record.message for record in caplog.records] == ["damaged speech deleted"]


# The bound ------------------------------------------------------------------------------------------------


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in files(folder))


def age(*oldest_first: Path) -> None:
    for number, file in enumerate(oldest_first):
        os.utime(file, (1000 + number, 1000 + number))


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        texts = [("One two three.",), ("Two three four.",), ("Three four five.",), ("Four five six.",)]
        one, two, three, four = [await kept(cache, *text) for text in texts]
        age(one, two, three, four)
        await speak(around(Voice(), SPEC, cache), *texts[0])  # used: now the youngest
        five = await kept(cache, "Five six seven.")
        assert set(files(tmp_path)) == {one, three, four, five}
        six = await kept(cache, "Six seven eight.")
        assert set(files(tmp_path)) == {one, four, five, six}

    run(main, tmp_path, limit=4 * 6000)  # four of them, each 2,800 samples and a header


def test_the_bound_holds_over_restarts_and_with_other_processes(tmp_path: Path) -> None:
    limit = 30_000

    async def main(_: SpeechCache) -> None:
        for number in range(30):
            cache = SpeechCache(tmp_path, limit if number < 20 else limit - 6000)
            await speak(around(Voice(), SPEC, cache), f"Number {number}.")
            await cache.aclose()
            assert size(tmp_path) <= limit
        assert limit - 2 * 6000 < size(tmp_path) <= limit - 6000

    run(main, tmp_path, limit)


def test_other_peoples_files_are_not_counted_and_not_deleted(tmp_path: Path) -> None:
    theirs = tmp_path / "thesis.doc"
    theirs.write_bytes(bytes(50_000))
    left = tmp_path / ("0" * 64 + ".k3_x.tmp")  # a process died while it wrote
    left.write_bytes(bytes(5_000))
    age(theirs, left)

    async def main(cache: SpeechCache) -> None:
        for number in range(4):
            await speak(around(Voice(), SPEC, cache), f"Number {number}.")
            await cache.aclose()

    run(main, tmp_path, limit=24_000)
    assert theirs.exists() and not left.exists()


# A disk that fails ----------------------------------------------------------------------------------------


def _no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("a file where the folder should be")


def _read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", mkdir)


def _full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("trouble", [_no_folder, _read_only, _full])
def test_a_disk_that_fails_is_told_once_and_calls_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    folder = tmp_path / "speech"
    trouble(folder, monkeypatch)

    async def main(cache: SpeechCache) -> None:
        for _ in range(3):
            vendor = Voice()
            assert await speak(around(vendor, SPEC, cache)) == said()
            assert vendor.asked == 1
            await cache.aclose()

    run(main, folder)
    assert [record.message for record in caplog.records] == ["speech cache stores nothing more"]
    assert files(folder) == []


def test_a_read_only_folder_serves_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    async def main(cache: SpeechCache) -> None:
        await kept(cache)
        for name in ("utime", "replace"):
            monkeypatch.setattr(os, name, refuse)
        await speak(around(Voice(), SPEC, cache), "Something else.")
        await cache.aclose()
        vendor = Voice()
        assert sound(await speak(around(vendor, SPEC, cache))) == sound(said())
        assert vendor.asked == 0

    run(main, tmp_path)


def test_a_disk_that_hangs_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        cache, loop = SpeechCache(tmp_path, MEGABYTE), asyncio.get_running_loop()
        hanging: list[asyncio.Future[None]] = []

        def hang(*_: Any) -> asyncio.Future[None]:
            hanging.append(loop.create_future())
            return hanging[-1]

        await kept(cache)
        with monkeypatch.context() as patched:
            patched.setattr(loop, "run_in_executor", hang)
            assert await cache.find("k") is None
            assert loop.time() == pytest.approx(0.9 + cached.PATIENCE)
            assert await cache.find("k") is None
            assert loop.time() == pytest.approx(0.9 + cached.PATIENCE)  # the next one does not wait at all
            assert len(hanging) == 1
        hanging[0].set_result(None)  # the disk is back
        await asyncio.sleep(0)
        vendor = Voice()
        await speak(around(vendor, SPEC, cache))
        assert vendor.asked == 0

    virtual_time.run(main())
    assert [record.message for record in caplog.records] == ["speech cache is not waited for"]


def test_no_more_than_a_few_replies_wait_to_be_written(tmp_path: Path) -> None:
    async def main(cache: SpeechCache) -> None:
        for number in range(cached.PENDING + 5):
            cache.keep(f"{number:064}", 8000, said())
        await cache.aclose()
        assert len(files(tmp_path)) == cached.PENDING

    run(main, tmp_path)


# Configuration --------------------------------------------------------------------------------------------


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert Server().speech_cache.folder() == Path("/home/ada/.cache/agentd/speech")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Server().speech_cache.folder() == Path("/home/ada/.cache/agentd/speech")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert Server().speech_cache.folder() == Path("/caches/agentd/speech")
    given = Server.model_validate({"speech_cache": {"path": "~/speech", "megabytes": 5}}).speech_cache
    assert (given.enable, given.folder(), given.megabytes) == (True, Path("/home/ada/speech"), 5)


def test_it_is_on_unless_it_is_switched_off() -> None:
    assert Server().speech_cache.enable
    assert Server.model_validate({"speech_cache": True}).speech_cache == Server().speech_cache
    assert not Server.model_validate({"speech_cache": False}).speech_cache.enable


# Whole calls ----------------------------------------------------------------------------------------------


def greeted(house: House, interrupted: bool) -> list[dict[str, Any]]:
    """Two calls, one after the other; of each the end of its first turn, what was played and when."""

    async def main() -> list[dict[str, Any]]:
        found = []
        for _ in range(2):
            async with house.call() as call:
                at = await call.until(lambda: call.is_audible)
                if interrupted:
                    await call.play(1.0)
                    await say(call, 0.7)
                await call.until(lambda: house.entries("turn_end"))
                await call.play(1.0)
            # What is being written is there for the next call.
            await house.node.shared.get("speech-cache", lambda: SpeechCache(Path(), 0)).aclose()
            end = house.entries("turn_end")[0]
            played = [(run.first, run.length) for run in runs(call.media.recording)]
            found.append({**end, "latency": end["latency"]["tts_ms"], "at": at, "played": played})
        return found

    return virtual_time.run(main())


@pytest.mark.parametrize("words", [True, False], ids=["word times", "no word times"])
@pytest.mark.parametrize("interrupted", [False, True], ids=["to the end", "interrupted"])
def test_a_greeting_is_heard_twice_and_the_vendor_asked_once(tmp_path: Path, interrupted: bool, words: bool) -> None:
    text = "Good morning, this is the Hotel Aurora. How can I help you today?"
    speaker = agent(["wait"], ["Yes."], tts={"first": 0.3, "words": words}, greeting=text, noResponseTimeout=0)
    house = House(speaker, speech_cache={"path": str(tmp_path / "speech")})
    first, second = greeted(house, interrupted)
    assert "".join(house.said).count(text) == 1
    assert (first.pop("latency"), second.pop("latency")) == (300, 0)
    assert [end.pop("usage").get("tts") for end in (first, second)] == [{"scripted": {"characters": 65}}, None]
    for name in ("parts", "instants"):
        del first[name], second[name]
    assert first.pop("at") > second.pop("at")
    if interrupted:  # to a chunk of the far side's
        assert np.array(first.pop("played")) == pytest.approx(np.array(second.pop("played")), abs=640)
    assert first == second
    assert first["interrupted"] is interrupted
    assert (first["response"] == text) is not interrupted
