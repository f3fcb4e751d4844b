"""Tools of one call: who answers which name, within what time. A failed tool is a result that the model can read."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from providers.base import Tool, ToolCall

log = logging.getLogger("agentd.call.tools")

RESULT_LIMIT = 32_768  # characters of a result that reach the model

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool and who runs it."""

    tool: Tool
    handler: Handler


class Toolbox:
    """The tools that this call's model may use, in the order of dispatch: the first of a name wins. ``timeout``: the
    seconds that one may take.
    """

    def __init__(self, offers: list[Offer], timeout: float = 20.0) -> None:
        self._timeout = timeout
        self._offers: dict[str, Offer] = {}
        for offer in offers:
            self._offers.setdefault(offer.tool.name, offer)

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(offer.tool for offer in self._offers.values())

    async def run(self, call: ToolCall) -> str:
        """The result as text. Never raises but for cancellation."""
        offer = self._offers.get(call.name)
        if offer is None:
            return f"Error: there is no tool {call.name!r}; there are {', '.join(self._offers) or 'none'}."
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError) as exc:
            return f"Error: expected the arguments as a JSON object, got text that is not JSON ({exc})."
        if not isinstance(arguments, dict):
            return f"Error: expected the arguments as a JSON object, got {type(arguments).__name__}."
        try:
            async with asyncio.timeout(self._timeout):
                result = await offer.handler(arguments)
        except TimeoutError:
            return f"Error: the tool {call.name!r} did not answer within {self._timeout:g} seconds."
        except Exception as exc:
            # Whatever a tool does wrong, the conversation goes on. The arguments may be private: they stay out.
            log.warning("tool failed", extra={"tool": call.name, "error": type(exc).__name__}, exc_info=True)
            return f"Error: the tool {call.name!r} failed: {exc}"
        return _text(result)[:RESULT_LIMIT]


def _text(result: Any) -> str:
    if isinstance(result, str):
        return result
    try:
        return json.dumps(result, ensure_ascii=False)
    except (TypeError, ValueError):
        return f"Error: expected text or JSON from the tool, got {type(result).__name__}."
