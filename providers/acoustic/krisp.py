"""Krisp's turn-taking model, where its SDK (``krisp_audio``, from Krisp, not on PyPI) is installed and licensed.

Unverified: nobody here has the SDK or a licence. Written after what Krisp's users publish: pipecat-ai 1.14.0's
``audio/turn/krisp_viva_turn.py`` and LiveKit's plugin (``globalInit``, ``TtSessionConfig``, ``TtFloat``). From there:
a session is fed frame by frame, its probability rises with the silence, and a negative one says "not yet".
"""

import asyncio
import importlib
import logging
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import webrtcvad

from providers.acoustic.base import SECONDS, AcousticSpec
from providers.base import ProviderError
from providers.registry import Shared

log = logging.getLogger("agentd.providers.acoustic")

NAME = "krisp"
MODEL_VARIABLE, KEY_VARIABLE = "KRISP_VIVA_TURN_MODEL_PATH", "KRISP_VIVA_API_KEY"  # as in Krisp's other integrations
BATCH = 10  # frames: 200 ms of audio go to the thread together
BOUND = SECONDS * 50  # frames that wait for a thread that is behind; of more the oldest are left out


def find_model(spec: AcousticSpec) -> Path | None:
    """The ``.kef`` file that is named, or None when none is. Raises ``ProviderError`` ``eot-model-missing``."""
    path = spec.krisp_model or os.environ.get(MODEL_VARIABLE)
    if spec.model and spec.model.endswith(".kef"):
        path = spec.model
    elif spec.model and path and not spec.model.endswith(".onnx"):
        path = str(Path(path).with_name(f"{spec.model}.kef"))
    if path is None:
        return None
    if not Path(path).is_file():
        raise ProviderError(NAME, "eot-model-missing", f"expected Krisp's model in {path}, got no such file")
    return Path(path)


class Krisp:
    """The SDK and its thread, for all calls of a server."""

    def __init__(self, key: str) -> None:
        try:
            self.sdk: Any = importlib.import_module("krisp_audio")
        except ImportError as exc:
            message = f"expected Krisp's SDK (krisp_audio) to be installed, got {exc}"
            raise ProviderError(NAME, "eot-model-missing", message) from exc
        try:
            try:
                self.sdk.globalInit("", key, _licence_failed, _ignore, self.sdk.LogLevel.Off)
            except TypeError:  # before 1.6.1 it took no key
                self.sdk.globalInit("", _ignore, self.sdk.LogLevel.Off)
        except Exception as exc:
            # Without the SDK's own words: nobody knows whether they quote the key.
            message = f"expected Krisp's SDK to accept the key in {KEY_VARIABLE}, got {type(exc).__name__}"
            raise ProviderError(NAME, "eot-licence-refused", message) from exc
        self.pool = ThreadPoolExecutor(1, "agentd-krisp")

    def session(self, path: Path, rate: int) -> Any:
        """A listener for one call."""
        try:
            config = self.sdk.TtSessionConfig()
            config.inputSampleRate = getattr(self.sdk.SamplingRate, f"Sr{rate}Hz")
            config.inputFrameDuration = self.sdk.FrameDuration.Fd20ms
            config.modelInfo = self.sdk.ModelInfo()
            config.modelInfo.path = str(path)
            return self.sdk.TtFloat.create(config)
        except Exception as exc:
            raise ProviderError(NAME, "eot-model-failed", f"expected a session with {path}, got {exc}") from exc

    async def aclose(self) -> None:
        # No globalDestroy: a session that is still alive would read freed memory (pipecat's krisp_instance.py).
        self.pool.shutdown(wait=False, cancel_futures=True)


class KrispEngine:
    """One call's ear. Frames go to the thread in batches, because nobody here knows what one costs."""

    name = NAME

    def __init__(self, krisp: Krisp, session: Any, rate: int) -> None:
        self._pool = krisp.pool
        self._session = session
        self._rate = rate
        self._vad = webrtcvad.Vad(2)  # the model wants to be told which frames have a voice
        self._pending: deque[tuple[bytes, bool]] = deque(maxlen=BOUND)
        self._turn = 0
        self._judged = (0, 0.0)  # the turn, and how probable its end was
        self._error: Exception | None = None
        self._batch: Future[None] | None = None  # the last one that hear() sent

    def hear(self, frame: bytes) -> None:
        self._pending.append((frame, self._vad.is_speech(frame, self._rate)))
        if len(self._pending) >= BATCH and (self._batch is None or self._batch.done()):
            self._batch = self._pool.submit(self._process, self._taken(), self._turn)

    async def judge(self) -> float:
        # Behind the batch before it: the thread keeps the order. Shielded, so that no frames are lost.
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._pool, self._process, self._taken(), self._turn))
        if self._error is not None:
            message = f"expected Krisp's SDK to take a frame, got {self._error}"
            raise ProviderError(NAME, "eot-model-failed", message) from self._error
        turn, probability = self._judged
        return probability if turn == self._turn else 0.0

    def reset(self) -> None:
        """The model itself goes on listening: it has no reset that we know of."""
        self._turn += 1

    def _taken(self) -> list[tuple[bytes, bool]]:
        frames = list(self._pending)
        self._pending.clear()
        return frames

    def _process(self, frames: Iterable[tuple[bytes, bool]], turn: int) -> None:
        """On the thread."""
        for frame, voiced in frames:
            samples = np.frombuffer(frame, "<i2").astype(np.float32) / 32768
            try:
                try:
                    probability = float(self._session.process(samples, voiced, False))
                except TypeError:  # models before v3 are not told about the voice
                    probability = float(self._session.process(samples))
            except Exception as exc:
                self._error = exc
                return
            if probability >= 0:
                self._judged = (turn, min(probability, 1.0))


def make(spec: AcousticSpec, path: Path, shared: Shared, rate: int) -> KrispEngine:
    """Raises ``ProviderError``: ``eot-model-missing``, ``eot-licence-refused``, ``eot-model-failed``."""
    key = spec.krisp_key or os.environ.get(KEY_VARIABLE, "")
    krisp = shared.get(NAME, lambda: Krisp(key))
    return KrispEngine(krisp, krisp.session(path, rate), rate)


def _licence_failed(code: object, message: object) -> None:
    log.warning("krisp licence refused", extra={"code": str(code)})


def _ignore(message: object, level: object) -> None: ...
