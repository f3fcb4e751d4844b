"""Which Claude takes what: how to have it answer at once, how to have it think, and whether it takes a temperature.

From platform.claude.com, "Thinking", "Effort" and the migration guides of the 5.5 models (November 2026). What a model
does not know it refuses with 400. Of a model that this file does not know, the newest of its line is assumed.
"""

import re
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"claude-(?P<line>[a-z]+)-(?:(?P<major>\d)(?:-(?P<minor>\d{1,2})(?!\d))?|preview)")


@dataclass(frozen=True, slots=True)
class Claude:
    """``line`` is haiku, sonnet, opus, fable or mythos; empty for a name that tells nothing."""

    line: str = ""
    version: tuple[int, int] = (0, 0)

    @property
    def thinks_always(self) -> bool:
        return self.line in ("fable", "mythos") or (self.line == "opus" and self.version >= (5, 5))

    @property
    def takes_effort(self) -> bool:
        """Older ones take a budget of tokens instead, which has to fit maxTokens: that is for `vendorParams`."""
        first = {"opus": (4, 6), "sonnet": (4, 6), "haiku": (5, 0), "fable": (0, 0), "mythos": (0, 0)}
        return self.line in first and self.version >= first[self.line]

    @property
    def takes_temperature(self) -> bool:
        return not self.thinks_always and self.version < (4, 7)

    @property
    def binds_thoughts(self) -> bool:
        """Refuses its thoughts when the system prompt, the tools or any message before them has changed."""
        return self.version >= (5, 1)

    def thinking(self, effort: str | None) -> dict[str, Any]:
        """The fields of a request for a `reasoningEffort`. Without one, and with "minimal": no thoughts before the
        first word, as far as the model can be brought to that.
        """
        if effort not in (None, "minimal") and self.takes_effort:
            return {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
        if self.thinks_always:
            return {"output_config": {"effort": "low"}}
        if self.line == "sonnet" and self.version >= (5, 5):
            return {"thinking": {"type": "between_tools"}}
        if self.version >= (5, 0):  # these think by default
            return {"thinking": {"type": "disabled"}}
        return {}


def claude_of(model: str) -> Claude:
    """Also from the names of other clouds: ``us.anthropic.claude-sonnet-4-6``, ``claude-haiku-4-5-20251001``."""
    if (named := _NAME.search(model)) is None:
        return Claude()
    return Claude(named["line"], (int(named["major"] or 5), int(named["minor"] or 0)))
