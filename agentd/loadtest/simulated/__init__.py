"""Vendors on loopback that speak real wire formats and answer after a set delay. They hear loudness, not words."""

from dataclasses import dataclass, fields
from typing import Self

from agentd.errors import AgentdError


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds: the end of the caller's sound → final transcript; prompt → first token; text → first sound; and from
    one token to the next.
    """

    stt: float = 0.1
    llm: float = 0.2
    tts: float = 0.1
    token: float = 0.01

    @property
    def turn(self) -> float:
        """What they make of a turn's gap."""
        return self.stt + self.llm + self.tts

    @classmethod
    def read(cls, text: str) -> Self:
        """``stt=100,llm=200`` in milliseconds. Raises :class:`AgentdError`."""
        known = [field.name for field in fields(cls)]
        given: dict[str, float] = {}
        for part in filter(None, (each.strip() for each in text.split(","))):
            name, _, value = part.partition("=")
            if name not in known or not value.replace(".", "", 1).isdigit():
                raise AgentdError(f"expected delays as {','.join(f'{each}=MS' for each in known)}; got {part!r}")
            given[name] = float(value) / 1000
        return cls(**given)
