"""Noise isolation engines: RNNoise as it is, Krisp's SDK as a stand-in, and what keeps a broken one harmless."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from providers.acoustic import krisp as krisp_sdk
from providers.base import ProviderError
from providers.noise import choose, krisp, rnnoise
from providers.noise.base import Guarded, Isolation, NoiseSpec
from providers.noise.inplace import InPlace
from providers.noise.rnnoise import RnNoise
from providers.registry import Shared

Samples = npt.NDArray[np.float64]

needs_rnnoise = pytest.mark.skipif(rnnoise.find_library() is None, reason=f"no RNNoise here: {rnnoise.INSTALL}")


def speech(rate: int, seconds: float = 4.0) -> Samples:
    """A falling voice with three formants, in syllables, and 0.4 s of silence at the end of each second."""
    time = np.arange(int(rate * seconds)) / rate
    phase = 2 * np.pi * np.cumsum(150 - 40 * (time % 1)) / rate
    sound = np.zeros(len(time))
    for harmonic in range(1, 28):
        formants = ((550, 90, 1.0), (1400, 120, 0.6), (2500, 200, 0.3))
        loudness = sum(loud / (1 + ((harmonic * 130 - at) / width) ** 2) for at, width, loud in formants)
        sound += loudness * np.cos(harmonic * phase)
    syllables = np.sqrt(np.clip(np.sin(2 * np.pi * 5 * time), 0, 1)) * (time % 1 < 0.6)
    return np.asarray(sound * syllables * 2000)


def noise(rate: int, level: float, seconds: float = 4.0) -> Samples:
    """White; ``level`` is its RMS."""
    return np.random.default_rng(3).normal(0, level, int(rate * seconds))


def l16(samples: Samples) -> bytes:
    return bytes(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())


def through(engine: Isolation, samples: Samples, rate: int) -> Samples:
    pcm, size = l16(samples), rate // 50 * 2
    frames = [engine.process(pcm[at : at + size]) for at in range(0, len(pcm), size)]
    assert all(len(frame) == size for frame in frames)
    return np.frombuffer(b"".join(frames), "<i2").astype(float)


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def lag(sent: Samples, heard: Samples) -> int:
    """By how many samples ``heard`` is late."""
    size = 2 * len(sent)
    return int(np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sent, size)), size)[: len(sent)].argmax())


class Late:
    """Changes nothing, and is late by ``delay`` samples."""

    name = "late"

    def __init__(self, delay: int, level: float = 100) -> None:
        self.delay = delay
        self.level = level
        self.frames = 0
        self.closed = False
        self._held = bytes(delay * 2)

    def process(self, frame: bytes) -> bytes:
        self.frames += 1
        held = self._held + frame
        self._held = held[len(frame) :]
        return held[: len(frame)]

    def close(self) -> None:
        self.closed = True


class Breaks(Late):
    """Does as ``how`` says with the frame ``at``, and so with every later one."""

    def __init__(self, how: Callable[[bytes], Any], at: int = 1, delay: int = 0) -> None:
        super().__init__(delay)
        self._how, self._at = how, at

    def process(self, frame: bytes) -> bytes:
        clean = super().process(frame)
        return clean if self.frames < self._at else self._how(clean)


def raises(frame: bytes) -> bytes:
    raise OSError("the model is gone")


# RNNoise ----------------------------------------------------------------------------------------------------


@needs_rnnoise
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 32000, 48000])
def test_its_delay_is_what_it_says(rate: int) -> None:
    engine = RnNoise(rate)
    said = speech(rate)
    assert lag(said, through(engine, said, rate)) == engine.delay
    assert engine.delay == {8000: 208, 16000: 368, 24000: 528, 32000: 688, 48000: 960}[rate]


@needs_rnnoise
@pytest.mark.parametrize("rate", [8000, 16000])
def test_steady_noise_is_gone_from_the_pauses_and_speech_stays(rate: int) -> None:
    said = speech(rate)
    speaks = (np.arange(len(said)) / rate) % 1 < 0.6
    noisy = said + noise(rate, rms(said[speaks]) / 10**0.5)  # 10 dB
    engine = RnNoise(rate)
    heard = through(engine, noisy, rate)[engine.delay :]
    said, noisy, speaks = said[: len(heard)], noisy[: len(heard)], speaks[: len(heard)]
    settled = np.arange(len(heard)) > rate  # in its first second it learns the noise
    pauses = ~speaks & settled
    assert rms(heard[pauses]) < rms(noisy[pauses]) / 10  # 20 dB; it is 27
    assert rms(heard[speaks & settled]) > 0.9 * rms(said[speaks & settled])
    before, after = (rms((each - said)[settled]) for each in (noisy, heard))
    assert after < before / 2


@needs_rnnoise
@pytest.mark.parametrize("rate", [8000, 48000])
def test_level_0_is_what_came_in_and_as_late_as_the_rest(rate: int) -> None:
    engine = RnNoise(rate, level=0)
    noisy = np.rint(noise(rate, 3000, 0.5))
    heard = through(engine, noisy, rate)
    assert (heard[engine.delay :] == noisy[: -engine.delay]).all() and not heard[: engine.delay].any()


@needs_rnnoise
def test_a_level_between_is_a_mix_in_step() -> None:
    said = speech(16000) + noise(16000, 300)
    dry, wet, half = (through(RnNoise(16000, level), said, 16000) for level in (0, 100, 50))
    assert np.abs(half - (dry + wet) / 2).max() <= 1
    assert rms(half) > 0.95 * (rms(dry) + rms(wet)) / 2  # out of step they would cancel out at some pitches


@needs_rnnoise
def test_the_level_may_change_in_mid_call() -> None:
    engine, said = RnNoise(8000), np.rint(noise(8000, 3000, 1.0))
    through(engine, said[:4000], 8000)
    engine.level = 0
    assert (through(engine, said[4000:], 8000) == said[4000 - engine.delay : -engine.delay]).all()


@needs_rnnoise
def test_calls_do_not_hear_each_other() -> None:
    alone = through(RnNoise(8000), speech(8000, 1.0), 8000)
    one, other = RnNoise(8000), RnNoise(8000)
    pcm, heard = l16(speech(8000, 1.0)), b""
    for at in range(0, len(pcm), 320):
        heard += one.process(pcm[at : at + 320])
        other.process(l16(noise(8000, 5000, 0.02)))
    assert heard == l16(alone)


@needs_rnnoise
def test_after_its_end_it_refuses_instead_of_crashing() -> None:
    engine = RnNoise(8000)
    engine.close()
    engine.close()
    with pytest.raises(ProviderError, match="expected frames before close"):
        engine.process(bytes(320))


@needs_rnnoise
def test_the_package_around_the_library_is_not_imported() -> None:
    RnNoise(8000).process(bytes(320))
    assert "pyrnnoise" not in sys.modules


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rnnoise, "find_spec", lambda name: None)
    with pytest.raises(ProviderError) as error:
        choose.make(NoiseSpec("rnnoise"), Shared(), 8000)
    assert (error.value.vendor, error.value.code) == ("rnnoise", "noise-engine-missing")
    assert error.value.message == (
        "expected the library of pyrnnoise, got none; install it with: pip install 'agentd[noise]'"
    )


def test_a_library_that_is_none_is_an_error_and_not_a_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for file in ("librnnoise.so", *rnnoise.FILES.values()):
        (tmp_path / file).write_text("no library")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(rnnoise, "find_spec", lambda name: spec)
    with pytest.raises(ProviderError) as error:
        choose.make(NoiseSpec("rnnoise"), Shared(), 8000)
    assert error.value.code == "noise-engine-failed"


# A broken engine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (raises, "OSError: the model is gone"),
        (lambda frame: frame[:-2], "expected 320 bytes, got 318"),
        (lambda frame: b"", "expected 320 bytes, got 0"),
        (lambda frame: None, "TypeError: object of type 'NoneType' has no len()"),
    ],
)
def test_with_a_broken_engine_audio_passes_through_and_it_is_said_once(
    how: Callable[[bytes], bytes], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Guarded(Breaks(how, at=3))
    frames = [bytes([number]) * 320 for number in range(6)]
    assert [engine.process(frame) for frame in frames] == frames
    assert not engine.works
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "noise isolation has failed, audio passes through",
    )
    assert (record.__dict__["engine"], record.__dict__["why"]) == ("late", why)


def test_an_engine_that_cannot_close_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    engine = Late(0)
    engine.close = lambda: raises(b"")  # type: ignore[assignment, method-assign]
    Guarded(engine).close()
    assert [record.getMessage() for record in caplog.records] == ["noise isolation did not close"]


# In place ---------------------------------------------------------------------------------------------------


def counted(samples: int) -> bytes:
    return np.arange(1, samples + 1).astype("<i2").tobytes()


@pytest.mark.parametrize("delay", [0, 1, 160, 208, 500])
@pytest.mark.parametrize("given", [2, 318, 320, 642, 20000])
@pytest.mark.parametrize("taken", [2, 640, 100000])
def test_every_sample_comes_out_once_in_its_place(delay: int, given: int, taken: int) -> None:
    stream = InPlace(Guarded(Late(delay)), 8000)
    for length in (1, 160, 3000):  # three replies through one engine
        pcm, out = counted(length), b""
        stream.restart()
        for at in range(0, len(pcm), given):
            stream.push(pcm[at : at + given])
            out += stream.take(taken)
        assert len(out) + stream.waiting == len(pcm)
        stream.end()
        while stream.waiting:
            out += (piece := stream.take(taken))
            assert piece
        assert out == pcm


def test_nothing_of_a_reply_that_was_dropped_is_in_the_next_one() -> None:
    stream = InPlace(Guarded(Late(208)), 8000)
    stream.push(counted(2000))
    stream.take(800)
    stream.restart()
    stream.push(bytes(3200))
    stream.end()
    assert stream.take(10000) == bytes(3200)


def test_the_engine_works_only_for_what_is_taken() -> None:
    engine = Late(208)
    stream = InPlace(Guarded(engine), 8000)
    stream.push(bytes(16000 * 20))
    assert engine.frames == 0
    stream.take(320)
    assert engine.frames == 3  # 160 samples, 208 late


@pytest.mark.parametrize("at", [1, 2, 5])
def test_what_a_broken_engine_owes_comes_as_it_was(at: int) -> None:
    stream = InPlace(Guarded(Breaks(raises, at=at, delay=208)), 8000)
    pcm, out = counted(3000), b""
    for start in range(0, len(pcm), 1000):
        stream.push(pcm[start : start + 1000])
        out += stream.take(700)
    stream.end()
    assert out + stream.take(len(pcm)) == pcm


def test_what_is_left_can_be_had_without_the_engine() -> None:
    stream = InPlace(Guarded(Late(208)), 8000)
    stream.push(counted(3000))
    assert stream.take(640) + stream.rest() == counted(3000)
    assert stream.waiting == 0


# The others -------------------------------------------------------------------------------------------------


def test_a_mode_without_a_public_engine_says_which_have_one() -> None:
    with pytest.raises(ProviderError) as error:
        choose.make(NoiseSpec("kugelaudio"), Shared(), 8000)
    assert str(error.value) == "kugelaudio: expected rnnoise or krisp: there is no public engine of this mode"
    assert error.value.code == "noise-engine-missing" and not error.value.retryable


class FakeSdk(SimpleNamespace):
    """``krisp_audio`` as its users call it; ``process`` is what its session does with a frame."""

    def __init__(self, process: Callable[..., Any], key: str = "key") -> None:
        self.created: list[Any] = []

        def init(folder: str, given: str, licence: object, logger: object, level: object) -> None:
            if given != key:
                raise RuntimeError(f"bad key {given}")

        def create(config: Any) -> Any:
            rates = (config.inputSampleRate, config.outputSampleRate)
            self.created.append((*rates, config.inputFrameDuration, config.modelInfo.path))
            return SimpleNamespace(process=process)

        super().__init__(
            globalInit=init,
            LogLevel=SimpleNamespace(Off=0),
            NcSessionConfig=SimpleNamespace,
            ModelInfo=SimpleNamespace,
            SamplingRate=SimpleNamespace(Sr8000Hz="8k", Sr16000Hz="16k"),
            FrameDuration=SimpleNamespace(Fd20ms="20ms"),
            NcInt16=SimpleNamespace(create=create),
        )


@pytest.fixture
def kef(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(krisp.MODEL_VARIABLE, raising=False)
    monkeypatch.delenv(krisp_sdk.KEY_VARIABLE, raising=False)
    for name in ("krisp-viva-pro.kef", "krisp-viva-tel.kef"):
        (tmp_path / name).touch()
    return str(tmp_path / "krisp-viva-pro.kef")


def test_krisp_gets_frames_that_it_may_write_to_and_the_level(kef: str, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[Any] = []

    def process(samples: Any, level: float) -> Any:
        assert samples.flags.writeable and samples.dtype == np.int16
        levels.append(level)
        return samples // 2

    sdk = FakeSdk(process)
    monkeypatch.setitem(sys.modules, "krisp_audio", sdk)
    engine = choose.make(NoiseSpec("krisp", level=80, krisp_model=kef, krisp_key="key"), Shared(), 16000)
    assert engine.process(np.full(320, 1000, "<i2").tobytes()) == np.full(320, 500, "<i2").tobytes()
    assert sdk.created == [("16k", "16k", "20ms", kef)]
    assert levels == [80.0] and isinstance(levels[0], float)
    engine.close()


def test_krisps_sdk_of_old_takes_a_whole_number(kef: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def process(samples: Any, level: float) -> Any:
        if not isinstance(level, int):
            raise TypeError("incompatible function arguments")
        return samples - level

    monkeypatch.setitem(sys.modules, "krisp_audio", FakeSdk(process))
    engine = choose.make(NoiseSpec("krisp", level=80, krisp_model=kef, krisp_key="key"), Shared(), 8000)
    assert engine.process(bytes(320)) == np.full(160, -80, "<i2").tobytes()


def test_krisps_model_is_named_by_path_or_beside_the_configured_one(
    kef: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beside = tmp_path / "krisp-viva-tel.kef"
    assert krisp.find_model(NoiseSpec("krisp", krisp_model=kef)) == Path(kef)
    assert krisp.find_model(NoiseSpec("krisp", krisp_model=kef, model="krisp-viva-tel")) == beside
    assert krisp.find_model(NoiseSpec("krisp", model=str(beside))) == beside
    monkeypatch.setenv(krisp.MODEL_VARIABLE, kef)
    assert krisp.find_model(NoiseSpec("krisp")) == Path(kef)


def test_krisp_says_what_it_lacks(kef: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(spec: NoiseSpec) -> tuple[str, str]:
        with pytest.raises(ProviderError) as error:
            choose.make(spec, Shared(), 8000)
        return error.value.code, error.value.message

    code, message = refusal(NoiseSpec("krisp"))
    assert code == "noise-engine-missing" and "KRISP_VIVA_FILTER_MODEL_PATH" in message
    code, message = refusal(NoiseSpec("krisp", krisp_model="/nowhere.kef"))
    assert (code, message) == ("noise-engine-missing", "expected Krisp's model in /nowhere.kef, got no such file")
    monkeypatch.setitem(sys.modules, "krisp_audio", None)
    code, message = refusal(NoiseSpec("krisp", krisp_model=kef))
    assert code == "noise-engine-missing" and message.startswith("expected Krisp's SDK (krisp_audio) to be installed")
    monkeypatch.setitem(sys.modules, "krisp_audio", FakeSdk(lambda *frame: frame[0]))
    code, message = refusal(NoiseSpec("krisp", krisp_model=kef, krisp_key="k-3f9-secret"))
    assert code == "noise-licence-refused" and "k-3f9-secret" not in message
    code, message = refusal(NoiseSpec("krisp", krisp_model=kef, krisp_key="key", model="other"))
    assert code == "noise-engine-missing"


def test_krisps_sdk_starts_once_for_the_end_of_turn_and_for_noise(kef: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = FakeSdk(lambda *frame: frame[0])
    started: list[object] = []
    sdk.globalInit = lambda *args: started.append(args[1])
    monkeypatch.setitem(sys.modules, "krisp_audio", sdk)
    shared = Shared()
    shared.get(krisp_sdk.NAME, lambda: krisp_sdk.Krisp("key"))
    choose.make(NoiseSpec("krisp", krisp_model=kef, krisp_key="key"), shared, 8000)
    assert started == ["key"]
