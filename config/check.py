"""Reading data into a model, with every fault in plain words instead of pydantic's."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.parts import Part
from config.problems import Path, nearest
from config.secrets import Secrets, hide, is_secret_name

M = TypeVar("M", bound=Part)

_WORDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    Secrets: "an object",
    list: "a list",
}
_MANY = 12  # more keys than this are looked up in the guide, not read in a message
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at ``path``: what was expected there and what was found."""

    path: Path
    expected: str
    got: str = ""
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.expected}, got {self.got}" if self.got else self.expected
        return f"{text}; {self.hint}" if self.hint else text


def check(model: type[M], data: Any) -> M | list[Fault]:
    """The model, or everything that is wrong with the data."""
    try:
        return model.parse(data)
    except ValidationError as exc:
        return [_fault(model, error) for error in exc.errors(include_url=False)]


def _fault(model: type[Part], error: ErrorDetails) -> Fault:
    path: Path = error["loc"]
    if path and path[-1] == "[key]":  # pydantic's mark for an object's key that is no good
        path = path[:-1]
        return Fault(path, f"expected {_words(_element(_annotation(model, path[:-1]), 0))}", show(path[-1]))
    match error["type"]:
        case "extra_forbidden":
            return Fault(path, "unknown key", hint=_key_hint(model, path))
        case "missing":
            return Fault(path, f"expected {_words_at(model, path)}, but it is missing")
        case "verb":
            return Fault((*path, "verb"), error["msg"], show(error["input"].get("verb")))
        case "value_error":
            return Fault(path, str(error["msg"]).removeprefix("Value error, "))
        case _:
            got = show(error["input"], secret=any(is_secret_name(step) for step in path))
            wanted = _words_at(model, path)
            bare = wanted == "text" and isinstance(error["input"], bool | int | float)
            return Fault(path, f"expected {wanted}", got, "put it in quotes" if bare else "")


def show(value: Any, *, secret: bool = False) -> str:
    """A value for a message: short, and nothing of it where it may be a credential."""
    match value:
        case None:
            return "nothing"
        case Mapping():
            return "an object" if value else "an empty object"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case _ if secret:
            return "text" if isinstance(value, str) else "a number"
        case bool():
            return "true" if value else "false"
        case str():
            text = str(hide(value))
            return repr(text if len(text) <= 40 else f"{text[:39]}…")
        case _:
            return repr(value)


def _key_hint(model: type[Part], path: Path) -> str:
    key = str(path[-1])
    owner = next(_parts(_annotation(model, path[:-1])), None)
    if owner is None:
        return ""
    keys = owner.key_names()
    if match := nearest(key, keys):
        return f"did you mean {match}?"
    for name, attribute in keys.items():  # the right key one level too high is the most frequent slip
        inner = next(_parts(owner.model_fields[attribute].annotation), None)
        if inner and key in {*inner.key_names()}:
            return f"did you mean {name}.{key}?"
    return f"known here: {', '.join(sorted(keys))}" if len(keys) <= _MANY else ""


def _words_at(model: type[Part], path: Path) -> str:
    return _words(_annotation(model, path)) or "something else"


def _annotation(model: type[Part], path: Path) -> Any:
    """The declared type at a path, or ``None`` where the models say nothing (a vendor's free object)."""
    at: Any = model
    for step in path:
        part = next(_parts(at), None)
        if part is not None:
            attribute = part.key_names().get(str(step))
            field = part.model_fields[attribute] if attribute else None
            at = Annotated[field.annotation, field] if field else (dict if str(step).endswith("Options") else None)
        else:
            at = _element(at)
    return at


def _element(annotation: Any, argument: int = -1) -> Any:
    """The type of what a list or an object of free keys holds; with argument 0, that of the keys."""
    for inner in _options(annotation):
        if get_origin(inner) in (list, dict):
            return get_args(inner)[argument]
    return None


def _parts(annotation: Any) -> Iterator[type[Part]]:
    for inner in _options(annotation):
        if isinstance(inner, type) and issubclass(inner, Part):
            yield inner


def _options(annotation: Any) -> Iterator[Any]:
    """What an annotation allows, without its wrappings."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in _UNIONS:
        for inner in get_args(annotation):
            yield from _options(inner)
    else:
        yield annotation


def _words(annotation: Any) -> str:
    """How an annotation is called in a message; ``None`` as an option goes without saying."""
    origin = get_origin(annotation)
    if origin is Annotated:
        described = [note.description for note in get_args(annotation)[1:] if isinstance(note, FieldInfo)]
        return next((text for text in described if text), "") or _words(get_args(annotation)[0])
    if origin in _UNIONS:
        return " or ".join(
            filter(None, (_words(inner) for inner in get_args(annotation) if inner is not types.NoneType))
        )
    if origin is Literal:
        names = [show(value).strip("'") for value in get_args(annotation)]
        return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation.in_words
    return _WORDS.get(origin or annotation, "")
