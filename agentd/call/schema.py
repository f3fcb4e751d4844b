"""Arguments held against a tool's JSON Schema (draft 2020-12), with a bound on what that may cost.

Schemas come from applications, MCP servers and call metadata, arguments from a model: neither is trusted. No ``$ref``
is ever fetched. Every keyword costs what it may have to look at, and the sum is bounded, so that neither nested
references nor long lists can hold up the calls beside this one. ``format`` is a remark, as the draft has it.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

log = logging.getLogger("agentd.call.schema")

SIZE = 65_536  # characters of a call's arguments, as JSON
SCHEMA_SIZE = 32_768  # of a schema: one so long takes 0.2 s to be compiled
DEPTH = 64  # objects and lists inside each other
BUDGET = 20_000  # of one validation: it ends after some 60 ms at the latest
STEP = 4  # of it, for each keyword that is applied

# A `pattern` is tried only where it cannot be slow: on short text, and with few repetitions, none inside another. What
# is left out is the tool's own to refuse. Counted by character, also where it stands for itself: too strict is safe.
PATTERN_TEXT = 100
_REPEATS = re.compile(r"[*+]|\{\d*,")
_CHOICES = re.compile(r"[?|]")
_NESTED = re.compile(r"\)[*+?{]")

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class TooMuch(Exception):
    """The validation costs more than its budget."""


class Schema:
    """One tool's. Arguments of a schema that cannot be used are all taken: then the tool itself must refuse them.

    To make one takes 0.3 ms a property the first time, so it is done on a worker thread.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        self._name = name
        self._validator: Any = None
        try:
            self._validator = _validator(_json(parameters))
        except ValueError as exc:
            self._give_up(str(exc))

    def violation(self, arguments: Mapping[str, Any]) -> str:
        """What is wrong, in words for the model; empty if nothing is."""
        if self._validator is None:
            return ""
        _Spent.units = 0
        try:
            error = next(self._validator.iter_errors(arguments), None)
        except TooMuch:
            return "expected arguments that are quickly checked, got too many values"
        except (Unresolvable, RecursionError) as exc:
            self._give_up(f"expected references that can be followed, got {type(exc).__name__}")
            return ""
        except Exception as exc:  # a schema can be valid and still nonsense
            self._give_up(f"expected a schema that can be applied, got {type(exc).__name__}")
            return ""
        return "" if error is None else _in_words(error)

    def _give_up(self, why: str) -> None:
        self._validator = None
        log.warning("schema not used", extra={"tool": self._name, "why": why})


def depth(value: Any) -> int:
    """How many objects and lists are inside each other."""
    deepest, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        if deepest > DEPTH:
            break
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return deepest


def short(value: Any, limit: int = 60) -> str:
    """A value for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _json(parameters: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(parameters)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"expected a schema of plain JSON, got {type(exc).__name__}") from None
    if len(text) > SCHEMA_SIZE or depth(parameters) > DEPTH:
        raise ValueError(f"expected a schema of at most {SCHEMA_SIZE} characters and {DEPTH} levels, got a larger one")
    return text


@lru_cache(maxsize=256)
def _validator(text: str) -> Any:
    """Compiled once for all calls that offer the tool. Raises ``ValueError``."""
    schema = json.loads(text, object_hook=_of_this_draft)
    try:
        Draft202012Validator.check_schema(schema, format_checker=None)
    except SchemaError as exc:
        where = ".".join(map(str, exc.absolute_path)) or "its root"
        raise ValueError(f"expected a JSON Schema, got a mistake at {where}") from None
    except RecursionError:
        raise ValueError("expected a JSON Schema, got one that is nested too deep") from None
    return _Bounded(schema, registry=Registry())


def _of_this_draft(schema: dict[str, Any]) -> dict[str, Any]:
    schema.pop("$schema", None)  # jsonschema would go on with that draft's own keywords, which have no bound
    return schema


# Keywords --------------------------------------------------------------------------------------------------


class _Spent:
    """What the validation that is running has cost. There is one at a time: it never waits."""

    units = 0


def _counted(keyword: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _Spent.units += STEP + _length(value) + _length(instance)
        if _Spent.units > BUDGET:
            raise TooMuch
        yield from keyword(validator, value, instance, schema) or ()

    return check


def _length(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str) or not _is_quick(pattern, instance):
        return
    if not re.search(pattern, instance):
        yield ValidationError("pattern")


def _is_quick(pattern: str, text: str) -> bool:
    return (
        max(len(pattern), len(text)) <= PATTERN_TEXT
        and len(_REPEATS.findall(pattern)) <= 2
        and len(_CHOICES.findall(pattern)) <= 2
        and not _NESTED.search(pattern)
    )


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(instance, list):
        texts = [json.dumps(item, sort_keys=True) for item in instance]  # jsonschema compares each with each
        if len(set(texts)) < len(texts):
            yield ValidationError("uniqueItems")


def _additional(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if "patternProperties" not in schema:  # else it would search with those patterns
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, wanted, instance, schema)


def _unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """Too costly to be judged here, and rare in tools."""


_OURS: Mapping[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _unchecked,
    "additionalProperties": _additional,
    "unevaluatedProperties": _unchecked,
    "unevaluatedItems": _unchecked,
    "uniqueItems": _unique_items,
}
_Bounded: Any = validators.extend(
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OURS}.items()},
)


# Words -----------------------------------------------------------------------------------------------------


def _in_words(error: ValidationError) -> str:
    """Where, what was expected, what was found."""
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)[:200]
    name, wanted, found = str(error.validator), error.validator_value, error.instance
    match name:
        case "required":
            missing = next((key for key in wanted if key not in found), "")
            return f"arguments{where}.{missing}: expected a value, got none"
        case "type":
            expected = " or ".join([wanted] if isinstance(wanted, str) else wanted)
        case "enum":
            expected = f"one of {short(wanted, 200)}"
        case "additionalProperties" if isinstance(found, dict) and wanted is False:
            known = error.schema.get("properties", {})
            return f"arguments{where}: expected no other keys than {short([*known], 200)}, got {short([*found])}"
        case _:
            expected = f"{name} {short(wanted, 200)}"
    return f"arguments{where}: expected {expected}, got {short(found)}"
