"""The vendors that the contract suites run over: one row each. Adding a vendor is one file and one row."""

import importlib
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
    partial (all words but the last) after ``i + 0.5`` seconds of audio and as a final after ``i + 1`` seconds, as far
    as the vendor's own endpointing goes. ``gives`` names what else it can: "eager", "end_of_turn", "speech_final",
    "confidence", "language"; "forced" (a final at SPEECH_STOPPED, where agentd ends the turns); "keepalive" (it has to
    hear from us at least every 10 s).
    """

    vendor: str
    server: Callable[..., Any]
    spec: Callable[..., SttSpec]
    gives: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class TtsRow:
    """``server`` makes the vendor of a Script; it says every character in ``CHARACTER`` seconds of counting samples
    (`providers.scripted.counting`), continuing over the pieces of a reply. ``words``: word times are given.
    ``rates``: those that the vendor can be asked for; others are resampled. ``http``: one request a piece, no socket.
    """

    vendor: str
    server: Callable[..., Any]
    spec: Callable[..., TtsSpec]
    words: bool = False
    rates: tuple[int, ...] = (8000, 16000, 24000, 48000)
    http: bool = False


CHARACTER = 0.02  # seconds of audio a character


def served_by(place: str) -> Callable[..., Any]:
    """The server of a row, ``module:class``; imported when asked for, because the servers import this module."""
    module, name = place.split(":")
    return lambda script=None: getattr(importlib.import_module(f"tests.vendors.{module}"), name)(script)


def llm_spec(vendor: str, model: str, path: str = "", **credentials: str) -> Callable[..., LlmSpec]:
    """How the spec of a row is made: the server's URL with ``path`` behind it, and the options."""
    keys = credentials or {"apiKey": KEY}
    return lambda url, **options: LlmSpec(vendor, model, options, {"baseURL": url + path}, keys)


AWS_KEYS = ("accessKeyId", "secretAccessKey", "sessionToken")


def stt_spec(vendor: str) -> Callable[..., SttSpec]:
    """How the spec of a row is made: the server's URL, and fields of the spec; ``credentials`` are laid over ours."""

    def make(url: str, credentials: dict[str, str] | None = None, **fields: Any) -> SttSpec:
        return SttSpec(vendor, credentials={"apiKey": KEY, "url": url, **(credentials or {})}, **fields)

    return make


def tts_spec(vendor: str, voice: str | None = None) -> Callable[..., TtsSpec]:
    """The same for a voice: the server's URL and the options."""
    return lambda url, **options: TtsSpec(vendor, voice, options=options, credentials={"apiKey": KEY, "url": url})


LLM: list[LlmRow] = [
    LlmRow("openai", served_by("openai_llm:OpenAiServer"), llm_spec("openai", "gpt-4.1-mini", "/v1")),
    LlmRow(
        "aws",
        served_by("bedrock:BedrockServer"),
        llm_spec("aws", "us.amazon.nova-2-lite-v1:0", region="eu-west-1", **dict.fromkeys(AWS_KEYS, KEY)),
        threads=True,
    ),
    LlmRow("anthropic", served_by("anthropic:AnthropicServer"), llm_spec("anthropic", "claude-sonnet-4-6")),
    LlmRow("google", served_by("google:GoogleServer"), llm_spec("google", "gemini-2.5-flash")),
]
STT: list[SttRow] = [
    SttRow(
        "deepgram",
        served_by("deepgram_stt:DeepgramServer"),
        stt_spec("deepgram"),
        frozenset({"speech_final", "confidence", "language", "forced", "keepalive"}),
    ),
    SttRow(
        "deepgramflux",
        served_by("deepgram_stt:FluxServer"),
        stt_spec("deepgramflux"),
        frozenset({"eager", "end_of_turn", "confidence", "language", "keepalive"}),
    ),
    SttRow(
        "assemblyai",
        served_by("assemblyai:AssemblyAiServer"),
        stt_spec("assemblyai"),
        frozenset({"end_of_turn", "confidence", "language", "forced", "keepalive"}),
    ),
    SttRow(
        "elevenlabs",
        served_by("elevenlabs_stt:ScribeServer"),
        stt_spec("elevenlabs"),
        frozenset({"speech_final", "forced"}),
    ),
    SttRow(
        "speechmatics",
        served_by("speechmatics:SpeechmaticsServer"),
        stt_spec("speechmatics"),
        frozenset({"confidence", "forced"}),
    ),
]
TTS: list[TtsRow] = [
    TtsRow("cartesia", served_by("cartesia:CartesiaServer"), tts_spec("cartesia"), words=True),
    TtsRow("deepgram", served_by("deepgram_tts:AuraServer"), tts_spec("deepgram")),
    TtsRow(
        "elevenlabs",
        served_by("elevenlabs_tts:ElevenLabsServer"),
        tts_spec("elevenlabs"),
        words=True,
        rates=(8000, 16000, 24000),
    ),
    TtsRow(
        "openai",
        served_by("openai_tts:OpenAiSpeechServer"),
        lambda url, **options: tts_spec("openai")(url + "/v1", **options),
        rates=(24000,),
        http=True,
    ),
    TtsRow("rime", served_by("rime:RimeServer"), tts_spec("rime"), words=True),
]
