"""The media side of jambonz, quirk by quirk, and the fake jambonz that is built on it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from agentd.jambonz.media import MediaSide, Tick
from tests import virtual_time
from tests.jambonz import Closed, FakeJambonz, Lifespan, Refused, dial, metadata, quiet, voice

IDLE = Tick(bytes(320), True)


def sound(samples: int, value: int = 1000) -> bytes:
    return value.to_bytes(2, "little", signed=True) * samples


def mark(name: str) -> str:
    return json.dumps({"type": "mark", "data": {"name": name}})


KILL = '{"type": "killAudio"}'


def ticks(media: MediaSide, count: int) -> list[str]:
    """Let the clock tick and return the marks that came back, e.g. ``a playout``."""
    messages = [json.loads(text) for _ in range(count) for text in media.tick().messages]
    assert all(message["type"] == "mark" for message in messages)
    return [f"{message['data']['name']} {message['data']['event']}" for message in messages]


def warm() -> MediaSide:
    """A call whose first threshold is spent and whose buffers are empty."""
    media = MediaSide()
    media.receive_binary(sound(1280))
    ticks(media, 8)
    assert (media.played, media.stuck, media.ahead) == (1280, 0, 0)
    return media


# The pre-buffer.


def test_the_first_audio_waits_for_160_ms_later_audio_for_80_ms() -> None:
    media = MediaSide()
    media.receive_binary(sound(1279))
    assert (media.tick(), media.stuck) == (IDLE, 1279)
    media.receive_binary(sound(1))
    assert media.tick() == Tick(sound(160), False)
    ticks(media, 7)
    media.receive_binary(sound(639))
    assert (media.tick(), media.stuck) == (IDLE, 639)
    media.receive_binary(sound(1))
    assert media.tick() == Tick(sound(160), False)


@pytest.mark.parametrize(("rate", "k"), [(8000, 1), (16000, 2), (24000, 3), (48000, 6)])
def test_the_thresholds_grow_with_the_rate_that_agentd_sends(rate: int, k: int) -> None:
    media = MediaSide(audio_rate=rate)
    media.receive_binary(sound(1280 * k - 1))
    assert media.ahead == 0
    media.receive_binary(sound(1))
    assert media.ahead == 1280


def test_a_channel_faster_than_the_audio_keeps_the_plain_thresholds() -> None:
    media = MediaSide(channel_rate=16000, audio_rate=8000)
    media.receive_binary(sound(1280))
    assert media.ahead == 2560


@pytest.mark.parametrize("tail", [500, 600])
def test_a_tail_below_80_ms_is_never_heard_until_more_comes(tail: int) -> None:
    media = warm()
    media.receive_binary(sound(tail))
    assert [media.tick() for _ in range(500)] == [IDLE] * 500
    assert media.stuck == tail
    media.receive_binary(quiet(0.08))
    ticks(media, 20)
    assert (media.stuck, media.played) == (0, 1280 + tail + 640)


def test_a_first_word_below_160_ms_is_stuck_as_well() -> None:
    media = MediaSide()
    media.receive_binary(sound(1200))
    assert [media.tick() for _ in range(500)] == [IDLE] * 500
    assert media.stuck == 1200


def test_audio_may_come_as_fast_as_it_likes_and_is_played_20_ms_a_tick() -> None:
    media = MediaSide(record=True)
    media.receive_binary(sound(8000 * 60))
    assert (media.ahead, media.max_ahead) == (480_000, 480_000)
    ticks(media, 50 * 60)
    assert (media.ahead, media.played, bytes(media.recording)) == (0, 480_000, sound(480_000))
    assert media.tick() == IDLE


def test_an_odd_byte_is_kept_for_the_next_message() -> None:
    media = MediaSide(record=True)
    pcm = voice(0.16)
    for piece in (pcm[:1], pcm[1:4], pcm[4:999], pcm[999:]):
        media.receive_binary(piece)
    ticks(media, 8)
    assert bytes(media.recording) == pcm


# killAudio.


def test_kill_audio_works_at_the_next_tick() -> None:
    media = warm()
    media.receive_binary(sound(1600))
    media.receive_text(KILL)
    assert media.ahead == 1600
    assert media.tick() == IDLE
    assert (media.ahead, media.wiped, media.kills) == (0, 1600, [8])


def test_kill_audio_leaves_the_pre_buffer() -> None:
    media = warm()
    media.receive_binary(sound(600, value=1))
    media.receive_text(KILL)
    ticks(media, 5)
    assert media.stuck == 600
    media.receive_binary(sound(40, value=2))
    assert media.tick() == Tick(sound(160, value=1), False)  # the old tail comes before the new reply


def test_audio_right_after_kill_audio_is_wiped_and_60_ms_later_it_is_not() -> None:
    media = warm()
    media.receive_binary(sound(1600))
    media.receive_text(KILL)
    media.receive_binary(sound(640))
    ticks(media, 1)
    assert (media.wiped, media.ahead) == (2240, 0)
    ticks(media, 2)
    media.receive_binary(sound(640))
    ticks(media, 4)
    assert (media.wiped, media.played) == (2240, 1280 + 640)


def test_kill_audio_answers_every_outstanding_mark_with_cleared() -> None:
    media = warm()
    media.receive_text(mark("attached"))
    media.receive_binary(sound(1600))
    media.receive_text(mark("waiting"))
    media.receive_text(KILL)
    assert ticks(media, 1) == ["attached cleared", "waiting cleared"]
    assert media.outstanding_marks == 0


def test_the_ghost_of_a_wiped_mark_swallows_the_next_one() -> None:
    media = warm()
    media.receive_text(mark("old"))
    media.receive_binary(sound(1600))
    media.receive_text(KILL)
    assert ticks(media, 1) == ["old cleared"]
    media.receive_text(mark("first"))
    media.receive_binary(sound(800))
    media.receive_text(mark("second"))
    media.receive_binary(sound(800))
    assert ticks(media, 50) == ["first playout"]  # at the place of "second"


def test_the_ghost_of_a_wiped_mark_holds_up_marks_on_the_empty_buffer() -> None:
    media = warm()
    media.receive_text(mark("old"))
    media.receive_binary(sound(1600))
    media.receive_text(KILL)
    ticks(media, 1)
    media.receive_text(mark("all heard"))
    assert ticks(media, 500) == []


# Marks.


def test_a_mark_fires_when_the_sample_after_it_is_reached() -> None:
    media = warm()
    media.receive_binary(sound(800))
    media.receive_text(mark("second sentence"))
    media.receive_binary(sound(800))
    assert ticks(media, 5) == []
    assert media.tick() == Tick(
        sound(159) + bytes(2), False, ('{"type": "mark", "data": {"name": "second sentence", "event": "playout"}}',)
    )


def test_a_mark_after_the_last_audio_fires_on_the_empty_buffer_one_a_tick() -> None:
    media = warm()
    media.receive_binary(sound(640))
    for name in "abc":
        media.receive_text(mark(name))
    assert [ticks(media, 1) for _ in range(8)] == [[], [], [], [], ["a playout"], ["b playout"], ["c playout"], []]


def test_a_mark_fires_on_the_empty_buffer_though_a_tail_is_stuck() -> None:
    media = warm()
    media.receive_binary(sound(500))
    media.receive_text(mark("all heard"))
    assert ticks(media, 1) == ["all heard playout"]
    assert media.stuck == 500


def test_a_waiting_mark_stays_behind_an_attached_one_in_the_pre_buffer() -> None:
    media = warm()
    media.receive_text(mark("attached"))
    media.receive_binary(sound(500))
    media.receive_text(mark("waiting"))
    assert ticks(media, 500) == []
    media.receive_binary(sound(640))
    assert ticks(media, 8) == ["attached playout", "waiting playout"]


def test_a_sample_of_minus_one_is_taken_for_the_mark() -> None:
    media = warm()
    media.receive_text(mark("early"))
    media.receive_binary(b"")  # attached: the true one stands before all this
    media.receive_text(mark("late"))
    media.receive_binary(sound(100) + sound(1, value=-1) + sound(699))
    media.receive_text(mark("later"))
    media.receive_binary(sound(800))
    assert ticks(media, 1) == ["early playout", "late playout", "later playout"]
    assert (media.false_marks, media.outstanding_marks) == (1, 0)


def test_without_a_mark_minus_one_is_a_sample_like_any_other() -> None:
    media = warm()
    media.receive_binary(sound(640, value=-1))
    assert media.tick() == Tick(sound(160, value=-1), False)
    assert media.false_marks == 0


def test_the_31st_mark_is_lost_without_a_word() -> None:
    media = warm()
    for number in range(10):
        media.receive_text(mark(str(number)))
    media.receive_binary(sound(640))
    for number in range(10, 31):
        media.receive_text(mark(str(number)))
    assert (media.outstanding_marks, media.dropped_marks) == (30, 1)
    assert ticks(media, 500) == [f"{number} playout" for number in range(30)]


def test_clear_marks_forgets_in_silence_and_leaves_ghosts() -> None:
    media = warm()
    media.receive_text(mark("forgotten"))
    media.receive_text('{"type": "clearMarks"}')
    media.receive_text(mark("swallowed"))
    media.receive_binary(sound(640))
    assert ticks(media, 500) == []


def test_resampling_destroys_the_marks_in_the_audio() -> None:
    media = MediaSide(audio_rate=24000)
    media.receive_text(mark("destroyed"))
    media.receive_binary(sound(24000))
    media.receive_text(mark("held up"))
    assert ticks(media, 500) == []
    media.receive_text(KILL)
    assert ticks(media, 1) == ["destroyed cleared", "held up cleared"]


def test_with_resampling_a_mark_after_the_last_audio_still_fires() -> None:
    media = MediaSide(audio_rate=24000)
    media.receive_binary(sound(24000))
    media.receive_text(mark("all heard"))
    assert ticks(media, 50) == []
    assert ticks(media, 1) == ["all heard playout"]


# The rest.


@pytest.mark.parametrize(("rate", "channel"), [(24000, 8000), (8000, 16000), (24000, 16000), (16000, 48000)])
def test_resampling_keeps_the_length_however_the_audio_is_cut(rate: int, channel: int) -> None:
    whole, cut = (MediaSide(channel, rate, record=True) for _ in range(2))
    pcm = voice(2.0, rate)
    whole.receive_binary(pcm)
    for start in range(0, len(pcm), 6400):
        cut.receive_binary(pcm[start : start + 6400])
    for media in (whole, cut):
        ticks(media, 100)
        assert (media.played, media.stuck, media.ahead) == (2 * channel, 0, 0)
    assert whole.recording == cut.recording


def test_what_has_no_effect_is_counted_by_its_type() -> None:
    media = warm()
    for text in (
        '{"type": "playAudio", "data": {}}',
        '{"type": "mark"}',
        '{"type": "hello"}',
        "[]",
        "{",
        "x" * 700_000,
    ):
        media.receive_text(text)
    assert media.ignored == {"playAudio": 1, "mark": 1, "hello": 1, "not an object": 1, "not JSON": 1, "too long": 1}
    media.receive_text('{"type": "disconnect"}')
    assert media.is_disconnected


@settings(deadline=None)  # no wall clock in tests
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=3000),
            st.integers(0, 2000).map(lambda samples: sound(samples, value=-1)),
            st.sampled_from([mark("m"), KILL, '{"type": "clearMarks"}', None]),
        ),
        max_size=60,
    )
)
@example([mark("m"), sound(1280), KILL, None, mark("n"), sound(640), None, None])
@example([mark("m"), sound(1280, value=-1), None, mark("n"), KILL, sound(640, value=-1), None, None])
def test_no_sample_is_lost_from_the_books(steps: list[bytes | str | None]) -> None:
    media = MediaSide()
    for step in steps:
        if isinstance(step, bytes):
            media.receive_binary(step)
        elif isinstance(step, str):
            media.receive_text(step)
        else:
            assert len(media.tick().pcm) == 320
        books = media.stuck + media.ahead + media.played + media.wiped + media.false_marks
        assert media.received == books
        assert media.outstanding_marks <= 30


# The fake jambonz.


async def echo(websocket: WebSocket) -> None:
    """Say what was heard; answer digits: 1 close, 2 disconnect, 3 fail."""
    agent = websocket.path_params["agent"]
    if agent == "full":
        await websocket.send_denial_response(PlainTextResponse("no room", status_code=503))
        return
    if agent == "closed":
        await websocket.close()
        return
    await websocket.accept(subprotocol=websocket.scope["subprotocols"][0])
    try:
        first = await websocket.receive_json()
        await websocket.send_json({"type": "hello", "data": first})
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                await websocket.send_bytes(message["bytes"])
                continue
            match json.loads(message["text"]):
                case {"dtmf": "1"}:
                    await websocket.close(4001, "enough")
                case {"dtmf": "2"}:
                    await websocket.send_json({"type": "disconnect"})
                case {"dtmf": "3"}:
                    raise LookupError("a bug in the server")
                case {"dtmf": "4"}:
                    await websocket.send_json({"type": "mark", "data": {"name": "four"}})
    except WebSocketDisconnect:
        return


app = Starlette(routes=[WebSocketRoute("/listen/{agent}", echo)])


def test_an_echo_is_heard_one_pre_buffer_later() -> None:
    async def main() -> None:
        async with FakeJambonz(app, metadata={"agent": 'the "demo"', "llm": {"model": "m"}}) as call:
            assert call.subprotocol == "audio.drachtio.org"
            call.say(voice(1.0))
            assert await call.until(lambda: call.is_audible) == 0.18  # 8 frames, then the tick after them
            await call.until(lambda: not call.is_audible)
            assert call.heard() == [(0.18, 1.18)]
            call.dtmf("4")
            await call.until(lambda: call.received("mark"))
            call.hang_up()
        first = metadata(agent='the "demo"', llm={"model": "m"})
        assert first["agent"] == 'the \\"demo\\"'
        assert [(event.kind, event.detail) for event in call.timeline] == [
            ("sent", first),
            ("received", {"type": "hello", "data": first}),
            ("audible", None),
            ("silent", None),
            ("sent", {"event": "dtmf", "dtmf": "4", "duration": "1600"}),
            ("received", {"type": "mark", "data": {"name": "four"}}),
            ("closed", Closed("jambonz", 1000, "")),
        ]

    virtual_time.run(main())


def test_an_hour_on_the_telephone() -> None:
    async def main() -> tuple[float, int]:
        async with FakeJambonz(app, record=False, frames_per_message=5) as call:
            await call.play(600)
            return call.now, call.media.ticks

    assert virtual_time.run(main()) == (600.0, 30_000)


@pytest.mark.parametrize(
    ("digit", "closed"),
    [("1", Closed("agentd", 4001, "enough")), ("2", Closed("jambonz", 1000, ""))],
)
def test_the_server_ends_the_call(digit: str, closed: Closed) -> None:
    async def main() -> Closed | None:
        async with FakeJambonz(app) as call:
            call.dtmf(digit)
            await call.until(lambda: call.closed)
        return call.closed

    assert virtual_time.run(main()) == closed


def test_a_dropped_call_reaches_the_server_as_1006() -> None:
    codes: list[int] = []

    async def note(websocket: WebSocket) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            pass
        codes.append(message["code"])

    async def main() -> None:
        async with FakeJambonz(Starlette(routes=[WebSocketRoute("/listen/demo", note)])) as call:
            await call.play(1)
            call.drop()
            assert call.closed == Closed("jambonz", 1006, "")

    virtual_time.run(main())
    assert codes == [1006]


@pytest.mark.parametrize(("agent", "status", "body"), [("full", 503, b"no room"), ("closed", 403, b"")])
def test_a_refusal_has_its_status(agent: str, status: int, body: bytes) -> None:
    async def main() -> None:
        async with FakeJambonz(app, agent=agent):
            pass

    with pytest.raises(Refused) as refused:
        virtual_time.run(main())
    assert (refused.value.status, refused.value.body) == (status, body)


def test_a_bug_in_the_server_fails_the_test_with_its_own_exception() -> None:
    async def main() -> None:
        async with FakeJambonz(app) as call:
            call.dtmf("3")
            await call.until(lambda: False)

    with pytest.raises(LookupError, match="a bug in the server"):
        virtual_time.run(main())


def test_a_wait_in_vain_ends_with_the_timeline() -> None:
    async def main() -> None:
        async with FakeJambonz(app) as call:
            await call.until(lambda: call.is_audible, within=3)

    with pytest.raises(AssertionError, match=r"at 3\.0 s: waited 3 s for it\nEvent\(at=0\.0, kind='sent'"):
        virtual_time.run(main())


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [320] * 6),
        ({"sample_rate": 16000}, [640] * 6),
        ({"mix_type": "stereo"}, [640] * 6),
        ({"mix_type": "mixed"}, [320] * 6),
        ({"frames_per_message": 3}, [960, 960]),
        ({"odd_bytes": True}, [319, 321, 319, 321, 319, 321]),
    ],
)
def test_frames_come_in_all_shapes(options: dict[str, Any], sizes: list[int]) -> None:
    async def main() -> None:
        got: list[bytes] = []

        async def listen(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.receive_text()
            async for data in websocket.iter_bytes():
                got.append(data)

        listener = Starlette(routes=[WebSocketRoute("/listen/demo", listen)])
        async with FakeJambonz(listener, **options) as call:
            rate = options.get("sample_rate", 8000)
            call.say(voice(0.12, rate))
            await call.until(lambda: len(got) >= len(sizes))
            assert [len(data) for data in got[: len(sizes)]] == sizes
            if options.get("mix_type") != "stereo":
                assert b"".join(got)[: sum(sizes)] == voice(0.12, rate)

    virtual_time.run(main())


def test_a_paused_listen_sends_nothing_and_loses_what_is_said() -> None:
    got: list[bytes] = []

    async def listen(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        async for data in websocket.iter_bytes():
            got.append(data)

    async def main() -> None:
        async with FakeJambonz(Starlette(routes=[WebSocketRoute("/listen/demo", listen)])) as call:
            call.say(voice(1.0))
            await call.play(0.5)
            call.pause()
            await call.play(1.0)
            call.resume()
            await call.play(0.5)

    virtual_time.run(main())
    assert b"".join(got) == voice(0.5) + quiet(0.5)


def test_the_application_starts_and_stops() -> None:
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        seen.append("started")
        yield
        seen.append("stopped")

    async def main() -> None:
        async with Lifespan(Starlette(lifespan=lifespan)):
            assert seen == ["started"]

    virtual_time.run(main())
    assert seen == ["started", "stopped"]


def test_the_same_call_over_a_real_socket() -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, ws="websockets-sansio", log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/listen"
        try:
            async with dial(f"{url}/demo") as call:
                assert call.subprotocol == "audio.drachtio.org"
                await call.until(lambda: call.received("hello"))
                call.say(voice(0.2))
                await call.until(lambda: call.is_audible)
                await call.until(lambda: not call.is_audible)
                call.dtmf("1")
                await call.until(lambda: call.closed)
            assert call.closed == Closed("agentd", 4001, "enough")
            async with dial(f"{url}/demo") as call:
                call.drop()
            assert call.closed == Closed("jambonz", 1006, "")
            with pytest.raises(Refused, match="got HTTP 503: no room"):
                async with dial(f"{url}/full"):
                    pass
        finally:
            server.should_exit = True
            await serving

    asyncio.run(main())
