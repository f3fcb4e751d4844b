"""The agent verb, as pydantic models: what the author of an agent asked for.

Keys are the guide's (camelCase); `config.files` reads them from files, `config.metadata` from a call's metadata.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from config.conversation import (
    BargeIn,
    EarlyGeneration,
    Greeting,
    Handoff,
    Hangup,
    Hook,
    Keypad,
    LanguageConfig,
    McpServer,
    NoiseIsolation,
    ToolFiller,
    TurnDetection,
)
from config.deadlines import Deadlines
from config.llm import Llm
from config.merge import merge_spec
from config.parts import Count, FreeObject, Name, Part, Seconds, shorthand
from config.speech import Recognizer, Synthesizer

VERBS = ("agent", "pipeline")  # the second is the verb's older name

Webhook = Annotated[Hook, shorthand("url")]
Summaries = Annotated[Count, AfterValidator(lambda turns: max(turns, 8) if turns else 0)]  # the guide: 1–7 become 8


def _off(value: Any) -> Any:
    return None if value is False else value


def _flag(value: Any) -> Any:
    return {} if value is True else _off(value)


class Agent(Part):
    """One agent. Everything has a default except the vendors, which the server's ``defaults`` may name."""

    id: str | None = None
    description: str = ""
    stt: Recognizer = Recognizer()
    llm: Llm = Llm()
    tts: Synthesizer = Synthesizer()
    turn_detection: Annotated[TurnDetection, shorthand("mode")] = TurnDetection(mode="stt")
    early_generation: Annotated[EarlyGeneration, shorthand("enable", bool)] = EarlyGeneration(enable=False)
    barge_in: BargeIn = BargeIn()
    no_response_timeout: Seconds = 12  # 0: never
    no_response_max_prompts: Count = 0  # 0: no limit
    greeting: Annotated[Greeting, BeforeValidator(Greeting.read)] = Greeting()
    tool_hook: Webhook | None = None
    event_hook: Webhook | None = None
    action_hook: Webhook | None = None
    mcp_servers: list[McpServer] = Field(default_factory=list)
    noise_isolation: Annotated[NoiseIsolation | None, BeforeValidator(_off), shorthand("mode")] = None
    speak: bool = True
    speech_cleanup: bool = True
    hangup: Annotated[Hangup | None, BeforeValidator(_flag)] = None
    handoff: Annotated[Handoff | None, BeforeValidator(_off)] = None
    tool_filler: Annotated[ToolFiller | None, BeforeValidator(_off)] = None
    auto_lock_language: Literal[False, True, "always"] = False
    language_config: dict[str, LanguageConfig] = Field(default_factory=dict)
    summarize_turns: Summaries = 0
    vendor_params: FreeObject = Field(default_factory=dict)
    # agentd's own
    vocabulary: list[str] = Field(default_factory=list, description="a list of sentences that the caller may say")
    tools: list[str] = Field(default_factory=list, description="a list of names of pre-built tools")
    app: Name | None = None  # of agentd.yaml's apps: where hooks go that are paths
    dtmf: Annotated[Keypad, shorthand("enable", bool)] = Keypad()
    first_words: Count = (
        1  # a voice that joins pieces is given so many words before the sentence is whole (0: a clause)
    )
    deadlines: Deadlines = Deadlines()
    record: bool = False  # both sides of each call are kept, with its events; only the agent's file may ask for it

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, data: Any) -> Any:
        return _one_filler(unwrap(data))

    def tts_for(self, language: str) -> Synthesizer:
        """The voice for a detected language: its own entry, else one of the same primary language, else ``tts``."""
        entries = {code.lower(): entry for code, entry in self.language_config.items()}
        wanted = language.lower()
        primary = wanted.partition("-")[0]
        entry = entries.get(wanted) or next((e for c, e in entries.items() if c.partition("-")[0] == primary), None)
        if entry is None:
            return self.tts
        return Synthesizer.parse(merge_spec(self.tts.given(), entry.tts.given()))

    def params(self) -> dict[str, Any]:
        """``vendorParams`` from the three places where authors write it; the innermost wins."""
        return {**self.vendor_params, **self.llm.params()}


def _one_filler(data: Any) -> Any:
    """JAICP's ``fillersPhraseConfig`` is a `toolFiller` of one phrase, in milliseconds."""
    if not isinstance(data, Mapping) or "toolFiller" in data:
        return data
    match data.get("fillersPhraseConfig"):
        case {"fillerPhrase": str(phrase), "activationDelayMs": int() | float() as delay, **more} if not more:
            filler = {"type": "backchannel", "phrases": [phrase], "startDelaySecs": delay / 1000}
            return {key: value for key, value in data.items() if key != "fillersPhraseConfig"} | {"toolFiller": filler}
    return data


def unwrap(data: Any) -> Any:
    """``{"verb": "agent", …}`` and ``{"agent": {…}}`` are the same thing; so are both under the name ``pipeline``."""
    if not isinstance(data, Mapping):
        return data
    if len(data) == 1 and isinstance(inner := next(iter(data.values())), Mapping) and next(iter(data)) in VERBS:
        return dict(inner)
    if "verb" in data:
        if data["verb"] not in VERBS:
            raise PydanticCustomError("verb", "expected the verb agent (or its older name pipeline)")
        return {key: value for key, value in data.items() if key != "verb"}
    return data
