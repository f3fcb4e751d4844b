"""What holds for a call until another `config` verb says otherwise. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from config.check import Fault, check
from config.conversation import Hook
from config.problems import dotted

# Keys of `config` that change nothing here: there is nothing to be changed, or it is so already.
_AS_IT_IS = frozenset(
    "verb id autoStreamTts disableTtsCache earlyMedia notifySttLatency vad actionHookDelayAction".split()
)


@dataclass(frozen=True, slots=True)
class Barge:
    """`config.bargeIn`: who is told what the caller says, and what interrupts. ``words``: so many of them; 0: a voice
    that lasts.
    """

    hook: Hook | None
    is_sticky: bool = False
    words: int = 0
    speech: bool = True
    digits: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """``verb`` are keys of the agent verb: the voice, the recogniser. ``streams``: text may be streamed
    (`ttsStream`), said by ``stream_voice`` where that differs. The application hears what was spoken (``tracks``), and
    of each verb (``notifies``).
    """

    verb: Mapping[str, Any] = field(default_factory=dict)
    barge: Barge | None = None
    streams: bool = False
    stream_voice: Mapping[str, Any] | None = None
    tracks: bool = False
    notifies: bool = False


def configured(standing: Standing, data: Mapping[str, Any]) -> tuple[Standing, list[str]]:
    """With another `config`, and what of it cannot be had: each in words of its own."""
    problems: list[str] = []
    for key, value in data.items():
        match key, value:
            case "reset", str() | list():
                for name in [value] if isinstance(value, str) else value:
                    standing = _without(standing, str(name))
            case "synthesizer", Mapping():
                standing = _with(standing, tts=_named(value))
            case "recognizer", Mapping():
                standing = _with(standing, stt=_named(value))
            case "noiseIsolation", Mapping():
                standing = _with(standing, noiseIsolation=_noise(value))
            case "turnTaking", Mapping():
                standing = _with(standing, turnDetection=_turns(value))
            case "bargeIn", Mapping():
                standing = replace(standing, barge=_barge(value, standing.barge, problems))
            case "ttsStream", Mapping():
                voice = value.get("synthesizer")
                own = _named(voice) if isinstance(voice, Mapping) else None
                standing = replace(standing, streams=value.get("enable") is not False, stream_voice=own)
            case "trackTtsPlayout", bool():
                standing = replace(standing, tracks=value)
            case "notifyEvents", bool():
                standing = replace(standing, notifies=value)
            case _ if key not in _AS_IT_IS:
                problems.append(f"config.{key}")
    return standing, problems


def words_of(text: Any) -> list[str]:
    """What a `say` may say: one of these. Of SSML the words alone: the voices that stream know no marks."""
    texts = text if isinstance(text, list) else [text]
    return [_plain(each) for each in texts if isinstance(each, str) and _plain(each)]


def times(loop: Any) -> int | None:
    """How often a `say` is said; ``None``: until it is interrupted."""
    if loop in (0, "0", "forever"):
        return None
    try:
        return max(int(loop), 1)
    except (TypeError, ValueError):
        return 1


def as_hook(value: Any) -> Hook | list[Fault]:
    """A hook as verbs have it, or what is wrong with it."""
    return check(Hook, value if isinstance(value, Mapping) else {"url": value})


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^<>]*>", " ", text)).strip() if "<speak" in text else text.strip()


def _named(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Jambonz writes `default` for what the account's application has; here that is the agent's file."""
    return {key: value for key, value in spec.items() if value != "default"}


def _with(standing: Standing, **keys: Any) -> Standing:
    return replace(standing, verb={**standing.verb, **keys})


def _without(standing: Standing, name: str) -> Standing:
    verb = {"synthesizer": "tts", "recognizer": "stt", "turnTaking": "turnDetection"}.get(name, name)
    kept = {key: value for key, value in standing.verb.items() if key != verb}
    standing = replace(standing, verb=kept)
    match name:
        case "bargeIn":
            return replace(standing, barge=None)
        case "ttsStream":
            return replace(standing, streams=False, stream_voice=None)
        case _:
            return standing


def _noise(value: Mapping[str, Any]) -> Any:
    if value.get("enable") is False:
        return False
    kept = {key: value[key] for key in ("level", "model", "direction") if key in value}
    return {"mode": value.get("vendor", "krisp"), **kept}


def _turns(value: Mapping[str, Any]) -> Any:
    if value.get("enable") is False:
        return "stt"
    return {"mode": "krisp", **{k: value[k] for k in ("threshold", "model") if k in value}}


def _barge(value: Mapping[str, Any], before: Barge | None, problems: list[str]) -> Barge | None:
    if value.get("enable") is False:
        return None
    inputs = value.get("input", ["speech"])
    hook = before.hook if before is not None else None
    if (named := value.get("actionHook")) is not None:
        read = as_hook(named)
        if isinstance(read, Hook):
            hook = read
        else:
            problems += [f"config.bargeIn.actionHook.{dotted(fault.path)}: {fault}" for fault in read]
    count = value.get("minBargeinWordCount", 0)
    return Barge(
        hook,
        is_sticky=value.get("sticky") is True,
        words=int(count) if isinstance(count, int | float) and count > 0 else 0,
        speech="speech" in inputs,
        digits="digits" in inputs or "dtmf" in inputs,
    )
