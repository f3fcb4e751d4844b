"""The language model: the verb's ``llm``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from config.parts import Count, FreeObject, Name, Part, Positive, Seconds, Temperature
from config.secrets import Secrets

_WRAPPER_KEYS = ("type", "strict")


class Tool(Part):
    """A function that the model may call. Written flat, or wrapped as OpenAI's chat API has it."""

    name: Annotated[str, Field(description="a name of letters, digits, - and _", pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
    description: str = ""
    parameters: FreeObject = Field(default_factory=lambda: {"type": "object", "properties": {}})

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("function"), Mapping):
            data = {**{k: v for k, v in data.items() if k != "function"}, **data["function"]}
        if isinstance(data, Mapping):
            return {k: v for k, v in data.items() if k not in _WRAPPER_KEYS}
        return data


class Message(Part):
    """One entry of the conversation that the agent starts with, under the keys of OpenAI's chat API. Or in the vendor's
    own form, with blocks as ``content`` or ``parts``: such a message reaches that vendor as it is.
    """

    model_config = ConfigDict(extra="allow", alias_generator=None)

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[FreeObject] | None = None
    parts: list[FreeObject] = Field(default_factory=list)
    tool_calls: list[FreeObject] = Field(default_factory=list)
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _join_text_parts(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if (role := {"developer": "system", "model": "assistant"}.get(str(data.get("role")))) is not None:
            data = {**data, "role": role}
        parts = data.get("content")
        if isinstance(parts, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in parts):
            return {**data, "content": "".join(p["text"] for p in parts)}
        return data

    def is_native(self) -> bool:
        """Does it say more than text and calls can?"""
        return isinstance(self.content, list) or bool(self.parts)

    def text(self) -> str:
        """Its words, for a vendor that does not know its form."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text") or "") for part in [*(self.content or ()), *self.parts])


class ConnectOptions(Part):
    """How the vendor is reached. ``headers`` go out with every request: some servers take their key there. ``url`` is
    another name of ``baseURL``.
    """

    base_url: Annotated[str | None, Field(validation_alias="baseURL", serialization_alias="baseURL")] = None
    headers: Secrets = Field(default_factory=Secrets)
    endpoint: str | None = None
    timeout: Seconds | None = None
    max_retries: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "url" in data and "baseURL" not in data:
            return {"baseURL" if key == "url" else key: value for key, value in data.items()}
        return data


class LlmOptions(Part):
    """What the model is told. System messages are moved into ``system_prompt``, so one override replaces them all."""

    system_prompt: str = ""
    messages: list[Message] = Field(default_factory=list)
    initial_messages: list[Message] = Field(default_factory=list)
    tools: list[Tool] = Field(default_factory=list)
    max_tokens: Positive | None = None
    temperature: Temperature | None = None
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = None
    vendor_params: FreeObject = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_system_prompt(self) -> "LlmOptions":
        every = [*self.messages, *self.initial_messages]  # the second is the first one's older name
        system = [text for message in every if message.role == "system" and (text := message.text())]
        if every:
            # Set past the frozen model: this is still its construction.
            prompt = "\n\n".join([*([self.system_prompt] if self.system_prompt else []), *system])
            self.__dict__["messages"] = [message for message in every if message.role != "system"]
            self.__dict__["initial_messages"] = []
            self.model_fields_set.add("messages")
            self.model_fields_set.discard("initial_messages")
            if system:
                self.__dict__["system_prompt"] = prompt
                self.model_fields_set.add("system_prompt")
        return self


class LlmFallback(Part):
    """A model to turn to when the one before it fails. It is told the same (``llmOptions``), in its own way."""

    vendor: Name
    model: str | None = None
    label: str = ""
    auth: Secrets = Field(default_factory=Secrets)
    connect_options: ConnectOptions = ConnectOptions()
    vendor_params: FreeObject = Field(default_factory=dict)

    def model_of(self, first: "Llm") -> "Llm":
        """The whole of it, with what the ``first`` model is told."""
        told = first.llm_options.model_copy(update={"vendor_params": {}})
        return Llm(
            vendor=self.vendor,
            model=self.model,
            label=self.label,
            auth=self.auth,
            connect_options=self.connect_options,
            llm_options=told,
            vendor_params=self.vendor_params,
        )


class Llm(Part):
    """The model, how to reach it and what it is told. An empty ``vendor`` takes the server's default."""

    vendor: str = ""
    model: str | None = None
    label: str = ""
    auth: Secrets = Field(default_factory=Secrets)
    connect_options: ConnectOptions = ConnectOptions()
    llm_options: LlmOptions = LlmOptions()
    vendor_params: FreeObject = Field(default_factory=dict)
    fallback: list[LlmFallback] = Field(default_factory=list)

    def params(self) -> dict[str, Any]:
        """``vendorParams`` from both places; the inner one wins."""
        return {**self.vendor_params, **self.llm_options.vendor_params}
