"""The kinds of value in our files, each with the words that an error message uses for it."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticKnownError

from config.secrets import hide


def _not_a_flag(value: Any) -> Any:
    # pydantic takes true for 1, and `noResponseTimeout: true` would mean one second.
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


def _number(words: str, **limits: Any) -> Any:
    return [BeforeValidator(_not_a_flag), Field(description=words, allow_inf_nan=False, **limits)]


Seconds = Annotated[float, *_number("a number of seconds ≥ 0", ge=0)]
Share = Annotated[float, *_number("a number from 0 to 1", ge=0, le=1)]
Percent = Annotated[float, *_number("a number from 0 to 100", ge=0, le=100)]
Temperature = Annotated[float, *_number("a number ≥ 0", ge=0)]
Number = Annotated[float, *_number("a number")]
Count = Annotated[int, BeforeValidator(_not_a_flag), Field(description="a whole number ≥ 0", ge=0)]
Positive = Annotated[int, BeforeValidator(_not_a_flag), Field(description="a whole number ≥ 1", ge=1)]
Port = Annotated[int, BeforeValidator(_not_a_flag), Field(description="a port from 0 to 65535", ge=0, le=65535)]
Name = Annotated[str, Field(description="text that is not empty", min_length=1)]
Url = Annotated[str, Field(description="an http, https, ws or wss URL", pattern=r"^(https?|wss?)://[^\s/?#]+\S*$")]
FreeObject = dict[str, Any]


class Part(BaseModel):
    """An object of the verb: camelCase keys in files, snake_case attributes, unknown keys refused, never changed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # pydantic's own messages would print the value, and with it a key
    )

    in_words: ClassVar[str] = "an object"

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read what came from outside: by the verb's own keys only. Raises pydantic's ``ValidationError``."""
        return cls.model_validate(data, by_alias=True, by_name=False)

    def given(self) -> dict[str, Any]:
        """What the author wrote, under the verb's keys and without the defaults. Holds credentials."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    @classmethod
    def key_names(cls) -> dict[str, str]:
        """The keys that a file may use, each with the attribute behind it."""
        return {str(field.validation_alias or name): name for name, field in cls.model_fields.items()}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():  # what was given, that is: most parts are mostly defaults
            if name in self.model_fields_set:
                yield name, hide(value)


def shorthand(key: str, kind: type = str) -> BeforeValidator:
    """``krisp`` for ``{mode: krisp}``: a bare value stands for an object with just this key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, kind) else value)
