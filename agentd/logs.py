"""Logs as events with fields: one line each, ``level logger message key=value …``, or one JSON object a line."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

Format = Literal["text", "json"]

CALL_SID: ContextVar[str] = ContextVar("call_sid", default="")
"""Of the call that a task belongs to; the tasks that it starts inherit it."""

LONGEST = 32_768  # characters of a traceback; the end says what it was
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class FieldsFormatter(logging.Formatter):
    """Puts the fields that were given as ``extra`` behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        line, fields = super().format(record), _fields(record)
        return line if not fields else f"{line} {' '.join(f'{key}={_shown(value)}' for key, value in fields.items())}"


class JsonFormatter(logging.Formatter):
    """One object: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, an ``exception`` where there is one,
    and the fields of ``extra``, which write none of those over.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        known: dict[str, Any] = {
            "time": time.removesuffix("+00:00") + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            known["exception"] = self.formatException(record.exc_info)[-LONGEST:]
        if record.stack_info:
            known["stack"] = record.stack_info
        call = {"call_sid": sid} if (sid := CALL_SID.get()) else {}
        return _json(known | {key: value for key, value in (call | _fields(record)).items() if key not in known})


def set_up(level: str = "info", form: Format = "text") -> None:
    """Log to stderr. What libraries say below a warning stays out. May be called again."""
    handler = logging.StreamHandler(sys.stderr)
    text = FieldsFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("agentd").setLevel(level.upper())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or not text else text


def _json(fields: dict[str, Any]) -> str:
    """ASCII: what others send us may hold half a character, and line ends of Unicode."""
    try:
        return json.dumps(fields, default=str, allow_nan=False)
    except (ValueError, TypeError, RecursionError):  # a NaN, a key that is no text, a ring
        return json.dumps({str(key): value if isinstance(value, str) else repr(value) for key, value in fields.items()})
