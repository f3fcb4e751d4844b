"""Where a vendor of language models is, and what lets us in: from the agent's spec, checked before anything is sent."""

from dataclasses import dataclass, field

from providers.base import LlmSpec, ProviderError
from providers.credentials import key_of, plain
from providers.pools import is_http


@dataclass(frozen=True, slots=True)
class Access:
    """``url`` without a slash at its end; ``headers`` go out with every request."""

    url: str
    key: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    def secrets(self) -> tuple[str, ...]:
        return (self.key, *(value for value in self.headers.values() if len(value) >= 8))


def access_of(spec: LlmSpec, url: str) -> Access:
    """``url``: the vendor's public address.

    Raises :class:`ProviderError` when the key is missing and no header of the author's can hold another, or when the
    key or the URL cannot be one.
    """
    url = str(spec.connect.get("baseURL") or spec.credentials.get("baseURL") or url).rstrip("/")
    key = str(spec.credentials.get("apiKey") or "").strip()
    headers = {str(name): str(value) for name, value in (spec.connect.get("headers") or {}).items()}
    if not is_http(url):
        raise ProviderError(spec.vendor, "llm-bad-url", f"expected baseURL to begin with http(s)://, got {url!r}")
    if not headers:
        key_of("llm", spec.vendor, key)
    return Access(url, plain("llm", spec.vendor, key) or "none", headers)


def model_of(spec: LlmSpec, example: str) -> str:
    if not spec.model:
        raise ProviderError(spec.vendor, "llm-no-model", f"expected llm.model, such as {example}, got none")
    return spec.model
