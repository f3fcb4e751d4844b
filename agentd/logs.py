"""Logs as events with fields: one line each, ``level logger message key=value …``."""

import logging
import sys

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class FieldsFormatter(logging.Formatter):
    """Puts the fields that were given as ``extra`` behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        return line if not fields else f"{line} {' '.join(f'{key}={_shown(value)}' for key, value in fields.items())}"


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or not text else text


def set_up(level: str = "info") -> None:
    """Log to stderr. What libraries say below a warning stays out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("agentd").setLevel(level.upper())
