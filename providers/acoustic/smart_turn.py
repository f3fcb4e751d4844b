"""Smart Turn v3 (Daily; weights BSD-2) on onnxruntime: an open model that hears whether a turn is over.

agentd ships no weights: give the path of the model, or install pipecat-ai, whose wheel has them. It is trained on
people; synthetic voices it often judges wrongly, at times the wrong way round (benchmarks/end_of_turn.py).
"""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from providers.acoustic.base import Floats, Recent
from providers.acoustic.features import log_mel
from providers.acoustic.worker import Worker
from providers.base import ProviderError
from providers.registry import Shared

NAME = "smart-turn-v3"
IN_PIPECAT = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
INSTALL = "pip install 'agentd[acoustic]'"


def find_model(path: str | None = None) -> Path | None:
    """The model's file: the one that is given, else the one in an installed pipecat-ai, which is not imported.

    Raises ``ProviderError`` ``eot-model-missing`` when the one that is given is not there.
    """
    if path is not None:
        if not Path(path).is_file():
            raise ProviderError(NAME, "eot-model-missing", f"expected the model in {path}, got no such file")
        return Path(path)
    try:
        file = Path(str(distribution("pipecat-ai").locate_file(IN_PIPECAT)))
    except PackageNotFoundError:
        return None
    return file if file.is_file() else None


def is_installed() -> bool:
    """Is onnxruntime there? It is not imported for that."""
    return find_spec("onnxruntime") is not None


class SmartTurn:
    """The model and its thread, for all calls of a server. Await ``warm()`` before the first of them."""

    def __init__(self, path: Path) -> None:
        if not is_installed():
            raise ProviderError(NAME, "eot-model-missing", f"expected onnxruntime to be installed: {INSTALL}")
        self.worker = Worker(NAME)
        self._path = path
        self._session: Any = None  # made on the worker's thread

    async def warm(self) -> None:
        """Load it and judge silence once: the first judgement takes longest."""
        await self.worker.run(lambda: self.probability(np.zeros(0, np.float32), 16000))

    async def aclose(self) -> None:
        await self.worker.aclose()

    def probability(self, samples: Floats, rate: int) -> float:
        """Blocking (45 ms and more): for the worker's thread."""
        if self._session is None:
            self._session = self._load()
        try:
            (out,) = self._session.run(None, {"input_features": log_mel(samples, rate)[None]})
        except Exception as exc:  # onnxruntime's own have no common base
            raise ProviderError(NAME, "eot-model-failed", f"expected a judgement, got {exc}") from exc
        return float(np.asarray(out).reshape(-1)[0])  # the model ends in a sigmoid, though it says "logits"

    def _load(self) -> Any:
        import onnxruntime  # here and not above: 100 ms and more, off the loop

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # two were not faster
        try:
            return onnxruntime.InferenceSession(
                str(self._path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:
            message = f"expected a Smart Turn v3 model in {self._path}, got {exc}"
            raise ProviderError(NAME, "eot-model-failed", message) from exc


class SmartTurnEngine:
    """One call's ear."""

    name = NAME

    def __init__(self, model: SmartTurn, rate: int) -> None:
        self._model = model
        self._rate = rate
        self._recent = Recent(rate)

    def hear(self, frame: bytes) -> None:
        self._recent.hear(frame)

    async def judge(self) -> float:
        samples = self._recent.samples()
        return await self._model.worker.ask(self, lambda: self._model.probability(samples, self._rate))

    def reset(self) -> None:
        self._recent.reset()


def make(path: Path, shared: Shared, rate: int) -> SmartTurnEngine:
    """``rate`` is 8000 or 16000 Hz. Raises ``ProviderError`` ``eot-model-missing`` without onnxruntime."""
    return SmartTurnEngine(shared.get(f"{NAME} {path}", lambda: SmartTurn(path)), rate)
