"""How the conversation runs: turn detection, barge-in, greeting, and what happens beside the talk."""

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator

from config.parts import Count, FreeObject, Name, Part, Percent, Seconds, Share, Url, shorthand
from config.secrets import Secrets
from config.speech import Synthesizer


class TurnDetection(Part):
    """Who decides that the caller is done: the recogniser, or the acoustic model that ``krisp`` names."""

    in_words = "stt, krisp or an object"

    mode: Literal["stt", "krisp"]
    threshold: Share = 0.5
    model: str | None = None


class EarlyGeneration(Part):
    """Prompting before the turn has ended; with ``speech`` the first words are synthesized early, too."""

    in_words = "true, false or an object"

    enable: bool = True
    speech: bool = False


class BargeIn(Part):
    """Whether and how the caller can interrupt. ``vendor`` and ``threshold`` belong to ``interruptPrediction``."""

    enable: bool = True
    strategy: Literal["vad", "interruptPrediction"] = "vad"
    vendor: str = "krisp"
    threshold: Share = 0.5
    min_speech_duration: Seconds = 0.5
    sticky: bool = False


class Greeting(Part):
    """``text`` is spoken word for word; without it the model greets; with ``enable: false`` the caller begins.
    ``interruptible: false`` lets nobody barge in on it (a legal notice).
    """

    in_words = "true, false, text or an object"

    enable: bool = True
    text: str | None = None
    interruptible: bool = True

    @staticmethod
    def read(value: Any) -> Any:
        """The short forms."""
        match value:
            case bool():
                return {"enable": value}
            case str():
                return {"text": value}
            case _:
                return value


class Hook(Part):
    """Where the application hears from us: a path on its control socket, or an absolute URL."""

    in_words = "a path, a URL or an object"

    url: Name
    method: Literal["GET", "POST"] = "POST"
    username: str | None = None
    password: SecretStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _basic_auth(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("basicAuth"), dict):
            return {**{k: v for k, v in data.items() if k != "basicAuth"}, **data["basicAuth"]}
        return data


class McpServer(Part):
    """A server whose tools the model may call."""

    url: Url
    auth: Secrets = Field(default_factory=Secrets)
    roots: list[FreeObject] = Field(default_factory=list)


class NoiseIsolation(Part):
    """Which noise is taken out of the caller's audio (``read``) or of ours (``write``), and how much of it."""

    in_words = "krisp, rnnoise, kugelaudio or an object"

    mode: Literal["krisp", "rnnoise", "kugelaudio"]
    level: Percent = 100
    direction: Literal["read", "write"] = "read"
    model: str | None = None
    label: str = ""
    auth: Secrets = Field(default_factory=Secrets)


class Hangup(Part):
    """The built-in tool ``hangup``; ``reason`` is used when the model gives none."""

    in_words = "true, false or an object"

    reason: str | None = None


class Brief(Part):
    """What the human is told before the caller is put through."""

    in_words = "auto, none or an object"

    mode: Literal["auto", "none"] = "auto"
    template: str | None = None


class Confirm(Part):
    """The human accepts the call by this digit."""

    prompt: str
    digit: str


class Handoff(Part):
    """The built-in tool ``transfer_to_human``. The targets are those listed here, never the model's."""

    mode: Literal["blind", "warm"]
    target: Annotated[list[FreeObject], Field(min_length=1, description="a list of at least one target")]
    blind_method: Literal["refer", "dial"] = "refer"
    caller_present: bool = False
    caller_id: str | None = None
    on_hold_hook: Annotated[Hook, shorthand("url")] | None = None
    timeout: Seconds = 30
    confirm: Confirm | None = None
    amd: FreeObject | None = None
    disposition: FreeObject = Field(default_factory=dict)
    action_hook: Annotated[Hook, shorthand("url")] | None = None
    event_hook: Annotated[Hook, shorthand("url")] | None = None
    brief: Annotated[Brief, shorthand("mode")] = Brief()
    brief_synthesizer: Synthesizer | None = None
    tool_name: Name = "transfer_to_human"
    tool_description: str | None = None


class Keypad(Part):
    """The caller's keys as words of theirs: collected until ``terminator``, ``max_digits`` or a ``pause`` (seconds)."""

    in_words = "true, false or an object"

    enable: bool = True
    terminator: Annotated[str, Field(description="a key, or nothing", pattern=r"^[0-9*#A-D]?$")] = "#"
    pause: Seconds = 2.0
    max_digits: Count = 0  # 0: as many as come


class ToolFiller(Part):
    """What the caller hears while a tool runs long. ``phrases`` replace the built-in ones of type `backchannel`."""

    in_words = "false or an object"

    type: Literal["audio", "backchannel"]
    start_delay_secs: Seconds = 2
    url: Url | None = None
    style: str | None = None
    escalation_secs: Seconds = 10
    phrases: list[Name] = Field(default_factory=list, description="a list of sentences")

    @model_validator(mode="after")
    def _audio_has_an_address(self) -> "ToolFiller":
        if self.type == "audio" and not self.url:
            raise ValueError("expected a url for type audio")
        return self


class LanguageConfig(Part):
    """What changes when the caller speaks this language."""

    tts: Synthesizer = Synthesizer()
