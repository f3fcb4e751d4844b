"""How a call ended, in the words of the verb."""

from dataclasses import dataclass
from typing import Any

from agentd import errors
from config import payloads
from providers.base import ProviderError


@dataclass(frozen=True, slots=True)
class Outcome:
    """``reason`` is the verb's completion_reason."""

    reason: str
    error: ProviderError | None = None

    def payload(self, names: payloads.Names) -> dict[str, Any]:
        error = self.error
        told = None if error is None else {"code": error.code, "message": error.message, "vendor": error.vendor}
        return payloads.completion(self.reason, told, names)


def decided(reason: str, error: ProviderError | None, model: str) -> Outcome:
    """The machine ended the call. Its reason is one of the verb's or the code of the failure that was one too many:
    ``error`` is what the vendor said, else the ``model`` has not answered in time.
    """
    if reason in (errors.NORMAL, errors.NO_RESPONSE):
        return Outcome(reason)
    if error is not None:
        return Outcome(errors.SERVER_ERROR, error)
    return Outcome(errors.SERVER_FAILURE, ProviderError(model, reason))
