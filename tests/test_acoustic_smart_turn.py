"""What Smart Turn is shown, how its thread is shared, and what the model itself says where it is at hand."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from providers.acoustic.base import Floats, Recent
from providers.acoustic.features import doubled, log_mel
from providers.acoustic.smart_turn import SmartTurnEngine, find_model, is_installed, make
from providers.acoustic.worker import Worker
from providers.base import ProviderError
from providers.registry import Shared
from tests import virtual_time

MODEL = find_model()
needs_model = pytest.mark.skipif(MODEL is None or not is_installed(), reason="needs onnxruntime and pipecat-ai's model")

# Of chirp() at 16 kHz, by pipecat-ai 1.14.0's compute_whisper_log_mel_features: bands 2, 8, … 26, frames 520, 610, …
REFERENCE = [
    [1.5999, 0.4568, 0.0845, 0.2973],
    [0.5049, 0.7311, 0.9592, 1.6397],
    [-0.1903, -0.1714, -0.1799, 0.5784],
    [0.1939, -0.1903, -0.1903, 0.0458],
    [1.5623, -0.1903, -0.1903, -0.1903],
]


def chirp(rate: int) -> Floats:
    """Three seconds of two rising tones."""
    t = np.arange(3 * rate) / rate
    low = np.sin(2 * np.pi * (150 + 40 * t) * t) * np.sin(2 * np.pi * 1.5 * t)
    return np.asarray(0.3 * low + 0.1 * np.sin(2 * np.pi * (900 + 300 * t) * t), np.float32)


def frames(samples: Floats, rate: int) -> list[bytes]:
    pcm, size = (samples * 32767).astype("<i2").tobytes(), rate // 50 * 2
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


# What it is shown -----------------------------------------------------------------------------------------


def test_the_features_are_whispers() -> None:
    features = log_mel(chirp(16000), 16000)
    assert features.shape == (80, 800) and features.dtype == np.float32
    assert features[2:32:6, 520:800:90] == pytest.approx(np.array(REFERENCE), abs=1e-4)


def test_what_is_missing_of_eight_seconds_is_silence_before_it() -> None:
    features = log_mel(chirp(16000), 16000)
    assert np.ptp(features[:, :498]) < 0.01 < np.ptp(features[:, 502:])
    assert np.isfinite(log_mel(np.zeros(0, np.float32), 16000)).all()


def test_of_more_than_eight_seconds_the_last_count() -> None:
    long = np.concatenate([chirp(16000)] * 4)
    assert (log_mel(long, 16000) == log_mel(long[-128000:], 16000)).all()


def test_a_call_at_8_khz_looks_like_one_at_16() -> None:
    wide, narrow = log_mel(chirp(16000), 16000), log_mel(chirp(8000), 8000)
    assert np.abs(wide - narrow)[:60].mean() < 0.001


def test_upsampling_keeps_a_tone_of_3_khz() -> None:
    tone = np.sin(2 * np.pi * 3000 * np.arange(1600) / 16000).astype(np.float32)
    assert np.abs(doubled(tone[::2]) - tone)[100:-100].max() < 0.001


def test_the_ring_remembers_the_last_of_what_was_heard() -> None:
    recent = Recent(8000, seconds=0.05)  # 400 samples: the third frame goes around the end
    for value in (1, 2, 3):
        recent.hear(np.full(160, value, "<i2").tobytes())
    assert (recent.samples() * 32768).tolist() == [1] * 80 + [2] * 160 + [3] * 160
    assert (recent.samples(0.01) * 32768).tolist() == [3] * 80
    recent.reset()
    assert recent.samples().tolist() == []
    recent.hear(np.full(160, 4, "<i2").tobytes())
    assert (recent.samples() * 32768).tolist() == [4] * 160


# Its thread -----------------------------------------------------------------------------------------------


class Held:
    """Jobs for a worker whose first one waits until it is told to go on; ``ran`` tells the order."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.ran: list[float] = []

    def first(self) -> float:
        self.go_on.wait(10)
        return self.job(0.0)

    def job(self, value: float) -> float:
        self.ran.append(value)
        return value


async def asked(worker: Worker, call: str, held: Held, value: float) -> "asyncio.Task[float]":
    """A question that has arrived at the worker; 0.0 is the one that waits to be told."""
    job = held.first if value == 0.0 else lambda: held.job(value)
    task = asyncio.ensure_future(worker.ask(call, job))
    await asyncio.sleep(0)
    return task


def test_a_newer_question_of_a_call_takes_the_place_of_the_one_that_waits() -> None:
    async def main() -> None:
        worker, held = Worker("test"), Held()
        first = await asked(worker, "a", held, 0.0)
        old = await asked(worker, "b", held, 0.1)
        other = await asked(worker, "c", held, 0.2)
        new = await asked(worker, "b", held, 0.3)
        held.go_on.set()
        assert [await task for task in (first, old, other, new)] == [0.0, 0.3, 0.2, 0.3]
        assert held.ran == [0.0, 0.3, 0.2]
        await worker.aclose()

    virtual_time.run(main())


