"""Which engine stands behind `turnDetection: krisp`: Krisp's own, else Smart Turn, else the built-in rule.

What the configuration names must work; what it does not name is taken where it is found. One log line a server says
what runs, and why nothing better does.
"""

import logging
from collections.abc import Callable

from providers.acoustic import krisp, smart_turn
from providers.acoustic.base import AcousticSpec, EndOfTurnModel
from providers.base import ProviderError
from providers.registry import Shared

log = logging.getLogger("agentd.providers.acoustic")

RULE = "rule"
ENGINES = (krisp.NAME, smart_turn.NAME, RULE)

Make = Callable[[Shared, int], EndOfTurnModel]


def choose(spec: AcousticSpec, shared: Shared, rate: int) -> EndOfTurnModel | None:
    """An engine for one call with audio at ``rate`` (8000 or 16000 Hz). ``None``: the built-in rule, that is
    ``turn.completeness`` with :class:`providers.acoustic.prosody.Hearing`.

    Raises ``ProviderError``, never retryable: ``eot-model-missing``, ``eot-licence-refused``, ``eot-model-failed``,
    ``eot-engine-unknown``.
    """
    found = shared.get("acoustic", _Found)
    if spec not in found.makes:
        engine, why, found.makes[spec] = _find(spec, shared, rate)
        log.info("acoustic end of turn", extra={"engine": engine, "why": why})
    make = found.makes[spec]
    return make and make(shared, rate)


class _Found:
    """What was found for each spec: looking takes a millisecond, and is told once."""

    def __init__(self) -> None:
        self.makes: dict[AcousticSpec, Make | None] = {}  # as many as there are agents

    async def aclose(self) -> None:
        self.makes.clear()


def _find(spec: AcousticSpec, shared: Shared, rate: int) -> tuple[str, str, Make | None]:
    """The engine's name, why it is this one, and how to make it for a call."""
    if spec.engine not in (None, *ENGINES):
        expected = ", ".join(ENGINES)
        raise ProviderError("acoustic", "eot-engine-unknown", f"expected one of {expected}; got {spec.engine!r}")
    missing = []
    if spec.engine in (None, krisp.NAME):
        try:
            return krisp.NAME, "installed and licensed", _krisp(spec, shared, rate)
        except ProviderError as exc:
            if spec.engine == krisp.NAME or _names_krisp(spec):
                raise
            missing.append(f"krisp: {exc.message}")
    if spec.engine in (None, smart_turn.NAME):
        try:
            return smart_turn.NAME, "; ".join(missing) or "configured", _smart_turn(spec, shared, rate)
        except ProviderError as exc:
            if spec.engine == smart_turn.NAME or _smart_turn_path(spec):
                raise
            missing.append(f"{smart_turn.NAME}: {exc.message}")
    return RULE, "; ".join(missing) or "configured", None


def _krisp(spec: AcousticSpec, shared: Shared, rate: int) -> Make:
    path = krisp.find_model(spec)
    if path is None:
        message = f"expected the path of a .kef model in the configuration or in {krisp.MODEL_VARIABLE}, got none"
        raise ProviderError(krisp.NAME, "eot-model-missing", message)
    krisp.make(spec, path, shared, rate)  # a licence is refused now rather than in a call
    return lambda shared, rate: krisp.make(spec, path, shared, rate)


def _smart_turn(spec: AcousticSpec, shared: Shared, rate: int) -> Make:
    path = smart_turn.find_model(_smart_turn_path(spec))
    if path is None:
        message = "expected the path of an .onnx model, or pipecat-ai to be installed; got neither"
        raise ProviderError(smart_turn.NAME, "eot-model-missing", message)
    smart_turn.make(path, shared, rate)  # onnxruntime is missed now rather than in a call
    return lambda shared, rate: smart_turn.make(path, shared, rate)


def _names_krisp(spec: AcousticSpec) -> bool:
    return spec.krisp_model is not None or (spec.model or "").endswith(".kef")


def _smart_turn_path(spec: AcousticSpec) -> str | None:
    return spec.model if (spec.model or "").endswith(".onnx") else spec.smart_turn_model
