"""The engine of each mode of the verb's `noiseIsolation`. None stands in for another: they sound too different."""

from providers.base import ProviderError
from providers.noise import krisp, rnnoise
from providers.noise.base import Guarded, NoiseSpec
from providers.registry import Shared


def make(spec: NoiseSpec, shared: Shared, rate: int) -> Guarded:
    """An engine for one direction of a call, whose audio is at ``rate`` (8000 to 48000 Hz).

    Raises ``ProviderError``, never retryable: ``noise-engine-missing``, ``noise-licence-refused``,
    ``noise-engine-failed``.
    """
    match spec.mode:
        case rnnoise.NAME:
            return Guarded(rnnoise.make(rate, spec.level))
        case krisp.NAME:
            return Guarded(krisp.make(spec, shared, rate))
        case _:
            message = "expected rnnoise or krisp: there is no public engine of this mode"
            raise ProviderError(spec.mode, "noise-engine-missing", message)
