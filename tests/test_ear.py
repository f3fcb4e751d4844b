"""What the caller's audio means."""

import numpy as np
import pytest

from agentd.call.audio import Framer
from agentd.call.ear import Ear, level_dbfs, webrtc_detector
from providers.audio_feed import AudioFeed, Mark
from tests import virtual_time
from tests.jambonz import quiet, voice
from tests.whole_call import loud
from turn.events import Event, SpeechConfirmed, SpeechStarted, SpeechStopped
from turn.speech import Segmenter


def test_a_burst_tells_the_same_as_a_steady_stream() -> None:
    pcm = quiet(0.1) + voice(0.6) + quiet(0.5)

    def told(size: int) -> list[Event]:
        events: list[Event] = []
        ear = Ear(Framer(8000), loud, Segmenter(), AudioFeed(8000), events.append)
        for at in range(0, len(pcm), size):
            ear.hear(pcm[at : at + size])
        assert ear.frames == 60
        return events

    assert told(320) == [SpeechStarted(spoken=0.06), SpeechConfirmed(), SpeechStopped(quiet=0.3)]
    assert told(1) == told(320) == told(len(pcm))


def test_the_recogniser_gets_all_audio_with_the_marks_in_their_places() -> None:
    async def main() -> list[bytes | Mark]:
        feed = AudioFeed(8000)
        Ear(Framer(8000), loud, Segmenter(), feed, lambda event: None).hear(quiet(0.1) + voice(0.2) + quiet(0.4))
        feed.close()
        return [item async for item in feed]

    before, started, speech, stopped, after = virtual_time.run(main())
    assert (started, stopped) == (Mark.SPEECH_STARTED, Mark.SPEECH_STOPPED)
    assert isinstance(before, bytes)
    assert isinstance(speech, bytes)
    assert isinstance(after, bytes)
    assert before + speech + after == quiet(0.1) + voice(0.2) + quiet(0.4)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_silence_and_faint_noise_are_no_voice(rate: int) -> None:
    is_voiced = webrtc_detector(rate)
    noise = np.random.default_rng(1).integers(-30, 30, rate).astype("<i2").tobytes()
    size = rate // 50 * 2
    assert not any(is_voiced(bytes(size)) or is_voiced(noise[at : at + size]) for at in range(0, len(noise), size))


def test_levels_are_those_of_full_scale() -> None:
    assert level_dbfs(bytes(320)) == -np.inf
    assert level_dbfs(np.full(160, -32768, "<i2").tobytes()) == 0
    assert level_dbfs(b"") == -np.inf
