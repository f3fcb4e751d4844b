"""Which engine runs behind `turnDetection: krisp`, and what is said of it. Krisp's SDK is a stand-in here."""

import logging
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from providers.acoustic import krisp, smart_turn
from providers.acoustic.base import AcousticSpec, EndOfTurnModel
from providers.acoustic.choose import choose
from providers.base import ProviderError
from providers.registry import Shared
from tests import virtual_time

FRAME = (np.ones(160) * 16384).astype("<i2").tobytes()


class FakeSdk(SimpleNamespace):
    """``krisp_audio`` as its users call it; ``process`` is what its session does with a frame."""

    def __init__(self, process: Callable[..., float], *, key: str = "key") -> None:
        self.created: list[Any] = []

        def init(folder: str, given: str, licence: object, logger: object, level: object) -> None:
            if given != key:
                raise RuntimeError(f"bad key {given}")

        def create(config: Any) -> Any:
            self.created.append((config.inputSampleRate, config.inputFrameDuration, config.modelInfo.path))
            return SimpleNamespace(process=process)

        super().__init__(
            globalInit=init,
            LogLevel=SimpleNamespace(Off=0),
            TtSessionConfig=SimpleNamespace,
            ModelInfo=SimpleNamespace,
            SamplingRate=SimpleNamespace(Sr8000Hz="8k", Sr16000Hz="16k"),
            FrameDuration=SimpleNamespace(Fd20ms="20ms"),
            TtFloat=SimpleNamespace(create=create),
        )


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed or configured."""
    monkeypatch.setitem(sys.modules, "krisp_audio", None)
    monkeypatch.setattr(smart_turn, "is_installed", lambda: False)
    monkeypatch.setattr(smart_turn, "distribution", missing)
    monkeypatch.delenv(krisp.MODEL_VARIABLE, raising=False)
    monkeypatch.delenv(krisp.KEY_VARIABLE, raising=False)


def missing(name: str) -> Any:
    raise PackageNotFoundError(name)


@pytest.fixture
def kef(tmp_path: Path) -> str:
    (tmp_path / "krisp-viva-tt-v3.kef").touch()
    (tmp_path / "other.kef").touch()
    return str(tmp_path / "krisp-viva-tt-v3.kef")


@pytest.fixture
def onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(smart_turn, "is_installed", lambda: True)
    (tmp_path / "smart-turn.onnx").touch()
    return str(tmp_path / "smart-turn.onnx")


def name(engine: EndOfTurnModel | None) -> str:
    return engine.name if engine else "rule"


# The choice -----------------------------------------------------------------------------------------------


def test_with_nothing_installed_the_rule_runs_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agentd.providers.acoustic")
    shared = Shared()
    assert choose(AcousticSpec(), shared, 8000) is None
    assert choose(AcousticSpec(), shared, 16000) is None  # another call of this server
    (record,) = caplog.records
    assert record.getMessage() == "acoustic end of turn"
    assert record.__dict__["engine"] == "rule"
    assert record.__dict__["why"] == (
        "krisp: expected the path of a .kef model in the configuration or in KRISP_VIVA_TURN_MODEL_PATH, got none; "
        "smart-turn-v3: expected the path of an .onnx model, or pipecat-ai to be installed; got neither"
    )


def test_smart_turn_runs_where_krisp_is_not(onnx: str) -> None:
    assert name(choose(AcousticSpec(smart_turn_model=onnx), Shared(), 8000)) == "smart-turn-v3"
    assert name(choose(AcousticSpec(model=onnx), Shared(), 8000)) == "smart-turn-v3"


def test_smart_turns_model_is_found_in_an_installed_pipecat(onnx: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def locate(path: str) -> str:
        asked.append(path)
        return onnx

    monkeypatch.setattr(smart_turn, "distribution", lambda name: SimpleNamespace(locate_file=locate))
    assert name(choose(AcousticSpec(), Shared(), 16000)) == "smart-turn-v3"
    assert asked == ["pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"]
    assert "pipecat" not in sys.modules


def test_krisp_comes_first(kef: str, onnx: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = FakeSdk(lambda *frame: 0.0)
    monkeypatch.setitem(sys.modules, "krisp_audio", sdk)
    spec = AcousticSpec(krisp_model=kef, krisp_key="key", smart_turn_model=onnx)
    assert name(choose(spec, Shared(), 8000)) == "krisp"
    assert sdk.created[-1] == ("8k", "20ms", kef)


def test_the_environment_configures_krisp_as_in_its_other_integrations(
    kef: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = FakeSdk(lambda *frame: 0.0)
    monkeypatch.setitem(sys.modules, "krisp_audio", sdk)
    monkeypatch.setenv(krisp.MODEL_VARIABLE, kef)
    monkeypatch.setenv(krisp.KEY_VARIABLE, "key")
    assert name(choose(AcousticSpec(model="other"), Shared(), 16000)) == "krisp"
    assert sdk.created[-1] == ("16k", "20ms", kef.replace("krisp-viva-tt-v3", "other"))


def test_a_licence_that_is_refused_leaves_krisp_out_and_its_key_unsaid(
    kef: str, onnx: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agentd.providers.acoustic")
    monkeypatch.setitem(sys.modules, "krisp_audio", FakeSdk(lambda *frame: 0.0))
    monkeypatch.setenv(krisp.MODEL_VARIABLE, kef)
    monkeypatch.setenv(krisp.KEY_VARIABLE, "stolen")
    assert name(choose(AcousticSpec(smart_turn_model=onnx), Shared(), 8000)) == "smart-turn-v3"
    assert caplog.records[-1].__dict__["why"] == (
        "krisp: expected Krisp's SDK to accept the key in KRISP_VIVA_API_KEY, got RuntimeError"
    )


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (AcousticSpec(engine="krisp"), "eot-model-missing"),
        (AcousticSpec(engine="smart-turn-v3"), "eot-model-missing"),
        (AcousticSpec(krisp_model="/no/such.kef"), "eot-model-missing"),
        (AcousticSpec(model="/no/such.onnx"), "eot-model-missing"),
        (AcousticSpec(smart_turn_model=__file__), "eot-model-missing"),  # onnxruntime is not installed
        (AcousticSpec(engine="crisp"), "eot-engine-unknown"),
    ],
)
def test_what_is_named_must_work(spec: AcousticSpec, code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        choose(spec, Shared(), 8000)
    assert (caught.value.code, caught.value.retryable) == (code, False)


def test_the_rule_may_be_asked_for(onnx: str) -> None:
    assert choose(AcousticSpec(engine="rule", smart_turn_model=onnx), Shared(), 8000) is None


def test_a_spec_never_shows_its_key() -> None:
    assert "secret" not in repr(AcousticSpec(krisp_key="secret"))


# Krisp ----------------------------------------------------------------------------------------------------


def krisp_engine(shared: Shared, kef: str) -> EndOfTurnModel:
    engine = choose(AcousticSpec(engine="krisp", krisp_model=kef, krisp_key="key"), shared, 8000)
    assert engine is not None
    return engine


def test_krisp_hears_every_frame_in_order_and_tells_its_last_probability(
    kef: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []

    def process(samples: Any, voiced: bool, flag: bool) -> float:
        assert samples.dtype == np.float32 and samples.flags.writeable and flag is False
        heard.append(float(samples[0]))
        return -1.0 if len(heard) > 24 else len(heard) / 100  # a negative one is no judgement

    monkeypatch.setitem(sys.modules, "krisp_audio", FakeSdk(process))

    async def main() -> None:
        shared = Shared()
        engine = krisp_engine(shared, kef)
        assert await engine.judge() == 0.0
        for number in range(25):
            engine.hear(np.full(160, number * 1000, "<i2").tobytes())
        assert await engine.judge() == 0.24
        engine.reset()
        assert await engine.judge() == 0.0
        await shared.aclose()

    virtual_time.run(main())
    assert heard == pytest.approx([number * 1000 / 32768 for number in range(25)])


def test_krisps_older_models_are_not_told_about_the_voice(kef: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def process(samples: Any) -> float:
        return 1.5

    monkeypatch.setitem(sys.modules, "krisp_audio", FakeSdk(process))

    async def main() -> None:
        shared = Shared()
        engine = krisp_engine(shared, kef)
        engine.hear(FRAME)
        assert await engine.judge() == 1.0
        await shared.aclose()

    virtual_time.run(main())


def test_a_frame_that_krisp_cannot_take_is_an_error_of_the_engine(kef: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def process(samples: Any, voiced: bool, flag: bool) -> float:
        raise RuntimeError("out of memory")

    monkeypatch.setitem(sys.modules, "krisp_audio", FakeSdk(process))

    async def main() -> None:
        shared = Shared()
        engine = krisp_engine(shared, kef)
        engine.hear(FRAME)
        with pytest.raises(ProviderError, match="out of memory") as caught:
            await engine.judge()
        assert caught.value.code == "eot-model-failed"
        await shared.aclose()

    virtual_time.run(main())
