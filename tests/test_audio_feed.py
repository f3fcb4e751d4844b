"""The buffer between the socket's plain call and the recogniser's task."""

import asyncio
from collections.abc import Awaitable, Callable

from providers.audio_feed import AudioFeed, Mark
from tests.virtual_time import run


def reading(count: int, feed: AudioFeed) -> Awaitable[list[bytes | Mark]]:
    async def read() -> list[bytes | Mark]:
        return [await anext(feed) for _ in range(count)]

    return read()


def in_a_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    run(main())


def test_audio_that_has_gathered_comes_in_one_piece_and_marks_keep_their_place() -> None:
    async def test() -> None:
        feed = AudioFeed(8000)
        feed.push(b"aa")
        feed.push(b"bb")
        feed.mark(Mark.SPEECH_STARTED)
        feed.push(b"cc")
        assert await reading(3, feed) == [b"aabb", Mark.SPEECH_STARTED, b"cc"]

    in_a_loop(test)


def test_a_reader_that_waits_is_woken_and_the_end_ends_it() -> None:
    async def test() -> None:
        feed = AudioFeed(8000)
        reader = asyncio.ensure_future(reading(1, feed))
        await asyncio.sleep(0)
        feed.push(b"aa")
        assert await reader == [b"aa"]
        feed.close()
        assert [item async for item in feed] == []

    in_a_loop(test)


def test_a_slow_reader_loses_the_oldest_audio_and_no_mark() -> None:
    async def test() -> None:
        feed = AudioFeed(rate=1, seconds=2)  # 4 bytes
        feed.push(b"aa")
        feed.mark(Mark.SPEECH_STARTED)
        feed.push(b"bb")
        feed.push(b"cc")
        assert feed.dropped == 2
        assert await reading(2, feed) == [Mark.SPEECH_STARTED, b"bbcc"]

    in_a_loop(test)


def test_a_new_reader_hears_the_last_seconds_again() -> None:
    async def test() -> None:
        feed = AudioFeed(rate=1, replay=2)  # 4 bytes
        for piece in (b"aa", b"bb"):
            feed.push(piece)
            await reading(1, feed)
        feed.mark(Mark.SPEECH_STOPPED)
        feed.push(b"cc")
        await reading(2, feed)
        feed.push(b"dd")
        feed.rewind()
        assert await reading(3, feed) == [b"bb", Mark.SPEECH_STOPPED, b"ccdd"]

    in_a_loop(test)
