"""The vendors that the contract suites run over: one row each. Adding a vendor is one file and one row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from providers.base import LlmSpec, SttSpec, ToolCall, TtsSpec

KEY = "canary-5f1d0c9a7b3e4d21"  # in every spec of the suites; it may appear nowhere but on the wire


@dataclass
class Answer:
    """What a model of the tests answers. ``text`` as the vendor's deltas."""

    text: tuple[str, ...] = ("Hello", " there,", " café.")
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class LlmRow:
    """``server`` makes the vendor of a Script; it is an HttpVendor with ``answer: Answer``, which tests may replace.
    ``spec`` is for the server's URL; further arguments are options of the spec. ``threads``: the SDK blocks, so the
    tests run in real time.
    """

    vendor: str
    server: Callable[..., Any]
    spec: Callable[..., LlmSpec]
    threads: bool = False


@dataclass(frozen=True)
class SttRow:
    """``server`` makes the vendor of a Script; it is a WsVendor with ``hears: list[str]``: utterance *i* is told as a
    partial (all words but the last) after ``i + 0.5`` seconds of audio and as a final after ``i + 1`` seconds, as far as
    the vendor's own endpointing goes. ``gives`` names what else it can: "eager", "end_of_turn", "speech_final",
    "confidence", "language".
    """

    vendor: str
    server: Callable[..., Any]
    spec: Callable[..., SttSpec]
    gives: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class TtsRow:
    """``server`` makes the vendor of a Script; it says every character in ``CHARACTER`` seconds of counting samples
    (`providers.scripted.counting`), continuing over the pieces of a reply. ``words``: word times are given. ``rates``: those that
    the vendor can be asked for; others are resampled. ``http``: one request a piece, no socket.
    """

    vendor: str
    server: Callable[..., Any]
    spec: Callable[..., TtsSpec]
    words: bool = False
    rates: tuple[int, ...] = (8000, 16000, 24000, 48000)
    http: bool = False


CHARACTER = 0.02  # seconds of audio a character

LLM: list[LlmRow] = []
STT: list[SttRow] = []
TTS: list[TtsRow] = []
