"""Krisp's voice isolation, where its SDK (``krisp_audio``, from Krisp, not on PyPI) is installed and licensed.

Unverified: nobody here has the SDK or a licence. Written after what Krisp's users publish: pipecat-ai's
``audio/filters/krisp_viva_filter.py`` and LiveKit's plugin (``NcSessionConfig``, ``NcInt16``). From there: a session
takes a writable array of one frame and the level, and gives one as long. They call it on the loop, and so do we.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from providers.acoustic.krisp import KEY_VARIABLE, Krisp
from providers.acoustic.krisp import NAME as SDK
from providers.base import ProviderError
from providers.noise.base import NoiseSpec
from providers.registry import Shared

NAME = "krisp"
MODEL_VARIABLE = "KRISP_VIVA_FILTER_MODEL_PATH"  # as in Krisp's other integrations


class KrispIsolation:
    """One direction of one call."""

    name = NAME
    delay = 0  # nobody published it; LiveKit's users estimate 15 to 25 ms, which a reply's end would then lack

    def __init__(self, session: Any, level: float) -> None:
        self._session = session
        self.level = level

    def process(self, frame: bytes) -> bytes:
        samples = np.frombuffer(frame, "<i2").copy()  # since 1.11 the SDK refuses what it could not write to
        try:
            clean = self._session.process(samples, float(self.level))
        except TypeError:  # before, the level was a whole number
            clean = self._session.process(samples, round(self.level))
        return np.asarray(clean).astype("<i2").tobytes()

    def close(self) -> None:
        self._session = None  # the SDK has no other way


def make(spec: NoiseSpec, shared: Shared, rate: int) -> KrispIsolation:
    """Raises ``ProviderError``: ``noise-engine-missing``, ``noise-licence-refused``, ``noise-engine-failed``."""
    path = find_model(spec)
    key = spec.krisp_key or os.environ.get(KEY_VARIABLE, "")
    try:
        sdk = shared.get(SDK, lambda: Krisp(key)).sdk  # the same as for the end of turn: it starts once a process
    except ProviderError as exc:
        kind = "noise-licence-refused" if exc.code == "eot-licence-refused" else "noise-engine-missing"
        raise ProviderError(NAME, kind, exc.message) from exc
    try:
        config = sdk.NcSessionConfig()
        config.inputSampleRate = config.outputSampleRate = getattr(sdk.SamplingRate, f"Sr{rate}Hz")
        config.inputFrameDuration = sdk.FrameDuration.Fd20ms
        config.modelInfo = sdk.ModelInfo()
        config.modelInfo.path = str(path)
        return KrispIsolation(sdk.NcInt16.create(config), spec.level)
    except Exception as exc:
        raise ProviderError(NAME, "noise-engine-failed", f"expected a session with {path}, got {exc}") from exc


def find_model(spec: NoiseSpec) -> Path:
    """The ``.kef`` file: the one that ``model`` is, or names beside the configured one, else the configured one."""
    path = spec.krisp_model or os.environ.get(MODEL_VARIABLE)
    if spec.model and spec.model.endswith(".kef"):
        path = spec.model
    elif spec.model and path:
        path = str(Path(path).with_name(f"{spec.model}.kef"))
    if path is None:
        message = f"expected the path of a .kef model in the configuration or in {MODEL_VARIABLE}, got none"
        raise ProviderError(NAME, "noise-engine-missing", message)
    if not Path(path).is_file():
        raise ProviderError(NAME, "noise-engine-missing", f"expected Krisp's model in {path}, got no such file")
    return Path(path)
