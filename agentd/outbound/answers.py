"""What a webhook's answer means. Pure; the words of :class:`HookFailed` are for a model to read."""

import json
import re
from typing import Any

from agentd.outbound.channel import HookFailed, Verbs
from agentd.outbound.guard import Answer
from config import commands

DONE = "ok"  # what a tool has returned that returned nothing

_MEDIA_TYPE = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,40}", re.ASCII)
_CHARSET = re.compile(r"charset=\"?([\w.:-]{1,40})", re.ASCII)


def check(answer: Answer) -> None:
    """Raises :class:`HookFailed` for all that is no success. A redirect is none: nobody follows it."""
    if not 200 <= answer.status < 300:
        raise HookFailed(f"expected status 200, 202 or 204 from the application, got {answer.status}")


def result(answer: Answer) -> Any:
    """A tool's result: the JSON value, or the text. What is called HTML and is JSON, or begins with no tag, is taken
    for what it is: frameworks call it so when their user has not said.
    """
    if _is_empty(answer):
        return DONE
    kind = _media_type(answer)
    if kind != "text/plain":
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            pass
    text = kind.startswith("text/") or not kind
    if text and not _is_markup(answer):
        return _text(answer)
    raise HookFailed(f"expected JSON or text from the application, got {_found(answer)}")


def verbs(answer: Answer) -> Verbs:
    """What the application wants next: an array of verbs, or one verb. Other JSON, a plain text and nothing at all want
    nothing. Raises :class:`HookFailed` for what may have been meant as verbs and cannot be read.
    """
    if _is_empty(answer):
        return []
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        if _media_type(answer) == "text/plain":
            return []
        raise HookFailed(f"expected an array of verbs from the application, got {_found(answer)}") from None
    if isinstance(value, dict):
        return [value] if isinstance(value.get("verb"), str) else []
    if not isinstance(value, list):
        return []
    try:
        if not commands.is_deep(value):
            return commands.verbs(value)
    except ValueError:
        pass
    raise HookFailed("expected an array of verbs from the application, got an array of something else")


def _is_empty(answer: Answer) -> bool:
    return not answer.body.strip()


def _media_type(answer: Answer) -> str:
    """In lower case, without parameters; empty when the application did not say, or said nonsense."""
    found = _MEDIA_TYPE.match(answer.headers.get("content-type", "").strip().lower())
    return found.group() if found else ""


def _is_markup(answer: Answer) -> bool:
    return _media_type(answer) != "text/plain" and answer.body.lstrip().startswith(b"<")


def _text(answer: Answer) -> str:
    named = _CHARSET.search(answer.headers.get("content-type", "").lower())
    try:
        return answer.body.decode(named.group(1) if named else "utf-8", "replace")
    except (LookupError, UnicodeError):  # no such charset, or one for something else than text
        return answer.body.decode("utf-8", "replace")


def _found(answer: Answer) -> str:
    kind = _media_type(answer)
    if "json" in kind:
        return "JSON that cannot be read"
    return "HTML" if kind == "text/html" or _is_markup(answer) else kind or "something else"
