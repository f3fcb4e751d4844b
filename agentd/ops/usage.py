"""What a call uses of its vendors: tokens, characters, seconds of audio; by vendor, as it goes into the bills::

{"llm": {"openai:gpt-4.1-mini": {"prompt_tokens": 900, "completion_tokens": 60}},
 "stt": {"deepgram": {"seconds": 61.2}}, "tts": {"cartesia": {"characters": 310}}, "played": {"seconds": 22.5}}
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Used = dict[str, dict[str, Any]]

PLAYED = "played"  # what the caller heard of the agent; it is nobody's


class Amount(NamedTuple):
    """``role`` is `llm`, `stt`, `tts` or `played`; ``name`` the vendor's, as logs have it."""

    role: str
    name: str
    unit: str
    value: float


class Meter:
    """One call's, whichever agents and words of an application's it is made of. All are plain calls."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str, str], float] = {}
        self._taken: dict[tuple[str, str, str], float] = {}

    def tokens(self, llm: str, prompt: int, completion: int, cached: int = 0) -> None:
        """Of one answer, as the vendor counts them; ``cached`` are among the prompt's."""
        self._add("llm", llm, "prompt_tokens", prompt)
        self._add("llm", llm, "completion_tokens", completion)
        if cached:
            self._add("llm", llm, "cached_tokens", cached)

    def characters(self, tts: str, characters: int) -> None:
        """That a voice was given."""
        self._add("tts", tts, "characters", characters)

    def listened(self, stt: str, seconds: float) -> None:
        """Of audio that a recogniser was given."""
        self._add("stt", stt, "seconds", seconds)

    def played(self, seconds: float) -> None:
        """That the caller has heard of the agent."""
        self._add(PLAYED, "", "seconds", seconds)

    def take(self) -> Used:
        """What came since this was last asked."""
        new = {key: value - self._taken.get(key, 0) for key, value in self._all.items()}
        self._taken = dict(self._all)
        return _nested({key: value for key, value in new.items() if value})

    def total(self) -> Used:
        return _nested(self._all)

    def fields(self) -> dict[str, float]:
        """The total for one line of the log, over all vendors."""
        sums: dict[str, float] = {}
        for (role, _, unit), value in self._all.items():
            name = unit if role == "llm" else f"{role}_{unit}"
            sums[name] = sums.get(name, 0) + value
        return {name: _short(value) for name, value in sums.items()}

    def _add(self, role: str, name: str, unit: str, value: float) -> None:
        if value:
            key = (role, name, unit)
            self._all[key] = self._all.get(key, 0) + value


def amounts(used: Mapping[str, Mapping[str, Any]]) -> Iterator[Amount]:
    """The single figures of what :meth:`Meter.take` or :meth:`Meter.total` returned."""
    for role, vendors in used.items():
        for name, units in {"": vendors}.items() if role == PLAYED else vendors.items():
            for unit, value in units.items():
                yield Amount(role, name, unit, value)


def _nested(flat: Mapping[tuple[str, str, str], float]) -> Used:
    used: Used = {}
    for (role, name, unit), value in flat.items():
        vendors = used.setdefault(role, {})
        (vendors.setdefault(name, {}) if name else vendors)[unit] = _short(value)
    return used


def _short(value: float) -> float:
    """Whole numbers stay whole; seconds to the millisecond."""
    return value if isinstance(value, int) else round(value, 3)
