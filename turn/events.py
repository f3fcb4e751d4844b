"""What happened. Past tense, immutable, no timestamps: the caller passes ``now``.

Where an event speaks of something that began a little earlier, it says by how many seconds.
Every event of a reply carries its number; the machine drops those of a reply that is no longer its own.
"""

from dataclasses import dataclass

# The call ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The call is up, audio flows."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The caller hung up, or the media is gone."""


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """The agent wants to end the call once what it is saying has been heard."""

    reason: str


# The caller ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller's voice became active ``spoken`` seconds ago (the detector needs a few frames to be sure)."""

    spoken: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeechConfirmed:
    """The same speech has lasted ``minSpeechDuration``, measured on the audio."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller's voice ended ``quiet`` seconds ago."""

    quiet: float = 0.0


@dataclass(frozen=True, slots=True)
class TranscriptChanged:
    """The words so far since the last :class:`TranscriptFinished`; they may still change."""

    text: str


@dataclass(frozen=True, slots=True)
class TranscriptFinished:
    """Words that stay. An empty text says: speech, but no words."""

    text: str
    confidence: float | None = None


# A reply -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReplyBegan:
    """The model's first word of a reply arrived."""

    reply: int


@dataclass(frozen=True, slots=True)
class ToolsCalled:
    """The model asked for tools; they are running."""

    reply: int


@dataclass(frozen=True, slots=True)
class ToolsReturned:
    """All tools of this round have given their results."""

    reply: int


@dataclass(frozen=True, slots=True)
class SynthesisBegan:
    """The first text of a reply was handed to the TTS."""

    reply: int


@dataclass(frozen=True, slots=True)
class AudioArrived:
    """``seconds`` of a reply's audio came back from the TTS and wait to be played."""

    reply: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ReplyHeard:
    """The caller began to hear a reply."""

    reply: int


@dataclass(frozen=True, slots=True)
class ReplyGenerated:
    """Nothing more will come of a reply. ``audible`` says whether there was anything to play at all."""

    reply: int
    audible: bool


@dataclass(frozen=True, slots=True)
class ReplyPlayed:
    """The caller heard a reply to its end."""

    reply: int


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """A reply cannot be completed; what of it is already waiting to be played will be."""

    reply: int
    code: str = "server failure"


@dataclass(frozen=True, slots=True)
class EagerEndOfTurn:
    """The vendor's eager signal: the caller has probably finished. ``transcript`` are the words since the last
    :class:`TranscriptFinished`; they may still change.
    """

    transcript: str


@dataclass(frozen=True, slots=True)
class TurnResumed:
    """The caller went on after an :class:`EagerEndOfTurn`."""


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """The vendor's own end of turn. ``transcript`` are its last words, as in :class:`TranscriptFinished`. Where our
    detector has not ended the speech yet, it has heard no voice for ``quiet`` seconds; 0: it hears one, be it noise.
    """

    transcript: str
    confidence: float | None = None
    quiet: float = 0.0


@dataclass(frozen=True, slots=True)
class PauseJudged:
    """What the acoustic mode makes of the pause that the caller is in: the turn ends after ``silence`` seconds of it.
    ``is_early``: it is likely enough to have ended that an early reply is worth its price.
    """

    silence: float
    is_early: bool = False


@dataclass(frozen=True, slots=True)
class InterruptionPredicted:
    """The classifier takes what the caller is saying for an interruption (strategy `interruptPrediction`). It comes
    before the words that it was drawn from: a final over the agent's voice is a remark until then.
    """


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The caller pressed a key of the telephone: one of 0-9, *, #, A-D."""

    key: str


# The application -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReplyRequested:
    """The application wants a reply that the caller did not ask for: to ``text``, which may be empty. ``interrupt``:
    now. ``request`` counts from 1.
    """

    request: int
    text: str = ""
    interrupt: bool = False


@dataclass(frozen=True, slots=True)
class PromptChanged:
    """The model would be told something else now than a moment ago: other instructions, more context, other tools."""


CallerEvent = (
    SpeechStarted
    | SpeechConfirmed
    | SpeechStopped
    | TranscriptChanged
    | TranscriptFinished
    | EagerEndOfTurn
    | TurnResumed
    | EndOfTurn
    | PauseJudged
    | InterruptionPredicted
    | KeyPressed
)
ReplyEvent = (
    ReplyBegan
    | ToolsCalled
    | ToolsReturned
    | SynthesisBegan
    | AudioArrived
    | ReplyHeard
    | ReplyGenerated
    | ReplyPlayed
    | ReplyFailed
)
ApplicationEvent = ReplyRequested | PromptChanged
Event = CallStarted | CallEnded | HangupRequested | CallerEvent | ApplicationEvent | ReplyEvent