def test_a_full_queue_says_so_at_once() -> None:
    async def main() -> None:
        worker, held = Worker("test", limit=1), Held()
        first, second = await asked(worker, "a", held, 0.0), await asked(worker, "b", held, 0.1)
        with pytest.raises(ProviderError) as caught:
            await worker.ask("c", lambda: 0.2)
        assert (caught.value.code, caught.value.retryable) == ("eot-model-busy", True)
        held.go_on.set()
        assert [await first, await second] == [0.0, 0.1]
        await worker.aclose()

    virtual_time.run(main())


def test_a_question_that_is_given_up_is_not_asked() -> None:
    async def main() -> None:
        worker, held = Worker("test"), Held()
        first = await asked(worker, "a", held, 0.0)
        given_up, kept = await asked(worker, "b", held, 0.1), await asked(worker, "c", held, 0.2)
        given_up.cancel()
        first.cancel()  # it runs already: its answer is dropped
        await asyncio.wait([first, given_up])
        held.go_on.set()
        assert await kept == 0.2
        assert held.ran == [0.0, 0.2] and first.cancelled()
        await worker.aclose()

    virtual_time.run(main())


def test_a_job_that_fails_fails_its_asker_and_no_other() -> None:
    async def main() -> None:
        worker = Worker("test")

        def fail() -> float:
            raise ProviderError("test", "eot-model-failed")

        with pytest.raises(ProviderError, match="eot-model-failed"):
            await worker.ask("a", fail)
        assert await worker.ask("a", lambda: 0.5) == 0.5
        await worker.aclose()

    virtual_time.run(main())


def test_whoever_waits_when_the_server_ends_is_told() -> None:
    async def main() -> None:
        worker, held = Worker("test"), Held()
        first, second = await asked(worker, "a", held, 0.0), await asked(worker, "b", held, 0.1)
        await worker.aclose()
        with pytest.raises(ProviderError, match="the server ends"):
            await second
        held.go_on.set()
        assert await first == 0.0

    virtual_time.run(main())


# The model ------------------------------------------------------------------------------------------------


def test_a_model_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"expected the model in .*no-such\.onnx, got no such file") as caught:
        find_model(str(tmp_path / "no-such.onnx"))
    assert caught.value.code == "eot-model-missing"


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.acoustic.smart_turn.is_installed", lambda: False)
    with pytest.raises(ProviderError, match=r"pip install 'agentd\[acoustic\]'") as caught:
        make(tmp_path / "model.onnx", Shared(), 16000)
    assert caught.value.code == "eot-model-missing"


@pytest.mark.skipif(not is_installed(), reason="needs onnxruntime")
def test_a_file_that_is_no_model_is_an_error_of_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_text("not a model")

    async def main() -> None:
        shared = Shared()
        try:
            with pytest.raises(ProviderError, match="expected a Smart Turn v3 model") as caught:
                await make(file, shared, 16000).judge()
            assert caught.value.code == "eot-model-failed"
        finally:
            await shared.aclose()

    virtual_time.run(main())


@needs_model
def test_the_model_judges_and_all_calls_share_it() -> None:
    async def main() -> tuple[float, ...]:
        shared = Shared()
        assert MODEL is not None
        wide, narrow = make(MODEL, shared, 16000), make(MODEL, shared, 8000)
        assert wide._model is narrow._model
        await shared.warm()
        for rate, engine in ((16000, wide), (8000, narrow)):
            for frame in frames(np.concatenate([chirp(rate), np.zeros(rate // 5, np.float32)]), rate):
                engine.hear(frame)
        judged = await asyncio.gather(wide.judge(), narrow.judge())
        wide.reset()
        silence = await wide.judge()
        await shared.aclose()
        return (*judged, silence)

    wide, narrow, silence = virtual_time.run(main())
    assert 0 <= narrow <= 1 and 0 <= wide <= 1
    assert silence == pytest.approx(0.987, abs=0.02)  # pipecat's own class gives the same


def test_an_engine_shows_the_model_what_it_heard() -> None:
    shown: list[tuple[int, int]] = []

    class Fake:
        worker = Worker("test")

        def probability(self, samples: Floats, rate: int) -> float:
            shown.append((len(samples), rate))
            return 0.75

    async def main() -> None:
        engine = SmartTurnEngine(Fake(), 8000)  # type: ignore[arg-type]
        for _ in range(25):
            engine.hear(bytes(320))
        assert await engine.judge() == 0.75
        engine.reset()
        engine.hear(bytes(320))
        assert await engine.judge() == 0.75
        await Fake.worker.aclose()

    virtual_time.run(main())
    assert shown == [(4000, 8000), (160, 8000)]
