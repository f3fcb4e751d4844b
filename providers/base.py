"""What a vendor looks like from inside agentd: three Protocols and the plain data they exchange.

Audio is L16 everywhere: signed 16-bit little-endian, one channel; the rate stands beside it.
A vendor is a module with a function ``make_stt``, ``make_llm`` or ``make_tts`` of ``(spec, shared)``;
:mod:`providers.registry` finds it by name. What that returns serves one call, and may have three more methods:

- ``async warm()``: when the server starts; pay for what the first call of a process would otherwise pay for.
- ``ready()``: a plain call, whenever a turn is near (the call begins, the caller speaks). Begins to dial whatever
  connection the next request would wait for, unless it is there already. Never raises, never waits.
- ``async aclose()``: the call is over; close what only this call used.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from providers.audio_feed import AudioFeed


class ProviderError(Exception):
    """A vendor failed. Names the vendor, a stable code and whether trying again can help.

    SDK exceptions are translated into this at the vendor's boundary with ``raise … from exc``. The message must
    never hold a credential. ``retry_after``: seconds that the vendor asked us to wait, where it did.
    """

    def __init__(
        self, vendor: str, code: str, message: str = "", *, retryable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{vendor}: {message or code}")
        self.vendor = vendor
        self.code = code
        self.message = message or code
        self.retryable = retryable
        self.retry_after = retry_after


# Speech to text -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Partial:
    """The words so far since the last :class:`Final`; the next one replaces it."""

    text: str


@dataclass(frozen=True, slots=True)
class Final:
    """Words that will not change any more. An empty text means: speech was heard, no words were found.

    ``speech_final``: the vendor's own endpointing says that the caller has paused; obeyed by `turnDetection: stt`.
    ``end_of_turn``: its native turn detection says that the turn is over; always obeyed. ``language`` is BCP 47.
    """

    text: str
    confidence: float | None = None
    speech_final: bool = False
    end_of_turn: bool = False
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Eager:
    """The vendor's native turn detection: the turn has probably ended; ``text`` since the last :class:`Final`."""

    text: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The caller went on after an :class:`Eager`."""


SttEvent = Partial | Final | Eager | Resumed


class Stt(Protocol):
    """A recogniser. One object serves one call."""

    def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        """Recognise until the feed ends. Raises :class:`ProviderError`."""
        ...


# Language model -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Native:
    """Something in the own form of one protocol (``openai``, ``anthropic``, ``google``, ``bedrock``), such as a signed
    thought. That protocol gets it back unchanged; every other takes what stands beside it.
    """

    protocol: str
    content: Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. ``arguments`` is its JSON text, unparsed: models do send invalid JSON.

    ``native`` is what the vendor wants back together with this call.
    """

    id: str
    name: str
    arguments: str
    native: Native | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of the conversation. A ``tool`` message answers the call named by ``tool_call_id``.

    ``native`` is the whole message as its author wrote it for one protocol, where that says more than the rest.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    native: Native | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool offered to the model; ``parameters`` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that a model is asked with. An empty ``tools`` means that it must answer in words."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next few characters of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Working:
    """A sign of life: the model is at something that is not for the caller's ears, a thought or a tool's arguments."""


@dataclass(frozen=True, slots=True)
class Usage(Working):
    """What the vendor counts for this answer, in tokens; once, behind all else of it. Vendors that do not say so give
    none. ``prompt`` is all that was read, ``cached`` how much of that came from the vendor's cache; thoughts are in
    ``completion``.
    """

    prompt: int
    completion: int
    cached: int = 0


LlmEvent = TextDelta | ToolCall | Working


class Llm(Protocol):
    """A language model. ``name`` is what logs and events call it."""

    name: str

    def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        """Stream one answer; each :class:`ToolCall` comes whole. Closing the iterator (``aclose``, or cancelling
        the task that iterates) ends the request at the vendor. Raises :class:`ProviderError`.
        """
        ...


# Text to speech -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audio:
    """The next samples: L16 mono at the rate that :meth:`Tts.speak` was given, whole samples only."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Word:
    """One word is spoken: its sound begins ``start`` seconds into the audio of this :meth:`Tts.speak`, and
    ``end`` is the number of characters of the text given so far that have been said once it is over.
    Both never decrease from word to word.
    """

    end: int
    start: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """All audio of the text up to character ``end`` has been yielded."""

    end: int


TtsEvent = Audio | Word | Spoken


class Tts(Protocol):
    """A synthesizer. One whose ``is_continuous`` is true joins the pieces of a reply into one flow of speech."""

    def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        """Say the pieces of one reply as they come (``rate`` in Hz: 8000, 16000, 24000 or 48000).

        A :class:`Word` comes before or with the audio that it describes; every piece ends in a :class:`Spoken`.
        Closing the iterator stops the vendor. Raises :class:`ProviderError`.
        """
        ...


# How a vendor is asked for --------------------------------------------------------------------------------


class Lookup(Protocol):
    """Where a host is at, as addresses that may be connected to; the connection is opened to one of these very
    addresses. ``secure``: TLS will be spoken. Raises ``OSError`` for what cannot be found, or may not be asked.

    A spec has one when an address in it came with the call. ``None`` there: all addresses are the operator's own. A
    vendor whose module says ``TAKES_LOOKUP = True`` obeys it (:class:`providers.pools.HttpPool` and
    :func:`providers.sockets.dial` do); no other is made with it.
    """

    async def __call__(self, host: str, port: int, *, secure: bool) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class SttSpec:
    """``hints`` are words and sentences that the caller is likely to say. ``rate`` is that of the feed, in Hz.

    ``languages`` are further ones that the caller may speak (`altLanguages`). ``options`` are the recognizer's own
    keys of that vendor (``deepgramOptions``, …). ``ends_turns``: the vendor's own turn detection decides; else agentd
    does, and wants finals soon after each SPEECH_STOPPED.
    """

    vendor: str
    language: str = "en-US"
    rate: int = 16000
    model: str = ""
    languages: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    ends_turns: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    lookup: Lookup | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LlmSpec:
    """``options`` are the verb's ``llmOptions`` without messages and tools; ``connect`` its ``connectOptions``."""

    vendor: str
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    connect: Mapping[str, Any] = field(default_factory=dict)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    lookup: Lookup | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TtsSpec:
    """``voice`` is the vendor's own name or id of a voice; ``None`` takes its default. So does an empty ``model``.
    ``rate`` (Hz) is the one that :meth:`Tts.speak` will be asked for: what is dialled ahead is dialled for it.
    """

    vendor: str
    voice: str | None = None
    model: str = ""
    language: str = "en-US"
    rate: int = 8000
    options: Mapping[str, Any] = field(default_factory=dict)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    lookup: Lookup | None = field(default=None, repr=False, compare=False)
