"""The vendors' own count of tokens, each under its own names, as one :class:`providers.base.Usage`."""

from collections.abc import Iterator, Mapping
from typing import Any

from providers.base import Usage


def of_openai(told: Mapping[str, Any]) -> Iterator[Usage]:
    """Its prompt holds what was cached, its completion the thoughts."""
    details = told.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    yield from _usage([told.get("prompt_tokens")], [told.get("completion_tokens")], cached)


def of_anthropic(told: Mapping[str, Any]) -> Iterator[Usage]:
    """What was cached, or is from now on, stands beside the rest of the prompt."""
    cached = told.get("cache_read_input_tokens")
    prompt = [told.get("input_tokens"), cached, told.get("cache_creation_input_tokens")]
    yield from _usage(prompt, [told.get("output_tokens")], cached)


def of_google(told: Mapping[str, Any]) -> Iterator[Usage]:
    """Thoughts stand beside the answer. Some gateways write underscores."""
    names = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount")
    older = ("prompt_token_count", "candidates_token_count", "thoughts_token_count", "cached_content_token_count")
    prompt, said, thought, cached = (told.get(name, told.get(old)) for name, old in zip(names, older, strict=True))
    yield from _usage([prompt], [said, thought], cached)


def of_bedrock(told: Mapping[str, Any]) -> Iterator[Usage]:
    """As Anthropic has it."""
    cached = told.get("cacheReadInputTokens")
    prompt = [told.get("inputTokens"), cached, told.get("cacheWriteInputTokens")]
    yield from _usage(prompt, [told.get("outputTokens")], cached)


def _usage(prompt: list[Any], completion: list[Any], cached: Any) -> Iterator[Usage]:
    """None where the vendor counts nothing, or not in numbers."""
    read, written = sum(map(_number, prompt)), sum(map(_number, completion))
    if read or written:
        yield Usage(read, written, _number(cached))


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
