"""Speech in and out: the verb's ``stt`` (jambonz's recognizer) and ``tts`` (its synthesizer)."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticKnownError

from config.parts import FreeObject, Number, Part, Share, shorthand
from config.secrets import Secrets

_UNKNOWN = object()


def _known(value: Any) -> Any:
    if value is _UNKNOWN:
        raise PydanticKnownError("extra_forbidden")
    return value


class Hint(Part):
    """A word or sentence that the caller is likely to say."""

    in_words = "text or an object"

    phrase: str
    boost: Number | None = None


class Recognizer(Part):
    """Speech to text. ``<vendor>Options`` (``deepgramOptions``, …) are the vendor's own and reach it unread."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[FreeObject, BeforeValidator(_known)]] = Field(init=False)

    vendor: str = ""
    label: str = ""
    language: str = ""
    model: str = ""
    auth: Secrets = Field(default_factory=Secrets)
    options: FreeObject = Field(default_factory=dict)
    fallback_vendor: str = ""
    fallback_label: str = ""
    fallback_language: str = ""
    hints: list[Annotated[Hint, shorthand("phrase")]] = Field(default_factory=list)
    hints_boost: Number | None = None
    alt_languages: list[str] = Field(default_factory=list)
    min_confidence: Share | None = None
    # Carried for the vendors that know them; jambonz's recognizer has them at this level.
    vad: FreeObject | None = None
    interim: bool | None = None
    punctuation: bool | None = None
    profanity_filter: bool | None = None
    profanity_option: str | None = None
    enhanced_model: bool | None = None
    single_utterance: bool | None = None
    words: bool | None = None
    diarization: bool | None = None
    diarization_min_speakers: Number | None = None
    diarization_max_speakers: Number | None = None
    interaction_type: str | None = None
    naics_code: Number | None = None
    identify_channels: bool | None = None
    separate_recognition_per_channel: bool | None = None
    dual_channel: bool | None = None
    vocabulary_name: str | None = None
    vocabulary_filter_name: str | None = None
    filter_method: str | None = None
    output_format: str | None = None
    request_snr: bool | None = None
    initial_speech_timeout_ms: Number | None = None
    azure_service_endpoint: str | None = None
    azure_stt_endpoint_id: str | None = None
    autogenerate_prompt: bool | None = None
    asr_dtmf_termination_digit: str | None = None
    asr_timeout: Number | None = None
    fast_recognition_timeout: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_options_are_free(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {*cls.key_names(), *cls.model_fields}
        return {k: v if k in known or str(k).endswith("Options") else _UNKNOWN for k, v in data.items()}

    def phrases(self) -> list[str]:
        """The hints as plain text, without their boosts."""
        return [hint.phrase for hint in self.hints]

    def vendor_options(self) -> dict[str, Any]:
        """Every ``<vendor>Options`` object laid over ``options``; a file names those of its own vendor."""
        return {**self.options, **{k: v for free in (self.model_extra or {}).values() for k, v in free.items()}}

    def fallback(self) -> "Recognizer | None":
        """What to use when the vendor cannot be reached. Options and credentials are the first vendor's, not its."""
        if not self.fallback_vendor:
            return None
        return Recognizer(
            vendor=self.fallback_vendor,
            label=self.fallback_label,
            language=self.fallback_language or self.language,
            hints=self.hints,
        )


class Synthesizer(Part):
    """Text to speech."""

    vendor: str = ""
    label: str = ""
    language: str = ""
    voice: str | None = None
    model: str = ""
    engine: str | None = None
    gender: str | None = None
    auth: Secrets = Field(default_factory=Secrets)
    options: FreeObject = Field(default_factory=dict)
    fallback_vendor: str = ""
    fallback_label: str = ""
    fallback_language: str = ""
    fallback_voice: str | None = None

    def fallback(self) -> "Synthesizer | None":
        """What to use when the vendor cannot be reached. Options and credentials are the first vendor's, not its."""
        if not self.fallback_vendor:
            return None
        return Synthesizer(
            vendor=self.fallback_vendor,
            label=self.fallback_label,
            language=self.fallback_language or self.language,
            voice=self.fallback_voice,
        )
